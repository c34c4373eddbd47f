# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""Spots of two widths and an angle in the pixels of `LANES` regions side by side.

Theory: `livespt.localize.posterior`. All work space is flat float32 in rows of `LANES` numbers, one
per spot; a row is one value of sixteen (`livespt.vectors`), or a loop over it.

Float32 is enough: at 1e5 photons errors are still as reported (tests/statistics).

Symbols: v1, v2 the spot's variances along its own axes; d1, d2 a point's distance from the centre;
a = 1/(v + 1/12), h = a d; q_kl = G He_k He_l the spot's derivatives in d1, d2, sign apart.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from livespt.jit import inlined, lanes
from livespt.localize.lane_kernels import power_of_half
from livespt.vectors import least, load, spread, store

LANES = 16
MAX_SIDE = 15
F = np.float32  # a float64 constant would turn all that it touches into float64
ZERO, ONE, TWO, THREE, SIX = F(0.0), F(1.0), F(2.0), F(3.0), F(6.0)
HALF, QUARTER = F(0.5), F(0.25)
# a square's cumulants: 1/12, -1/120, 1/252; the latter over 4! and 6!
PIXEL_VAR = F(1.0 / 12.0)
_FOURTH, _SIXTH = F(-1.0 / 2880.0), F(1.0 / 181440.0)
MIN_RATE = F(1e-3)
_PER_TWO_PI = F(0.5 / math.pi)
_FARTHEST, _MINUS_64TH = F(80.0), F(-1.0 / 64.0)
_HALF_LOG2E = F(0.5 / math.log(2.0))
_SHARES = tuple(F(1.0 / k) for k in range(1, 9))
_C2, _C3, _C4, _C5, _C6, _C7, _C8 = _SHARES[1:]

# rows of `spot`
X, Y, N, B, W1, W2, COS, SIN = range(8)  # w: widths along e1 and e2
A1, A2, PEAK = range(8, 11)  # as above; 1 / (2 pi sqrt(v1' v2'))
MEND = 11  # (6,) factors of the derivatives that mend a pixel's Gaussian
N_SPOT = 17
# rows of `sums`: score, score times q, and weight times products of (q10, q01, q00, 1, q20, q02,
# q11)
N_Q, N_K = 15, 28
SCORE_SUM = 0
SCORES = 1  # (N_Q,)
PRODUCTS = SCORES + N_Q  # (N_K,)
SKEWS = PRODUCTS + N_K  # weight times q10, then q01, by the third derivatives
N_SUMS = SKEWS + 8
SCORE_ROW, *SCORE_ROWS = (np.uint64(k * LANES) for k in range(PRODUCTS))
SCORE_ROWS = tuple(SCORE_ROWS)
PRODUCT_ROWS = tuple(np.uint64((PRODUCTS + k) * LANES) for k in range(N_K))
SKEW_ROWS = tuple(np.uint64((SKEWS + k) * LANES) for k in range(8))
# the order of q, in SCORES and in `pixel`
Q00, Q10, Q01, Q20, Q11, Q02 = range(6)
Q30, Q21, Q12, Q03, Q40, Q31, Q22, Q13, Q04 = range(6, 15)
# rows of `pixel`: the q, then
RATE, SCORE, WEIGHT, LOG_Q = range(N_Q, N_Q + 4)
N_PIXEL = N_Q + 4
# blocks of `data`, MAX_SIDE^2 rows each: data, read variance, light of others, sqrt of electrons
DATA, VAR, EXTRA, SEEN = range(4)
BLOCK = MAX_SIDE * MAX_SIDE
N_DATA = 4 * BLOCK


class Lanes(NamedTuple):
    """Work space of one batch of spots: flat arrays of rows, float32 where nothing else is said."""

    spot: np.ndarray  # (N_SPOT LANES,)
    sums: np.ndarray  # (N_SUMS LANES,)
    pixel: np.ndarray  # (N_PIXEL LANES,) one pixel of each spot
    data: np.ndarray  # (N_DATA LANES,) all pixels of all regions
    loglik: np.ndarray  # (LANES,) float64
    newton: np.ndarray  # (N_ROWS LANES,) float64, rows of `newton_kernels`
    member: np.ndarray  # (LANES,) int64, the spot in each lane, -1 for none


@inlined
def data_row(index, k):
    """Return where pixel `k` of a block of `data` starts."""
    return np.uint64((index * BLOCK + k) * LANES)


@inlined
def row(index):
    """Return where a row starts."""
    return np.uint64(index * LANES)


@inlined
def exp_minus(y):
    """Return e^-y for y >= 0 as (e^(-y/64))^64: arithmetic alone, good to 4e-6."""
    t = min(y, _FARTHEST) * _MINUS_64TH
    e = ONE + t * _C5 * (ONE + t * _C6 * (ONE + t * _C7 * (ONE + t * _C8)))
    e = ONE + t * (ONE + t * _C2 * (ONE + t * _C3 * (ONE + t * _C4 * e)))
    e *= e
    e *= e
    e *= e
    e *= e
    e *= e
    return e * e


