# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""Many regions without starts: counts to the lanes, fits, and results as they are handed on.

Theory: `livespt.localize.fit`; rows: `lane_kernels`; a load's fit: `lane_fit_kernels`. Where all
regions share the camera's maps, counts are dealt as they come and turned into electrons side by
side; regions with maps of their own are turned into electrons one by one and then dealt.

A result is a row of `fit.FIT_DTYPE`, seen here as numbers in float64 and once more as bytes: it is
written once, while its load is at hand, for a further pass over all rows costs as much as a fit's.
"""

from __future__ import annotations

import math

import numpy as np

from livespt.jit import kernel, kernel_of_lanes, lanes
from livespt.localize import lane_fit_kernels as fits
from livespt.localize import lane_kernels as rows
from livespt.localize.fit_kernels import BAD_WIDTH, DIM, DIM_SDS, OK, OUT_OF_REGION, SATURATED
from livespt.localize.lane_kernels import (
    COUNTS,
    HALF,
    HIGHEST,
    LANES,
    LOWEST,
    ONE,
    PIXELS,
    PLACE,
    ROW,
    SINGLE,
    STATE,
    WIDTH,
    ZERO,
    B,
    N,
    S,
    X,
    Y,
)
from livespt.localize.lane_solve_kernels import COV
from livespt.localize.lane_start_kernels import guess_load
from livespt.vector_rows import deal_counts, fetch_line, load_counts, write_rows
from livespt.vectors import SINGLES, address, least, load, most, spread, store

# where a result's fields stand among its numbers, and the byte of its status
X_AT, Y_AT, N_AT, B_AT, S_AT = (np.uint64(k) for k in range(5))
COVARIANCE, LOGLIK, STATUS = np.uint64(5), np.uint64(30), np.uint64(31)
MAJOR, MINOR, ANGLE, ASYMMETRIC, LOG_PRIOR = (np.uint64(k) for k in range(32, 37))
STATUS_BYTE = np.uint64(8 * 31)
_1 = np.uint64(1)
_F = np.float32
_HALF_WORD = np.uint64(2)  # two counts a float32
_TOP_COUNT = _F(65535.0)
PENDING = _F(-1.0)
_OK, _DIM, _SATURATED = _F(OK), _F(DIM), _F(SATURATED)
_OUT_OF_REGION, _BAD_WIDTH = _F(OUT_OF_REGION), _F(BAD_WIDTH)
_SDS, _INSIDE_LOW, _INSIDE_HIGH = _F(DIM_SDS), _F(1.001), _F(0.999)
_ARRIVED, _FARTHEST, _LEAST_PIVOT = _F(fits.ARRIVED), _F(fits.FARTHEST), _F(fits.LEAST_PIVOT)


@kernel_of_lanes
def deal_regions(w, adu, taken):
    """Deal the counts of the regions `taken`, sixteen of sixteen; idle lanes repeat the last."""
    n, counts, row = adu.shape[1], w.view(np.uint16), np.uint64(LANES)
    for first in range(0, taken.size, SINGLES):
        to = COUNTS * _HALF_WORD + np.uint64(first)
        for part in range(0, n, SINGLES):
            column = min(part, n - SINGLES)  # the last part begins within the one before
            deal_counts(adu, taken, first, column, counts, (to + np.uint64(column) * row, row))


@kernel_of_lanes
def load_regions(w, taken, side, offset, var):
    """Turn the counts that were dealt into data, and note the extremes; 1/gain is in `SINGLE`."""
    p, counts = address(w), w.view(np.uint16)
    for first in range(0, taken.size, SINGLES):
        k = np.uint64(first)
        at, to, pixel = COUNTS * _HALF_WORD + k, PIXELS + k, np.uint64(0)
        low, high = spread(_TOP_COUNT), spread(ZERO)
        for _ in range(side):
            for _ in range(side):
                count = load_counts(counts, at)
                data = (count - offset[pixel]) * w[SINGLE + pixel] + var[pixel]
                store(p, to, most(data, spread(fits.LEAST_DATUM)))
                low, high = least(low, count), most(high, count)
                at += ROW
                to += ROW
                pixel += _1
            to += np.uint64(side * LANES)
        store(p, LOWEST + k, low)
        store(p, HIGHEST + k, high)


@lanes
def load_places(w, n, place):
    """Look up where the counts that were dealt lie on the table's first axis."""
    counts = w.view(np.uint16)
    at = COUNTS * _HALF_WORD
    for q in range(np.uint64(n * LANES)):
        w[PLACE + q] = place[counts[at + q]]


