# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""The detector's matched filter, four lines of a strip of the frame at a time.

A strip is up to `INNER` columns of the frame; its lines of work stay in the first cache. They lie
in one flat float32 buffer, every line `STRIDE` long, with column 0 of the strip at `MARGIN`. Lines
come in groups of four: what four lines share is loaded once, and the background, which is smooth,
is needed at every fourth line only. Loops run over offsets into that one buffer with unsigned
indices and a fixed stride: the compiler then sees that loads and stores do not overlap and runs
them in lanes.

    light  four lines of electrons (`light_kernels`), used up before the next four are loaded
    clips  ring of lines: a group's clipped light, summed down the columns
    wide   ring of blocks of 4 lines: light averaged along the line
    box    ring of lines: clipped light summed over `box_groups` groups and 2 box + 1 columns
    out    ring of blocks of 4 lines: the filter's output

The output is G * light - B: G the taps along and down, B the box sums of the groups, interpolated
linearly between the middles of groups, so that no gradient is left.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from livespt.jit import narrow_lanes

GROUP = 4  # lines
TILE = 32  # pixels, of the background (`level_kernels`)
INNER = 256  # columns of a strip: all of its lines fill the first cache and no more
MARGIN = 64  # columns on either side of it
STRIDE = INNER + 2 * MARGIN + 16  # odd in cache lines, for lines to spread over the cache
BLOCK = GROUP * STRIDE
LANES = 32  # pixels of a line looked at together
STEP = 16  # loops are as long as a multiple of this, so that nothing is left over
SPARE = 3  # zeros after the last tap: the first three pairs are taken at once
BOXES, OUTS = 4, 2  # lines and blocks in their rings

