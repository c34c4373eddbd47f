# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""Thirty-two spots side by side in float32: profiles, slopes, normal equations, likelihood.

Theory: `livespt.localize.fit`. What `column_kernels` and `fit_kernels` do for one spot in float64,
these steps do for `LANES` spots at once: a *row* is one number of each spot, and every inner loop
runs over the spots of a row, in vector registers.

All rows lie in ONE flat array at offsets the compiler knows. What is done once a pass is written as
a loop over a row, which the compiler vectorises where all distances are known to it. What is done
at every edge and pixel takes sixteen spots as one value (`livespt.vectors`), its sums in registers.

Symbols: x0, x1, x2 and y0, y1, y2 share of light along an axis and its derivatives in centre and
width; d datum, mu its mean, E rate.
"""

from __future__ import annotations

import math

import numpy as np

from livespt.jit import lanes
from livespt.vector_bits import doubled, in_octave, octave, signed
from livespt.vectors import (
    SINGLES,
    exponent,
    least,
    load,
    mantissa,
    most,
    size,
    spread,
    store,
)

LANES = 32
SIDE = 15  # largest region


def rows(start, n):
    """Return the offset of `n` rows from row `start` on, and the row after them."""
    return np.uint64(start * LANES), start + n


X, Y, N, B, S = (np.uint64(k * LANES) for k in range(5))  # the parameters of each spot
LOW_X, _at = rows(5, 1)
HIGH_X, _at = rows(_at, 1)
LOW_Y, _at = rows(_at, 1)
HIGH_Y, _at = rows(_at, 1)
DECREMENT, _at = rows(_at, 1)  # g^T J^-1 g: squared distance to the optimum, in s.d.
FOLLOWED, _at = rows(_at, 1)  # with a table: the decrement where it was read
PIVOT, _at = rows(_at, 1)  # least pivot over its diagonal: 0 where parameters are not told apart
LOGLIK, _at = rows(_at, 1)
COVARIANCE, _at = rows(_at, 15)  # lower triangle, line by line
SUMS, _at = rows(_at, 25)
INVERSE, _at = rows(_at, 1)  # 1/sigma
ADDED, _at = rows(_at, 1)  # background plus what all pixels have in common
# x0, x1, x2 of the first column, their products, x3, x4; then those of the next
ALONG_X, _at = rows(_at, 11 * SIDE)
ALONG_Y, _at = rows(_at, 5 * SIDE)  # y0 to y4 of the first line, then of the next
SCORE, _at = rows(_at, SIDE)  # of a line's pixels
INFO, _at = rows(_at, SIDE)
PRODUCT, _at = rows(_at, 1)
POWER, _at = rows(_at, 1)
# a line's data d, then its known rates (read variance, neighbours' light); then the next line's
PIXELS, _at = rows(_at, 2 * SIDE * SIDE)
PLACE, _at = rows(_at, SIDE * SIDE)  # of the count on the table's first axis
SINGLE, _at = rows(_at, 2 * SIDE * SIDE // LANES + 1)  # one spot's region, before it is dealt
LOWEST, _at = rows(_at, 1)  # count of the region, and its highest
HIGHEST, _at = rows(_at, 1)
STATE, _at = rows(_at, 1)  # what is to be said of the fit
COUNTS, N_ROWS = rows(_at, SIDE * SIDE // 2 + 1)  # as PIXELS, in uint16
ROW = np.uint64(LANES)
WIDTH = np.uint64(LANES)
_2, _3, _4, _5, _6, _7, _8, _9, _, COLUMN = (np.uint64(k * LANES) for k in range(2, 12))
LINE = _5

_F = np.float32
ZERO, HALF, ONE, TWO = _F(0.0), _F(0.5), _F(1.0), _F(2.0)
_P = _F(0.3275911 * math.sqrt(0.5))
# Abramowitz and Stegun's, halved
_A1, _A2, _A3 = _F(0.127414796), _F(-0.142248368), _F(0.7107068705)
_A4, _A5 = _F(-0.7265760135), _F(0.5307027145)
_FAR_T = _F(9.2)
# 2^f for f from -1/2 to 1/2, least relative error: 1.5e-7
_T1, _T2, _T3 = _F(0.693146944), _F(0.240221202), _F(0.0555071346)
_T4, _T5 = _F(0.00967554096), _F(0.00132764562)
PER_T = _F(math.sqrt(0.5 / math.log(2.0)))  # of a distance in widths: e^(-t^2/2) is 2^-t^2 of it
_P_T = _F(0.3275911 * math.sqrt(math.log(2.0)))
#: What `edge` leaves out of the derivatives in the centre and, beside that, in the width.
PER_CENTRE, PER_WIDTH = _F(1.0 / math.sqrt(2.0 * math.pi)), _F(math.sqrt(math.log(2.0) / math.pi))
_PER_SQUARE = _F(2.0 * math.log(2.0))
_TO_INTEGER = _F(1.5 * 2.0**23)  # the sum's last bits are the integer
_FAR = _F(60.0)
_LOG2E, _LN2_HIGH, _LN2_LOW = _F(1.44269504), _F(0.693359375), _F(-2.12194440e-4)
_E5, _E4, _E3 = _F(1.0 / 120.0), _F(1.0 / 24.0), _F(1.0 / 6.0)
_E6 = _F(1.0 / 720.0)
_BIAS, _SHIFT = np.int32(127), np.int32(23)
_LOW_BITS, _BITS_OF_ONE = np.int32(0x007FFFFF), np.int32(0x3F800000)
_LN2 = _F(math.log(2.0))
_SQRT2 = _F(math.sqrt(2.0))
# ln(1 + r) = r - r^2/2 + r^3 (L0 + L1 r + ...), least squares over sqrt(1/2) to sqrt(2): 2e-9
_L0, _L1, _L2, _L3 = _F(0.33333329), _F(-0.25000846), _F(0.20001412), _F(-0.16622752)
_L4, _L5, _L6, _L7 = _F(0.14197877), _F(-0.13161606), _F(0.12786331), _F(-0.07660819)
_TWO_PI = _F(2.0 * math.pi)
_WIDEST = _F(1e12)  # of a pixel's spread: the product of three stays finite
_R0, _R1, _R2, _R3, _THIRD = _F(1.05), _F(0.09), _F(0.14), _F(12.0), _F(1 / 3)


@lanes
def exp_minus(y):
    """Return e^-y for 0 <= y <= 60."""
    n = np.int32(y * _LOG2E + HALF)
    k = np.float32(n)
    r = k * _LN2_HIGH - y + k * _LN2_LOW
    e = ONE + r * (ONE + r * (HALF + r * (_E3 + r * (_E4 + r * (_E5 + r * _E6)))))
    return e * np.int32((_BIAS - n) << _SHIFT).view(np.float32)


@lanes
def log(value):
    """Return ln of a positive, normal number."""
    bits = np.float32(value).view(np.int32)
    n = (bits >> _SHIFT) - _BIAS
    m = np.int32((bits & _LOW_BITS) | _BITS_OF_ONE).view(np.float32)
    above = m > _SQRT2
    m = m * HALF if above else m
    k = np.float32(n) + (ONE if above else ZERO)
    r = m - ONE
    high = _L4 + r * (_L5 + r * (_L6 + r * _L7))
    series = r + r * r * (r * (_L0 + r * (_L1 + r * (_L2 + r * (_L3 + r * high)))) - HALF)
    return k * _LN2_HIGH + (series + k * _LN2_LOW)


@lanes
def log_each(v):
    """Return `log` of each."""
    k, r = octave(v), in_octave(v) - ONE
    r2 = r * r
    r4 = r2 * r2
    low = (_L0 + r * _L1) + r2 * (_L2 + r * _L3)
    high = (_L4 + r * _L5) + r2 * (_L6 + r * _L7)
    series = r + r2 * (r * (low + r4 * high) - HALF)
    return k * _LN2_HIGH + (series + k * _LN2_LOW)


@lanes
def power_of_half(z):
    """Return 2^-z of each, for z from 0 to 125."""
    n = (_TO_INTEGER - z) - _TO_INTEGER
    f = -z - n
    f2 = f * f
    return doubled((ONE + f * _T1) + f2 * ((_T2 + f * _T3) + f2 * (_T4 + f * _T5)), n)


@lanes
def edge(t):
    """Return the error function, halved, at an edge `t`, the Gaussian there, and t times that.

    `t` counts in widths over `PER_T`, so that the Gaussian is 2^-t^2; it lacks its factor
    1/(sqrt(2 pi) sigma), which `lane_solve_kernels.information` has. The error function is
    Abramowitz and Stegun 7.1.26, from the power that the Gaussian needs anyway.
    """
    a = least(size(t), spread(_FAR_T))
    e = power_of_half(a * a)
    u = ONE / (ONE + _P_T * a)
    u2 = u * u
    half = HALF - (u * e) * ((_A1 + u * _A2) + u2 * ((_A3 + u * _A4) + u2 * _A5))
    return signed(half, t), e, t * e


@lanes
def between(low, high):
    """Return a pixel's share of light and its derivatives in centre and width, from its edges.

    As `psf_kernels.profile`, the derivatives without what `edge` leaves out.
    """
    return high[0] - low[0], low[1] - high[1], low[2] - high[2]


@lanes
def bend(t, at):
    """Return an edge's part of the derivatives of x1 and x2 in the width, sigma times them.

    `at` is what `edge` returns at `t`; what it leaves out is left out here too.
    """
    square = _PER_SQUARE * (t * t)
    return (square - ONE) * at[1], (square - TWO) * at[2]


@lanes
def put_profiles(p, to_x, to_y, x, y):
    """Store shares and derivatives of a column and a line, and the column's products."""
    x0, x1, x2 = x
    store(p, to_x, x0)
    store(p, to_x + ROW, x1)
    store(p, to_x + _2, x2)
    store(p, to_x + _3, x0 * x0)
    store(p, to_x + _4, x0 * x1)
    store(p, to_x + _5, x0 * x2)
    store(p, to_x + _6, x1 * x1)
    store(p, to_x + _7, x1 * x2)
    store(p, to_x + _8, x2 * x2)
    store(p, to_y, y[0])
    store(p, to_y + ROW, y[1])
    store(p, to_y + _2, y[2])


