# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""Climb of the posterior, sixteen spots at a time (theory: `livespt.localize.posterior`).

Sixteen spots begin side by side, take their coarse steps and the exact ones that nearly all need;
those not done by then are gathered in a second set of lanes, which climbs on whenever it is full.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from livespt.jit import kernel, lanes
from livespt.localize import algebra_kernels as algebra
from livespt.localize import newton_kernels as newton
from livespt.localize import oval_kernels as oval
from livespt.localize import oval_sum_kernels as sums
from livespt.localize import spread_kernels as spread
from livespt.localize.algebra_kernels import LENGTH, RIDGE, SOUND, STEP
from livespt.localize.newton_kernels import (
    ASYMMETRIC,
    B0,
    BEST,
    COS,
    COVARIANCE,
    FIXED,
    HIGH,
    LOW,
    N_STATE,
    N_STEP,
    OPEN,
    PRIOR,
    S1,
    S2,
    SIN,
    STATE,
    VALUE,
)
from livespt.localize.oval_kernels import LANES

CONVERGED, FAILED = 0, 1
COARSE_STEPS, EXACT_STEPS = 3, 40
COMMON_STEPS = 2  # exact steps that a spot takes before it may leave its batch
CLOSE = 0.05  # squared length of a step, in s.d., below which coarse steps gain nothing
TOLERANCE = 1e-3  # the same of the last step, which is taken
_STIFFEST = 1e6  # the ridge beyond which a Hessian is given up
_ALL = np.uint64(LANES)


class Regions(NamedTuple):
    """Prepared regions in blocks of `LANES`; each (n / LANES, P P, LANES) float32."""

    data: np.ndarray  # electrons plus read variance, or the place on the table's first axis
    var: np.ndarray  # read variance, or with a table the square root of the electrons seen
    extra: np.ndarray  # light of others


class Posterior(NamedTuple):
    """Results, one row per spot."""

    theta: np.ndarray  # (n, 5) x, y, N, b, geometric mean width
    covariance: np.ndarray  # (n, 5, 5)
    shape: np.ndarray  # (n, 3) larger and smaller width, angle of the larger
    loglik: np.ndarray  # (n,)
    log_prior: np.ndarray  # (n,)
    code: np.ndarray  # (n,) int64
    passes: np.ndarray  # (n,) int64, exact passes it took


@lanes
def put_states(spot, a, model):
    """Hand the states on trial to the sums over pixels."""
    x, y, n, b = oval.row(oval.X), oval.row(oval.Y), oval.row(oval.N), oval.row(oval.B)
    w1, w2, co, si = oval.row(oval.W1), oval.row(oval.W2), oval.row(oval.COS), oval.row(oval.SIN)
    for l in range(_ALL):
        spot[x + l], spot[y + l] = a[STATE[0] + l], a[STATE[1] + l]
        spot[n + l], spot[b + l] = a[STATE[2] + l], a[STATE[3] + l]
        spot[w1 + l] = model.sigma0 * (model.offset + a[STATE[S1] + l])
        spot[w2 + l] = model.sigma0 * (model.offset + a[STATE[S2] + l])
        spot[co + l], spot[si + l] = a[STATE[COS] + l], a[STATE[SIN] + l]


@kernel
def load_block(data, block, n_pixels, row):
    """Copy a block of prepared numbers into the lanes."""
    first = oval.data_row(row, 0)
    flat = block.reshape(block.size)
    for q in range(np.uint64(n_pixels * LANES)):
        data[first + q] = flat[q]


@kernel
def begin(w, first, size, starts, bounds, b0, model):
    """Lay out the first states of a batch from (x, y, N, b, width); spare lanes repeat the last."""
    a = w.newton
    for l in range(LANES):
        k = first + min(l, size - 1)
        for p in range(4):
            low, high = bounds[k, 0, p], bounds[k, 1, p]
            a[LOW[0] + p * LANES + l], a[HIGH[0] + p * LANES + l] = low, high
            a[STATE[0] + p * LANES + l] = min(max(starts[k, p], low), high)
        s = starts[k, 4] / model.sigma0 - model.offset
        s = min(max(s, 0.2, model.low_s), model.high_s)
        if model.shape == FIXED:
            s = 1.0 - model.offset
        a[STATE[S1] + l] = a[STATE[S2] + l] = s
        a[STATE[COS] + l], a[STATE[SIN] + l] = 1.0, 0.0
        a[B0 + l], a[VALUE + l], a[RIDGE + l] = b0[k], -np.inf, 0.0
        a[OPEN + l] = 1.0 if l < size else 0.0
        w.member[l] = k if l < size else -1


