# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""Spots of one frame: its background, then strip by strip the filter and its local maxima.

Theory: `livespt.localize.detection`; the background: `level_kernels`; the filter: `line_kernels`;
a peak against its threshold: `peak_kernels`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from livespt.jit import inlined, kernel
from livespt.localize import level_kernels as levels
from livespt.localize import light_kernels as light
from livespt.localize import line_kernels as strips
from livespt.localize.line_kernels import GROUP, LANES, MARGIN, STEP, STRIDE, Layout
from livespt.localize.peak_kernels import limit_of, weigh

LEAD = 8  # columns before a strip that are filtered too: a peak needs its neighbours


class Plan(NamedTuple):
    """What is fixed for a camera, a width and a frame shape."""

    at: Layout
    maps: np.ndarray  # (2 H W,) or (2,) float32: electrons per count, then electrons of no light
    strips: np.ndarray  # (n, 5) int64, see `packing`
    packed: np.ndarray  # uint32 words, see `packing`; empty for a camera without maps
    steps: np.ndarray  # (4,) float32, what they are told in
    taps: np.ndarray  # (r + 1 + SPARE,) float32, half of a Gaussian of peak 1, then zeros
    tile_var: np.ndarray  # (ty, tx) float32, mean read variance of each tile, e2
    tile_var_f: np.ndarray  # (ty, tx) float32, least read variance behind the filter
    var_f: np.ndarray  # (H, W) or (1, 1) float32: read variance behind the filter
    log_levels: np.ndarray  # (nb,) ln of the background levels of `limits`
    log_vars: np.ndarray  # (nv,) ln of the filtered read variances of `limits`
    limits: np.ndarray  # (nb, nv) threshold on the filter's output
    excess: np.float32
    per_photon: float  # 1 / filter output at the centre of a spot of one photon


class Work(NamedTuple):
    """Work space of one thread."""

    lines: np.ndarray  # flat, see `line_kernels`
    picked: np.ndarray  # (capacity, 9): x, y; samples here, left, right, up, down; level, strength
    rows: np.ndarray  # (H + 1,) int64: how many spots lie above a line
    found: np.ndarray  # (capacity, 5): x, y, photons, background, limit exceeded by


@inlined
def limits_of_tiles(plan, lines):
    """Fill `bright` and `crude`.

    A level between the middles of tiles is not below the least of those around; at the border it
    is drawn on by up to half a tile along either axis, which takes 1.5 times their range away.
    """
    at, tile_var, tile_var_f = plan.at, plan.tile_var, plan.tile_var_f
    limits, log_levels, log_vars = plan.limits, plan.log_levels, plan.log_vars
    for y in range(at.n_y):
        for x in range(at.n_x):
            tile = y * at.n_x + x
            level = lines[at.levels + tile]
            lines[at.bright + tile] = levels.bright(level, tile_var[y, x], plan.excess)
            most, inner = level, 0 < y < at.n_y - 1 and 0 < x < at.n_x - 1
            for j in range(max(y - 1, 0), min(y + 2, at.n_y)):
                for i in range(max(x - 1, 0), min(x + 2, at.n_x)):
                    level = min(level, lines[at.levels + j * at.n_x + i])
                    most = max(most, lines[at.levels + j * at.n_x + i])
            level = level if inner else level - np.float32(1.5) * (most - level)
            least = limit_of(limits, log_levels, log_vars, level, tile_var_f[y, x])
            lines[at.crude + tile] = 0.999 * least


@inlined
def tile_line(y, at):
    """Return the line of tiles that holds a line of the frame, or the nearest to it."""
    return min(max(y, 0), at.height - 1) * at.n_y // at.height


@inlined
def fill_limit(lines, at, ty, x0, x1):
    """Fill where light is clipped along a strip, for a line of tiles."""
    first = max(x0 - MARGIN, 0) * at.n_x // at.width
    last = (min(x1 + MARGIN, at.width) - 1) * at.n_x // at.width
    start = 0
    for tx in range(first, last + 1):
        end = levels.edge(tx + 1, at.n_x, at.width) + MARGIN - x0 if tx < last else STRIDE
        strips.fill(lines, at.limit + start, end - start, lines[at.bright + ty * at.n_x + tx])
        start = end


