# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""From counts to what the posterior's fit reads (theory: `livespt.localize.posterior`)."""

from __future__ import annotations

import math

import numpy as np

from livespt import psf_kernels as psf
from livespt.jit import inlined, kernel, kernel_of_lanes, lanes
from livespt.localize import moment_kernels as moments
from livespt.localize.algebra_kernels import rows
from livespt.localize.oval_kernels import (
    HALF,
    LANES,
    MAX_SIDE,
    ONE,
    QUARTER,
    TWO,
    ZERO,
    F,
    exp_minus,
)
from livespt.localize.table_kernels import KNEE

# rows of the work space of `prepare_many`, after its electrons: starts, border light, sums, window
_ROWS = rows(MAX_SIDE * MAX_SIDE, 10 + 2 * MAX_SIDE)
X, Y, MEAN, SQUARE, COUNT, LIMIT, LIGHT, AT_X, AT_Y, LINE = _ROWS[:10]
ALONG_X, ALONG_Y = _ROWS[10], _ROWS[10 + MAX_SIDE]
N_ROWS = MAX_SIDE * MAX_SIDE + 10 + 2 * MAX_SIDE
_ALL = np.uint64(LANES)
_BRIGHT, _SATURATED = F(1e30), F(65535.0)
_LEAST_DATUM, _LEAST_VAR, _LEAST_BG, _LEAST_N = F(1e-6), F(0.25), F(0.05), F(10.0)
_THREE_HALVES = F(1.5)


@inlined
def put_pixel(regions, k, at, electrons, count, var, table):
    """Write one pixel: `electrons` and its count less offset, read variance in e2."""
    block, l = k // LANES, k % LANES
    if table.per_w > 0.0:
        regions.data[block, at, l] = moments.count_position(count, table)
        regions.var[block, at, l] = math.sqrt(max(electrons, 0.0))
    else:
        regions.data[block, at, l] = max(electrons + var, 1e-6)
        regions.var[block, at, l] = var


@kernel
def prepare_many(adu, maps, table, width, regions, starts, bad, work):
    """Prepare regions (n, P*P) and find a start in each; `maps` (3, n or 1, P*P).

    `bad` says where a pixel is saturated or all are alike; `work` is (N_ROWS LANES,) float32.
    """
    side = int(math.sqrt(adu.shape[1]) + 0.5)
    for block in range(regions.data.shape[0]):
        first = block * LANES
        size = min(LANES, adu.shape[0] - first)
        read_block(adu, maps, table, first, size, regions, block, work)
        find_starts(work, side, F(width))
        for l in range(size):
            k = first + l
            bad[k] = work[AT_Y + l] >= _SATURATED or work[AT_X + l] == work[AT_Y + l]
            starts[k, 0], starts[k, 1], starts[k, 4] = work[X + l], work[Y + l], width
            starts[k, 2] = max(_THREE_HALVES * work[LIGHT + l], _LEAST_N)
            starts[k, 3] = max(work[MEAN + l], _LEAST_BG)


@kernel_of_lanes
def read_block(adu, maps, table, first, size, regions, block, work):
    """Fill a block's data, its electrons, and the lowest and highest counts (in AT_X, AT_Y)."""
    gain, offset, var = maps
    n_pixels, apart = adu.shape[1], maps.shape[1] > 1
    data = regions.data[block].reshape(n_pixels * LANES)
    other = regions.var[block].reshape(n_pixels * LANES)
    for l in range(_ALL):
        work[AT_X + l], work[AT_Y + l] = _SATURATED, ZERO
    for at in range(n_pixels):
        row = np.uint64(at) * _ALL
        for l in range(LANES):
            work[row + l] = F(adu[first + min(l, size - 1), at])
        for l in range(_ALL):
            work[AT_X + l] = min(work[AT_X + l], work[row + l])
            work[AT_Y + l] = max(work[AT_Y + l], work[row + l])
        if apart:
            for l in range(LANES):
                m = first + min(l, size - 1)
                data[row + l] = work[row + l] - F(offset[m, at])
                work[row + l], other[row + l] = data[row + l] / F(gain[m, at]), F(var[m, at])
        else:
            shift, per_gain, read = F(offset[0, at]), F(1.0 / gain[0, at]), F(var[0, at])
            for l in range(_ALL):
                data[row + l] = work[row + l] - shift
                work[row + l] = data[row + l] * per_gain
                other[row + l] = read
        if table.per_w > 0.0:
            place_counts(data, other, work, row, table)
        else:
            for l in range(_ALL):
                data[row + l] = max(work[row + l] + other[row + l], _LEAST_DATUM)


