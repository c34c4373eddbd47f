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
from livespt.localize import light_kernels as light
from livespt.localize.line_kernels import GROUP, MARGIN, STEP, TILE
from livespt.vector_pixels import (
    above,
    add_up,
    count_of,
    count_up,
    keep_below,
    least,
    load,
    most,
    spread,
    store,
)

AT_ONCE = 8  # tiles
ROUNDS = 2  # of clipping
CLIP_SDS, CLIP_E = np.float32(4.0), np.float32(4.0)  # brighter than this is no background

SAMPLE = GROUP * 2 * TILE  # room for the sample of a tile, which is less than two of 32 px wide

_0, _STEP, _SIXTEENS = np.uint64(0), np.uint64(STEP), np.uint64(2 * TILE)
_NONE, _ONE, _NO_LIMIT = np.float32(0.0), np.float32(1.0), np.float32(3e38)
_QUARTER = np.float32(0.25)


@narrow_lanes
def edge(tile, n_tiles, length):
    """Return the first pixel of a tile along one axis."""
    return tile * length // n_tiles


@narrow_lanes
def bright(level, read_var, excess):
    """Return the count, in electrons, that tells a spot from background of a level."""
    return level + CLIP_SDS * np.float32(math.sqrt(excess * max(level, _NONE) + read_var)) + CLIP_E


@narrow_lanes
def load_sample(source, start, apart, n, lines, to):
    """Load four lines of a tile, `apart` from one another, and return their mean.

    What fills up sixteens is no level.
    """
    whole, total = np.uint64(n // STEP * STEP), spread(_NONE)
    for j in range(np.uint64(GROUP)):
        line, pixel = to + j * _SIXTEENS, np.uint64(start) + j * np.uint64(apart)
        for x in range(_0, whole, _STEP):
            v = light.plain(source, pixel + x)
            store(lines, line + x, v)
            total += v
        if whole < np.uint64(n):
            store(lines, line + whole, spread(_NO_LIMIT))
            for x in range(whole, np.uint64(n)):
                lines[line + x] = light.one_plain(source, pixel + x)
            total += keep_below(load(lines, line + whole), spread(_NO_LIMIT), spread(_NONE))
    return add_up(total) / np.float32(GROUP * n)


@narrow_lanes
def mean_below(lines, first, n, limit):
    """Return the mean of what lies below the limit in a tile's sample."""
    bound, none = spread(limit), spread(_NONE)
    total, n_below = spread(_NONE), 0
    for x in range(first, first + np.uint64(n), _STEP):
        for j in range(np.uint64(GROUP)):
            v = load(lines, x + j * _SIXTEENS)
            total += keep_below(v, bound, none)
            n_below += count_of(above(bound, v))
    return add_up(total) / max(np.float32(n_below), _ONE)


@narrow_lanes
def tile_levels(source, tile_var, excess, lines, at):
    """Fill the background of all tiles, `raw`.

    Some tiles side by side: the processor then works at one while it waits for another's sum.
    Their edges are worked out once.
    """
    edges = at.crude  # not filled yet
    for tx in range(at.n_x):
        lines[edges + tx] = np.float32(edge(tx + 1, at.n_x, at.width))
    for ty in range(at.n_y):
        y0, y1 = edge(ty, at.n_y, at.height), edge(ty + 1, at.n_y, at.height)
        step = (y1 - y0) // GROUP
        start, apart, row = (y0 + step // 2) * at.width, step * at.width, ty * at.n_x
        for first in range(0, at.n_x, AT_ONCE):
            last = min(first + AT_ONCE, at.n_x)
            for turn in range(ROUNDS + 1):
                end = edge(first, at.n_x, at.width)
                for tx in range(first, last):
                    x0, end = end, int(lines[edges + tx])
                    to = np.uint64((tx - first) * SAMPLE)
                    if turn == 0:
                        level = load_sample(source, start + x0, apart, end - x0, lines, to)
                    else:
                        limit = bright(lines[at.raw + row + tx], tile_var[row + tx], excess)
                        level = mean_below(lines, to, end - x0, limit)
                    lines[at.raw + row + tx] = level


@narrow_lanes
def smooth_levels(lines, at):
    """Average each tile with its neighbours, weights 1, 2, 1 along each axis.

    At the border a tile stands alone: half an average would shift the level where it slopes.
    """
    n, end = at.n_x, at.n_x * at.n_y
    along = at.bright  # not filled yet
    for k in range(end):
        lines[along + k] = lines[at.raw + k]
    for y in range(at.n_y):
        average_tiles(lines, at.raw + y * n + 1, 1, n - 2, along + y * n + 1)
    for k in range(end):
        lines[at.levels + k] = lines[along + k]
    average_tiles(lines, along + n, n, end - 2 * n, at.levels + n)


@narrow_lanes
def average_tiles(lines, first, step, n, to):
    """Average tiles with those `step` before and after them."""
    for k in range(n):
        here = first + k
        sides = lines[here - step] + lines[here + step]
        lines[to + k] = _QUARTER * (sides + lines[here] + lines[here])


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
        slope, floor = (right - left) / step, min(left, right) - 0.5 * abs(min(left, right))
        base = left - slope * ((i + 0.5) * step - 0.5)
        ramp(lines, to + MARGIN, first, end, at.width - 1, (base, slope, floor))
        first = end


@narrow_lanes
def ramp(lines, to, first, end, last, line):
    """Fill base + slope x, not below a floor; as at 0 before it, and as at `last` after that.

    Up to fifteen numbers after `end` are filled too.
    """
    base, slope, floor = line
    lowest = spread(floor)
    for x in range(first, end, STEP):
        at = least(most(count_up() + np.float32(x), spread(_NONE)), spread(last))
        store(lines, np.uint64(to + x), most(at * slope + spread(base), lowest))


@narrow_lanes
def side_levels(lines, at):
    """Fill the levels beside the frame, left and right, for each group of lines."""
    for g in range(at.n_groups):
        y = GROUP * g + 0.5 * (GROUP - 1)
        lines[at.sides + g] = level_at(lines, at, y, 0)
        lines[at.sides + at.n_groups + g] = level_at(lines, at, y, at.width - 1)
