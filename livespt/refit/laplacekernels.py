# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""Sites of all frames of one molecule, made anew until they agree with each other.

Theory: `livespt.refit.laplace`. The film, its bank of D, the sites and the smoother are those of
the live filter (`livespt.infer.pixelbankkernels`), with as many frames as there are. `Looked` is
what a film does not hold: the counts of an EMCCD with its table, and frames whose path was fitted.

Symbols: z, R place and variance of a site; E rate, s score and i information of a pixel.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from livespt.infer import pixelbankkernels as bank
from livespt.jit import kernel
from livespt.localize.table_kernels import Table, look_up, look_up_loglik, position
from livespt.psf_kernels import profile
from livespt.refit import pathkernels as paths

#: A mode this many s.d. off its new cavity is looked for afresh.
LOST_SDS = 3.0


class Looked(NamedTuple):
    """What sites are made from beside the film."""

    counts: np.ndarray  # (n, P * P) less offset, of an EMCCD; (1, 1) else
    table: Table
    per_z: float
    extra: np.ndarray  # (n,) ln of what a fitted path's site leaves out
    smeared: np.ndarray  # (n,) 1: the path was fitted


@kernel
def forward(film, n, tops):
    """Run the bank over the sites that there are; `tops` (2,) receives the evidence it drops."""
    tops[:] = 0.0
    bank.begin(film)
    for t in range(n):
        if t > 0:
            for a in range(2):
                tops[a] += film.log_weights[a].max()
            bank.advance(film, t - 1)
        bank.weigh(film, t)


@kernel
def start(film, n, model):
    """Make all sites once, each under what the frames before it say."""
    bank.begin(film)
    for t in range(n):
        if t > 0:
            bank.advance(film, t - 1)
        bank.set_cavity(film, t)
        bank.make_site(film, t, model, True)
        bank.weigh(film, t)


@kernel
def set_profiles(at, sigmas, profiles):
    """Fill the profiles of a spot at `at`."""
    for a in range(2):
        p = profiles[a]
        profile(at[a], sigmas[a], profiles.shape[2], p[0], p[1], p[2])


@kernel
def retable(film, t, looked):
    """Give an EMCCD's pixels the shifted Poisson numbers with its score and information here.

    With s and i of the table at the rate E of the latest mode: v = 1 / i - E, d = (1 + s) / i.
    """
    side = film.profiles.shape[2]
    set_profiles(film.at[t], film.sigmas, film.profiles)
    for p in range(side):
        for j in range(side):
            q = p * side + j
            rate = film.light[1] + film.light[0] * film.profiles[1, 0, p] * film.profiles[0, 0, j]
            place = position(looked.counts[t, q], looked.per_z, looked.table)
            score, info = look_up(place, rate, looked.table)
            film.v[t, q] = max(1.0 / info - rate, 0.0)
            film.d[t, q] = max((1.0 + score) / info, 1e-6)


@kernel
def path_site(film, t, model, looked):
    """Turn a smeared frame into a site with its path fitted."""
    variances, inner = np.empty(2), film.cavity.copy()
    for a in range(2):
        variances[a] = film.sigmas[a] ** 2 - model.sigma_px**2
        variances[a] = max(variances[a], 1e-3 * model.sigma_px**2)
    here = (model.sigma_px, film.light)
    value = paths.site_of_path(film.d[t], film.v[t], inner, variances, here, film.at[t], film.site)
    for a in range(2):
        z, var = film.site[a, 0], film.site[a, 1]
        s, r = inner[2 * a + 1] + var, z - inner[2 * a]
        value += 0.5 * (math.log(s) + r * r / s)
        film.sites[t, a, 0] = z + film.origin[t, a]
        film.sites[t, a, 1] = var
    looked.extra[t], looked.smeared[t] = value, 1


@kernel
def make_one(film, t, model, looked):
    """Make one frame's site under the cavity that `film` holds."""
    bank.set_widths(film, t, model.sigma_px)
    moved = False
    for a in range(2):
        off = film.at[t, a] - film.cavity[2 * a]
        moved = moved or off * off > LOST_SDS**2 * film.cavity[2 * a + 1]
    if looked.table.size > 0:
        retable(film, t, looked)
    blur = max(film.sigmas[0], film.sigmas[1]) ** 2 / model.sigma_px**2 - 1.0
    if blur > paths.FROM and not model.dim:
        path_site(film, t, model, looked)
    else:
        looked.smeared[t] = 0
        bank.make_site(film, t, model, moved)


