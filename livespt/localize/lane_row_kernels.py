# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""One line of sixteen spots' regions, added to the spots' gradients and informations.

Theory and rows: `lane_kernels`; values of sixteen numbers: `livespt.vectors`. The fourteen sums of
a line stay in registers over its columns; the line's own factors y0, y1, y2 enter once at its end
(row-factored Fisher sums).

A pixel comes with its score r and its information i: shifted Poisson here, r = d/mu - 1 and
i = 1/mu; read from the camera's table in `lane_table_kernels`.

The log-likelihood of shifted Poisson data is d ln mu - mu - ln d! (d need not be an integer),
written as what mu = d would give less the deviance, so that nothing large cancels: the deviance's
half is mu - d + d ln(d/mu), and d/mu is at hand. The first part is -ln(2 pi d + r)/2, with r = 1 at
d = 0, 1.1 near 1 and pi/3 far above (as Stirling has it), drawn by straight lines: good to 0.01 for
d < 1 and to 0.0005 above. Its logarithms are left to the product of all pixels.

Symbols: r0 = sum r x0, q01 = sum i x0 x1, and so on; s and t the sums of one line and their tuple.
"""

from __future__ import annotations

import numpy as np

from livespt.jit import kernel_of_lanes, lanes
from livespt.localize.lane_kernels import (
    ADDED,
    ALONG_X,
    ALONG_Y,
    INFO,
    LANES,
    LINE,
    LOGLIK,
    ONE,
    PER_WIDTH,
    PIXELS,
    ROW,
    SCORE,
    SUMS,
    TWO,
    ZERO,
    N,
    gather_spread,
    log_each,
    spread_of,
)
from livespt.vectors import SINGLES, load, spread, store

# where each sum stands: gradient, then upper triangle of the information, over x, y, N, b, sigma
GX, GY, GN, GB, GS = (SUMS + np.uint64(k * LANES) for k in range(5))
XX, XY, XN, XB, XS = (SUMS + np.uint64(k * LANES) for k in range(5, 10))
YY, YN, YB, YS = (SUMS + np.uint64(k * LANES) for k in range(10, 14))
NN, NB, NS, BB, BS, SS = (SUMS + np.uint64(k * LANES) for k in range(14, 20))
# sums of scores times second derivatives: in x; x, y; x, sigma; y, sigma; sigma
BENT_X, BENT_XY, BENT_XS, BENT_YS, BENT_S = (SUMS + np.uint64(k * LANES) for k in range(20, 25))
_2, _3, _4, _5, _6, _7, _8, _9, _10, COLUMN = (np.uint64(k * LANES) for k in range(2, 12))


@lanes
def nothing():
    """Return the sums of no pixel."""
    z = spread(ZERO)
    return z, z, z, z, z, z, z, z, z, z, z, z, z, z


@lanes
def inverses(a, b):
    """Return 1/a and 1/b by one division: the divider is slower than all else."""
    both = ONE / (a * b)
    return b * both, a * both


@lanes
def add_pixel(p, k, j, t):
    """Add the pixel of column `j`, its score and information at hand, to the sums `t`."""
    s, r0, r1, r2, i, i0, i1, i2, q00, q01, q02, q11, q12, q22 = t
    at, x = np.uint64(j * LANES) + k, ALONG_X + np.uint64(j) * COLUMN + k
    score, info = load(p, SCORE + at), load(p, INFO + at)
    x0, x1, x2 = load(p, x), load(p, x + ROW), load(p, x + _2)
    return (
        s + score,
        r0 + score * x0,
        r1 + score * x1,
        r2 + score * x2,
        i + info,
        i0 + info * x0,
        i1 + info * x1,
        i2 + info * x2,
        q00 + info * load(p, x + _3),
        q01 + info * load(p, x + _4),
        q02 + info * load(p, x + _5),
        q11 + info * load(p, x + _6),
        q12 + info * load(p, x + _7),
        q22 + info * load(p, x + _8),
    )


@lanes
def add_to(p, at, v):
    """Add to what lies there."""
    store(p, at, load(p, at) + v)


@lanes
def add_line(p, k, y, t):
    """Add a line's sums, times its factors at `y`, to those of the spots from `k` on.

    Factors of N and sigma apart.
    """
    s, r0, r1, r2, i, i0, i1, i2, q00, q01, q02, q11, q12, q22 = t
    y0, y1, y2 = load(p, y), load(p, y + ROW), load(p, y + _2)
    square = y0 * y0
    mixed = y0 * q02 + y2 * q00
    add_to(p, GX + k, y0 * r1)
    add_to(p, GY + k, y1 * r0)
    add_to(p, GN + k, y0 * r0)
    add_to(p, GB + k, s)
    add_to(p, GS + k, y0 * r2 + y2 * r0)
    add_to(p, XX + k, square * q11)
    add_to(p, XY + k, y0 * y1 * q01)
    add_to(p, XN + k, square * q01)
    add_to(p, XB + k, y0 * i1)
    add_to(p, XS + k, y0 * (y0 * q12 + y2 * q01))
    add_to(p, YY + k, y1 * y1 * q00)
    add_to(p, YN + k, y1 * y0 * q00)
    add_to(p, YB + k, y1 * i0)
    add_to(p, YS + k, y1 * mixed)
    add_to(p, NN + k, square * q00)
    add_to(p, NB + k, y0 * i0)
    add_to(p, NS + k, y0 * mixed)
    add_to(p, BB + k, i)
    add_to(p, BS + k, y0 * i2 + y2 * i0)
    add_to(p, SS + k, y0 * (y0 * q22 + y2 * q02) + y2 * mixed)


@lanes
def add_bends(p, k, y, t, r3, r4):
    """Add a line's scores times second derivatives, as `add_line`."""
    r0, r1, r2 = t[1], t[2], t[3]
    y0, y1, y2 = load(p, y), load(p, y + ROW), load(p, y + _2)
    wide_2 = PER_WIDTH * y2
    add_to(p, BENT_X + k, y0 * r2)
    add_to(p, BENT_XY + k, y1 * r1)
    add_to(p, BENT_XS + k, y0 * r3 + wide_2 * r1)
    add_to(p, BENT_YS + k, load(p, y + _3) * r0 + PER_WIDTH * y1 * r2)
    add_to(p, BENT_S + k, y0 * r4 + load(p, y + _4) * r0 + TWO * wide_2 * r2)


