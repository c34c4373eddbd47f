# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""The detector's matched filter, four lines of a strip of the frame at a time.

A strip is up to `INNER` columns of the frame; its lines of work stay in the first cache. They lie
in one flat float32 buffer, every line `STRIDE` long, with column 0 of the strip at `MARGIN`. Lines
come in groups of four: what four lines share is loaded once, and the background, which is smooth,
is needed at every fourth line only. Loops run over offsets into that one buffer with unsigned
indices and a fixed stride: the compiler then sees that loads and stores do not overlap and runs
them in lanes.

    light  ring of blocks of 5 lines: four of electrons, then their clipped sum down the columns
    box    ring of 4 lines: clipped light summed over `box_groups` groups and 2 box + 1 columns
    out    ring of blocks of 5 lines: four of the filter's output, then the greatest of them

The output is G * light - B: G the taps down and along, B the box sums of the groups, interpolated
linearly between the middles of groups, so that no gradient is left.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from livespt.jit import narrow_lanes

GROUP = 4  # lines
TILE = 32  # pixels, of the background (`level_kernels`)
INNER = 512  # columns of a strip
MARGIN = 64  # columns on either side of it
STRIDE = INNER + 2 * MARGIN + 16  # odd in cache lines, for lines to spread over the cache
BLOCK = 5 * STRIDE
LANES = 32  # loops are as long as a multiple of this, so that nothing is left over
SPARE = 3  # zeros after the last tap: the first three pairs are taken at once
BOXES, OUTS = 4, 3  # lines and blocks in their rings

_S1, _S2, _S3, _S4 = (np.uint64(k * STRIDE) for k in range(1, 5))
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
    box_scale: np.float32  # the filter's background is this times the box sum
    ring: int  # blocks of light
    n_taps: int
    boxes: int  # ring of `BOXES` lines
    out: int  # ring of `OUTS` blocks
    tall: int  # four lines averaged down the column
    limit: int  # line: where light is clipped
    sums: int  # two lines of scratch for box sums
    taps: int  # half of a Gaussian of peak 1, then `SPARE` zeros
    edges: int  # two lines: background above and below the frame
    edge_stride: int
    raw: int  # (n_y, n_x) background, tile by tile
    levels: int  # the same, smoothed
    bright: int  # the same: where light is clipped
    crude: int  # the same: less than the threshold of any pixel
    floors: int  # least of `crude` for each `LANES` columns of a strip
    size: int


