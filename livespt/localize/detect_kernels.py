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
from livespt.localize.light_kernels import Source
from livespt.localize.line_kernels import GROUP, MARGIN, STEP, STRIDE, Layout, filtered_from
from livespt.localize.peak_kernels import ROW, Bounds, limit_of, weigh, write_spot
from livespt.vector_pixels import above, first_of, load, most, not_below, store
from livespt.vectors import address

_0, _1 = np.uint64(0), np.uint64(1)
_S1, _S2, _S3 = (np.uint64(k * STRIDE) for k in range(1, 4))


class Plan(NamedTuple):
    """What is fixed for a camera, a width and a frame shape."""

    at: Layout
    maps: np.ndarray  # (2 H W,) or (2,) float32: electrons per count, then electrons of no light
    strips: np.ndarray  # (n, 5) int64, see `packing`
    packed: np.ndarray  # int32 words, see `packing`; empty for a camera without maps
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
    rows: np.ndarray  # (H,) int64: how many spots lie above a line
    found: np.ndarray  # (capacity, 5): x, y, photons, background, limit exceeded by


@inlined
def limits_of_tiles(plan, bounds, lines):
    """Fill `bright` and `crude`.

    A level between the middles of tiles is not below the least of those around; at the border it
    is drawn on by up to half a tile along either axis, which takes 1.5 times their range away.
    """
    at, n = plan.at, plan.at.n_x
    low, high = at.raw, at.bright  # of three tiles side by side: neither is needed any more
    for y in range(at.n_y):
        for x in range(n):
            tile, left, right = y * n + x, y * n + max(x - 1, 0), y * n + min(x + 1, n - 1)
            a, b, c = lines[at.levels + left], lines[at.levels + tile], lines[at.levels + right]
            lines[low + tile], lines[high + tile] = min(a, min(b, c)), max(a, max(b, c))
    for y in range(at.n_y):
        above_it, below_it = max(y - 1, 0) * n, min(y + 1, at.n_y - 1) * n
        for x in range(n):
            tile = y * n + x
            a, b, c = lines[low + above_it + x], lines[low + tile], lines[low + below_it + x]
            level = min(a, min(b, c))
            if not (0 < y < at.n_y - 1 and 0 < x < n - 1):
                a, b, c = lines[high + above_it + x], lines[high + tile], lines[high + below_it + x]
                level -= np.float32(1.5) * (max(a, max(b, c)) - level)
            lines[at.crude + tile] = 0.999 * limit_of(bounds, level, plan.tile_var_f[y, x])
    for tile in range(n * at.n_y):
        level = lines[at.levels + tile]
        lines[at.bright + tile] = levels.bright(level, bounds.tile_var[tile], plan.excess)


@inlined
def tile_line(y, at):
    """Return the line of tiles that holds a line of the frame, or the nearest to it."""
    return min(max(y, 0), at.height - 1) * at.n_y // at.height


@inlined
def fill_limit(lines, at, ty, strip):
    """Fill where light is clipped along what is loaded for a strip, for a line of tiles."""
    x0, _, left, n, _ = strip
    tiles = at.bright + ty * at.n_x
    fill_tiles(lines, at, tiles, tiles, left, left + n, at.limit + MARGIN - filtered_from(x0))


@inlined
def fill_floors(lines, at, ty, strip):
    """Fill `floors` for groups that begin in a line of tiles: they may end in the next."""
    begin, end = filtered_from(strip[0]), min(strip[1] + 1, at.width)
    upper, lower = at.crude + ty * at.n_x, at.crude + min(ty + 1, at.n_y - 1) * at.n_x
    fill_tiles(lines, at, upper, lower, begin, end, at.floors + MARGIN - begin)


@inlined
def fill_tiles(lines, at, upper, lower, x, end, to):
    """Fill columns of a line, and some more, with the lesser of two lines of tiles.

    Column 0 of the frame lies, or would lie, at `to`.
    """
    tile, last = x * at.n_x // at.width, (end - 1) * at.n_x // at.width
    while tile <= last:
        after = levels.edge(tile + 1, at.n_x, at.width) if tile < last else end + STEP
        strips.fill(lines, to + x, after - x, min(lines[upper + tile], lines[lower + tile]))
        tile, x = tile + 1, after


@inlined
def copy_edge(lines, at, which, begin, first):
    """Fill lines of light from `first` (0 to 3) on, and `clips`, with the background outside."""
    source = np.uint64(at.edges + which * at.edge_stride + begin)
    for x in range(_0, np.uint64(STRIDE), np.uint64(STEP)):
        level = load(lines, source + x)
        for j in range(first, GROUP):
            store(lines, np.uint64(j * STRIDE) + x, level)
        store(lines, np.uint64(at.clips) + x, np.float32(GROUP) * level)


