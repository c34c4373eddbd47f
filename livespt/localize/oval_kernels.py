# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""Sums over the pixels of `LANES` regions side by side, for a spot of two widths and an angle.

Theory: `livespt.localize.posterior`. All work space is flat float32 in rows of `LANES` numbers, one
per spot; loops over lanes are innermost and of literal length. They become vector instructions
only where the compiler knows how far apart any two rows of one array are: hence one array per
role (`Lanes`), with literal rows in each. Look-ups in the camera's table are scalar, a pixel at a
time: loads from a table among vector stores would keep the compiler from vectorising.

Float32 is enough: at 1e5 photons errors are still as reported (tests/statistics).

Symbols: v1, v2 the spot's variances along its own axes; d1, d2 a point's distance from the centre;
a = 1/(v + POINT_VAR), h = a d; q_kl = G He_k He_l the spot's derivatives in d1, d2, sign apart.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from livespt.jit import inlined, kernel
from livespt.localize import moment_kernels as moments
from livespt.localize.column_kernels import log_poisson, set_all

LANES = 16
MAX_SIDE = 15
F = np.float32  # a float64 constant would turn all that it touches into float64
ZERO, ONE, THREE, SIX, HALF, QUARTER = F(0.0), F(1.0), F(3.0), F(6.0), F(0.5), F(0.25)
# a pixel's square as four points, each spread: the moments agree up to the fifth, nearly the sixth
POINT_AT = F((1.0 / 240.0) ** 0.25)
POINT_VAR = F(1.0 / 12.0 - math.sqrt(1.0 / 240.0))
PIXEL_VAR = F(1.0 / 12.0)
MIN_RATE = F(1e-3)
_PER_TWO_PI = F(0.5 / math.pi)
_FARTHEST, _MINUS_64TH = F(80.0), F(-1.0 / 64.0)
_SHARES = tuple(F(1.0 / k) for k in range(1, 9))
_C2, _C3, _C4, _C5, _C6, _C7, _C8 = _SHARES[1:]

# rows of `spot`
X, Y, N, B, W1, W2, COS, SIN = range(8)  # w: widths along e1 and e2
A1, A2, PEAK = range(8, 11)  # as above; 1 / (2 pi sqrt(v1' v2'))
N_SPOT = 11
# rows of `sums`: score, score times q, and weight times products of (q10, q01, q00, 1, q20, q02,
# q11)
N_Q, N_K = 15, 28
SCORE_SUM = 0
SCORES = 1  # (N_Q,)
PRODUCTS = SCORES + N_Q  # (N_K,)
N_SUMS = PRODUCTS + N_K
# the order of q, in SCORES and in `pixel`
Q00, Q10, Q01, Q20, Q11, Q02 = range(6)
Q30, Q21, Q12, Q03, Q40, Q31, Q22, Q13, Q04 = range(6, 15)
# rows of `pixel`: the q, then
RATE, SCORE, WEIGHT, PLACE, ROOT = range(N_Q, N_Q + 5)
N_PIXEL = N_Q + 5
# blocks of `data`, MAX_SIDE^2 rows each: data, read variance, light of others, sqrt of electrons
DATA, VAR, EXTRA, SEEN = range(4)
BLOCK = MAX_SIDE * MAX_SIDE
N_DATA = 4 * BLOCK


class Lanes(NamedTuple):
    """Work space of one batch of spots; each but the last a flat float32 array of rows."""

    spot: np.ndarray  # (N_SPOT LANES,)
    sums: np.ndarray  # (N_SUMS LANES,)
    pixel: np.ndarray  # (N_PIXEL LANES,) one pixel of each spot
    data: np.ndarray  # (N_DATA LANES,) all pixels of all regions
    loglik: np.ndarray  # (LANES,) float64


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


@inlined
def shape_spots(spot, spread):
    """Fill 1/variances and peaks; `spread` is the pixel's share of the variance."""
    w1, w2, a1, a2, peak = row(W1), row(W2), row(A1), row(A2), row(PEAK)
    for l in range(np.uint64(LANES)):
        spot[a1 + l] = ONE / (spot[w1 + l] * spot[w1 + l] + spread)
        spot[a2 + l] = ONE / (spot[w2 + l] * spot[w2 + l] + spread)
        spot[peak + l] = math.sqrt(spot[a1 + l] * spot[a2 + l]) * _PER_TWO_PI


