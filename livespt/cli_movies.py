"""The commands that turn movies into files: `livespt localize`, `livespt calibrate`.

They stand in `livespt.cli` beside the others, which also turns their errors into one line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from cyclopts import Parameter
from rich.console import Console

Json = Annotated[bool, Parameter(name="--json", negative="", help="Print one JSON object.")]


def tell(answer: dict[str, Any], lines: list[str], json: bool) -> int:
    """Print the answer for machines or for people; return the exit code of what went well."""
    if json:
        print(msgspec.json.encode(answer).decode())
        return 0
    console = Console()
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return 0


def localize(
    movie: Path,
    *,
    out: Path,
    format: Literal["parquet", "csv", "thunderstorm", "picasso"] | None = None,
    config: Path | None = None,
    pixel_um: float | None = None,
    sigma_um: float | None = None,
    wavelength_um: float | None = None,
    numerical_aperture: float | None = None,
    camera: Literal["ideal", "scmos", "emccd"] | None = None,
    calibration: Path | None = None,
    gain: float | None = None,
    offset: float | None = None,
    var_e2: float | None = None,
    readout: float | None = None,
    excess: float | None = None,
    false_per_frame: float | None = None,
    roi_px: int | None = None,
    workers: int | None = None,
    frame_ms: float | None = None,
    json: Json = False,
) -> int:
    """Find and fit the molecules of a movie, and write a table of them.

    Parameters
    ----------
    movie
        TIFF, OME-TIFF, NDTiff folder, .npy or .npz stack.
    out
        The table to write: .parquet, .csv, or .hdf5 for Picasso.
    format
        What the name of the table says, if left out.
    config
        Camera, optics and localization; the options below override it.
    pixel_um
        Pixel size in the sample.
    sigma_um
        Width (s.d.) of an in-focus spot.
    wavelength_um
        Emission wavelength; with the next one instead of the width.
    numerical_aperture
        Of the objective.
    camera
        The pixel model.
    calibration
        A file of livespt calibrate; with it no number of the camera is needed.
    gain
        Counts per electron (ADU/e-), not electrons per count.
    offset
        Counts in the dark.
    var_e2
        sCMOS: read variance, electrons squared.
    readout
        EMCCD: readout noise, counts.
    excess
        EMCCD: excess noise factor.
    false_per_frame
        False spots per frame that you accept.
    roi_px
        Side of the fitted region.
    workers
        Threads; all cores if left out.
    frame_ms
        Time between frames, for files that do not tell it.
    """
    from livespt.bulk import all_cores, localize_movie
    from livespt.presets import localize_config
    from livespt.progress import FrameBar

    given = {
        "optics": {
            "pixel_um": pixel_um,
            "sigma_um": sigma_um,
            "wavelength_um": wavelength_um,
            "numerical_aperture": numerical_aperture,
        },
        "camera": {
            "model": camera,
            "calibration": calibration and str(calibration),
            "gain_adu_per_e": gain,
            "offset_adu": offset,
            "var_e2": var_e2,
            "readout_adu": readout,
            "excess": excess,
        },
        "localize": {
            "false_per_frame": false_per_frame,
            "roi_px": roi_px,
            "workers": workers or all_cores(),
        },
    }
    built = localize_config(movie, config, given, frame_ms)
    with FrameBar() as bar:
        answer = localize_movie(built, out, format or "", origin=str(config or movie), progress=bar)
    return tell(answer, _localized_lines(answer), json)


def _localized_lines(answer: dict[str, Any]) -> list[str]:
    return [
        f"{answer['frames']} frames, {answer['spots']} spots ({answer['ok_spots']} good), "
        f"median precision {1e3 * answer['median_sd_um']:.1f} nm",
        f"{answer['frames_per_s']:.0f} frames/s, {answer['mpx_per_s']:.0f} Mpx/s on "
        f"{answer['workers']} threads",
        *(f"note: {note}" for note in answer["notes"]),
        f"{answer['out']}: written",
    ]


def calibrate(
    *,
    dark: Path,
    flat: Annotated[list[Path] | None, Parameter(negative="")] = None,
    out: Path,
    model: Literal["scmos", "emccd"] = "scmos",
    gain: Literal["auto", "pixel", "global"] = "auto",
    excess: float = 2.0,
    top_adu: int | None = None,
    expected_gain: float | None = None,
    camera_id: str = "",
    exposure_ms: float | None = None,
    temperature_c: float | None = None,
    binning: int = 1,
    plots: Path | None = None,
    json: Json = False,
) -> int:
    """Measure a camera: gain, offset and noise from a dark series and flats.

    Parameters
    ----------
    dark
        A movie without light.
    flat
        A movie of even, steady light; once for each level.
    out
        The calibration file (.npz) to write.
    model
        An sCMOS camera gets a map of each, an EMCCD one number of each.
    gain
        sCMOS: the map holds best estimates, each pixel's own, or one value.
    excess
        EMCCD: excess noise factor; 2 at high gain.
    top_adu
        Highest count of the converter; found from the series if left out.
    expected_gain
        From the data sheet, in either direction; compared with what is found.
    camera_id
        The camera's name or serial number; a run with another camera is then refused.
    exposure_ms
        Written into the file.
    temperature_c
        Written into the file.
    binning
        Of the series, along a side; a run with other binning is then refused.
    plots
        Draw plots into this folder.
    """
    from livespt.calibration import Options, draw_plots, need_matplotlib
    from livespt.calibration import calibrate as measure
    from livespt.calibration.report import check_out, file_facts, summary_lines
    from livespt.camera_file import write_camera_file
    from livespt.progress import FrameBar

    check_out(out, plots)
    if plots is not None:
        need_matplotlib()
    about = file_facts(camera_id, exposure_ms, temperature_c, binning)
    options = Options(model, gain, excess, top_adu, expected_gain, about)
    with FrameBar() as bar:
        result = measure(dark, flat or [], options, bar)
    write_camera_file(out, result.file)
    drawn = draw_plots(result, plots) if plots is not None else []
    answer = result.summary | {"notes": result.notes, "out": str(out), "plots": drawn}
    return tell(answer, [*summary_lines(result), f"{out}: written"], json)