@inlined
def copy_edge(lines, at, which, x0, first, sums):
    """Fill lines of light from `first` (0 to 3) on, and their sum, with the background outside."""
    source = np.uint64(at.edges + which * at.edge_stride + x0)
    for j in range(first, GROUP):
        line = np.uint64(j * STRIDE)
        for x in range(np.uint64(STRIDE)):
            lines[line + x] = lines[source + x]
    for x in range(np.uint64(STRIDE)):
        lines[sums + x] = np.float32(GROUP) * lines[source + x]


@inlined
def pad_sides(lines, at, y, x, sums, start, n):
    """Set columns beside the frame to the background at its edge."""
    level = np.float32(levels.level_at(lines, at, y + 1.5, x))
    for j in range(GROUP):
        strips.fill(lines, np.uint64(j * STRIDE + start), n, level)
    strips.fill(lines, sums + np.uint64(start), n, np.float32(GROUP) * level)


@inlined
def load_last(counts, maps, y, left, n, lines, at, to, sums, limit):
    """Load the fewer than four lines at the bottom of a frame whose height is no multiple."""
    for j in range(at.height - y):
        for x in range(n):
            p = (y + j) * at.width + left + x
            scale, offset = maps[0], maps[1]
            if maps.size > 2:
                scale, offset = maps[p], maps[p + counts.size]
            line = to + np.uint64(j * STRIDE)
            lines[line + np.uint64(x)] = np.float32(counts[p]) * scale - offset
    light.sum_clipped(n, lines, to, sums, limit)


@inlined
def push_group(counts, maps, packed, steps, strip, g, lines, at):
    """Load four lines of a strip; what lies outside the frame is background without noise.

    `strip` and `steps` are the numbers of `Plan.strips` and `Plan.steps`.
    """
    (x0, x1, left, n, word), y, sums = strip, GROUP * g, strips.clips_at(g, at)
    if y < 0 or y >= at.height:
        copy_edge(lines, at, 0 if y < 0 else 1, x0, 0, sums)
        return
    start, to = y * at.width + left, np.uint64(left - x0 + MARGIN)
    limit, into = np.uint64(at.limit) + to, sums + to
    if y + GROUP > at.height:
        copy_edge(lines, at, 1, x0, at.height - y, sums)
        load_last(counts, maps, y, left, n, lines, at, to, into, limit)
    elif maps.size == 2:
        light.load_flat(counts, start, at.width, n, steps, lines, to, into, limit)
    elif packed.size:
        first = word + y * n
        light.load_packed(counts, packed, start, at.width, first, n, steps, lines, to, into, limit)
    else:
        light.load_mapped(counts, maps, start, at.width, n, lines, to, into, limit)
    if x0 == 0:
        pad_sides(lines, at, y, 0, sums, MARGIN - at.reach, at.reach)
    if x1 == at.width:
        pad_sides(lines, at, y, at.width - 1, sums, MARGIN + x1 - x0, at.reach)


@inlined
def filter_group(g, x0, x1, lines, at):
    """Fill the output of four lines of a strip; outside the frame it is 0, below any threshold."""
    if 0 <= GROUP * g < at.height:
        n = (LEAD + x1 - x0 + 1 + STEP - 1) // STEP * STEP
        strips.average_down(lines, at, g, MARGIN - LEAD, n)
    out = strips.out_at(g, at)
    for j in range(GROUP):
        line = out + np.uint64(j * STRIDE)
        if not 0 <= GROUP * g + j < at.height:
            strips.fill(lines, line, STRIDE, np.float32(0.0))
        if x0 == 0:
            lines[line + np.uint64(MARGIN - 1)] = np.float32(0.0)
        if x1 == at.width:
            lines[line + np.uint64(MARGIN + x1 - x0)] = np.float32(0.0)


