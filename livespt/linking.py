"""`livespt link`: a table of localizations in, tracks and motion out, in one pass as if live.

The linker and the live filter see one frame after the other, as they would at the microscope, the
filter `lag` frames later than the linker: so it takes identities that are settled. The final pass
smooths the tracks. Frames without a row are frames in which nothing was found.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from livespt.infer import FinalResult, OnlineFilter, smooth_run, warm_up_smoother
from livespt.journal import TRACK_ROW_DTYPE
from livespt.link import Linker
from livespt.results import model_json
from livespt.sections import InferConfig, LinkConfig, WatchConfig
from livespt.settle import Settled, Settling
from livespt.spot_tables import SpotTable, SpotTableError
from livespt.types import Estimates, FitStatus, Spots

#: Called with (frames done, frames in all, name of the table).
Progress = Callable[[int, int, str], None]
_TELL_EVERY = 64
#: Frames for which identities may be revised: wrong links fall most with the first two.
LAG = 2


class LinkOptions(NamedTuple):
    """What a table does not tell.

    Attributes
    ----------
    interval_s, exposure_s : float
        Time from frame to frame, and how much of it the shutter is open.
    n_states : int or "auto"
        "auto" finds it from the table, as the run does.
    field_um : (height, width) or None
        Field of view, from the origin.
    lag : int
        For so many frames an identity may be revised.
    """

    interval_s: float
    exposure_s: float
    n_states: int | Literal["auto"]
    field_um: tuple[float, float] | None = None
    lag: int = LAG


class Linked(NamedTuple):
    """What became of a table: the table with columns added, and the answer as plain numbers."""

    columns: pa.Table
    answer: dict[str, Any]


class _FrameRows(NamedTuple):
    frame: int
    t_s: float
    rows: NDArray[np.intp]


class _Streamed(NamedTuple):
    """The pass as if live: each row's track, and how it went."""

    times_s: NDArray[np.float64]
    track_id: NDArray[np.int64]
    p_link: NDArray[np.float64]
    last: Estimates
    link_ms: NDArray[np.float64]
    infer_ms: NDArray[np.float64]


def link_table(table: SpotTable, options: LinkOptions, progress: Progress | None = None) -> Linked:
    """Link the rows of a table, infer their motion on the way, and smooth the tracks.

    Parameters
    ----------
    table : SpotTable
    options : LinkOptions
    progress : callable, optional

    Returns
    -------
    Linked
        The rows keep their order; rows without a track have empty cells.

    Raises
    ------
    SpotTableError
        Nothing to link, or times that do not go forward.
    """
    check_options(options)
    if not (table.spots["status"] == FitStatus.OK).any():
        raise SpotTableError(f"{table.path}: no good localization to link")
    streamed = _stream(table, options, progress or (lambda done, total, name: None))
    began_s = time.perf_counter()
    rows = _track_rows(table, options, streamed)
    final = smooth_run(rows, streamed.last.model, field_um=options.field_um)
    seconds = time.perf_counter() - began_s
    return Linked(
        _with_tracks(table, streamed, final, _order_of(table, streamed)),
        _answer(table, streamed, final, seconds),
    )


def check_options(options: LinkOptions) -> None:
    """Refuse times and numbers that cannot be, by the names of the command's options.

    Raises
    ------
    SpotTableError
    """
    if not (np.isfinite(options.interval_s) and options.interval_s > 0):
        raise SpotTableError(f"--frame-ms: {1e3 * options.interval_s:g}; expected a time > 0")
    if not 0 <= options.exposure_s <= options.interval_s * (1 + 1e-9):
        raise SpotTableError(
            f"--exposure-ms: {1e3 * options.exposure_s:g}; expected 0 to the frame time, "
            f"{1e3 * options.interval_s:g}"
        )
    if not 0 <= options.lag <= 3:
        raise SpotTableError(f"--lag: {options.lag}; expected 0 to 3")
    if options.n_states != "auto" and not 1 <= options.n_states <= 4:
        raise SpotTableError(f"--states: {options.n_states}; expected 1 to 4 or auto")


def _frames(table: SpotTable, times_s: NDArray[np.float64]) -> Iterator[_FrameRows]:
    """Yield every frame from the first to the last: its number, its start, its rows."""
    order = np.argsort(table.frame, kind="stable")
    frames = table.frame.min() + np.arange(times_s.size)
    first = np.searchsorted(table.frame[order], frames)
    end = np.append(first[1:], order.size)
    for i, (a, b) in enumerate(zip(first.tolist(), end.tolist(), strict=True)):
        yield _FrameRows(int(frames[i]), float(times_s[i]), order[a:b])


def _times_of_frames(table: SpotTable, interval_s: float) -> NDArray[np.float64]:
    """Return the start of every frame from the first to the last; empty ones by interpolation."""
    frames = np.arange(table.frame.min(), table.frame.max() + 1)
    if table.t_s is None:
        return (frames - frames[0]) * interval_s
    known, first = np.unique(table.frame, return_index=True)
    times_s = table.t_s[first]
    even = table.t_s == times_s[np.searchsorted(known, table.frame)]
    if not (np.isfinite(table.t_s).all() and even.all() and (np.diff(times_s) > 0).all()):
        raise SpotTableError(
            f"{table.path}: t_s: expected one time for all rows of a frame, later ones for later"
            " frames"
        )
    return np.interp(frames, known, times_s)


