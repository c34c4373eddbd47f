# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""The detector's matched filter, four lines of a strip of the frame at a time.

A strip is up to `INNER` columns of the frame; its lines of work stay in the first cache. They lie
in one flat float32 buffer, every line `STRIDE` long, with the first column that is filtered at
`MARGIN`. Lines come in groups of four: what four lines share is loaded once, and the background,
which is smooth, is needed at every fourth line only. Loops take sixteen columns at a time
(`livespt.vector_pixels`); places in the buffer are unsigned, which needs no test for a count from
the end.

    light  four lines of electrons (`light_kernels`), used up before the next four are loaded
    clips  a group's clipped light, summed down the columns
    sums   ring of lines: the same, summed over 2 box + 1 columns
    wide   ring of blocks of 4 lines: light averaged along the line
    boxes  ring of lines: `sums` of `groups` groups
    out    ring of blocks of 4 lines: the filter's output

The output is G * light - B: G the taps along and down, B the box sums of the groups, interpolated
linearly between the middles of groups, so that no gradient is left.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from livespt.jit import narrow_lanes
from livespt.vector_pixels import (
    WIDTH,
    above,
    load,
    most,
    one_after,
    one_before,
    spread,
    store,
    two_before,
)

GROUP = 4  # lines
TILE = 32  # pixels, of the background (`level_kernels`)
STEP = WIDTH  # loops are as long as a multiple of this, so that nothing is left over
INNER = 11 * STEP  # columns of a strip that are filtered: all of its lines lie in the first cache
MARGIN = 64  # columns on either side of it; what is filtered begins a line of the cache
STRIDE = INNER + 2 * MARGIN  # odd in cache lines, for lines to spread over the cache
BLOCK = GROUP * STRIDE
SPARE = 3  # zeros after the last tap: the first three pairs are taken at once
BOXES, OUTS = 4, 2  # lines and blocks in their rings

_S1, _S2, _S3 = (np.uint64(k * STRIDE) for k in range(1, 4))
_0, _1, _2, _3, _4, _8, _STEP = (np.uint64(k) for k in (0, 1, 2, 3, 4, 8, STEP))
_FAR, _NEAR = np.float32(0.375), np.float32(0.125)


class Layout(NamedTuple):
    """What is fixed for a frame shape and a width: numbers, and where things lie in the buffer.

    No arrays: numba counts references to each array of an argument at each call.
    """

    height: int
    width: int
    n_y: int  # lines of tiles
    n_x: int  # tiles in a line
    box: int  # columns of the background box on either side
    groups: int  # groups of lines in the box, odd
    reach: int  # columns beside a strip that its filter needs, a multiple of 8
    box_scale: np.float32  # the filter's background is this times the box sum
    sum_ring: int  # lines of `sums`; like `ring` a power of two, for places without division
    ring: int  # blocks of light averaged along the line
    n_taps: int
    clips: int  # line
    sums: int  # ring of `sum_ring` lines
    wide: int  # ring of `ring` blocks
    boxes: int  # ring of `BOXES` lines
    out: int  # ring of `OUTS` blocks
    limit: int  # line: where light is clipped
    floors: int  # line: less than the threshold there
    scratch: int  # line
    taps: int  # half of a Gaussian of peak 1, then `SPARE` zeros
    edges: int  # two lines: background above and below the frame
    edge_stride: int
    sides: int  # background left of each group of lines, then right
    n_groups: int
    raw: int  # (n_y, n_x) background, tile by tile
    levels: int  # the same, smoothed
    bright: int  # the same: where light is clipped
    crude: int  # the same: less than the threshold of any pixel
    size: int


