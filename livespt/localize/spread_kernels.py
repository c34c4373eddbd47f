# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""The covariance of `LANES` climbed posteriors, and what a path's skewness adds to it.

Theory: `livespt.localize.posterior`; rows: `livespt.localize.newton_kernels`.
"""

from __future__ import annotations

import math

import numpy as np

from livespt.jit import kernel_of_lanes, lanes
from livespt.localize import oval_kernels as oval
from livespt.localize.algebra_kernels import INVERSE
from livespt.localize.newton_kernels import (
    BEST,
    COS,
    COVARIANCE,
    S1,
    S2,
    SIN,
    SYMMETRIC,
    B,
    N,
)
from livespt.localize.oval_kernels import LANES, SKEW_ROWS

_ALL = np.uint64(LANES)
#: Mean squares of a free path's third central moments (111, 112, 122, 222; its long axis is 1)
#: over the means of v1^3, v1^2 v2, v1 v2^2, v2^3, v its own variances (tests/oracle).
SKEW_SHARES = (0.168, 0.145, 0.126, 0.225)


@lanes
def products(m, scale):
    """Return the products of one row of L^-1 J^T, J from steps to (x, y, N, b, mean width)."""
    co, si, n, b, u1, u2 = scale
    x, y, light = co * m[0] - si * m[1], si * m[0] + co * m[1], n * m[2]
    ground, width = b * m[3], u1 * m[4] + u2 * m[5]
    by_x = (x * x, y * x, y * y, light * x, light * y, light * light)
    by_b = (ground * x, ground * y, ground * light, ground * ground)
    return (*by_x, *by_b, width * x, width * y, width * light, width * ground, width * width)


@kernel_of_lanes
def fill_covariance(w, model):
    """Fill the covariance of (x, y, N, b, geometric mean width) by the delta method."""
    m = INVERSE
    for k in range(_ALL):
        one = model.sigma0 * (model.offset + w[BEST[S1] + k])
        two = model.sigma0 * (model.offset + w[BEST[S2] + k])
        mean = math.sqrt(one * two)
        d1, d2 = model.sigma0 * w[BEST[S1] + k], model.sigma0 * w[BEST[S2] + k]
        u1 = d1 if model.shape == SYMMETRIC else 0.5 * mean * d1 / one
        u2 = 0.0 if model.shape == SYMMETRIC else 0.5 * mean * d2 / two
        s = (w[BEST[COS] + k], w[BEST[SIN] + k], w[BEST[N] + k], w[BEST[B] + k], u1, u2)
        t0 = products((w[m[0] + k], 0.0, 0.0, 0.0, 0.0, 0.0), s)
        t1 = products((w[m[1] + k], w[m[2] + k], 0.0, 0.0, 0.0, 0.0), s)
        t2 = products((w[m[3] + k], w[m[4] + k], w[m[5] + k], 0.0, 0.0, 0.0), s)
        r3 = (w[m[6] + k], w[m[7] + k], w[m[8] + k], w[m[9] + k], 0.0, 0.0)
        r4 = (w[m[10] + k], w[m[11] + k], w[m[12] + k], w[m[13] + k], w[m[14] + k], 0.0)
        r5 = (w[m[15] + k], w[m[16] + k], w[m[17] + k], w[m[18] + k], w[m[19] + k], w[m[20] + k])
        r6 = (w[m[21] + k], w[m[22] + k], w[m[23] + k], w[m[24] + k], w[m[25] + k], w[m[26] + k])
        t3, t4, t5, t6 = products(r3, s), products(r4, s), products(r5, s), products(r6, s)
        w[COVARIANCE[0] + k] = t0[0] + t1[0] + t2[0] + t3[0] + t4[0] + t5[0] + t6[0]
        w[COVARIANCE[1] + k] = t0[1] + t1[1] + t2[1] + t3[1] + t4[1] + t5[1] + t6[1]
        w[COVARIANCE[2] + k] = t0[2] + t1[2] + t2[2] + t3[2] + t4[2] + t5[2] + t6[2]
        w[COVARIANCE[3] + k] = t2[3] + t3[3] + t4[3] + t5[3] + t6[3]
        w[COVARIANCE[4] + k] = t2[4] + t3[4] + t4[4] + t5[4] + t6[4]
        w[COVARIANCE[5] + k] = t2[5] + t3[5] + t4[5] + t5[5] + t6[5]
        w[COVARIANCE[6] + k] = t3[6] + t4[6] + t5[6] + t6[6]
        w[COVARIANCE[7] + k] = t3[7] + t4[7] + t5[7] + t6[7]
        w[COVARIANCE[8] + k] = t3[8] + t4[8] + t5[8] + t6[8]
        w[COVARIANCE[9] + k] = t3[9] + t4[9] + t5[9] + t6[9]
        w[COVARIANCE[10] + k] = t4[10] + t5[10] + t6[10]
        w[COVARIANCE[11] + k] = t4[11] + t5[11] + t6[11]
        w[COVARIANCE[12] + k] = t4[12] + t5[12] + t6[12]
        w[COVARIANCE[13] + k] = t4[13] + t5[13] + t6[13]
        w[COVARIANCE[14] + k] = t4[14] + t5[14] + t6[14]


@kernel_of_lanes
def add_skewness(w, sums, model):
    """Add the variance of the positions due to the third moments that the paths may have."""
    q, p, v0 = oval.SCORE_ROWS, SKEW_ROWS, model.sigma0 * model.sigma0
    f1, f2 = math.sqrt(SKEW_SHARES[0]) / 6.0, math.sqrt(SKEW_SHARES[1]) / 2.0
    f3, f4 = math.sqrt(SKEW_SHARES[2]) / 2.0, math.sqrt(SKEW_SHARES[3]) / 6.0
    for k in range(_ALL):
        s1, s2, n = w[BEST[S1] + k], w[BEST[S2] + k], w[BEST[N] + k]
        co, si = w[BEST[COS] + k], w[BEST[SIN] + k]
        v1, v2 = v0 * s1 * (2.0 + s1), v0 * s2 * (2.0 + s2)  # of the path
        d1, d2 = math.sqrt(v1), math.sqrt(v2)
        k1, k2, k3, k4 = f1 * v1 * d1, f2 * v1 * d2, f3 * d1 * v2, f4 * v2 * d2
        # how far each pulls at x1 and x2, per s.d.
        q31, q22, q13 = sums[q[oval.Q31] + k], sums[q[oval.Q22] + k], sums[q[oval.Q13] + k]
        a1, b1 = n * sums[p[0] + k] - sums[q[oval.Q40] + k], n * sums[p[4] + k] - q31
        a2, b2 = n * sums[p[1] + k] - q31, n * sums[p[5] + k] - q22
        a3, b3 = n * sums[p[2] + k] - q22, n * sums[p[6] + k] - q13
        a4, b4 = n * sums[p[3] + k] - q13, n * sums[p[7] + k] - sums[q[oval.Q04] + k]
        a1, a2, a3, a4 = n * k1 * a1, n * k2 * a2, n * k3 * a3, n * k4 * a4
        b1, b2, b3, b4 = n * k1 * b1, n * k2 * b2, n * k3 * b3, n * k4 * b4
        aa, bb = a1 * a1 + a2 * a2 + a3 * a3 + a4 * a4, b1 * b1 + b2 * b2 + b3 * b3 + b4 * b4
        ab = a1 * b1 + a2 * b2 + a3 * b3 + a4 * b4
        # turned to x and y: C S C, C the covariance so far
        g00 = co * co * aa - 2.0 * co * si * ab + si * si * bb
        g01 = co * si * (aa - bb) + (co * co - si * si) * ab
        g11 = si * si * aa + 2.0 * co * si * ab + co * co * bb
        c00, c01, c11 = w[COVARIANCE[0] + k], w[COVARIANCE[1] + k], w[COVARIANCE[2] + k]
        h00, h01 = c00 * g00 + c01 * g01, c00 * g01 + c01 * g11
        h10, h11 = c01 * g00 + c11 * g01, c01 * g01 + c11 * g11
        w[COVARIANCE[0] + k] += h00 * c00 + h01 * c01
        w[COVARIANCE[1] + k] += h10 * c00 + h11 * c01
        w[COVARIANCE[2] + k] += h10 * c01 + h11 * c11
