# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""Newton steps on the posteriors of `LANES` spots (theory: `livespt.localize.posterior`).

A spot's state is (x, y, N, b, s1, s2, cos, sin); steps are in (x1, x2, ln N, ln b, u1, u2, c): the
position along the spot's own axes, u = ln s, and c the covariance that the two axes would gain.
All numbers of a lane lie in one flat float64 array, in rows of `LANES`; a trial that leads downhill
leaves gradient and Hessian of the best state in place, and raises the ridge.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from livespt.jit import kernel_of_lanes, lanes
from livespt.localize import oval_kernels as oval
from livespt.localize.algebra_kernels import (
    FREE,
    GRAD,
    N_ALGEBRA,
    N_LOWER,
    N_STEP,
    RIDGE,
    STEP,
    rows,
)
from livespt.localize.lane_kernels import log
from livespt.localize.oval_kernels import LANES

FIXED, SYMMETRIC, ASYMMETRIC = 0, 1, 2
X, Y, N, B, S1, S2, COS, SIN = range(8)  # of a state
N_STATE = 8
LOG_N, LOG_B, U1, U2, C = range(2, 7)  # of a step, after x1 and x2
LOG_B_VAR = math.log(30.0) ** 2
_LOG_NORM_B = -0.5 * math.log(2.0 * math.pi * LOG_B_VAR)
# rows after those of the algebra
STATE, BEST = rows(N_ALGEBRA, N_STATE), rows(N_ALGEBRA + 8, N_STATE)  # on trial; the best so far
LOW, HIGH = rows(N_ALGEBRA + 16, 4), rows(N_ALGEBRA + 20, 4)  # bounds of x, y, N, b
B0, VALUE, PRIOR, TAKEN, OPEN = rows(N_ALGEBRA + 24, 5)
TRIAL_GRAD = rows(N_ALGEBRA + 29, N_STEP)
TRIAL = rows(N_ALGEBRA + 36, N_LOWER)  # Hessian at the trial
COVARIANCE = rows(N_ALGEBRA + 64, 15)  # of x, y, N, b, geometric mean width: lower triangle
N_ROWS = N_ALGEBRA + 79
_ALL = np.uint64(LANES)


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


@lanes
def slope_of_prior(s1, s2, mean_s):
    """Return (f'(v1) - f'(v2))/(v1 - v2), f the log prior of a width, in units of sigma0^2.

    Written so that nothing vanishes where the widths are equal.
    """
    r1, r2 = 1.0 + s1, 1.0 + s2
    product, total = r1 * r2, r1 + r2
    return 0.5 / (product * total) * (1.0 / mean_s - (total - 1.0) / (s1 * s2))


@lanes
def log_of(value):
    """Return ln to 1e-7 of itself: the prior needs no more."""
    return np.float64(log(np.float32(value)))


@lanes
def fill_prior(w, model):
    """Fill the log prior in (ln N, ln b, u1, u2) of the states on trial."""
    per_s = 1.0 / model.mean_s
    for k in range(_ALL):
        off = log_of(w[STATE[B] + k] / w[B0 + k])
        w[PRIOR + k] = _LOG_NORM_B - 0.5 * off * off / LOG_B_VAR if model.prior == 1 else 0.0
    if model.prior == 1 and model.shape != FIXED:
        for k in range(_ALL):
            s = per_s * w[STATE[S1] + k]
            w[PRIOR + k] += log_of(s) - s
    if model.prior == 1 and model.shape == ASYMMETRIC:
        for k in range(_ALL):
            s = per_s * w[STATE[S2] + k]
            w[PRIOR + k] += log_of(s) - s


@lanes
def scales(w, k, model):
    """Return N, b, and half of dv/du and of d2v/du2 along both axes."""
    d1, d2 = model.sigma0 * w[STATE[S1] + k], model.sigma0 * w[STATE[S2] + k]  # d width/du
    v1 = (model.sigma0 * model.offset + d1) * d1
    v2 = (model.sigma0 * model.offset + d2) * d2
    return w[STATE[N] + k], w[STATE[B] + k], v1, v2, d1 * d1 + v1, d2 * d2 + v2


