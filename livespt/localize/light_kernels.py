# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""From counts to electrons, four lines of a strip at a time, and their clipped sum.

A camera's maps are what takes longest: a frame of them is larger than the second cache, and the
third gives some 20 bytes a nanosecond. So both numbers of a pixel, electrons per count and
electrons of no light, stand in 16 bits each of one word, as steps from the least of their map,
and lie in the order in which strips load them. Maps that 16 bits cannot tell apart well enough
(`livespt.localize.packing`) are taken as they are.
"""

from __future__ import annotations

import numpy as np

from livespt.jit import narrow_lanes
from livespt.localize.line_kernels import GROUP, STRIDE

_S1, _S2, _S3 = (np.uint64(k * STRIDE) for k in range(1, 4))
_LOW, _HIGH = np.uint32(0xFFFF), np.uint32(16)
_F, _I = np.float32, np.int32


@narrow_lanes
def load_flat(counts, start, step, n, steps, lines, to, sums, limit):
    """Load four lines, `step` apart, of a camera without maps, and their clipped sum."""
    scale, offset = steps[0], steps[2]
    a, b = np.uint64(start), np.uint64(start + step)
    c, d = np.uint64(start + 2 * step), np.uint64(start + 3 * step)
    for x in range(np.uint64(n)):
        bound = lines[limit + x]
        one = _F(counts[a + x]) * scale - offset
        two = _F(counts[b + x]) * scale - offset
        three = _F(counts[c + x]) * scale - offset
        four = _F(counts[d + x]) * scale - offset
        lines[to + x] = one
        lines[to + _S1 + x] = two
        lines[to + _S2 + x] = three
        lines[to + _S3 + x] = four
        upper = (one if one < bound else bound) + (two if two < bound else bound)
        lower = (three if three < bound else bound) + (four if four < bound else bound)
        lines[sums + x] = upper + lower


@narrow_lanes
def electrons(count, word, steps):
    """Return a pixel's electrons from its packed maps."""
    scale = _F(_I(word & _LOW)) * steps[1] + steps[0]
    return _F(count) * scale - (_F(_I(word >> _HIGH)) * steps[3] + steps[2])


@narrow_lanes
def load_packed(counts, packed, start, step, word, n, steps, lines, to, sums, limit):
    """Load four lines, `step` apart, of a camera with packed maps, and their clipped sum.

    `word` is where the maps of the first of the four begin; they follow on one another there.
    """
    a, b = np.uint64(start), np.uint64(start + step)
    c, d = np.uint64(start + 2 * step), np.uint64(start + 3 * step)
    p, q = np.uint64(word), np.uint64(word + n)
    r, s = np.uint64(word + 2 * n), np.uint64(word + 3 * n)
    for x in range(np.uint64(n)):
        bound = lines[limit + x]
        one = electrons(counts[a + x], packed[p + x], steps)
        two = electrons(counts[b + x], packed[q + x], steps)
        three = electrons(counts[c + x], packed[r + x], steps)
        four = electrons(counts[d + x], packed[s + x], steps)
        lines[to + x] = one
        lines[to + _S1 + x] = two
        lines[to + _S2 + x] = three
        lines[to + _S3 + x] = four
        upper = (one if one < bound else bound) + (two if two < bound else bound)
        lower = (three if three < bound else bound) + (four if four < bound else bound)
        lines[sums + x] = upper + lower


@narrow_lanes
def load_line(counts, maps, start, n, lines, to):
    """Load one line of a camera with maps: all scales, then all offsets."""
    first, other = np.uint64(start), np.uint64(start + counts.size)
    for x in range(np.uint64(n)):
        lines[to + x] = _F(counts[first + x]) * maps[first + x] - maps[other + x]


@narrow_lanes
def sum_clipped(n, lines, to, sums, limit):
    """Sum four loaded lines, each clipped."""
    for x in range(np.uint64(n)):
        bound = lines[limit + x]
        one, two = lines[to + x], lines[to + _S1 + x]
        three, four = lines[to + _S2 + x], lines[to + _S3 + x]
        upper = (one if one < bound else bound) + (two if two < bound else bound)
        lower = (three if three < bound else bound) + (four if four < bound else bound)
        lines[sums + x] = upper + lower


@narrow_lanes
def load_mapped(counts, maps, start, step, n, lines, to, sums, limit):
    """Load four lines, `step` apart, of a camera with maps as they are, and their clipped sum."""
    for j in range(GROUP):
        load_line(counts, maps, start + j * step, n, lines, to + np.uint64(j * STRIDE))
    sum_clipped(n, lines, to, sums, limit)
