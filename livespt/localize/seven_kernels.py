# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""Two round spots, or one oval: damped Fisher scoring with seven parameters.

Theory: `livespt.localize.pair`. theta = (x1, y1, N1, x2, y2, N2, b) of the pair and
(x, y, N, Cxx, Cyy, Cxy, b) of the oval. `rows` holds the rate and its seven slopes, each as a
region with lines of `WIDE` elements.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from livespt.jit import kernel
from livespt.localize import column_kernels as columns
from livespt.localize import table_kernels as tables
from livespt.localize.column_kernels import WIDE, N, S, X, Y

PAIR, OVAL = 0, 1
K, BG = 7, 6
STEPS = 40
TOLERANCE = 1e-4  # squared length of the last step, in standard deviations
_PIXEL = 1.0 / 12.0  # variance that a pixel's width adds to a spot's
_TWO_PI = 2.0 * math.pi


class Work(NamedTuple):
    """Work space of one thread."""

    columns: np.ndarray  # flat, see `column_kernels`
    rows: np.ndarray  # (8, side * WIDE)
    spot: np.ndarray  # (5,)
    grad: np.ndarray  # (7,)
    info: np.ndarray  # (7, 7)
    factor: np.ndarray  # (7, 7)
    vectors: np.ndarray  # (8, 7): step, trial, low, high, start, best, inverse's column, oval
    free: np.ndarray  # (7,) uint8
    limits: np.ndarray  # (2, 5)
    single: np.ndarray  # (5,)


@kernel
def fill_pair(theta, sigma, side, extra, work):
    """Fill rate and slopes of two spots of width `sigma`."""
    w, rows, spot = work.columns, work.rows, work.spot
    for at in range(side * WIDE):
        rows[0, at] = theta[BG] + extra[at]
        rows[1 + BG, at] = 1.0
    for s in range(2):
        first = 3 * s
        spot[X], spot[Y], spot[N] = theta[first], theta[first + 1], theta[first + 2]
        spot[S] = sigma
        columns.profiles(spot, side, w)
        for i in range(side):
            y0 = w[columns.row(columns.ALONG_Y) + np.uint64(i)]
            y1 = w[columns.row(columns.ALONG_Y + 1) + np.uint64(i)]
            for j in range(side):
                at = i * WIDE + j
                x0 = w[columns.row(columns.ALONG_X) + np.uint64(j)]
                x1 = w[columns.row(columns.ALONG_X + 1) + np.uint64(j)]
                rows[0, at] += spot[N] * y0 * x0
                rows[1 + first, at] = spot[N] * y0 * x1
                rows[2 + first, at] = spot[N] * y1 * x0
                rows[3 + first, at] = y0 * x0


@kernel
def fill_oval(theta, side, extra, work):
    """Fill rate and slopes of one elliptic Gaussian, sampled with the pixel's variance in C."""
    rows = work.rows
    cxx, cyy, cxy = theta[3] + _PIXEL, theta[4] + _PIXEL, theta[5]
    det = cxx * cyy - cxy * cxy
    pxx, pyy, pxy = cyy / det, cxx / det, -cxy / det
    height = 1.0 / (_TWO_PI * math.sqrt(det))
    for i in range(side):
        dy = i - theta[1]
        for j in range(side):
            at = i * WIDE + j
            dx = j - theta[0]
            ux, uy = pxx * dx + pxy * dy, pxy * dx + pyy * dy
            g = height * math.exp(-0.5 * (ux * dx + uy * dy))
            light = theta[2] * g
            rows[0, at] = theta[BG] + extra[at] + light
            rows[1, at] = light * ux
            rows[2, at] = light * uy
            rows[3, at] = g
            rows[4, at] = 0.5 * light * (ux * ux - pxx)
            rows[5, at] = 0.5 * light * (uy * uy - pyy)
            rows[6, at] = light * (ux * uy - pxy)
            rows[7, at] = 1.0


@kernel
def fill(kind, theta, sigma, side, extra, work):
    """Fill rate and slopes of either model."""
    if kind == PAIR:
        fill_pair(theta, sigma, side, extra, work)
    else:
        fill_oval(theta, side, extra, work)


@kernel
def loglik(side, region, table, rows):
    """Return ln L of the rates in `rows`."""
    total = 0.0
    for i in range(side):
        product = 1.0
        for j in range(side):
            at = i * WIDE + j
            if table.size:
                total += tables.look_up_loglik(
                    region.data[at], region.signal[at], rows[0, at], table
                )
            else:
                part, factor = columns.log_poisson(region.data[at], rows[0, at] + region.var[at])
                total += part
                product *= factor
        total += 0.5 * math.log(product)
    return total


