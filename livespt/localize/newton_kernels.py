# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""One Newton step on the posterior of one spot (theory: `livespt.localize.posterior`).

A spot's state is (x, y, N, b, s1, s2, cos, sin); steps are in (x1, x2, ln N, ln b, u1, u2, c): the
position along the spot's own axes, u = ln s, and c the covariance that the two axes would gain.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from livespt.jit import inlined, kernel
from livespt.localize.oval_kernels import (
    LANES,
    PRODUCTS,
    Q00,
    Q01,
    Q02,
    Q03,
    Q04,
    Q10,
    Q11,
    Q12,
    Q13,
    Q20,
    Q21,
    Q22,
    Q30,
    Q31,
    Q40,
    SCORE_SUM,
    SCORES,
)

FIXED, SYMMETRIC, ASYMMETRIC = 0, 1, 2
X, Y, N, B, S1, S2, COS, SIN = range(8)  # of a state
N_STATE, N_STEP = 8, 7
LOG_N, LOG_B, U1, U2, C = range(2, 7)  # of a step, after x1 and x2
LOG_B_VAR = math.log(30.0) ** 2
_LOG_NORM_B = -0.5 * math.log(2.0 * math.pi * LOG_B_VAR)


class Model(NamedTuple):
    """What is fitted, and the priors."""

    side: int
    sigma0: float
    shape: int  # FIXED, SYMMETRIC or ASYMMETRIC
    prior: int  # 1 with priors, 0 without: widths are then sigma0 s
    offset: float  # widths are sigma0 (offset + s)
    mean_s: float  # of each excess width's prior
    low_s: float
    high_s: float


@inlined
def slope_of_prior(s1, s2, mean_s):
    """Return (f'(v1) - f'(v2))/(v1 - v2), f the log prior of a width, in units of sigma0^2.

    Written so that nothing vanishes where the widths are equal.
    """
    r1, r2 = 1.0 + s1, 1.0 + s2
    product, total = r1 * r2, r1 + r2
    return 0.5 / (product * total) * (1.0 / mean_s - (total - 1.0) / (s1 * s2))


@inlined
def log_prior(state, b0, model):
    """Return the log prior in (ln N, ln b, u1, u2)."""
    if model.prior == 0:
        return 0.0
    off = math.log(state[B] / b0)
    total = _LOG_NORM_B - 0.5 * off * off / LOG_B_VAR
    if model.shape != FIXED:
        total += math.log(state[S1] / model.mean_s) - state[S1] / model.mean_s
    if model.shape == ASYMMETRIC:
        total += math.log(state[S2] / model.mean_s) - state[S2] / model.mean_s
    return total


@inlined
def assemble(sums, l, state, b0, model, exact, g, H, scale):
    """Fill gradient and negative Hessian of one lane, from its sums.

    `exact` takes the second derivatives of the rates in; else only the part of them that makes
    the steps shorter. `scale` (N_STEP,) is scratch.
    """
    q = SCORES * LANES + l
    n, b = state[N], state[B]
    width1 = model.sigma0 * (model.offset + state[S1])
    width2 = model.sigma0 * (model.offset + state[S2])
    d1, d2 = model.sigma0 * state[S1], model.sigma0 * state[S2]  # d width/du
    v1, v2 = width1 * d1, width2 * d2  # half of dv/du
    w1, w2 = d1 * d1 + v1, d2 * d2 + v2  # half of d2v/du2
    q00, q10, q01 = sums[q + Q00 * LANES], sums[q + Q10 * LANES], sums[q + Q01 * LANES]
    q20, q11, q02 = sums[q + Q20 * LANES], sums[q + Q11 * LANES], sums[q + Q02 * LANES]
    total = sums[SCORE_SUM * LANES + l]
    g[0], g[1], g[2], g[3] = n * q10, n * q01, n * q00, b * total
    g[U1], g[U2], g[C] = n * v1 * q20, n * v2 * q02, n * q11
    scale[0], scale[1], scale[2], scale[3] = n, n, n, b
    scale[U1], scale[U2], scale[C] = n * v1, n * v2, n
    k = PRODUCTS * LANES + l
    for i in range(N_STEP):
        for j in range(i + 1):
            H[i, j] = scale[i] * scale[j] * sums[k]
            k += LANES
    if exact:
        q30, q21, q12 = sums[q + Q30 * LANES], sums[q + Q21 * LANES], sums[q + Q12 * LANES]
        q03, q40, q31 = sums[q + Q03 * LANES], sums[q + Q40 * LANES], sums[q + Q31 * LANES]
        q22, q13, q04 = sums[q + Q22 * LANES], sums[q + Q13 * LANES], sums[q + Q04 * LANES]
        H[0, 0] -= n * q20
        H[1, 0] -= n * q11
        H[1, 1] -= n * q02
        H[2, 0] -= n * q10
        H[2, 1] -= n * q01
        H[2, 2] -= n * q00
        H[3, 3] -= b * total
        H[4, 0] -= n * v1 * q30
        H[4, 1] -= n * v1 * q21
        H[4, 2] -= n * v1 * q20
        H[4, 4] -= n * (v1 * v1 * q40 + w1 * q20)
        H[5, 0] -= n * v2 * q12
        H[5, 1] -= n * v2 * q03
        H[5, 2] -= n * v2 * q02
        H[5, 4] -= n * v1 * v2 * q22
        H[5, 5] -= n * (v2 * v2 * q04 + w2 * q02)
        H[6, 0] -= n * q21
        H[6, 1] -= n * q12
        H[6, 2] -= n * q11
        H[6, 4] -= n * v1 * q31
        H[6, 5] -= n * v2 * q13
        H[6, 6] -= n * q22
    else:
        H[3, 3] += max(-b * total, 0.0)
        H[4, 4] += max(-n * w1 * q20, 0.0)
        H[5, 5] += max(-n * w2 * q02, 0.0)
    if model.shape == SYMMETRIC:
        g[4] += g[5]
        for j in range(4):
            H[4, j] += H[5, j]
        H[4, 4] += 2.0 * H[5, 4] + H[5, 5]
    if model.prior == 1:
        g[LOG_B] -= math.log(b / b0) / LOG_B_VAR
        H[LOG_B, LOG_B] += 1.0 / LOG_B_VAR
        s1, s2 = state[S1] / model.mean_s, state[S2] / model.mean_s
        g[U1] += 1.0 - s1
        H[U1, U1] += s1
        g[U2] += 1.0 - s2
        H[U2, U2] += s2
        if model.shape == ASYMMETRIC:
            steep = slope_of_prior(state[S1], state[S2], model.mean_s)
            H[C, C] -= 2.0 * steep / (model.sigma0 * model.sigma0) ** 2


