# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""Climb of the posterior, sixteen spots at a time (theory: `livespt.localize.posterior`)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from livespt.jit import inlined, kernel
from livespt.localize import newton_kernels as newton
from livespt.localize import oval_kernels as oval
from livespt.localize.newton_kernels import COS, FIXED, N_STATE, N_STEP, S1, S2, SIN, B, N, X, Y
from livespt.localize.oval_kernels import LANES

CONVERGED, FAILED = 0, 1
COARSE_STEPS, EXACT_STEPS = 3, 40
CLOSE = 0.05  # squared length of a step, in s.d., below which coarse steps gain nothing
TOLERANCE = 1e-3  # the same of the last step, which is taken


class Regions(NamedTuple):
    """Prepared regions; each (n, P P) float32."""

    data: np.ndarray  # electrons plus read variance, or the place on the table's first axis
    var: np.ndarray  # read variance, or with a table the square root of the electrons seen
    extra: np.ndarray  # light of others


class Climb(NamedTuple):
    """Work space of one thread, beside the lanes'; all float64."""

    state: np.ndarray  # (LANES, N_STATE) where the sums are to be taken
    best: np.ndarray  # (LANES, N_STATE)
    value: np.ndarray  # (LANES,) log posterior of the best
    ridge: np.ndarray  # (LANES,)
    grad: np.ndarray  # (LANES, N_STEP)
    hessian: np.ndarray  # (LANES, N_STEP, N_STEP), negative
    factor: np.ndarray  # (N_STEP, N_STEP)
    inverse: np.ndarray  # (N_STEP, N_STEP)
    step: np.ndarray  # (N_STEP,)
    free: np.ndarray  # (N_STEP,) uint8
    member: np.ndarray  # (LANES,) int64, the spot in each lane, -1 for none


class Posterior(NamedTuple):
    """Results, one row per spot."""

    theta: np.ndarray  # (n, 5) x, y, N, b, geometric mean width
    covariance: np.ndarray  # (n, 5, 5)
    shape: np.ndarray  # (n, 3) larger and smaller width, angle of the larger
    loglik: np.ndarray  # (n,)
    log_prior: np.ndarray  # (n,)
    code: np.ndarray  # (n,) int64
    passes: np.ndarray  # (n,) int64, exact passes it took
    state: np.ndarray  # (n, N_STATE) after the coarse steps


@inlined
def put_state(spot, l, state, model):
    """Hand a state to its lane."""
    spot[oval.X * LANES + l], spot[oval.Y * LANES + l] = state[X], state[Y]
    spot[oval.N * LANES + l], spot[oval.B * LANES + l] = state[N], state[B]
    spot[oval.W1 * LANES + l] = model.sigma0 * (model.offset + state[S1])
    spot[oval.W2 * LANES + l] = model.sigma0 * (model.offset + state[S2])
    spot[oval.COS * LANES + l], spot[oval.SIN * LANES + l] = state[COS], state[SIN]


@kernel
def load(w, l, regions, k, with_table):
    """Copy a region into a lane."""
    data = w.data
    var_row = oval.SEEN if with_table else oval.VAR
    for at in range(regions.data.shape[1]):
        data[(oval.DATA * oval.BLOCK + at) * LANES + l] = regions.data[k, at]
        data[(var_row * oval.BLOCK + at) * LANES + l] = regions.var[k, at]
        data[(oval.EXTRA * oval.BLOCK + at) * LANES + l] = regions.extra[k, at]


@kernel
def begin(state, start, bounds, model):
    """Lay out a first state from (x, y, N, b, width)."""
    for k in range(4):
        state[k] = min(max(start[k], bounds[0, k]), bounds[1, k])
    s = start[4] / model.sigma0 - model.offset
    if model.shape == FIXED:
        s = 1.0 - model.offset
    else:
        s = min(max(s, 0.2, model.low_s), model.high_s)
    state[S1] = state[S2] = s
    state[COS], state[SIN] = 1.0, 0.0


@kernel
def coarse_climb(w, climb, first, size, regions, starts, bounds, b0, model, table, out):
    """Take a few steps by expected information, each pixel's square as one Gaussian."""
    for l in range(LANES):
        k = first + min(l, size - 1)
        load(w, l, regions, k, table.per_w > 0.0)
        begin(climb.state[l], starts[k], bounds[k], model)
    for _ in range(COARSE_STEPS):
        for l in range(LANES):
            put_state(w.spot, l, climb.state[l], model)
        oval.coarse_sums(w, model.side, table)
        far = 0
        for l in range(size):
            k = first + l
            state, g, H = climb.state[l], climb.grad[l], climb.hessian[l]
            newton.assemble(w.sums, l, state, b0[k], model, False, g, H, climb.step)
            newton.hold(state, g, bounds[k], model, climb.free)
            if newton.factorise(H, 0.0, climb.free, climb.factor):
                length = newton.solve(climb.factor, g, climb.free, climb.step)
                newton.advance(state, climb.step, bounds[k], model, state)
                far += 1 if length > CLOSE else 0
        if far == 0:
            break
    for l in range(size):
        for a in range(N_STATE):
            out.state[first + l, a] = climb.state[l, a]


