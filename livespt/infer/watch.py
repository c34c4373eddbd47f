"""Alarms: the sample, the light or the focus has changed.

Six numbers are watched, each a `Series` of blocks of a quarter of a second or so: D (the score of
the motion model in the direction in which all states diffuse faster), the number of spots, their
reported precision, photons, background and width. The user says how many false alarms an hour may
bring, and the six share them. Beside them stand the marks that the user sets (`marks`).

After an alarm the new level is the one to compare with: a density that falls slowly, as molecules
bleach, is told each time that it has fallen clearly, with how far, and not in every frame.
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from livespt.infer.arrays import Array
from livespt.infer.framekernels import (
    DOUBT,
    LANES_FROM,
    LEAST_LN,
    N_BINS,
    N_GOOD,
    N_LINKS,
    N_SAID,
    N_WIDTHS,
    PER_UNIT,
    WIDTH,
    tally,
)
from livespt.infer.marks import BLOCKS_OF, WAITS_FOR, Block, marks_of, passed_message
from livespt.infer.plain import plain
from livespt.infer.series import LEAST, WINDOWS, Change, Series
from livespt.sections import WatchConfig
from livespt.types import SPOT_DTYPE, Event, Links, Spots

#: A block: at least so long, so many frames, and for what spots or steps tell so many of these.
#: Blocks of fewer would be of unequal weight, and scatter with longer tails than a normal number.
BLOCK_S, BLOCK_FRAMES, BLOCK_SPOTS = 0.25, 5, 60
#: Looks overlap in their data: so many times the error that they would be allowed singly still
#: brings fewer false alarms than asked for (0 of 30 and 14 of 40 in half an hour and more of
#: `tests/statistics/watch_scene.py`, with 30 and with 5 molecules).
OVERLAP = 4.0
#: Quartiles of a normal distribution lie so many s.d. apart; variance of a median over a mean's.
QUARTILES, MEDIAN = 1.349, np.pi / 2
#: In the order of the tallies' rows.
LIGHT = ("precision", "photons", "background", "width")
NAMES = ("D", "density", *LIGHT)
NO_LINKS = np.empty(0, np.int64), np.empty(0)
#: Marks of a level that a median of the light tells.
LEVELS = {"precision": "imprecise", "width": "defocused"}
#: Percent beyond which nobody wants the number: of what stood still.
MANY = 10_000
#: Marks are judged at this rate where no alarms are wanted.
MARKS_PER_HOUR = 0.1


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
        self.n_links, self.doubt = 0.0, 0.0  # links, and how many of them are expected to be wrong
        self.n_widths = 0.0

    def see(self, spots: Spots) -> None:
        """Count one frame."""
        if self.n_frames == 0:
            self.frame, self.t_s = spots.frame, spots.t_s
        self.n_frames += 1


class Watch:
    """Six numbers of the stream, the alarms that they raise, and the marks that they pass.

    Parameters
    ----------
    interval_s : float
        Nominal time between frames.
    config : WatchConfig
        False alarms per hour, of all six together (0 raises none), and marks.
    """

    def __init__(self, interval_s: float, config: WatchConfig) -> None:
        self._frames = max(BLOCK_FRAMES, round(BLOCK_S / interval_s))
        self._silent = config.false_alarms_per_hour <= 0
        per_hour = MARKS_PER_HOUR if self._silent else config.false_alarms_per_hour
        per_look = per_hour * self._frames * interval_s / 3600
        self._series = {name: Series(min(0.5, OVERLAP * per_look / len(NAMES))) for name in NAMES}
        self._starts = {name: deque[_Block](maxlen=int(WINDOWS[-1])) for name in NAMES}
        self._density, self._light, self._motion = _Block(), _Block(), _Block()
        self._counts = np.zeros((len(LIGHT), N_BINS), np.int32)  # of the block of light
        self._said = np.zeros(N_SAID)
        self._marks = marks_of(config, per_look)
        self._wanted = not self._silent or bool(self._marks)
        self._told: set[tuple[str, int]] = set()  # changes by alarms: number, 1 up or -1 down

    @property
    def tallies(self) -> tuple[NDArray[np.int32], Array]:
        """What `framekernels.tally` writes a frame into, before `see`; without rows if unwanted."""
        return (self._counts if self._wanted else self._counts[:0]), self._said

    def step(self, spots: Spots, pace: Pace, links: Links | None = None) -> dict[str, Event]:
        """Take one frame; return what has changed or was passed, by its name."""
        linked = NO_LINKS if links is None else (links.track_id, links.p_link)
        track_id, p_link = plain(linked[0], np.int64), plain(linked[1], np.float64)
        tally(plain(spots.table, SPOT_DTYPE), track_id, p_link, *self.tallies)
        return self.see(spots, pace)

    def see(self, spots: Spots, pace: Pace) -> dict[str, Event]:
        """Take one frame whose light is tallied; return as `step` does."""
        if not self._wanted:
            return {}
        told = self._said[:LANES_FROM].tolist()
        found = self._see_motion(spots, pace)
        for each in (self._see_density(spots, told), self._see_light(spots, told)):
            if each:
                found |= each
        if self._silent and found:
            return {name: event for name, event in found.items() if event.kind == "mark"}
        return found

    def forget_motion(self) -> None:
        """Begin to watch D anew, because the model does."""
        self._motion = _Block()
        self._series["D"].clear()
        self._starts["D"].clear()

    def _see_density(self, spots: Spots, told: list[float]) -> dict[str, Event]:
        """Root of the count: its variance is one for independent molecules."""
        block = self._density
        block.see(spots)
        block.n_rows += int(told[N_GOOD])
        block.total += 2 * math.sqrt(told[N_GOOD] + 0.375)
        block.n_links += told[N_LINKS]
        block.doubt += told[DOUBT]
        if block.n_frames < self._frames:
            return {}
        self._density = _Block()
        root = block.total / block.n_frames
        found = self._look("density", spots, block, (root, 1.0, root * LEAST / 2))
        found |= self._reach("bleached", spots, Block(block.n_rows, block.n_frames, root, 1.0))
        return found | self._reach("dense", spots, Block(block.doubt, block.n_links))

    def _see_light(self, spots: Spots, told: list[float]) -> dict[str, Event]:
        """Medians over all spots of a block, as logarithms."""
        block = self._light
        block.see(spots)
        block.n_rows += int(told[N_GOOD])
        block.n_widths += told[N_WIDTHS]
        if block.n_frames < self._frames or block.n_rows < BLOCK_SPOTS:
            return {}
        self._light = _Block()
        events: dict[str, Event] = {}
        for row, name in enumerate(LIGHT):
            if row == WIDTH and block.n_widths < BLOCK_SPOTS // 2:
                continue
            median, spread = _median(self._counts[row], block.n_frames)
            events |= self._look(name, spots, block, (median, spread, LEAST))
            level = Block(math.exp(median), 1.0, median, spread)
            if name in LEVELS:
                events |= self._reach(LEVELS[name], spots, level)
        self._counts[:] = 0
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
        starts.append(block)
        change = self._series[name].add(*seen)
        if change is None:
            return {}
        self._told.add((name, 1 if change.after > change.before else -1))
        before, after = _plain(name, change.before), _plain(name, change.after)
        said = (message(name, change), name, before, after)
        return {name: Event("changed", *_since(starts[-change.n_blocks], spots), *said)}

    def _reach(self, name: str, spots: Spots, block: Block) -> dict[str, Event]:
        """Take what a block says to the mark of that name, if it is set."""
        mark = self._marks.get(name)
        if mark is None:
            return {}
        passed = mark.add(block, told=WAITS_FOR.get(name) in self._told)
        if passed is None:
            return {}
        first = self._starts[BLOCKS_OF[name]][-passed.n_blocks]
        said = (passed_message(name, passed), name, passed.before, passed.after)
        return {name: Event("mark", *_since(first, spots), *said)}


def _since(block: _Block, spots: Spots) -> tuple[float, int, int]:
    """Return when a block began, its first frame, and how many frames there are since then."""
    return block.t_s, block.frame, spots.frame - block.frame + 1


def _median(counts: NDArray[np.int32], n_frames: int) -> tuple[float, float]:
    """Return the log of a tally's median, and its variance if all frames had the same spots."""
    low, median, high = quartiles(counts).tolist()
    per_frame = max(1.0, float(counts.sum()) / n_frames)
    return median, MEDIAN * ((high - low) / QUARTILES) ** 2 / per_frame


