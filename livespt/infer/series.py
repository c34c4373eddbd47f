"""One watched number of the stream, and when it has left the level that it had.

Values come in blocks of some frames. At each new block the mean over the last w blocks, w = 1, 2,
4 ... 64, is compared with the mean over all blocks before them: the generalised likelihood ratio
for a step at an unknown time to an unknown level, limited to windows (Lai 1995). What a mean of w
blocks scatters by is judged in two ways, either of which may find the change, each with half of
the allowed error:

A. from the blocks themselves, by their variance and their correlation over 1, 2, 4 ... 64 blocks
   (molecules blink within a second and bleach within minutes: no single time describes them):
   Student's t with as many degrees of freedom as the past has independent blocks;
B. from the spread between molecules within a frame: even if every frame showed the same
   molecules, a mean over independent molecules scatters by no more. Where blocks a few seconds
   apart differ by more than that (a lamp that flickers), by what they do; a level that falls all
   the time, as molecules bleach, is not taken for such scatter.

A change must exceed `LEAST` by so much, so that what is true but no news is not told.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from livespt.infer.arrays import Array, Ints

#: Windows that are compared with the past, and lags whose correlation is known, in blocks.
WINDOWS: Array = np.exp2(np.arange(7, dtype=np.float64))
LAGS = 2 ** np.arange(7)
#: Fewer blocks than this are no past to compare with; more than this are forgotten by halves.
LEAST_PAST, MOST_BLOCKS = 8, 1 << 15
#: The past is at least so many times as long as the window, and as a lag of its correlation.
TIMES = 4
#: Index into `LAGS`: blocks so far apart tell fluctuation from a level that goes one way.
APART = 4
#: Fewest degrees of freedom at which the blocks may judge themselves.
LEAST_FREEDOM = 4.0
#: Relative changes up to this are no news.
LEAST = 0.05
_Y, _Y2, _SPREAD, _PRODUCT = 0, 1, 2, 3


class Change(NamedTuple):
    """A step that was found: level before and after, and over how many blocks it has lasted."""

    before: float
    after: float
    n_blocks: int


class Series:
    """The blocks of one number since its last change; memory is bounded.

    Parameters
    ----------
    alpha : float
        Allowed error of one look (all windows together).
    """

    def __init__(self, alpha: float) -> None:
        self._q = alpha / (2 * 2 * WINDOWS.size)  # two judges, two sides
        self._sums = np.zeros((64, _PRODUCT + LAGS.size))  # running sums, see `_append`
        self._values = np.zeros(64)
        self._n = 0

    @property
    def n_blocks(self) -> int:
        """Blocks since the last change."""
        return self._n

    def clear(self) -> None:
        """Forget all."""
        self._n = 0

    def add(self, value: float, spread: float, least: float) -> Change | None:
        """Take one block; return the change that it shows, if any, and start anew from there.

        Parameters
        ----------
        value : float
            Mean over the block.
        spread : float
            Variance that the block would have if all its frames showed the same molecules.
        least : float
            Difference that is no news.
        """
        self._append(value, spread)
        windows = WINDOWS[self._n - np.maximum(LEAST_PAST, TIMES * WINDOWS) >= WINDOWS]
        if windows.size == 0:
            return None
        past = (self._n - windows).astype(np.intp)
        total, before = self._sums[self._n], self._sums[past]
        level = before[:, _Y] / past
        recent = (total[_Y] - before[:, _Y]) / windows
        found: NDArray[np.bool_] = np.abs(recent - level) - least > self._bound(past, windows)
        if not found.any():
            return None
        best = int(np.flatnonzero(found)[0])
        n = int(windows[best])
        first = self._values[0]
        self._restart(n)
        return Change(float(first + level[best]), float(first + recent[best]), n)

    def _bound(self, past: Ints, windows: Array) -> Array:
        """Return how far the mean over each window may lie from the mean over its past."""
        before = self._sums[past]
        mean = before[:, _Y] / past
        variance = np.maximum(before[:, _Y2] / past - mean**2, 1e-300)
        r = self._correlation(past, mean, variance)
        of_past = mean_variance(past, r)
        alone = variance / np.maximum(1 - of_past, 0.05)
        freedom = 1 / of_past - 1
        t = -stdtrit(np.maximum(freedom, LEAST_FREEDOM), self._q)
        own = t * np.sqrt(alone * (mean_variance(windows, r) + of_past))
        own[freedom < LEAST_FREEDOM] = np.inf
        spread = np.maximum(before[:, _SPREAD] / past, self._unrest(past, variance))
        molecules = -ndtri(self._q) * np.sqrt(spread * (1 + of_past))
        return np.minimum(own, molecules)

    def _unrest(self, past: Ints, variance: Array) -> Array:
        """Return half the mean square difference of blocks `APART`; the variance where unknown."""
        lag, squares = int(LAGS[APART]), self._sums[:, _Y2]
        both = squares[past] - squares[min(lag, self._n)] + squares[np.maximum(past - lag, 0)]
        unrest = (0.5 * both - self._sums[past, _PRODUCT + APART]) / np.maximum(past - lag, 1)
        return np.where(past >= TIMES * lag, unrest, variance)

    def _correlation(self, past: Ints, mean: Array, variance: Array) -> Array:
        """Return the correlation of each past over `LAGS`, (windows, lags), never rising.

        It is estimated where the past is long enough, and falls exponentially from there. What a
        sample's own mean takes away from it is given back.
        """
        sums = self._sums[:, _Y]
        r = np.zeros((past.size, LAGS.size))
        for i, lag in enumerate(LAGS.tolist()):
            later, earlier = sums[past] - sums[min(lag, self._n)], sums[np.maximum(past - lag, 0)]
            product = self._sums[past, _PRODUCT + i] - mean * (later + earlier)
            product += mean**2 * (past - lag)
            last = r[:, i - 1] if i else np.ones(past.size)
            raw = np.where(past >= TIMES * lag, product / (variance * past) + 1 / past, last**2)
            r[:, i] = np.clip(raw, 0.0, last)
        lost = mean_variance(past, r)[:, None]
        return np.minimum(r + lost * (1 - r), 0.999)

    def _append(self, value: float, spread: float) -> None:
        """Add a block to the running sums: of y, y^2, the spread, and y times an earlier y.

        y counts from the first block, so that large numbers do not cancel.
        """
        if self._n == MOST_BLOCKS:
            self._restart(MOST_BLOCKS // 2)
        n = self._n
        if n + 1 >= len(self._sums):
            self._sums = np.concatenate([self._sums, np.zeros_like(self._sums)])
            self._values = np.concatenate([self._values, np.zeros_like(self._values)])
        self._values[n] = value
        y = self._values[max(0, n - int(LAGS[-1])) : n + 1] - self._values[0]
        row = self._sums[n + 1]
        row[:] = self._sums[n]
        row[:_PRODUCT] += (y[-1], y[-1] ** 2, spread)
        lags = LAGS[n >= LAGS]
        row[_PRODUCT : _PRODUCT + lags.size] += y[-1] * y[-1 - lags]
        self._n += 1

    def _restart(self, n: int) -> None:
        """Keep the last n blocks."""
        values = self._values[self._n - n : self._n].copy()
        spreads = np.diff(self._sums[self._n - n : self._n + 1, _SPREAD])
        self._n = 0
        for value, spread in zip(values.tolist(), spreads.tolist(), strict=True):
            self._append(value, spread)


def _shares() -> tuple[Array, Array]:
    """Return, for each of `LAGS`, the sums over all lags k of its share of r_k, and of k times it.

    Row n holds the sums over k < n. Between two of `LAGS` r_k is a straight line in ln k; beyond
    the last it comes to 0 at twice that lag.
    """
    k = np.arange(1, 2 * LAGS[-1])
    share = np.maximum(0.0, 1 - np.abs(np.log2(k)[:, None] - np.log2(LAGS)))
    sums = np.zeros((2, k.size + 1, LAGS.size))
    sums[0, 1:], sums[1, 1:] = np.cumsum(share, axis=0), np.cumsum(k[:, None] * share, axis=0)
    return sums[0], sums[1]


_SHARE, _TIMED = _shares()


def mean_variance(n: Array | Ints, r: Array) -> Array:
    """Return the variance of a mean of n values of unit variance and correlation r (n, lags)."""
    at = np.minimum(np.asarray(n, dtype=np.intp), len(_SHARE)) - 1
    sums = (_SHARE[at] * r).sum(axis=1) - (_TIMED[at] * r).sum(axis=1) / n
    return (1 + 2 * sums) / n
