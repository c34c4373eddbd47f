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
    WIDTH,
    ZERO,
    B,
    N,
    S,
    X,
    Y,
)
from livespt.vectors import SINGLES, address, least, load, most, pick, root, spread, store

PASSES = 3
LAST_PASSES = 3  # with the likelihood: the second and third only where many have not arrived
MOST_LEFT = 4  # one in so many
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
def pass_poisson(w, n, side, common, last):
    """Fill the sums of `n` spots at their places; on the last pass the likelihood too."""
    p = address(w)
    rows.begin_slopes(p, n, side, common)
    for i in range(side):
        lines.sum_poisson(p, n, i, side)
        if last:
            lines.add_likelihood(p, n, i, side)
    if last:
        rows.end_shifted_poisson(w)


@kernel_of_lanes
def pass_exact(w, n, side, table, read):
    """As `pass_poisson` with score and information of the table: read here, or followed."""
    p = address(w)
    rows.begin_slopes(p, n, side, ZERO)
    for i in range(side):
        if read:
            tables.sum_read(p, n, i, side, table)
        else:
            tables.sum_followed(p, n, i, side)


@lanes
def take_last_step(w, n, bounds):
    """Fill covariances, take the step, and return how many of `n` had not arrived before it."""
    solving.fill_covariance(w, bounds[6])
    solving.widen_position(w, bounds[6])
    solving.take_step(w, bounds)
    far = 0
    for k in range(WIDTH):
        w[LOGLIK + k] += HALF * w[rows.DECREMENT + k]  # what the step gains, to second order
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
    for _ in range(PASSES - 1):
        pass_poisson(w, n, side, ZERO, False)
        solving.take_step(w, bounds)
    for _ in range(LAST_PASSES):
        rows.begin_shifted_poisson(w)
        pass_poisson(w, n, side, ZERO, True)
        if take_last_step(w, n, bounds) <= n // MOST_LEFT:
            break


@lanes
def climb_exact(w, n, side, bounds, table, turn):
    """Approach in Poisson form, read the table, and follow its score."""
    for _ in range(APPROACHES if turn == 0 else 0):
        pass_poisson(w, n, side, _F(table.common), False)
        solving.take_step(w, bounds)
    rows.begin_shifted_poisson(w)
    pass_exact(w, n, side, table, True)
    take_last_step(w, n, bounds)
    for k in range(WIDTH):
        w[rows.FOLLOWED + k] = w[rows.DECREMENT + k]
    for _ in range(LAST_PASSES):
        pass_exact(w, n, side, table, False)
        if take_last_step(w, n, bounds) <= n // MOST_LEFT:
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
def seen(p, k, i, j, side, common):
    """Return a pixel's light without what is known."""
    at = PIXELS + np.uint64((2 * i * side + j) * LANES) + k
    return load(p, at) - load(p, at + np.uint64(side * LANES)) - common


@lanes
def add_border(value, limit, t):
    """Add a pixel of the border that is not above `limit` to count, sum and sum of squares."""
    count, total, square = t
    nothing = spread(ZERO)
    count += pick(limit, value, nothing, spread(ONE))
    value = pick(limit, value, nothing, value)
    return count, total + value, square + value * value


@lanes
def border_mean(p, k, side, common, limit):
    """Return mean and s.d. of the border pixels that are not above `limit`."""
    nothing = spread(ZERO)
    s, t, last = (nothing, nothing, nothing), (nothing, nothing, nothing), side - 1
    for j in range(side):
        s = add_border(seen(p, k, 0, j, side, common), limit, s)
        t = add_border(seen(p, k, last, j, side, common), limit, t)
    for i in range(1, last):
        s = add_border(seen(p, k, i, 0, side, common), limit, s)
        t = add_border(seen(p, k, i, last, side, common), limit, t)
    n = ONE / most(s[0] + t[0], spread(ONE))
    mean = (s[1] + t[1]) * n
    return mean, root(most((s[2] + t[2]) * n - mean * mean, spread(_QUARTER)))


@kernel_of_lanes
def guess_load(w, n, side, width, common, window):
    """Fill the starts of a load: border light without its bright pixels, then a centroid.

    What the border has of the spot's own light is taken off, as for a spot in the middle.

    `window` (P * P,) is a Gaussian of twice the spot's variance about the region's middle; under
    it a Gaussian spot's centroid is two thirds of its distance.
    """
    p, middle = address(w), HALF * _F(side - 1)
    under, stray = window_sums(window, side, width)
    per_light = ONE / max(_TWO_THIRDS - stray * under, _QUARTER)
    for first in range(0, n, SINGLES):
        k = np.uint64(first)
        bg, sd = border_mean(p, k, side, common, spread(_TOP))
        bg, sd = border_mean(p, k, side, common, bg + rows.TWO * sd)
        light, to_x, to_y = spread(ZERO), spread(ZERO), spread(ZERO)
        for i in range(side):
            line, along = spread(ZERO), spread(ZERO)
            for j in range(side):
                value = window[i * side + j] * (seen(p, k, i, j, side, common) - bg)
                line += value
                along += value * (_F(j) - middle)
            light += line
            to_x += along
            to_y += line * (_F(i) - middle)
        photons = most(light * per_light, spread(_TEN))
        per = _ONE_AND_HALF * _ONE_AND_HALF / photons
        store(p, X + k, middle + within_two(per * to_x))
        store(p, Y + k, middle + within_two(per * to_y))
        store(p, N + k, photons)
        store(p, B + k, most(bg - photons * stray, spread(_LEAST_BG)))
        store(p, S + k, spread(width))


@lanes
def within_two(v):
    """Return numbers cut to +-2."""
    return least(most(v, spread(-rows.TWO)), spread(rows.TWO))


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