@kernel
def coarse_climb(w, model, table):
    """Take a few steps by expected information, each pixel's square as one Gaussian."""
    a = w.newton
    for _ in range(COARSE_STEPS):
        put_states(w.spot, a, model)
        sums.coarse_sums(w, model.side, table)
        newton.take_all(a)
        newton.assemble(a, w.sums, model, False)
        algebra.solve(a)
        if still(a) == 0:
            break
        newton.advance(a, model)


@kernel
def still(a):
    """Drop the steps of lanes without a sound one; return how many steps are long."""
    far = 0
    for l in range(LANES):
        if a[SOUND + l] == 0.0:
            drop(a, l)
        far += 1 if a[OPEN + l] * a[LENGTH + l] > CLOSE else 0
    return far


@kernel
def drop(a, l):
    """Leave a lane where it is."""
    a[LENGTH + l] = 0.0
    for p in range(N_STEP):
        a[STEP[0] + p * LANES + l] = 0.0


@kernel
def solve_stiffer(a):
    """Raise the ridge of open lanes until each has a sound step, or none at all."""
    while True:
        algebra.solve(a)
        again = False
        for l in range(LANES):
            if a[SOUND + l] == 0.0 and a[OPEN + l] > 0.0 and a[RIDGE + l] <= _STIFFEST:
                a[RIDGE + l] = max(4.0 * a[RIDGE + l], 0.05)
                again = True
        if not again:
            break
    for l in range(LANES):
        if a[SOUND + l] == 0.0:
            drop(a, l)


@kernel
def exact_pass(w, model, table, out):
    """Judge the trials of all lanes by the true Hessian, make the next, write what is done.

    Returns how many lanes are open.
    """
    a = w.newton
    put_states(w.spot, a, model)
    sums.exact_sums(w, model.side, table)
    newton.fill_prior(a, model)
    newton.judge(a, w.loglik)
    newton.assemble(a, w.sums, model, True)
    solve_stiffer(a)
    newton.advance(a, model)
    done = 0
    for l in range(LANES):
        done += 1 if is_done(a, l) else 0
    if done > 0:
        algebra.invert(a)
        spread.fill_covariance(a, model)
        if model.shape == ASYMMETRIC and model.prior == 1:
            spread.add_skewness(a, w.sums, model)
        newton.fill_prior(a, model)
    return write_lanes(w, model, out)


@kernel
def is_done(a, l):
    """Return whether the last step of an open lane is negligible."""
    sound = a[OPEN + l] * a[SOUND + l] > 0.0
    return sound and a[LENGTH + l] < TOLERANCE and a[RIDGE + l] == 0.0


@kernel
def write_lanes(w, model, out):
    """Write the lanes that are done or lost, and close them; return how many stay open."""
    a, left = w.newton, 0
    for l in range(LANES):
        k = w.member[l]
        if k < 0:
            continue
        out.passes[k] += 1
        done = is_done(a, l)
        if done:
            finish(a, l, model, out, k)
        elif out.passes[k] >= EXACT_STEPS:
            give_up(a, l, model, out, k)
        else:
            left += 1
            continue
        w.member[l] = -1
        a[OPEN + l] = 0.0
    return left


@kernel
def finish(a, l, model, out, k):
    """Write one lane's result: the state after the last step, the precision before it."""
    out.log_prior[k] = a[PRIOR + l]
    out.loglik[k] = a[VALUE + l] + 0.5 * a[LENGTH + l] - a[PRIOR + l]
    write_state(a, STATE[0] + l, model, out, k)
    at = COVARIANCE[0] + l
    for p in range(5):
        for q in range(p + 1):
            out.covariance[k, p, q] = out.covariance[k, q, p] = a[at]
            at += _ALL
    out.code[k] = CONVERGED