@inlined
def coarse_pixel(spot, pixel, at_x, at_y):
    """Fill the q up to second order, the pixel's square as a Gaussian."""
    x, y, co, si = row(X), row(Y), row(COS), row(SIN)
    r_a1, r_a2, peak, one = row(A1), row(A2), row(PEAK), np.uint64(LANES)
    for l in range(one):
        dx, dy = at_x - spot[x + l], at_y - spot[y + l]
        d1 = spot[co + l] * dx + spot[si + l] * dy
        d2 = spot[co + l] * dy - spot[si + l] * dx
        a1, a2 = spot[r_a1 + l], spot[r_a2 + l]
        h1, h2 = a1 * d1, a2 * d2
        g = spot[peak + l] * exp_minus(HALF * (d1 * h1 + d2 * h2))
        p1, p2 = g * h1, g * h2
        pixel[l] = g
        pixel[one + l] = p1
        pixel[one * 2 + l] = p2
        pixel[one * 3 + l] = p1 * h1 - a1 * g
        pixel[one * 4 + l] = p1 * h2
        pixel[one * 5 + l] = p2 * h2 - a2 * g


@inlined
def point(d1, d2, a1, a2, peak):
    """Return the q of one point, up to fourth order."""
    h1, h2 = a1 * d1, a2 * d2
    g = peak * exp_minus(HALF * (d1 * h1 + d2 * h2))
    k1, k2 = h1 * h1, h2 * h2
    e2, f2 = k1 - a1, k2 - a2
    b1, b2 = THREE * a1, THREE * a2
    ge1, ge2, ge3 = g * h1, g * e2, g * h1 * (k1 - b1)
    gf3 = g * h2 * (k2 - b2)
    e4 = k1 * (k1 - SIX * a1) + b1 * a1
    f4 = k2 * (k2 - SIX * a2) + b2 * a2
    second = (ge2, ge1 * h2, g * f2)
    third = (ge3, ge2 * h2, ge1 * f2, gf3)
    fourth = (g * e4, ge3 * h2, ge2 * f2, gf3 * h1, g * f4)
    return (g, ge1, g * h2, *second, *third, *fourth)


@inlined
def exact_pixel(spot, pixel, at_x, at_y):
    """Fill the q up to fourth order, the pixel's square as four points."""
    x, y, co, si = row(X), row(Y), row(COS), row(SIN)
    r_a1, r_a2, peak, one = row(A1), row(A2), row(PEAK), np.uint64(LANES)
    for l in range(one):
        dx, dy = at_x - spot[x + l], at_y - spot[y + l]
        c, s, a1, a2, top = (
            spot[co + l],
            spot[si + l],
            spot[r_a1 + l],
            spot[r_a2 + l],
            QUARTER * spot[peak + l],
        )
        d1, d2 = c * dx + s * dy, c * dy - s * dx
        # the four points along the spot's axes: +-(u, v) and +-(v, -u)
        u, v = POINT_AT * (c + s), POINT_AT * (c - s)
        A = point(d1 - u, d2 - v, a1, a2, top)
        B_ = point(d1 + u, d2 + v, a1, a2, top)
        C = point(d1 - v, d2 + u, a1, a2, top)
        D = point(d1 + v, d2 - u, a1, a2, top)
        pixel[l] = (A[0] + B_[0]) + (C[0] + D[0])
        pixel[one + l] = (A[1] + B_[1]) + (C[1] + D[1])
        pixel[one * 2 + l] = (A[2] + B_[2]) + (C[2] + D[2])
        pixel[one * 3 + l] = (A[3] + B_[3]) + (C[3] + D[3])
        pixel[one * 4 + l] = (A[4] + B_[4]) + (C[4] + D[4])
        pixel[one * 5 + l] = (A[5] + B_[5]) + (C[5] + D[5])
        pixel[one * 6 + l] = (A[6] + B_[6]) + (C[6] + D[6])
        pixel[one * 7 + l] = (A[7] + B_[7]) + (C[7] + D[7])
        pixel[one * 8 + l] = (A[8] + B_[8]) + (C[8] + D[8])
        pixel[one * 9 + l] = (A[9] + B_[9]) + (C[9] + D[9])
        pixel[one * 10 + l] = (A[10] + B_[10]) + (C[10] + D[10])
        pixel[one * 11 + l] = (A[11] + B_[11]) + (C[11] + D[11])
        pixel[one * 12 + l] = (A[12] + B_[12]) + (C[12] + D[12])
        pixel[one * 13 + l] = (A[13] + B_[13]) + (C[13] + D[13])
        pixel[one * 14 + l] = (A[14] + B_[14]) + (C[14] + D[14])


