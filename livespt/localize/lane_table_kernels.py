# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""Tabulated cameras among the lanes: score, information and likelihood of sixteen spots' pixels.

Theory: `livespt.localize.table`. With m = E[n|c, E] and h = E I(E) of the table, the score is
m/E - 1 and the information h/E. What a cell of the table holds at its four corners lies together,
so that a pixel reads one place. A score that was read is kept as a straight line in E, and
followed along it while the spot moves little.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from livespt.jit import kernel_of_lanes, lanes
from livespt.localize.lane_kernels import (
    LANES,
    LOGLIK,
    N_ROWS,
    ONE,
    PLACE,
    ROW,
    SIDE,
    TWO,
    ZERO,
    log_each,
    rows,
)
from livespt.localize.lane_row_kernels import (
    add_columns,
    add_to,
    light_of,
    put_pixel,
    rate_at,
)
from livespt.vector_rows import gather_rows, look_up
from livespt.vectors import (
    SINGLES,
    any_below,
    least,
    load,
    most,
    pick,
    root,
    spread,
    store,
    whole,
)


class LaneTable(NamedTuple):
    """`table.Table` in float32, ordered for reading, with the place of every count.

    `cells` (nz * nw * 8,) holds `mean_n`, then `rest`, at the four corners of each cell: here, next
    in w, next in z, next in both. `info` is (nw,), `place` (65536,).
    """

    cells: np.ndarray
    info: np.ndarray
    place: np.ndarray
    n_w: int
    w_min: float
    per_w: float
    common: float  # read variance, e2: what all pixels have in common
    curve: float  # 2/F
    size: int


CORNERS = np.float32(8.0)
# of every pixel where it was read: m as a straight line in E (its height at 0, its step), and h
HEIGHT, _at = rows(N_ROWS, SIDE * SIDE)
STEP, _at = rows(_at, SIDE * SIDE)
KEPT_INFO, N_ROWS_TABLE = rows(_at, SIDE * SIDE)
_F = np.float32
_THREE = _F(3.0)
_LEAST = _F(1e-12)


@lanes
def stretch(rate, half, table):
    """Return the rate's coordinate on the table's second axis, and its slope; `half` = sqrt(E)."""
    stretched, slope = TWO * (half - ONE), half
    if any_below(rate, ONE):
        stretched = pick(rate, spread(ONE), _THREE * log_each(rate), stretched)
        slope = pick(rate, spread(ONE), spread(_THREE), slope)
    per_w = _F(table.per_w)
    at = most((stretched - _F(table.w_min)) * per_w, spread(ZERO))
    return least(at, spread(_F(table.n_w) - _F(1.001))), per_w * slope / rate


@lanes
def interpolate(a, b, c, d, u, v):
    """Return a cell's value, and its step along w, from its corners."""
    step_low, step_high = b - a, d - c
    low, high = a + u * step_low, c + u * step_high
    return low + v * (high - low), step_low + v * (step_high - step_low)


@lanes
def read_pixel(p, pixel, data, rate, table):
    """Return score, information and log-likelihood of a pixel; keep what its score follows."""
    half = root(rate)
    at_w, slope = stretch(rate, half, table)
    at_z = load(p, PLACE + pixel)
    cell_w, cell_z = whole(at_w), whole(at_z)
    u, v = at_w - cell_w, at_z - cell_z
    cell = (cell_z * _F(table.n_w) + cell_w) * CORNERS
    c0, c1, c2, c3, c4, c5, c6, c7 = gather_rows(table.cells, cell)
    m, step = interpolate(c0, c1, c2, c3, u, v)
    rest, _ = interpolate(c4, c5, c6, c7, u, v)
    h = look_up(table.info, cell_w)
    h += u * (look_up(table.info, cell_w + ONE) - h)
    step *= slope
    inverse = ONE / rate
    store(p, HEIGHT + pixel, m - step * rate)
    store(p, STEP + pixel, step)
    store(p, KEPT_INFO + pixel, h)
    apart = root(most(data - _F(table.common), spread(ZERO))) - half
    return m * inverse - ONE, h * inverse, rest - _F(table.curve) * apart * apart


@kernel_of_lanes
def sum_read(p, n, i, side, table):
    """Add line `i` of `n` regions, its scores read from the table, and its log-likelihood."""
    for first in range(0, n, SINGLES):
        k = np.uint64(first)
        added, light = light_of(p, k, i)
        total, pixel = spread(ZERO), np.uint64(i * side * LANES) + k
        for j in range(side):
            rate, data = rate_at(p, k, i, j, side, added, light)
            score, info, term = read_pixel(p, pixel, data, most(rate, spread(_LEAST)), table)
            put_pixel(p, k, j, score, info)
            total += term
            pixel += ROW
        add_columns(p, k, i, side)
        add_to(p, LOGLIK + k, total)


@kernel_of_lanes
def sum_followed(p, n, i, side):
    """Add line `i` of `n` regions, its scores followed from where they were read."""
    for first in range(0, n, SINGLES):
        k = np.uint64(first)
        added, light = light_of(p, k, i)
        pixel = np.uint64(i * side * LANES) + k
        for j in range(side):
            rate, _ = rate_at(p, k, i, j, side, added, light)
            inverse = ONE / most(rate, spread(_LEAST))
            score = load(p, HEIGHT + pixel) * inverse + (load(p, STEP + pixel) - ONE)
            put_pixel(p, k, j, score, load(p, KEPT_INFO + pixel) * inverse)
            pixel += ROW
        add_columns(p, k, i, side)
