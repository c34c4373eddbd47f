"""The arithmetic of `livespt.localize.crowd`: neighbours counted, and histograms folded."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from livespt.jit import brief_kernel, kernel

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
U1 = NDArray[np.uint8]

# of a row of `SPOT_DTYPE`, as numbers
_X, _Y, _VAR_X, _VAR_Y, _PHOTONS = 0, 1, 2, 3, 5


@brief_kernel
def gather(
    rows: F8, status: U1, guided: U1, ok: int, which: I8, spots: F8
) -> tuple[int, float, float, float, float]:
    """Fill in x, y and photons (3, n) of the good spots that were found blind, and their rows.

    Return how many there are, their least x and y, and their greatest.
    """
    n, left, top, right, bottom = 0, np.inf, np.inf, -np.inf, -np.inf
    for k in range(which.size):
        if status[k] != ok or guided[k]:
            continue
        x, y = rows[k, _X], rows[k, _Y]
        which[n] = k
        spots[0, n], spots[1, n], spots[2, n] = x, y, rows[k, _PHOTONS]
        left, top, right, bottom = min(left, x), min(top, y), max(right, x), max(bottom, y)
        n += 1
    return n, left, top, right, bottom


@brief_kernel
def add_variance(p: F8, least_p: float, variance: float, which: I8, rows: F8) -> None:
    """Add to both variances of the rows `which` what their spots' probability to be two asks."""
    for k in range(p.size):
        if p[k] >= least_p:
            rows[which[k], _VAR_X] += p[k] * variance
            rows[which[k], _VAR_Y] += p[k] * variance


@brief_kernel
def count_others(x: F8, y: F8, corner: tuple[float, float], side: float, count: I8) -> float:
    """Return the mean number of others in a spot's own square, and fill in how many are in each.

    `count` (rows, columns) begins at `corner` and holds zeros.
    """
    for i in range(x.size):
        count[int((y[i] - corner[1]) / side), int((x[i] - corner[0]) / side)] += 1
    total = 0
    for row in range(count.shape[0]):
        for column in range(count.shape[1]):
            total += count[row, column] * (count[row, column] - 1)
    return total / x.size


@brief_kernel
def probabilities(
    photons: F8, share: float, width: float, brighter: I8, rounds: int, work: F8, p: F8
) -> None:
    """Fill in the probability of each spot to be two molecules (see `crowd`).

    `work` (5, bins) is scratch; `width` is that of a bin of ln(photons). Two spots d bins apart
    add up to one that is `brighter[d]` bins above the brighter one.
    """
    bins, top = work.shape[1], 0.0
    for i in range(photons.size):
        top = max(top, photons[i])
    top = math.log(max(top, 1.0))
    work[:] = 0.0
    f, f1, f2, smooth, p_bin = work[0], work[1], work[2], work[3], work[4]
    for i in range(photons.size):
        smooth[_bin(photons[i], top, width, bins)] += 1.0 / photons.size
    _smooth(smooth, f)
    for _ in range(rounds):
        total = 0.0
        for a in range(bins):
            f1[a] = (1.0 - p_bin[a]) * f[a]
            total += f1[a]
        f2[:] = 0.0
        _fold(f1, 1.0 / total, brighter, f2)
        _smooth(f2, smooth)
        for a in range(bins):
            p_bin[a] = min(1.0, share * smooth[a] / max(f[a], 1e-12))
    for i in range(photons.size):
        p[i] = p_bin[_bin(photons[i], top, width, bins)]


@kernel
def _bin(photons: float, top: float, width: float, bins: int) -> int:
    """Return the bin of ln(photons), the last one being that of `top`."""
    below = math.floor((math.log(max(photons, 1.0)) - top) / width + 0.5)
    return max(int(below) + bins - 1, 0)


@kernel
def _fold(f1: F8, scale: float, brighter: I8, f2: F8) -> None:
    """Add up the distribution of ln(e^a + e^b), a and b from `f1` times `scale`."""
    bins = f1.size
    for a in range(bins):
        if f1[a] == 0.0:
            continue
        for b in range(a + 1):
            if f1[b] > 0.0:
                to = a + brighter[a - b]
                if to < bins:
                    f2[to] += (1.0 if a == b else 2.0) * f1[a] * f1[b] * scale * scale


@kernel
def _smooth(f: F8, out: F8) -> None:
    """Smooth a histogram by about one bin; what runs over an end is lost."""
    n = f.size
    for i in range(n):
        out[i] = 0.5 * f[i]
        if i > 0:
            out[i] += 0.25 * f[i - 1]
        if i < n - 1:
            out[i] += 0.25 * f[i + 1]