@kernel
def take_next(w, climb, l, k, regions, table, out):
    """Put spot `k` into a lane."""
    load(w, l, regions, k, table.per_w > 0.0)
    for a in range(N_STATE):
        climb.state[l, a] = out.state[k, a]
    climb.value[l] = -np.inf
    climb.ridge[l] = 0.0
    climb.member[l] = k


@kernel
def exact_climb(w, climb, regions, bounds, b0, model, table, out):
    """Climb by the true Hessian; a lane whose spot is done takes the next one."""
    n, following, open_lanes = b0.size, 0, 0
    for l in range(LANES):
        climb.member[l] = -1
    while following < n or open_lanes > 0:
        for l in range(LANES):
            if climb.member[l] < 0 and following < n:
                take_next(w, climb, l, following, regions, table, out)
                following += 1
                open_lanes += 1
            put_state(w.spot, l, climb.state[l], model)
        oval.exact_sums(w, model.side, table)
        for l in range(LANES):
            k = climb.member[l]
            if k >= 0:
                out.passes[k] += 1
                done = exact_step(w, climb, l, bounds[k], b0[k], model)
                if done:
                    finish(climb, l, bounds[k], b0[k], model, out, k)
                elif out.passes[k] >= EXACT_STEPS:
                    give_up(climb, l, b0[k], model, out, k)
                    done = True
                if done:
                    climb.member[l] = -1
                    open_lanes -= 1


@inlined
def exact_step(w, climb, l, bounds, b0, model):
    """Judge the trial of one lane and make the next; True when the last step is negligible."""
    state, best, g, H = climb.state[l], climb.best[l], climb.grad[l], climb.hessian[l]
    value = w.loglik[l] + newton.log_prior(state, b0, model)
    if value >= climb.value[l] - 1e-3 - 1e-7 * abs(value):
        climb.value[l] = max(value, climb.value[l])
        for a in range(N_STATE):
            best[a] = state[a]
        newton.assemble(w.sums, l, state, b0, model, True, g, H, climb.step)
        climb.ridge[l] = 0.2 * climb.ridge[l] if climb.ridge[l] > 1e-3 else 0.0
    else:
        climb.ridge[l] = max(6.0 * climb.ridge[l], 0.05)
    newton.hold(best, g, bounds, model, climb.free)
    while not newton.factorise(H, climb.ridge[l], climb.free, climb.factor):
        climb.ridge[l] = max(4.0 * climb.ridge[l], 0.05)
        if climb.ridge[l] > 1e6:
            return False
    length = newton.solve(climb.factor, g, climb.free, climb.step)
    newton.advance(best, climb.step, bounds, model, state)
    return length < TOLERANCE and climb.ridge[l] == 0.0


@kernel
def finish(climb, l, bounds, b0, model, out, k):
    """Write one lane's result: the state after the last step, the precision before it."""
    best, state = climb.best[l], climb.state[l]
    gain = 0.0
    for a in range(N_STEP):
        gain += 0.5 * climb.step[a] * climb.grad[l, a] * climb.free[a]
    out.log_prior[k] = newton.log_prior(state, b0, model)
    out.loglik[k] = climb.value[l] + gain - out.log_prior[k]
    newton.widths(state, model, out.theta[k], out.shape[k])
    newton.invert(climb.factor, climb.inverse)
    newton.spread(climb.inverse, climb.free, best, model, climb.factor, out.covariance[k])
    out.code[k] = CONVERGED


@kernel
def give_up(climb, l, b0, model, out, k):
    """Write the best of a lane that did not converge; it has no precision."""
    state = climb.best[l]
    out.log_prior[k] = newton.log_prior(state, b0, model)
    out.loglik[k] = climb.value[l] - out.log_prior[k]
    newton.widths(state, model, out.theta[k], out.shape[k])
    out.code[k] = FAILED


@kernel
def fit_posteriors(w, climb, regions, starts, bounds, b0, model, table, out):
    """Fit all spots.

    `starts` (n, 5) x, y, N, b, width; `bounds` (n, 2, 4) lowest and highest x, y, N, b; `b0` (n,).
    """
    n = starts.shape[0]
    for first in range(0, n, LANES):
        size = min(LANES, n - first)
        coarse_climb(w, climb, first, size, regions, starts, bounds, b0, model, table, out)
    for k in range(n):
        out.passes[k] = 0
    exact_climb(w, climb, regions, bounds, b0, model, table, out)
