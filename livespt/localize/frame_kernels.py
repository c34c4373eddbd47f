# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""All fits of one frame, neighbours included (theory: `livespt.localize.localizer`)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from livespt.jit import kernel
from livespt.localize import column_kernels as columns
from livespt.localize import fit_kernels as fits
from livespt.localize import lane_fit_kernels as lane_fits
from livespt.localize import lane_kernels as lanes
from livespt.localize.column_kernels import WIDE, B, N, S, X, Y
from livespt.localize.fit_kernels import Region, Scratch

REACH = 4.0  # a spot's light ends here, in widths
STRAY = 2.0  # a fit may not run away to another molecule, in widths
SWEEPS = 3  # fits of a crowded spot: with neighbours as detected, then twice as fitted


class Space(NamedTuple):
    """Work space of one thread."""

    region: Region
    scratch: Scratch
    buffers: np.ndarray  # (3, 5)
    lanes: np.ndarray  # flat float32, see `lane_kernels`
    waiting: np.ndarray  # (n,) int64: spots to fit in this sweep
    again: np.ndarray  # (n,) int64: and in the next


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
def begin(found, bounds, side, shape, out):
    """Start every fit from its detection, in a region shifted inside the frame."""
    height, width = shape
    half = side // 2
    for k in range(found.shape[0]):
        out.theta[k, X], out.theta[k, Y] = found[k, 0], found[k, 1]
        out.theta[k, N] = max(found[k, 2], 10.0)
        out.theta[k, B] = max(found[k, 3], bounds[0, B])
        out.theta[k, S] = found[k, 4]
        out.origin[k, 0] = min(max(round(found[k, 1]) - half, 0), height - side)
        out.origin[k, 1] = min(max(round(found[k, 0]) - half, 0), width - side)


@kernel
def put_in_lane(adu, maps, y0, x0, side, extra, table, w, lane):
    """Give one region of the frame to a lane; True where it cannot be trusted.

    `maps` are flat float32: 1/gain, offset, variance, of all pixels or of one.
    """
    per_gain, offset, var = maps
    step = np.uint64(0 if per_gain.size == 1 else 1)
    n, width = np.uint64(side * side), adu.shape[1]
    common = np.float32(table.common)
    lowest, highest = 65535, 0
    q, place = lanes.SINGLE, lanes.PLACE + np.uint64(lane)
    for i in range(side):
        line = adu[y0 + i]
        at = np.uint64((y0 + i) * width + x0) * step
        for j in range(side):
            value = line[x0 + j]
            lowest, highest = min(lowest, int(value)), max(highest, int(value))
            v = var[at]
            electrons = (np.float32(value) - offset[at]) * per_gain[at]
            w[q] = max(electrons + v, lane_fits.LEAST_DATUM)
            w[q + n] = v - common + np.float32(extra[i * WIDE + j])
            q += np.uint64(1)
            at += step
            if table.size:
                w[place] = table.place[value]
                place += np.uint64(lanes.LANES)
    lane_fits.deal(w, lane, side, 0)
    lane_fits.deal(w, lane, side, 1)
    return highest >= 65535 or lowest == highest


@kernel
def fit_alone(adu, found, maps, table, per_z, bounds, side, k, region, scratch, buffers, out):
    """Fit one detection in float64, damped if need be (its neighbours' light is in the region)."""
    start, low, high = buffers[0], buffers[1], buffers[2]
    y0, x0 = out.origin[k, 0], out.origin[k, 1]
    neighbours(found, out.theta, k, y0, x0, side, REACH * found[k, 4], scratch, region.extra)
    cut(adu, maps, y0, x0, side, table, per_z, region)
    columns.copy(bounds[0], low)
    columns.copy(bounds[1], high)
    stray = STRAY * found[k, 4]
    low[X], high[X] = found[k, 0] - x0 - stray, found[k, 0] - x0 + stray
    low[Y], high[Y] = found[k, 1] - y0 - stray, found[k, 1] - y0 + stray
    for a in range(4):
        start[a] = found[k, a]
    start[X] -= x0
    start[Y] -= y0
    start[N], start[B] = max(start[N], 10.0), max(start[B], bounds[0, B])
    start[S] = found[k, 4]
    out.loglik[k], out.code[k] = fits.fit_spot(
        start, low, high, side, region, table, scratch, out.covariance[k]
    )
    start[X] += x0
    start[Y] += y0
    columns.copy(start, out.theta[k])