@lanes
def place_counts(data, seen, work, row, table):
    """Turn counts into places on the table's first axis, and keep the roots of the electrons."""
    sd, slope, knee = F(table.sd), F(table.excess * table.gain), F(KNEE * table.sd)
    z_min, per_z, top = F(table.z_min), F(table.per_z), F(table.n_z) - F(1.001)
    per_sd, per_slope = ONE / sd, TWO / slope
    for l in range(_ALL):
        beyond = data[row + l] - knee
        far = per_slope * (math.sqrt(sd * sd + slope * max(beyond, ZERO)) - sd)
        z = far if beyond > ZERO else beyond * per_sd
        data[row + l] = min(max((z - z_min) * per_z, ZERO), top)
        seen[row + l] = math.sqrt(max(work[row + l], ZERO))


@kernel_of_lanes
def find_starts(work, side, width):
    """Fill place, light and background of a block: border light, then a windowed centroid.

    The border's bright pixels (a neighbour) are left out of the background; the window has twice
    the spot's variance, so that each pass moves by 3/2 of the centroid found. Lowest and highest
    counts are left as they are.
    """
    for l in range(_ALL):
        work[LIMIT + l] = _BRIGHT
    for _ in range(3):
        border(work, side)
    middle = HALF * F(side - 1)
    for l in range(_ALL):
        work[X + l] = work[Y + l] = middle
    for _ in range(3):
        centre(work, side, QUARTER / (width * width))


@lanes
def border(work, side):
    """Fill the mean of the border's pixels below the limit, and set the limit anew."""
    for l in range(_ALL):
        work[MEAN + l] = work[SQUARE + l] = work[COUNT + l] = ZERO
    for at in range(side * side):
        if 0 < at // side < side - 1 and 0 < at % side < side - 1:
            continue
        row = np.uint64(at) * _ALL
        for l in range(_ALL):
            value = work[row + l]
            dim = ONE if value <= work[LIMIT + l] else ZERO
            work[MEAN + l] += dim * value
            work[SQUARE + l] += dim * value * value
            work[COUNT + l] += dim
    for l in range(_ALL):
        share = ONE / max(work[COUNT + l], ONE)
        mean = work[MEAN + l] * share
        work[MEAN + l] = mean
        spread = max(work[SQUARE + l] * share - mean * mean, _LEAST_VAR)
        work[LIMIT + l] = mean + TWO * math.sqrt(spread)


@lanes
def centre(work, side, sharp):
    """Move the places towards the centroids of the light in their windows."""
    for j in range(side):
        at = np.uint64(j) * _ALL
        for l in range(_ALL):
            dx, dy = F(j) - work[X + l], F(j) - work[Y + l]
            work[ALONG_X + at + l] = exp_minus(sharp * dx * dx)
            work[ALONG_Y + at + l] = exp_minus(sharp * dy * dy)
    for l in range(_ALL):
        work[LIGHT + l] = work[SQUARE + l] = work[COUNT + l] = ZERO
    for i in range(side):
        line(work, i, side)
    for l in range(_ALL):
        light = work[LIGHT + l]
        share = _THREE_HALVES / light if light > ONE else ZERO
        work[X + l] += min(max(work[SQUARE + l] * share, -ONE), ONE)
        work[Y + l] += min(max(work[COUNT + l] * share, -ONE), ONE)


