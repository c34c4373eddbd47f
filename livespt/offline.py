"""What can be done with a run folder once the stream is over.

The final pass reads what was journalled, not what happened to be in memory: it can be repeated at
any time, on any machine, and gives the same answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from livespt.infer import FinalResult, OnlineFilter, smooth_run
from livespt.journal import (
    FINAL_FILE,
    JournalError,
    Run,
    config_of,
    field_um_of,
    read_run,
    track_rows,
    write_final,
)
from livespt.link import Linker
from livespt.pipeline import LatencyLog
from livespt.results import RunResult, model_json
from livespt.settle import Settled, Settling
from livespt.types import Estimates, FitStatus, Links, Model, Spots

Progress = Callable[[int, int], None]

#: What `localization_summary` says of a run without a spot.
NOTHING_FOUND = {
    "n_spots": 0,
    "median_sd_um": 0.0,
    "median_photons": 0.0,
    "median_bg_photons": 0.0,
}


def finish_run(folder: Path, live: Model, progress: Progress | None = None) -> Model:
    """Smooth all tracks of a run, fit the motion to them, write both; return the answer.

    Parameters
    ----------
    folder : Path
        A run folder; gets ``tracks.parquet`` and ``final.json``.
    live : Model
        Where the fit starts.
    progress : callable (done, total), optional
    """
    run = read_run(folder)
    result: FinalResult = smooth_run(
        track_rows(run), live, field_um=field_um_of(run), progress=progress
    )
    answer = {"final": model_json(result.model), "live": model_json(live)}
    write_final(folder, result.table, answer)
    return result.model


def finish_if_missing(folder: Path) -> bool:
    """Do the final pass of a run that was cut off before it; say whether it was done."""
    run = read_run(folder)
    if (folder / FINAL_FILE).exists() or not len(run.models):
        return False
    finish_run(folder, run.model())
    return True


def localization_summary(folder: Path, source: object | None = None) -> dict[str, Any]:
    """Return how well spots were localized: medians, and errors where `source` knows the truth."""
    run = read_run(folder)
    spots = run.spots
    if not len(spots):
        return dict(NOTHING_FOUND)
    good = spots[spots["status"] == FitStatus.OK]
    summary: dict[str, Any] = {
        "n_spots": len(good),
        "median_sd_um": _median(np.sqrt((good["var_x_um2"] + good["var_y_um2"]) / 2)),
        "median_photons": _median(good["photons"]),
        "median_bg_photons": _median(good["bg_photons"]),
    }
    score = getattr(source, "score_localization", None)
    if score is not None:
        scores = score(spots, frames=run.frames["frame"])  # frames that were shed do not count
        summary |= {key: value for key, value in scores.items() if key != "n_spots"}
    return summary


def replay_recorded(folder: Path, progress: Progress | None = None) -> RunResult:
    """Link and infer once more from the recorded spots of a run.

    The answers are those of the live run, bit for bit, because neither stage depends on anything
    but the spots. Nothing is written.

    Raises
    ------
    JournalError
        `folder` is no run folder, or holds no frame.
    """
    run = read_run(folder)
    started_s = time.perf_counter()
    latency = LatencyLog()
    last: Estimates | None = None
    n_frames = 0
    for spots, _, estimates in replay_stages(run):
        last = estimates
        n_frames += 1
        latency.add(1e3 * (time.perf_counter() - spots.arrived_s))
    if last is None:
        raise JournalError(f"{folder}: holds no frame")
    streamed_s = time.perf_counter()
    final = smooth_run(track_rows(run), last.model, field_um=field_um_of(run), progress=progress)
    p50, p99 = latency.percentiles()
    return RunResult(
        live=last.model,
        final=final.model,
        truth=None,
        localization=localization_summary(folder),
        frames={"in": n_frames, "processed": n_frames, "shed": 0, "missing": 0},
        latency_ms={"p50": p50, "p99": p99},
        seconds={"stream": streamed_s - started_s, "final": time.perf_counter() - streamed_s},
        run=str(folder),
    )


def replay_stages(run: Run) -> Iterator[tuple[Spots, Links, Estimates]]:
    """Yield (Spots, Links, Estimates) of each frame, computed anew from the recorded spots."""
    linker, online = _stages_of(run)
    for spots, links, _ in _linked_anew(run, linker):
        yield spots, links, online.step(spots, links)


def _linked_anew(run: Run, linker: Linker) -> Iterator[Settled[None]]:
    """Yield each frame once its links are settled."""
    settling: Settling[None] = Settling(config_of(run).link.lag)
    for recorded, _ in run.iter_spots():
        spots = recorded._replace(arrived_s=time.perf_counter())
        yield from settling.take(spots, linker.step(spots), None)
    yield from settling.rest()


def _stages_of(run: Run) -> tuple[Linker, OnlineFilter]:
    config, field_um = config_of(run), field_um_of(run)
    interval_s = float(run.about["source"]["interval_s"])
    linker = Linker(interval_s, field_um=field_um, overrides=config.link)
    online = OnlineFilter(
        config.infer.n_states,
        interval_s,
        field_um=field_um,
        config=config.infer,
        watch=config.watch,
    )
    return linker, online


def _median(values: NDArray[np.float64]) -> float:
    return float(np.median(values)) if len(values) else 0.0