def layout_of(shape: tuple[int, int], box: int, groups: int, n_taps: int, scale: float) -> Layout:
    """Lay out the buffer for a frame shape and a filter."""
    n_y, n_x = max(1, shape[0] // TILE), max(1, shape[1] // TILE)
    half, ahead = groups // 2, -(-n_taps // GROUP)
    ring = max(half + 1 + ahead, groups - 1) + 1
    edge_stride = shape[1] + 2 * MARGIN + STRIDE
    lengths = {
        "boxes": ring * BLOCK,  # after the light
        "out": BOXES * STRIDE,
        "tall": OUTS * BLOCK,
        "limit": GROUP * STRIDE,
        "sums": STRIDE,
        "taps": 2 * STRIDE,
        "edges": n_taps + 1 + SPARE,
        "raw": 2 * edge_stride,
        "levels": n_y * n_x,
        "bright": n_y * n_x,
        "crude": n_y * n_x,
        "floors": n_y * n_x,
        "size": INNER // LANES,
    }
    starts = dict(zip(lengths, (int(n) for n in np.cumsum(list(lengths.values()))), strict=True))
    return Layout(
        height=shape[0],
        width=shape[1],
        n_y=n_y,
        n_x=n_x,
        box=box,
        groups=groups,
        box_scale=np.float32(scale),
        ring=ring,
        n_taps=n_taps,
        edge_stride=edge_stride,
        **starts,
    )


@narrow_lanes
def light_at(g, at):
    """Return where the light of group `g` lies."""
    return np.uint64((g + 4 * at.ring) % at.ring * BLOCK)


@narrow_lanes
def out_at(g, at):
    """Return where the output of group `g` lies."""
    return np.uint64(at.out + (g + OUTS) % OUTS * BLOCK)


@narrow_lanes
def box_at(g, at):
    """Return where the box sums about the middle of group `g` lie."""
    return np.uint64(at.boxes + (g + BOXES) % BOXES * STRIDE)


@narrow_lanes
def load_flat(counts, start, step, n, scale, offset, lines, to, limit):
    """Load four lines, `step` apart, of a camera without maps, and their clipped sum."""
    a, b = np.uint64(start), np.uint64(start + step)
    c, d = np.uint64(start + 2 * step), np.uint64(start + 3 * step)
    for x in range(np.uint64(n)):
        bound = lines[limit + x]
        one = np.float32(counts[a + x]) * scale - offset
        two = np.float32(counts[b + x]) * scale - offset
        three = np.float32(counts[c + x]) * scale - offset
        four = np.float32(counts[d + x]) * scale - offset
        lines[to + x] = one
        lines[to + _S1 + x] = two
        lines[to + _S2 + x] = three
        lines[to + _S3 + x] = four
        upper = (one if one < bound else bound) + (two if two < bound else bound)
        lower = (three if three < bound else bound) + (four if four < bound else bound)
        lines[to + _S4 + x] = upper + lower


@narrow_lanes
def load_line(counts, maps, start, n, lines, to):
    """Load one line of a camera with maps: all scales, then all offsets."""
    first, other = np.uint64(start), np.uint64(start + counts.size)
    for x in range(np.uint64(n)):
        lines[to + x] = np.float32(counts[first + x]) * maps[first + x] - maps[other + x]


@narrow_lanes
def sum_clipped(n, lines, to, limit):
    """Sum four loaded lines, each clipped."""
    for x in range(np.uint64(n)):
        bound = lines[limit + x]
        one, two = lines[to + x], lines[to + _S1 + x]
        three, four = lines[to + _S2 + x], lines[to + _S3 + x]
        upper = (one if one < bound else bound) + (two if two < bound else bound)
        lower = (three if three < bound else bound) + (four if four < bound else bound)
        lines[to + _S4 + x] = upper + lower


@narrow_lanes
def fill(lines, start, n, value):
    """Set a stretch of the buffer."""
    start = np.uint64(start)
    for x in range(np.uint64(n)):
        lines[start + x] = value


@narrow_lanes
def average_down(lines, at, g, start, n):
    """Fill `tall`: the taps down the columns of the four lines of group `g`."""
    tall = np.uint64(at.tall + start)
    first = np.uint64(start)
    a, b, c = light_at(g - 1, at) + first, light_at(g, at) + first, light_at(g + 1, at) + first
    w1, w2, w3 = lines[at.taps + 1], lines[at.taps + 2], lines[at.taps + 3]
    for x in range(np.uint64(n)):
        a1, a2, a3 = lines[a + _S1 + x], lines[a + _S2 + x], lines[a + _S3 + x]
        b0, b1 = lines[b + x], lines[b + _S1 + x]
        b2, b3 = lines[b + _S2 + x], lines[b + _S3 + x]
        c0, c1, c2 = lines[c + x], lines[c + _S1 + x], lines[c + _S2 + x]
        lines[tall + x] = b0 + w1 * (a3 + b1) + w2 * (a2 + b2) + w3 * (a1 + b3)
        lines[tall + _S1 + x] = b1 + w1 * (b0 + b2) + w2 * (a3 + b3) + w3 * (a2 + c0)
        lines[tall + _S2 + x] = b2 + w1 * (b1 + b3) + w2 * (b0 + c0) + w3 * (a3 + c1)
        lines[tall + _S3 + x] = b3 + w1 * (b2 + c0) + w2 * (b1 + c1) + w3 * (b0 + c2)
    for k in range(4, at.n_taps + 1):
        w = lines[at.taps + k]
        for j in range(GROUP):
            up, low = GROUP * g + j - k, GROUP * g + j + k
            above = light_at(up // GROUP, at) + np.uint64(up % GROUP * STRIDE + start)
            below = light_at(low // GROUP, at) + np.uint64(low % GROUP * STRIDE + start)
            to = tall + np.uint64(j * STRIDE)
            for x in range(np.uint64(n)):
                lines[to + x] += w * (lines[above + x] + lines[below + x])


@narrow_lanes
def box_line(lines, at, g, start, n):
    """Fill the box line of group `g`: sums of four, put side by side, and one element set right.

    Of 2 box + 1 elements, either one is left over or the last window covers one twice.
    """
    box, scale, half = at.box, at.box_scale, at.groups // 2
    sums, fours, first = np.uint64(at.sums), np.uint64(at.sums + STRIDE), np.uint64(4 * STRIDE)
    a, b, c = (
        light_at(g - 1, at) + first,
        light_at(g, at) + first,
        light_at(g + 1, at) + first,
    )
    begin = np.uint64(start - box)
    wide = np.uint64((n + 2 * box + LANES - 1) // LANES * LANES)
    for x in range(begin, begin + wide):
        lines[sums + x] = lines[a + x] + lines[b + x] + lines[c + x]
    for k in range(2, half + 1):
        a, b = light_at(g - k, at) + first, light_at(g + k, at) + first
        for x in range(begin, begin + wide):
            lines[sums + x] += lines[a + x] + lines[b + x]
    one, two, three = np.uint64(1), np.uint64(2), np.uint64(3)
    for x in range(begin, begin + wide):
        lines[fours + x] = (lines[sums + x] + lines[sums + x + one]) + (
            lines[sums + x + two] + lines[sums + x + three]
        )
    length = 2 * box + 1
    twice = length % 4 == 3
    end = length - (4 if twice else 5)  # where the last window starts
    odd = np.float32(-scale if twice else scale)
    between = scale if end > 4 else np.float32(0.0)
    single = np.uint64(at.sums + start - box + length - (4 if twice else 1))
    base = at.sums + STRIDE + start - box
    left, middle, last = np.uint64(base), np.uint64(base + 4), np.uint64(base + end)
    to = box_at(g, at) + np.uint64(start)
    for x in range(np.uint64(n)):
        lines[to + x] = (
            scale * (lines[left + x] + lines[last + x])
            + between * lines[middle + x]
            + odd * lines[single + x]
        )
    for k in range(8, end, 4):
        window = np.uint64(base + k)
        for x in range(np.uint64(n)):
            lines[to + x] += scale * lines[window + x]


@narrow_lanes
def average_pair(lines, tall, out, here, side, n, shares, taps):
    """Fill two lines of output: the taps along `tall`, less the interpolated box sums."""
    (w1, w2, w3), (first, second) = taps, shares
    b1, b2, b3 = tall - np.uint64(1), tall - np.uint64(2), tall - np.uint64(3)
    a1, a2, a3 = tall + np.uint64(1), tall + np.uint64(2), tall + np.uint64(3)
    for x in range(np.uint64(n)):
        box = lines[here + x]
        slope = lines[side + x] - box
        lines[out + x] = (
            lines[tall + x]
            + w1 * (lines[b1 + x] + lines[a1 + x])
            + w2 * (lines[b2 + x] + lines[a2 + x])
            + w3 * (lines[b3 + x] + lines[a3 + x])
        ) - (box + first * slope)
        lines[out + _S1 + x] = (
            lines[tall + _S1 + x]
            + w1 * (lines[b1 + _S1 + x] + lines[a1 + _S1 + x])
            + w2 * (lines[b2 + _S1 + x] + lines[a2 + _S1 + x])
            + w3 * (lines[b3 + _S1 + x] + lines[a3 + _S1 + x])
        ) - (box + second * slope)


@narrow_lanes
def average_along(lines, at, g, start, n):
    """Fill the output of group `g`: the taps along `tall`, less the box, and the greatest line."""
    first = np.uint64(start)
    tall, out = np.uint64(at.tall) + first, out_at(g, at) + first
    above, here, below = box_at(g - 1, at), box_at(g, at), box_at(g + 1, at)
    above, here, below = above + first, here + first, below + first
    taps = (lines[at.taps + 1], lines[at.taps + 2], lines[at.taps + 3])
    average_pair(lines, tall, out, here, above, n, (_FAR, _NEAR), taps)
    average_pair(lines, tall + _S2, out + _S2, here, below, n, (_NEAR, _FAR), taps)
    for k in range(4, at.n_taps + 1):
        w, step = lines[at.taps + k], np.uint64(k)
        for j in range(GROUP):
            before, to = tall + np.uint64(j * STRIDE) - step, out + np.uint64(j * STRIDE)
            after = before + step + step
            for x in range(np.uint64(n)):
                lines[to + x] += w * (lines[before + x] + lines[after + x])
    for x in range(np.uint64(n)):
        one, two = lines[out + x], lines[out + _S1 + x]
        three, four = lines[out + _S2 + x], lines[out + _S3 + x]
        upper, lower = (one if one > two else two), (three if three > four else four)
        lines[out + _S4 + x] = upper if upper > lower else lower
