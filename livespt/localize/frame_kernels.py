# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""All fits of one frame, neighbours included (theory: `livespt.localize.localizer`)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from livespt.jit import kernel
from livespt.localize import column_kernels as columns
from livespt.localize import fit_kernels as fits
from livespt.localize.column_kernels import WIDE, B, N, S, X, Y

REACH = 4.0  # a spot's light ends here, in widths


class Fits(NamedTuple):
    """Results of one frame, one row per detection; positions in pixels of the frame."""

    theta: np.ndarray  # (n, 5)
    covariance: np.ndarray  # (n, 5, 5)
    loglik: np.ndarray  # (n,)
    code: np.ndarray  # (n,) int64
    bad: np.ndarray  # (n,) bool
    origin: np.ndarray  # (n, 2) int64: y0, x0 of the region
    crowded: np.ndarray  # (n,) bool: to be fitted again, for neighbours' light reaches in


@kernel
def cut(adu, maps, y0, x0, side, table, per_z, region):
    """Load one region; True where it cannot be trusted. `maps` are (H, W) or (1, 1)."""
    gain, offset, var = maps
    flat = gain.size == 1
    lowest, highest = 65535, 0
    for i in range(side):
        for j in range(side):
            at = i * WIDE + j
            y, x = (0, 0) if flat else (y0 + i, x0 + j)
            value = int(adu[y0 + i, x0 + j])
            lowest, highest = min(lowest, value), max(highest, value)
            signal = value - offset[y, x]
            region.signal[at] = signal
            region.var[at] = var[y, x]
            if table.size:
                region.data[at] = fits.tables.position(signal, per_z, table)
            else:
                region.data[at] = max(signal / gain[y, x] + var[y, x], 1e-6)
    return highest >= 65535 or lowest == highest


@kernel
def add_light(theta, y0, x0, side, scratch, extra):
    """Add the light of the spot `theta` (frame pixels) to a region's known background."""
    w, trial = scratch.columns, scratch.trial
    columns.copy(theta, trial)
    trial[X] -= x0
    trial[Y] -= y0
    columns.profiles(trial, side, w)
    along = columns.row(columns.ALONG_X)
    for i in range(side):
        light = theta[N] * w[columns.row(columns.ALONG_Y) + np.uint64(i)]
        at = columns.row(i)
        for j in range(np.uint64(WIDE)):
            extra[at + j] += light * w[along + j]


@kernel
def neighbours(found, theta, k, y0, x0, side, reach, scratch, extra):
    """Fill `extra` with the light of all other spots; True if any reaches the region.

    Detections come in reading order, so the search stops a region's height away.
    """
    columns.set_all(extra, 0.0)
    any_near = False
    middle_y, middle_x = y0 + 0.5 * (side - 1), x0 + 0.5 * (side - 1)
    far = 0.5 * side + reach
    for direction in (-1, 1):
        other = k + direction
        while 0 <= other < found.shape[0] and abs(found[other, 1] - middle_y) < far + 1.0:
            near_x = abs(theta[other, X] - middle_x) < far
            if near_x and abs(theta[other, Y] - middle_y) < far:
                add_light(theta[other], y0, x0, side, scratch, extra)
                any_near = True
            other += direction
    return any_near


@kernel
def settled(theta, before, covariance):
    """Say whether a refit moved its molecule by less than a tenth of a standard deviation."""
    dx, dy = theta[X] - before[X], theta[Y] - before[Y]
    return dx * dx < 0.01 * covariance[X, X] and dy * dy < 0.01 * covariance[Y, Y]


@kernel
def fit_frame(adu, found, maps, table, per_z, bounds, side, passes, region, scratch, buffers, out):
    """Fit every detection of one frame.

    The first pass takes neighbours as detected, later passes as fitted, and only where there are
    any and the last refit moved. `found` (n, 5) holds x, y, N, b and the width to start from (the
    detector's table but for its last column), `buffers` (3, 5) scratch.
    """
    n = found.shape[0]
    height, width = adu.shape
    start, low, high = buffers[0], buffers[1], buffers[2]
    for k in range(n):
        out.theta[k, X], out.theta[k, Y] = found[k, 0], found[k, 1]
        out.theta[k, N] = max(found[k, 2], 10.0)
        out.theta[k, B] = max(found[k, 3], bounds[0, B])
        out.theta[k, S] = found[k, 4]
        half = side // 2
        out.origin[k, 0] = min(max(round(found[k, 1]) - half, 0), height - side)
        out.origin[k, 1] = min(max(round(found[k, 0]) - half, 0), width - side)
    for turn in range(passes):
        for k in range(n):
            if turn > 0 and not out.crowded[k]:
                continue
            y0, x0 = out.origin[k, 0], out.origin[k, 1]
            reach = REACH * found[k, 4]
            out.crowded[k] = neighbours(
                found, out.theta, k, y0, x0, side, reach, scratch, region.extra
            )
            out.bad[k] = cut(adu, maps, y0, x0, side, table, per_z, region)
            columns.copy(out.theta[k], start)
            start[X] -= x0
            start[Y] -= y0
            columns.copy(bounds[0], low)
            columns.copy(bounds[1], high)
            # a fit may not run away to another molecule
            stray = 2.0 * found[k, 4]
            low[X], high[X] = found[k, 0] - x0 - stray, found[k, 0] - x0 + stray
            low[Y], high[Y] = found[k, 1] - y0 - stray, found[k, 1] - y0 + stray
            out.loglik[k], out.code[k] = fits.fit_spot(
                start, low, high, side, region, table, scratch, out.covariance[k]
            )
            lost = out.code[k] != fits.CONVERGED or not math.isfinite(out.loglik[k])
            if lost and turn + 1 < passes and out.crowded[k]:
                continue  # neighbours see the detection, not a failed fit
            start[X] += x0
            start[Y] += y0
            if turn > 0 and settled(start, out.theta[k], out.covariance[k]):
                out.crowded[k] = False
            columns.copy(start, out.theta[k])