@inlined
def pad_side(lines, at, side, g, first):
    """Set columns beside the frame to the background at its edge."""
    level, n = lines[side + g], (at.reach + STEP - 1) // STEP * STEP
    first = first - n if side == at.sides else first
    for j in range(GROUP):
        strips.fill(lines, j * STRIDE + first, n, level)
    strips.fill(lines, at.clips + first, n, np.float32(GROUP) * level)


@inlined
def push_group(source, strip, g, lines, at):
    """Load four lines of a strip; what lies outside the frame is background without noise.

    `strip` holds the numbers of `Plan.strips`.
    """
    (x0, x1, left, n, first), y = strip, GROUP * g
    begin = filtered_from(x0)
    if y < 0 or y >= at.height:
        copy_edge(lines, at, 0 if y < 0 else 1, begin, 0)
        return
    start, word, left_over = y * at.width + left, first + y * n, at.height - y
    to = np.uint64(left - begin + MARGIN)
    clips, limit = np.uint64(at.clips) + to, np.uint64(at.limit) + to
    if left_over < GROUP:
        copy_edge(lines, at, 1, begin, left_over)
        light.load_rest(source, start, n, word, left_over, _0, lines, to)
        light.sum_clipped(_0, n, lines, to, clips, limit)
    else:
        light.load_group(source, start, n, word, lines, to, clips, limit)
    if x0 == 0:
        pad_side(lines, at, at.sides, g, MARGIN)
    if x1 == at.width:
        pad_side(lines, at, at.sides + at.n_groups, g, MARGIN + x1 - begin)


@inlined
def filter_group(g, x0, x1, lines, at):
    """Fill the output of four lines of a strip; outside the frame it is 0, below any threshold.

    Return bits: which sixteens may hold a peak (`line_kernels.average_down`).
    """
    hits, begin = -1, filtered_from(x0)
    if 0 <= GROUP * g < at.height:
        n = (min(x1 + 1, at.width) - begin + STEP - 1) // STEP * STEP
        hits = strips.average_down(lines, at, g, MARGIN, n)
    out = strips.out_at(g, at)
    for j in range(GROUP):
        line = out + np.uint64(j * STRIDE)
        if not 0 <= GROUP * g + j < at.height:
            strips.fill(lines, line, STRIDE, np.float32(0.0))
        if x0 == 0:
            lines[line + np.uint64(MARGIN - 1)] = np.float32(0.0)
        if x1 == at.width:
            lines[line + np.uint64(MARGIN + x1 - begin)] = np.float32(0.0)
    return hits


@inlined
def tops(lines, at):
    """Return the greatest of sixteen outputs and of their neighbours along the line."""
    return most(most(load(lines, at - _1), load(lines, at + _1)), load(lines, at))


@inlined
def peaks_of(lines, here, over, under, bound):
    """Return bits: which of sixteen top a bound and their neighbours (of equals, the first).

    `over` and `under` are the `tops` of the lines above and below.
    """
    v = load(lines, here)
    beside = above(v, load(lines, here - _1)) & not_below(v, load(lines, here + _1))
    return beside & above(v, bound) & above(v, over) & not_below(v, under)


@inlined
def peaks_of_four(lines, before, here, bound):
    """Return bits: the peaks of four lines, sixteen for each.

    These are the last line of the group before, at `before`, and the first three of this one.
    """
    over, first = tops(lines, before - _S1), tops(lines, before)
    second, third = tops(lines, here), tops(lines, here + _S1)
    fourth, under = tops(lines, here + _S2), tops(lines, here + _S3)
    bits = peaks_of(lines, before, over, second, bound)
    bits |= peaks_of(lines, here, first, third, bound) << 16
    bits |= peaks_of(lines, here + _S1, second, fourth, bound) << 32
    return bits | peaks_of(lines, here + _S2, third, under, bound) << 48


@inlined
def pick(lines, before, here, bits, x, y, picked, n):
    """Append the peaks of four lines from `x`, `y` on to `picked`; return how many there are."""
    peaks, capacity = picked
    while bits and n < capacity:
        k, row = first_of(bits), n * ROW
        line, column = k // STEP, np.uint64(k % STEP)
        at = (here + np.uint64((line - 1) * STRIDE) if line > 0 else before) + column
        over = before + column if line == 1 else at - _S1
        under = at + _S1 if line > 0 else here + column
        peaks[row], peaks[row + 1] = x + int(column), y + line
        peaks[row + 2] = lines[at]
        peaks[row + 3], peaks[row + 4] = lines[at - _1], lines[at + _1]
        peaks[row + 5], peaks[row + 6] = lines[over], lines[under]
        bits &= bits - 1
        n += 1
    return n