@lanes
def fill_expected(w, sums, model):
    """Fill gradient and information at the trial from the sums over pixels."""
    q, p = oval.SCORE_ROWS, oval.PRODUCT_ROWS
    for k in range(_ALL):
        n, b, v1, v2, _, _ = scales(w, k, model)
        n1, n2 = n * v1, n * v2
        w[TRIAL_GRAD[0] + k] = n * sums[q[oval.Q10] + k]
        w[TRIAL_GRAD[1] + k] = n * sums[q[oval.Q01] + k]
        w[TRIAL_GRAD[2] + k] = n * sums[q[oval.Q00] + k]
        w[TRIAL_GRAD[3] + k] = b * sums[oval.SCORE_ROW + k]
        w[TRIAL_GRAD[4] + k] = n1 * sums[q[oval.Q20] + k]
        w[TRIAL_GRAD[5] + k] = n2 * sums[q[oval.Q02] + k]
        w[TRIAL_GRAD[6] + k] = n * sums[q[oval.Q11] + k]
        nn, nb, nn1, nn2 = n * n, n * b, n * n1, n * n2
        w[TRIAL[0] + k] = nn * sums[p[0] + k]
        w[TRIAL[1] + k] = nn * sums[p[1] + k]
        w[TRIAL[2] + k] = nn * sums[p[2] + k]
        w[TRIAL[3] + k] = nn * sums[p[3] + k]
        w[TRIAL[4] + k] = nn * sums[p[4] + k]
        w[TRIAL[5] + k] = nn * sums[p[5] + k]
        w[TRIAL[6] + k] = nb * sums[p[6] + k]
        w[TRIAL[7] + k] = nb * sums[p[7] + k]
        w[TRIAL[8] + k] = nb * sums[p[8] + k]
        w[TRIAL[9] + k] = b * b * sums[p[9] + k]
        w[TRIAL[10] + k] = nn1 * sums[p[10] + k]
        w[TRIAL[11] + k] = nn1 * sums[p[11] + k]
        w[TRIAL[12] + k] = nn1 * sums[p[12] + k]
        w[TRIAL[13] + k] = n1 * b * sums[p[13] + k]
        w[TRIAL[14] + k] = n1 * n1 * sums[p[14] + k]
        w[TRIAL[15] + k] = nn2 * sums[p[15] + k]
        w[TRIAL[16] + k] = nn2 * sums[p[16] + k]
        w[TRIAL[17] + k] = nn2 * sums[p[17] + k]
        w[TRIAL[18] + k] = n2 * b * sums[p[18] + k]
        w[TRIAL[19] + k] = n1 * n2 * sums[p[19] + k]
        w[TRIAL[20] + k] = n2 * n2 * sums[p[20] + k]
        w[TRIAL[21] + k] = nn * sums[p[21] + k]
        w[TRIAL[22] + k] = nn * sums[p[22] + k]
        w[TRIAL[23] + k] = nn * sums[p[23] + k]
        w[TRIAL[24] + k] = nb * sums[p[24] + k]
        w[TRIAL[25] + k] = nn1 * sums[p[25] + k]
        w[TRIAL[26] + k] = nn2 * sums[p[26] + k]
        w[TRIAL[27] + k] = nn * sums[p[27] + k]


@lanes
def shorten(w, sums, model):
    """Add the part of the rates' second derivatives that makes the steps shorter."""
    q = oval.SCORE_ROWS
    for k in range(_ALL):
        n, b, _, _, w1, w2 = scales(w, k, model)
        w[TRIAL[9] + k] += max(-b * sums[oval.SCORE_ROW + k], 0.0)
        w[TRIAL[14] + k] += max(-n * w1 * sums[q[oval.Q20] + k], 0.0)
        w[TRIAL[20] + k] += max(-n * w2 * sums[q[oval.Q02] + k], 0.0)


@lanes
def observe(w, sums, model):
    """Turn the information into the true Hessian: add the rates' second derivatives."""
    q = oval.SCORE_ROWS
    for k in range(_ALL):
        n, b, v1, v2, w1, w2 = scales(w, k, model)
        n1, n2 = n * v1, n * v2
        q10, q01 = n * sums[q[oval.Q10] + k], n * sums[q[oval.Q01] + k]
        q20, q11, q02 = sums[q[oval.Q20] + k], n * sums[q[oval.Q11] + k], sums[q[oval.Q02] + k]
        w[TRIAL[0] + k] -= n * q20
        w[TRIAL[1] + k] -= q11
        w[TRIAL[2] + k] -= n * q02
        w[TRIAL[3] + k] -= q10
        w[TRIAL[4] + k] -= q01
        w[TRIAL[5] + k] -= n * sums[q[oval.Q00] + k]
        w[TRIAL[9] + k] -= b * sums[oval.SCORE_ROW + k]
        w[TRIAL[10] + k] -= n1 * sums[q[oval.Q30] + k]
        w[TRIAL[11] + k] -= n1 * sums[q[oval.Q21] + k]
        w[TRIAL[12] + k] -= n1 * q20
        w[TRIAL[14] + k] -= n1 * v1 * sums[q[oval.Q40] + k] + n * w1 * q20
        w[TRIAL[15] + k] -= n2 * sums[q[oval.Q12] + k]
        w[TRIAL[16] + k] -= n2 * sums[q[oval.Q03] + k]
        w[TRIAL[17] + k] -= n2 * q02
        w[TRIAL[19] + k] -= n1 * v2 * sums[q[oval.Q22] + k]
        w[TRIAL[20] + k] -= n2 * v2 * sums[q[oval.Q04] + k] + n * w2 * q02
        w[TRIAL[21] + k] -= n * sums[q[oval.Q21] + k]
        w[TRIAL[22] + k] -= n * sums[q[oval.Q12] + k]
        w[TRIAL[23] + k] -= q11
        w[TRIAL[25] + k] -= n1 * sums[q[oval.Q31] + k]
        w[TRIAL[26] + k] -= n2 * sums[q[oval.Q13] + k]
        w[TRIAL[27] + k] -= n * sums[q[oval.Q22] + k]


