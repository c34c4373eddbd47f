"""The command line: one command per job, each with ``--json`` for machines.

Exit codes: 0 done; 1 the run failed on the way (what was answered is kept); 2 bad input, nothing
was started; 130 interrupted twice. An error is one line on stderr that names the culprit.
"""

from __future__ import annotations

import json
import math
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import cyclopts
import msgspec
from cyclopts import Parameter
from rich.console import Console

from livespt.types import LivesptError

app = cyclopts.App(
    name="livespt",
    help="Live single-particle tracking: a camera stream in, running diffusion answers out.",
    version_flags=["--version"],
)

Json = Annotated[bool, Parameter(name="--json", negative="", help="Print one JSON object.")]
Window = Annotated[bool, Parameter(name="--dashboard", negative="", help="Open the window.")]
Seconds = Annotated[float | None, Parameter(help="Stop after this long.")]


@app.command
def demo(
    *,
    seed: int = 1,
    seconds: float = 20.0,
    camera: Literal["scmos", "emccd", "ideal"] = "scmos",
    out: Path = Path("runs"),
    json: Json = False,
    dashboard: Window = False,
) -> int:
    """Analyse a simulated experiment live: no hardware, no screen.

    Parameters
    ----------
    seed
        Another seed is another sample.
    seconds
        Length of the live stream.
    camera
        The simulated camera, and the pixel model used on it.
    out
        Where the run folder goes.
    """
    from livespt.presets import demo_config

    config = demo_config(seed=seed, seconds=seconds, camera=camera, folder=str(out))
    return _run(config, as_json=json, dashboard=dashboard)


@app.command
def run(
    config: Path, *, seconds: Seconds = None, json: Json = False, dashboard: Window = False
) -> int:
    """Analyse the stream that CONFIG describes, until it ends or Ctrl-C.

    Parameters
    ----------
    config
        A TOML file; see configs/ for ready ones.
    """
    from livespt.config import ConfigError, load

    loaded = load(config)
    if seconds is not None:
        if not 0 < seconds < math.inf:
            raise ConfigError(f"--seconds: {seconds:g}; expected a time > 0")
        loaded = msgspec.structs.replace(loaded, stop_after_s=seconds)
    return _run(loaded, origin=str(config), as_json=json, dashboard=dashboard)


@app.command
def replay(
    movie: Path,
    *,
    config: Path | None = None,
    pixel_um: float | None = None,
    frame_ms: float | None = None,
    exposure_ms: float | None = None,
    fps: Annotated[
        float | None, Parameter(help="Frames per second; as fast as it goes if left out.")
    ] = None,
    json: Json = False,
    dashboard: Window = False,
) -> int:
    """Analyse a recorded movie as if live, or a run folder's recorded spots once more.

    Parameters
    ----------
    movie
        TIFF, OME-TIFF, NDTiff folder, .npy or .npz stack; or a run folder.
    config
        Camera, optics and model; `source` in it is replaced by the movie.
    pixel_um
        Pixel size in the sample; overrides the config.
    frame_ms
        Time between frames; overrides the file's own.
    exposure_ms
        Exposure; the whole frame time if left out.
    """
    from livespt.offline import is_run_folder, replay_recorded
    from livespt.presets import replay_config

    if is_run_folder(movie):
        if (config, pixel_um, frame_ms, exposure_ms, fps) != (None,) * 5 or dashboard:
            raise LivesptError(
                f"{movie}: a run folder is replayed as it was; only --json goes with it"
            )
        result = replay_recorded(movie)
        _print_result(result, as_json=json)
        return 0
    built = replay_config(
        movie, config, pixel_um=pixel_um, frame_ms=frame_ms, exposure_ms=exposure_ms, fps=fps
    )
    return _run(built, origin=str(config or movie), as_json=json, dashboard=dashboard)


@app.command
def dashboard(
    *,
    publish: str = "tcp://127.0.0.1:5570",
    command: str = "tcp://127.0.0.1:5571",
    screenshot: Path | None = None,
    json: Json = False,
) -> int:
    """Open the window on a running stream.

    Parameters
    ----------
    publish
        Where the run publishes.
    command
        Where the run takes commands.
    screenshot
        Save a picture of the window after a few seconds and leave.
    """
    try:
        from livespt.dashboard.app import main as window
    except ImportError as error:
        raise LivesptError(
            f"the dashboard needs Qt, which is not here ({error.name}): "
            "pip install 'livespt[dashboard]'"
        ) from None
    code = window(publish, command, screenshot=screenshot)
    if json:
        print(msgspec.json.encode({"exit": code}).decode())
    return code


