# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""A load of spots from start to answer: three scoring passes side by side, or a few more.

Theory: `livespt.localize.fit`; rows and steps: `lane_kernels`. A load is `LANES` spots whose
regions and starts have been dealt to their lanes. Its last pass gives gradient, information and
likelihood at one and the same place; the step that is then still to be made is taken, and its
squared length in standard deviations says whether the spot has arrived. Cameras with a table
approach in the Poisson form, read the table at every pixel, and then follow its score.
"""

from __future__ import annotations

import math

import numpy as np

from livespt.jit import kernel_of_lanes, lanes
from livespt.localize import lane_kernels as rows
from livespt.localize import lane_row_kernels as lines
from livespt.localize import lane_solve_kernels as solving
from livespt.localize import lane_table_kernels as tables
from livespt.localize.lane_kernels import (
    HALF,
    LANES,
    LOGLIK,
    ONE,
    PIXELS,
    PLACE,
    SINGLE,
    SUMS,
    WIDTH,
    ZERO,
    B,
    N,
    S,
    X,
    Y,
)

PASSES = 3
LAST_PASSES = 3  # with the likelihood: the second and third only where many have not arrived
MOST_LEFT = LANES // 4
APPROACHES = 2  # with a table: Poisson passes of the first round, which the exact ones follow
ROUNDS = 4  # loads a spot may go through before it is left to the damped reference
ARRIVED = 1e-2  # squared length in s.d. of the last step, which is taken
FARTHEST = 1.0  # squared, in s.d.: a table's score is not followed farther from where it was read
LEAST_PIVOT = 3e-6  # below, float32 does not tell the parameters apart
_F = np.float32
_ONE_AND_HALF, _QUARTER, _TWO_THIRDS = _F(1.5), _F(0.25), _F(2 / 3)
_TEN, _LEAST_BG, _TWO_PI = _F(10.0), _F(0.05), _F(2.0 * math.pi)
LEAST_DATUM, _TOP = _F(1e-6), _F(1e30)


@kernel_of_lanes
def pass_poisson(w, side, common, last):
    """Fill the sums of every spot at its place; on the last pass the likelihood too."""
    rows.begin_slopes(w, side, common)
    for i in range(side):
        rows.stage(w, i, side)
        lines.sum_line(w, side)
        if last:
            rows.add_shifted_poisson(w, side)
    if last:
        rows.end_shifted_poisson(w)


@kernel_of_lanes
def pass_exact(w, side, table, read):
    """As `pass_poisson` with score and information of the table: read here, or followed."""
    rows.begin_slopes(w, side, ZERO)
    for i in range(side):
        rows.stage(w, i, side)
        if read:
            tables.read_line(w, i, side, table)
        else:
            tables.follow_line(w, i, side)
        lines.sum_line(w, side)


@lanes
def take_last_step(w, bounds):
    """Fill covariances, take the step, and return how many spots had not arrived before it."""
    solving.fill_covariance(w, bounds[6])
    solving.widen_position(w, bounds[6])
    solving.take_step(w, bounds)
    n = 0
    for k in range(WIDTH):
        w[LOGLIK + k] += HALF * w[rows.DECREMENT + k]  # what the step gains, to second order
        n += 0 if w[rows.DECREMENT + k] < ARRIVED else 1
    return n


@kernel_of_lanes
def fit_load(w, side, bounds, table, turn):
    """Run the passes of a load in its round `turn`, a few more where many have not arrived."""
    for k in range(WIDTH):
        w[rows.FOLLOWED + k] = ZERO
    if table.size:
        climb_exact(w, side, bounds, table, turn)
        return
    for _ in range(PASSES - 1):
        pass_poisson(w, side, ZERO, False)
        solving.take_step(w, bounds)
    for _ in range(LAST_PASSES):
        rows.begin_shifted_poisson(w)
        pass_poisson(w, side, ZERO, True)
        if take_last_step(w, bounds) <= MOST_LEFT:
            break


@lanes
def climb_exact(w, side, bounds, table, turn):
    """Approach in Poisson form, read the table, and follow its score."""
    for _ in range(APPROACHES if turn == 0 else 0):
        pass_poisson(w, side, _F(table.common), False)
        solving.take_step(w, bounds)
    rows.begin_shifted_poisson(w)
    pass_exact(w, side, table, True)
    take_last_step(w, bounds)
    for k in range(WIDTH):
        w[rows.FOLLOWED + k] = w[rows.DECREMENT + k]
    for _ in range(LAST_PASSES):
        pass_exact(w, side, table, False)
        if take_last_step(w, bounds) <= MOST_LEFT:
            break


@lanes
def deal(w, lane, side, which):
    """Give one half of `SINGLE` (0 data, 1 known rates) to a lane."""
    at = SINGLE + np.uint64(which * side * side)
    to = PIXELS + np.uint64(which * side * LANES + lane)
    for _ in range(side):
        for _ in range(side):
            w[to] = w[at]
            to += np.uint64(LANES)
            at += np.uint64(1)
        to += np.uint64(side * LANES)


@lanes
def deal_places(w, lane, side, adu, table):
    """Give one spot's places on the table's first axis to its lane."""
    to = PLACE + np.uint64(lane)
    for q in range(side * side):
        w[to] = table.place[adu[q]]
        to += np.uint64(LANES)


@lanes
def start_lane(w, lane, start, low_x, high_x, low_y, high_y):
    """Give one spot's start and the bounds of its position to its lane."""
    at = np.uint64(lane)
    w[X + at], w[Y + at], w[N + at] = _F(start[0]), _F(start[1]), _F(start[2])
    w[B + at], w[S + at] = _F(start[3]), _F(start[4])
    w[rows.LOW_X + at], w[rows.HIGH_X + at] = _F(low_x), _F(high_x)
    w[rows.LOW_Y + at], w[rows.HIGH_Y + at] = _F(low_y), _F(high_y)


