"""Fits under priors, with the precision of the posterior itself (SCIENCE 1; Linden 2017).

Model: rate E_i = b + N G_i + light of others, G a Gaussian of widths sigma1, sigma2 along axes
turned by an angle, integrated over each pixel. Likelihood: the camera's (shifted Poisson, or the
table of `livespt.localize.moments`). With method "map" the priors are

    ln b ~ N(ln b0, (ln 30)^2),   N flat,
    sigma_k = sigma0 (1 + s_k),   s_k ~ Exp(mean s0), u_k = ln s_k:   -ln s0 + u_k - e^(u_k)/s0

with s0 = 1 and one width in the symmetric model, s0 = 1/2 for each of two in the asymmetric one;
with "mle" there are none, and widths are free above 0.4 sigma0. The precision is Laplace's, the
inverse of minus the Hessian of the log posterior at its top in (x, y, ln N, ln b, u...); it is the
true Hessian (the observed, not the expected information), for "mle" too.

**The spot.** A square pixel spreads a Gaussian by its own variance, 1/12 px^2, and differs from
one by its cumulants -1/120 and 1/252 of fourth and sixth order: the integral is the Gaussian of
variance v + 1/12 plus those shares of its derivatives. The fourth is taken in up to the second
derivatives, the sixth in the rate alone: within 1.5e-4 of the peak of the brute-force integral at
widths from 0.8 px, 5e-5 from 1.2 px, for any angle. Third and fourth derivatives, which only the
Hessian asks for, do without. All follow from those in position (heat equation: dG/dv1 = G_11/2,
dG/dc = G_12).

**The angle** is no coordinate: it has no meaning where the widths are equal. Steps are taken in
(u1, u2, c) in the spot's own axes, c the covariance between them, and the axes are turned
afterwards. The prior's part of the Hessian in c is the divided difference 2 (f'(v1) - f'(v2))/
(v1 - v2), f the log prior of one width, which stays finite as v1 -> v2. At the top the position's
covariance does not depend on these coordinates.

**The path's skewness.** Excess width is motion, and a path's image is no Gaussian: its third
central moments k pull at the centre where there is background (without it the mean is found,
whatever the shape). They are not fitted, but known to be there: to first order the rate gains
N sum k q/(6 or 2), q the spot's third derivatives, and the position's error gains C B k, C its
covariance, B the mixed second derivatives of ln L. For a free path of principal variances v1 > v2,
the fitted ones less sigma0^2, k has mean 0 and mean squares .168 v1^3, .145 v1^2 v2, .126 v1 v2^2
and .225 v2^3 (diffusion simulated; nothing is fitted to errors). So the asymmetric model under
priors reports C + C B <k k> B^T C for the position. Spots that are wide for other reasons than
motion are reported less precise than they are: 6 to 13 % of variance at 300 photons (median).

**The climb.** Three steps by expected information with the pixel as one Gaussian (variance 1/12,
1e-3 of the peak off at 1.2 px), then Newton steps by the true Hessian of the exact model, damped
where they would not lead uphill, until one is shorter than 0.03 s.d. in all: that one is taken,
too.

Symbols: as in `livespt.localize.fit`; sigma0 = sigma_px, s excess width over sigma0.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from livespt.camera import Camera, Emccd
from livespt.localize import newton_kernels as newton
from livespt.localize import oval_kernels, prior_kernels
from livespt.localize import posterior_kernels as kernels
from livespt.localize.moment_kernels import Moments
from livespt.localize.moments import moments_of, no_moments
from livespt.localize.newton_kernels import Model
from livespt.localize.oval_kernels import LANES, Lanes
from livespt.localize.posterior_kernels import Posterior, Regions

Array = NDArray[np.float64]

MODELS = ("symmetric", "asymmetric", "auto")
METHODS = ("mle", "map")
#: Blur ratio sqrt(D tE/3)/sigma0 from which "auto" takes the asymmetric model.
ASYMMETRIC_FROM = 0.5
_MEDIAN_OVER_MEAN = 0.83  # of a free path's variance, mean of both axes (tests/oracle)
_LOWEST_S = 1e-4  # an excess width below 1e-4 sigma0 cannot be told from none
_LOWEST_WIDTH, _WIDEST = 0.4, 3.0  # in sigma0, without priors; the widest in any case
#: Codes beside those of the kernels: the fit ended far from its start, or knows nothing.
STRAYED, VAGUE = 3, 4
_FARTHEST_PX, _VAGUEST_PX = 4.0, 16.0
_LOWEST_B0 = 0.05  # photons per pixel: a centre for the prior where the border holds no light


class Workspace(NamedTuple):
    """Work space of one thread."""

    lanes: Lanes
    waiting: Lanes  # spots that need more steps than most
    starts: NDArray[np.float32]


def make_workspace() -> Workspace:
    """Return the work space of one thread."""
    starts = np.zeros(prior_kernels.N_ROWS * LANES, np.float32)
    return Workspace(make_lanes(), make_lanes(), starts)


def make_lanes() -> Lanes:
    """Return the work space of one batch of spots."""

    def rows(n: int) -> NDArray[np.float32]:
        return np.zeros(n * LANES, np.float32)

    return Lanes(
        rows(oval_kernels.N_SPOT),
        rows(oval_kernels.N_SUMS),
        rows(oval_kernels.N_PIXEL),
        rows(oval_kernels.N_DATA),
        np.zeros(LANES),
        np.zeros(newton.N_ROWS * LANES),
        np.full(LANES, -1),
    )


def model_of(side: int, sigma_px: float, model: str, method: str, fix_sigma: bool) -> Model:
    """Return what the kernels know of a model and its priors."""
    shapes = {"symmetric": newton.SYMMETRIC, "asymmetric": newton.ASYMMETRIC}
    shape = newton.FIXED if fix_sigma else shapes[model]
    prior = method == "map"
    offset = 1.0 if prior else 0.0
    widest = max(min(_WIDEST, 0.5 * side / sigma_px), 1.2)
    lowest = _LOWEST_S if prior else _LOWEST_WIDTH
    mean_s = 0.5 if shape == newton.ASYMMETRIC else 1.0
    low, high = (lowest, widest - offset) if not fix_sigma else (1.0 - offset, 1.0 - offset)
    return Model(side, sigma_px, shape, int(prior), offset, mean_s, low, high)


def fit_regions(
    regions: Regions,
    starts: Array,
    bounds: Array,
    b0: Array,
    camera: Camera,
    model: Model,
    work: Workspace,
) -> Posterior:
    """Fit one spot in each prepared region.

    Parameters
    ----------
    regions : Regions
        From `livespt.localize.prior_kernels.prepare`.
    starts : (n, 5) float64
        x, y in pixels of the region, N, b, width.
    bounds : (n, 2, 4) float64
        Lowest and highest x, y, N, b.
    b0 : (n,) float64
        Centre of the background's prior, photons per pixel.
    camera : Camera
    model : Model
    work : Workspace

    Returns
    -------
    Posterior
        In pixels of the region; precision zero where a fit did not converge.
    """
    n = starts.shape[0]
    out = Posterior(
        np.zeros((n, 5)),
        np.zeros((n, 5, 5)),
        np.zeros((n, 3)),
        np.zeros(n),
        np.zeros(n),
        np.zeros(n, np.int64),
        np.zeros(n, np.int64),
    )
    centres = np.maximum(b0, _LOWEST_B0)
    table = moments_for(camera)
    kernels.fit_posteriors(
        work.lanes, work.waiting, regions, starts, bounds, centres, model, table, out
    )
    _refuse(out, starts)
    return out


def _refuse(fits: Posterior, starts: Array) -> None:
    """Mark the fits that Linden 2017 leaves out: far from their start, or of no precision."""
    converged = fits.code == kernels.CONVERGED
    variance = fits.covariance[:, [0, 1], [0, 1]].max(axis=1)
    fits.code[converged & (variance >= _VAGUEST_PX**2)] = VAGUE
    far = np.abs(fits.theta[:, :2] - starts[:, :2]).max(axis=1) >= _FARTHEST_PX
    fits.code[converged & far] = STRAYED


def moments_for(camera: Camera) -> Moments:
    """Return the table of the camera's likelihood, or its stand-in for Poisson-like cameras."""
    return moments_of(camera) if isinstance(camera, Emccd) else no_moments()


