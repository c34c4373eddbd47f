# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""A peak of the filter's output: against the threshold at its place, and as a row of `found`."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from livespt.jit import inlined
from livespt.localize import level_kernels as levels
from livespt.localize import light_kernels as light

#: A row of peaks: x, y; samples here, left, right, above, below; level, strength.
ROW = 9
_1 = np.uint64(1)


class Bounds(NamedTuple):
    """What a peak is held against (arrays as `livespt.vectors.address`)."""

    limits: np.ndarray  # flat (n_levels, n_vars): threshold on the filter's output
    n_levels: int
    n_vars: int
    log_level: float  # ln of the first background level, and from one to the next
    level_step: float
    log_var: float  # ln of the first filtered read variance, and from one to the next
    var_step: float
    var_f: np.ndarray  # flat float32: read variance behind the filter, of each pixel or of all
    mapped: bool
    tile_var: np.ndarray  # flat float32: mean read variance of each tile
    excess: np.float32


@inlined
def limit_of(bounds, level, var_f):
    """Interpolate the threshold for a background level and a filtered read variance."""
    at = (math.log(max(level, 1e-3)) - bounds.log_level) / bounds.level_step
    at = min(max(at, 0.0), bounds.n_levels - 1.001)
    i = int(at)
    u, limits, here, after = at - i, bounds.limits, i * bounds.n_vars, (i + 1) * bounds.n_vars
    if bounds.n_vars == 1:
        return limits[here] * (1.0 - u) + limits[after] * u
    at = (math.log(max(var_f, 1e-12)) - bounds.log_var) / bounds.var_step
    at = min(max(at, 0.0), bounds.n_vars - 1.001)
    j = int(at)
    v = at - j
    low = limits[here + j] * (1.0 - u) + limits[after + j] * u
    high = limits[here + j + 1] * (1.0 - u) + limits[after + j + 1] * u
    return low * (1.0 - v) + high * v


@inlined
def look(source, strip, x, y, bound, at, lines, to):
    """Lay one pixel, or the nearest in the frame, into `scratch`; return 1 if it is above."""
    _, _, left, n, first = strip
    line, column = min(max(y, 0), at.height - 1), min(max(x, 0), at.width - 1)
    pixel, word = line * at.width + column, first + line * n + column - left
    value = light.one(source, np.uint64(pixel), np.uint64(word))
    lines[np.uint64(at.scratch + to)] = value
    return 1 if value > bound else 0


@inlined
def look_around(source, strip, x, y, bound, at, lines):
    """Lay sixteen pixels on the border of the filter's box into `scratch`; count those above.

    Packed maps are still in the cache there, which maps as they are never were.
    """
    box, n_above = at.box, 0
    for k in range(4):
        along = k * box // 2 - box
        n_above += look(source, strip, x + along, y - box, bound, at, lines, 4 * k)
        n_above += look(source, strip, x + box, y + along, bound, at, lines, 4 * k + 1)
        n_above += look(source, strip, x - along, y + box, bound, at, lines, 4 * k + 2)
        n_above += look(source, strip, x - box, y - along, bound, at, lines, 4 * k + 3)
    return n_above


@inlined
def median_around(lines, at):
    """Return the median of the sixteen pixels in `scratch`, and leave them in order."""
    scratch = np.uint64(at.scratch)
    for k in range(1, 16):
        place = np.uint64(k)
        value = lines[scratch + place]
        while place > 0 and lines[scratch + place - _1] > value:
            lines[scratch + place] = lines[scratch + place - _1]
            place -= _1
        lines[scratch + place] = value
    return 0.5 * (lines[scratch + np.uint64(7)] + lines[scratch + np.uint64(8)])


@inlined
def weigh(source, bounds, strip, picked, first, last, lines, at):
    """Fill the background of some peaks and how far each exceeds its threshold.

    Where the background is rougher than its tiles, what stands around the peak counts instead: the
    median of 16 pixels has an error of .31 s.d., so three errors above the level it is no chance.
    With less than eight pixels that high the median is not, and need not be found.
    """
    for k in range(first, last):
        row = k * ROW
        x, y, value = int(picked[row]), int(picked[row + 1]), picked[row + 2]
        level = levels.level_at(lines, at, y, x)
        var = bounds.var_f[y * at.width + x] if bounds.mapped else bounds.var_f[0]
        limit = limit_of(bounds, level, var)
        if value > limit:
            tile = y * at.n_y // at.height * at.n_x + x * at.n_x // at.width
            bound = level + math.sqrt(bounds.excess * max(level, 0.0) + bounds.tile_var[tile])
            if look_around(source, strip, x, y, bound, at, lines) >= 8:
                around = median_around(lines, at)
                if around > bound:
                    level = around
                    limit = limit_of(bounds, level, var)
        picked[row + 7], picked[row + 8] = level, value / limit


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
