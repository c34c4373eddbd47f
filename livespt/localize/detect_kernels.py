# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""Noise level, matched filter and local maxima of one frame, in one pass down its lines.

Theory: `livespt.localize.detection`; the filter itself: `line_kernels`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from livespt.jit import kernel
from livespt.localize import line_kernels

TILE = 32
STRIDES = (8, 4, 4, 2)  # lines taken in each round of clipping
BLOCK = 32  # pixels looked at together for a peak
CLIP_SDS, CLIP_E = 4.0, 4.0  # brighter than this is a spot, not background


class Plan(NamedTuple):
    """What is fixed for a camera, a width and a frame shape."""

    per_gain: np.ndarray  # (H, W) or (1, 1) float32, 1/gain
    offset: np.ndarray  # (H, W) or (1, 1) float32
    tile_var: np.ndarray  # (ty, tx) float32, mean read variance of each tile, e2
    var_f: np.ndarray  # (H, W) or (1, 1) float32: read variance behind the filter
    taps: np.ndarray  # (r + 1 + SPARE,) float32, half of a unit-sum Gaussian, then zeros
    log_levels: np.ndarray  # (nb,) ln of the background levels of `limits`
    log_vars: np.ndarray  # (nv,) ln of the filtered read variances of `limits`
    limits: np.ndarray  # (nb, nv) threshold on the filter's output
    excess: float
    box: int  # radius of the background box
    pad: int  # border of the work lines
    response: float  # filter output at the centre of a spot of one photon


class Work(NamedTuple):
    """Work space of one thread."""

    light: np.ndarray  # (H, W) electrons
    levels: np.ndarray  # (ty, tx) background, smoothed
    raw: np.ndarray  # (ty, tx) background, tile by tile
    lines: np.ndarray  # flat, see `line_kernels`
    found: np.ndarray  # (capacity, 5): x, y, photons, background, limit exceeded by


@kernel
def to_electrons(adu, plan, y, out):
    """Fill a line with (count - offset)/gain."""
    source = adu[y]
    if plan.per_gain.size == 1:
        scale, offset = plan.per_gain[0, 0], plan.offset[0, 0]
        for x in range(out.size):
            out[x] = (np.float32(source[x]) - offset) * scale
    else:
        offsets, scales = plan.offset[y], plan.per_gain[y]
        for x in range(out.size):
            out[x] = (np.float32(source[x]) - offsets[x]) * scales[x]


@kernel
def edge(tile, n_tiles, length):
    """Return the first pixel of a tile along one axis."""
    return tile * length // n_tiles


@kernel
def limit_line(levels, tile_var, excess, width, lines, at):
    """Fill `limit` with what is too bright for background, tile by tile."""
    n_x = levels.size
    for tx in range(n_x):
        noise = excess * max(levels[tx], np.float32(0.0)) + tile_var[tx]
        bound = np.float32(CLIP_SDS * math.sqrt(noise) + CLIP_E)
        start = at.limit + at.pad
        for x in range(np.uint64(start + edge(tx, n_x, width)), start + edge(tx + 1, n_x, width)):
            lines[np.uint64(x)] = bound


@kernel
def add_unclipped(light, lines, at):
    """Add what lies below the limit to `sums`, and how many those are to `tall`."""
    total, count = np.uint64(at.sums + at.pad), np.uint64(at.tall + at.pad)
    limit = np.uint64(at.limit + at.pad)
    zero, one = np.float32(0.0), np.float32(1.0)
    for x in range(np.uint64(light.size)):
        value = light[x]
        keep = value < lines[limit + x]
        lines[total + x] += value if keep else zero
        lines[count + x] += one if keep else zero