@lanes
def limits_of(bounds):
    """Return bounds (2, 5) as `take_step` wants them."""
    return (
        _F(bounds[0, 2]),
        _F(bounds[1, 2]),
        _F(bounds[0, 3]),
        _F(bounds[1, 3]),
        _F(bounds[0, 4]),
        _F(bounds[1, 4]),
        ONE if bounds[1, 4] > bounds[0, 4] else ZERO,
    )


@lanes
def usable(w, lane):
    """Say whether a lane's parameters are finite."""
    at = np.uint64(lane)
    return math.isfinite(w[X + at] + w[Y + at] + w[N + at] + w[B + at] + w[S + at])


@lanes
def arrived(w, lane):
    """Say whether a lane's spot has converged to finite numbers that are told apart."""
    at = np.uint64(lane)
    total = w[LOGLIK + at] + w[solving.COV[0] + at] + w[solving.COV[2] + at]
    done = w[rows.DECREMENT + at] < ARRIVED and w[rows.FOLLOWED + at] < FARTHEST
    done = done and w[rows.PIVOT + at] > LEAST_PIVOT
    return done and math.isfinite(total) and usable(w, lane)


@lanes
def collect(w, lane, theta, covariance):
    """Copy a lane's answer out; return its log-likelihood."""
    at = np.uint64(lane)
    theta[0], theta[1], theta[2] = w[X + at], w[Y + at], w[N + at]
    theta[3], theta[4] = w[B + at], w[S + at]
    place = rows.COVARIANCE + at
    for a in range(5):
        for b in range(a + 1):
            covariance[a, b] = w[place]
            covariance[b, a] = w[place]
            place += np.uint64(LANES)
    return w[LOGLIK + at]


