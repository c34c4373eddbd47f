# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""Fits at predicted places (theory: `livespt.localize.guided`).

Symbols: theta = (x, y, N, b, sigma) in pixels of the frame; ``modes[i, k] = (w, x, y, vxx, vxy,
vyy)`` the prior of prediction i, a Gaussian mixture; A its precision and a its gradient at x.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from livespt.jit import inlined, kernel
from livespt.localize import table_kernels as tables
from livespt.localize.column_kernels import (
    ALONG_X,
    ALONG_Y,
    SCORE,
    WEIGHT,
    WIDE,
    B,
    N,
    S,
    X,
    Y,
    copy,
    loglik,
    profiles,
    row,
    set_all,
    slopes,
)
from livespt.localize.fit_kernels import factorise, hold_at_bounds, move, solve
from livespt.localize.frame_kernels import REACH, add_light, cut

SCAN_SIDE = 15  # pixels looked at for the start
GRID = 13  # places a side of the scan
STEPS = 15
TOLERANCE = 1e-4  # squared length of the last step, in standard deviations
FOUND, EMPTY, SKIPPED = 0, 1, 2
LN_2PI = math.log(2.0 * math.pi)
#: A likelihood whose centre lies so many of its own s.d. from the optimum is no Gaussian there.
FAR_SITE = 6.0
#: Where there is no molecule, P(evidence ratio > r) = kappa / r, kappa = exp(LN_KAPPA - KAPPA_SLOPE d)
#: with d the photons expected over their s.d. on background alone (measured, see the theory).
LN_KAPPA, KAPPA_SLOPE = -2.2, 0.22


class Asked(NamedTuple):
    """Predictions to be looked at, in pixels of the frame and photons."""

    modes: np.ndarray  # (n, K, 6)
    photons: np.ndarray  # (n, 2): mean and s.d. of the prior
    sigma: np.ndarray  # (n,): width of the spot, blur included
    ln_alarm: np.ndarray  # (n,): ln of the false-alarm probability allowed


class Answer(NamedTuple):
    """One row per prediction."""

    theta: np.ndarray  # (n, 5): optimum
    site: np.ndarray  # (n, 5): x, y, vxx, vxy, vyy of the likelihood alone
    sd: np.ndarray  # (n, 2): posterior s.d. of N and b
    loglik: np.ndarray  # (n,)
    ln_odds: np.ndarray  # (n,): ln of the evidence ratio, molecule against background
    ln_least: np.ndarray  # (n,): its threshold
    ln_prior: np.ndarray  # (n,): ln density of the site's centre as predicted, 1/px^2
    code: np.ndarray  # (n,) int64


class Space(NamedTuple):
    """Work space beside a fit's own."""

    along: np.ndarray  # (GRID, WIDE): profiles of the scan
    down: np.ndarray
    lines: np.ndarray  # (3, GRID, WIDE)
    score: np.ndarray  # (WIDE * WIDE,)
    weight: np.ndarray
    pull: np.ndarray  # (6,): a_x, a_y, A_xx, A_xy, A_yy, ln p
    null: np.ndarray  # (5,)
    low: np.ndarray
    high: np.ndarray


@kernel
def pull_of(modes, x, y, pull):
    """Fill gradient, precision and value of the mixture's ln density at (x, y).

    The precision is that of the responsible modes; the spread between them, which would only
    lower it, is left out, so that scoring stays an ascent.
    """
    top = -1e300
    for k in range(modes.shape[0]):
        term = _log_term(modes, k, x, y)
        top = max(top, term)
    total = 0.0
    set_all(pull, 0.0)
    for k in range(modes.shape[0]):
        share = math.exp(_log_term(modes, k, x, y) - top)
        total += share
        vxx, vxy, vyy = modes[k, 3], modes[k, 4], modes[k, 5]
        scale = share / (vxx * vyy - vxy * vxy)
        axx, axy, ayy = vyy * scale, -vxy * scale, vxx * scale
        dx, dy = modes[k, 1] - x, modes[k, 2] - y
        pull[0] += axx * dx + axy * dy
        pull[1] += axy * dx + ayy * dy
        pull[2] += axx
        pull[3] += axy
        pull[4] += ayy
    for f in range(5):
        pull[f] /= total
    pull[5] = top + math.log(total)