@lanes
def shape_spots(spot):
    """Fill 1/variances, a pixel's own in them, peaks, and how far a square is from a Gaussian."""
    w1, w2, a1, a2, peak = row(W1), row(W2), row(A1), row(A2), row(PEAK)
    co, si, mend, one = row(COS), row(SIN), row(MEND), np.uint64(LANES)
    for l in range(one):
        spot[a1 + l] = ONE / (spot[w1 + l] * spot[w1 + l] + PIXEL_VAR)
        spot[a2 + l] = ONE / (spot[w2 + l] * spot[w2 + l] + PIXEL_VAR)
        spot[peak + l] = math.sqrt(spot[a1 + l] * spot[a2 + l]) * _PER_TWO_PI
        # d^4/dx^4 + d^4/dy^4 along the spot's axes, and the same of the sixth order
        cc, ss, cs = spot[co + l] ** 2, spot[si + l] ** 2, spot[co + l] * spot[si + l]
        both = cc * ss
        spot[mend + l] = _FOURTH * (cc * cc + ss * ss)
        spot[mend + one + l] = _FOURTH * F(12.0) * both
        spot[mend + one * 2 + l] = _FOURTH * F(4.0) * cs * (ss - cc)
        spot[mend + one * 3 + l] = _SIXTH * (cc * cc * cc + ss * ss * ss)
        spot[mend + one * 4 + l] = _SIXTH * F(15.0) * both
        spot[mend + one * 5 + l] = _SIXTH * SIX * cs * (ss * ss - cc * cc)


@lanes
def along(spot, at_x, at_y):
    """Return a pixel's distance along each axis, 1/variances, and the Gaussian there."""
    dx, dy = at_x - load(spot, row(X)), at_y - load(spot, row(Y))
    c, s = load(spot, row(COS)), load(spot, row(SIN))
    d1, d2, a1, a2 = c * dx + s * dy, c * dy - s * dx, load(spot, row(A1)), load(spot, row(A2))
    z = least(_HALF_LOG2E * (d1 * (a1 * d1) + d2 * (a2 * d2)), spread(_FARTHEST))
    return d1, d2, a1, a2, load(spot, row(PEAK)) * power_of_half(z)


@lanes
def put(pixel, k, v):
    """Write row `k` of a pixel."""
    store(pixel, np.uint64(k * LANES), v)


@lanes
def coarse_pixel(spot, pixel, at_x, at_y):
    """Fill the q up to second order, the pixel's square as a Gaussian."""
    d1, d2, a1, a2, g = along(spot, at_x, at_y)
    h1, h2 = a1 * d1, a2 * d2
    p1, p2 = g * h1, g * h2
    put(pixel, Q00, g)
    put(pixel, Q10, p1)
    put(pixel, Q01, p2)
    put(pixel, Q20, p1 * h1 - a1 * g)
    put(pixel, Q11, p1 * h2)
    put(pixel, Q02, p2 * h2 - a2 * g)


@lanes
def hermites(d, a):
    """Return h and the polynomials He_2 to He_6 of a Gaussian's derivatives along one axis."""
    h = a * d
    b, c = a + a, THREE * a
    e2 = h * h - a
    e3 = h * e2 - b * h
    e4 = h * e3 - c * e2
    e5 = h * e4 - (b + b) * e3
    return h, e2, e3, e4, e5, h * e5 - (b + c) * e4


@lanes
def exact_pixel(spot, pixel, at_x, at_y):
    """Fill the q up to fourth order.

    The pixel's square is a Gaussian of its variance, mended by its fourth moment up to second
    order, and by its sixth in q00.
    """
    d1, d2, a1, a2, g = along(spot, at_x, at_y)
    h1, e2, e3, e4, e5, e6 = hermites(d1, a1)
    h2, f2, f3, f4, f5, f6 = hermites(d2, a2)
    g1, g2, g3, g4, g5 = g * h1, g * e2, g * e3, g * e4, g * e5
    q60, q51, q42, q33 = g * e6, g5 * h2, g4 * f2, g3 * f3
    q24, q15, q06 = g2 * f4, g1 * f5, g * f6
    q41, q32, q23, q14 = g4 * h2, g3 * f2, g2 * f3, g1 * f4
    q31, q22, q13, q04 = g3 * h2, g2 * f2, g1 * f3, g * f4
    m0, m1, m2 = load(spot, row(MEND)), load(spot, row(MEND + 1)), load(spot, row(MEND + 2))
    n0, n1, n2 = load(spot, row(MEND + 3)), load(spot, row(MEND + 4)), load(spot, row(MEND + 5))
    sixth = n0 * (q60 + q06) + n1 * (q42 + q24) + n2 * (q51 - q15)
    put(pixel, Q00, g + sixth + m0 * (g4 + q04) + m1 * q22 + m2 * (q31 - q13))
    put(pixel, Q10, g1 + m0 * (g5 + q14) + m1 * q32 + m2 * (q41 - q23))
    put(pixel, Q01, g * h2 + m0 * (q41 + g * f5) + m1 * q23 + m2 * (q32 - q14))
    put(pixel, Q20, g2 + m0 * (q60 + q24) + m1 * q42 + m2 * (q51 - q33))
    put(pixel, Q11, g1 * h2 + m0 * (q51 + q15) + m1 * q33 + m2 * (q42 - q24))
    put(pixel, Q02, g * f2 + m0 * (q42 + q06) + m1 * q24 + m2 * (q33 - q15))
    put(pixel, Q30, g3)
    put(pixel, Q21, g2 * h2)
    put(pixel, Q12, g1 * f2)
    put(pixel, Q03, g * f3)
    put(pixel, Q40, g4)
    put(pixel, Q31, q31)
    put(pixel, Q22, q22)
    put(pixel, Q13, q13)
    put(pixel, Q04, q04)
