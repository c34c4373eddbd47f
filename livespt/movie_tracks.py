"""A movie to tracks, and to the pixels around each: what `livespt refit MOVIE` fits.

The spots are those of `livespt localize`, the tracks those that `livespt link` would make of them;
the linker sees one frame after the other as at the microscope. For the methods that fit pixels the
movie is read once more, and only the regions around the tracks are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from livespt.link import Linker
from livespt.ordered import ordered_map
from livespt.refit import Molecules, RefitError, TrackTable, make_tracks
from livespt.refit.cutting import Cutter, Plan, Scope, molecules_of, plan_cuts
from livespt.refit.track_files import checked
from livespt.sections import Config
from livespt.settle import Settled, Settling
from livespt.sources import open_source
from livespt.stages import Stages, note_on_first_frames, open_stages
from livespt.types import Event, FitStatus, Frame

#: Called with (frames done, frames in all, what is done to them).
Progress = Callable[[int, int, str], None]
#: Frames for which identities may be revised, unless the config says more.
LAG = 2
_TELL_EVERY = 16
_FIELDS = ("x_um", "y_um", "var_x_um2", "var_y_um2", "cov_xy_um2")
#: A spot and its track; -1: of none.
_ROW = np.dtype(
    [("track", "i8"), ("frame", "i8"), ("t_s", "f8"), ("p_link", "f8"), ("status", "u1")]
    + [(name, "f8") for name in _FIELDS]
)


class Opened(NamedTuple):
    """A movie whose molecules were found and linked.

    Attributes
    ----------
    tracks : TrackTable
    spots : structured array
        `_ROW`: all spots, of tracks or not.
    stages : Stages
        With the source closed.
    notes : list of str
        On the camera.
    """

    tracks: TrackTable
    spots: NDArray[np.void]
    stages: Stages
    notes: list[str]


def link_movie(config: Config, origin: str, progress: Progress) -> Opened:
    """Find, fit and link the molecules of a movie.

    Parameters
    ----------
    config : Config
        Its source is the movie.
    origin : str
        Where the config came from, for messages.
    progress : callable

    Raises
    ------
    LivesptError
        Bad input, a damaged movie, or no track that a fit can use.
    """
    stages = open_stages(config, origin)
    try:
        notes = [note for note in (*stages.notes, note_on_first_frames(stages)) if note]
        stages.localizer.warm_up()
        spots, exposure_s = _linked(stages, progress)
    finally:
        stages.source.close()
    return Opened(_tracks(spots, exposure_s, stages), spots, stages, notes)


def _linked(stages: Stages, progress: Progress) -> tuple[NDArray[np.void], float]:
    """Return all spots with their tracks, and the exposure."""
    info = stages.source.info
    pixel_um = stages.config.optics.pixel_um
    lag = max(stages.config.link.lag, LAG)
    linker = Linker(
        info.interval_s,
        field_um=(info.shape[0] * pixel_um, info.shape[1] * pixel_um),
        overrides=msgspec.structs.replace(stages.config.link, lag=lag),
    )
    linker.warm_up()
    settling: Settling[None] = Settling(lag)
    parts, exposure_s, n = [np.zeros(0, _ROW)], info.exposure_s, 0
    workers = stages.config.localize.workers
    for item in ordered_map(stages.localizer, stages.source.frames(), workers):
        if item is None or isinstance(item, Event):
            continue
        spots = item[1]
        exposure_s, n = spots.exposure_s, n + 1
        parts += map(_rows, settling.take(spots, linker.step(spots), None))
        if n % _TELL_EVERY == 0:
            progress(n, info.n_frames or n, "localized and linked")
    parts += map(_rows, settling.rest())
    progress(n, info.n_frames or n, "localized and linked")
    return np.concatenate(parts), exposure_s


def _rows(settled: Settled[None]) -> NDArray[np.void]:
    table, links = settled.spots.table, settled.links
    rows = np.zeros(len(table), _ROW)
    rows["track"], rows["p_link"] = links.track_id, links.p_link
    rows["frame"], rows["t_s"] = settled.spots.frame, settled.spots.t_s
    for name in ("status", *_FIELDS):
        rows[name] = table[name]
    return rows


def _tracks(spots: NDArray[np.void], exposure_s: float, stages: Stages) -> TrackTable:
    info, name = stages.source.info, str(stages.config.source.options.get("path", ""))
    linked = spots[(spots["track"] >= 0) & (spots["status"] == FitStatus.OK)]
    if not linked.size:
        raise RefitError(f"{name}: no molecule was found in {info.n_frames} frames")
    height, width = info.shape
    pixel_um = stages.config.optics.pixel_um
    table = make_tracks(
        linked["track"],
        linked["frame"],
        np.stack([linked["x_um"], linked["y_um"]], axis=1),
        np.sqrt(np.stack([linked["var_x_um2"], linked["var_y_um2"]], axis=1)),
        interval_s=info.interval_s,
        exposure_s=min(exposure_s, info.interval_s),
        t_s=linked["t_s"],
        cov_xy_um2=linked["cov_xy_um2"],
        weight=linked["p_link"],
        field_um=(height * pixel_um, width * pixel_um),
        source=name,
    )
    return checked(table)


def cut_movie(opened: Opened, least_frames: int, even: bool, progress: Progress) -> Molecules:
    """Read the movie once more and cut the regions around its tracks.

    Parameters
    ----------
    opened : Opened
    least_frames : int
        Tracks of fewer are left out.
    even : bool
        The method wants frames that follow each other.
    progress : callable

    Raises
    ------
    LivesptError
        No track is left, or the movie has changed.
    """
    config, info = opened.stages.config, opened.stages.source.info
    scope = Scope(
        opened.stages.camera, info.shape, config.optics.pixel_um, config.optics.sigma_um,
        config.localize.roi_px, least_frames, even,
    )  # fmt: skip
    plan = plan_cuts(opened.tracks, opened.spots, scope)
    return molecules_of(plan, _cut(plan, scope, config, progress), scope)


def _cut(plan: Plan, scope: Scope, config: Config, progress: Progress) -> Cutter:
    cutter, n = Cutter(plan, scope.side), 0
    source = open_source(config.source.kind, dict(config.source.options))
    try:
        for item in source.frames():
            if isinstance(item, Frame):
                cutter.take(item.index, item.adu)
                n += 1
                if n % _TELL_EVERY == 0:
                    progress(n, source.info.n_frames or n, "regions cut")
    finally:
        source.close()
    progress(n, n, "regions cut")
    return cutter
