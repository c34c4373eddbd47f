# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""Sums over the pixels of `LANES` regions: likelihood, gradient and all that a Hessian needs.

Theory: `livespt.localize.posterior`; rows: `livespt.localize.oval_kernels`. A node of the camera's
table holds mean, variance, rest and information; beside it lies the node next in the rate, so that
one place read is half a cell.
"""

from __future__ import annotations

import math

import numpy as np

from livespt.jit import inlined, kernel_of_lanes, lanes
from livespt.localize import moment_kernels as moments
from livespt.localize.column_kernels import log_poisson, set_all
from livespt.localize.oval_kernels import (
    DATA,
    EXTRA,
    HALF,
    LANES,
    LOG_Q,
    MIN_RATE,
    N_Q,
    ONE,
    PRODUCT_ROWS,
    Q00,
    Q01,
    Q02,
    Q03,
    Q10,
    Q11,
    Q12,
    Q20,
    Q21,
    Q30,
    RATE,
    SCORE,
    SCORE_ROW,
    SCORE_ROWS,
    SEEN,
    SKEW_ROWS,
    VAR,
    WEIGHT,
    ZERO,
    B,
    F,
    N,
    coarse_pixel,
    data_row,
    exact_pixel,
    put,
    row,
    shape_spots,
)
from livespt.vector_rows import gather_rows
from livespt.vectors import address, least, load, most, root, spread, store, whole

PER_NODE = F(moments.PER_NODE)


@lanes
def rate_pixel(spot, pixel, data, k):
    """Fill the rates from q00."""
    known = load(spot, row(B)) + load(data, data_row(EXTRA, k))
    rate = known + load(spot, row(N)) * load(pixel, row(Q00))
    put(pixel, RATE, most(rate, spread(MIN_RATE)))


@lanes
def score_poisson(pixel, data, k, observed):
    """Fill scores and weights of shifted Poisson data.

    A weight is the expected information or, where `observed` is 1, the score's negative slope.
    """
    inverse = ONE / (load(pixel, row(RATE)) + load(data, data_row(VAR, k)))
    seen = load(data, data_row(DATA, k)) * inverse - ONE
    put(pixel, SCORE, seen)
    put(pixel, WEIGHT, inverse * (ONE + observed * seen))


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
    """Return where count and rate lie in the table: the node, the parts beyond it, sqrt(rate).

    The node is that below both, or with `nearest` = 1/2 that of the nearest count; a rate that is
    no number reads the first node.
    """
    half = root(load(pixel, row(RATE)))
    at_w = most((root(half) - F(table.w_min)) * F(table.per_w), spread(ZERO))
    at_w, at_z = least(at_w, spread(F(table.n_w - 1.001))), load(data, data_row(DATA, k))
    low_z, low_w = whole(at_z + nearest), whole(at_w)
    node = (low_z * F(table.n_w) + low_w) * PER_NODE
    return node, at_z - low_z, at_w - low_w, half


@lanes
def between(low, high, part):
    """Return what lies between two nodes."""
    return low + part * (high - low)


@lanes
def score_mean(pixel, data, k, table):
    """Fill scores, at the nearest counts (a tenth of their s.d. away at most), and information."""
    node, _, v, _ = place(pixel, data, k, table, HALF)
    mean, _, _, info, next_mean, _, _, next_info = gather_rows(table.nodes, node)
    inverse = ONE / load(pixel, row(RATE))
    put(pixel, SCORE, between(mean, next_mean, v) * inverse - ONE)
    put(pixel, WEIGHT, between(info, next_info, v) * inverse)


@lanes
def score_moments(pixel, data, k, table, loglik):
    """Fill scores and their negative slopes from the table, and add ln q."""
    node, u, v, half = place(pixel, data, k, table, ZERO)
    up = node + F(table.n_w) * PER_NODE
    m0, s0, r0, _, m1, s1, r1, _ = gather_rows(table.nodes, node)
    m2, s2, r2, _, m3, s3, r3, _ = gather_rows(table.nodes, up)
    mean = between(between(m0, m1, v), between(m2, m3, v), u)
    var = between(between(s0, s1, v), between(s2, s3, v), u)
    rest = between(between(r0, r1, v), between(r2, r3, v), u)
    inverse, apart = ONE / load(pixel, row(RATE)), load(data, data_row(SEEN, k)) - half
    put(pixel, SCORE, mean * inverse - ONE)
    put(pixel, WEIGHT, (mean - var) * inverse * inverse)
    put(pixel, LOG_Q, rest - F(2.0 / table.excess) * apart * apart)
    for l in range(np.uint64(LANES)):
        loglik[l] += np.float64(pixel[row(LOG_Q) + l])


@lanes
def add_to(sums, at, v):
    """Add to a row of sums."""
    store(sums, at, load(sums, at) + v)


@lanes
def add_pixel(sums, pixel):
    """Add a pixel to the sums that gradient and information need."""
    s, i, k = load(pixel, row(SCORE)), load(pixel, row(WEIGHT)), PRODUCT_ROWS
    p, p1, p2 = load(pixel, row(Q00)), load(pixel, row(Q10)), load(pixel, row(Q01))
    p11, p12, p22 = load(pixel, row(Q20)), load(pixel, row(Q11)), load(pixel, row(Q02))
    add_to(sums, SCORE_ROW, s)
    add_to(sums, SCORE_ROWS[Q00], s * p)
    add_to(sums, SCORE_ROWS[Q10], s * p1)
    add_to(sums, SCORE_ROWS[Q01], s * p2)
    add_to(sums, SCORE_ROWS[Q20], s * p11)
    add_to(sums, SCORE_ROWS[Q11], s * p12)
    add_to(sums, SCORE_ROWS[Q02], s * p22)
    c = i * p1
    add_to(sums, k[0], c * p1)
    add_to(sums, k[1], c * p2)
    c = i * p
    add_to(sums, k[3], c * p1)
    add_to(sums, k[4], c * p2)
    add_to(sums, k[5], c * p)
    add_to(sums, k[2], i * p2 * p2)
    add_to(sums, k[6], i * p1)
    add_to(sums, k[7], i * p2)
    add_to(sums, k[8], c)
    add_to(sums, k[9], i)
    c = i * p11
    add_to(sums, k[10], c * p1)
    add_to(sums, k[11], c * p2)
    add_to(sums, k[12], c * p)
    add_to(sums, k[13], c)
    add_to(sums, k[14], c * p11)
    c = i * p22
    add_to(sums, k[15], c * p1)
    add_to(sums, k[16], c * p2)
    add_to(sums, k[17], c * p)
    add_to(sums, k[18], c)
    add_to(sums, k[19], c * p11)
    add_to(sums, k[20], c * p22)
    c = i * p12
    add_to(sums, k[21], c * p1)
    add_to(sums, k[22], c * p2)
    add_to(sums, k[23], c * p)
    add_to(sums, k[24], c)
    add_to(sums, k[25], c * p11)
    add_to(sums, k[26], c * p22)
    add_to(sums, k[27], c * p12)


@lanes
def add_high_orders(sums, pixel):
    """Add the score times the third and fourth derivatives, and what tells of skewness."""
    s, i = load(pixel, row(SCORE)), load(pixel, row(WEIGHT))
    i1, i2 = i * load(pixel, row(Q10)), i * load(pixel, row(Q01))
    p30, p21 = load(pixel, row(Q30)), load(pixel, row(Q21))
    p12, p03 = load(pixel, row(Q12)), load(pixel, row(Q03))
    add_to(sums, SKEW_ROWS[0], i1 * p30)
    add_to(sums, SKEW_ROWS[1], i1 * p21)
    add_to(sums, SKEW_ROWS[2], i1 * p12)
    add_to(sums, SKEW_ROWS[3], i1 * p03)
    add_to(sums, SKEW_ROWS[4], i2 * p30)
    add_to(sums, SKEW_ROWS[5], i2 * p21)
    add_to(sums, SKEW_ROWS[6], i2 * p12)
    add_to(sums, SKEW_ROWS[7], i2 * p03)
    for k in range(Q30, N_Q):
        at = np.uint64(k * LANES)
        add_to(sums, SCORE_ROWS[0] + at, s * load(pixel, at))


@kernel_of_lanes
def coarse_sums(w, side, table):
    """Fill gradient and expected information, each pixel's square as one Gaussian."""
    shape_spots(w.spot)
    set_all(w.sums, ZERO)
    spot, sums, pixel, data = address(w.spot), address(w.sums), address(w.pixel), address(w.data)
    for k in range(side * side):
        coarse_pixel(spot, pixel, F(k % side), F(k // side))
        rate_pixel(spot, pixel, data, k)
        if table.per_w == 0.0:
            score_poisson(pixel, data, k, ZERO)
        else:
            score_mean(pixel, data, k, table)
        add_pixel(sums, pixel)


@kernel_of_lanes
def exact_sums(w, side, table):
    """Fill ln L, its gradient and all that its true Hessian needs."""
    shape_spots(w.spot)
    set_all(w.sums, ZERO)
    set_all(w.loglik, 0.0)
    spot, sums, pixel, data = address(w.spot), address(w.sums), address(w.pixel), address(w.data)
    loglik = address(w.loglik)
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
