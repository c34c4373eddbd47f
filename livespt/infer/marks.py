"""Marks that the user sets: bleached so far, too dense, out of focus, not precise enough.

A mark is passed when a mean over `WINDOW` blocks of the watch (4 s or so) lies beyond it: one noisy
frame, or a second in which many molecules blink, passes none. It is told once, and again only after
the level has come half of the way back (in ratio), so that a level that lingers at a mark is told
once.

Two kinds of marks:

- relative to the start (molecules that shine, width of the spots): the level is the ratio of two
  means, now and over the first `START` blocks. Such a mark waits until it is sure that the level is
  no longer that of the start: the alarm of its number has told so, or the two means are further
  apart than two samples of as many molecules may be (judge B of `series`, which no slow drift
  deceives). Where nothing has changed, these marks together are false no more often than the
  alarms together may be, however few molecules there are.
- of a level in itself (wrong links, precision).

The share of wrong links is what the linker itself expects: the mean of 1 - `p_link` over all linked
spots. It knows of density, motion, precision and blinking together; a number of spots does not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from livespt.sections import WatchConfig

#: Blocks of the watch that make the level at the start, and the level now.
START, WINDOW = 8, 16
#: Neighbouring looks share all but one of their blocks: so many count as one.
OVERLAP = WINDOW / 3
#: Mark -> the number whose alarm it waits for, and the direction (1: up) that this must tell.
WAITS_FOR = {"bleached": ("density", -1), "defocused": ("width", 1)}
#: Mark -> the number whose blocks it takes.
BLOCKS_OF = {"bleached": "density", "dense": "density", "defocused": "width",
             "imprecise": "precision"}  # fmt: skip


class Block(NamedTuple):
    """What a block says: the level is the sum of totals over the sum of weights.

    `value` is the same on the scale of the alarms, `spread` its variance there if all frames showed
    the same molecules; a mark of a level in itself needs neither.
    """

    total: float
    weight: float
    value: float = 0.0
    spread: float = 0.0


class Passed(NamedTuple):
    """A mark that was passed: level at the start and now, and over how many blocks."""

    before: float
    after: float
    n_blocks: int


class Mark:
    """One mark, and whether it is passed.

    Parameters
    ----------
    at : float
        Where it lies: a ratio to the start, or a level.
    of_start : bool
        Whether `at` is a ratio to the level at the start.
    alpha : float
        Allowed error of one look.
    """

    def __init__(self, at: float, *, of_start: bool, alpha: float) -> None:
        self._at, self._of_start, self._z = at, of_start, -float(ndtri(alpha))
        self._rises = not of_start or at > 1
        # half of the way back in ratio: to the start, or to a level a quarter lower
        self._back_at = at**0.5 if of_start else at * 0.75
        self._first: list[Block] = []
        self._recent: deque[Block] = deque(maxlen=WINDOW)
        self._passed = False

    def add(self, block: Block, *, told: bool) -> Passed | None:
        """Take one block; return what was passed, if the mark is passed now.

        `told`: an alarm has told that the level left that of the start, in the mark's direction.
        """
        if len(self._first) < START:
            self._first.append(block)
            return None
        self._recent.append(block)
        before, after = _level(self._first), _level(self._recent)
        if len(self._recent) < WINDOW or (self._of_start and before <= 0):
            return None
        now = after / before if self._of_start else after
        if self._passed:
            self._passed = self._is_beyond(now, self._back_at)
            return None
        if not self._is_beyond(now, self._at) or not (told or self._is_sure()):
            return None
        self._passed = True
        return Passed(before, after, WINDOW)

    def _is_sure(self) -> bool:
        """Whether the level is certainly not that of the start; for a level in itself no matter."""
        if not self._of_start:
            return True
        first, recent = np.mean(self._first, axis=0), np.mean(self._recent, axis=0)
        apart = abs(float(recent[2] - first[2]))
        return apart > self._z * float(np.sqrt(first[3] + recent[3]))

    def _is_beyond(self, level: float, mark: float) -> bool:
        return level >= mark if self._rises else level <= mark


def marks_of(config: WatchConfig, per_look: float) -> dict[str, Mark]:
    """Return the marks that are set, by name; `per_look` is the false alarms allowed per block."""
    set_to = {
        "bleached": config.bleached_to,
        "dense": config.dense_above,
        "defocused": 1 + config.focus_lost if config.focus_lost else 0.0,
        "imprecise": config.imprecise_above_um,
    }
    n_relative = sum(set_to[name] > 0 for name in WAITS_FOR)
    alpha = min(0.5, OVERLAP * per_look / max(n_relative, 1))
    return {
        name: Mark(at, of_start=name in WAITS_FOR, alpha=alpha)
        for name, at in set_to.items()
        if at > 0
    }


def passed_message(name: str, passed: Passed) -> str:
    """Say in one line which mark was passed."""
    before, after = passed.before, passed.after
    share = 100 * after / max(before, 1e-9)
    if name == "bleached":
        return f"bleached to {share:.0f} %: {before:.3g} -> {after:.3g} spots a frame"
    if name == "dense":
        return f"too dense to link surely: {100 * after:.2g} % of the links are probably wrong"
    if name == "defocused":
        wide_nm = f"{1e3 * before:.3g} -> {1e3 * after:.3g} nm"
        return f"out of focus: spots {share - 100:.0f} % wider than at the start, {wide_nm}"
    return f"precision is poor: s.d. {1e3 * after:.3g} nm (median)"


def _level(blocks: Iterable[Block]) -> float:
    return sum(b.total for b in blocks) / max(sum(b.weight for b in blocks), 1e-12)