@lanes
def add_prior(w, model):
    """Add the priors' gradient and curvature; in the symmetric model both widths are one."""
    per_s, per_v = 1.0 / model.mean_s, 1.0 / (model.sigma0 * model.sigma0)
    if model.shape == SYMMETRIC:
        for k in range(_ALL):
            w[TRIAL_GRAD[4] + k] += w[TRIAL_GRAD[5] + k]
            w[TRIAL[10] + k] += w[TRIAL[15] + k]
            w[TRIAL[11] + k] += w[TRIAL[16] + k]
            w[TRIAL[12] + k] += w[TRIAL[17] + k]
            w[TRIAL[13] + k] += w[TRIAL[18] + k]
            w[TRIAL[14] + k] += 2.0 * w[TRIAL[19] + k] + w[TRIAL[20] + k]
    if model.prior == 1:
        for k in range(_ALL):
            w[TRIAL_GRAD[3] + k] -= log_of(w[STATE[B] + k] / w[B0 + k]) / LOG_B_VAR
            w[TRIAL[9] + k] += 1.0 / LOG_B_VAR
            s1, s2 = per_s * w[STATE[S1] + k], per_s * w[STATE[S2] + k]
            w[TRIAL_GRAD[4] + k] += 1.0 - s1
            w[TRIAL[14] + k] += s1
            w[TRIAL_GRAD[5] + k] += 1.0 - s2
            w[TRIAL[20] + k] += s2
    if model.prior == 1 and model.shape == ASYMMETRIC:
        for k in range(_ALL):
            steep = slope_of_prior(w[STATE[S1] + k], w[STATE[S2] + k], model.mean_s)
            w[TRIAL[27] + k] -= 2.0 * per_v * steep


@lanes
def take_all(w):
    """Take every trial, whatever it leads to."""
    for k in range(_ALL):
        w[TAKEN + k] = 1.0


@lanes
def judge(w, loglik):
    """Take the trials that do not lead downhill; lower the ridge there, raise it elsewhere."""
    for k in range(_ALL):
        value, known, ridge = loglik[k] + w[PRIOR + k], w[VALUE + k], w[RIDGE + k]
        uphill = value >= known - 1e-3 - 1e-7 * abs(value)
        w[TAKEN + k] = 1.0 if uphill else 0.0
        w[VALUE + k] = max(value, known) if uphill else known
        lower = 0.2 * ridge if ridge > 1e-3 else 0.0
        w[RIDGE + k] = lower if uphill else max(6.0 * ridge, 0.05)


@lanes
def keep(w):
    """Make the trials that were taken the best states, with their gradients and Hessians."""
    for a in range(N_STATE):
        for k in range(_ALL):
            taken = w[TAKEN + k] > 0.0
            w[BEST[0] + a * _ALL + k] = (
                w[STATE[0] + a * _ALL + k] if taken else w[BEST[0] + a * _ALL + k]
            )
    for a in range(N_STEP + N_LOWER):
        for k in range(_ALL):
            taken = w[TAKEN + k] > 0.0
            w[GRAD[0] + a * _ALL + k] = (
                w[TRIAL_GRAD[0] + a * _ALL + k] if taken else w[GRAD[0] + a * _ALL + k]
            )


@lanes
def within(value, far):
    """Return the value, cut to +-far."""
    return min(max(value, -far), far)


@lanes
def between(value, low, high):
    """Return the value, cut to its bounds."""
    return min(max(value, low), high)


@lanes
def free(value, low, high, slope):
    """Return 0 for what stands at a bound that the gradient pushes against, else 1."""
    held = ((value <= low) & (slope < 0.0)) | ((value >= high) & (slope > 0.0))
    return 0.0 if held else 1.0


