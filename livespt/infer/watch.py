"""Alarms: the sample or the light has changed.

Five numbers are watched, each a `Series` of blocks of a quarter of a second or so: D (the score of
the motion model in the direction in which all states diffuse faster), the number of spots, their
reported precision, photons and background. The user says how many false alarms an hour may bring,
and the five share them.

After an alarm the new level is the one to compare with: a density that falls slowly, as molecules
bleach, is told each time that it has fallen clearly, with how far, and not in every frame.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from livespt.infer.arrays import Array
from livespt.infer.series import LEAST, WINDOWS, Change, Series
from livespt.types import Event, FitStatus, Spots

#: A block: at least so long, so many frames, and for what spots or steps tell so many of these.
#: Blocks of fewer would be of unequal weight, and scatter with longer tails than a normal number.
BLOCK_S, BLOCK_FRAMES, BLOCK_SPOTS = 0.25, 5, 60
#: Looks overlap in their data: so many times the error that they would be allowed singly still
#: brings fewer false alarms than asked for (0 of 30 and 14 of 40 in half an hour and more of
#: `tests/statistics/watch_scene.py`, with 30 and with 5 molecules).
OVERLAP = 4.0
#: Quartiles of a normal distribution lie so many s.d. apart; variance of a median over a mean's.
QUARTILES, MEDIAN = 1.349, np.pi / 2
OK = int(FitStatus.OK)
LIGHT = ("precision", "photons", "background")
NAMES = ("D", "density", *LIGHT)
#: Least sd (um), photons and background whose logarithm is taken.
SMALL = np.array([1e-6, 1e-2, 1e-2])


class Pace(NamedTuple):
    """What one frame says of the motion: counted steps, their score and what a step informs.

    `score` is the derivative of the log-likelihood in ln D, all states together, `per_step` its
    variance per step. A model that has just been fitted anew begins with `afresh`.
    """

    n_steps: int
    score: float
    per_step: float
    afresh: bool


class _Block:
    """What has gathered since the last block."""

    def __init__(self) -> None:
        self.frame, self.t_s, self.n_frames = -1, 0.0, 0  # of its first frame; how many
        self.n_rows = 0  # spots or steps
        self.total, self.information = 0.0, 0.0
        self.figures: list[Array] = []

    def see(self, spots: Spots) -> None:
        """Count one frame."""
        if self.n_frames == 0:
            self.frame, self.t_s = spots.frame, spots.t_s
        self.n_frames += 1


class Watch:
    """Five numbers of the stream and the alarms that they raise.

    Parameters
    ----------
    interval_s : float
        Nominal time between frames.
    false_alarms_per_hour : float
        Of all five together; 0 raises none.
    """

    def __init__(self, interval_s: float, false_alarms_per_hour: float) -> None:
        self._frames = max(BLOCK_FRAMES, round(BLOCK_S / interval_s))
        per_look = false_alarms_per_hour * self._frames * interval_s / 3600 / len(NAMES)
        self._series = {name: Series(min(0.5, OVERLAP * per_look)) for name in NAMES}
        self._starts = {name: deque[_Block](maxlen=int(WINDOWS[-1])) for name in NAMES}
        self._silent = false_alarms_per_hour <= 0
        self._density, self._light, self._motion = _Block(), _Block(), _Block()

    def step(self, spots: Spots, pace: Pace) -> dict[str, Event]:
        """Take one frame; return what has changed, by the name of the number."""
        if self._silent:
            return {}
        good = spots.table["status"] == OK
        n = int(np.count_nonzero(good))
        table = spots.table if n == good.size else spots.table[good]
        found = self._see_motion(spots, pace) | self._see_density(spots, n)
        return found | self._see_light(spots, table)

    def forget_motion(self) -> None:
        """Begin to watch D anew, because the model does."""
        self._motion = _Block()
        self._series["D"].clear()
        self._starts["D"].clear()

    def _see_density(self, spots: Spots, n: int) -> dict[str, Event]:
        """Root of the count: its variance is one for independent molecules."""
        block = self._density
        block.see(spots)
        block.n_rows += n
        block.total += 2 * np.sqrt(n + 0.375)
        if block.n_frames < self._frames:
            return {}
        self._density = _Block()
        root = block.total / block.n_frames
        return self._look("density", spots, block, (root, 1.0, root * LEAST / 2))

    def _see_light(self, spots: Spots, good: NDArray[np.void]) -> dict[str, Event]:
        """Medians over all spots of a block, as logarithms."""
        block = self._light
        block.see(spots)
        if len(good):
            figures = np.empty((len(LIGHT), len(good)))
            np.add(good["var_x_um2"], good["var_y_um2"], out=figures[0])
            figures[1], figures[2] = good["photons"], good["bg_photons"]
            block.figures.append(figures)
            block.n_rows += len(good)
        if block.n_frames < self._frames or block.n_rows < BLOCK_SPOTS:
            return {}
        self._light = _Block()
        figures = np.hstack(block.figures)
        figures[0] = np.sqrt(figures[0] / 2)
        low, median, high = np.percentile(figures, (25, 50, 75), axis=1)
        low, median, high = (np.log(np.maximum(q, SMALL)) for q in (low, median, high))
        per_frame = max(1.0, block.n_rows / block.n_frames)
        spread = MEDIAN * ((high - low) / QUARTILES) ** 2 / per_frame
        events: dict[str, Event] = {}
        for i, name in enumerate(LIGHT):
            seen = (float(median[i]), float(spread[i]), LEAST)
            events |= self._look(name, spots, block, seen)
        return events

    def _see_motion(self, spots: Spots, pace: Pace) -> dict[str, Event]:
        """Score over information, y: the relative change of D that the block asks for.

        As the cube root of 1 + y, which takes the skewness off squared steps (Wilson and Hilferty).
        """
        if pace.afresh:
            self.forget_motion()
        block = self._motion
        block.see(spots)
        block.n_rows += pace.n_steps
        block.total += pace.score
        block.information += pace.n_steps * pace.per_step
        if block.n_frames < self._frames or block.n_rows < BLOCK_SPOTS:
            return {}
        self._motion = _Block()
        root = 3 * np.cbrt(max(1 + block.total / block.information, 0.0))
        seen = (root, 1 / block.information, root * LEAST / 3)
        return self._look("D", spots, block, seen)

    def _look(
        self, name: str, spots: Spots, block: _Block, seen: tuple[float, float, float]
    ) -> dict[str, Event]:
        starts = self._starts[name]
        block.figures.clear()
        starts.append(block)
        change = self._series[name].add(*seen)
        if change is None:
            return {}
        first = starts[-change.n_blocks]
        n_frames = spots.frame - first.frame + 1
        return {name: Event("changed", first.t_s, first.frame, n_frames, message(name, change))}


def message(name: str, change: Change) -> str:
    """Say in one line what has changed, from what, to what."""
    before, after = _plain(name, change.before), _plain(name, change.after)
    verb = "rose" if after > before else "fell"
    share = 100 * after / max(before, 1e-9)
    to = f"{verb} to {share:.0f} %"
    if name == "D":
        return f"D {to} of what it was (all states together)"
    if name == "density":
        return f"density {to}: {before:.3g} -> {after:.3g} spots a frame"
    if name == "precision":
        better = "worse" if after > before else "better"
        return (
            f"precision became {better}: s.d. {1e3 * before:.3g} -> {1e3 * after:.3g} nm (median)"
        )
    if name == "photons":
        return f"photons {to}: {before:.3g} -> {after:.3g} a spot (median)"
    return f"background {to}: {before:.3g} -> {after:.3g} photons a pixel (median)"


def _plain(name: str, level: float) -> float:
    """Turn a level of a series into the number that a person knows."""
    if name == "D":
        return (level / 3) ** 3
    if name == "density":
        return max((level / 2) ** 2 - 0.375, 0.0)
    return float(np.exp(level))