@lanes
def put_bends(p, to, low, high):
    """Store two differences, at an edge and the next."""
    store(p, to, low[0] - high[0])
    store(p, to + ROW, low[1] - high[1])


@lanes
def fill_profiles(p, k, side):
    """Fill the shares along both axes of the sixteen spots from `k` on, and products along x."""
    per_px = load(p, INVERSE + k) * PER_T
    x, y = load(p, X + k) * per_px, load(p, Y + k) * per_px
    low_x, to_x = edge(-HALF * per_px - x), ALONG_X + k
    low_y, to_y = edge(-HALF * per_px - y), ALONG_Y + k
    for j in range(side):
        at = np.float32(j) + HALF
        high_x, high_y = edge(at * per_px - x), edge(at * per_px - y)
        put_profiles(p, to_x, to_y, between(low_x, high_x), between(low_y, high_y))
        low_x, low_y = high_x, high_y
        to_x += COLUMN
        to_y += LINE


@lanes
def fill_bent_profiles(p, k, side):
    """As `fill_profiles`, with x3, x4, y3, y4: x1 and x2 differentiated once more in the width."""
    per_px = load(p, INVERSE + k) * PER_T
    x, y = load(p, X + k) * per_px, load(p, Y + k) * per_px
    t_x, t_y = -HALF * per_px - x, -HALF * per_px - y
    low_x, low_y, to_x, to_y = edge(t_x), edge(t_y), ALONG_X + k, ALONG_Y + k
    bend_x, bend_y = bend(t_x, low_x), bend(t_y, low_y)
    for j in range(side):
        at = np.float32(j) + HALF
        t_x, t_y = at * per_px - x, at * per_px - y
        high_x, high_y = edge(t_x), edge(t_y)
        put_profiles(p, to_x, to_y, between(low_x, high_x), between(low_y, high_y))
        next_x, next_y = bend(t_x, high_x), bend(t_y, high_y)
        put_bends(p, to_x + _9, bend_x, next_x)
        put_bends(p, to_y + _3, bend_y, next_y)
        low_x, low_y, bend_x, bend_y = high_x, high_y, next_x, next_y
        to_x += COLUMN
        to_y += LINE