@inlined
def _log_term(modes, k, x, y):
    vxx, vxy, vyy = modes[k, 3], modes[k, 4], modes[k, 5]
    dx, dy = x - modes[k, 1], y - modes[k, 2]
    det = vxx * vyy - vxy * vxy
    square = (vyy * dx * dx - 2.0 * vxy * dx * dy + vxx * dy * dy) / det
    return math.log(max(modes[k, 0], 1e-300)) - 0.5 * (square + math.log(det)) - LN_2PI


@kernel
def centre_of(modes, centre):
    """Fill (x, y, greatest variance) of the mixture, moments matched."""
    w = x = y = 0.0
    for k in range(modes.shape[0]):
        w += modes[k, 0]
        x += modes[k, 0] * modes[k, 1]
        y += modes[k, 0] * modes[k, 2]
    x /= w
    y /= w
    xx = yy = 0.0
    for k in range(modes.shape[0]):
        xx += modes[k, 0] * (modes[k, 3] + (modes[k, 1] - x) ** 2)
        yy += modes[k, 0] * (modes[k, 5] + (modes[k, 2] - y) ** 2)
    centre[0], centre[1], centre[2] = x, y, max(xx, yy) / w


@kernel
def load(adu, maps, table, per_z, y0, x0, side, lights, n_lights, region, scratch):
    """Cut one region and fill in the light of all known spots; True where it is not to be used."""
    set_all(region.extra, 0.0)
    middle_y, middle_x = y0 + 0.5 * (side - 1), x0 + 0.5 * (side - 1)
    for other in range(n_lights):
        far = 0.5 * side + REACH * lights[other, S]
        if abs(lights[other, X] - middle_x) < far and abs(lights[other, Y] - middle_y) < far:
            add_light(lights[other], y0, x0, side, scratch, region.extra)
    return cut(adu, maps, y0, x0, side, table, per_z, region)


@kernel
def fit_background(side, region, table, scratch, null):
    """Fit the background alone; `null` is a start and becomes the optimum, with no spot in it."""
    null[N] = 0.0
    for _ in range(STEPS):
        slopes(null, side, region, table, scratch.columns, scratch.grad, scratch.info)
        step = scratch.grad[B] / scratch.info[B, B]
        null[B] = max(null[B] + min(max(step, -0.8 * null[B]), max(null[B], 1.0)), 0.005)
        if step * scratch.grad[B] < TOLERANCE:
            break


@kernel
def pixel_scores(side, background, region, table, score, weight):
    """Fill score and information of every pixel about its own rate, no spot in it."""
    for i in range(side):
        for j in range(side):
            at = i * WIDE + j
            rate = background + region.extra[at]
            if table.size:
                score[at], weight[at] = tables.look_up(region.data[at], rate, table)
            else:
                weight[at] = 1.0 / (rate + region.var[at])
                score[at] = region.data[at] * weight[at] - 1.0