def layout_of(shape: tuple[int, int], box: int, groups: int, n_taps: int, scale: float) -> Layout:
    """Lay out the buffer for a frame shape and a filter."""
    n_y, n_x = max(1, shape[0] // TILE), max(1, shape[1] // TILE)
    half, ahead = groups // 2, -(-n_taps // GROUP)
    ring, sum_ring = _power_of_two(half + ahead + 2), _power_of_two(groups)
    edge_stride, n_groups = shape[1] + 2 * MARGIN + STRIDE, -(-shape[0] // GROUP)
    lengths = {
        "clips": BLOCK,  # after the light
        "sums": STRIDE,
        "wide": sum_ring * STRIDE,
        "boxes": ring * BLOCK,
        "out": BOXES * STRIDE,
        "limit": OUTS * BLOCK,
        "floors": STRIDE,
        "scratch": STRIDE,
        "taps": STRIDE,
        "edges": n_taps + 1 + SPARE,
        "sides": 2 * edge_stride,
        "raw": 2 * n_groups,
        "levels": n_y * n_x,
        "bright": n_y * n_x,
        "crude": n_y * n_x,
        "size": n_y * n_x,
    }
    starts = dict(zip(lengths, (int(n) for n in np.cumsum(list(lengths.values()))), strict=True))
    return Layout(
        height=shape[0],
        width=shape[1],
        n_y=n_y,
        n_x=n_x,
        box=box,
        groups=groups,
        reach=-(-(max(box, n_taps) + 2) // 8) * 8,
        box_scale=np.float32(scale),
        sum_ring=sum_ring,
        ring=ring,
        n_taps=n_taps,
        edge_stride=edge_stride,
        n_groups=n_groups,
        **starts,
    )


def _power_of_two(n: int) -> int:
    """Return the least power of two that is not below n."""
    return 1 << (n - 1).bit_length()


@narrow_lanes
def filtered_from(x0):
    """Return the first column that is filtered for a strip from `x0` on.

    A peak needs its neighbours; column -1 of the frame is known to be 0.
    """
    return max(x0 - 1, 0)


@narrow_lanes
def sums_at(g, at):
    """Return where the clipped sums of group `g` lie."""
    return np.uint64(at.sums + (g & (at.sum_ring - 1)) * STRIDE)


@narrow_lanes
def wide_at(line, at):
    """Return where a line of light, averaged along the line, lies."""
    return np.uint64(at.wide + (line & (GROUP * at.ring - 1)) * STRIDE)


@narrow_lanes
def out_at(g, at):
    """Return where the output of group `g` lies."""
    return np.uint64(at.out + (g & (OUTS - 1)) * BLOCK)


@narrow_lanes
def box_at(g, at):
    """Return where the box sums about the middle of group `g` lie."""
    return np.uint64(at.boxes + (g & (BOXES - 1)) * STRIDE)


@narrow_lanes
def fill(lines, start, n, value):
    """Set a stretch of the buffer, and up to fifteen numbers after it."""
    start, sixteen = np.uint64(start), spread(value)
    for x in range(_0, np.uint64(max(n, 0)), _STEP):
        store(lines, start + x, sixteen)


@narrow_lanes
def average_along(lines, at, g, start, n):
    """Fill `wide` of group `g`: the taps along its four lines of light.

    A load across two lines of the cache counts twice, and a register is moved by one unit alone:
    three neighbours moved and three loaded are the quickest.
    """
    w1, w2, w3 = lines[at.taps + 1], lines[at.taps + 2], lines[at.taps + 3]
    for j in range(GROUP):
        light = np.uint64(j * STRIDE + start)
        to = wide_at(GROUP * g + j, at) + np.uint64(start)
        before, v = load(lines, light - _STEP), load(lines, light)
        for x in range(_0, np.uint64(n), _STEP):
            here = light + x
            after = load(lines, here + _STEP)
            out = v + w1 * (one_before(before, v) + one_after(v, after))
            out += w2 * (two_before(before, v) + load(lines, here + _2))
            out += w3 * (load(lines, here - _3) + load(lines, here + _3))
            for k in range(np.uint64(SPARE + 1), np.uint64(at.n_taps + 1)):
                w = lines[np.uint64(at.taps) + k]
                out += w * (load(lines, here - k) + load(lines, here + k))
            store(lines, to + x, out)
            before, v = v, after


@narrow_lanes
def sum_fours(lines, at, start, n):
    """Fill `scratch`: sums of four columns of `clips`, from `box` before `start` on."""
    first, end = start - at.box, np.uint64(start + n + at.box)
    clips, fours = np.uint64(at.clips), np.uint64(at.scratch)
    for x in range(np.uint64(first // STEP * STEP), end, _STEP):
        here = clips + x
        v = load(lines, here) + load(lines, here + _1)
        store(lines, fours + x, v + (load(lines, here + _2) + load(lines, here + _3)))


@narrow_lanes
def sum_box(lines, at, g, start, n):
    """Fill `sums` of group `g` and, as its last, the box about group `g` - `groups` // 2.

    Sums of four columns stand side by side; of 2 box + 1 columns either one is left over or the
    last four take one twice.
    """
    length, half = 2 * at.box + 1, at.groups // 2
    twice = length % 4 == 3
    first = np.uint64(at.scratch + start - at.box)
    last = first + np.uint64(length - (4 if twice else 5))
    single = np.uint64(at.clips + start - at.box + length - (4 if twice else 1))
    scale, odd = at.box_scale, np.float32(-at.box_scale if twice else at.box_scale)
    to, box = sums_at(g, at) + np.uint64(start), box_at(g - half, at) + np.uint64(start)
    between = np.float32(1.0 if at.box > 4 else 0.0)
    one, two = sums_at(g - 1, at) + np.uint64(start), sums_at(g - 2, at) + np.uint64(start)
    for x in range(_0, np.uint64(n), _STEP):
        here = first + x
        v = load(lines, here) + between * load(lines, here + _4) + load(lines, last + x)
        for window in range(here + _8, last + x, _4):
            v += load(lines, window)
        v = scale * v + odd * load(lines, single + x)
        store(lines, to + x, v)
        v += load(lines, one + x) + load(lines, two + x)
        for k in range(3, at.groups):
            v += load(lines, sums_at(g - k, at) + np.uint64(start) + x)
        store(lines, box + x, v)


@narrow_lanes
def average_down(lines, at, g, start, n):
    """Fill the output of group `g`: the taps down `wide`, less the interpolated box sums.

    Return bits: which sixteens hold an output above its floor, in the last line of the group before
    or the first three of this one, whose neighbours are all known by now.
    """
    first, top = np.uint64(start), GROUP * g
    a, b, c = wide_at(top - GROUP, at) + first, wide_at(top, at) + first, wide_at(top + GROUP, at)
    c += first
    above_it, here, below = box_at(g - 1, at), box_at(g, at), box_at(g + 1, at)
    above_it, here, below = above_it + first, here + first, below + first
    out, before = out_at(g, at) + first, out_at(g - 1, at) + first + _S3
    floors, hits, bit = np.uint64(at.floors) + first, 0, 1
    w1, w2, w3 = lines[at.taps + 1], lines[at.taps + 2], lines[at.taps + 3]
    for x in range(_0, np.uint64(n), _STEP):
        a1, a2, a3 = load(lines, a + _S1 + x), load(lines, a + _S2 + x), load(lines, a + _S3 + x)
        b0, b1 = load(lines, b + x), load(lines, b + _S1 + x)
        b2, b3 = load(lines, b + _S2 + x), load(lines, b + _S3 + x)
        c0, c1, c2 = load(lines, c + x), load(lines, c + _S1 + x), load(lines, c + _S2 + x)
        box = load(lines, here + x)
        up, down = load(lines, above_it + x) - box, load(lines, below + x) - box
        o0 = (b0 + w1 * (a3 + b1) + w2 * (a2 + b2) + w3 * (a1 + b3)) - (box + _FAR * up)
        o1 = (b1 + w1 * (b0 + b2) + w2 * (a3 + b3) + w3 * (a2 + c0)) - (box + _NEAR * up)
        o2 = (b2 + w1 * (b1 + b3) + w2 * (b0 + c0) + w3 * (a3 + c1)) - (box + _NEAR * down)
        o3 = (b3 + w1 * (b2 + c0) + w2 * (b1 + c1) + w3 * (b0 + c2)) - (box + _FAR * down)
        for k in range(SPARE + 1, at.n_taps + 1):
            w, over, under = lines[at.taps + k], top - k, top + k
            o0 += w * (wide(lines, at, over, first + x) + wide(lines, at, under, first + x))
            o1 += w * (wide(lines, at, over + 1, first + x) + wide(lines, at, under + 1, first + x))
            o2 += w * (wide(lines, at, over + 2, first + x) + wide(lines, at, under + 2, first + x))
            o3 += w * (wide(lines, at, over + 3, first + x) + wide(lines, at, under + 3, first + x))
        store(lines, out + x, o0)
        store(lines, out + _S1 + x, o1)
        store(lines, out + _S2 + x, o2)
        store(lines, out + _S3 + x, o3)
        greatest = most(most(load(lines, before + x), o0), most(o1, o2))
        hits |= bit if above(greatest, load(lines, floors + x)) else 0
        bit <<= 1
    return hits


@narrow_lanes
def wide(lines, at, line, x):
    """Return sixteen columns of a line of `wide`."""
    return load(lines, wide_at(line, at) + x)
