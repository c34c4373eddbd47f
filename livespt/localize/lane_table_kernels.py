# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""Tabulated cameras among the lanes: score and likelihood of a line, dressed as shifted Poisson.

Theory: `livespt.localize.table`; rows: `lane_kernels`. With m = E[n|c, E] and h = E I(E) of the
table, the score m/E - 1 and the information h/E are those of a Poisson pixel with mean E/h and
datum m/h, so that `lane_row_kernels` sums them unchanged. Where the table is read, spot by spot,
stands apart from the arithmetic, which runs in vector registers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from livespt.jit import kernel_of_lanes, lanes
from livespt.localize.lane_kernels import (
    ADDED,
    ALONG_X,
    LANES,
    LINE,
    LINE_MU,
    LINE_Y,
    LOGLIK,
    N_ROWS,
    ONE,
    PLACE,
    SIDE,
    TERM,
    TWO,
    WIDTH,
    ZERO,
    N,
    log,
    rows,
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


CORNERS = np.uint64(8)
LINE_Z, _at = rows(N_ROWS, SIDE)
CELL, _at = rows(_at, SIDE)
LEVEL, _at = rows(_at, SIDE)
PART_Z, _at = rows(_at, SIDE)
PART_W, _at = rows(_at, SIDE)
SLOPE, _at = rows(_at, SIDE)  # of the cell's coordinate in E
READ, _at = rows(_at, 8 * SIDE)
INFO, _at = rows(_at, 2 * SIDE)
LINE_KEPT, _at = rows(_at, 4 * SIDE)  # E, m, dm/dE and h where a line was read
KEPT, N_ROWS_TABLE = rows(_at, 4 * SIDE * SIDE)  # the same of all lines
AXIS = np.uint64(SIDE * LANES)
READ_0, READ_1, READ_2, READ_3 = (READ + np.uint64(k) * AXIS for k in range(4))
READ_4, READ_5, READ_6, READ_7 = (READ + np.uint64(k) * AXIS for k in range(4, 8))
KEPT_E, KEPT_M, KEPT_SLOPE, KEPT_H = (LINE_KEPT + np.uint64(k) * AXIS for k in range(4))
U1, U2, U3, U4 = (np.uint64(k) for k in range(1, 5))
_F = np.float32
_THREE = _F(3.0)
_LEAST = _F(1e-12)


@lanes
def fill_rates(w, side):
    """Fill the rate of every pixel of a staged line."""
    for j in range(side):
        at = np.uint64(j * LANES)
        for k in range(WIDTH):
            w[TERM + at + k] = w[N + k] * w[LINE_Y + k] * w[ALONG_X + at + k]
        for k in range(WIDTH):
            w[LINE_MU + at + k] = w[ADDED + k] + w[TERM + at + k]
    known = LINE + np.uint64(side * LANES)
    for q in range(np.uint64(side * LANES)):
        w[LINE_MU + q] = max(w[LINE_MU + q] + w[known + q], _LEAST)


@lanes
def find_cells(w, i, side, table):
    """Work out which cell of the table each pixel of a staged line lies in."""
    place = PLACE + np.uint64(i * side * LANES)
    for q in range(np.uint64(side * LANES)):
        w[LINE_Z + q] = w[place + q]
    w_min, per_w = _F(table.w_min), _F(table.per_w)
    top, n_w = _F(table.n_w) - _F(1.001), _F(table.n_w)
    for q in range(np.uint64(side * LANES)):
        rate = w[LINE_MU + q]
        root = np.sqrt(rate)
        dim = rate < ONE
        stretched = _THREE * log(rate) if dim else TWO * (root - ONE)
        at_w = min(max((stretched - w_min) * per_w, ZERO), top)
        at_z = w[LINE_Z + q]
        cell_w, cell_z = _F(np.int32(at_w)), _F(np.int32(at_z))
        w[PART_W + q] = at_w - cell_w
        w[PART_Z + q] = at_z - cell_z
        w[LEVEL + q] = cell_w
        w[CELL + q] = cell_z * n_w + cell_w
        w[SLOPE + q] = per_w * (_THREE if dim else root) / rate


@lanes
def read_cells(w, side, cells, info):
    """Read what the table holds at the corners of each pixel's cell: all loads, then all stores."""
    for q in range(np.uint64(side * LANES)):
        at = np.uint64(np.int32(w[CELL + q])) * CORNERS
        a, b, c, d = cells[at], cells[at + U1], cells[at + U2], cells[at + U3]
        at += U4
        e, f, g, h = cells[at], cells[at + U1], cells[at + U2], cells[at + U3]
        w[READ_0 + q], w[READ_1 + q], w[READ_2 + q], w[READ_3 + q] = a, b, c, d
        w[READ_4 + q], w[READ_5 + q], w[READ_6 + q], w[READ_7 + q] = e, f, g, h
    for q in range(np.uint64(side * LANES)):
        at = np.uint64(np.int32(w[LEVEL + q]))
        a, b = info[at], info[at + U1]
        w[INFO + q], w[INFO + AXIS + q] = a, b


@lanes
def corner(w, q, which):
    """Interpolate along w at both ends of the cell in z, and say how it goes on from there."""
    at = READ + np.uint64(which) * AXIS + q
    u, low, high = w[PART_W + q], w[at], w[at + AXIS + AXIS]
    step_low, step_high = w[at + AXIS] - low, w[at + AXIS + AXIS + AXIS] - high
    low, high = low + u * step_low, high + u * step_high
    v = w[PART_Z + q]
    return low + v * (high - low), step_low + v * (step_high - step_low)


@lanes
def dress(w, side):
    """Turn a staged line into the Poisson line with the score and information that were kept.

    The score is followed from where the table was read: m + dm/dE (E' - E).
    """
    known = LINE + np.uint64(side * LANES)
    for q in range(np.uint64(side * LANES)):
        rate, inverse = w[LINE_MU + q], ONE / w[KEPT_H + q]
        w[LINE + q] = (w[KEPT_M + q] + w[KEPT_SLOPE + q] * (rate - w[KEPT_E + q])) * inverse
        w[known + q] += rate * inverse - rate


@lanes
def keep(w, source, target, side):
    """Copy what is kept of a line."""
    for part in range(4):
        at, to = source + np.uint64(part) * AXIS, target + np.uint64(part) * AXIS
        for q in range(np.uint64(side * LANES)):
            w[to + q] = w[at + q]


@kernel_of_lanes
def read_line(w, i, side, table):
    """Read line `i` of the table, add its log-likelihood, keep and dress it."""
    fill_rates(w, side)
    find_cells(w, i, side, table)
    read_cells(w, side, table.cells, table.info)
    common, curve = _F(table.common), _F(table.curve)
    for q in range(np.uint64(side * LANES)):
        m, step = corner(w, q, 0)
        h = w[INFO + q] + w[PART_W + q] * (w[INFO + AXIS + q] - w[INFO + q])
        w[KEPT_E + q] = w[LINE_MU + q]
        w[KEPT_M + q] = m
        w[KEPT_SLOPE + q] = w[SLOPE + q] * step
        w[KEPT_H + q] = h
    for q in range(np.uint64(side * LANES)):
        rest, _ = corner(w, q, 4)
        root = np.sqrt(max(w[LINE + q] - common, ZERO)) - np.sqrt(w[LINE_MU + q])
        w[TERM + q] = rest - curve * root * root
    for j in range(side):
        at = TERM + np.uint64(j * LANES)
        for k in range(WIDTH):
            w[LOGLIK + k] += w[at + k]
    kept = KEPT + np.uint64(4 * i * SIDE * LANES)
    keep(w, LINE_KEPT, kept, side)
    dress(w, side)


@kernel_of_lanes
def follow_line(w, i, side):
    """Dress line `i` with what `read_line` kept of it."""
    fill_rates(w, side)
    kept = KEPT + np.uint64(4 * i * SIDE * LANES)
    keep(w, kept, LINE_KEPT, side)
    dress(w, side)