@kernel
def grid_profiles(x, y, step, side, sigma, scratch, space):
    """Fill the shares of light along both axes for every place of the scan."""
    theta = scratch.trial
    set_all(theta, 0.0)
    theta[S] = sigma
    for g in range(GRID):
        off = (g - GRID // 2) * step
        theta[X], theta[Y] = x + off, y + off
        profiles(theta, side, scratch.columns)
        for j in range(WIDE):
            space.along[g, j] = scratch.columns[ALONG_X * WIDE + j]
            space.down[g, j] = scratch.columns[ALONG_Y * WIDE + j]


@kernel
def fold(side, space):
    """Sum score and information along each line of the region, for every x of the scan.

    The three sums are of s u, of w u and of w u^2 with u the share of light.
    """
    lines = space.lines
    for g in range(GRID):
        for i in range(side):
            a = b = c = 0.0
            for j in range(side):
                u, w = space.along[g, j], space.weight[i * WIDE + j]
                a += space.score[i * WIDE + j] * u
                b += w * u
                c += w * u * u
            lines[0, g, i], lines[1, g, i], lines[2, g, i] = a, b, c


@kernel
def scan(modes, photons, sigma, x0, y0, centre, side, region, table, scratch, space, theta):
    """Set `theta` to the best place of the scan: matched filter plus prior, photons integrated out.

    With U and V the efficient score and information of N at N = 0, the best N under its prior is
    (U + N0/t2) / (V + 1/t2), and ln L gains half of its square times V + 1/t2.
    """
    null = space.null
    fit_background(side, region, table, scratch, null)
    info_b = scratch.info[B, B]
    pixel_scores(side, null[B], region, table, space.score, space.weight)
    x, y = centre[0] - x0, centre[1] - y0
    step = min(max(0.5 * math.sqrt(centre[2]), 0.25 * sigma), 1.0)
    grid_profiles(x, y, step, side, sigma, scratch, space)
    fold(side, space)
    tight = 1.0 / (photons[1] * photons[1])
    best = -1e300
    for gy in range(GRID):
        for gx in range(GRID):
            u = v = cross = 0.0
            for i in range(side):
                p = space.down[gy, i]
                u += p * space.lines[0, gx, i]
                cross += p * space.lines[1, gx, i]
                v += p * p * space.lines[2, gx, i]
            v = max(v - cross * cross / info_b, 0.0) + tight
            u += photons[0] * tight
            at_x = centre[0] + (gx - GRID // 2) * step
            at_y = centre[1] + (gy - GRID // 2) * step
            pull_of(modes, at_x, at_y, space.pull)
            value = 0.5 * max(u, 0.0) ** 2 / v + space.pull[5]
            if value > best:
                best = value
                theta[X], theta[Y], theta[N] = at_x, at_y, u / v
    theta[N] = max(theta[N], 0.3 * photons[0])
    theta[B] = max(null[B] - theta[N] / (side * side), 0.3 * null[B])
    theta[S] = sigma


@kernel
def add_priors(theta, modes, photons, x0, y0, scratch, pull):
    """Add the priors of place and photons to gradient and information."""
    pull_of(modes, theta[X] + x0, theta[Y] + y0, pull)
    tight = 1.0 / (photons[1] * photons[1])
    scratch.grad[X] += pull[0]
    scratch.grad[Y] += pull[1]
    scratch.grad[N] += (photons[0] - theta[N]) * tight
    scratch.info[X, X] += pull[2]
    scratch.info[X, Y] += pull[3]
    scratch.info[Y, X] += pull[3]
    scratch.info[Y, Y] += pull[4]
    scratch.info[N, N] += tight


@kernel
def climb_posterior(theta, modes, photons, x0, y0, side, region, table, scratch, space):
    """Fisher scoring to the optimum of prior times likelihood, width held; True if it got there.

    On return `scratch.grad` and `scratch.info` are those of the posterior at `theta`.
    """
    low, high = space.low, space.high
    for _ in range(STEPS):
        slopes(theta, side, region, table, scratch.columns, scratch.grad, scratch.info)
        add_priors(theta, modes, photons, x0, y0, scratch, space.pull)
        hold_at_bounds(theta, low, high, scratch)
        scratch.free[S] = 0
        if not factorise(scratch.info, 0.0, scratch.free, scratch.factor):
            return False
        solve(scratch.factor, scratch.grad, scratch.free, scratch.step)
        length = 0.0
        for a in range(4):
            length += scratch.step[a] * scratch.grad[a] * scratch.free[a]
        if length < TOLERANCE:
            return True
        move(theta, scratch.step, low, high, scratch.trial)
        copy(scratch.trial, theta)
    return False


@kernel
def site_of(theta, photons, x0, y0, scratch, pull, site):
    """Fill the Gaussian likelihood of the place alone: False where there is none.

    N and b are integrated out (N under its prior), the prior of the place is taken off again:
    J = J_pp - J_pn J_nn^-1 J_np, h = g_p - J_pn J_nn^-1 g_n, z = x + J^-1 h, covariance J^-1.
    """
    g, J = scratch.grad, scratch.info
    det = J[N, N] * J[B, B] - J[N, B] * J[N, B]
    if not (det > 0.0 and J[N, N] > 0.0):
        return False
    nn, nb, bb = J[B, B] / det, -J[N, B] / det, J[N, N] / det
    xn = J[X, N] * nn + J[X, B] * nb
    xb = J[X, N] * nb + J[X, B] * bb
    yn = J[Y, N] * nn + J[Y, B] * nb
    yb = J[Y, N] * nb + J[Y, B] * bb
    jxx = J[X, X] - pull[2] - xn * J[N, X] - xb * J[B, X]
    jxy = J[X, Y] - pull[3] - xn * J[N, Y] - xb * J[B, Y]
    jyy = J[Y, Y] - pull[4] - yn * J[N, Y] - yb * J[B, Y]
    hx = g[X] - pull[0] - xn * g[N] - xb * g[B]
    hy = g[Y] - pull[1] - yn * g[N] - yb * g[B]
    det = jxx * jyy - jxy * jxy
    if not (jxx > 0.0 and jyy > 0.0 and det > 1e-12 * jxx * jyy):
        return False
    vxx, vxy, vyy = jyy / det, -jxy / det, jxx / det
    dx, dy = vxx * hx + vxy * hy, vxy * hx + vyy * hy
    site[0], site[1] = theta[X] + x0 + dx, theta[Y] + y0 + dy
    site[2], site[3], site[4] = vxx, vxy, vyy
    return dx * hx + dy * hy < FAR_SITE * FAR_SITE


@kernel
def place_region(x, y, side, height, width):
    """Return y0, x0 of the region about (x, y), shifted inside the frame."""
    y0 = min(max(round(y) - side // 2, 0), height - side)
    x0 = min(max(round(x) - side // 2, 0), width - side)
    return y0, x0


@kernel
def look(
    k, adu, maps, table, per_z, asked, side, lights, n_lights, region, scratch, space, answer
):
    """Look for the molecule of prediction `k`; fill its row of `answer`."""
    height, width = adu.shape
    modes, photons, sigma = asked.modes[k], asked.photons[k], asked.sigma[k]
    theta, site = answer.theta[k], answer.site[k]
    answer.code[k] = SKIPPED
    answer.ln_odds[k] = -1e300
    centre_of(modes, site)
    if not (-0.5 <= site[0] <= width - 0.5 and -0.5 <= site[1] <= height - 0.5):
        return
    wide = min(SCAN_SIDE, height, width)
    y0, x0 = place_region(site[0], site[1], wide, height, width)
    if load(adu, maps, table, per_z, y0, x0, wide, lights, n_lights, region, scratch):
        return
    null = space.null
    null[X], null[Y], null[B], null[S] = 0.0, 0.0, 1.0, sigma
    scan(modes, photons, sigma, x0, y0, site, wide, region, table, scratch, space, theta)
    y0, x0 = place_region(theta[X], theta[Y], side, height, width)
    if load(adu, maps, table, per_z, y0, x0, side, lights, n_lights, region, scratch):
        return
    theta[X] -= x0
    theta[Y] -= y0
    for a in range(2):
        space.low[a], space.high[a] = -0.5, side - 0.5
    space.low[N], space.high[N] = 0.1, 1e9
    space.low[B], space.high[B] = 0.005, 1e7
    space.low[S], space.high[S] = sigma, sigma
    answer.code[k] = EMPTY
    if not climb_posterior(theta, modes, photons, x0, y0, side, region, table, scratch, space):
        theta[X] += x0
        theta[Y] += y0
        return
    judge_evidence(k, x0, y0, side, region, table, asked, scratch, space, answer)


@kernel
def judge_evidence(k, x0, y0, side, region, table, asked, scratch, space, answer):
    """Work out the evidence ratio at the optimum, by Laplace, and the site."""
    photons, theta, site, null = asked.photons[k], answer.theta[k], answer.site[k], space.null
    factor = scratch.factor
    half_log_det = 0.0
    for a in range(4):
        half_log_det += math.log(factor[a, a])
    excess = (theta[N] - photons[0]) / photons[1]
    ln_prior = space.pull[5] - 0.5 * (excess * excess + LN_2PI) - math.log(photons[1])
    sited = site_of(theta, photons, x0, y0, scratch, space.pull, site)
    posterior_sd(factor, answer.sd[k])
    value = loglik(theta, side, region, table, scratch.columns)
    answer.loglik[k] = value
    fit_background(side, region, table, scratch, null)
    null[X], null[Y] = theta[X], theta[Y]
    empty = loglik(null, side, region, table, scratch.columns)
    slopes(null, side, region, table, scratch.columns, scratch.grad, scratch.info)
    J = scratch.info
    odds = value - empty + ln_prior + 1.5 * LN_2PI - half_log_det + 0.5 * math.log(J[B, B])
    seen = photons[0] * math.sqrt(max(J[N, N] - J[N, B] ** 2 / J[B, B], 0.0))
    least = max(LN_KAPPA - KAPPA_SLOPE * seen - asked.ln_alarm[k], 0.0)
    theta[X] += x0
    theta[Y] += y0
    answer.ln_odds[k], answer.ln_least[k] = odds, least
    if sited and odds >= least:
        height_of(asked.modes[k], site, space.pull)
        answer.ln_prior[k] = space.pull[5]
        answer.code[k] = FOUND


@kernel
def posterior_sd(factor, sd):
    """Fill the s.d. of N and b: they come last in the factor of the information (width held)."""
    sd[1] = 1.0 / factor[B, B]
    tilt = factor[B, N] / factor[B, B]
    sd[0] = math.sqrt(1.0 + tilt * tilt) / factor[N, N]


@kernel
def height_of(modes, site, pull):
    """Fill ``pull[5]`` with the ln density of a position measured with the site's covariance."""
    top = -1e300
    for turn in range(2):
        total = 0.0
        for k in range(modes.shape[0]):
            vxx, vxy, vyy = modes[k, 3] + site[2], modes[k, 4] + site[3], modes[k, 5] + site[4]
            dx, dy = site[0] - modes[k, 1], site[1] - modes[k, 2]
            det = vxx * vyy - vxy * vxy
            square = (vyy * dx * dx - 2.0 * vxy * dx * dy + vxx * dy * dy) / det
            term = math.log(max(modes[k, 0], 1e-300)) - 0.5 * (square + math.log(det)) - LN_2PI
            if turn == 0:
                top = max(top, term)
            else:
                total += math.exp(term - top)
        if turn == 1:
            pull[5] = top + math.log(total)


@kernel
def explain(centres, spots, gate, owner, nearest):
    """Give each prediction the spot that explains it, one to one: ``owner[i]`` is it, or -1.

    `centres` (n, 5) and `spots` (m, 5) hold x, y, vxx, vxy, vyy. Pairs that are each other's
    nearest, by squared distance in variances up to `gate`, are taken in turn until none is left.
    `nearest` (m, 2) is work space.
    """
    n, m = centres.shape[0], spots.shape[0]
    for i in range(n):
        owner[i] = -1
    taken = np.zeros(m, np.bool_)
    while m > 0:
        for j in range(m):
            nearest[j, 0], nearest[j, 1] = gate, -1.0
        mine = np.full(n, -1, np.int64)
        for i in range(n):
            if owner[i] >= 0:
                continue
            best = gate
            for j in range(m):
                if taken[j]:
                    continue
                square = _square(centres, i, spots, j, gate)
                if square < best:
                    best, mine[i] = square, j
                if square < nearest[j, 0]:
                    nearest[j, 0], nearest[j, 1] = square, i
        found = 0
        for i in range(n):
            if mine[i] >= 0 and nearest[mine[i], 1] == i:
                owner[i] = mine[i]
                taken[mine[i]] = True
                found += 1
        if found == 0:
            return


@inlined
def _square(centres, i, spots, j, gate):
    vyy = centres[i, 4] + spots[j, 4]
    dy = spots[j, 1] - centres[i, 1]
    if dy * dy > gate * vyy:
        return gate
    vxx, vxy = centres[i, 2] + spots[j, 2], centres[i, 3] + spots[j, 3]
    dx = spots[j, 0] - centres[i, 0]
    return (vyy * dx * dx - 2.0 * vxy * dx * dy + vxx * dy * dy) / (vxx * vyy - vxy * vxy)


@kernel
def look_all(
    adu, maps, table, per_z, asked, side, lights, n_lights, region, scratch, space, answer
):
    """Look for the molecules of all predictions; ``answer.code`` says which were found.

    Two predictions may see the same light: the one with more evidence keeps it, and the others
    look again with that light known. `lights` (m + n, 5) holds the `n_lights` spots found blind,
    and gains those found here.
    """
    n, m = asked.sigma.shape[0], n_lights
    for k in range(n):
        look(
            k, adu, maps, table, per_z, asked, side, lights, m, region, scratch, space, answer
        )
    open_ = np.ones(n, np.bool_)
    while True:
        best = -1
        for k in range(n):
            if open_[k] and answer.code[k] == FOUND:
                if best < 0 or answer.ln_odds[k] > answer.ln_odds[best]:
                    best = k
        if best < 0:
            return
        open_[best] = False
        copy(answer.theta[best], lights[n_lights])
        n_lights += 1
        for k in range(n):
            if open_[k] and answer.code[k] == FOUND:
                dx = answer.theta[k, X] - answer.theta[best, X]
                dy = answer.theta[k, Y] - answer.theta[best, Y]
                if abs(dx) < side and abs(dy) < side:
                    look(
                        k, adu, maps, table, per_z, asked, side, lights, n_lights, region,
                        scratch, space, answer,
                    )  # fmt: skip