@lanes
def line(work, i, side):
    """Add a line's light, and its first moments about the places (in SQUARE and COUNT)."""
    down = np.uint64(i) * _ALL
    for l in range(_ALL):
        work[LINE + l] = work[LIMIT + l] = ZERO
    for j in range(side):
        at, along = np.uint64(i * side + j) * _ALL, np.uint64(j) * _ALL
        for l in range(_ALL):
            value = (work[at + l] - work[MEAN + l]) * work[ALONG_X + along + l]
            work[LINE + l] += value
            work[LIMIT + l] += value * (F(j) - work[X + l])
    for l in range(_ALL):
        weight = work[ALONG_Y + down + l]
        work[LIGHT + l] += weight * work[LINE + l]
        work[SQUARE + l] += weight * work[LIMIT + l]
        work[COUNT + l] += weight * work[LINE + l] * (F(i) - work[Y + l])


@kernel
def add_light(spot, y0, x0, side, axes, extra):
    """Add the light of one spot (x, y, N, b, width in frame pixels) to a region's `extra`."""
    psf.profile(spot[0] - x0, spot[4], side, axes[0], axes[4], axes[5])
    psf.profile(spot[1] - y0, spot[4], side, axes[1], axes[4], axes[5])
    for i in range(side):
        for j in range(side):
            extra[i * side + j] += spot[2] * axes[1, i] * axes[0, j]


@kernel
def add_neighbours(theta, origin, lost, k, side, reach, axes, extra):
    """Add the light of all other spots that reaches region `k`; regions come in reading order.

    `reach` is where a spot's light ends, in widths; `lost` spots have no trusted place.
    """
    y0, x0 = origin[k, 0], origin[k, 1]
    half = 0.5 * (side - 1)
    for direction in (-1, 1):
        other = k + direction
        while 0 <= other < theta.shape[0] and abs(origin[other, 0] - y0) < 2 * side:
            far = 0.5 * side + reach * theta[other, 4]
            near = abs(theta[other, 0] - x0 - half) < far and abs(theta[other, 1] - y0 - half) < far
            if near and lost[other] == 0:
                add_light(theta[other], y0, x0, side, axes, extra)
            other += direction


@kernel
def prepare_frame(adu, maps, table, theta, origin, lost, side, reach, stray, work):
    """Cut the region of every spot of a frame, the light of its neighbours known.

    `maps` are gain, offset, variance, (H, W) or (1, 1); `theta` (n, 5) in frame pixels. `work` is
    (regions, starts (n, 5) in region pixels, bounds (n, 2, 4), axes (6, P)). A fit stays within
    `stray` widths of its start, lest it take another molecule's place.
    """
    gain, offset, var = maps
    regions, starts, bounds, axes = work
    flat = gain.size == 1
    for k in range(theta.shape[0]):
        y0, x0 = origin[k, 0], origin[k, 1]
        for at in range(side * side):
            y, x = y0 + at // side, x0 + at % side
            my, mx = (0, 0) if flat else (y, x)
            count = int(adu[y, x]) - offset[my, mx]
            put_pixel(regions, k, at, count / gain[my, mx], count, var[my, mx], table)
            regions.extra[k // LANES, at, k % LANES] = ZERO
        extra = regions.extra[k // LANES, :, k % LANES]
        add_neighbours(theta, origin, lost, k, side, reach, axes, extra)
        for a in range(5):
            starts[k, a] = theta[k, a]
        starts[k, 0] -= x0
        starts[k, 1] -= y0
        for a in range(2):
            far = stray * theta[k, 4]
            bounds[k, 0, a] = max(bounds[k, 0, a], starts[k, a] - far)
            bounds[k, 1, a] = min(bounds[k, 1, a], starts[k, a] + far)
