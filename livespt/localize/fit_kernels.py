# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""Maximum-likelihood fit of one spot by Fisher scoring (theory: `livespt.localize.fit`).

Symbols: theta = (x, y, N, b, sigma), g gradient and J information of ln L in theta, E rate.
All arrays are float64 and belong to the caller.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from livespt.jit import brief_kernel, kernel
from livespt.localize import second_order_kernels as second_order
from livespt.localize import table_kernels as tables
from livespt.localize.column_kernels import WIDE, B, N, S, X, Y, copy, loglik, set_all, slopes
from livespt.types import FitStatus

PLAIN_STEPS = 14
DAMPED_STEPS = 60
TOLERANCE = 1e-4  # squared length of the last step taken, in standard deviations
CONVERGED, FAILED, SINGULAR = 0, 1, 2
DIM_SDS = 2.0  # photons below this many of their standard deviations are not significant
OK, DIM = int(FitStatus.OK), int(FitStatus.DIM)
OUT_OF_REGION, BAD_WIDTH = int(FitStatus.OUT_OF_REGION), int(FitStatus.BAD_WIDTH)
SATURATED = int(FitStatus.SATURATED)


class Region(NamedTuple):
    """What a fit reads: one region, its lines one after the other, each `WIDE` elements long.

    `data` is electrons plus read variance (shifted Poisson) or, with a table, where the count
    lies on its first axis; `var` the read variance; `signal` counts less offset; `extra` the
    light of neighbours in electrons.
    """

    data: np.ndarray
    var: np.ndarray
    signal: np.ndarray
    extra: np.ndarray


class Scratch(NamedTuple):
    """Work space of one thread."""

    columns: np.ndarray  # flat, see `column_kernels`
    grad: np.ndarray  # (5,)
    info: np.ndarray  # (5, 5)
    step: np.ndarray  # (5,)
    trial: np.ndarray  # (5,)
    factor: np.ndarray  # (5, 5)
    inverse: np.ndarray  # (5, 5)
    free: np.ndarray  # (5,) uint8


@kernel
def factorise(matrix, ridge, free, factor):
    """Fill `factor` with the Cholesky factor of J + ridge diag J over the free parameters."""
    for a in range(5):
        for b in range(a + 1):
            if free[a] and free[b]:
                total = matrix[a, b] * (1.0 + ridge) if a == b else matrix[a, b]
            else:
                total = 1.0 if a == b else 0.0
            for k in range(b):
                total -= factor[a, k] * factor[b, k]
            if a == b:
                # relative: a pivot lost to rounding says that the parameters are not told apart
                if not total > 1e-12 * abs(matrix[a, a]) * (1.0 if free[a] else 0.0):
                    return False
                factor[a, a] = math.sqrt(total)
            else:
                factor[a, b] = total / factor[b, b]
    return True


@kernel
def solve(factor, right, free, out):
    """Solve L L^T out = right, with zero for parameters that are held."""
    for a in range(5):
        total = right[a] if free[a] else 0.0
        for k in range(a):
            total -= factor[a, k] * out[k]
        out[a] = total / factor[a, a]
    for a in range(4, -1, -1):
        total = out[a]
        for k in range(a + 1, 5):
            total -= factor[k, a] * out[k]
        out[a] = total / factor[a, a]


@kernel
def hold_at_bounds(theta, low, high, scratch):
    """Free each parameter, but those at a bound that the gradient pushes against."""
    for a in range(5):
        held = theta[a] <= low[a] and scratch.grad[a] < 0.0
        held = held or (theta[a] >= high[a] and scratch.grad[a] > 0.0)
        scratch.free[a] = 0 if held else 1


@kernel
def move(theta, step, low, high, out):
    """Take the step, shortened where it would run far ahead of the quadratic model."""
    for a in range(5):
        far = 0.5 * theta[S]
        if a == N:
            far = max(0.7 * theta[N], 10.0)
        elif a == B:
            far = max(0.8 * theta[B], 1.0)
        elif a == S:
            far = 0.3 * theta[S]
        out[a] = min(max(theta[a] + min(max(step[a], -far), far), low[a]), high[a])


