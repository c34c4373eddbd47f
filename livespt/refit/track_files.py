"""Tracks from files: tables of livespt and of other programs, and run folders.

===================  ==========================================================================
what                 under one of these names
===================  ==========================================================================
track                ``track``, ``track_id``, ``trajectory``, ``particle``; rows without one, or
                     with one below 0, are left out
frame                ``frame``
position             ``x_um, y_um``; ``x [nm], y [nm]``; ``x, y`` in pixels
standard error       ``sd_x_um, sd_y_um``; ``sd_um``; ``var_x_um2, var_y_um2``;
(optional)           ``uncertainty_xy [nm]``; ``uncertainty [nm]``; in pixels ``lpx, lpy``,
                     ``x_err, y_err``
time (optional)      ``dt_s``, since the row before in the track; ``t_s``
more (optional)      ``cov_xy_um2``, ``p_link``, as `livespt link` writes them
===================  ==========================================================================
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from livespt.journal import field_um_of, is_run_folder, read_run, track_rows
from livespt.refit.result import RefitError
from livespt.refit.tracks import Floats, TrackTable, fit_to_use, make_tracks
from livespt.spot_tables import numbers, read_flat
from livespt.types import LivesptError

_TRACKS = ("track", "track_id", "trajectory", "particle")
#: (x, y) and their unit in um; 0: a pixel.
_PLACES = {("x_um", "y_um"): 1.0, ("x [nm]", "y [nm]"): 1e-3, ("x", "y"): 0.0}
#: Ways to say the standard errors, by that unit; all but the variances are roots already.
_ERRORS = {
    1.0: (("sd_x_um", "sd_y_um"), ("sd_um",), ("var_x_um2", "var_y_um2")),
    1e-3: (("uncertainty_xy [nm]",), ("uncertainty [nm]",)),
    0.0: (("lpx", "lpy"), ("x_err", "y_err")),
}
#: Beyond these (um) no molecule's table goes; one in nm does.
MOST_STEP_UM, MOST_ERROR_UM, MOST_EXTENT_UM = 20.0, 2.0, 10_000.0


class _Unit(NamedTuple):
    x: str
    y: str
    um: float
    errors: tuple[str, ...]


def read_tracks(
    path: str | Path,
    *,
    frame_ms: float | None = None,
    exposure_ms: float | None = None,
    pixel_um: float | None = None,
) -> TrackTable:
    """Read tracks from a table (.csv, .parquet) or a run folder, and check them.

    Parameters
    ----------
    path : Path
    frame_ms : float
        Nominal time from frame to frame; a run folder knows it.
    exposure_ms : float, optional
        How long of it the shutter is open: all of it unless given; a run folder knows it.
    pixel_um : float, optional
        For tables in pixels.

    Raises
    ------
    RefitError
        No such file, unknown columns, nothing that can be fitted, or numbers that cannot be um.
    """
    path = Path(path)
    if is_run_folder(path):
        return _of_run(path, frame_ms, exposure_ms)
    if not path.is_file():
        raise RefitError(f"{path}: no such file or run folder")
    if frame_ms is None:
        raise RefitError(f"{path}: a table does not tell the time from frame to frame: --frame-ms")
    try:
        columns = read_flat(path, path.suffix.lower())
        table = _of_columns(path, columns, (frame_ms, exposure_ms), pixel_um)
    except RefitError:
        raise
    except LivesptError as error:
        raise RefitError(str(error)) from None
    return checked(table)


def checked(table: TrackTable) -> TrackTable:
    """Refuse a table whose numbers cannot be um; leave out the tracks that no fit can use.

    Raises
    ------
    RefitError
    """
    inside = np.diff(table.track) == 0
    steps = np.hypot(np.diff(table.x_um), np.diff(table.y_um))[inside]
    extent = max(float(np.ptp(table.x_um)), float(np.ptp(table.y_um)))
    found = {
        "the median step": (float(np.median(steps)) if steps.size else 0.0, MOST_STEP_UM),
        "the extent": (extent, MOST_EXTENT_UM),
    }
    if table.sd_um is not None:
        found["the median standard error"] = (float(np.median(table.sd_um)), MOST_ERROR_UM)
    for what, (value, most) in found.items():
        if value > most:
            raise RefitError(
                f"{table.source}: {what} is {value:.3g} um; expected less than {most:g} um "
                "(are the numbers in nm or in pixels?)"
            )
    return fit_to_use(table)


def _of_run(folder: Path, frame_ms: float | None, exposure_ms: float | None) -> TrackTable:
    try:
        run = read_run(folder)
        rows, field_um = track_rows(run), field_um_of(run)
    except LivesptError as error:
        raise RefitError(str(error)) from None
    if not len(rows):
        raise RefitError(f"{folder}: no linked spot in this run")
    about = run.about["source"]
    interval_s = about["interval_s"] if frame_ms is None else frame_ms / 1e3
    exposure_s = rows["exposure_s"][0] if exposure_ms is None else exposure_ms / 1e3
    table = make_tracks(
        rows["track_id"],
        rows["frame"],
        np.stack([rows["x_um"], rows["y_um"]], axis=1),
        np.sqrt(np.stack([rows["var_x_um2"], rows["var_y_um2"]], axis=1)),
        interval_s=float(interval_s),
        exposure_s=float(min(exposure_s, interval_s)),
        t_s=rows["t_s"],
        cov_xy_um2=rows["cov_xy_um2"],
        weight=rows["p_link"],
        field_um=field_um,
        source=str(folder),
    )
    return checked(table)


def _of_columns(
    path: Path,
    columns: pa.Table,
    times_ms: tuple[float, float | None],
    pixel_um: float | None,
) -> TrackTable:
    if columns.num_rows == 0:
        raise RefitError(f"{path}: a table without a row")
    unit = _unit_of(path, columns.column_names, pixel_um)
    track, frame = _labels(path, columns)
    has = (track >= 0) & np.isfinite(frame)
    if not has.any():
        raise RefitError(f"{path}: no row has a track and a frame")
    place = unit.um * np.stack([numbers(path, columns, n) for n in (unit.x, unit.y)], axis=1)
    optional = {
        name: numbers(path, columns, name)[has]
        for name in ("cov_xy_um2", "p_link")
        if name in columns.column_names
    }
    sd_um = _errors(path, columns, unit)
    kept_track, kept_frame = track[has].astype(np.int64), frame[has].astype(np.int64)
    frame_ms, exposure_ms = times_ms
    table = make_tracks(
        kept_track,
        kept_frame,
        place[has],
        None if sd_um is None else sd_um[has],
        interval_s=frame_ms / 1e3,
        exposure_s=None if exposure_ms is None else exposure_ms / 1e3,
        t_s=_times(path, columns, has, kept_track, kept_frame),
        cov_xy_um2=optional.get("cov_xy_um2"),
        weight=optional.get("p_link"),
        source=str(path),
    )
    return table._replace(left_out={"rows without a track": int((~has).sum())} | table.left_out)


def _unit_of(path: Path, names: list[str], pixel_um: float | None) -> _Unit:
    for (x, y), um in _PLACES.items():
        if {x, y} <= set(names):
            if um == 0.0 and not (pixel_um and np.isfinite(pixel_um) and pixel_um > 0):
                raise RefitError(f"{path}: positions are in pixels; give --pixel-um (> 0)")
            ways = (way for way in _ERRORS[um] if set(way) <= set(names))
            return _Unit(x, y, um or float(pixel_um or 0.0), next(ways, ()))
    raise RefitError(
        f"{path}: columns {', '.join(names)}; expected x_um and y_um (or x and y in pixels)"
    )


def _labels(path: Path, columns: pa.Table) -> tuple[Floats, Floats]:
    """Return tracks and frames; NaN where there is none."""
    names = columns.column_names
    track = next((name for name in _TRACKS if name in names), None)
    if track is None or "frame" not in names:
        raise RefitError(
            f"{path}: columns {', '.join(names)}; expected 'frame' and one of {', '.join(_TRACKS)}"
        )
    both = []
    for name in (track, "frame"):
        values = numbers(path, columns, name)
        broken = np.isfinite(values) & (values != np.floor(values))
        if broken.any():
            row = int(np.argmax(broken))
            raise RefitError(
                f"{path}: row {row + 1}: {name} is {values[row]:g}; expected a whole number"
            )
        both.append(values)
    return both[0], both[1]


def _errors(path: Path, columns: pa.Table, unit: _Unit) -> Floats | None:
    """Return the standard errors (n, 2); what is not > 0 stays so, for `make_tracks` to count."""
    if not unit.errors:
        return None
    two = [numbers(path, columns, unit.errors[i]) for i in (0, -1)]
    values = np.stack(two, axis=1)
    if unit.errors[0].startswith("var"):
        return np.sqrt(np.where(values > 0, values, np.nan))
    return values * (1e-3 if unit.errors[0].endswith("[nm]") else unit.um)


def _times(
    path: Path,
    columns: pa.Table,
    has: NDArray[np.bool_],
    track: NDArray[np.int64],
    frame: NDArray[np.int64],
) -> Floats | None:
    """Return the start of each exposure where the table tells it, else None."""
    if "t_s" in columns.column_names:
        return numbers(path, columns, "t_s")[has]
    if "dt_s" not in columns.column_names:
        return None
    since = numbers(path, columns, "dt_s")[has]
    order = np.lexsort((frame, track))
    again = np.diff(track[order], prepend=track[order[0]] - 1) == 0
    ordered = np.where(again & (since[order] > 0), since[order], 0.0)
    bad = again & (ordered == 0)
    bad[1:] &= np.diff(frame[order]) != 0  # the same frame twice is counted later
    if bad.any():
        row = int(order[np.argmax(bad)])
        raise RefitError(
            f"{path}: dt_s is {since[row]:g} in track {track[row]}, frame {frame[row]}; expected "
            "the time since the row before in the track, > 0"
        )
    total = np.cumsum(ordered)
    starts = np.maximum.accumulate(np.where(again, 0, np.arange(order.size)))
    times = np.empty(order.size)
    times[order] = total - total[starts]
    return times