@lanes
def share_maps(w, gain, var, side, common):
    """Fill what all regions have in common: 1/gain, and the known rates of all lanes."""
    for q in range(side * side):
        w[SINGLE + np.uint64(q)] = ONE / gain[q]
        at = PIXELS + np.uint64((2 * (q // side) * side + side + q % side) * LANES)
        for k in range(WIDTH):
            w[at + k] = var[q] - common


@kernel_of_lanes
def load_alone(w, adu, maps, taken, side, table):
    """Load regions that have maps of their own, one by one."""
    for lane in range(LANES):
        k = taken[min(lane, taken.size - 1)]
        bad = fits.load_region(w, adu[k], maps[0, k], maps[1, k], maps[2, k], _F(table.common))
        at = np.uint64(lane)
        w[LOWEST + at], w[HIGHEST + at] = ZERO, _TOP_COUNT if bad else ONE
        fits.deal(w, lane, side, 0)
        fits.deal(w, lane, side, 1)
        if table.size:
            fits.deal_places(w, lane, side, adu[k], table)


@kernel_of_lanes
def judge_load(w, side, limits):
    """Fill the `FitStatus` of every lane, or `PENDING`; the gravest reason wins.

    As `fit_kernels.judge`, without branches.
    """
    low, high, free_s = limits[4] * _INSIDE_LOW, limits[5] * _INSIDE_HIGH, limits[6]
    far = _F(side) - HALF
    for k in range(WIDTH):
        x, y, n, s = w[X + k], w[Y + k], w[N + k], w[S + k]
        found = _OK if n >= _SDS * np.sqrt(max(w[COV[5] + k], ZERO)) else _DIM
        found = found if ((low < s) & (s < high)) | (free_s == ZERO) else _BAD_WIDTH
        inside = (x >= -HALF) & (x <= far) & (y >= -HALF) & (y <= far)
        found = found if inside else _OUT_OF_REGION
        spoilt = (w[HIGHEST + k] >= _TOP_COUNT) | (w[LOWEST + k] == w[HIGHEST + k])
        w[STATE + k] = _SATURATED if spoilt else found
    for k in range(WIDTH):
        total = w[rows.LOGLIK + k] + w[COV[0] + k] + w[COV[2] + k]
        total = total + (w[X + k] + w[Y + k] + w[N + k] + w[B + k] + w[S + k])
        done = (w[rows.DECREMENT + k] < _ARRIVED) & (w[rows.FOLLOWED + k] < _FARTHEST)
        done = done & (w[rows.PIVOT + k] > _LEAST_PIVOT) & (total - total == ZERO)
        w[STATE + k] = w[STATE + k] if done else PENDING


@kernel_of_lanes
def write_load(w, side, taken, numbers):
    """Write the answers of all lanes: positions from the region's middle, and both widths.

    As the fields follow one another, eight numbers of sixteen spots at a time.
    """
    p, middle = address(w), HALF * _F(side - 1)
    for first in range(0, taken.size, SINGLES):
        k, none = np.uint64(first), spread(ZERO)
        x, y = load(p, X + k) - middle, load(p, Y + k) - middle
        n, b, s = load(p, N + k), load(p, B + k), load(p, S + k)
        xx, xy, yy = load(p, COV[0] + k), load(p, COV[1] + k), load(p, COV[2] + k)
        xn, yn, nn = load(p, COV[3] + k), load(p, COV[4] + k), load(p, COV[5] + k)
        xb, yb, nb = load(p, COV[6] + k), load(p, COV[7] + k), load(p, COV[8] + k)
        bb, xs, ys = load(p, COV[9] + k), load(p, COV[10] + k), load(p, COV[11] + k)
        ns, bs, ss = load(p, COV[12] + k), load(p, COV[13] + k), load(p, COV[14] + k)
        write_rows(numbers, taken, first, 0, (x, y, n, b, s, xx, xy, xn))
        write_rows(numbers, taken, first, 8, (xb, xs, xy, yy, yn, yb, ys, xn))
        write_rows(numbers, taken, first, 16, (yn, nn, nb, ns, xb, yb, nb, bb))
        write_rows(numbers, taken, first, 24, (bs, xs, ys, ns, bs, ss, none, none))
        loglik = load(p, rows.LOGLIK + k)
        write_rows(numbers, taken, first, 29, (ss, loglik, none, s, s, none, none, none))


@kernel
def note_trouble(k, status, numbers, bytes_):
    """Note that a fit is not good, and let no number out that is none."""
    for a in range(STATUS):
        numbers[k, a] = numbers[k, a] if math.isfinite(numbers[k, a]) else 0.0
    bytes_[k, STATUS_BYTE] = status


@kernel_of_lanes
def hand_over(w, side, bounds, taken, left, pending, out):
    """Write the answers of a load; return how many spots are still pending."""
    numbers, bytes_ = out
    judge_load(w, side, fits.limits_of(bounds))
    write_load(w, side, taken, numbers)
    if bounds[0, 4] == bounds[1, 4]:
        for k in taken:  # as given, not as float32 holds it
            numbers[k, 4] = numbers[k, 32] = numbers[k, 33] = bounds[0, 4]
    for lane in range(taken.size):
        state = w[STATE + np.uint64(lane)]
        if state == PENDING:
            pending[left] = taken[lane]
            left += 1
        elif state != _OK:
            note_trouble(taken[lane], np.uint8(state), numbers, bytes_)
    return left


@kernel
def start_load(w, side, taken, numbers):
    """Start every lane where its spot had come; idle lanes repeat the last."""
    middle = 0.5 * (side - 1)
    for lane in range(LANES):
        at, k = np.uint64(lane), taken[min(lane, taken.size - 1)]
        w[X + at], w[Y + at] = _F(numbers[k, 0] + middle), _F(numbers[k, 1] + middle)
        w[N + at], w[B + at], w[S + at] = _F(numbers[k, 2]), _F(numbers[k, 3]), _F(numbers[k, 4])


@kernel
def fit_lanes(adu, maps, table, start, bounds, w, pending, out):
    """Fit regions (n, P*P) without starts; return how many did not arrive.

    `maps` (3, n or 1, P*P) gain, offset, variance; `bounds` (2, 5) float64; `pending` (n,) int64
    receives the spots that did not arrive. `out` is the results (n, 37) float64, and the same
    memory as (n, 296) uint8: indexed throughout, since a view of a row is counted, twice.
    """
    n, side = adu.shape[0], int(math.sqrt(adu.shape[1]) + 0.5)
    limits, common, shared = fits.limits_of(bounds), _F(table.common), maps.shape[1] == 1
    for k in range(n):
        pending[k] = k
    for lane in range(LANES):
        fits.start_lane(w, lane, bounds[0], bounds[0, 0], bounds[1, 0], bounds[0, 1], bounds[1, 1])
    if shared:
        share_maps(w, maps[0, 0], maps[2, 0], side, common)
    for turn in range(fits.ROUNDS):
        left = 0
        for first in range(0, n, LANES):
            taken = pending[first : min(first + LANES, n)]
            for k in taken:
                fetch_line(out[0], k)
            if shared:
                deal_regions(w, adu, taken)
                load_regions(w, taken, side, maps[1, 0], maps[2, 0])
                if table.size:
                    load_places(w, side * side, table.place)
            else:
                load_alone(w, adu, maps, taken, side, table)
            if turn == 0:
                guess_load(w, taken.size, side, common, start)
            else:
                start_load(w, side, taken, out[0])
            if turn == 1 and not table.size:  # nearly there
                fits.finish_load(w, taken.size, side, limits)
            else:
                fits.fit_load(w, taken.size, side, limits, table, turn)
            left = hand_over(w, side, bounds, taken, left, pending, out)
        n = left
    return n
