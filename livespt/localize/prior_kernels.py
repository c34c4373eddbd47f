# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""From counts to what the posterior's fit reads (theory: `livespt.localize.posterior`)."""

from __future__ import annotations

import math

import numpy as np

from livespt import psf_kernels as psf
from livespt.jit import inlined, kernel
from livespt.localize import fit_kernels as fits
from livespt.localize import moment_kernels as moments


@inlined
def put_pixel(regions, k, at, electrons, count, var, table):
    """Write one pixel: `electrons` and its count less offset, read variance in e2."""
    if table.per_w > 0.0:
        regions.data[k, at] = moments.count_position(count, table)
        regions.var[k, at] = math.sqrt(max(electrons, 0.0))
    else:
        regions.data[k, at] = max(electrons + var, 1e-6)
        regions.var[k, at] = var


@kernel
def prepare_many(adu, maps, table, width, regions, starts, bad, electrons):
    """Prepare regions (n, P*P) and find a start in each; `maps` (3, n or 1, P*P).

    `bad` says where a pixel is saturated or all are alike.
    """
    gain, offset, var = maps
    side = int(math.sqrt(adu.shape[1]) + 0.5)
    for k in range(adu.shape[0]):
        m = k if maps.shape[1] > 1 else 0
        lowest, highest = 65535, 0
        for at in range(adu.shape[1]):
            value = int(adu[k, at])
            lowest, highest = min(lowest, value), max(highest, value)
            count = value - offset[m, at]
            electrons[at] = count / gain[m, at]
            put_pixel(regions, k, at, electrons[at], count, var[m, at], table)
        bad[k] = highest >= 65535 or lowest == highest
        fits.guess(electrons, side, width, starts[k])


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
            regions.extra[k, at] = np.float32(0.0)
        add_neighbours(theta, origin, lost, k, side, reach, axes, regions.extra[k])
        for a in range(5):
            starts[k, a] = theta[k, a]
        starts[k, 0] -= x0
        starts[k, 1] -= y0
        for a in range(2):
            far = stray * theta[k, 4]
            bounds[k, 0, a] = max(bounds[k, 0, a], starts[k, a] - far)
            bounds[k, 1, a] = min(bounds[k, 1, a], starts[k, a] + far)