@inlined
def any_above(lines, start, n, bound):
    """Say whether any element of a stretch exceeds `bound`.

    With a fixed length the compiler unrolls the loop before it could run in lanes.
    """
    found = False
    for x in range(np.uint64(n)):
        found |= lines[start + x] > bound
    return found


@inlined
def is_peak(lines, above, here, below, bound):
    """Say whether an element tops a bound and its neighbours (of equals, the first as one reads).

    Without branches, so that a line of these runs in lanes.
    """
    value, one = lines[here], np.uint64(1)
    beside = (value > bound) & (value > lines[here - one]) & (value >= lines[here + one])
    up = (value > lines[above - one]) & (value > lines[above]) & (value > lines[above + one])
    down = (value >= lines[below - one]) & (value >= lines[below]) & (value >= lines[below + one])
    return beside & up & down


@inlined
def any_peak(lines, above, here, below, n, bound):
    """Say whether there is a peak in a stretch of a line."""
    found = False
    for x in range(np.uint64(n)):
        found |= is_peak(lines, above + x, here + x, below + x, bound)
    return found


@inlined
def fill_floors(lines, at, ty, x0, x1):
    """Fill `floors` for groups of lines that begin in a line of tiles: a group may end in the next.

    A stretch of `LANES` pixels is no longer than a tile, and so lies in one or in two.
    """
    upper, lower = at.crude + ty * at.n_x, at.crude + min(ty + 1, at.n_y - 1) * at.n_x
    for x in range(x0, x1, LANES):
        left, right = x * at.n_x // at.width, (min(x + LANES, x1) - 1) * at.n_x // at.width
        above = min(lines[upper + left], lines[upper + right])
        lines[at.floors + (x - x0) // LANES] = min(
            above, min(lines[lower + left], lines[lower + right])
        )


@inlined
def pick(lines, above, here, below, size, bound, x0, y, picked, n):
    """Append the peaks of a stretch of a line to `picked`; return how many there are."""
    one = np.uint64(1)
    for x in range(np.uint64(size)):
        if lines[here + x] <= bound or not is_peak(lines, above + x, here + x, below + x, bound):
            continue
        if n < picked.shape[0]:
            picked[n, 0], picked[n, 1] = x0 + int(x), y
            picked[n, 2] = lines[here + x]
            picked[n, 3], picked[n, 4] = lines[here + x - one], lines[here + x + one]
            picked[n, 5], picked[n, 6] = lines[above + x], lines[below + x]
            n += 1
    return n