def fit_counts(
    adu: NDArray[np.uint16],
    maps: Array,
    camera: Camera,
    sigma_px: float,
    model: str,
    method: str,
    fix_sigma: bool,
) -> tuple[Posterior, NDArray[np.bool_], NDArray[np.bool_]]:
    """Fit regions of counts (n, P P) without starts; `maps` (3, n or 1, P P) as in `fit`.

    Returns
    -------
    fits : Posterior
    bad : (n,) bool
        A saturated pixel, or all pixels alike.
    asymmetric : (n,) bool
    """
    n, side = adu.shape[0], math.isqrt(adu.shape[1])
    regions = make_regions(n, side)
    starts, bad = np.empty((n, 5)), np.zeros(n, np.bool_)
    work = make_workspace()
    prior_kernels.prepare_many(
        adu, maps, moments_for(camera), sigma_px, regions, starts, bad, work.starts
    )
    b0 = np.full(n, float(np.median(starts[:, 3])) if n else 1.0)
    bounds = bounds_for(n, side)
    chosen = model
    if model == "auto":
        known = model_of(side, sigma_px, "symmetric", method, fix_sigma)
        fits = fit_regions(regions, starts, bounds, b0, camera, known, work)
        chosen = choose(fits.theta[fits.code == kernels.CONVERGED, 4], sigma_px)
        if chosen == "symmetric" or fix_sigma:
            return fits, bad, np.zeros(n, np.bool_)
    known = model_of(side, sigma_px, chosen, method, fix_sigma)
    fits = fit_regions(regions, starts, bounds, b0, camera, known, work)
    return fits, bad, np.full(n, known.shape == newton.ASYMMETRIC)


def make_regions(n: int, side: int) -> Regions:
    """Return space for `n` regions, without light of others."""
    size = (-(-n // LANES), side * side, LANES)
    return Regions(np.zeros(size, "f4"), np.zeros(size, "f4"), np.zeros(size, "f4"))


def bounds_for(n: int, side: int) -> Array:
    """Return the lowest and highest x, y, N, b of `n` fits without a place of their own."""
    return np.tile([[-1.0, -1.0, 0.1, 0.005], [side, side, 1e9, 1e7]], (n, 1, 1))


def blur_ratio(widths_px: Array, sigma_px: float) -> float:
    """Return sqrt(D tE/3)/sigma0 of a frame, from the median of its fitted widths.

    A width's square is sigma0^2 plus the path's own variance, whose mean is D tE/3 per axis and
    whose median is less. Defocus widens spots, too, and is not told from blur.
    """
    if not len(widths_px):
        return 0.0
    excess = (float(np.median(widths_px)) / sigma_px) ** 2 - 1.0
    return math.sqrt(max(excess, 0.0) / _MEDIAN_OVER_MEAN)


def choose(widths_px: Array, sigma_px: float) -> str:
    """Return the model that the blur of these spots calls for."""
    wide = blur_ratio(widths_px, sigma_px) >= ASYMMETRIC_FROM
    return "asymmetric" if wide else "symmetric"
