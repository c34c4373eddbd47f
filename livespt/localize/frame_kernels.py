# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""All fits of one frame, neighbours included (theory: `livespt.localize.localizer`)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from livespt.jit import inlined, kernel
from livespt.localize import column_kernels as columns
from livespt.localize import fit_kernels as fits
from livespt.localize import frame_load_kernels as loads
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
    cuts: np.ndarray  # flat float32, see `frame_load_kernels`
    lists: np.ndarray  # (4, n) int64: spots of this sweep, of the next, alone; goes of each spot


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


@inlined
def add_neighbours(found, theta, k, y0, x0, side, cuts, to):
    """As `neighbours`, in float32, to the known rates of a cut region; True if any reaches it."""
    any_near = False
    middle_y, middle_x = y0 + 0.5 * (side - 1), x0 + 0.5 * (side - 1)
    far = 0.5 * side + REACH * found[k, 4]
    for direction in (-1, 1):
        other = k + direction
        while 0 <= other < found.shape[0] and abs(found[other, 1] - middle_y) < far + 1.0:
            x, y = theta[other, X], theta[other, Y]
            if abs(x - middle_x) < far and abs(y - middle_y) < far:
                loads.add_stray(x - x0, y - y0, theta[other, N], theta[other, S], side, cuts, to)
                any_near = True
            other += direction
    return any_near


@inlined
def start_spot(found, k, side, w, lane, out):
    """Start a lane where its spot stands now; it may not run away from where it was detected."""
    y0, x0 = out.origin[k, 0], out.origin[k, 1]
    x, y, stray = found[k, 0] - x0, found[k, 1] - y0, STRAY * found[k, 4]
    start = (
        out.theta[k, X] - x0,
        out.theta[k, Y] - y0,
        out.theta[k, N],
        out.theta[k, B],
        out.theta[k, S],
    )
    lane_fits.start_lane(w, lane, start, x - stray, x + stray, y - stray, y + stray)


@kernel
def fill_load(adu, found, maps, table, side, taken, w, cuts, out):
    """Put the spots `taken` into the lanes, and note which have neighbours.

    Idle lanes repeat the last spot.
    """
    counts, width, n = adu.reshape(-1), adu.shape[1], taken.size
    common = np.float32(table.common)
    for first in range(0, lanes.LANES, loads.BLOCK):
        for slot in range(loads.BLOCK):
            k, to = taken[min(first + slot, n - 1)], slot * loads.SPOT
            y0, x0 = out.origin[k, 0], out.origin[k, 1]
            at = y0 * width + x0
            out.bad[k] = loads.cut_region(counts, maps, at, width, side, common, cuts, to)
            if table.size:
                to_place = to + loads.PLACES
                loads.cut_places(counts, at, width, side, table.place, cuts, to_place)
            out.crowded[k] = add_neighbours(found, out.theta, k, y0, x0, side, cuts, to)
            start_spot(found, k, side, w, first + slot, out)
        loads.deal_block(w, first, side, table, cuts)


@kernel
def empty_load(taken, w, again, n_again, goes, out):
    """Take the answers of a load; return how many spots want another go."""
    theta, covariance = out.theta, out.covariance
    for lane in range(taken.size):
        k = taken[lane]
        y0, x0 = out.origin[k, 0], out.origin[k, 1]
        x, y = theta[k, X], theta[k, Y]
        there, usable = lane_fits.arrived(w, lane), lane_fits.usable(w, lane)
        start = (theta[k, N], theta[k, B], theta[k, S])
        out.loglik[k] = lane_fits.collect(w, lane, theta[k], covariance[k])
        theta[k, X] += x0
        theta[k, Y] += y0
        dx, dy = theta[k, X] - x, theta[k, Y] - y
        out.code[k] = fits.CONVERGED if there else fits.FAILED
        if not (there or usable):
            theta[k, X], theta[k, Y] = x, y
            theta[k, N], theta[k, B], theta[k, S] = start
        goes[k] += 1
        at_rest = dx * dx < 0.01 * covariance[k, X, X] and dy * dy < 0.01 * covariance[k, Y, Y]
        moved = goes[k] == 1 or not at_rest
        if (not there and goes[k] <= SWEEPS) or (out.crowded[k] and moved and goes[k] < SWEEPS):
            again[n_again] = k
            n_again += 1
    return n_again


@inlined
def has_neighbours(found, k, side):
    """Say whether a spot has neighbours as detected."""
    far = 0.5 * side + REACH * found[k, 4] + 1.0
    for direction in (-1, 1):
        other = k + direction
        while 0 <= other < found.shape[0] and abs(found[other, 1] - found[k, 1]) < far:
            if abs(found[other, 0] - found[k, 0]) < far:
                return True
            other += direction
    return False


@kernel
def sort_spots(found, side, waiting, alone, goes):
    """List the spots that have neighbours and those that stand alone; return how many have."""
    n, n_alone = 0, 0
    for k in range(found.shape[0]):
        goes[k] = 0
        if has_neighbours(found, k, side):
            waiting[n] = k
            n += 1
        else:
            alone[n_alone] = k
            n_alone += 1
    return n


@kernel
def fit_frame(adu, found, maps, lane_maps, tables, per_z, bounds, side, work, out):
    """Fit every detection of one frame.

    The first sweep takes neighbours as detected, later ones as fitted: for spots that have any
    and still move, and for spots that have not arrived. What never arrives in the lanes is fitted
    in float64. Spots that stand alone fill up what a sweep leaves of its last load; with a table,
    where a load must be all of one turn, they join the first. `found` (n, 5) holds x, y, N, b and
    the width to start from; `tables` are the float64 one and the lanes'; `work` is a `Space`.
    """
    table, lane_table = tables
    w, cuts = work.lanes, work.cuts
    waiting, again, alone, goes = work.lists[0], work.lists[1], work.lists[2], work.lists[3]
    begin(found, bounds, side, adu.shape, out)
    limits = lane_fits.limits_of(bounds)
    n, turn, placed = sort_spots(found, side, waiting, alone, goes), 0, 0
    n_alone = found.shape[0] - n
    while n > 0 or placed < n_alone:
        room = n_alone if n == 0 or lane_table.size else -n % lanes.LANES
        while room > 0 and placed < n_alone:
            waiting[n] = alone[placed]
            n, placed, room = n + 1, placed + 1, room - 1
        n_again = 0
        for first in range(0, n, lanes.LANES):
            taken = waiting[first : min(first + lanes.LANES, n)]
            fill_load(adu, found, lane_maps, lane_table, side, taken, w, cuts, out)
            lane_fits.fit_load(w, taken.size, side, limits, lane_table, turn)
            n_again = empty_load(taken, w, again, n_again, goes, out)
        n, turn = n_again, turn + 1
        columns.copy(again[:n], waiting)
    for k in range(found.shape[0]):
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