@inlined
def hold(state, g, bounds, model, free):
    """Free what the model frees, but what stands at a bound that the gradient pushes against."""
    for k in range(4):
        free[k] = 1
    free[U1] = 1 if model.shape != FIXED else 0
    free[U2] = free[C] = 1 if model.shape == ASYMMETRIC else 0
    for k in range(2):
        value, slope = state[N + k], g[LOG_N + k]
        if (value <= bounds[0, N + k] and slope < 0.0) or (
            value >= bounds[1, N + k] and slope > 0.0
        ):
            free[LOG_N + k] = 0
    for k in range(2):
        s = state[S1 + k]
        if (s <= model.low_s and g[U1 + k] < 0.0) or (s >= model.high_s and g[U1 + k] > 0.0):
            free[U1 + k] = 0


@inlined
def factorise(H, ridge, free, factor):
    """Fill `factor` with the Cholesky factor of H + ridge diag H over what is free."""
    for a in range(N_STEP):
        for b in range(a + 1):
            if free[a] and free[b]:
                total = H[a, b]
                if a == b:
                    total += ridge * abs(total)
            else:
                total = 1.0 if a == b else 0.0
            for k in range(b):
                total -= factor[a, k] * factor[b, k]
            if a == b:
                if not total > 1e-9 * abs(H[a, a]) * free[a]:
                    return False
                factor[a, a] = 1.0 / math.sqrt(total)
            else:
                factor[a, b] = total * factor[b, b]
    return True


@inlined
def solve(factor, g, free, out):
    """Solve L L^T out = g, with zero for what is held; `factor` has 1/L on its diagonal.

    Returns g out, the step's squared length in standard deviations.
    """
    length = 0.0
    for a in range(N_STEP):
        total = g[a] if free[a] else 0.0
        for k in range(a):
            total -= factor[a, k] * out[k]
        out[a] = total * factor[a, a]
        length += out[a] * out[a]
    for a in range(N_STEP - 1, -1, -1):
        total = out[a]
        for k in range(a + 1, N_STEP):
            total -= factor[k, a] * out[k]
        out[a] = total * factor[a, a]
    return length


@inlined
def within(value, far):
    """Return the value, cut to +-far."""
    return min(max(value, -far), far)


