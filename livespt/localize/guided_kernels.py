# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""Fits at predicted places (theory: `livespt.localize.guided`).

Symbols: theta = (x, y, N, b, sigma) in pixels of the frame or of a region, g and J gradient and
information of the posterior in it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from livespt.jit import kernel
from livespt.localize.column_kernels import B, N, S, X, Y, copy, loglik, set_all, slopes
from livespt.localize.fit_kernels import factorise, hold_at_bounds, move, solve
from livespt.localize.frame_kernels import REACH, add_light, cut
from livespt.localize.guided_prior_kernels import LN_2PI, centre_of, log_density, pull_of, sharpen
from livespt.localize.guided_scan_kernels import STEPS, TOLERANCE, fit_background, scan, side_of

FOUND, EMPTY, SKIPPED, KEPT = 0, 1, 2, 3
#: A likelihood whose centre lies so many of its own s.d. from the optimum is no Gaussian there.
FAR_SITE = 6.0
#: Where nothing is, P(evidence ratio > r) = kappa / r, kappa = exp(LN_KAPPA - KAPPA_SLOPE d) with d
#: the photons expected over their s.d. on background alone (measured, see the theory).
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
def add_priors(theta, photons, x0, y0, scratch, space):
    """Add the priors of place and photons to gradient and information."""
    pull = space.pull
    pull_of(space.terms, theta[X] + x0, theta[Y] + y0, pull)
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
def climb_posterior(theta, photons, x0, y0, side, region, table, scratch, space):
    """Fisher scoring to the optimum of prior times likelihood, width held; True if it got there.

    On return `scratch.grad` and `scratch.info` are those of the posterior at `theta`.
    """
    low, high = space.low, space.high
    for _ in range(STEPS):
        slopes(theta, side, region, table, scratch.columns, scratch.grad, scratch.info)
        add_priors(theta, photons, x0, y0, scratch, space)
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
def look(k, adu, maps, table, per_z, asked, side, lights, n_lights, region, scratch, space, answer):
    """Look for the molecule of prediction `k`; fill its row of `answer`."""
    height, width = adu.shape
    modes, photons, sigma = asked.modes[k], asked.photons[k], asked.sigma[k]
    theta, site = answer.theta[k], answer.site[k]
    answer.code[k] = SKIPPED
    set_all(site, 0.0)
    sharpen(modes, site, space.terms)
    centre_of(modes, site)
    if not (-0.5 <= site[0] <= width - 0.5 and -0.5 <= site[1] <= height - 0.5):
        return
    wide = side_of(site, sigma, height, width)
    y0, x0 = place_region(site[0], site[1], wide, height, width)
    if load(adu, maps, table, per_z, y0, x0, wide, lights, n_lights, region, scratch):
        return
    null = space.null
    null[X], null[Y], null[B], null[S] = 0.0, 0.0, 1.0, sigma
    scan(photons, sigma, x0, y0, site, wide, region, table, scratch, space, theta)
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
    if not climb_posterior(theta, photons, x0, y0, side, region, table, scratch, space):
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
        sharpen(asked.modes[k], site, space.terms)
        answer.ln_prior[k] = log_density(space.terms, site[0], site[1])
        answer.code[k] = FOUND


@kernel
def posterior_sd(factor, sd):
    """Fill the s.d. of N and b: they come last in the factor of the information (width held)."""
    sd[1] = 1.0 / factor[B, B]
    tilt = factor[B, N] / factor[B, B]
    sd[0] = math.sqrt(1.0 + tilt * tilt) / factor[N, N]


@kernel
def look_all(
    adu, maps, table, per_z, asked, side, lights, n_lights, region, scratch, space, answer
):
    """Look for the molecules of all predictions; those found have the code KEPT.

    Two predictions may see the same light: the one with more evidence keeps it, and the others
    look again with that light known. `lights` (m + n, 5) holds the `n_lights` spots found blind,
    and gains those found here.
    """
    n = asked.sigma.shape[0]
    for k in range(n):
        look(
            k, adu, maps, table, per_z, asked, side, lights, n_lights, region, scratch, space,
            answer,
        )  # fmt: skip
    while True:
        best = -1
        for k in range(n):
            waits = answer.code[k] == FOUND
            if waits and (best < 0 or answer.ln_odds[k] > answer.ln_odds[best]):
                best = k
        if best < 0:
            return
        answer.code[best] = KEPT
        copy(answer.theta[best], lights[n_lights])
        n_lights += 1
        for k in range(n):
            if answer.code[k] != FOUND:
                continue
            dx = answer.theta[k, X] - answer.theta[best, X]
            dy = answer.theta[k, Y] - answer.theta[best, Y]
            if abs(dx) < side and abs(dy) < side:
                look(
                    k, adu, maps, table, per_z, asked, side, lights, n_lights, region, scratch,
                    space, answer,
                )  # fmt: skip
