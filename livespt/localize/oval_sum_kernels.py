# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""Sums over the pixels of `LANES` regions: likelihood, gradient and all that a Hessian needs.

Theory: `livespt.localize.posterior`; rows: `livespt.localize.oval_kernels`. What the camera's table
holds is copied first, spot by spot: loads from a table among vector stores would keep the
compiler from vectorising the arithmetic.
"""

from __future__ import annotations

import math

import numpy as np

from livespt.jit import inlined, kernel, lanes
from livespt.localize import moment_kernels as moments
from livespt.localize.column_kernels import log_poisson, set_all
from livespt.localize.oval_kernels import (
    CELL,
    DATA,
    EXTRA,
    HALF,
    LANES,
    MIN_RATE,
    ONE,
    PART_W,
    PART_Z,
    PRODUCTS,
    RATE,
    READ,
    ROOT,
    SCORE,
    SCORE_SUM,
    SCORES,
    SEEN,
    SKEWS,
    VAR,
    WEIGHT,
    ZERO,
    B,
    F,
    N,
    coarse_pixel,
    data_row,
    exact_pixel,
    row,
    shape_spots,
)

PER_NODE, VAR_OF, REST, INFO = (
    np.uint64(k) for k in (moments.PER_NODE, moments.VAR, moments.REST, moments.INFO)
)
NEXT = PER_NODE
U0, U1, U2 = (np.uint64(k) for k in range(3))


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


@lanes
def place(pixel, data, k, table, nearest):
    """Fill where count and rate lie in the table, and the rates' roots.

    CELL is the node below both, or with `nearest` = 1/2 that of the nearest count; a rate that is
    no number reads the first node.
    """
    rate, root, cell, at = row(RATE), row(ROOT), row(CELL), data_row(DATA, k)
    part_z, part_w, n_w = row(PART_Z), row(PART_W), F(table.n_w)
    w_min, per_w, top = F(table.w_min), F(table.per_w), F(table.n_w - 1.001)
    for l in range(np.uint64(LANES)):
        half = math.sqrt(pixel[rate + l])
        pixel[root + l] = half
        at_w = (math.sqrt(half) - w_min) * per_w
        at_w = min(at_w if at_w > ZERO else ZERO, top)
        at_z = data[at + l]
        low_z, low_w = F(np.int32(at_z + nearest)), F(np.int32(at_w))
        pixel[part_z + l] = at_z - low_z
        pixel[part_w + l] = at_w - low_w
        pixel[cell + l] = low_z * n_w + low_w


@lanes
def read_level(pixel, nodes):
    """Read mean and information at the two rates around each place."""
    cell, to, one = row(CELL), row(READ), np.uint64(LANES)
    for l in range(one):
        at = np.uint64(np.int32(pixel[cell + l])) * PER_NODE
        a, b, c, d = nodes[at], nodes[at + INFO], nodes[at + NEXT], nodes[at + NEXT + INFO]
        pixel[to + l], pixel[to + one + l] = a, b
        pixel[to + one * 2 + l], pixel[to + one * 3 + l] = c, d


@lanes
def read_cell(pixel, nodes, n_w):
    """Read mean, variance and rest at the four nodes around each place."""
    cell, to, one, far = row(CELL), row(READ), np.uint64(LANES), np.uint64(n_w) * PER_NODE
    for l in range(one):
        at = np.uint64(np.int32(pixel[cell + l])) * PER_NODE
        up = at + far
        a, b, c = nodes[at], nodes[at + VAR_OF], nodes[at + REST]
        d, e, f = nodes[at + NEXT], nodes[at + NEXT + VAR_OF], nodes[at + NEXT + REST]
        g, h, i = nodes[up], nodes[up + VAR_OF], nodes[up + REST]
        j, m, n = nodes[up + NEXT], nodes[up + NEXT + VAR_OF], nodes[up + NEXT + REST]
        pixel[to + l], pixel[to + one + l], pixel[to + one * 2 + l] = a, b, c
        pixel[to + one * 3 + l], pixel[to + one * 4 + l], pixel[to + one * 5 + l] = d, e, f
        pixel[to + one * 6 + l], pixel[to + one * 7 + l], pixel[to + one * 8 + l] = g, h, i
        pixel[to + one * 9 + l], pixel[to + one * 10 + l], pixel[to + one * 11 + l] = j, m, n


@lanes
def between(pixel, l, which, u, v):
    """Return one quantity of a cell by bilinear interpolation."""
    one, at = np.uint64(LANES), row(READ) + np.uint64(LANES) * which + l
    below = pixel[at] + v * (pixel[at + one * 3] - pixel[at])
    above = pixel[at + one * 6] + v * (pixel[at + one * 9] - pixel[at + one * 6])
    return below + u * (above - below)


@lanes
def score_mean(pixel, data, k, table):
    """Fill scores, at the nearest counts (a tenth of their s.d. away at most), and information."""
    place(pixel, data, k, table, HALF)
    read_level(pixel, table.nodes)
    rate, score, weight, part = row(RATE), row(SCORE), row(WEIGHT), row(PART_W)
    to, one = row(READ), np.uint64(LANES)
    for l in range(one):
        inverse, v = ONE / pixel[rate + l], pixel[part + l]
        mean, info = pixel[to + l], pixel[to + one + l]
        mean += v * (pixel[to + one * 2 + l] - mean)
        info += v * (pixel[to + one * 3 + l] - info)
        pixel[score + l] = mean * inverse - ONE
        pixel[weight + l] = info * inverse


@lanes
def score_moments(pixel, data, k, table, loglik):
    """Fill scores and their negative slopes from the table, and add ln q."""
    place(pixel, data, k, table, ZERO)
    read_cell(pixel, table.nodes, table.n_w)
    rate, score, weight, root = row(RATE), row(SCORE), row(WEIGHT), row(ROOT)
    part_z, part_w, seen = row(PART_Z), row(PART_W), data_row(SEEN, k)
    per_excess = F(2.0 / table.excess)
    for l in range(np.uint64(LANES)):
        u, v, inverse = pixel[part_z + l], pixel[part_w + l], ONE / pixel[rate + l]
        mean, var = between(pixel, l, U0, u, v), between(pixel, l, U1, u, v)
        pixel[score + l] = mean * inverse - ONE
        pixel[weight + l] = (mean - var) * inverse * inverse
        apart = data[seen + l] - pixel[root + l]
        pixel[root + l] = between(pixel, l, U2, u, v) - per_excess * apart * apart
    for l in range(np.uint64(LANES)):
        loglik[l] += np.float64(pixel[root + l])


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
    """Add the score times the third and fourth derivatives, and what tells of skewness."""
    score, weight, first, one = row(SCORE), row(WEIGHT), row(SCORES), np.uint64(LANES)
    skew = row(SKEWS)
    for l in range(one):
        s, a, b = pixel[score + l], first + l, skew + l
        p30, p21 = pixel[one * 6 + l], pixel[one * 7 + l]
        p12, p03 = pixel[one * 8 + l], pixel[one * 9 + l]
        i1, i2 = pixel[weight + l] * pixel[one + l], pixel[weight + l] * pixel[one * 2 + l]
        sums[b] += i1 * p30
        sums[b + one] += i1 * p21
        sums[b + one * 2] += i1 * p12
        sums[b + one * 3] += i1 * p03
        sums[b + one * 4] += i2 * p30
        sums[b + one * 5] += i2 * p21
        sums[b + one * 6] += i2 * p12
        sums[b + one * 7] += i2 * p03
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
    spot, sums, pixel, data = w.spot, w.sums, w.pixel, w.data
    shape_spots(spot)
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
    spot, sums, pixel, data, loglik = w.spot, w.sums, w.pixel, w.data, w.loglik
    shape_spots(spot)
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