@inlined
def advance(state, step, bounds, model, out):
    """Take a step, shortened where it would run far ahead of the quadratic model."""
    s1, s2 = state[S1], state[S2]
    width = model.sigma0 * (model.offset + 0.5 * (s1 + s2))
    x1, x2 = within(step[0], 0.6 * width), within(step[1], 0.6 * width)
    co, si = state[COS], state[SIN]
    out[X] = state[X] + co * x1 - si * x2
    out[Y] = state[Y] + si * x1 + co * x2
    out[N] = state[N] * math.exp(within(step[LOG_N], 1.0))
    out[B] = state[B] * math.exp(within(step[LOG_B], 1.5))
    for k in range(4):
        out[k] = min(max(out[k], bounds[0, k]), bounds[1, k])
    s1 *= math.exp(within(step[U1], 1.2))
    s2 = s1 if model.shape != ASYMMETRIC else s2 * math.exp(within(step[U2], 1.2))
    s1 = min(max(s1, model.low_s), model.high_s)
    s2 = min(max(s2, model.low_s), model.high_s)
    if model.shape == ASYMMETRIC:
        turn(state, s1, s2, step[C], model, out)
    else:
        out[S1], out[S2], out[COS], out[SIN] = s1, s2, co, si


@inlined
def turn(state, s1, s2, c, model, out):
    """Turn to the axes of [[v1, c], [c, v2]], the wider one first."""
    per_v0 = 1.0 / (model.sigma0 * model.sigma0)
    v1, v2 = (model.offset + s1) ** 2, (model.offset + s2) ** 2
    c = within(c * per_v0, 0.5 * math.sqrt(v1 * v2))
    half, mean = 0.5 * (v1 - v2), 0.5 * (v1 + v2)
    length = math.sqrt(half * half + c * c)
    cos_2, least = 1.0, min(s1, s2)
    if length > 1e-12:
        cos_2 = half / length
    co = math.sqrt(max(0.5 * (1.0 + cos_2), 0.0))
    si = math.sqrt(max(0.5 * (1.0 - cos_2), 0.0))
    if c < 0.0:
        si = -si
    old_co, old_si = state[COS], state[SIN]  # `out` may be `state`
    out[COS], out[SIN] = old_co * co - old_si * si, old_si * co + old_co * si
    out[S1] = min(math.sqrt(mean + length) - model.offset, model.high_s)
    # the narrower axis may not be pushed below its bound by the turn alone
    narrow = math.sqrt(max(mean - length, 0.0)) - model.offset
    out[S2] = max(narrow, 0.4 * least, model.low_s)


@kernel
def invert(factor, inverse):
    """Fill `inverse` with L^-1, from the factor with 1/L on its diagonal."""
    for b in range(N_STEP):
        inverse[b, b] = factor[b, b]
        for a in range(b + 1, N_STEP):
            total = 0.0
            for k in range(b, a):
                total -= factor[a, k] * inverse[k, b]
            inverse[a, b] = total * factor[a, a]


@kernel
def widths(state, model, theta, shape):
    """Write a state as (x, y, N, b, geometric mean width) and (larger, smaller, angle)."""
    for a in range(4):
        theta[a] = state[a]
    one = model.sigma0 * (model.offset + state[S1])
    two = model.sigma0 * (model.offset + state[S2])
    theta[4] = math.sqrt(one * two)
    co, si = state[COS], state[SIN]
    if one < two:
        one, two, co, si = two, one, -si, co
    angle = 0.0 if model.shape != ASYMMETRIC else math.atan2(si, co)
    if angle > 0.5 * math.pi:
        angle -= math.pi
    elif angle <= -0.5 * math.pi:
        angle += math.pi
    shape[0], shape[1], shape[2] = one, two, angle


@kernel
def spread(inverse, free, state, model, work, covariance):
    """Fill the covariance of (x, y, N, b, geometric mean width) by the delta method."""
    M, weight = inverse, work
    one = model.sigma0 * (model.offset + state[S1])
    two = model.sigma0 * (model.offset + state[S2])
    mean = math.sqrt(one * two)
    d1, d2 = model.sigma0 * state[S1], model.sigma0 * state[S2]
    u1, u2 = 0.5 * mean * d1 / one, 0.5 * mean * d2 / two
    if model.shape == SYMMETRIC:
        u1, u2 = d1, 0.0
    # rows of M J^T: covariance = (M J^T)^T (M J^T), with M = L^-1
    for a in range(N_STEP):
        m0 = M[a, 0]
        m1 = M[a, 1] if a >= 1 else 0.0
        weight[a, 0] = state[COS] * m0 - state[SIN] * m1
        weight[a, 1] = state[SIN] * m0 + state[COS] * m1
        weight[a, 2] = state[N] * M[a, LOG_N] * free[LOG_N] if a >= LOG_N else 0.0
        weight[a, 3] = state[B] * M[a, LOG_B] * free[LOG_B] if a >= LOG_B else 0.0
        of_width = u1 * M[a, U1] * free[U1] if a >= U1 else 0.0
        if a >= U2:
            of_width += u2 * M[a, U2] * free[U2]
        weight[a, 4] = of_width
    for a in range(5):
        for b in range(a + 1):
            total = 0.0
            for k in range(N_STEP):
                total += weight[k, a] * weight[k, b]
            covariance[a, b] = total
            covariance[b, a] = total