@app.command
def recover(folder: Path, *, json: Json = False) -> int:
    """Make the folder of a run that was cut off whole, and do the final pass that it missed.

    Nothing is thrown away: what cannot be read is set aside beside it.

    Parameters
    ----------
    folder
        A run folder.
    """
    from livespt.journal import recover as mend
    from livespt.offline import finish_if_missing

    report = mend(folder)
    finished = finish_if_missing(folder)
    if json:
        answer = report.as_json() | {"final": finished}
        print(msgspec.json.encode(answer).decode())
        return 0
    console = Console()
    for stream, rows in report.streams.items():
        torn = f", {rows.rows_lost} torn (set aside)" if rows.torn_bytes else ""
        console.print(f"{stream:<10} {rows.rows_kept:>9} rows kept{torn}")
    done = ", final pass done" if finished else ""
    console.print(f"{folder}: {'recovered' if report.changed else 'was in good order'}{done}")
    return 0


@app.command
def check(config: Path, *, json: Json = False) -> int:
    """Check CONFIG, open its source, and say what would be run; nothing is started.

    Parameters
    ----------
    config
        A TOML file.
    """
    from livespt.config import load
    from livespt.stages import describe

    facts = describe(load(config), origin=str(config))
    if json:
        print(msgspec.json.encode(facts).decode())
    else:
        console = Console()
        for key, value in facts.items():
            if key != "notes":
                console.print(f"{key:<12} {value}")
        for note in facts["notes"]:
            console.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
        console.print(f"{config}: good")
    return 0


@app.command
def localize(
    movie: Path,
    *,
    out: Path,
    format: Literal["parquet", "csv", "thunderstorm"] | None = None,
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
        The table to write: .parquet or .csv.
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
    if json:
        print(msgspec.json.encode(answer).decode())
        return 0
    console = Console()
    for line in _localized_lines(answer):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return 0


def _localized_lines(answer: dict[str, Any]) -> list[str]:
    return [
        f"{answer['frames']} frames, {answer['spots']} spots ({answer['ok_spots']} good), "
        f"median precision {1e3 * answer['median_sd_um']:.1f} nm",
        f"{answer['frames_per_s']:.0f} frames/s, {answer['mpx_per_s']:.0f} Mpx/s on "
        f"{answer['workers']} threads",
        *(f"note: {note}" for note in answer["notes"]),
        f"{answer['out']}: written",
    ]


@app.command
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
    about = file_facts(camera_id, exposure_ms, temperature_c)
    options = Options(model, gain, excess, top_adu, expected_gain, about)
    with FrameBar() as bar:
        result = measure(dark, flat or [], options, bar)
    write_camera_file(out, result.file)
    drawn = draw_plots(result, plots) if plots is not None else []
    if json:
        answer = result.summary | {"notes": result.notes, "out": str(out), "plots": drawn}
        print(msgspec.json.encode(answer).decode())
        return 0
    console = Console()
    for line in [*summary_lines(result), f"{out}: written"]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return 0


class _RunFailed(LivesptError):
    """It began well and failed on the way; the run folder keeps what was answered."""


def _run(config: Any, *, as_json: bool, dashboard: bool, origin: str = "config") -> int:
    """Run one session with the terminal view, and print its result."""
    from livespt.dashboard.terminal import TerminalView
    from livespt.session import Session

    console = Console(stderr=as_json)
    with (
        TerminalView(console) as view,
        Session(config, origin=origin, listeners=[view.update]) as session,
    ):
        window = session.open_dashboard() if dashboard else None
        try:
            with _graceful_interrupt(session.stop):
                result = session.run()
        except LivesptError as error:
            raise _RunFailed(str(error)) from error
    _print_result(result, as_json=as_json)
    if window is not None:
        window.wait()
    return 1 if result.failed else 0


class _graceful_interrupt:
    """The first Ctrl-C ends the run in good order; the second leaves at once."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self._before: Any = None

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGINT, self._first)

    def _first(self, *_: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        # on a thread: the main thread may hold, right now, the lock that closing a camera needs
        threading.Thread(target=self._stop, name="stop", daemon=True).start()

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)


def _print_result(result: Any, *, as_json: bool) -> None:
    from livespt.dashboard.terminal import result_table

    if as_json:
        print(json.dumps(result.as_json()))
        return
    console = Console()
    console.print(result_table(result.live, result.final, result.truth))
    for line in result.lines():
        console.print(line)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; errors become one line and an exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        code = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except cyclopts.CycloptsError as error:
        return _complain(f"{error}".splitlines()[0], arguments)
    except _RunFailed as error:
        return _complain(str(error), arguments, code=1)
    except LivesptError as error:
        return _complain(str(error), arguments)
    except KeyboardInterrupt:
        return _complain("interrupted", arguments, code=130)
    return int(code or 0)


def _complain(message: str, arguments: list[str], code: int = 2) -> int:
    """Say what is wrong: one line on stderr, and an object on stdout for machines."""
    message = " ".join(message.split())
    print(f"livespt: {message}", file=sys.stderr)
    if "--json" in arguments:
        print(msgspec.json.encode({"error": message, "exit": code}).decode())
    return code


def entry() -> None:
    """Start from the console script."""
    raise SystemExit(main())


if __name__ == "__main__":
    entry()