@inlined
def peaks_of_group(g, x0, x1, lines, picked, at, n):
    """Append the peaks above the crude threshold to `picked`; return how many there are.

    Of four lines: the last of the group before and the first three of this one.
    """
    here = strips.out_at(g, at) + np.uint64(MARGIN)
    before = strips.out_at(g - 1, at) + np.uint64(MARGIN + 3 * STRIDE)
    greatest = np.uint64(at.greatest + MARGIN)
    for start in range(0, x1 - x0, LANES):
        size = min(LANES, x1 - x0 - start)
        crude = lines[at.floors + start // LANES]
        if not any_above(lines, greatest + np.uint64(start), size, crude):
            continue
        for j in range(-1, GROUP - 1):
            y = GROUP * g + j
            if not 0 <= y < at.height:
                continue
            this = (here + np.uint64(j * STRIDE) if j >= 0 else before) + np.uint64(start)
            above = before + np.uint64(start) if j == 0 else this - np.uint64(STRIDE)
            below = here + np.uint64(start) if j < 0 else this + np.uint64(STRIDE)
            if any_peak(lines, above, this, below, size, crude):
                n = pick(lines, above, this, below, size, crude, x0 + start, y, picked, n)
    return n


@inlined
def peaks_of_strip(plan, counts, strip, lines, picked, n):
    """Run down a strip and append its peaks to `picked`; return how many there are.

    Each is weighed at once, while the pixels around it are still near at hand.
    """
    at, maps, packed, s = plan.at, plan.maps, plan.packed, plan.steps
    steps = (s[0], s[1], s[2], s[3])
    x0, x1 = plan.strips[strip, 0], plan.strips[strip, 1]
    numbers = (x0, x1, plan.strips[strip, 2], plan.strips[strip, 3], plan.strips[strip, 4])
    half, n_groups = at.groups // 2, (at.height + GROUP - 1) // GROUP
    n_wide = (2 * LEAD + x1 - x0 + STEP - 1) // STEP * STEP
    tile, floor = -1, -1
    for g in range(-1 - half, n_groups + half + 2):
        ty = tile_line(GROUP * g, at)
        if ty != tile:
            fill_limit(lines, at, ty, x0, x1)
            tile = ty
        push_group(counts, maps, packed, steps, numbers, g, lines, at)
        strips.average_along(lines, at, g, MARGIN - LEAD, n_wide)
        if g - half >= -1:
            strips.box_line(lines, at, g - half, MARGIN - LEAD, n_wide)
        done = g - half - 1
        if done >= -1:
            filter_group(done, x0, x1, lines, at)
        if done >= 0:
            ty = tile_line(GROUP * done - 1, at)
            if ty != floor:
                fill_floors(lines, at, ty, x0, x1)
                floor = ty
            first, n = n, peaks_of_group(done, x0, x1, lines, picked, at, n)
            if n > first:
                weigh(plan, counts, steps, numbers, picked, first, n, lines)
    return n


@inlined
def vertex(before, top, after):
    """Return where a parabola through three samples has its top, from -0.5 to 0.5."""
    curve = 2.0 * top - before - after
    return min(max(0.5 * (after - before) / curve, -0.5), 0.5) if curve > 0.0 else 0.0


@inlined
def write_spot(picked, k, per_photon, found, to):
    """Turn a peak's samples into a row of `found`."""
    value, left, right = picked[k, 2], picked[k, 3], picked[k, 4]
    above, below = picked[k, 5], picked[k, 6]
    dx, dy = vertex(left, value, right), vertex(above, value, below)
    top = value + 0.25 * ((right - left) * dx + (below - above) * dy)
    found[to, 0], found[to, 1] = picked[k, 0] + dx, picked[k, 1] + dy
    found[to, 2] = top * per_photon
    found[to, 3] = max(picked[k, 7], 0.02)
    found[to, 4] = picked[k, 8]


@inlined
def keep_spots(plan, work, n):
    """Copy peaks above threshold to `found` in reading order; return how many there are.

    Within a line of one strip after another `picked` is in order already: a counting sort by line.
    """
    at, picked, rows, found = plan.at, work.picked, work.rows, work.found
    for y in range(rows.size):
        rows[y] = 0
    for k in range(n):
        if picked[k, 8] > 1.0:
            rows[int(picked[k, 1]) + 1] += 1
    for y in range(1, rows.size):
        rows[y] += rows[y - 1]
    kept = rows[at.height]
    for k in range(n):
        y = int(picked[k, 1])
        if picked[k, 8] > 1.0:
            write_spot(picked, k, plan.per_photon, found, rows[y])
            rows[y] += 1
    return kept


@kernel
def detect_frame(adu, plan, work):
    """Find the spots of one frame; return how many rows of `work.found` hold one."""
    at, lines, maps, picked = plan.at, work.lines, plan.maps, work.picked
    counts = adu.reshape(-1)
    for k in range(plan.taps.size):
        lines[at.taps + k] = plan.taps[k]
    levels.tile_levels(counts, maps, plan.tile_var, plan.excess, lines, at)
    levels.smooth_levels(lines, at)
    levels.edge_line(lines, at, 0, at.edges)
    levels.edge_line(lines, at, at.height - 1, at.edges + at.edge_stride)
    limits_of_tiles(plan, lines)
    n = 0
    for strip in range(plan.strips.shape[0]):
        n = peaks_of_strip(plan, counts, strip, lines, picked, n)
    return keep_spots(plan, work, n)
