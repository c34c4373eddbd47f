"""U-EM: unscented Kalman filter and smoother in EM (Lin and Andersson 2021).

Model, as theirs: the place goes by steps of variance Q = 2 D dt from frame to frame along each
axis, stands still while the shutter is open, and each pixel's T = 2 sqrt(I + 3/8 + v) is Gaussian
of variance 1 (generalised Anscombe; I electrons, v read variance). Five sigma points carry the
predicted place through the image of all pixels; a Rauch-Tung-Striebel smoother goes back; then

    Q = 1 / (N - 1) sum of E[(x' - x)^2],   E = (m' - m)^2 + P' + P - 2 G P',   D = Q / (2 dt)

and again, until D settles. The image is linearised once, at the prediction: a molecule that moves
farther in a frame than the spot is wide is lost (D dt beyond about 0.5 sigma^2), and nothing says
so. The places along x and y are filtered apart (their correlation in one frame's image is left
out).
"""

from __future__ import annotations

import numpy as np

from livespt.refit import unscentedkernels as kernels
from livespt.refit.gaussfit import Fits, fit_frames
from livespt.refit.looks import (
    AXES,
    Array,
    Looks,
    check,
    light_parameters,
    looks_of,
    poisson_like,
    positions_of,
)
from livespt.refit.regions import Regions
from livespt.refit.result import Parameter, Refit, RefitError
from livespt.refit.sites import Light, fit_light, scene_of

#: D has settled when ln D moves by less in an iteration.
SETTLED, MOST_ITERATIONS = 1e-3, 300


def u_em(regions: Regions, most_iterations: int = MOST_ITERATIONS) -> Refit:
    """Fit D along each axis by the unscented Kalman smoother and EM.

    Parameters
    ----------
    regions : Regions
        Times evenly spaced.
    most_iterations : int

    Returns
    -------
    Refit
        Without standard errors or likelihood, which the method does not give.

    Raises
    ------
    RefitError
        Regions that cannot be used; an EMCCD; uneven times.
    """
    interval_s, looks, light, parameters = prepared(regions, "u-em")
    first, Q = first_guess(regions, looks)
    n, side = len(looks.d), regions.adu.shape[1]
    optics = (np.full(2, regions.sigma_um / regions.pixel_um), np.array(light))
    space = (np.zeros((2, 3, side)), np.zeros((6, side * side)), np.zeros((5, 5)))
    arrays = (np.zeros((n, 2, 4)), np.zeros((n, 2, 2)), space)
    rule = (SETTLED, float(most_iterations))
    done = kernels.iterate(tuple(looks), Q, first, optics, rule, arrays)
    D, smoothed = Q * regions.pixel_um**2 / (2 * interval_s), arrays[1]
    cov = np.stack([smoothed[:, 0, 1], smoothed[:, 1, 1], np.zeros(n)], axis=1)
    return em_answer(
        regions, D, parameters, done, smoothed[:, :, 0], cov, "EM gives no standard errors"
    )


def prepared(regions: Regions, method: str) -> tuple[float, Looks, Light, tuple[Parameter, ...]]:
    """Check what both EM methods ask for; return interval, looks, light and its parameters.

    Photons or background that are not given come from `fit_light`.
    """
    check(regions)
    poisson_like(regions, method)
    steps = np.diff(regions.t_s)
    interval_s = float(np.median(steps))
    if np.abs(steps - interval_s).max() > 0.01 * interval_s:
        raise RefitError(
            f"{regions.source}: {method} wants evenly spaced frames; times between them run from "
            f"{steps.min():g} to {steps.max():g} s (l-ml takes any)"
        )
    known = (regions.photons, regions.bg_photons)
    if known[0] is None or known[1] is None:
        light, sds, _ = fit_light(scene_of(regions), known)
    else:
        light, sds = (known[0], known[1]), (0.0, 0.0)
    return interval_s, looks_of(regions), light, light_parameters(light, sds)


def first_guess(regions: Regions, looks: Looks) -> tuple[Array, Array]:
    """Return mean and variance of the first place, (2, 2), and Q (2,) from Gaussian fits, px."""
    sigma2 = (regions.sigma_um / regions.pixel_um) ** 2
    fits = fit_frames(regions)
    first = np.empty((2, 2))
    first[:, 1] = sigma2 / 4
    first[:, 0] = looks.origin[0] + 0.5 * (regions.adu.shape[1] - 1)
    if fits.rows.size and fits.rows[0] == 0:
        first[:, 0] = fits.at_px[0]
    return first, _first_Q(fits, sigma2)


def _first_Q(fits: Fits, sigma2: float) -> Array:
    """Return squared steps less the localizations' share, from neighbouring frames' fits."""
    near = np.flatnonzero(np.diff(fits.rows) == 1)
    if near.size < 3:
        return np.full(2, 0.1 * sigma2)
    square = np.diff(fits.at_px, axis=0)[near] ** 2
    noise = np.median(fits.cov_px2[:, :2], axis=0)
    Q = np.median(square, axis=0) / 0.455 - 2 * noise  # 0.455: median of chi^2 of one freedom
    return np.maximum(Q, 0.05 * noise)


def em_answer(
    regions: Regions,
    D: Array,
    light: tuple[Parameter, ...],
    done: int,
    mean_px: Array,
    cov_px2: Array,
    message: str,
) -> Refit:
    """Return the answer of an EM method; `done`: iterations, negative if it did not settle."""
    n = len(mean_px)
    parameters = tuple(
        Parameter(f"D_{axis}_um2_s", float(D[a]), unit="um2/s") for a, axis in enumerate(AXES)
    )
    return Refit(
        method="", parameters=parameters + light, loglik=None,
        status="ok" if done > 0 else "not converged", message=message, n_iterations=abs(done),
        n_tracks=1, n_positions=n, left_out={},
        positions=positions_of(regions, mean_px, cov_px2, np.arange(n)),
        evidence={}, tables={}, seconds=0.0, provenance={},
    )  # fmt: skip