@kernel
def tile_levels(adu, plan, at, work):
    """Fill the background of each tile: the mean of what is not brighter than background can be.

    Four rounds of clipping on some of the lines; the frame is turned into electrons on the way.
    """
    height, width = adu.shape
    n_y, n_x = work.raw.shape
    lines = work.lines
    for ty in range(n_y):
        y0, y1 = edge(ty, n_y, height), edge(ty + 1, n_y, height)
        for y in range(y0, y1):
            to_electrons(adu, plan, y, work.light[y])
        levels = work.raw[ty]
        for x in range(at.wide):
            lines[at.limit + x] = np.float32(3e38)
        for stride in STRIDES:
            line_kernels.clear(lines, at.sums, at.wide)
            line_kernels.clear(lines, at.tall, at.wide)
            for y in range(y0, y1, stride):
                add_unclipped(work.light[y], lines, at)
            for tx in range(n_x):
                total, n = 0.0, 0.0
                for x in range(at.pad + edge(tx, n_x, width), at.pad + edge(tx + 1, n_x, width)):
                    total += lines[at.sums + x]
                    n += lines[at.tall + x]
                levels[tx] = total / max(n, 1.0)
            limit_line(levels, plan.tile_var[ty], plan.excess, width, lines, at)
            for tx in range(n_x):  # the limit above stands on the level
                for x in range(at.pad + edge(tx, n_x, width), at.pad + edge(tx + 1, n_x, width)):
                    lines[at.limit + x] += levels[tx]


@kernel
def smooth_levels(levels, out):
    """Average each tile with its neighbours (weights 1, 2, 1): a level of thousands of pixels."""
    n_y, n_x = levels.shape
    for y in range(n_y):
        for x in range(n_x):
            total, weight = 0.0, 0.0
            for dy in range(-1, 2):
                for dx in range(-1, 2):
                    if 0 <= y + dy < n_y and 0 <= x + dx < n_x:
                        w = (2.0 - abs(dy)) * (2.0 - abs(dx))
                        total += w * levels[y + dy, x + dx]
                        weight += w
            out[y, x] = total / weight


@kernel
def level_at(levels, y, x, height, width):
    """Interpolate the tiles' levels between their centres."""
    n_y, n_x = levels.shape
    v = min(max((y + 0.5) * n_y / height - 0.5, 0.0), n_y - 1.0)
    u = min(max((x + 0.5) * n_x / width - 0.5, 0.0), n_x - 1.0)
    j, i = min(int(v), max(n_y - 2, 0)), min(int(u), max(n_x - 2, 0))
    jj, ii = min(j + 1, n_y - 1), min(i + 1, n_x - 1)
    a, b = v - j, u - i
    top = levels[j, i] * (1.0 - b) + levels[j, ii] * b
    return top * (1.0 - a) + (levels[jj, i] * (1.0 - b) + levels[jj, ii] * b) * a


@kernel
def level_line(levels, width, start, out):
    """Fill levels along a line of tiles from `out[start]` on: ramps between their centres."""
    n_x = levels.size
    step = width / n_x
    first, left = 0, levels[0]
    for i in range(n_x + 1):  # ramp i ends at the centre of tile i; the last runs to the edge
        right = levels[min(i, n_x - 1)]
        end = min(math.ceil((i + 0.5) * step - 0.5), width) if i < n_x else width
        slope = (right - left) / step
        base = np.float32(left + slope * (first - (i - 0.5) * step + 0.5))
        gain = np.float32(slope)
        at = np.uint64(start + first)
        for x in range(np.uint64(max(end - first, 0))):
            out[at + x] = base + gain * np.float32(x)
        first, left = end, right


@kernel
def place_of(y, n_y, height):
    """Return the line of tiles above pixel line `y`, and how far `y` is on the way to the next."""
    v = min(max((y + 0.5) * n_y / height - 0.5, 0.0), n_y - 1.0)
    j = min(int(v), max(n_y - 2, 0))
    return j, np.float32(v - j)


@kernel
def limit_of(plan, level, var_f):
    """Interpolate the threshold for a background level and a filtered read variance."""
    log_level = math.log(max(level, 1e-3))
    at = (log_level - plan.log_levels[0]) / (plan.log_levels[1] - plan.log_levels[0])
    at = min(max(at, 0.0), plan.log_levels.size - 1.001)
    i = int(at)
    u = at - i
    low = plan.limits[i, 0] * (1.0 - u) + plan.limits[i + 1, 0] * u
    if plan.log_vars.size == 1:
        return low
    log_var = math.log(max(var_f, 1e-12))
    at = (log_var - plan.log_vars[0]) / (plan.log_vars[1] - plan.log_vars[0])
    at = min(max(at, 0.0), plan.log_vars.size - 1.001)
    j = int(at)
    v = at - j
    low = plan.limits[i, j] * (1.0 - u) + plan.limits[i + 1, j] * u
    high = plan.limits[i, j + 1] * (1.0 - u) + plan.limits[i + 1, j + 1] * u
    return low * (1.0 - v) + high * v


