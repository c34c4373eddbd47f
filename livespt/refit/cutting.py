"""Regions of pixels around the molecules of linked tracks, cut from a movie frame by frame.

Each position gets the region that has it in its middle pixel. Positions near the border, whose
region would leave the frame, and those with another spot in or near the region are left out and
counted: the methods take what else is in a region for background.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from livespt.camera import Camera
from livespt.refit.regions import Molecules, Regions
from livespt.refit.result import RefitError
from livespt.refit.tracks import Floats, TrackTable

#: Light of another spot counts out to so many of its widths.
REACH = 2.0
#: Times that differ by less, as a share of the interval, are even.
SAME_TIME = 0.01


class Scope(NamedTuple):
    """What the regions are cut from, and how.

    Attributes
    ----------
    camera : Camera
    shape : (height, width)
        Of the frames.
    pixel_um, sigma_um : float
    side : int
        Of a region, pixels.
    least_frames : int
        Tracks of fewer are left out.
    even : bool
        Keep each track's longest stretch of frames that follow each other evenly.
    """

    camera: Camera
    shape: tuple[int, int]
    pixel_um: float
    sigma_um: float
    side: int
    least_frames: int
    even: bool


class Plan(NamedTuple):
    """Which regions are cut: one for each row of `tracks`.

    Attributes
    ----------
    tracks : TrackTable
    corner_px : (n, 2) int64
        x, y.
    left_out : dict of str to int
    """

    tracks: TrackTable
    corner_px: NDArray[np.int64]
    left_out: dict[str, int]


class Cutter:
    """Takes the frames of a movie in any order and keeps the regions of a plan."""

    def __init__(self, plan: Plan, side: int) -> None:
        self._plan, self._side = plan, side
        order = np.argsort(plan.tracks.frame, kind="stable")
        frames, first = np.unique(plan.tracks.frame[order], return_index=True)
        self._rows = dict(zip(frames.tolist(), np.split(order, first[1:]), strict=True))
        self.adu = np.zeros((order.size, side, side), np.uint16)

    @property
    def n_waiting(self) -> int:
        """Frames that have regions and were not seen."""
        return len(self._rows)

    def take(self, frame: int, adu: NDArray[np.uint16]) -> None:
        """Cut all regions of a frame."""
        for row in self._rows.pop(frame, ()):
            x, y = self._plan.corner_px[row]
            self.adu[row] = adu[y : y + self._side, x : x + self._side]


def plan_cuts(tracks: TrackTable, seen: NDArray[np.void], scope: Scope) -> Plan:
    """Choose what is cut.

    Parameters
    ----------
    tracks : TrackTable
    seen : structured array
        Fields `frame`, `x_um`, `y_um`: all spots of the movie, linked or not, good or not.
    scope : Scope

    Raises
    ------
    RefitError
        No track is left.
    """
    place = np.stack([tracks.x_um, tracks.y_um], axis=1) / scope.pixel_um
    corner = np.rint(place).astype(np.int64) - scope.side // 2
    height, width = scope.shape
    inside = (corner >= 0).all(axis=1)
    inside &= (corner + scope.side <= [width, height]).all(axis=1)
    alone = _alone(place, tracks.frame, seen, scope)
    left_out = dict(tracks.left_out)
    left_out["positions at the border of the frame"] = int((~inside).sum())
    left_out["positions with another spot near"] = int((inside & ~alone).sum())
    keep = inside & alone
    if scope.even:
        even = _longest(tracks, keep)
        left_out["positions off a track's longest even stretch"] = int((keep & ~even).sum())
        keep = even
    owner = np.repeat(np.arange(tracks.n_tracks), np.diff(tracks.first))
    lengths = np.bincount(owner[keep], minlength=tracks.n_tracks)
    long = lengths >= scope.least_frames
    left_out[f"tracks of fewer than {scope.least_frames} frames"] = int((~long).sum())
    keep &= long[owner]
    if not keep.any():
        said = ", ".join(f"{n} {reason}" for reason, n in left_out.items() if n)
        raise RefitError(f"{tracks.source}: no track whose pixels can be fitted ({said})")
    return Plan(_only(tracks, keep, lengths[long]), corner[keep], left_out)


def _alone(
    place_px: Floats, frame: NDArray[np.int64], seen: NDArray[np.void], scope: Scope
) -> NDArray[np.bool_]:
    """Tell which positions have no spot but their own near."""
    reach = scope.side / 2 + REACH * scope.sigma_um / scope.pixel_um
    apart = 3.0 * reach  # frames as a third axis, too far apart for spots of two to meet
    there = np.stack([seen["x_um"], seen["y_um"]], axis=1) / scope.pixel_um
    fine = np.isfinite(there).all(axis=1)
    tree = KDTree(np.column_stack([there, seen["frame"] * apart])[fine])
    near = tree.query_ball_point(
        np.column_stack([place_px, frame * apart]), reach, p=np.inf, return_length=True
    )
    return np.asarray(near) <= 1


def _longest(tracks: TrackTable, keep: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mark each track's longest run of kept positions one interval apart, the first of equals."""
    off = np.abs(np.diff(tracks.t_s) / tracks.interval_s - 1) > SAME_TIME
    goes_on = keep[1:] & keep[:-1] & ~off & (np.diff(tracks.track) == 0)
    run = np.concatenate([[0], np.cumsum(~goes_on)])
    sizes = np.bincount(run[keep], minlength=int(run[-1]) + 1)
    best: dict[int, int] = {}
    for track, number in zip(tracks.track[keep].tolist(), run[keep].tolist(), strict=True):
        if track not in best or sizes[number] > sizes[best[track]]:
            best[track] = number
    chosen = np.array([best.get(track, -1) for track in tracks.track.tolist()])
    return keep & (run == chosen)


def _only(tracks: TrackTable, keep: NDArray[np.bool_], lengths: NDArray[np.int64]) -> TrackTable:
    """Return the rows that are kept, of tracks of these lengths."""
    first = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    columns = {
        name: column[keep]
        for name in ("track", "frame", "t_s", "x_um", "y_um", "sd_um", "cov_xy_um2", "weight")
        if (column := getattr(tracks, name)) is not None
    }
    return tracks._replace(first=first, **columns)


def molecules_of(plan: Plan, cutter: Cutter, scope: Scope) -> Molecules:
    """Return the regions that were cut, by track.

    Raises
    ------
    RefitError
        Frames of the plan were never seen.
    """
    tracks = plan.tracks
    if cutter.n_waiting:
        raise RefitError(
            f"{tracks.source}: {cutter.n_waiting} frames were not there when read again"
        )
    regions, names = [], []
    for low, high in zip(tracks.first[:-1].tolist(), tracks.first[1:].tolist(), strict=True):
        name = int(tracks.track[low])
        regions.append(
            Regions(
                adu=cutter.adu[low:high],
                corner_px=plan.corner_px[low:high],
                frame=tracks.frame[low:high],
                t_s=tracks.t_s[low:high],
                exposure_s=tracks.exposure_s,
                camera=scope.camera,
                pixel_um=scope.pixel_um,
                sigma_um=scope.sigma_um,
                photons=None,
                bg_photons=None,
                source=f"{tracks.source}, track {name}",
            )
        )
        names.append(name)
    return Molecules(tuple(regions), tuple(names), plan.left_out, tracks.source)
