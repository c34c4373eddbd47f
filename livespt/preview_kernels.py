# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""A large frame made small enough to look at."""

from __future__ import annotations

import numpy as np

from livespt.jit import kernel


@kernel
def shrink(adu, n, sums, out):
    """Fill `out` (H // n, W // n) with the rounded means of n x n counts of `adu` (H, W).

    What is left over at the ends is cut off. `sums` (W) uint32 is scratch: one line of a bin's
    lines, added up.
    """
    height, width = out.shape
    half, area = np.uint32(n * n // 2), np.uint32(n * n)
    for y in range(height):
        sums[:] = 0
        for line in range(y * n, y * n + n):
            for x in range(sums.size):
                sums[x] += adu[line, x]
        for x in range(width):
            total = half
            for k in range(x * n, x * n + n):
                total += sums[k]
            out[y, x] = total // area
