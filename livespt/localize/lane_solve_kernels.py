# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""The normal equations of every spot: one scoring step, and the covariance.

Theory and rows: `lane_kernels`; J theta-step = g by J = L D L^T, written out for five parameters.
A pivot d_k far below its diagonal says that parameters are not told apart; the least ratio is
kept, and such spots are left to the float64 reference.
"""

from __future__ import annotations

import numpy as np

from livespt.jit import lanes
from livespt.localize import lane_row_kernels as sums
from livespt.localize import second_order_kernels as second_order
from livespt.localize.lane_kernels import (
    COVARIANCE,
    DECREMENT,
    HALF,
    HIGH_X,
    HIGH_Y,
    INVERSE,
    LANES,
    LOW_X,
    LOW_Y,
    ONE,
    PER_CENTRE,
    PER_WIDTH,
    PIVOT,
    WIDTH,
    ZERO,
    B,
    N,
    S,
    X,
    Y,
)

COV = tuple(COVARIANCE + np.uint64(k * LANES) for k in range(15))
_F = np.float32
_FAR_N, _FAR_B, _FAR_S = _F(0.7), _F(0.8), _F(0.3)
_LEAST_N = _F(10.0)


@lanes
def free(value, low, high, slope):
    """Return 0 for a parameter at a bound that the gradient pushes against, else 1."""
    held = ((value <= low) & (slope < ZERO)) | ((value >= high) & (slope > ZERO))
    return ZERO if held else ONE


@lanes
def factor(a):
    """Return L (below the diagonal), D and the least pivot ratio of a symmetric 5 x 5 matrix.

    `a` is the upper triangle, line by line.
    """
    a00, a01, a02, a03, a04, a11, a12, a13, a14, a22, a23, a24, a33, a34, a44 = a
    e0 = ONE / a00
    l10, l20, l30, l40 = a01 * e0, a02 * e0, a03 * e0, a04 * e0
    d1 = a11 - l10 * a01
    e1 = ONE / d1
    c21, c31, c41 = a12 - l20 * a01, a13 - l30 * a01, a14 - l40 * a01
    l21, l31, l41 = c21 * e1, c31 * e1, c41 * e1
    d2 = a22 - l20 * a02 - l21 * c21
    e2 = ONE / d2
    c32, c42 = a23 - l30 * a02 - l31 * c21, a24 - l40 * a02 - l41 * c21
    l32, l42 = c32 * e2, c42 * e2
    d3 = a33 - l30 * a03 - l31 * c31 - l32 * c32
    e3 = ONE / d3
    c43 = a34 - l40 * a03 - l41 * c31 - l42 * c32
    l43 = c43 * e3
    d4 = a44 - l40 * a04 - l41 * c41 - l42 * c42 - l43 * c43
    least = min(min(d1 / a11, d2 / a22), min(d3 / a33, d4 / a44))
    return (l10, l20, l21, l30, l31, l32, l40, l41, l42, l43), (e0, e1, e2, e3, ONE / d4), least


@lanes
def information(w, k):
    """Return gradient and information (upper triangle) of spot `k`, with N and 1/sigma in."""
    n = w[N + k] * w[INVERSE + k]
    n, m = PER_CENTRE * n, PER_WIDTH * n
    nn, nm = n * n, n * m
    g = (n * w[sums.GX + k], n * w[sums.GY + k], w[sums.GN + k], w[sums.GB + k], m * w[sums.GS + k])
    a = (
        nn * w[sums.XX + k],
        nn * w[sums.XY + k],
        n * w[sums.XN + k],
        n * w[sums.XB + k],
        nm * w[sums.XS + k],
        nn * w[sums.YY + k],
        n * w[sums.YN + k],
        n * w[sums.YB + k],
        nm * w[sums.YS + k],
        w[sums.NN + k],
        w[sums.NB + k],
        m * w[sums.NS + k],
        w[sums.BB + k],
        m * w[sums.BS + k],
        m * m * w[sums.SS + k],
    )
    return g, a


@lanes
def observed(w, k, a):
    """Return the information less the scores times second derivatives.

    That is the likelihood's own curvature where data are about what is expected.
    """
    per_s = w[INVERSE + k]
    centre, width = PER_CENTRE * per_s, PER_WIDTH * per_s
    n = w[N + k] * per_s
    n, m = centre * n, width * n
    a00, a01, a02, a03, a04, a11, a12, a13, a14, a22, a23, a24, a33, a34, a44 = a
    bent_x, per_n = w[sums.BENT_X + k], n * w[sums.BENT_XY + k]
    return (
        a00 - m * bent_x,
        a01 - PER_CENTRE * per_n,
        a02 - centre * w[sums.GX + k],
        a03,
        a04 - n * w[sums.BENT_XS + k],
        a11 - m * (w[sums.GS + k] - bent_x),
        a12 - centre * w[sums.GY + k],
        a13,
        a14 - n * w[sums.BENT_YS + k],
        a22,
        a23,
        a24 - width * w[sums.GS + k],
        a33,
        a34,
        a44 - m * w[sums.BENT_S + k],
    )


@lanes
def hold(a, f):
    """Take held parameters (factor 0) out of the information."""
    a00, a01, a02, a03, a04, a11, a12, a13, a14, a22, a23, a24, a33, a34, a44 = a
    f0, f1, f2, f3, f4 = f
    return (
        f0 * a00 + (ONE - f0),
        f0 * f1 * a01,
        f0 * f2 * a02,
        f0 * f3 * a03,
        f0 * f4 * a04,
        f1 * a11 + (ONE - f1),
        f1 * f2 * a12,
        f1 * f3 * a13,
        f1 * f4 * a14,
        f2 * a22 + (ONE - f2),
        f2 * f3 * a23,
        f2 * f4 * a24,
        f3 * a33 + (ONE - f3),
        f3 * f4 * a34,
        f4 * a44 + (ONE - f4),
    )


@lanes
def clipped(value, step, far, low, high):
    """Return `value` after a step of at most `far`, within its bounds."""
    return min(max(value + min(max(step, -far), far), low), high)


@lanes
def move(w, k, gradient, a, bounds):
    """Move spot `k` by one step; keep its decrement and least pivot.

    Where the curvature `a` is not that of a top it stays, and its decrement is 1.
    """
    low_n, high_n, low_b, high_b, low_s, high_s, free_s = bounds
    gx, gy, gn, gb, gs = gradient
    x, y, n, b, s = w[X + k], w[Y + k], w[N + k], w[B + k], w[S + k]
    f0 = free(x, w[LOW_X + k], w[HIGH_X + k], gx)
    f1 = free(y, w[LOW_Y + k], w[HIGH_Y + k], gy)
    f2, f3 = free(n, low_n, high_n, gn), free(b, low_b, high_b, gb)
    f4 = free_s * free(s, low_s, high_s, gs)
    l, e, least = factor(hold(a, (f0, f1, f2, f3, f4)))
    l10, l20, l21, l30, l31, l32, l40, l41, l42, l43 = l
    z0 = f0 * gx
    z1 = f1 * gy - l10 * z0
    z2 = f2 * gn - l20 * z0 - l21 * z1
    z3 = f3 * gb - l30 * z0 - l31 * z1 - l32 * z2
    z4 = f4 * gs - l40 * z0 - l41 * z1 - l42 * z2 - l43 * z3
    v0, v1, v2, v3, v4 = z0 * e[0], z1 * e[1], z2 * e[2], z3 * e[3], z4 * e[4]
    sound = min(min(min(e[0], e[1]), min(e[2], e[3])), e[4]) > ZERO
    decrement = z0 * v0 + z1 * v1 + z2 * v2 + z3 * v3 + z4 * v4
    w[DECREMENT + k] = decrement if sound else ONE
    w[PIVOT + k] = least
    s4 = v4
    s3 = v3 - l43 * s4
    s2 = v2 - l32 * s3 - l42 * s4
    s1 = v1 - l21 * s2 - l31 * s3 - l41 * s4
    s0 = v0 - l10 * s1 - l20 * s2 - l30 * s3 - l40 * s4
    new_x = clipped(x, s0, HALF * s, w[LOW_X + k], w[HIGH_X + k])
    new_y = clipped(y, s1, HALF * s, w[LOW_Y + k], w[HIGH_Y + k])
    new_n = clipped(n, s2, max(_FAR_N * n, _LEAST_N), low_n, high_n)
    new_b = clipped(b, s3, max(_FAR_B * b, ONE), low_b, high_b)
    new_s = clipped(s, s4, _FAR_S * s, low_s, high_s)
    w[X + k] = new_x if sound else x
    w[Y + k] = new_y if sound else y
    w[N + k] = new_n if sound else n
    w[B + k] = new_b if sound else b
    w[S + k] = new_s if sound else s


@lanes
def take_step(w, bounds):
    """Move every spot by one scoring step.

    `bounds` is (low N, high N, low b, high b, low sigma, high sigma, 0 to hold sigma else 1).
    """
    for k in range(WIDTH):
        g, a = information(w, k)
        move(w, k, g, a, bounds)


@lanes
def take_bent_step(w, bounds):
    """Move every spot by one step of the observed curvature, of which the last pass has sums."""
    for k in range(WIDTH):
        g, a = information(w, k)
        move(w, k, g, observed(w, k, a), bounds)


@lanes
def widen_position(w, free_s):
    """Take every covariance of x and y from the bound to what a free width leaves of it."""
    for k in range(WIDTH):
        var_s, per_s = w[COV[14] + k], w[INVERSE + k]
        x = second_order.growth(w[COV[0] + k], var_s, per_s, free_s)
        y = second_order.growth(w[COV[2] + k], var_s, per_s, free_s)
        w[COV[0] + k] *= x * x
        w[COV[1] + k] *= x * y
        w[COV[2] + k] *= y * y
        w[COV[3] + k] *= x
        w[COV[4] + k] *= y
        w[COV[6] + k] *= x
        w[COV[7] + k] *= y
        w[COV[10] + k] *= x
        w[COV[11] + k] *= y


@lanes
def fill_covariance(w, free_s):
    """Fill the inverse of the full information, bounds or not; that of a held width is 0."""
    for k in range(WIDTH):
        _, a = information(w, k)
        l, e, least = factor(hold(a, (ONE, ONE, ONE, ONE, free_s)))
        l10, l20, l21, l30, l31, l32, l40, l41, l42, l43 = l
        e0, e1, e2, e3, e4 = e
        e4 = free_s * e4
        w[PIVOT + k] = min(w[PIVOT + k], least)
        # M = L^-1, J^-1 = M^T D^-1 M
        m10, m21, m32, m43 = -l10, -l21, -l32, -l43
        m20 = -l20 - l21 * m10
        m31 = -l31 - l32 * m21
        m42 = -l42 - l43 * m32
        m30 = -l30 - l31 * m10 - l32 * m20
        m41 = -l41 - l42 * m21 - l43 * m31
        m40 = -l40 - l41 * m10 - l42 * m20 - l43 * m30
        h1, h2, h3, h4 = m10 * e1, m20 * e2, m30 * e3, m40 * e4
        w[COV[0] + k] = e0 + m10 * h1 + m20 * h2 + m30 * h3 + m40 * h4
        w[COV[1] + k] = h1 + m21 * h2 + m31 * h3 + m41 * h4
        w[COV[3] + k] = h2 + m32 * h3 + m42 * h4
        w[COV[6] + k] = h3 + m43 * h4
        w[COV[10] + k] = h4
        h2, h3, h4 = m21 * e2, m31 * e3, m41 * e4
        w[COV[2] + k] = e1 + m21 * h2 + m31 * h3 + m41 * h4
        w[COV[4] + k] = h2 + m32 * h3 + m42 * h4
        w[COV[7] + k] = h3 + m43 * h4
        w[COV[11] + k] = h4
        h3, h4 = m32 * e3, m42 * e4
        w[COV[5] + k] = e2 + m32 * h3 + m42 * h4
        w[COV[8] + k] = h3 + m43 * h4
        w[COV[12] + k] = h4
        h4 = m43 * e4
        w[COV[9] + k] = e3 + m43 * h4
        w[COV[13] + k] = h4
        w[COV[14] + k] = e4