def _stream(table: SpotTable, options: LinkOptions, progress: Progress) -> _Streamed:
    linker, online = _stages(options)
    n = len(table.frame)
    times_s = _times_of_frames(table, options.interval_s)
    track_id, p_link = np.full(n, -1, np.int64), np.zeros(n)
    link_ms, infer_ms = np.zeros(times_s.size), np.zeros(times_s.size)
    settling: Settling[NDArray[np.intp]] = Settling(options.lag)
    last: Estimates | None = None

    def infer(settled: list[Settled[NDArray[np.intp]]]) -> None:
        nonlocal last
        for spots, links, rows in settled:
            began_s = time.perf_counter()
            last = online.step(spots, links)
            infer_ms[spots.frame - table.frame.min()] = 1e3 * (time.perf_counter() - began_s)
            track_id[rows], p_link[rows] = links.track_id, links.p_link

    for i, (frame, t_s, rows) in enumerate(_frames(table, times_s)):
        spots = Spots(frame, t_s, options.exposure_s, 1.0, table.spots[rows])
        began_s = time.perf_counter()
        links = linker.step(spots)
        link_ms[i] = 1e3 * (time.perf_counter() - began_s)
        infer(settling.take(spots, links, rows))
        if i % _TELL_EVERY == 0:
            progress(i, times_s.size, table.path.name)
    infer(settling.rest())
    progress(times_s.size, times_s.size, table.path.name)
    assert last is not None
    return _Streamed(times_s, track_id, p_link, last, link_ms, infer_ms)


def _stages(options: LinkOptions) -> tuple[Linker, OnlineFilter]:
    """Return both stages with all kernels compiled."""
    field_um = options.field_um
    linker = Linker(options.interval_s, field_um=field_um, overrides=LinkConfig(lag=options.lag))
    config = InferConfig(n_states=options.n_states)
    online = OnlineFilter(
        options.n_states,
        options.interval_s,
        field_um=field_um,
        config=config,
        watch=WatchConfig(false_alarms_per_hour=0),
    )
    linker.warm_up()
    online.warm_up()
    warm_up_smoother(config.first_n_states, options.interval_s)
    return linker, online


def _order_of(table: SpotTable, streamed: _Streamed) -> NDArray[np.intp]:
    """Return the rows that have a track, sorted by track and frame."""
    rows = np.lexsort((table.frame, streamed.track_id))
    return rows[streamed.track_id[rows] >= 0]


def _track_rows(table: SpotTable, options: LinkOptions, streamed: _Streamed) -> NDArray[np.void]:
    order = _order_of(table, streamed)
    rows = np.zeros(order.size, TRACK_ROW_DTYPE)
    for name in ("x_um", "y_um", "var_x_um2", "var_y_um2", "cov_xy_um2"):
        rows[name] = table.spots[name][order]
    rows["track_id"], rows["p_link"] = streamed.track_id[order], streamed.p_link[order]
    rows["frame"], rows["exposure_s"] = table.frame[order], options.exposure_s
    rows["t_s"] = streamed.times_s[rows["frame"] - table.frame.min()]
    return rows


def _with_tracks(
    table: SpotTable, streamed: _Streamed, final: FinalResult, order: NDArray[np.intp]
) -> pa.Table:
    """Add columns to the table; its own columns of the same names get ``_in`` at their end."""
    n = len(table.frame)
    absent = np.ones(n, np.bool_)
    absent[order] = False

    def spread(values: NDArray[np.float64]) -> pa.Array:
        whole = np.zeros(n)
        whole[order] = values
        return pa.array(whole, mask=absent)

    smooth = final.table
    added = {
        "track_id": pa.array(streamed.track_id),
        "p_link": pa.array(streamed.p_link),
        "smooth_x_um": spread(smooth["x_um"]),
        "smooth_y_um": spread(smooth["y_um"]),
        "smooth_var_x_um2": spread(smooth["var_x_um2"]),
        "smooth_var_y_um2": spread(smooth["var_y_um2"]),
        "smooth_cov_xy_um2": spread(smooth["cov_xy_um2"]),
        "smooth_D_um2_s": spread(smooth["D_um2_s"]),
    }
    for k in range(smooth["p_state"].shape[1]):
        added[f"p_state_{k}"] = spread(smooth["p_state"][:, k])
    names = [f"{name}_in" if name in added else name for name in table.columns.column_names]
    columns = table.columns.rename_columns(names)
    for name, values in added.items():
        columns = columns.append_column(name, values)
    return columns


def _answer(
    table: SpotTable, streamed: _Streamed, final: FinalResult, final_s: float
) -> dict[str, Any]:
    lengths = np.bincount(streamed.track_id[streamed.track_id >= 0])
    lengths = lengths[lengths > 0]
    total_ms = streamed.link_ms + streamed.infer_ms
    return {
        "live": model_json(streamed.last.model),
        "final": model_json(final.model),
        "frames": len(total_ms),
        "spots": int((table.spots["status"] == FitStatus.OK).sum()),
        "tracks": len(lengths),
        "tracks_of_two_or_more": int((lengths > 1).sum()),
        "median_track_length": float(np.median(lengths)),
        "ms_per_frame": {
            name: {"mean": float(ms.mean()), "p99": float(np.percentile(ms, 99))}
            for name, ms in (
                ("link", streamed.link_ms), ("infer", streamed.infer_ms), ("total", total_ms),
            )
        },
        "seconds": {"stream": float(total_ms.sum() / 1e3), "final": final_s},
    }  # fmt: skip
