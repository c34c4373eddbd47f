# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""From counts to electrons, four lines of a strip at a time, and their clipped sum.

A camera's maps are what takes longest: a frame of them is larger than the second cache, and the
third gives some 20 bytes a nanosecond. So both numbers of a pixel, electrons per count and
electrons of no light, stand in 16 bits each of one word (`livespt.localize.packing`), and lie in
the order in which strips load them. Maps that 16 bits cannot tell apart well enough
(`livespt.localize.packing`) are taken as they are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from livespt.jit import narrow_lanes
from livespt.localize.line_kernels import GROUP, STEP, STRIDE
from livespt.vector_pixels import fetch, least, load, load_counts, load_low, load_words, store

_S1, _S2, _S3 = (np.uint64(k * STRIDE) for k in range(1, 4))
_0, _2, _3, _4, _8, _STEP = (np.uint64(k) for k in (0, 2, 3, 4, 8, STEP))
_F, _LOW, _BIT, _ONE = np.float32, np.int32(0xFFFF), np.float32(2.0**-23), np.float32(1.0)


class Source(NamedTuple):
    """A frame and what turns its counts into electrons (arrays as `livespt.vectors.address`)."""

    counts: np.ndarray  # flat uint16
    maps: np.ndarray  # flat float32: scales, then offsets; or one of each
    packed: np.ndarray  # flat int32
    width: int  # of the frame
    size: np.uint64  # pixels of the frame
    mapped: bool
    is_packed: bool
    scale: np.float32  # of the packed ones, see `packing`
    scale_step: np.float32
    offset: np.float32
    offset_step: np.float32


@narrow_lanes
def plain(source, pixel):
    """Return sixteen pixels in electrons, by one scale and offset or by maps as they are."""
    counts, maps = load_counts(source.counts, pixel), source.maps
    if source.mapped:
        return counts * load(maps, pixel) - load(maps, pixel + source.size)
    return counts * source.scale - source.offset


@narrow_lanes
def sixteen(source, pixel, word):
    """Return sixteen pixels in electrons, by packed maps where there are; `word` begins theirs."""
    if not source.is_packed:
        return plain(source, pixel)
    scale = load_low(source.packed, word) * source.scale_step + source.scale
    offset = load_words(source.packed, word) * source.offset_step + source.offset
    return load_counts(source.counts, pixel) * scale - offset


@narrow_lanes
def one_plain(source, pixel):
    """Return one pixel in electrons, by one scale and offset or by maps as they are."""
    count, maps = _F(source.counts[pixel]), source.maps
    if source.mapped:
        return count * maps[pixel] - maps[pixel + source.size]
    return count * source.scale - source.offset


@narrow_lanes
def one(source, pixel, word):
    """Return one pixel in electrons, by packed maps where there are."""
    if not source.is_packed:
        return one_plain(source, pixel)
    both = source.packed[word]
    scale = (_ONE + _F(both & _LOW) * _BIT) * source.scale_step + source.scale
    offset = _F(both) * source.offset_step + source.offset
    return _F(source.counts[pixel]) * scale - offset


@narrow_lanes
def load_group(source, start, n, word, lines, to, sums, limit):
    """Load `n` columns of four lines from pixel `start` on, and their sum, each clipped.

    The packed maps of the first of the four begin at `word`; they follow on one another there.
    What is loaded next is asked for: the processor does not guess that four lines follow on four.
    """
    line, words = np.uint64(source.width), np.uint64(n)
    whole = np.uint64(n // STEP * STEP)
    for x in range(_0, whole, _STEP):
        p, q = np.uint64(start) + x, np.uint64(word) + x
        a = sixteen(source, p, q)
        b = sixteen(source, p + line, q + words)
        c = sixteen(source, p + _2 * line, q + _2 * words)
        d = sixteen(source, p + _3 * line, q + _3 * words)
        for k in range(_4, _8):
            fetch(source.counts, p + k * line)
            if source.is_packed:
                fetch(source.packed, q + k * words)
        store(lines, to + x, a)
        store(lines, to + _S1 + x, b)
        store(lines, to + _S2 + x, c)
        store(lines, to + _S3 + x, d)
        bound = load(lines, limit + x)
        upper, lower = least(a, bound) + least(b, bound), least(c, bound) + least(d, bound)
        store(lines, sums + x, upper + lower)
    if whole < words:
        load_rest(source, start, n, word, GROUP, whole, lines, to)
        sum_clipped(whole, n, lines, to, sums, limit)


@narrow_lanes
def load_rest(source, start, n, word, n_lines, first, lines, to):
    """Load columns from `first` on, of up to four lines, one by one."""
    for j in range(n_lines):
        line = to + np.uint64(j * STRIDE)
        p, q = np.uint64(start + j * source.width), np.uint64(word + j * n)
        for x in range(first, np.uint64(n)):
            lines[line + x] = one(source, p + x, q + x)


@narrow_lanes
def sum_clipped(first, n, lines, to, sums, limit):
    """Sum four loaded lines, each clipped, one column after the other."""
    for x in range(first, np.uint64(n)):
        bound, total = lines[limit + x], _F(0.0)
        for j in range(GROUP):
            total += min(lines[to + np.uint64(j * STRIDE) + x], bound)
        lines[sums + x] = total