@lanes
def add_columns(p, k, i, side):
    """Add line `i` of sixteen spots, whose scores and informations are at hand."""
    t = nothing()
    for j in range(side):
        t = add_pixel(p, k, j, t)
    add_line(p, k, ALONG_Y + np.uint64(i) * LINE + k, t)


@lanes
def add_bent_columns(p, k, i, side):
    """As `add_columns`, with second derivatives."""
    t, r3, r4 = nothing(), spread(ZERO), spread(ZERO)
    x = ALONG_X + k
    for j in range(side):
        score = load(p, SCORE + np.uint64(j * LANES) + k)
        t = add_pixel(p, k, j, t)
        r3 += score * load(p, x + _9)
        r4 += score * load(p, x + _10)
        x += COLUMN
    y = ALONG_Y + np.uint64(i) * LINE + k
    add_line(p, k, y, t)
    add_bends(p, k, y, t, r3, r4)


@lanes
def light_of(p, k, i):
    """Return background and light of line `i`: what a share x0 of it is added to, and times."""
    y = ALONG_Y + np.uint64(i) * LINE + k
    return load(p, ADDED + k), load(p, N + k) * load(p, y)


@lanes
def rate_at(p, k, i, j, side, added, light):
    """Return the mean of the pixel in line `i` and column `j`, and its datum."""
    d = PIXELS + np.uint64((2 * i * side + j) * LANES) + k
    x = ALONG_X + np.uint64(j) * COLUMN + k
    return added + load(p, d + np.uint64(side * LANES)) + light * load(p, x), load(p, d)


@lanes
def put_pixel(p, k, j, score, info):
    """Note score and information of column `j`."""
    at = np.uint64(j * LANES) + k
    store(p, SCORE + at, score)
    store(p, INFO + at, info)


@kernel_of_lanes
def sum_poisson(p, n, i, side, bent):
    """Add line `i` of the regions of `n` spots, shifted Poisson."""
    for first in range(0, n, SINGLES):
        k = np.uint64(first)
        added, light = light_of(p, k, i)
        for j in range(0, side - 1, 2):
            a, data_a = rate_at(p, k, i, j, side, added, light)
            b, data_b = rate_at(p, k, i, j + 1, side, added, light)
            a, b = inverses(a, b)
            put_pixel(p, k, j, data_a * a - ONE, a)
            put_pixel(p, k, j + 1, data_b * b - ONE, b)
        mu, data = rate_at(p, k, i, side - 1, side, added, light)
        info = ONE / mu
        put_pixel(p, k, side - 1, data * info - ONE, info)
        if bent:
            add_bent_columns(p, k, i, side)
        else:
            add_columns(p, k, i, side)


@lanes
def term_and_spread(p, k, i, j, side, added, light):
    """Return what a pixel that was summed adds to the likelihood, and its spread."""
    mu, data = rate_at(p, k, i, j, side, added, light)
    ratio = load(p, SCORE + np.uint64(j * LANES) + k) + ONE
    return (data - mu) - data * log_each(ratio), spread_of(data)


@kernel_of_lanes
def add_likelihood(p, n, i, side):
    """Add the log-likelihood of line `i`, which has just been summed."""
    for first in range(0, n, SINGLES):
        k = np.uint64(first)
        added, light = light_of(p, k, i)
        term, product = term_and_spread(p, k, i, side - 1, side, added, light)
        for j in range(0, side - 1, 2):
            term_a, spread_a = term_and_spread(p, k, i, j, side, added, light)
            term_b, spread_b = term_and_spread(p, k, i, j + 1, side, added, light)
            gather_spread(p, k, product * spread_a * spread_b)
            term, product = term + term_a + term_b, spread(ONE)
        add_to(p, LOGLIK + k, term)
