"""`livespt localize`: a movie in, a table of localizations out, as fast as the machine goes.

The stages are those of a run (`livespt.stages`); only detection and fits are used, spread over all
cores, and put back in order. The same movie and config give the same table whatever the cores.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from livespt.ordered import ordered_map
from livespt.sections import Config
from livespt.stages import Stages, note_on_first_frames, open_stages
from livespt.tables import TableWriter, check_place, format_of, rows_of
from livespt.types import Event, FitStatus, Frame, Spots

#: Called with (frames done, frames in all, name of the movie).
Progress = Callable[[int, int, str], None]
_TELL_EVERY = 16


@dataclass
class _Counts:
    frames: int = 0
    missing: int = 0
    spots: int = 0
    ok: int = 0
    sd_um: list[NDArray[np.float32]] = field(default_factory=list)

    def add(self, rows: NDArray[np.void]) -> None:
        self.frames += 1
        good = rows[rows["status"] == FitStatus.OK]
        self.spots += len(rows)
        self.ok += len(good)
        sd = np.sqrt((good["sd_x_um"] ** 2 + good["sd_y_um"] ** 2) / 2)
        self.sd_um.append(sd.astype(np.float32))


def all_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), 64)
    return min(os.cpu_count() or 1, 64)


def localize_movie(
    config: Config,
    out: Path,
    kind: str = "",
    *,
    origin: str = "config",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Find and fit the molecules of a movie, and write them down.

    Parameters
    ----------
    config : Config
        Its source is the movie.
    out : Path
        The table; its name's ending says the format.
    kind : str
        Another format than the name says: "thunderstorm".
    origin : str
        Where the config came from, for messages.
    progress : callable, optional

    Returns
    -------
    dict
        Plain numbers, as ``--json`` prints them.

    Raises
    ------
    LivesptError
        Bad input, or a damaged movie; nothing is left behind.
    """
    kind = format_of(out, kind)
    check_place(out)
    stages = open_stages(config, origin)
    try:
        notes = [note for note in (*stages.notes, note_on_first_frames(stages)) if note]
        stages.localizer.warm_up()
        started_s = time.perf_counter()
        counts = _work(stages, out, kind, progress or (lambda done, total, name: None))
        seconds = time.perf_counter() - started_s
    finally:
        stages.source.close()
    return _summary(stages, counts, seconds) | {"notes": notes, "out": str(out)}


def _work(stages: Stages, out: Path, kind: str, progress: Progress) -> _Counts:
    counts, info = _Counts(), stages.source.info
    workers, total = stages.config.localize.workers, info.n_frames or 0
    with TableWriter(out, kind, stages.config.optics.pixel_um, info.shape) as table:
        for item in ordered_map(stages.localizer, stages.source.frames(), workers):
            if isinstance(item, Event):
                counts.missing += item.n_frames if item.kind == "missing" else 0
            elif item is not None:
                _take(item, table, counts)
                if counts.frames % _TELL_EVERY == 0:
                    progress(counts.frames, total, info.name)
    progress(counts.frames, total, info.name)
    return counts


def _take(item: tuple[Frame, Spots], table: TableWriter, counts: _Counts) -> None:
    rows = rows_of(item[1])
    table.add(rows)
    counts.add(rows)


def _summary(stages: Stages, counts: _Counts, seconds: float) -> dict[str, Any]:
    height, width = stages.source.info.shape
    sd_um = np.concatenate([np.empty(0, np.float32), *counts.sd_um])
    per_s = counts.frames / max(seconds, 1e-9)
    return {
        "frames": counts.frames,
        "missing": counts.missing,
        "spots": counts.spots,
        "ok_spots": counts.ok,
        "median_sd_um": float(np.median(sd_um)) if sd_um.size else 0.0,
        "seconds": seconds,
        "frames_per_s": per_s,
        "mpx_per_s": per_s * height * width / 1e6,
        "workers": stages.config.localize.workers,
    }