@inlined
def peaks_of_group(g, hits, x0, x1, lines, picked, at, n):
    """Append the peaks above the crude threshold to `picked`; return how many there are.

    Of four lines: the last of the group before and the first three of this one. `hits` are bits:
    which sixteens may hold one.
    """
    here = strips.out_at(g, at) + np.uint64(MARGIN)
    before = strips.out_at(g - 1, at) + np.uint64(MARGIN) + _S3
    begin, y = filtered_from(x0), GROUP * g - 1
    hits &= (1 << (x1 - begin + STEP - 1) // STEP) - 1
    while hits:
        start = first_of(hits) * STEP
        hits &= hits - 1
        x = begin + start
        columns = int(((1 << min(x1 - x, STEP)) - 1) & (-1 << max(x0 - x, 0)))
        inside = 0
        for j in range(GROUP):
            if 0 <= y + j < at.height:
                inside |= columns << STEP * j
        floor = load(lines, np.uint64(at.floors + MARGIN + start))
        this, last = here + np.uint64(start), before + np.uint64(start)
        bits = peaks_of_four(lines, last, this, floor) & inside
        n = pick(lines, last, this, bits, x, y, picked, n)
    return n


@inlined
def peaks_of_strip(source, bounds, strip, lines, at, picked, n):
    """Run down a strip and append its peaks to `picked`; return how many there are.

    Each is weighed at once, while the pixels around it are still near at hand.
    """
    x0, x1, _, _, _ = strip
    half, last = at.groups // 2, at.n_groups + at.groups // 2
    start = MARGIN
    n_wide = (min(x1 + 1, at.width) - filtered_from(x0) + STEP - 1) // STEP * STEP
    tile, floor = -1, -1
    for g in range(-1 - half, last + 3):
        if g <= last:
            ty = tile_line(GROUP * g, at)
            if ty != tile:
                fill_limit(lines, at, ty, strip)
                tile = ty
            push_group(source, strip, g, lines, at)
        done = g - half - 2
        if done >= -1:
            ty = tile_line(GROUP * done - 1, at)
            if ty != floor:
                fill_floors(lines, at, ty, strip)
                floor = ty
            hits = filter_group(done, x0, x1, lines, at)
            if done >= 0:
                first, n = n, peaks_of_group(done, hits, x0, x1, lines, picked, at, n)
                if n > first:
                    weigh(source, bounds, strip, picked[0], first, n, lines, at)
        if g <= last:
            strips.sum_fours(lines, at, start, n_wide)
            strips.average_along(lines, at, g, start, n_wide)
            strips.sum_box(lines, at, g, start, n_wide)
    return n


@inlined
def keep_spots(plan, work, n):
    """Copy peaks above threshold to `found` in reading order; return how many there are.

    Within a line of one strip after another `picked` is in order already: a counting sort by line.
    """
    at, picked, rows, found = plan.at, work.picked, work.rows, work.found
    for y in range(at.height):
        rows[y] = 0
    for k in range(n):
        if picked[k, 8] > 1.0:
            rows[int(picked[k, 1])] += 1
    kept = 0
    for y in range(at.height):
        first, kept = kept, kept + rows[y]
        rows[y] = first
    for k in range(n):
        y = int(picked[k, 1])
        if picked[k, 8] > 1.0:
            write_spot(picked, k, plan.per_photon, found, rows[y])
            rows[y] += 1
    return kept


@inlined
def source_of(adu, plan):
    """Return a frame as the loads take it."""
    s = plan.steps
    return Source(
        address(adu),
        address(plan.maps),
        address(plan.packed),
        plan.at.width,
        np.uint64(adu.size),
        plan.maps.size > 2,
        plan.packed.size > 0,
        s[0],
        s[1],
        s[2],
        s[3],
    )


@inlined
def bounds_of(plan):
    """Return what peaks are held against."""
    levels_, vars_ = plan.log_levels, plan.log_vars
    return Bounds(
        address(plan.limits),
        levels_.size,
        vars_.size,
        levels_[0],
        levels_[1] - levels_[0],
        vars_[0],
        vars_[1] - vars_[0] if vars_.size > 1 else 1.0,
        address(plan.var_f),
        plan.var_f.size > 1,
        address(plan.tile_var),
        plan.excess,
    )


@kernel
def detect_frame(adu, plan, work):
    """Find the spots of one frame; return how many rows of `work.found` hold one."""
    at, lines, picked = plan.at, address(work.lines), (address(work.picked), work.picked.shape[0])
    source, bounds = source_of(adu, plan), bounds_of(plan)
    for k in range(plan.taps.size):
        lines[at.taps + k] = plan.taps[k]
    levels.tile_levels(source, bounds.tile_var, plan.excess, lines, at)
    levels.smooth_levels(lines, at)
    levels.edge_line(lines, at, 0, at.edges)
    levels.edge_line(lines, at, at.height - 1, at.edges + at.edge_stride)
    levels.side_levels(lines, at)
    limits_of_tiles(plan, bounds, lines)
    n = 0
    for k in range(plan.strips.shape[0]):
        s = plan.strips[k]
        strip = (s[0], s[1], s[2], s[3], s[4])
        n = peaks_of_strip(source, bounds, strip, lines, at, picked, n)
    return keep_spots(plan, work, n)