@inlined
def rate_pixel(spot, pixel, data, k):
    """Fill the rates from q00."""
    n, b, rate, extra = row(N), row(B), row(RATE), data_row(EXTRA, k)
    for l in range(np.uint64(LANES)):
        light = spot[n + l] * pixel[l]
        pixel[rate + l] = max(spot[b + l] + data[extra + l] + light, MIN_RATE)


@inlined
def score_poisson(pixel, data, k, observed):
    """Fill scores and weights of shifted Poisson data.

    A weight is the expected information or, where `observed` is 1, the score's negative slope.
    """
    rate, score, weight = row(RATE), row(SCORE), row(WEIGHT)
    at, var = data_row(DATA, k), data_row(VAR, k)
    for l in range(np.uint64(LANES)):
        inverse = ONE / (pixel[rate + l] + data[var + l])
        seen = data[at + l] * inverse - ONE
        pixel[score + l] = seen
        pixel[weight + l] = inverse * (ONE + observed * seen)


@inlined
def add_log_poisson(pixel, data, k, loglik):
    """Add ln q of shifted Poisson data."""
    rate, at, var = row(RATE), data_row(DATA, k), data_row(VAR, k)
    for l in range(np.uint64(LANES)):
        mu = float(pixel[rate + l]) + float(data[var + l])
        part, factor = log_poisson(float(data[at + l]), mu)
        loglik[l] += part + 0.5 * math.log(factor)


@inlined
def place_rates(pixel, table):
    """Fill PLACE with where the rates lie on the table's second axis, ROOT with their roots."""
    rate, place, root, top = row(RATE), row(PLACE), row(ROOT), F(table.n_w - 1.001)
    w_min, per_w = F(table.w_min), F(table.per_w)
    for l in range(np.uint64(LANES)):
        half = math.sqrt(pixel[rate + l])
        pixel[root + l] = half
        at = (math.sqrt(half) - w_min) * per_w
        pixel[place + l] = min(max(at, ZERO), top)


@inlined
def score_mean(pixel, data, k, table):
    """Fill scores and expected information from the table."""
    place_rates(pixel, table)
    rate, score, weight, at = row(RATE), row(SCORE), row(WEIGHT), data_row(DATA, k)
    place = row(PLACE)
    for l in range(np.uint64(LANES)):
        mean, info = moments.mean_and_info(data[at + l], pixel[place + l], table)
        pixel[score + l] = mean
        pixel[weight + l] = info
    for l in range(np.uint64(LANES)):
        inverse = ONE / pixel[rate + l]
        pixel[score + l] = pixel[score + l] * inverse - ONE
        pixel[weight + l] *= inverse


@inlined
def score_moments(pixel, data, k, table, loglik):
    """Fill scores and their negative slopes from the table, and add ln q."""
    place_rates(pixel, table)
    rate, score, weight, at = row(RATE), row(SCORE), row(WEIGHT), data_row(DATA, k)
    place, root, seen = row(PLACE), row(ROOT), data_row(SEEN, k)
    per_excess = F(2.0 / table.excess)
    for l in range(np.uint64(LANES)):
        mean, var, rest = moments.mean_var_rest(data[at + l], pixel[place + l], table)
        pixel[score + l] = mean
        pixel[weight + l] = var
        apart = data[seen + l] - pixel[root + l]
        loglik[l] += rest - per_excess * apart * apart
    for l in range(np.uint64(LANES)):
        inverse = ONE / pixel[rate + l]
        mean = pixel[score + l]
        pixel[score + l] = mean * inverse - ONE
        pixel[weight + l] = (mean - pixel[weight + l]) * inverse * inverse


