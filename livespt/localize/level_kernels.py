# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""The background of a frame: mean counts of what is no spot, in tiles of about 32 px.

Four lines of each tile are looked at, a sample of 128 px; what is brighter than background can be
is left out, the limit following from the level of the round before. Tiles are then averaged with
their neighbours and interpolated between their middles.
"""

from __future__ import annotations

import math

import numpy as np

from livespt.jit import narrow_lanes
from livespt.localize import light_kernels as loads
from livespt.localize import line_kernels as strips
from livespt.localize.line_kernels import GROUP, MARGIN, STRIDE

AT_ONCE = 8  # tiles
ROUNDS = 2  # of clipping
CLIP_SDS, CLIP_E = np.float32(4.0), np.float32(4.0)  # brighter than this is no background

_S1, _S2, _S3 = (np.uint64(k * STRIDE) for k in range(1, 4))
_NONE, _ONE, _NO_LIMIT = np.float32(0.0), np.float32(1.0), np.float32(3e38)


@narrow_lanes
def edge(tile, n_tiles, length):
    """Return the first pixel of a tile along one axis."""
    return tile * length // n_tiles


@narrow_lanes
def bright(level, read_var, excess):
    """Return the count, in electrons, that tells a spot from background of a level."""
    return level + CLIP_SDS * np.float32(math.sqrt(excess * max(level, _NONE) + read_var)) + CLIP_E


@narrow_lanes
def sum_unclipped(lines, light, limit, sums, n):
    """Sum four lines down the columns where they lie below the limit, and count those."""
    for x in range(np.uint64(n)):
        bound = lines[limit + x]
        a, b = lines[light + x], lines[light + _S1 + x]
        c, d = lines[light + _S2 + x], lines[light + _S3 + x]
        upper = (a if a < bound else _NONE) + (b if b < bound else _NONE)
        lower = (c if c < bound else _NONE) + (d if d < bound else _NONE)
        lines[sums + x] = upper + lower
        upper = (_ONE if a < bound else _NONE) + (_ONE if b < bound else _NONE)
        lower = (_ONE if c < bound else _NONE) + (_ONE if d < bound else _NONE)
        lines[sums + _S1 + x] = upper + lower


@narrow_lanes
def sum_along(lines, start, n):
    """Return the sum of a stretch, as eight sums that the processor adds at the same time."""
    a, b, c, d, e, f, g, h = _NONE, _NONE, _NONE, _NONE, _NONE, _NONE, _NONE, _NONE
    at, end, one = np.uint64(start), np.uint64(start + n), np.uint64(1)
    while at + np.uint64(7) < end:
        a += lines[at]
        b += lines[at + np.uint64(1)]
        c += lines[at + np.uint64(2)]
        d += lines[at + np.uint64(3)]
        e += lines[at + np.uint64(4)]
        f += lines[at + np.uint64(5)]
        g += lines[at + np.uint64(6)]
        h += lines[at + np.uint64(7)]
        at += np.uint64(8)
    while at < end:
        a += lines[at]
        at += one
    return ((a + b) + (c + d)) + ((e + f) + (g + h))


@narrow_lanes
def levels_of_tiles(counts, maps, y, step, first, last, ty, tile_var, excess, lines, at):
    """Fill `raw` of some tiles side by side from four lines."""
    x0 = edge(first, at.n_x, at.width)
    n = edge(last, at.n_x, at.width) - x0
    light, limit, sums = np.uint64(0), np.uint64(at.limit), np.uint64(at.sums)
    raw = at.raw + ty * at.n_x
    strips.fill(lines, limit, n, _NO_LIMIT)
    start = y * at.width + x0
    apart = step * at.width
    if maps.size == 2:
        flat = (maps[0], _NONE, maps[1], _NONE)
        loads.load_flat(counts, start, apart, n, flat, lines, light, sums, limit)
    else:
        loads.load_mapped(counts, maps, start, apart, n, lines, light, sums, limit)
    for turn in range(ROUNDS + 1):
        if turn > 0:
            sum_unclipped(lines, light, limit, sums, n)
        for tx in range(first, last):
            a, b = edge(tx, at.n_x, at.width) - x0, edge(tx + 1, at.n_x, at.width) - x0
            if turn == 0:
                level = sum_along(lines, at.sums + a, b - a) / np.float32(GROUP * (b - a))
            else:
                total = sum_along(lines, at.sums + a, b - a)
                n_below = sum_along(lines, at.sums + STRIDE + a, b - a)
                level = total / max(n_below, _ONE)
            lines[raw + tx] = level
            strips.fill(lines, at.limit + a, b - a, bright(level, tile_var[ty, tx], excess))


@narrow_lanes
def tile_levels(counts, maps, tile_var, excess, lines, at):
    """Fill the background of all tiles, `raw`."""
    for ty in range(at.n_y):
        y0, y1 = edge(ty, at.n_y, at.height), edge(ty + 1, at.n_y, at.height)
        step = (y1 - y0) // GROUP
        y = y0 + step // 2
        for first in range(0, at.n_x, AT_ONCE):
            last = min(first + AT_ONCE, at.n_x)
            levels_of_tiles(counts, maps, y, step, first, last, ty, tile_var, excess, lines, at)


@narrow_lanes
def around(tile, n_tiles):
    """Return the first of the tiles to average, along one axis, and the one after the last.

    At the border a tile stands alone: half an average would shift the level where it slopes.
    """
    if 0 < tile < n_tiles - 1:
        return tile - 1, tile + 2
    return tile, tile + 1


@narrow_lanes
def smooth_levels(lines, at):
    """Average each tile with its neighbours (weights 1, 2, 1)."""
    for y in range(at.n_y):
        top, low = around(y, at.n_y)
        for x in range(at.n_x):
            left, right = around(x, at.n_x)
            total, weight = _NONE, _NONE
            for j in range(top, low):
                for i in range(left, right):
                    w = np.float32((2 - abs(j - y)) * (2 - abs(i - x)))
                    total += w * lines[at.raw + j * at.n_x + i]
                    weight += w
            lines[at.levels + y * at.n_x + x] = total / weight


@narrow_lanes
def place(pixel, n_tiles, length):
    """Return the tile whose middle comes before a pixel, the next, and the way between them.

    Before the first middle and after the last the line through the two nearest is drawn on
    (`between`).
    """
    at = (pixel + 0.5) * n_tiles / length - 0.5
    tile = min(max(int(at), 0), max(n_tiles - 2, 0))
    return tile, min(tile + 1, n_tiles - 1), at - tile


@narrow_lanes
def between(one, other, share):
    """Return the level `share` of the way; drawn on, at least half of the lower of the two.

    Where the background is steeper than its tiles can tell, a line drawn on would end below zero.
    """
    lower = min(one, other)
    return max(one * (1.0 - share) + other * share, lower - 0.5 * abs(lower))


@narrow_lanes
def level_at(lines, at, y, x):
    """Interpolate the tiles' levels between their middles."""
    j, jj, a = place(y, at.n_y, at.height)
    i, ii, b = place(x, at.n_x, at.width)
    upper, lower = at.levels + j * at.n_x, at.levels + jj * at.n_x
    left = between(lines[upper + i], lines[lower + i], a)
    return between(left, between(lines[upper + ii], lines[lower + ii], a), b)


@narrow_lanes
def edge_line(lines, at, y, to):
    """Fill the levels along line `y` of the frame, from `MARGIN` before its first pixel on."""
    j, jj, a = place(y, at.n_y, at.height)
    upper, lower = at.levels + j * at.n_x, at.levels + jj * at.n_x
    step = at.width / at.n_x
    first = -MARGIN
    for i in range(max(at.n_x - 1, 1)):  # ramp i ends at the middle of the next tile
        ii, last = min(i + 1, at.n_x - 1), i >= at.n_x - 2
        end = at.edge_stride - MARGIN if last else math.ceil((i + 1.5) * step - 0.5)
        left = between(lines[upper + i], lines[lower + i], a)
        right = between(lines[upper + ii], lines[lower + ii], a)
        floor = min(left, right) - 0.5 * abs(min(left, right))
        base, slope = left - (right - left) * ((i + 0.5) - 0.5 / step), (right - left) / step
        for x in range(first, end):
            lines[to + MARGIN + x] = max(base + slope * min(max(x, 0), at.width - 1), floor)
        first = end