@kernel
def make_anew(film, n, model, looked):
    """Make all sites under what all other frames say; return the largest move in s.d."""
    bank.smooth(film, 0, n - 1, True)
    most = 0.0
    for t in range(n):
        for a in range(2):
            film.cavity[2 * a] = film.smoothed[a, t, 0] - film.origin[t, a]
            film.cavity[2 * a + 1] = film.smoothed[a, t, 1]
        x, y = film.sites[t, 0, 0], film.sites[t, 1, 0]
        make_one(film, t, model, looked)
        dx, dy = film.sites[t, 0, 0] - x, film.sites[t, 1, 0] - y
        most = max(most, dx * dx / film.sites[t, 0, 1], dy * dy / film.sites[t, 1, 1])
    return math.sqrt(most)


@kernel
def settle(film, n, model, looked, rule, tops):
    """Make sites anew until none moves by `rule[0]` s.d.; at most `rule[1]` loops.

    Returns the loops, negative if they did not settle. `tops` (2,) as `forward`.
    """
    forward(film, n, tops)
    most = int(rule[1])
    for loop in range(1, most + 1):
        moved = make_anew(film, n, model, looked)
        forward(film, n, tops)
        if moved < rule[0]:
            return loop
    return -most


@kernel
def log_likelihood(film, t, looked):
    """Return ln p of one frame's pixels at its mode, up to what no fit changes."""
    side = film.profiles.shape[2]
    set_profiles(film.at[t], film.sigmas, film.profiles)
    total = 0.0
    for p in range(side):
        for j in range(side):
            q = p * side + j
            rate = film.light[1] + film.light[0] * film.profiles[1, 0, p] * film.profiles[0, 0, j]
            if looked.table.size > 0:
                count = looked.counts[t, q]
                place = position(count, looked.per_z, looked.table)
                total += look_up_loglik(place, count, rate, looked.table)
            else:
                total += film.d[t, q] * math.log(rate + film.v[t, q]) - rate - film.v[t, q]
    return total


@kernel
def offsets(film, n, model, looked):
    """Return ln of what the sites' Gaussians leave out of the frames' likelihoods.

    A site stands for exp(-(x - z)^2 / 2 R); at its mode it is the likelihood.
    """
    total = 0.0
    for t in range(n):
        if looked.smeared[t]:
            total += looked.extra[t]
        else:
            bank.set_widths(film, t, model.sigma_px)
            total += log_likelihood(film, t, looked)
            for a in range(2):
                off = film.at[t, a] + film.origin[t, a] - film.sites[t, a, 0]
                total += 0.5 * off * off / film.sites[t, a, 1]
        for a in range(2):
            total += 0.0 if looked.smeared[t] else 0.5 * math.log(film.sites[t, a, 1])
    return total


@kernel
def light_step(film, n, sigma, out):
    """Fill gradient and information of ln p in (photons, background), (N, b, NN, Nb, bb).

    Averaged over each frame's smoothed position by five points, weights 1/3 and 1/6 (kappa = 1).
    """
    side = film.profiles.shape[2]
    at = np.empty(2)
    out[:] = 0.0
    for t in range(n):
        bank.set_widths(film, t, sigma)
        for s in range(5):
            for a in range(2):
                sign = 1.0 if s == 1 + 2 * a else -1.0 if s == 2 + 2 * a else 0.0
                at[a] = film.smoothed[a, t, 0] - film.origin[t, a]
                at[a] += sign * math.sqrt(3.0 * film.smoothed[a, t, 1])
            set_profiles(at, film.sigmas, film.profiles)
            weight = 1.0 / 3.0 if s == 0 else 1.0 / 6.0
            for p in range(side):
                for j in range(side):
                    q = p * side + j
                    share = film.profiles[1, 0, p] * film.profiles[0, 0, j]
                    info = 1.0 / (film.light[1] + film.light[0] * share + film.v[t, q])
                    score = film.d[t, q] * info - 1.0
                    out[0] += weight * score * share
                    out[1] += weight * score
                    out[2] += weight * info * share * share
                    out[3] += weight * info * share
                    out[4] += weight * info