@inlined
def add_pixel(sums, pixel):
    """Add a pixel to the sums that gradient and information need."""
    score, weight, one = row(SCORE), row(WEIGHT), np.uint64(LANES)
    first, total, k0 = row(SCORES), row(SCORE_SUM), row(PRODUCTS)
    for l in range(one):
        s, i = pixel[score + l], pixel[weight + l]
        p, p1, p2 = pixel[l], pixel[one + l], pixel[one * 2 + l]
        p11, p12, p22 = pixel[one * 3 + l], pixel[one * 4 + l], pixel[one * 5 + l]
        sums[total + l] += s
        a = first + l
        sums[a] += s * p
        sums[a + one] += s * p1
        sums[a + one * 2] += s * p2
        sums[a + one * 3] += s * p11
        sums[a + one * 4] += s * p12
        sums[a + one * 5] += s * p22
        k = k0 + l
        c = i * p1
        sums[k] += c * p1
        c = i * p2
        sums[k + one] += c * p1
        sums[k + one * 2] += c * p2
        c = i * p
        sums[k + one * 3] += c * p1
        sums[k + one * 4] += c * p2
        sums[k + one * 5] += c * p
        c = i
        sums[k + one * 6] += c * p1
        sums[k + one * 7] += c * p2
        sums[k + one * 8] += c * p
        sums[k + one * 9] += c
        c = i * p11
        sums[k + one * 10] += c * p1
        sums[k + one * 11] += c * p2
        sums[k + one * 12] += c * p
        sums[k + one * 13] += c
        sums[k + one * 14] += c * p11
        c = i * p22
        sums[k + one * 15] += c * p1
        sums[k + one * 16] += c * p2
        sums[k + one * 17] += c * p
        sums[k + one * 18] += c
        sums[k + one * 19] += c * p11
        sums[k + one * 20] += c * p22
        c = i * p12
        sums[k + one * 21] += c * p1
        sums[k + one * 22] += c * p2
        sums[k + one * 23] += c * p
        sums[k + one * 24] += c
        sums[k + one * 25] += c * p11
        sums[k + one * 26] += c * p22
        sums[k + one * 27] += c * p12


@inlined
def add_high_orders(sums, pixel):
    """Add the score times the third and fourth derivatives."""
    score, first, one = row(SCORE), row(SCORES), np.uint64(LANES)
    for l in range(one):
        s, a = pixel[score + l], first + l
        sums[a + one * 6] += s * pixel[one * 6 + l]
        sums[a + one * 7] += s * pixel[one * 7 + l]
        sums[a + one * 8] += s * pixel[one * 8 + l]
        sums[a + one * 9] += s * pixel[one * 9 + l]
        sums[a + one * 10] += s * pixel[one * 10 + l]
        sums[a + one * 11] += s * pixel[one * 11 + l]
        sums[a + one * 12] += s * pixel[one * 12 + l]
        sums[a + one * 13] += s * pixel[one * 13 + l]
        sums[a + one * 14] += s * pixel[one * 14 + l]


@kernel
def coarse_sums(w, side, table):
    """Fill gradient and expected information, each pixel's square as one Gaussian."""
    spot, sums, pixel, data, _ = w
    shape_spots(spot, PIXEL_VAR)
    set_all(sums, ZERO)
    for k in range(side * side):
        coarse_pixel(spot, pixel, F(k % side), F(k // side))
        rate_pixel(spot, pixel, data, k)
        if table.per_w == 0.0:
            score_poisson(pixel, data, k, ZERO)
        else:
            score_mean(pixel, data, k, table)
        add_pixel(sums, pixel)


@kernel
def exact_sums(w, side, table):
    """Fill ln L, its gradient and all that its true Hessian needs."""
    spot, sums, pixel, data, loglik = w
    shape_spots(spot, POINT_VAR)
    set_all(sums, ZERO)
    set_all(loglik, 0.0)
    for k in range(side * side):
        exact_pixel(spot, pixel, F(k % side), F(k // side))
        rate_pixel(spot, pixel, data, k)
        if table.per_w == 0.0:
            score_poisson(pixel, data, k, ONE)
            add_log_poisson(pixel, data, k, loglik)
        else:
            score_moments(pixel, data, k, table, loglik)
        add_pixel(sums, pixel)
        add_high_orders(sums, pixel)