@lanes
def begin_slopes(p, n, side, common, bent):
    """Fill both profiles, clear the sums, and add `common` to the background."""
    for first in range(0, n, SINGLES):
        k = np.uint64(first)
        store(p, INVERSE + k, ONE / load(p, S + k))
        store(p, ADDED + k, load(p, B + k) + common)
        if bent:
            fill_bent_profiles(p, k, side)
        else:
            fill_profiles(p, k, side)
    for q in range(0, 25 * LANES, SINGLES):
        store(p, SUMS + np.uint64(q), spread(ZERO))


@lanes
def spread_of(d):
    """Return the spread 2 pi d + r of a pixel, whose logarithm `end_shifted_poisson` halves."""
    rest = _R1 * most(ONE - _THIRD * d, spread(ZERO)) - _R2 * most(ONE - _R3 * d, spread(ZERO))
    return least(_TWO_PI * d + (_R0 + rest), spread(_WIDEST))


@lanes
def gather_spread(p, k, product):
    """Multiply the spreads of sixteen spots by a product, kept as mantissa and power.

    Of three pixels at most: as many as cannot overflow.
    """
    product *= load(p, PRODUCT + k)
    store(p, POWER + k, load(p, POWER + k) + exponent(product))
    store(p, PRODUCT + k, mantissa(product))


@lanes
def begin_shifted_poisson(w):
    """Clear what the likelihood of shifted Poisson data gathers."""
    for k in range(WIDTH):
        w[LOGLIK + k] = ZERO
        w[POWER + k] = ZERO
        w[PRODUCT + k] = ONE


@lanes
def end_shifted_poisson(w):
    """Add the logarithms of what was gathered."""
    for k in range(WIDTH):
        w[LOGLIK + k] -= HALF * (w[POWER + k] * _LN2 + log(w[PRODUCT + k]))
