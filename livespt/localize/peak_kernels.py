# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""A peak of the filter's output against the threshold at its place (theory: `detection`)."""

from __future__ import annotations

import math

import numpy as np

from livespt.jit import inlined
from livespt.localize import level_kernels as levels
from livespt.localize import light_kernels as light


@inlined
def limit_of(limits, log_levels, log_vars, level, var_f):
    """Interpolate the threshold for a background level and a filtered read variance."""
    log_level = math.log(max(level, 1e-3))
    at = (log_level - log_levels[0]) / (log_levels[1] - log_levels[0])
    at = min(max(at, 0.0), log_levels.size - 1.001)
    i = int(at)
    u = at - i
    low = limits[i, 0] * (1.0 - u) + limits[i + 1, 0] * u
    if log_vars.size == 1:
        return low
    log_var = math.log(max(var_f, 1e-12))
    at = (log_var - log_vars[0]) / (log_vars[1] - log_vars[0])
    at = min(max(at, 0.0), log_vars.size - 1.001)
    j = int(at)
    v = at - j
    low = limits[i, j] * (1.0 - u) + limits[i + 1, j] * u
    high = limits[i, j + 1] * (1.0 - u) + limits[i + 1, j + 1] * u
    return low * (1.0 - v) + high * v


@inlined
def look_around(counts, maps, packed, steps, strip, x, y, bound, at, lines):
    """Lay sixteen pixels on the border of the filter's box into `sums`; count those above."""
    box, scratch, n_above = at.box, np.uint64(at.sums), 0
    for k in range(16):
        along, across = k % 4 * box // 2 - box, box
        if k >= 8:
            along, across = -along, -across
        dx, dy = (along, -across) if k // 4 % 2 == 0 else (across, along)
        line, column = min(max(y + dy, 0), at.height - 1), min(max(x + dx, 0), at.width - 1)
        pixel = line * at.width + column
        if maps.size == 2:
            value = np.float32(counts[pixel]) * maps[0] - maps[1]
        elif packed.size:  # still in the cache, which maps as they are never were
            word = packed[strip[4] + line * strip[3] + column - strip[2]]
            value = light.electrons(counts[pixel], word, steps)
        else:
            value = np.float32(counts[pixel]) * maps[pixel] - maps[counts.size + pixel]
        lines[scratch + np.uint64(k)] = value
        n_above += 1 if value > bound else 0
    return n_above


@inlined
def median_around(lines, at):
    """Return the median of the sixteen pixels in `sums`, and leave them in order."""
    scratch, one = np.uint64(at.sums), np.uint64(1)
    for k in range(1, 16):
        place = np.uint64(k)
        value = lines[scratch + place]
        while place > 0 and lines[scratch + place - one] > value:
            lines[scratch + place] = lines[scratch + place - one]
            place -= one
        lines[scratch + place] = value
    return 0.5 * (lines[scratch + np.uint64(7)] + lines[scratch + np.uint64(8)])


@inlined
def weigh(plan, counts, steps, strip, picked, first, last, lines):
    """Fill the background of some peaks and how far each exceeds its threshold.

    Where the background is rougher than its tiles, what stands around the peak counts instead: the
    median of 16 pixels has an error of .31 s.d., so three errors above the level it is no chance.
    With less than eight pixels that high the median is not, and need not be found.
    """
    at, maps, var_f, tile_var = plan.at, plan.maps, plan.var_f, plan.tile_var
    limits, log_levels, log_vars = plan.limits, plan.log_levels, plan.log_vars
    packed = plan.packed
    for k in range(first, last):
        x, y = int(picked[k, 0]), int(picked[k, 1])
        level = levels.level_at(lines, at, y, x)
        var = var_f[y, x] if var_f.size > 1 else var_f[0, 0]
        limit = limit_of(limits, log_levels, log_vars, level, var)
        if picked[k, 2] > limit:
            read_var = tile_var[y * at.n_y // at.height, x * at.n_x // at.width]
            bound = level + math.sqrt(plan.excess * max(level, 0.0) + read_var)
            if look_around(counts, maps, packed, steps, strip, x, y, bound, at, lines) >= 8:
                around = median_around(lines, at)
                if around > bound:
                    level = around
                    limit = limit_of(limits, log_levels, log_vars, level, var)
        picked[k, 7], picked[k, 8] = level, picked[k, 2] / limit
