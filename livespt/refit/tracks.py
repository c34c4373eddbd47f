"""Tables of tracks, read and checked for a refit.

Rows that no fit can use are counted by reason and left out; what would make an answer silently
wrong (nm for um, times that do not go forward) is refused.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from livespt.refit.result import RefitError

Floats = NDArray[np.float64]


class TrackTable(NamedTuple):
    """Positions of many tracks, sorted by track, then time.

    Attributes
    ----------
    first : (n_tracks + 1,) int64
        Where each track starts; the last is n.
    track : (n,) int64
        The tracks' names in their file.
    frame : (n,) int64
    t_s : (n,) float64
        Start of each exposure.
    x_um, y_um : (n,) float64
    sd_um : (n, 2) float64 or None
        Standard errors along x and y; None where the file tells none.
    interval_s, exposure_s : float
        Nominal time from frame to frame; how much of it the shutter is open.
    left_out : dict of str to int
        Rows or tracks that were left out, by reason.
    source : str
        File or origin.
    cov_xy_um2, weight : (n,) float64 or None
        Covariance of the errors along x and y; probability of the link, where known.
    field_um : (height, width) or None
        Field of view from the origin, where known.
    """

    first: NDArray[np.int64]
    track: NDArray[np.int64]
    frame: NDArray[np.int64]
    t_s: Floats
    x_um: Floats
    y_um: Floats
    sd_um: Floats | None
    interval_s: float
    exposure_s: float
    left_out: dict[str, int]
    source: str
    cov_xy_um2: Floats | None = None
    weight: Floats | None = None
    field_um: tuple[float, float] | None = None

    @property
    def n_tracks(self) -> int:
        """Number of tracks."""
        return self.first.size - 1


def make_tracks(
    track: NDArray[np.int64],
    frame: NDArray[np.int64],
    position_um: Floats,
    sd_um: Floats | None = None,
    *,
    interval_s: float,
    exposure_s: float | None = None,
    t_s: NDArray[np.floating] | None = None,
    cov_xy_um2: Floats | None = None,
    weight: Floats | None = None,
    field_um: tuple[float, float] | None = None,
    source: str = "arrays",
) -> TrackTable:
    """Sort rows by track and time, and check them.

    Parameters
    ----------
    track, frame : (n,) int64
    position_um : (n, 2) float64
    sd_um : (n, 2) float64, optional
    interval_s : float
        Nominal time from frame to frame.
    exposure_s : float, optional
        All of the interval unless given; 0: no motion blur.
    t_s : (n,) float64, optional
        frame * interval_s unless given.
    cov_xy_um2, weight, field_um : optional
        As in `TrackTable`.
    source : str

    Raises
    ------
    RefitError
        Bad times, shapes or values; nothing that can be fitted.
    """
    exposure = interval_s if exposure_s is None else exposure_s
    if not (np.isfinite(interval_s) and interval_s > 0 and 0 <= exposure <= interval_s):
        raise RefitError(
            f"{source}: frame time {interval_s:g} s with an exposure of {exposure:g} s; expected "
            "a frame time > 0 and an exposure from 0 to it"
        )
    if position_um.shape != (track.size, 2) or frame.shape != track.shape:
        raise RefitError(f"{source}: positions of shape {position_um.shape}; expected (n, 2)")
    times = np.asarray(frame * interval_s if t_s is None else t_s, dtype=np.float64)
    good = np.isfinite(position_um).all(axis=1) & np.isfinite(times)
    left_out = {"position not a number": int((~good).sum())}
    if sd_um is not None:
        fine = (np.isfinite(sd_um) & (sd_um > 0)).all(axis=1)
        left_out["no standard error > 0"] = int((good & ~fine).sum())
        good &= fine
    rows = np.flatnonzero(good)
    rows = rows[np.lexsort((times[rows], track[rows]))]
    again = np.zeros(rows.size, bool)
    still = (np.diff(times[rows]) <= 0) | (np.diff(frame[rows]) == 0)
    again[1:] = (np.diff(track[rows]) == 0) & still
    left_out["frame twice in a track"] = int(again.sum())
    rows = rows[~again]
    if rows.size == 0:
        raise RefitError(f"{source}: no row that can be fitted ({_said(left_out)})")
    starts = np.flatnonzero(np.diff(track[rows], prepend=track[rows[0]] - 1))
    return TrackTable(
        first=np.append(starts, rows.size).astype(np.int64),
        track=track[rows].astype(np.int64),
        frame=frame[rows].astype(np.int64),
        t_s=times[rows],
        x_um=position_um[rows, 0].astype(np.float64),
        y_um=position_um[rows, 1].astype(np.float64),
        sd_um=None if sd_um is None else np.asarray(sd_um[rows], dtype=np.float64),
        interval_s=float(interval_s),
        exposure_s=float(exposure),
        left_out=left_out,
        source=source,
        cov_xy_um2=None if cov_xy_um2 is None else np.asarray(cov_xy_um2[rows], np.float64),
        weight=None if weight is None else np.asarray(weight[rows], np.float64),
        field_um=field_um,
    )


def select(table: TrackTable, tracks: NDArray[np.bool_], reason: str = "") -> TrackTable:
    """Return the tracks that are marked; the others are counted as left out, by `reason` if given.

    Raises
    ------
    RefitError
        None is marked.
    """
    left_out = dict(table.left_out)
    if reason:
        left_out[reason] = left_out.get(reason, 0) + int((~tracks).sum())
    if not tracks.any():
        raise RefitError(f"{table.source}: no track that can be fitted ({_said(left_out)})")
    if tracks.all():
        return table._replace(left_out=left_out)
    lengths = np.diff(table.first)
    rows = np.repeat(tracks, lengths)
    columns = {
        name: column[rows]
        for name in ("track", "frame", "t_s", "x_um", "y_um", "sd_um", "cov_xy_um2", "weight")
        if (column := getattr(table, name)) is not None
    }
    first = np.concatenate([[0], np.cumsum(lengths[tracks])]).astype(np.int64)
    return table._replace(first=first, left_out=left_out, **columns)


def fit_to_use(table: TrackTable) -> TrackTable:
    """Leave out the tracks that say nothing of motion: of one position, or of one and the same.

    Raises
    ------
    RefitError
        None is left.
    """
    table = select(table, np.diff(table.first) > 1, "tracks of one position")
    start = table.first[:-1]
    moved = np.zeros(table.n_tracks, bool)
    for values in (table.x_um, table.y_um):
        moved |= np.maximum.reduceat(values, start) > np.minimum.reduceat(values, start)
    return select(table, moved, "tracks that never move (stuck pixels?)")


def _said(left_out: dict[str, int]) -> str:
    return ", ".join(f"{n} {reason}" for reason, n in left_out.items() if n) or "0 rows"
