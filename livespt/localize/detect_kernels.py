# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""Matched filter, noise level and local maxima of one frame.

Theory: `livespt.localize.detection`. Images are float32 with a border of zeros, so that no loop
has a branch for the frame's edge.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from livespt.jit import kernel

TILE = 32
CLIP_SDS, CLIP_E = 4.0, 4.0  # brighter than this is a spot, not background


class Plan(NamedTuple):
    """What is fixed for a camera, a width and a frame shape."""

    per_gain: np.ndarray  # (H, W) or (1, 1) float32, 1/gain
    offset: np.ndarray  # (H, W) or (1, 1) float32
    tile_var: np.ndarray  # (ty, tx) float32, mean read variance of each tile, e2
    var_f: np.ndarray  # (H, W) or (1, 1) float32: read variance behind the filter
    weights: np.ndarray  # (2 r + 1,) float32, unit-sum Gaussian
    log_levels: np.ndarray  # (nb,) ln of the background levels of `limits`
    log_vars: np.ndarray  # (nv,) ln of the filtered read variances of `limits`
    limits: np.ndarray  # (nb, nv) threshold on the filter's output
    excess: float
    box: int  # radius of the background box
    pad: int  # border of the work images
    response: float  # filter output at the centre of a spot of one photon


class Work(NamedTuple):
    """Images of one thread."""

    light: np.ndarray  # (H + 2 pad, W + 2 pad) electrons less the level
    clipped: np.ndarray
    filtered: np.ndarray
    levels: np.ndarray  # (ty, tx)
    smooth: np.ndarray  # (ty, tx)
    columns: np.ndarray  # (4, W + 2 pad)
    found: np.ndarray  # (capacity, 5): x, y, photons, background, limit exceeded by


@kernel
def to_electrons(adu, plan, pad, light):
    """Fill the inner part of `light` with (count - offset)/gain."""
    height, width = adu.shape
    if plan.per_gain.size == 1:
        scale, offset = plan.per_gain[0, 0], plan.offset[0, 0]
        for y in range(height):
            row, source = light[y + pad], adu[y]
            for x in range(width):
                row[x + pad] = (np.float32(source[x]) - offset) * scale
    else:
        for y in range(height):
            row, source = light[y + pad], adu[y]
            offsets, scales = plan.offset[y], plan.per_gain[y]
            for x in range(width):
                row[x + pad] = (np.float32(source[x]) - offsets[x]) * scales[x]


@kernel
def clipped_mean(light, y0, y1, x0, x1, stride, limit, sums):
    """Return the mean of what lies below `limit` in every `stride`-th row of a rectangle.

    Columns are summed apart, in `sums` (2, x1 - x0), so that the loop runs in lanes.
    """
    wide = x1 - x0
    totals, counts = sums[0, :wide], sums[1, :wide]
    totals[:] = np.float32(0.0)
    counts[:] = np.float32(0.0)
    for y in range(y0, y1, stride):
        row = light[y, x0:x1]
        for x in range(wide):
            keep = np.float32(1.0) if row[x] < limit else np.float32(0.0)
            totals[x] += keep * row[x]
            counts[x] += keep
    total, n = 0.0, 0.0
    for x in range(wide):
        total += totals[x]
        n += counts[x]
    return total / max(n, 1.0)


@kernel
def tile_levels(light, height, width, pad, tile_var, excess, sums, levels):
    """Fill the background of each tile: the mean of what is not brighter than background can be."""
    n_y, n_x = levels.shape
    for ty in range(n_y):
        y0, y1 = ty * height // n_y + pad, (ty + 1) * height // n_y + pad
        for tx in range(n_x):
            x0, x1 = tx * width // n_x + pad, (tx + 1) * width // n_x + pad
            limit = np.float32(3e38)
            level = 0.0
            for stride in (4, 4, 2, 1):
                level = clipped_mean(light, y0, y1, x0, x1, stride, limit, sums)
                noise = excess * max(level, 0.0) + tile_var[ty, tx]
                limit = np.float32(level + CLIP_SDS * math.sqrt(noise) + CLIP_E)
            levels[ty, tx] = level


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
def level_row(levels, y, height, width, pad, out):
    """Fill one row of interpolated levels: straight ramps between tile centres."""
    n_y, n_x = levels.shape
    v = min(max((y + 0.5) * n_y / height - 0.5, 0.0), n_y - 1.0)
    j = min(int(v), max(n_y - 2, 0))
    upper, lower = levels[j], levels[min(j + 1, n_y - 1)]
    share, step = v - j, width / n_x
    start = 0
    left = upper[0] * (1.0 - share) + lower[0] * share
    for i in range(n_x + 1):  # ramp i ends at the centre of tile i; the last runs to the edge
        right = left
        end = width
        if i < n_x:
            right = upper[i] * (1.0 - share) + lower[i] * share
            end = min(math.ceil((i + 0.5) * step - 0.5), width)
        slope = (right - left) / step
        base = np.float32(left + slope * (start - (i - 0.5) * step + 0.5))
        gain = np.float32(slope)
        part = out[pad + start : pad + end]
        for x in range(part.size):
            part[x] = base + gain * np.float32(x)
        start, left = end, right