@kernel
def give_up(a, l, model, out, k):
    """Write the best of a lane that did not converge; it has no precision."""
    for p in range(N_STATE):
        a[STATE[0] + p * LANES + l] = a[BEST[0] + p * LANES + l]
    newton.fill_prior(a, model)
    out.log_prior[k] = a[PRIOR + l]
    out.loglik[k] = a[VALUE + l] - a[PRIOR + l]
    write_state(a, BEST[0] + l, model, out, k)
    out.code[k] = FAILED


@kernel
def write_state(a, at, model, out, k):
    """Write a state as (x, y, N, b, geometric mean width) and (larger, smaller, angle)."""
    for p in range(4):
        out.theta[k, p] = a[at + p * LANES]
    one = model.sigma0 * (model.offset + a[at + S1 * LANES])
    two = model.sigma0 * (model.offset + a[at + S2 * LANES])
    out.theta[k, 4] = math.sqrt(one * two)
    co, si = a[at + COS * LANES], a[at + SIN * LANES]
    if one < two:
        one, two, co, si = two, one, -si, co
    angle = 0.0 if model.shape != ASYMMETRIC else math.atan2(si, co)
    if angle > 0.5 * math.pi:
        angle -= math.pi
    elif angle <= -0.5 * math.pi:
        angle += math.pi
    out.shape[k, 0], out.shape[k, 1], out.shape[k, 2] = one, two, angle


@kernel
def move(w, l, target, m, n_pixels):
    """Move one lane's spot to a lane of another set, and close it here."""
    for at in range(l, w.newton.size, LANES):
        target.newton[at - l + m] = w.newton[at]
    for part in (oval.DATA, oval.SEEN, oval.VAR, oval.EXTRA):
        first = part * oval.BLOCK * LANES
        for at in range(first, first + n_pixels * LANES, LANES):
            target.data[at + m] = w.data[at + l]
    target.member[m] = w.member[l]
    w.member[l] = -1
    w.newton[OPEN + l] = 0.0


@kernel
def furnish(waiting, w):
    """Close the second set of lanes, and put spots there lest sums over nothing be taken."""
    waiting.data[:] = w.data
    waiting.newton[:] = w.newton
    waiting.member[:] = -1
    waiting.newton[OPEN : OPEN + _ALL] = 0.0


@kernel
def gather(w, waiting, model, table, out):
    """Move the open lanes to the second set, which climbs on whenever it is full."""
    m = 0
    for l in range(LANES):
        if w.member[l] < 0:
            continue
        while waiting.member[m] >= 0:
            m += 1
            if m == LANES:
                m = 0
                exact_pass(waiting, model, table, out)
        move(w, l, waiting, m, model.side * model.side)


@kernel
def fit_posteriors(w, waiting, regions, starts, bounds, b0, model, table, out):
    """Fit all spots.

    `starts` (n, 5) x, y, N, b, width; `bounds` (n, 2, 4) lowest and highest x, y, N, b; `b0` (n,).
    """
    n, n_pixels = starts.shape[0], model.side * model.side
    var_row = oval.SEEN if table.per_w > 0.0 else oval.VAR
    for first in range(0, n, LANES):
        block = first // LANES
        load_block(w.data, regions.data[block], n_pixels, oval.DATA)
        load_block(w.data, regions.var[block], n_pixels, var_row)
        load_block(w.data, regions.extra[block], n_pixels, oval.EXTRA)
        size = min(LANES, n - first)
        begin(w, first, size, starts, bounds, b0, model)
        if first == 0:
            furnish(waiting, w)
        coarse_climb(w, model, table)
        left = size
        for _ in range(COMMON_STEPS):
            left = exact_pass(w, model, table, out)
        if left > 0:
            gather(w, waiting, model, table, out)
    while waiting.member.max() >= 0:
        exact_pass(waiting, model, table, out)
