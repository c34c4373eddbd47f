# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""Sites of all frames of one molecule, made anew until they agree with each other.

Theory: `livespt.refit.laplace`. The film, its bank of D, the sites and the smoother are those of the
live filter (`livespt.infer.pixelbankkernels`), with as many frames as there are.
"""

from __future__ import annotations

import math

from livespt.infer import pixelbankkernels as bank
from livespt.infer import pixelkernels as pixels
from livespt.jit import kernel

#: A mode this many s.d. off its new cavity is looked for afresh.
LOST_SDS = 3.0


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
def make_anew(film, n, model):
    """Make all sites under what all other frames say; return the largest move in s.d."""
    bank.smooth(film, 0, n - 1, True)
    most = 0.0
    for t in range(n):
        moved = False
        for a in range(2):
            film.cavity[2 * a] = film.smoothed[a, t, 0] - film.origin[t, a]
            film.cavity[2 * a + 1] = film.smoothed[a, t, 1]
            off = film.at[t, a] - film.cavity[2 * a]
            moved = moved or off * off > LOST_SDS**2 * film.cavity[2 * a + 1]
        x, y = film.sites[t, 0, 0], film.sites[t, 1, 0]
        bank.make_site(film, t, model, moved)
        dx, dy = film.sites[t, 0, 0] - x, film.sites[t, 1, 0] - y
        most = max(most, dx * dx / film.sites[t, 0, 1], dy * dy / film.sites[t, 1, 1])
    return math.sqrt(most)


@kernel
def settle(film, n, model, least, most_loops, tops):
    """Make sites anew until none moves by `least` s.d.; return the loops, less 0 if it never did.

    `tops` (2,) receives the evidence that the bank dropped on its way.
    """
    forward(film, n, tops)
    for loop in range(1, most_loops + 1):
        moved = make_anew(film, n, model)
        forward(film, n, tops)
        if moved < least:
            return loop
    return -most_loops


@kernel
def log_likelihood(d, v, at, sigmas, light, profiles):
    """Return ln p of one frame's pixels with the molecule at `at`, up to what no fit changes."""
    side = profiles.shape[2]
    for a in range(2):
        pixels.profile(at[a], sigmas[a], side, profiles[a, 0], profiles[a, 1], profiles[a, 2])
    total = 0.0
    for i in range(side):
        for j in range(side):
            q = i * side + j
            rate = light[1] + light[0] * profiles[1, 0, i] * profiles[0, 0, j] + v[q]
            total += d[q] * math.log(rate) - rate
    return total


@kernel
def offsets(film, n, model):
    """Return ln of what the sites' Gaussians leave out of the frames' likelihoods.

    A site stands for exp(-(x - z)^2 / 2 R); at its mode it is the likelihood.
    """
    total = 0.0
    for t in range(n):
        bank.set_widths(film, t, model.sigma_px)
        total += log_likelihood(
            film.d[t], film.v[t], film.at[t], film.sigmas, film.light, film.profiles
        )
        for a in range(2):
            z, var = film.sites[t, a, 0] - film.origin[t, a], film.sites[t, a, 1]
            off = film.at[t, a] - z
            total += 0.5 * (math.log(var) + off * off / var)
    return total
