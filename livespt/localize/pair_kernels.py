# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""One spot or two? All suspicious spots of one frame (theory: `livespt.localize.pair`)."""

from __future__ import annotations

import math

from livespt.jit import kernel
from livespt.localize import column_kernels as columns
from livespt.localize import frame_kernels as frame
from livespt.localize.column_kernels import WIDE, B, N, S, X, Y
from livespt.localize.seven_kernels import BG, OVAL, PAIR, K, climb, fill, invert, sum_slopes


@kernel
def set_bounds(kind, bounds, sigma, side, work):
    """Fill the lowest and highest parameters; `bounds` (2, 5) are those of a single spot."""
    for end in range(2):
        limit = work.vectors[2 + end]
        limit[0] = limit[3] = bounds[end, X]
        limit[1] = limit[4] = bounds[end, Y]
        limit[2] = limit[5] = bounds[end, N]
        limit[BG] = bounds[end, B]
        if kind == OVAL:
            limit[3] = limit[4] = 0.25 * side * side if end else 0.16 * sigma * sigma
            limit[5] = (2.0 * end - 1.0) * side * side


@kernel
def fit_oval(single, bounds, sigma, side, region, table, work):
    """Fit one elliptic spot from the round one `single`, into `vectors[7]`; return ln L."""
    oval = work.vectors[7]
    set_bounds(OVAL, bounds, sigma, side, work)
    oval[0], oval[1], oval[2] = single[X], single[Y], single[N]
    oval[3] = oval[4] = single[S] * single[S]
    oval[5], oval[BG] = 0.0, single[B]
    return climb(OVAL, oval, sigma, side, region, table, work)[0]


@kernel
def peak_left(single, side, region, gain, work):
    """Return where the residual of the rates in `rows`, smoothed over 3 x 3, is highest."""
    top, x, y = -1e300, single[X], single[Y]
    for i in range(1, side - 1):
        for j in range(1, side - 1):
            total = 0.0
            for di in range(-1, 2):
                for dj in range(-1, 2):
                    at = (i + di) * WIDE + j + dj
                    total += region.signal[at] / gain - work.rows[0, at]
            if total > top:
                top, x, y = total, float(j), float(i)
    return x, y


@kernel
def start_pair(turn, single, oval, sigma, start):
    """Fill a start: along the oval's long axis, equal, or seven to three either way."""
    mean, half = 0.5 * (oval[3] + oval[4]), 0.5 * (oval[3] - oval[4])
    root = math.sqrt(half * half + oval[5] * oval[5])
    angle = 0.5 * math.atan2(oval[5], half)
    apart = math.sqrt(max(mean + root - sigma * sigma, 0.16 * sigma * sigma))
    share = (0.5, 0.7, 0.3)[turn]
    dx, dy = apart * math.cos(angle), apart * math.sin(angle)
    # the centroid stays, and so does the second moment along the axis
    one, other = math.sqrt((1.0 - share) / share), math.sqrt(share / (1.0 - share))
    start[0], start[1], start[2] = oval[0] + one * dx, oval[1] + one * dy, share * oval[2]
    start[3], start[4], start[5] = (
        oval[0] - other * dx,
        oval[1] - other * dy,
        (1.0 - share) * oval[2],
    )
    start[BG] = oval[BG]


@kernel
def fit_pair(single, bounds, sigma, side, region, gain, table, work, theta, covariance):
    """Fit two spots where one was fitted; return (ln L of the pair, of the oval, converged)."""
    oval, start = work.vectors[7], work.vectors[4]
    one = fit_oval(single, bounds, sigma, side, region, table, work)
    fill(OVAL, oval, sigma, side, region.extra, work)
    x, y = peak_left(single, side, region, gain, work)
    set_bounds(PAIR, bounds, sigma, side, work)
    best, good = -1e300, False
    for turn in range(4):
        if turn < 3:
            start_pair(turn, single, oval, sigma, start)
        else:
            start[0], start[1], start[2] = single[X], single[Y], 0.75 * single[N]
            start[3], start[4], start[5] = x, y, 0.25 * single[N]
            start[BG] = single[B]
        for a in range(K):
            start[a] = min(max(start[a], work.vectors[2][a]), work.vectors[3][a])
        value, converged = climb(PAIR, start, sigma, side, region, table, work)
        if value > best:
            best, good = value, converged
            columns.copy(start, theta)
    fill(PAIR, theta, sigma, side, region.extra, work)
    sum_slopes(side, region, table, work)
    return best, one, good and invert(work, covariance)


@kernel
def light_of_others(theta, k, y0, x0, side, reach, scratch, extra):
    """Fill `extra` with the light of all spots of the frame but `k`."""
    columns.set_all(extra, 0.0)
    far = 0.5 * side + reach
    for other in range(theta.shape[0]):
        near_x = abs(theta[other, X] - (x0 + 0.5 * (side - 1))) < far
        near_y = abs(theta[other, Y] - (y0 + 0.5 * (side - 1))) < far
        if other != k and near_x and near_y:
            frame.add_light(theta[other], y0, x0, side, scratch, extra)


@kernel
def two_there(theta, covariance, sigma, least):
    """Say whether both spots shine significantly and lie apart."""
    dx, dy = theta[0] - theta[3], theta[1] - theta[4]
    lit = theta[2] > least * math.sqrt(max(covariance[2, 2], 0.0))
    lit = lit and theta[5] > least * math.sqrt(max(covariance[5, 5], 0.0))
    return lit and dx * dx + dy * dy > sigma * sigma


@kernel
def split_spots(adu, which, fits, maps, table, per_z, bounds, side, rule, spaces, out):
    """Try two spots for the rows `which` of a frame's fits.

    `rule` is (width, ln L to gain, the same per photon, photons in their s.d.), `spaces` (region,
    scratch, work), `out` (theta (m, 7) in frame pixels, covariance (m, 7, 7), ln L (m,),
    split (m,)).
    """
    region, scratch, work = spaces
    thetas, covariances, logliks, split = out
    sigma, gain_asked, per_photon, least = rule
    limits, single = work.limits, work.single
    for m in range(which.size):
        k = which[m]
        y0, x0 = fits.origin[k, 0], fits.origin[k, 1]
        light_of_others(fits.theta, k, y0, x0, side, frame.REACH * sigma, scratch, region.extra)
        split[m] = False
        if frame.cut(adu, maps, y0, x0, side, table, per_z, region):
            continue
        columns.copy(fits.theta[k], single)
        single[X] -= x0
        single[Y] -= y0
        for end in range(2):
            columns.copy(bounds[end], limits[end])
            stray = (2.0 * end - 1.0) * 3.0 * sigma
            limits[end, X] = min(max(single[X] + stray, -0.5), side - 0.5)
            limits[end, Y] = min(max(single[Y] + stray, -0.5), side - 0.5)
        gain = maps[0][0, 0] if maps[0].size == 1 else maps[0][y0 + side // 2, x0 + side // 2]
        theta, covariance = thetas[m], covariances[m]
        pair, oval, good = fit_pair(
            single, limits, sigma, side, region, gain, table, work, theta, covariance
        )
        logliks[m] = pair
        asked = gain_asked + per_photon * (theta[2] + theta[5])
        better = pair - max(oval, fits.loglik[k]) > asked
        split[m] = good and better and two_there(theta, covariance, sigma, least)
        for s in range(2):
            theta[3 * s] += x0
            theta[3 * s + 1] += y0