@kernel
def is_peak(lines, above, here, below):
    """Say whether an element tops its eight neighbours (ties go to the first in reading order)."""
    value = lines[here]
    for d in range(-1, 2):
        if lines[above + d] >= value or lines[below + d] > value:
            return False
    return lines[here - 1] < value and lines[here + 1] <= value


@kernel
def vertex(before, at, after):
    """Return where a parabola through three samples has its top, from -0.5 to 0.5."""
    curve = 2.0 * at - before - after
    return min(max(0.5 * (after - before) / curve, -0.5), 0.5) if curve > 0.0 else 0.0


@kernel
def crude_limit(plan, levels):
    """Return a threshold below that of any pixel of the frame."""
    least = 1e30
    for y in range(levels.shape[0]):
        for x in range(levels.shape[1]):
            least = min(least, levels[y, x])
    least = max(0.9 * least, 0.0)
    return np.float32(0.99 * limit_of(plan, least, math.exp(plan.log_vars[0])))


@kernel
def count_above(lines, start, n, bound):
    """Return how many of a stretch of the buffer exceed `bound`."""
    count = np.uint32(0)
    start = np.uint64(start)
    for x in range(np.uint64(n)):
        count += np.uint32(lines[start + x] > bound)
    return count


@kernel
def peaks_of_line(plan, work, at, y, crude, n):
    """Append the peaks of line `y` above threshold to `work.found`; return how many there are."""
    lines = work.lines
    height, width = work.light.shape
    above = at.out + (y + 3) % 4 * at.wide + at.pad
    here = at.out + y % 4 * at.wide + at.pad
    below = at.out + (y + 1) % 4 * at.wide + at.pad
    for start in range(0, width, BLOCK):
        size = min(BLOCK, width - start)
        if count_above(lines, here + start, size, crude) == 0:
            continue
        for x in range(start, start + size):
            value = lines[here + x]
            if value <= crude or not is_peak(lines, above + x, here + x, below + x):
                continue
            level = level_at(work.levels, y, x, height, width)
            var_f = plan.var_f[y, x] if plan.var_f.size > 1 else np.float32(0.0)
            limit = limit_of(plan, level, var_f)
            if value > limit and n < work.found.shape[0]:
                spot = work.found[n]
                spot[0] = x + vertex(lines[here + x - 1], value, lines[here + x + 1])
                spot[1] = y + vertex(lines[above + x], value, lines[below + x])
                spot[2] = value / plan.response
                spot[3] = max(level, 0.02)
                spot[4] = value / limit
                n += 1
    return n


@kernel
def push_next(y, plan, work, at, tiles):
    """Put line `y` of the frame into the rings; return the lines of tiles prepared by now.

    `tiles` are those of the call before: levels and limits along a line of tiles serve many lines.
    """
    height, width = work.light.shape
    lines, n_y = work.lines, work.levels.shape[0]
    last_level, last_limit = tiles
    j, share = place_of(y, n_y, height)
    if j != last_level:
        level_line(work.levels[j], width, at.upper + at.pad, lines)
        level_line(work.levels[min(j + 1, n_y - 1)], width, at.lower + at.pad, lines)
    ty = min(y * n_y // height, n_y - 1)
    if ty != last_limit:
        limit_line(work.levels[ty], plan.tile_var[ty], plan.excess, width, lines, at)
    line_kernels.push_line(lines, at, y, work.light[y], share)
    return j, ty


@kernel
def detect_frame(adu, plan, work):
    """Find the spots of one frame; return how many rows of `work.found` hold one."""
    height, width = adu.shape
    lines, box = work.lines, plan.box
    at = line_kernels.layout_of(width, box, plan.pad)
    tile_levels(adu, plan, at, work)
    smooth_levels(work.raw, work.levels)
    crude = crude_limit(plan, work.levels)
    line_kernels.clear(lines, 0, lines.size)
    n, tiles = 0, (-1, -1)
    for y in range(height + box + 1):
        if y < height:
            tiles = push_next(y, plan, work, at, tiles)
        else:
            line_kernels.push_nothing(lines, at, y)
        done = y - box  # the rings now hold all that this line needs
        if 0 <= done < height:
            line_kernels.filter_line(lines, at, done, width, box, plan.taps)
        elif done == height:
            line_kernels.clear(lines, at.out + done % 4 * at.wide, at.wide)
        if done >= 1:
            n = peaks_of_line(plan, work, at, done - 1, crude, n)
    return n
