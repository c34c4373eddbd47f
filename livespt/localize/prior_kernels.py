# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""From counts to what the posterior's fit reads (theory: `livespt.localize.posterior`)."""

from __future__ import annotations

import math

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