@kernel
def climb(theta, low, high, side, region, table, scratch):
    """Plain Fisher scoring from `theta`; True when the last step was negligible."""
    for _ in range(PLAIN_STEPS):
        slopes(theta, side, region, table, scratch.columns, scratch.grad, scratch.info)
        hold_at_bounds(theta, low, high, scratch)
        if not factorise(scratch.info, 0.0, scratch.free, scratch.factor):
            return False
        solve(scratch.factor, scratch.grad, scratch.free, scratch.step)
        move(theta, scratch.step, low, high, scratch.trial)
        length = 0.0
        for a in range(5):
            length += scratch.step[a] * scratch.grad[a] * scratch.free[a]
            theta[a] = scratch.trial[a]
        if length < TOLERANCE:
            return True
    return False


@kernel
def climb_damped(theta, low, high, side, region, table, scratch):
    """Levenberg-damped scoring that never steps downhill; True when it has converged."""
    ridge = 0.1
    best = loglik(theta, side, region, table, scratch.columns)
    for _ in range(DAMPED_STEPS):
        slopes(theta, side, region, table, scratch.columns, scratch.grad, scratch.info)
        hold_at_bounds(theta, low, high, scratch)
        rose, value = False, best
        length = 0.0
        while ridge < 1e6 and not rose:
            if factorise(scratch.info, ridge, scratch.free, scratch.factor):
                solve(scratch.factor, scratch.grad, scratch.free, scratch.step)
                move(theta, scratch.step, low, high, scratch.trial)
                length = 0.0
                for a in range(5):
                    length += scratch.step[a] * scratch.grad[a] * scratch.free[a]
                value = loglik(scratch.trial, side, region, table, scratch.columns)
                rose = value >= best - 1e-9 * abs(best)
            if rose:
                best = max(value, best)
                copy(scratch.trial, theta)
                ridge = max(0.2 * ridge, 1e-7)
            else:
                if length > 0.0 and length < TOLERANCE:
                    return True  # the table's facets hide a smaller rise than this
                ridge *= 6.0
        if not rose:
            return False
        if length < TOLERANCE and ridge < 1.0:
            return True
    return False


@kernel
def invert_information(free_width, scratch, covariance):
    """Fill the inverse of the full information; False where there is none.

    The information is that of the last step's start, 0.01 standard deviations away at most.
    """
    set_all(scratch.free, 1)
    scratch.free[S] = 1 if free_width else 0
    for a in range(5):
        set_all(covariance[a], 0.0)
    if not factorise(scratch.info, 0.0, scratch.free, scratch.factor):
        return False
    L, M = scratch.factor, scratch.inverse  # J^-1 = M^T M with M = L^-1
    for b in range(5):
        M[b, b] = 1.0 / L[b, b]
        for a in range(b + 1, 5):
            total = 0.0
            for k in range(b, a):
                total -= L[a, k] * M[k, b]
            M[a, b] = total / L[a, a]
    for a in range(5):
        for b in range(a + 1):
            total = 0.0
            for k in range(a, 5):
                total += M[k, a] * M[k, b]
            covariance[a, b] = total
            covariance[b, a] = total
    if not free_width:
        covariance[S, S] = 0.0
    return True


@kernel
def widen_position(covariance, width, free_width):
    """Take the covariance of x and y from the bound to what a free width leaves of it."""
    free = 1.0 if free_width else 0.0
    var_s = covariance[S, S]
    x = second_order.growth(covariance[X, X], var_s, 1.0 / width, free)
    y = second_order.growth(covariance[Y, Y], var_s, 1.0 / width, free)
    for a in range(5):
        covariance[X, a] *= x
        covariance[a, X] *= x
        covariance[Y, a] *= y
        covariance[a, Y] *= y


@kernel
def fit_spot(theta, low, high, side, region, table, scratch, covariance):
    """Fit one region from `theta`, in place; return (ln L, CONVERGED | FAILED | SINGULAR)."""
    start = scratch.inverse[0]
    copy(theta, start)
    code = CONVERGED
    if not climb(theta, low, high, side, region, table, scratch):
        copy(start, theta)
        if not climb_damped(theta, low, high, side, region, table, scratch):
            code = FAILED
            slopes(theta, side, region, table, scratch.columns, scratch.grad, scratch.info)
    if not invert_information(high[S] > low[S], scratch, covariance):
        code = SINGULAR
    widen_position(covariance, theta[S], high[S] > low[S])
    return loglik(theta, side, region, table, scratch.columns), code


