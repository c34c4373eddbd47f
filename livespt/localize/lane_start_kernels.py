# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""Where spots without a detection start: the moments of their light under a window.

Under a Gaussian of twice a spot's variance about the region's middle (`w`, the same along both
axes), the light L = sum w w d, its centroid and its mean squared distance T2/L say where a spot is,
how bright and how wide; the border's mean says what lies below. Each is read as a straight line
about a spot in the middle with the width that is expected, whose slopes `start.make_start` finds
from the spot itself. A centroid's own square is taken off first: it dims and widens what is seen.

Rows: `lane_kernels`. Sixteen spots at a time.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from livespt.jit import kernel_of_lanes, lanes
from livespt.localize.lane_kernels import HALF, LANES, ONE, PIXELS, ROW, TWO, ZERO, B, N, S, X, Y
from livespt.vectors import SINGLES, address, least, load, most, spread, store

_F = np.float32
_LEAST_BG, _WIDEST_STEP = _F(0.05), _F(0.3)


class Start(NamedTuple):
    """A window and what a spot of one photon gives under it, in float32; distances in px.

    `along` holds `side` numbers each: w, w times the distance from the middle, and times its
    square. "per width" is the slope in sigma, "per shift" that in the centroid's square.
    """

    along: np.ndarray  # (3 * side,)
    sigma_px: float
    under: float  # the window's sum, and its mean squared distance times that
    under_2: float
    light: float  # L, T2/L and light of a pixel of the border
    spread: float
    stray: float
    per_spread: float  # the width's change with T2/L, less than all of it: light is noisy
    light_per_width: float  # of its logarithm
    stray_per_width: float
    place: float  # the centre's distance over the centroid's
    light_per_shift: float
    spread_per_shift: float
    stray_per_shift: float


@lanes
def seen(p, at, side):
    """Return a pixel's light with what all have in common."""
    return load(p, at) - load(p, at + np.uint64(side * LANES))


@lanes
def border_mean(p, k, side):
    """Return the mean light of the border's pixels."""
    line = np.uint64(2 * side * LANES)
    first, last = PIXELS + k, np.uint64((side - 1) * LANES)
    s, t = spread(ZERO), spread(ZERO)
    for _ in range(side):
        s += seen(p, first, side)
        t += seen(p, first + np.uint64(side - 1) * line, side)
        first += ROW
    at = PIXELS + k
    for _ in range(1, side - 1):
        at += line
        s += seen(p, at, side)
        t += seen(p, at + last, side)
    return (s + t) * (ONE / _F(4 * side - 4))


@lanes
def moments(p, k, side, along):
    """Return light, its sums of distances along x and y, and that of squared distances."""
    light, to_x, to_y, apart = spread(ZERO), spread(ZERO), spread(ZERO), spread(ZERO)
    at, n = PIXELS + k, np.uint64(side)
    for i in range(n):
        line, first, second = spread(ZERO), spread(ZERO), spread(ZERO)
        for j in range(n):
            value = seen(p, at, side)
            line += along[j] * value
            first += along[n + j] * value
            second += along[n + n + j] * value
            at += ROW
        at += np.uint64(side * LANES)
        light += along[i] * line
        to_x += along[i] * first
        to_y += along[n + i] * line
        apart += along[i] * second + along[n + n + i] * line
    return light, to_x, to_y, apart


@lanes
def within(v, limit):
    """Return numbers cut to +- a number."""
    return least(most(v, spread(-limit)), spread(limit))


@kernel_of_lanes
def guess_load(w, n, side, common, start):
    """Fill the starts of a load of `n` spots."""
    p, middle = address(w), HALF * _F(side - 1)
    for first in range(0, n, SINGLES):
        k = np.uint64(first)
        bg = border_mean(p, k, side)
        light, to_x, to_y, apart = moments(p, k, side, start.along)
        light = most(light - bg * start.under, spread(_F(10.0) * start.light))
        per = ONE / light
        to_x, to_y = per * to_x, per * to_y
        shift = to_x * to_x + to_y * to_y
        wider = (apart - bg * start.under_2) * per - start.spread - start.spread_per_shift * shift
        wider = within(start.per_spread * wider, _WIDEST_STEP * start.sigma_px)
        light = light * (ONE - start.light_per_width * wider - start.light_per_shift * shift)
        photons = most(light * (ONE / start.light), spread(_F(10.0)))
        stray = start.stray + start.stray_per_width * wider + start.stray_per_shift * shift
        store(p, X + k, middle + within(start.place * to_x, TWO))
        store(p, Y + k, middle + within(start.place * to_y, TWO))
        store(p, N + k, photons)
        store(p, B + k, most(bg - common - photons * stray, spread(_LEAST_BG)))
        store(p, S + k, start.sigma_px + wider)