@kernel
def flatten(light, height, width, pad, levels, tile_var, excess, ramp, clipped):
    """Take the level from `light`; fill `clipped` with it less what spots stand out by."""
    n_y, n_x = levels.shape
    for y in range(height):
        level_row(levels, y, height, width, pad, ramp)
        ty = min(y * n_y // height, n_y - 1)
        for tx in range(n_x):
            noise = excess * max(levels[ty, tx], np.float32(0.0)) + tile_var[ty, tx]
            limit = np.float32(CLIP_SDS * math.sqrt(noise) + CLIP_E)
            x0, x1 = tx * width // n_x + pad, (tx + 1) * width // n_x + pad
            row, low, slope = light[y + pad, x0:x1], clipped[y + pad, x0:x1], ramp[x0:x1]
            for x in range(x1 - x0):
                value = row[x] - slope[x]
                row[x] = value
                low[x] = value if value < limit else limit


@kernel
def add_scaled(out, source, weight):
    """Add weight * source to `out` (the plain slices let the loop run in lanes)."""
    for x in range(out.size):
        out[x] += weight * source[x]


@kernel
def set_scaled(out, source, weight):
    """Set `out` to weight * source."""
    for x in range(out.size):
        out[x] = weight * source[x]


@kernel
def add_pair(out, one, other, weight):
    """Add weight * (one + other) to `out`: two taps of a symmetric filter."""
    for x in range(out.size):
        out[x] += weight * (one[x] + other[x])


@kernel
def matched_filter(light, clipped, height, width, pad, weights, box, columns, filtered):
    """Fill `filtered` with the Gaussian mean of `light` less the box mean of `clipped`."""
    radius = weights.size // 2
    area = np.float32(-1.0 / (2 * box + 1) ** 2)
    one, minus = np.float32(1.0), np.float32(-1.0)
    tall, sums = columns[0], columns[1]
    sums[:] = np.float32(0.0)
    for y in range(pad - box, pad + box):
        add_scaled(sums, clipped[y], one)
    for y in range(pad, pad + height):
        add_scaled(sums, clipped[y + box], one)
        set_scaled(tall, light[y], weights[radius])
        for k in range(1, radius + 1):
            add_pair(tall, light[y - k], light[y + k], weights[radius + k])
        out = filtered[y, pad : pad + width]
        box_rows(sums, pad, width, box, area, columns[2], columns[3], out)
        add_scaled(out, tall[pad : pad + width], weights[radius])
        for k in range(1, radius + 1):
            before, after = tall[pad - k : pad - k + width], tall[pad + k : pad + k + width]
            add_pair(out, before, after, weights[radius + k])
        add_scaled(sums, clipped[y - box], minus)


@kernel
def box_rows(sums, pad, width, box, scale, doubled, spare, out):
    """Fill `out` with scale times the sum of 2 box + 1 neighbours, by doubling the window.

    Sums of 2, 4, 8, ... neighbours follow from each other; the window is put together from its
    binary digits. All steps run in lanes, which a running sum cannot.
    """
    n = sums.size
    length = 2 * box + 1
    set_scaled(out, sums[pad - box : pad - box + width], scale)  # the length is odd
    doubled[:] = sums
    done, power = 1, 1
    while power <= length:
        if power > 1 and length & power:
            first = pad - box + done
            add_scaled(out, doubled[first : first + width], scale)
            done += power
        if 2 * power > length:
            break
        span = n - power
        head, tail, target = doubled[:span], doubled[power:n], spare[:span]
        for x in range(span):
            target[x] = head[x] + tail[x]
        doubled, spare = spare, doubled
        power *= 2


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
def is_peak(filtered, y, x):
    """Say whether a pixel tops its eight neighbours (ties go to the first in reading order)."""
    value = filtered[y, x]
    for dy in range(-1, 2):
        for dx in range(-1, 2):
            other = filtered[y + dy, x + dx]
            later = dy > 0 or (dy == 0 and dx > 0)
            if other > value or (other == value and not later and (dy != 0 or dx != 0)):
                return False
    return True


@kernel
def vertex(before, at, after):
    """Return where a parabola through three samples has its top, from -0.5 to 0.5."""
    curve = 2.0 * at - before - after
    return min(max(0.5 * (after - before) / curve, -0.5), 0.5) if curve > 0.0 else 0.0


@kernel
def peaks(work, plan, height, width):
    """Fill `work.found` with the peaks above threshold; return how many."""
    pad, f = plan.pad, work.filtered
    least = work.levels.min() * 0.9 if work.levels.min() > 0.0 else 0.0
    crude = np.float32(0.99 * limit_of(plan, least, math.exp(plan.log_vars[0])))
    n = 0
    for y in range(pad, pad + height):
        row = f[y]
        for x in range(pad, pad + width):
            value = row[x]
            if value <= crude or value < row[x - 1] or value < row[x + 1] or not is_peak(f, y, x):
                continue
            level = level_at(work.levels, y - pad, x - pad, height, width)
            var_f = 0.0
            if plan.var_f.size > 1:
                var_f = plan.var_f[y - pad, x - pad]
            limit = limit_of(plan, level, var_f)
            if value > limit and n < work.found.shape[0]:
                spot = work.found[n]
                spot[0] = x - pad + vertex(row[x - 1], value, row[x + 1])
                spot[1] = y - pad + vertex(f[y - 1, x], value, f[y + 1, x])
                spot[2] = value / plan.response
                spot[3] = max(level, 0.02)
                spot[4] = value / limit
                n += 1
    return n


@kernel
def detect_frame(adu, plan, work):
    """Find the spots of one frame; return how many rows of `work.found` hold one."""
    height, width = adu.shape
    to_electrons(adu, plan, plan.pad, work.light)
    excess = plan.excess
    tile_levels(
        work.light,
        height,
        width,
        plan.pad,
        plan.tile_var,
        excess,
        work.columns,
        work.smooth,
    )
    smooth_levels(work.smooth, work.levels)
    flatten(
        work.light,
        height,
        width,
        plan.pad,
        work.levels,
        plan.tile_var,
        excess,
        work.columns[0],
        work.clipped,
    )
    matched_filter(
        work.light,
        work.clipped,
        height,
        width,
        plan.pad,
        plan.weights,
        plan.box,
        work.columns,
        work.filtered,
    )
    return peaks(work, plan, height, width)
