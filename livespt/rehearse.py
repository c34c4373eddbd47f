"""A dry run: what the control would have asked for on a recorded run, when and why.

The spots of a run folder go through the same windows and the same law; nothing is written anywhere.
The light of the recording does not follow: each wish is answered by what really came next, so that
after the first one this shows what the law thinks of the data, not where it would have led.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from livespt.config import ConfigError
from livespt.control.budget import Budget
from livespt.control.law import Bounds, Law, TargetLaw, open_law
from livespt.control.windows import LEAST_TRACK, Look, Windows
from livespt.excitation import check_control, dose_of
from livespt.journal import JournalError, Run, config_of, read_run
from livespt.sections import Config
from livespt.types import SPOT_DTYPE, Event, Spots

#: Limits where a dry run knows none: a hundred times either way of the reference.
OPEN_BOUNDS = Bounds(min=0.01, max=100.0, safe=0.0)


class _Standing(NamedTuple):
    """What a law is told of the light; here it is the recording's."""

    power: float
    dose: float
    dose_left: float


class Advice(NamedTuple):
    """One window of a recording, and what would have been asked for (None: nothing)."""

    look: Look
    power: float | None
    why: str
    dose: float


def advise(folder: Path, config: Config, law: Law | None = None) -> Iterator[Advice]:
    """Yield what the law wishes for, window by window, relative to the reference power.

    Parameters
    ----------
    folder : Path
        A run folder.
    config : Config
        Its `control` counts; mode "off" is taken as "advise".
    law : Law, optional
        The caller's own.

    Raises
    ------
    JournalError
        It is no run folder, or holds no frame.
    ConfigError
        `control` has no target.
    """
    run = read_run(folder)
    chosen = config.control
    if law is None and not chosen.law and not (chosen.target_sd_um or chosen.target_sbr):
        raise ConfigError("control.target_sd_um: not given; there is nothing to advise on")
    check_control(config, law=law)
    law = law or _law(config)
    frames = run.frames
    if not len(frames):
        raise JournalError(f"{folder}: holds no frame")
    interval_s = float(run.about["source"]["interval_s"])
    windows = Windows(
        config_of(run).optics.pixel_um, interval_s, span_s=chosen.window_s,
        min_spots=chosen.min_spots,
    )  # fmt: skip
    budget = Budget(dose_of(chosen), chosen.planned_s or _duration_s(frames))
    dose, first_s = 0.0, float(frames["t_s"][0])
    for spots, rows, track_id, before in _frames(run):
        for event in before:
            windows.event(event)
        dose += spots.excitation * interval_s
        look = windows.add(spots, rows, track_id, spots.excitation)
        if look is not None:
            left = budget.left(dose)
            wish = law.decide(look, _Standing(spots.excitation, dose, left))
            cap = budget.cap(left, spots.t_s - first_s)
            power = wish.power
            if (spots.excitation if power is None else power) > cap:
                power = cap
            yield Advice(look, power, wish.why, dose)


def _law(config: Config) -> Law:
    chosen = config.control
    if chosen.law:
        return open_law(chosen.law, dict(chosen.law_options), OPEN_BOUNDS)
    target = chosen.target_sd_um if chosen.goal == "precision" else chosen.target_sbr
    return TargetLaw(target, OPEN_BOUNDS, goal=chosen.goal, deadband=chosen.deadband)


def _duration_s(frames: np.ndarray) -> float:
    return max(float(frames["t_s"][-1] - frames["t_s"][0]), math.ulp(1.0))


def _frames(run: Run) -> Iterator[tuple[Spots, np.ndarray, np.ndarray, list[Event]]]:
    """Yield each frame's spots, the rows that count, their tracks, and the events before it."""
    seen = run.estimates
    seen = seen[(seen["n_spots"] >= LEAST_TRACK) & (seen["spot"] >= 0)]
    spots, events = run.spots, iter([*run.events, None])
    event = next(events)
    for row in run.frames:
        frame, before = int(row["frame"]), []
        while event is not None and event.t_s <= row["t_s"]:
            before.append(event)
            event = next(events)
        found = spots[slice(*np.searchsorted(spots["frame"], (frame, frame + 1)))]
        mine = seen[slice(*np.searchsorted(seen["frame"], (frame, frame + 1)))]
        table = np.empty(len(found), SPOT_DTYPE)
        for name in SPOT_DTYPE.names or ():
            table[name] = found[name]
        whole = mine[mine["spot"] < len(table)]
        yield (
            Spots(frame, float(row["t_s"]), float(row["exposure_s"]), float(row["excitation"]),
                  table),
            whole["spot"], whole["track_id"], before,
        )  # fmt: skip