@kernel
def sum_slopes(side, region, table, work):
    """Fill gradient and expected information at the rates in `work.rows`."""
    rows, grad, info = work.rows, work.grad, work.info
    for a in range(K):
        grad[a] = 0.0
        for b in range(K):
            info[a, b] = 0.0
    for i in range(side):
        for j in range(side):
            at = i * WIDE + j
            if table.size:
                score, weight = tables.look_up(region.data[at], rows[0, at], table)
            else:
                weight = 1.0 / (rows[0, at] + region.var[at])
                score = region.data[at] * weight - 1.0
            for a in range(K):
                slope = rows[1 + a, at]
                grad[a] += score * slope
                for b in range(a + 1):
                    info[a, b] += weight * slope * rows[1 + b, at]
    for a in range(K):
        for b in range(a):
            info[b, a] = info[a, b]


@kernel
def factorise(ridge, work):
    """Fill `factor` with the Cholesky factor of J + ridge diag J over the free parameters."""
    info, factor, free = work.info, work.factor, work.free
    for a in range(K):
        for b in range(a + 1):
            total = 1.0 if a == b else 0.0
            if free[a] and free[b]:
                total = info[a, b] * (1.0 + ridge) if a == b else info[a, b]
            for k in range(b):
                total -= factor[a, k] * factor[b, k]
            if a != b:
                factor[a, b] = total / factor[b, b]
            elif total > 1e-12 * abs(info[a, a]) * free[a]:
                factor[a, a] = math.sqrt(total)
            else:
                return False
    return True


@kernel
def solve(right, work, out):
    """Solve L L^T out = right, with zero for parameters that are held."""
    factor, free = work.factor, work.free
    for a in range(K):
        total = right[a] if free[a] else 0.0
        for k in range(a):
            total -= factor[a, k] * out[k]
        out[a] = total / factor[a, a]
    for a in range(K - 1, -1, -1):
        total = out[a]
        for k in range(a + 1, K):
            total -= factor[k, a] * out[k]
        out[a] = total / factor[a, a]


@kernel
def hold_at_bounds(theta, work):
    """Free each parameter, but those at a bound that the gradient pushes against."""
    low, high = work.vectors[2], work.vectors[3]
    for a in range(K):
        held = theta[a] <= low[a] and work.grad[a] < 0.0
        held = held or (theta[a] >= high[a] and work.grad[a] > 0.0)
        work.free[a] = 0 if held else 1


@kernel
def move(kind, theta, sigma, work):
    """Fill the trial: the step, shortened where it would run far ahead of the quadratic model."""
    step, out, low, high = work.vectors[0], work.vectors[1], work.vectors[2], work.vectors[3]
    for a in range(K):
        far = 0.5 * sigma
        if a == BG:
            far = max(0.8 * theta[BG], 1.0)
        elif a == 2 or (kind == PAIR and a == 5):
            far = max(0.7 * theta[a], 20.0)
        elif kind == OVAL and a >= 3:
            far = 0.4 * math.sqrt(theta[3] * theta[4])
        out[a] = min(max(theta[a] + min(max(step[a], -far), far), low[a]), high[a])
    if kind == OVAL:  # no thinner than one to four
        limit = 0.9 * math.sqrt(out[3] * out[4])
        out[5] = min(max(out[5], -limit), limit)


@kernel
def climb(kind, theta, sigma, side, region, table, work):
    """Damped Fisher scoring from `theta`, in place; return ln L and whether it has converged."""
    step, trial = work.vectors[0], work.vectors[1]
    fill(kind, theta, sigma, side, region.extra, work)
    best = loglik(side, region, table, work.rows)
    ridge = 0.01
    for _ in range(STEPS):
        sum_slopes(side, region, table, work)
        hold_at_bounds(theta, work)
        rose, length, value = False, 0.0, best
        while ridge < 1e6 and not rose:
            if factorise(ridge, work):
                solve(work.grad, work, step)
                move(kind, theta, sigma, work)
                length = 0.0
                for a in range(K):
                    length += step[a] * work.grad[a]
                fill(kind, trial, sigma, side, region.extra, work)
                value = loglik(side, region, table, work.rows)
                rose = value >= best - 1e-9 * abs(best)
            if rose:
                best = max(best, value)
                columns.copy(trial, theta)
                ridge = max(0.1 * ridge, 1e-7)
            elif 0.0 < length < TOLERANCE:
                return best, True
            else:
                ridge *= 6.0
        if not rose:
            return best, False
        if length < TOLERANCE and ridge < 1.0:
            return best, True
    return best, False


@kernel
def invert(work, covariance):
    """Fill (7, 7) with the inverse of the information; False where there is none."""
    unit, column = work.vectors[0], work.vectors[6]
    columns.set_all(work.free, 1)
    if not factorise(0.0, work):
        return False
    for a in range(K):
        columns.set_all(unit, 0.0)
        unit[a] = 1.0
        solve(unit, work, column)
        columns.copy(column, covariance[a])
    return True
