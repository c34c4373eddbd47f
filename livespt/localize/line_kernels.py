# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""The detector's matched filter, one line of the frame at a time.

A few lines of the frame stay in one flat float32 buffer that the first cache holds: a ring of the
last `ring` lines of light, the same of clipped light, and named lines after them (`Layout`). Each
is `wide` long, the frame's width and a border of zeros. Loops run over offsets into that one
buffer with unsigned indices: the compiler then proves that they do not wrap, and runs them in
lanes; slices would cost a reference count each.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from livespt.jit import kernel

N_NAMED = 10  # lines after the two rings
SPARE = 2  # zeros after the last tap: the first three pairs are taken at once


class Layout(NamedTuple):
    """Where things lie in the buffer, in elements."""

    ring: int  # lines in a ring, 2 box + 2
    wide: int  # a line, border included
    pad: int  # border
    sums: int  # clipped light summed over 2 box + 1 lines
    tall: int  # light averaged down the column
    fours: int  # sums of four neighbours of `sums`
    upper: int  # background level along the line of tiles above
    lower: int  # the same for the tiles below
    limit: int  # where light is clipped
    out: int  # four lines of the filter's output, line y at y mod 4


@kernel
def layout_of(width, box, pad):
    """Lay out the buffer for frames `width` wide."""
    wide = width + 2 * pad
    ring = 2 * box + 2
    first = 2 * ring * wide
    return Layout(
        ring,
        wide,
        pad,
        first,
        first + wide,
        first + 2 * wide,
        first + 3 * wide,
        first + 4 * wide,
        first + 5 * wide,
        first + 6 * wide,
    )


@kernel
def clear(lines, start, n):
    """Set a stretch of the buffer to zero."""
    start = np.uint64(start)
    for x in range(np.uint64(n)):
        lines[start + x] = np.float32(0.0)


@kernel
def push_line(lines, at, y, light, share):
    """Put line `y` in the rings, less the level and clipped, and bring `sums` up to date.

    The level is `share` of the way from `upper` to `lower`. Two short loops: with more arrays in
    one, the compiler gives up on telling them apart.
    """
    pad = at.pad
    new = np.uint64((y % at.ring) * at.wide + pad)
    low = np.uint64((at.ring + y % at.ring) * at.wide + pad)
    old = np.uint64((at.ring + (y + 1) % at.ring) * at.wide + pad)  # leaves the box
    sums, limit = np.uint64(at.sums + pad), np.uint64(at.limit + pad)
    upper, lower = np.uint64(at.upper + pad), np.uint64(at.lower + pad)
    for x in range(np.uint64(light.size)):
        level = lines[upper + x]
        lines[new + x] = light[x] - (level + share * (lines[lower + x] - level))
    for x in range(np.uint64(light.size)):
        value, bound = lines[new + x], lines[limit + x]
        clipped = value if value < bound else bound
        lines[sums + x] += clipped - lines[old + x]
        lines[low + x] = clipped


@kernel
def push_nothing(lines, at, y):
    """Put a line of zeros below the frame in the rings."""
    clear(lines, (y % at.ring) * at.wide, at.wide)
    clear(lines, (at.ring + y % at.ring) * at.wide, at.wide)
    old = np.uint64((at.ring + (y + 1) % at.ring) * at.wide)
    sums = np.uint64(at.sums)
    for x in range(np.uint64(at.wide)):
        lines[sums + x] -= lines[old + x]


@kernel
def ring_line(y, at):
    """Return where line `y` of light lies."""
    return np.uint64(((y + at.ring) % at.ring) * at.wide)


@kernel
def average_down(lines, at, y, taps):
    """Fill `tall`: the Gaussian down the column about line `y`, three pairs of lines at a time."""
    tall, middle = np.uint64(at.tall), ring_line(y, at)
    a1, b1 = ring_line(y - 1, at), ring_line(y + 1, at)
    a2, b2 = ring_line(y - 2, at), ring_line(y + 2, at)
    a3, b3 = ring_line(y - 3, at), ring_line(y + 3, at)
    w0, w1, w2, w3 = taps[0], taps[1], taps[2], taps[3]
    for x in range(np.uint64(at.wide)):
        lines[tall + x] = (
            w0 * lines[middle + x]
            + w1 * (lines[a1 + x] + lines[b1 + x])
            + w2 * (lines[a2 + x] + lines[b2 + x])
            + w3 * (lines[a3 + x] + lines[b3 + x])
        )
    for k in range(4, taps.size - SPARE):
        above, below, w = ring_line(y - k, at), ring_line(y + k, at), taps[k]
        for x in range(np.uint64(at.wide)):
            lines[tall + x] += w * (lines[above + x] + lines[below + x])


@kernel
def average_along(lines, at, out, width, taps):
    """Add the Gaussian along the line to `out`, first the middle and three pairs of neighbours.

    The first group stands outside the loop over pairs: inside, the compiler's test for overlap
    covers all pairs at once and fails.
    """
    start = at.tall + at.pad
    middle = np.uint64(start)
    a1, b1 = np.uint64(start - 1), np.uint64(start + 1)
    a2, b2 = np.uint64(start - 2), np.uint64(start + 2)
    a3, b3 = np.uint64(start - 3), np.uint64(start + 3)
    w0, w1, w2, w3 = taps[0], taps[1], taps[2], taps[3]
    for x in range(np.uint64(width)):
        lines[out + x] += (
            w0 * lines[middle + x]
            + w1 * (lines[a1 + x] + lines[b1 + x])
            + w2 * (lines[a2 + x] + lines[b2 + x])
            + w3 * (lines[a3 + x] + lines[b3 + x])
        )
    for k in range(4, taps.size - SPARE):
        before, after, w = np.uint64(start - k), np.uint64(start + k), taps[k]
        for x in range(np.uint64(width)):
            lines[out + x] += w * (lines[before + x] + lines[after + x])


@kernel
def box_along(lines, at, out, width, box):
    """Set `out` to minus the box mean: sums of four, put side by side, and one element set right.

    Of 2 box + 1 elements, either one is left over or the last window covers one twice.
    """
    one, two, three = np.uint64(1), np.uint64(2), np.uint64(3)
    sums, fours = np.uint64(at.sums), np.uint64(at.fours)
    for x in range(np.uint64(at.wide - 3)):
        lines[fours + x] = (lines[sums + x] + lines[sums + x + one]) + (
            lines[sums + x + two] + lines[sums + x + three]
        )
    length = 2 * box + 1
    twice = length % 4 == 3
    end = length - (4 if twice else 5)  # where the last window starts
    scale = np.float32(-1.0 / length**2)
    odd = np.float32(-scale if twice else scale)
    between = scale if end > 4 else np.float32(0.0)
    single = np.uint64(at.sums + at.pad - box + length - (4 if twice else 1))
    start = at.fours + at.pad - box
    first, second, last = np.uint64(start), np.uint64(start + 4), np.uint64(start + end)
    for x in range(np.uint64(width)):
        lines[out + x] = (
            scale * (lines[first + x] + lines[last + x])
            + between * lines[second + x]
            + odd * lines[single + x]
        )
    for k in range(8, end, 4):
        window = np.uint64(start + k)
        for x in range(np.uint64(width)):
            lines[out + x] += scale * lines[window + x]


@kernel
def filter_line(lines, at, y, width, box, taps):
    """Fill the output line of `y`; the rings hold the lines from y - box to y + box."""
    out = np.uint64(at.out + (y % 4) * at.wide + at.pad)
    average_down(lines, at, y, taps)
    box_along(lines, at, out, width, box)
    average_along(lines, at, out, width, taps)