_S1, _S2, _S3 = (np.uint64(k * STRIDE) for k in range(1, 4))
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
    ring: int  # blocks of light averaged along the line
    n_taps: int
    clips: int  # ring of `groups` lines
    wide: int  # ring of `ring` blocks
    boxes: int  # ring of `BOXES` lines
    out: int  # ring of `OUTS` blocks
    greatest: int  # line: the greatest of four lines of output, the first from the group before
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
    ring = half + ahead + 2
    edge_stride = shape[1] + 2 * MARGIN + STRIDE
    lengths = {
        "clips": BLOCK,  # after the light
        "wide": groups * STRIDE,
        "boxes": ring * BLOCK,
        "out": BOXES * STRIDE,
        "greatest": OUTS * BLOCK,
        "limit": STRIDE,
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
        reach=-(-(max(box, n_taps) + 2) // 8) * 8,
        box_scale=np.float32(scale),
        ring=ring,
        n_taps=n_taps,
        edge_stride=edge_stride,
        **starts,
    )


@narrow_lanes
def clips_at(g, at):
    """Return where the clipped sum of group `g` lies."""
    return np.uint64(at.clips + (g + 4 * at.groups) % at.groups * STRIDE)


@narrow_lanes
def wide_at(g, at):
    """Return where the light of group `g`, averaged along the line, lies."""
    return np.uint64(at.wide + (g + 4 * at.ring) % at.ring * BLOCK)


@narrow_lanes
def out_at(g, at):
    """Return where the output of group `g` lies."""
    return np.uint64(at.out + (g + OUTS) % OUTS * BLOCK)


@narrow_lanes
def box_at(g, at):
    """Return where the box sums about the middle of group `g` lie."""
    return np.uint64(at.boxes + (g + BOXES) % BOXES * STRIDE)


@narrow_lanes
def fill(lines, start, n, value):
    """Set a stretch of the buffer."""
    start = np.uint64(start)
    for x in range(np.uint64(n)):
        lines[start + x] = value


@narrow_lanes
def average_along(lines, at, g, start, n):
    """Fill `wide` of group `g`: the taps along its four lines of light."""
    w1, w2, w3 = lines[at.taps + 1], lines[at.taps + 2], lines[at.taps + 3]
    one, two, three = np.uint64(1), np.uint64(2), np.uint64(3)
    for j in range(GROUP):
        light = np.uint64(j * STRIDE + start)
        to = wide_at(g, at) + light
        for x in range(np.uint64(n)):
            here = light + x
            lines[to + x] = (
                lines[here]
                + w1 * (lines[here - one] + lines[here + one])
                + w2 * (lines[here - two] + lines[here + two])
                + w3 * (lines[here - three] + lines[here + three])
            )
        for k in range(4, at.n_taps + 1):
            w, before, after = lines[at.taps + k], light - np.uint64(k), light + np.uint64(k)
            for x in range(np.uint64(n)):
                lines[to + x] += w * (lines[before + x] + lines[after + x])


@narrow_lanes
def box_line(lines, at, g, start, n):
    """Fill the box line of group `g`: sums of four, put side by side, and one element set right.

    Of 2 box + 1 elements, either one is left over or the last window covers one twice.
    """
    box, scale, half = at.box, at.box_scale, at.groups // 2
    sums, fours = np.uint64(at.sums), np.uint64(at.sums + STRIDE)
    a, b, c = clips_at(g - 1, at), clips_at(g, at), clips_at(g + 1, at)
    begin = np.uint64(start - box)
    wide = np.uint64((n + 2 * box + STEP - 1) // STEP * STEP)
    for x in range(begin, begin + wide):
        lines[sums + x] = lines[a + x] + lines[b + x] + lines[c + x]
    for k in range(2, half + 1):
        a, b = clips_at(g - k, at), clips_at(g + k, at)
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
def average_down(lines, at, g, start, n):
    """Fill the output of group `g`: the taps down `wide`, less the interpolated box sums.

    `greatest` is over the last line of the group before and the first three of this one, whose
    neighbours are all known by now.
    """
    first = np.uint64(start)
    a, b, c = wide_at(g - 1, at) + first, wide_at(g, at) + first, wide_at(g + 1, at) + first
    above, here, below = box_at(g - 1, at), box_at(g, at), box_at(g + 1, at)
    above, here, below = above + first, here + first, below + first
    out, before = out_at(g, at) + first, out_at(g - 1, at) + first + _S3
    greatest = np.uint64(at.greatest + start)
    w1, w2, w3 = lines[at.taps + 1], lines[at.taps + 2], lines[at.taps + 3]
    for x in range(np.uint64(n)):
        a1, a2, a3 = lines[a + _S1 + x], lines[a + _S2 + x], lines[a + _S3 + x]
        b0, b1 = lines[b + x], lines[b + _S1 + x]
        b2, b3 = lines[b + _S2 + x], lines[b + _S3 + x]
        c0, c1, c2 = lines[c + x], lines[c + _S1 + x], lines[c + _S2 + x]
        box = lines[here + x]
        up, down = lines[above + x] - box, lines[below + x] - box
        o0 = (b0 + w1 * (a3 + b1) + w2 * (a2 + b2) + w3 * (a1 + b3)) - (box + _FAR * up)
        o1 = (b1 + w1 * (b0 + b2) + w2 * (a3 + b3) + w3 * (a2 + c0)) - (box + _NEAR * up)
        o2 = (b2 + w1 * (b1 + b3) + w2 * (b0 + c0) + w3 * (a3 + c1)) - (box + _NEAR * down)
        o3 = (b3 + w1 * (b2 + c0) + w2 * (b1 + c1) + w3 * (b0 + c2)) - (box + _FAR * down)
        lines[out + x], lines[out + _S1 + x] = o0, o1
        lines[out + _S2 + x], lines[out + _S3 + x] = o2, o3
        last = lines[before + x]
        upper, lower = (last if last > o0 else o0), (o1 if o1 > o2 else o2)
        lines[greatest + x] = upper if upper > lower else lower
    if at.n_taps > SPARE:
        average_further(lines, at, g, start, n)


@narrow_lanes
def average_further(lines, at, g, start, n):
    """Add what more than seven taps reach to the output of group `g`."""
    out = out_at(g, at) + np.uint64(start)
    for k in range(SPARE + 1, at.n_taps + 1):
        w = lines[at.taps + k]
        for j in range(GROUP):
            up, low = GROUP * g + j - k, GROUP * g + j + k
            above = wide_at(up // GROUP, at) + np.uint64(up % GROUP * STRIDE + start)
            below = wide_at(low // GROUP, at) + np.uint64(low % GROUP * STRIDE + start)
            to = out + np.uint64(j * STRIDE)
            for x in range(np.uint64(n)):
                lines[to + x] += w * (lines[above + x] + lines[below + x])
    before, greatest = out_at(g - 1, at) + np.uint64(start) + _S3, np.uint64(at.greatest + start)
    for x in range(np.uint64(n)):
        one, two = lines[before + x], lines[out + x]
        three, four = lines[out + _S1 + x], lines[out + _S2 + x]
        upper, lower = (one if one > two else two), (three if three > four else four)
        lines[greatest + x] = upper if upper > lower else lower
