"""SMC-EM: particle filter and particle smoother in EM (Lin and Andersson 2021).

Model, as theirs: steps of variance Q = 2 D dt along each axis, the molecule stands still while the
shutter is open; pixels are Poisson (with read noise: shifted Poisson). A bootstrap filter of M
particles with multinomial resampling; a forward-filtering backward-smoothing pass over all M^2
pairs; Q the mean expected square of the smoothed steps; D = Q / (2 dt); and again.

Chance keeps D moving, so that EM stops when its last `WINDOW` values show no trend beyond their
scatter, and D is their mean. Times grow with M^2. Particles lose what moves much farther in a frame
than the spot is wide, and the variance of what they lost is not in what they report.
"""

from __future__ import annotations

import math

import numpy as np

from livespt.refit import particlekernels as kernels
from livespt.refit.looks import Array
from livespt.refit.regions import Regions
from livespt.refit.result import Refit, RefitError
from livespt.refit.unscented import em_answer, first_guess, prepared

#: Last values of D that must show no trend; most iterations.
WINDOW, MOST_ITERATIONS = 10, 100
#: Variance that each of M particles spread by a step stands for, in 1 / M of the step's: by trial,
#: for places scattered as the particles are (2 where they are densest, more in the tails).
ROOM = 6.0


def smc_em(
    regions: Regions,
    n_particles: int = 500,
    most_iterations: int = MOST_ITERATIONS,
    seed: int = 0,
    rng: np.random.Generator | None = None,
) -> Refit:
    """Fit D along each axis by the particle smoother and EM.

    Parameters
    ----------
    regions : Regions
        Times evenly spaced.
    n_particles : int
        10 to 20 000; the authors took 100, 500 and 1000.
    most_iterations : int
    seed : int
        Of the generator, where none is given.
    rng : numpy.random.Generator, optional

    Returns
    -------
    Refit
        Without standard errors. `loglik` is the filter's own estimate at the answer.

    Raises
    ------
    RefitError
        Regions that cannot be used; an EMCCD; uneven times; too few or many particles.
    """
    if not 10 <= n_particles <= 20_000:
        raise RefitError(f"n_particles: {n_particles}; expected 10 to 20000")
    if most_iterations < 1:
        raise RefitError(f"most_iterations: {most_iterations}; expected 1 or more")
    interval_s, looks, light, parameters = prepared(regions, "smc-em")
    chance = rng or np.random.default_rng(seed)
    first, Q = first_guess(regions, looks)
    n, size = len(looks.d), n_particles
    optics = (np.full(2, regions.sigma_um / regions.pixel_um), np.array(light))
    places, weights, after = np.empty((n, size, 2)), np.empty((n, size)), np.empty((n, size))
    square, past, ln = np.empty(2), [], 0.0
    while len(past) < most_iterations and not _settled(past):
        draws = (chance.standard_normal((n, size, 2)), chance.random((n, size)))
        ln = kernels.run_filter(tuple(looks), Q, first, optics, draws, places, weights)
        kernels.smooth(places, weights, Q, after, square)
        Q = np.maximum(square / (n - 1), 1e-9)
        past.append(np.log(Q))
    done = len(past) if _settled(past) else -len(past)
    last = np.exp(np.mean(past[-WINDOW:], axis=0))
    mean, cov = moments(places, after, Q)
    D = last * regions.pixel_um**2 / (2 * interval_s)
    message = "EM gives no standard errors; the likelihood is the particles' own estimate"
    found = em_answer(regions, D, parameters, done, mean, cov, message)
    return found._replace(loglik=ln, provenance={"seed": seed if rng is None else "given rng"})


def _settled(past: list[Array]) -> bool:
    """Tell whether the last values show no trend beyond their scatter."""
    if len(past) < WINDOW + 2:
        return False
    last = np.array(past[-WINDOW:])
    x = np.arange(WINDOW) - 0.5 * (WINDOW - 1)
    slope = x @ last / (x @ x)
    noise = np.std(last - np.outer(x, slope), axis=0, ddof=2)
    error = noise / math.sqrt(x @ x)
    return bool((np.abs(slope) < np.maximum(2.0 * error, 1e-4)).all())


def moments(places: Array, after: Array, Q: Array) -> tuple[Array, Array]:
    """Return means (n, 2) and covariances (n, 3) of the smoothed particles.

    Where a few particles hold the weight, the nearest one stands for all places between it and the
    next: a share `ROOM` / M of a step's variance, or 1 / n^2 of it where n > 1 share the weight.
    """
    mean = np.einsum("tk,tka->ta", after, places)
    off = places - mean[:, None]
    cov = np.einsum("tk,tka,tkb->tab", after, off, off)
    room = np.minimum((after**2).sum(axis=1) ** 2, ROOM / after.shape[1])
    cov[:, (0, 1), (0, 1)] += room[:, None] * Q
    return mean, np.stack([cov[:, 0, 0], cov[:, 1, 1], cov[:, 0, 1]], axis=1)
