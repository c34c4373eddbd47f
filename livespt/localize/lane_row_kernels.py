# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""One line of every spot's region, added to the spots' gradients and informations.

Theory and rows: `lane_kernels`. The columns are written out, three or two at a time, so that the
fourteen sums of a line stay in registers; the line's own factors y0, y1, y2 enter once at its end
(row-factored Fisher sums). One kernel for each side that a region may have.

The pixels are shifted Poisson: information i = 1/mu, score r = d/mu - 1. A camera with a table of
its own r and i is dressed as one, mu' = 1/i and d' = (1 + r)/i (`lane_table_kernels`).

Symbols: r0 = sum r x0, q01 = sum i x0 x1, and so on; s and t the sums of one line and their tuple.
"""

from __future__ import annotations

import numpy as np

from livespt.jit import kernel_of_lanes, lanes
from livespt.localize.lane_kernels import (
    ADDED,
    ALONG_X,
    AXIS,
    LANES,
    LINE,
    LINE_MU,
    LINE_Y,
    ONE,
    ROW,
    SUMS,
    WIDTH,
    ZERO,
    N,
)

# where each sum stands: gradient, then upper triangle of the information, over x, y, N, b, sigma
GX, GY, GN, GB, GS = (SUMS + np.uint64(k * LANES) for k in range(5))
XX, XY, XN, XB, XS = (SUMS + np.uint64(k * LANES) for k in range(5, 10))
YY, YN, YB, YS = (SUMS + np.uint64(k * LANES) for k in range(10, 14))
NN, NB, NS, BB, BS, SS = (SUMS + np.uint64(k * LANES) for k in range(14, 20))
NOTHING = (ZERO,) * 14


@lanes
def one(w, j, side, k, light, t):
    """Add the pixel of column `j` to the sums `t` of spot `k`."""
    s, r0, r1, r2, i, i0, i1, i2, q00, q01, q02, q11, q12, q22 = t
    at, known = np.uint64(j * LANES) + k, np.uint64((side + j) * LANES) + k
    x0, x1, x2 = w[ALONG_X + at], w[ALONG_X + AXIS + at], w[ALONG_X + AXIS + AXIS + at]
    mu = w[ADDED + k] + w[LINE + known] + light * x0
    w[LINE_MU + at] = mu
    info = ONE / mu
    score = w[LINE + at] * info - ONE
    a0, a1, a2 = info * x0, info * x1, info * x2
    return (
        s + score,
        r0 + score * x0,
        r1 + score * x1,
        r2 + score * x2,
        i + info,
        i0 + a0,
        i1 + a1,
        i2 + a2,
        q00 + a0 * x0,
        q01 + a0 * x1,
        q02 + a0 * x2,
        q11 + a1 * x1,
        q12 + a1 * x2,
        q22 + a2 * x2,
    )


@lanes
def two(w, j, side, k, light, t):
    """Add two columns from `j` on."""
    return one(w, j + 1, side, k, light, one(w, j, side, k, light, t))


@lanes
def three(w, j, side, k, light, t):
    """Add three columns from `j` on."""
    return one(w, j + 2, side, k, light, two(w, j, side, k, light, t))


@lanes
def add_line(w, k, t):
    """Add a line's sums, times its factors, to those of spot `k` (factors of N and sigma apart)."""
    s, r0, r1, r2, i, i0, i1, i2, q00, q01, q02, q11, q12, q22 = t
    y0, y1, y2 = w[LINE_Y + k], w[LINE_Y + ROW + k], w[LINE_Y + ROW + ROW + k]
    square = y0 * y0
    mixed = y0 * q02 + y2 * q00
    w[GX + k] += y0 * r1
    w[GY + k] += y1 * r0
    w[GN + k] += y0 * r0
    w[GB + k] += s
    w[GS + k] += y0 * r2 + y2 * r0
    w[XX + k] += square * q11
    w[XY + k] += y0 * y1 * q01
    w[XN + k] += square * q01
    w[XB + k] += y0 * i1
    w[XS + k] += y0 * (y0 * q12 + y2 * q01)
    w[YY + k] += y1 * y1 * q00
    w[YN + k] += y1 * y0 * q00
    w[YB + k] += y1 * i0
    w[YS + k] += y1 * mixed
    w[NN + k] += square * q00
    w[NB + k] += y0 * i0
    w[NS + k] += y0 * mixed
    w[BB + k] += i
    w[BS + k] += y0 * i2 + y2 * i0
    w[SS + k] += y0 * (y0 * q22 + y2 * q02) + y2 * mixed


@kernel_of_lanes
def line_5(w):
    """Add a staged line of 5 pixels."""
    for k in range(WIDTH):
        light = w[N + k] * w[LINE_Y + k]
        t = three(w, 0, 5, k, light, NOTHING)
        t = two(w, 3, 5, k, light, t)
        add_line(w, k, t)


@kernel_of_lanes
def line_7(w):
    """Add a staged line of 7 pixels."""
    for k in range(WIDTH):
        light = w[N + k] * w[LINE_Y + k]
        t = three(w, 0, 7, k, light, NOTHING)
        t = two(w, 3, 7, k, light, t)
        t = two(w, 5, 7, k, light, t)
        add_line(w, k, t)


@kernel_of_lanes
def line_9(w):
    """Add a staged line of 9 pixels."""
    for k in range(WIDTH):
        light = w[N + k] * w[LINE_Y + k]
        t = three(w, 0, 9, k, light, NOTHING)
        t = three(w, 3, 9, k, light, t)
        t = three(w, 6, 9, k, light, t)
        add_line(w, k, t)


@kernel_of_lanes
def line_11(w):
    """Add a staged line of 11 pixels."""
    for k in range(WIDTH):
        light = w[N + k] * w[LINE_Y + k]
        t = three(w, 0, 11, k, light, NOTHING)
        t = three(w, 3, 11, k, light, t)
        t = three(w, 6, 11, k, light, t)
        t = two(w, 9, 11, k, light, t)
        add_line(w, k, t)


@kernel_of_lanes
def line_13(w):
    """Add a staged line of 13 pixels."""
    for k in range(WIDTH):
        light = w[N + k] * w[LINE_Y + k]
        t = three(w, 0, 13, k, light, NOTHING)
        t = three(w, 3, 13, k, light, t)
        t = three(w, 6, 13, k, light, t)
        t = two(w, 9, 13, k, light, t)
        t = two(w, 11, 13, k, light, t)
        add_line(w, k, t)


@kernel_of_lanes
def line_15(w):
    """Add a staged line of 15 pixels."""
    for k in range(WIDTH):
        light = w[N + k] * w[LINE_Y + k]
        t = three(w, 0, 15, k, light, NOTHING)
        t = three(w, 3, 15, k, light, t)
        t = three(w, 6, 15, k, light, t)
        t = three(w, 9, 15, k, light, t)
        t = three(w, 12, 15, k, light, t)
        add_line(w, k, t)


@kernel_of_lanes
def sum_line(w, side):
    """Add a staged line of `side` pixels to the sums of every spot."""
    if side == 9:
        line_9(w)
    elif side == 7:
        line_7(w)
    elif side == 11:
        line_11(w)
    elif side == 5:
        line_5(w)
    elif side == 13:
        line_13(w)
    else:
        line_15(w)