@lanes
def gather_border(w, side, common, limit):
    """Fill mean and s.d. of the border pixels below `limit` (a row; none the first time)."""
    total, square, count = SUMS, SUMS + rows.ROW, SUMS + rows.ROW + rows.ROW
    for k in range(WIDTH):
        w[total + k] = ZERO
        w[square + k] = ZERO
        w[count + k] = ZERO
    for i in range(side):
        step = 1 if i in (0, side - 1) else side - 1
        for j in range(0, side, step):
            at = PIXELS + np.uint64((2 * i * side + j) * LANES)
            known = at + np.uint64(side * LANES)
            for k in range(WIDTH):
                value = w[at + k] - w[known + k] - common
                inside = value <= w[limit + k]
                value = value if inside else ZERO
                w[total + k] += value
                w[square + k] += value * value
                w[count + k] += ONE if inside else ZERO
    for k in range(WIDTH):
        n = ONE / max(w[count + k], ONE)
        mean = w[total + k] * n
        spread = max(w[square + k] * n - mean * mean, _QUARTER)
        w[total + k] = mean
        w[limit + k] = mean + rows.TWO * np.sqrt(spread)


@kernel_of_lanes
def guess_load(w, side, width, common, window):
    """Fill the starts of a load: border light without its bright pixels, then a centroid.

    What the border has of the spot's own light is taken off, as for a spot in the middle.

    `window` (P * P,) is a Gaussian of twice the spot's variance about the region's middle; under
    it a Gaussian spot's centroid is two thirds of its distance.
    """
    limit, bg = SUMS + rows.ROW * np.uint64(3), SUMS
    for k in range(WIDTH):
        w[limit + k] = _TOP
    gather_border(w, side, common, limit)
    gather_border(w, side, common, limit)
    light, to_x, to_y = (
        limit + rows.ROW,
        limit + rows.ROW * np.uint64(2),
        limit + rows.ROW * np.uint64(3),
    )
    for k in range(WIDTH):
        w[light + k] = ZERO
        w[to_x + k] = ZERO
        w[to_y + k] = ZERO
    middle = HALF * _F(side - 1)
    for i in range(side):
        dy = _F(i) - middle
        for j in range(side):
            at = PIXELS + np.uint64((2 * i * side + j) * LANES)
            known = at + np.uint64(side * LANES)
            weight, dx = window[i * side + j], _F(j) - middle
            for k in range(WIDTH):
                value = weight * (w[at + k] - w[known + k] - common - w[bg + k])
                w[light + k] += value
                w[to_x + k] += value * dx
                w[to_y + k] += value * dy
    under, stray = window_sums(window, side, width)
    per_light = ONE / max(_TWO_THIRDS - stray * under, _QUARTER)
    for k in range(WIDTH):
        photons = max(w[light + k] * per_light, _TEN)
        per = _ONE_AND_HALF * _ONE_AND_HALF / photons
        w[X + k] = middle + min(max(per * w[to_x + k], -rows.TWO), rows.TWO)
        w[Y + k] = middle + min(max(per * w[to_y + k], -rows.TWO), rows.TWO)
        w[N + k] = photons
        w[B + k] = max(w[bg + k] - photons * stray, _LEAST_BG)
        w[S + k] = width


@lanes
def window_sums(window, side, width):
    """Return the window's sum, and the share of a middling spot's light per pixel of the border.

    The spot goes as the window's square.
    """
    under, stray = ZERO, ZERO
    at, last = np.uint64(0), side - 1
    for i in range(side):
        for j in range(side):
            share = window[at]
            border = i in (0, last) or j in (0, last)
            under += share
            stray += share * share if border else ZERO
            at += np.uint64(1)
    return under, stray / (_TWO_PI * width * width * _F(4 * side - 4))


@lanes
def load_region(w, adu, gain, offset, var, common):
    """Turn one region's counts into data and known rates in `SINGLE`; True where not to be trusted.

    Arrays (P * P,) each; `common` is the part of `var` that the background takes.
    """
    n = np.uint64(adu.size)
    lowest, highest = np.int32(65535), np.int32(0)
    for q in range(n):
        value = np.int32(adu[q])
        lowest, highest = min(lowest, value), max(highest, value)
        v = var[q]
        electrons = (_F(value) - offset[q]) / gain[q]
        w[SINGLE + q] = max(electrons + v, LEAST_DATUM)
        w[SINGLE + n + q] = v - common
    return highest >= 65535 or lowest == highest