@kernel
def fill_load(adu, found, maps, table, side, taken, w, region, scratch, buffers, out):
    """Put the spots `taken` into the lanes, and note which have neighbours."""
    start = buffers[0]
    n = taken.size
    for lane in range(n):
        k = taken[lane]
        y0, x0 = out.origin[k, 0], out.origin[k, 1]
        reach = REACH * found[k, 4]
        out.crowded[k] = neighbours(found, out.theta, k, y0, x0, side, reach, scratch, region.extra)
        out.bad[k] = put_in_lane(adu, maps, y0, x0, side, region.extra, table, w, lane)
        columns.copy(out.theta[k], start)
        start[X] -= x0
        start[Y] -= y0
        at_x, at_y, stray = found[k, 0] - x0, found[k, 1] - y0, STRAY * found[k, 4]
        lane_fits.start_lane(w, lane, start, at_x - stray, at_x + stray, at_y - stray, at_y + stray)
    for lane in range(n, lanes.LANES):  # idle lanes repeat the last spot
        lane_fits.repeat_lane(w, n - 1, lane, side, table)


@kernel
def empty_load(taken, sweep, again, n_again, w, buffers, out):
    """Take the answers of a load; return how many spots want another sweep."""
    start, before = buffers[0], buffers[1]
    for lane in range(taken.size):
        k = taken[lane]
        columns.copy(out.theta[k], before)
        out.loglik[k] = lane_fits.collect(w, lane, start, out.covariance[k])
        start[X] += out.origin[k, 1]
        start[Y] += out.origin[k, 0]
        there = lane_fits.arrived(w, lane)
        out.code[k] = fits.CONVERGED if there else fits.FAILED
        if there or lane_fits.usable(w, lane):
            columns.copy(start, out.theta[k])
        moved = sweep == 0 or not settled(start, before, out.covariance[k])
        if not there or (out.crowded[k] and moved and sweep + 1 < SWEEPS):
            again[n_again] = k
            n_again += 1
    return n_again


@kernel
def fit_frame(adu, found, maps, lane_maps, tables, per_z, bounds, side, work, out):
    """Fit every detection of one frame.

    The first sweep takes neighbours as detected, later ones as fitted: for spots that have any
    and still move, and for spots that have not arrived. What never arrives in the lanes is fitted
    in float64. `found` (n, 5) holds x, y, N, b and the width to start from; `tables` are the
    float64 one and the lanes'; `work` is a `Space`.
    """
    table, lane_table = tables
    w, waiting, again = work.lanes, work.waiting, work.again
    begin(found, bounds, side, adu.shape, out)
    limits = lane_fits.limits_of(bounds)
    n = found.shape[0]
    for k in range(n):
        waiting[k] = k
    for sweep in range(SWEEPS + 1):
        n_again = 0
        for first in range(0, n, lanes.LANES):
            taken = waiting[first : min(first + lanes.LANES, n)]
            fill_load(
                adu,
                found,
                lane_maps,
                lane_table,
                side,
                taken,
                w,
                work.region,
                work.scratch,
                work.buffers,
                out,
            )
            lane_fits.fit_load(w, side, limits, lane_table, sweep)
            n_again = empty_load(taken, sweep, again, n_again, w, work.buffers, out)
        n = n_again
        columns.copy(again[:n], waiting)
        if n == 0:
            break
    for at in range(n):
        k = waiting[at]
        if out.code[k] != fits.CONVERGED:
            fit_alone(
                adu,
                found,
                maps,
                table,
                per_z,
                bounds,
                side,
                k,
                work.region,
                work.scratch,
                work.buffers,
                out,
            )


@kernel
def find_repeated(theta, order, nearest, repeated):
    """Mark the dimmer of two fits nearer than `nearest` in x and y; `order` sorts them by y."""
    for at in range(order.size):
        one = order[at]
        beyond = at + 1
        while beyond < order.size and theta[order[beyond], Y] - theta[one, Y] < nearest:
            other = order[beyond]
            if abs(theta[one, X] - theta[other, X]) < nearest:
                repeated[one if theta[one, N] < theta[other, N] else other] = True
            beyond += 1