def quartiles(counts: NDArray[np.int32]) -> Array:
    """Return the logarithms of the quartiles of what was counted, to half a bin."""
    up_to = np.cumsum(counts)
    rank = np.array([0.25, 0.5, 0.75]) * (up_to[-1] - 1)
    at = np.searchsorted(up_to, rank, side="right")
    within = (rank + 0.5 - (up_to - counts)[at]) / counts[at]
    return LEAST_LN + (at + within) / PER_UNIT


def message(name: str, change: Change) -> str:
    """Say in one line what has changed, from what, to what."""
    before, after = _plain(name, change.before), _plain(name, change.after)
    verb = "rose" if after > before else "fell"
    share = 100 * after / max(before, 1e-9)
    to = f"{verb} to {share:.0f} %" if share < MANY else f"{verb} to more than {MANY} %"
    if name == "D":
        return f"D {to} of what it was (all states together)"
    if name == "density":
        return f"density {to}: {before:.3g} -> {after:.3g} spots a frame"
    if name == "precision":
        better = "worse" if after > before else "better"
        return (
            f"precision became {better}: s.d. {1e3 * before:.3g} -> {1e3 * after:.3g} nm (median)"
        )
    if name == "width":
        return f"width {to}: {1e3 * before:.3g} -> {1e3 * after:.3g} nm (median)"
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