@lanes
def hold(w, model):
    """Free what the model frees, but what stands at a bound that the gradient pushes against."""
    widths = 1.0 if model.shape != FIXED else 0.0
    two = 1.0 if model.shape == ASYMMETRIC else 0.0
    low, high = model.low_s, model.high_s
    for k in range(_ALL):
        w[FREE[0] + k] = w[FREE[1] + k] = 1.0
        w[FREE[2] + k] = free(w[BEST[N] + k], w[LOW[N] + k], w[HIGH[N] + k], w[GRAD[2] + k])
        w[FREE[3] + k] = free(w[BEST[B] + k], w[LOW[B] + k], w[HIGH[B] + k], w[GRAD[3] + k])
        w[FREE[4] + k] = widths * free(w[BEST[S1] + k], low, high, w[GRAD[4] + k])
        w[FREE[5] + k] = two * free(w[BEST[S2] + k], low, high, w[GRAD[5] + k])
        w[FREE[6] + k] = two


@lanes
def exp_of(t):
    """Return e^t for |t| <= 1.5, to 2e-9."""
    t *= 0.125
    e = 1.0 + t * (1.0 / 5.0) * (1.0 + t * (1.0 / 6.0) * (1.0 + t * (1.0 / 7.0)))
    e = 1.0 + t * (1.0 + t * 0.5 * (1.0 + t * (1.0 / 3.0) * (1.0 + t * 0.25 * e)))
    e *= e
    e *= e
    return e * e


@lanes
def advance(w, model):
    """Step from the best states, shortened where it would run far ahead of the quadratic model."""
    low, high, sigma0 = model.low_s, model.high_s, model.sigma0
    for k in range(_ALL):
        s1, s2 = w[BEST[S1] + k], w[BEST[S2] + k]
        far = 0.6 * sigma0 * (model.offset + 0.5 * (s1 + s2))
        x1, x2 = within(w[STEP[0] + k], far), within(w[STEP[1] + k], far)
        co, si = w[BEST[COS] + k], w[BEST[SIN] + k]
        x, y = w[BEST[X] + k] + co * x1 - si * x2, w[BEST[Y] + k] + si * x1 + co * x2
        n = w[BEST[N] + k] * exp_of(within(w[STEP[2] + k], 1.0))
        b = w[BEST[B] + k] * exp_of(within(w[STEP[3] + k], 1.5))
        w[STATE[X] + k] = between(x, w[LOW[X] + k], w[HIGH[X] + k])
        w[STATE[Y] + k] = between(y, w[LOW[Y] + k], w[HIGH[Y] + k])
        w[STATE[N] + k] = between(n, w[LOW[N] + k], w[HIGH[N] + k])
        w[STATE[B] + k] = between(b, w[LOW[B] + k], w[HIGH[B] + k])
        w[STATE[COS] + k], w[STATE[SIN] + k] = co, si
        w[STATE[S1] + k] = between(s1 * exp_of(within(w[STEP[4] + k], 1.2)), low, high)
        w[STATE[S2] + k] = between(s2 * exp_of(within(w[STEP[5] + k], 1.2)), low, high)
    if model.shape == ASYMMETRIC:
        turn(w, model)
    else:
        for k in range(_ALL):
            w[STATE[S2] + k] = w[STATE[S1] + k]


@lanes
def turn(w, model):
    """Turn the trials to the axes of [[v1, c], [c, v2]], the wider one first."""
    per_v0 = 1.0 / (model.sigma0 * model.sigma0)
    for k in range(_ALL):
        s1, s2 = w[STATE[S1] + k], w[STATE[S2] + k]
        r1, r2 = model.offset + s1, model.offset + s2
        v1, v2 = r1 * r1, r2 * r2
        c = within(w[STEP[6] + k] * per_v0, 0.5 * r1 * r2)
        half, mean = 0.5 * (v1 - v2), 0.5 * (v1 + v2)
        length = math.sqrt(half * half + c * c)
        cos_2 = half / length if length > 1e-12 else 1.0
        co = math.sqrt(max(0.5 * (1.0 + cos_2), 0.0))
        si = math.sqrt(max(0.5 * (1.0 - cos_2), 0.0))
        si = -si if c < 0.0 else si
        old_co, old_si = w[BEST[COS] + k], w[BEST[SIN] + k]
        w[STATE[COS] + k] = old_co * co - old_si * si
        w[STATE[SIN] + k] = old_si * co + old_co * si
        w[STATE[S1] + k] = min(math.sqrt(mean + length) - model.offset, model.high_s)
        # the narrower axis may not be pushed below its bound by the turn alone
        narrow = math.sqrt(max(mean - length, 0.0)) - model.offset
        w[STATE[S2] + k] = max(max(narrow, 0.4 * min(s1, s2)), model.low_s)


@kernel_of_lanes
def assemble(w, sums, model, exact):
    """Fill gradient and negative Hessian at the trials, from their sums.

    `exact` takes the second derivatives of the rates in; else only the part of them that makes
    the steps shorter.
    """
    fill_expected(w, sums, model)
    if exact:
        observe(w, sums, model)
    else:
        shorten(w, sums, model)
    add_prior(w, model)
    keep(w)
    hold(w, model)