@kernel
def guess(electrons, side, width, theta):
    """Fill a start for a region without a detection: border light, then a windowed centroid.

    The border's bright pixels (a neighbour) are left out of the background; the window has twice
    the spot's variance, so that each pass moves by 3/2 of the centroid found.
    """
    mean, square, n = 0.0, 0.0, 0
    limit = 1e300
    for _ in range(3):
        mean, square, n = 0.0, 0.0, 0
        for i in range(side):
            for j in range(side):
                value = electrons[i * side + j]
                inside = 0 < i < side - 1 and 0 < j < side - 1
                if not inside and value <= limit:
                    mean += value
                    square += value * value
                    n += 1
        mean /= max(n, 1)
        limit = mean + 2.0 * math.sqrt(max(square / max(n, 1) - mean * mean, 0.25))
    middle = 0.5 * (side - 1)
    x = y = middle
    light = 0.0
    for _ in range(3):
        light, at_x, at_y = 0.0, 0.0, 0.0
        for i in range(side):
            for j in range(side):
                r2 = (i - y) ** 2 + (j - x) ** 2
                value = (electrons[i * side + j] - mean) * math.exp(-0.25 * r2 / (width * width))
                light += value
                at_x += value * (j - x)
                at_y += value * (i - y)
        if light > 1.0:
            x += min(max(1.5 * at_x / light, -1.0), 1.0)
            y += min(max(1.5 * at_y / light, -1.0), 1.0)
    theta[X], theta[Y], theta[S] = x, y, width
    theta[N] = max(1.5 * light, 10.0)
    theta[B] = max(mean, 0.05)


@kernel
def prepare(adu, gain, offset, var, side, table, per_z, region, electrons):
    """Turn counts into what the likelihood reads; True where a pixel is saturated or all dead."""
    lowest, highest = 65535, 0
    for at in range(adu.size):
        value = int(adu[at])
        lowest, highest = min(lowest, value), max(highest, value)
        count = value - offset[at]
        electrons[at] = count / gain[at]
        put = at // side * WIDE + at % side
        region.signal[put] = count
        region.var[put] = var[at]
        if table.size:
            region.data[put] = tables.position(count, per_z, table)
        else:
            region.data[put] = max(electrons[at] + var[at], 1e-6)
    return highest >= 65535 or lowest == highest


@kernel
def fit_many(adu, maps, table, per_z, width, bounds, region, scratch, spot, which, out):
    """Fit the regions `which` of (n, P*P) without starts, one by one.

    `maps` (3, n or 1, P*P) gain, offset, variance; `spot` is (electrons (P*P,), theta (5,),
    covariance (5, 5)) scratch; `out` is (theta (n, 5), covariance (n, 5, 5), loglik (n,),
    code (n,), bad (n,)).
    """
    thetas, covariances, logliks, codes, bad = out
    electrons, theta, covariance = spot
    side = int(math.sqrt(adu.shape[1]) + 0.5)
    for k in which:
        m = k if maps.shape[1] > 1 else 0
        bad[k] = prepare(
            adu[k], maps[0, m], maps[1, m], maps[2, m], side, table, per_z, region, electrons
        )
        guess(electrons, side, width, theta)
        for a in range(5):
            theta[a] = min(max(theta[a], bounds[0, a]), bounds[1, a])
        logliks[k], codes[k] = fit_spot(
            theta, bounds[0], bounds[1], side, region, table, scratch, covariance
        )
        for a in range(5):
            thetas[k, a] = theta[a]
            for b in range(5):
                covariances[k, a, b] = covariance[a, b]


@brief_kernel
def judge(theta, covariance, code, bad, bounds, side, meanings, status):
    """Fill the `FitStatus` of each fit, positions counted from the region's first pixel.

    `meanings[code]` is the status of a fit's code; the gravest reason wins.
    """
    free_width = bounds[1, S] > bounds[0, S]
    low, high = 1.001 * bounds[0, S], 0.999 * bounds[1, S]
    for k in range(code.size):
        x, y, photons, width = theta[k, X], theta[k, Y], theta[k, N], theta[k, S]
        found = meanings[code[k]]
        if bad[k]:
            found = SATURATED
        elif found == OK:
            if not (-0.5 <= x <= side - 0.5 and -0.5 <= y <= side - 0.5):
                found = OUT_OF_REGION
            elif free_width and not low < width < high:
                found = BAD_WIDTH
            elif not photons >= DIM_SDS * math.sqrt(max(covariance[k, N, N], 0.0)):  # nor NaN
                found = DIM
        status[k] = found
