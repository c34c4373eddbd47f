# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""A load of spots from start to answer: two passes side by side, or a few more.

Theory: `livespt.localize.fit`; rows and steps: `lane_kernels`. A load is `LANES` spots whose
regions and starts have been dealt to their lanes. Its last pass gives gradient, information and
likelihood at one and the same place; the step that is then still to be made is taken, and its
squared length in standard deviations says whether the spot has arrived. That step is by the
curvature with its second derivatives, which leaves a tenth of the way where scoring leaves a fifth.
Cameras with a table approach in the Poisson form, read the table at every pixel, and then follow
its score.
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
    WIDTH,
    ZERO,
    B,
    N,
    S,
    X,
    Y,
)
from livespt.vectors import address

LAST_PASSES = 3  # with the likelihood: the second and third only where many have not arrived
MOST_LEFT = 4  # one in so many
APPROACHES = 2  # with a table: Poisson passes of the first round, which the exact ones follow
ROUNDS = 4  # loads a spot may go through before it is left to the damped reference
ARRIVED = 0.09  # squared length in s.d. of the last step, which is taken
_PER_DIM = np.float32(180.0)  # more, where light is less sure than to 0.075 of it
SCORING = np.float32(9.0)  # what a scoring step's square counts, which leaves more of the way
FARTHEST = 1.0  # squared, in s.d.: a table's score is not followed farther from where it was read
LEAST_PIVOT = 3e-6  # below, float32 does not tell the parameters apart
_F = np.float32
LEAST_DATUM = _F(1e-6)


@kernel_of_lanes
def pass_poisson(w, n, side, common, last):
    """Fill the sums of `n` spots at their places; on the last pass the likelihood too."""
    p = address(w)
    rows.begin_slopes(p, n, side, common, last)
    for i in range(side):
        lines.sum_poisson(p, n, i, side, last)
        if last:
            lines.add_likelihood(p, n, i, side)
    if last:
        rows.end_shifted_poisson(w)


@kernel_of_lanes
def pass_exact(w, n, side, table, read):
    """As `pass_poisson` with score and information of the table: read here, or followed."""
    p = address(w)
    rows.begin_slopes(p, n, side, ZERO, False)
    for i in range(side):
        if read:
            tables.sum_read(p, n, i, side, table)
        else:
            tables.sum_followed(p, n, i, side)


@lanes
def take_last_step(w, bounds, bent):
    """Fill covariances, take the step, and add to the likelihood what it gains."""
    solving.fill_covariance(w, bounds[6])
    solving.widen_position(w, bounds[6])
    if bent:
        solving.take_bent_step(w, bounds)
    else:
        solving.take_step(w, bounds)
    for k in range(WIDTH):
        w[LOGLIK + k] += HALF * w[rows.DECREMENT + k]  # to second order


@lanes
def count_far(w, n, weight):
    """Return how many of `n` spots had not arrived before the step, whose square counts `weight`.

    A dim spot's counts for more.

    The covariance is that of where the step began. It goes about as the light, so that it is off by
    the step's length times the light's relative error.
    """
    for k in range(WIDTH):
        light = w[N + k]
        dim = _PER_DIM * w[solving.COV[5] + k] / (light * light)
        w[rows.DECREMENT + k] *= max(dim, weight)
    far = 0
    for k in range(np.uint64(n)):
        far += 0 if w[rows.DECREMENT + k] < ARRIVED else 1
    return far


@kernel_of_lanes
def fit_load(w, n, side, bounds, table, turn):
    """Run the passes of `n` spots in round `turn`, a few more where many have not arrived."""
    for k in range(WIDTH):
        w[rows.FOLLOWED + k] = ZERO
    if table.size:
        climb_exact(w, n, side, bounds, table, turn)
        return
    pass_poisson(w, n, side, ZERO, False)
    solving.take_step(w, bounds)
    finish_load(w, n, side, bounds)


@kernel_of_lanes
def finish_load(w, n, side, bounds):
    """Run the last passes of spots that stand near their tops, in the Poisson form."""
    for _ in range(LAST_PASSES):
        rows.begin_shifted_poisson(w)
        pass_poisson(w, n, side, ZERO, True)
        take_last_step(w, bounds, True)
        if count_far(w, n, ONE) <= n // MOST_LEFT:
            break


@lanes
def climb_exact(w, n, side, bounds, table, turn):
    """Approach in Poisson form, read the table, and follow its score."""
    for _ in range(APPROACHES if turn == 0 else 0):
        pass_poisson(w, n, side, _F(table.common), False)
        solving.take_step(w, bounds)
    rows.begin_shifted_poisson(w)
    pass_exact(w, n, side, table, True)
    take_last_step(w, bounds, False)
    for k in range(WIDTH):
        w[rows.FOLLOWED + k] = w[rows.DECREMENT + k]
    for _ in range(LAST_PASSES):
        pass_exact(w, n, side, table, False)
        take_last_step(w, bounds, False)
        if count_far(w, n, SCORING) <= n // MOST_LEFT:
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
