"""The widths of the images as data on D: how far a molecule moves while the shutter is open.

Each frame is fitted with an oval spot; along each axis q = ln(variance / that of a spot in focus).
The values of q are put in `N_CLASSES` classes, and how many fall in each is a multinomial number:

    ln L(D) = sum over classes of n_c ln p_c(D),

which is added to the likelihood of the displacements. p_c is found by drawing images of paths at
`N_NODES` values of D with the same light, spot, camera and places in the region, fitting them
alike, and smoothing the counts by a logistic regression, polynomials in ln D. So the bias of the
fits, the shapes of streaks and the edges of regions are in it, without a density that would have to
be guessed; an error of the spot's width is not in it, and is taken for motion.

A step between frames and the paths within them share what is odd in time in a path. Of either sign
alike, so that the curves may be added; but where a step is long the path is too. With f the part of
the frame that is exposed, the first odd amplitude and the step have r^2 = (2 / pi^2) / (1 / f - 1 /
3), and their squares that correlation; a step has two frames, a frame two steps. So the slopes of
the two curves have at most the correlation 2 r^2, and the sum is flattened by what that adds to its
slope's variance: a fifth of the interval at most where f = 1, next to nothing at f = .1.
"""

from __future__ import annotations

import math
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf, log_softmax, softmax

from livespt.camera import Camera
from livespt.localize import fit_rois
from livespt.refit.curve import read_curve
from livespt.refit.looks import Array, stacked_camera
from livespt.refit.regions import Regions
from livespt.types import FitStatus

#: Blur over the spot's variance beyond which widths say nothing of D; what is drawn beyond an
#: interval of D on either side, as a factor.
LEAST, MOST, BEYOND = 0.01, 12.0, 3.0
#: Values of D that are drawn, images at each, points of a path.
N_NODES, N_IMAGES, N_POINTS = 12, 1500, 12
#: Classes of q, and the degree of the polynomials.
N_CLASSES, DEGREE = 12, 4
#: Pulls the polynomials' coefficients to 0: where a class is empty at all nodes but a few.
_RIDGE = 0.01
#: Newton's passes, and the gain in ln L below which it ends.
_PASSES, _ENOUGH = 40, 1e-3


class Classes(NamedTuple):
    """How probable each class of q is, over ln(blur / variance of a spot in focus).

    Attributes
    ----------
    edges : (C - 1,) float64
        Of q.
    span : (float, float)
        Ends of ln(blur / variance) that were drawn.
    terms : (DEGREE + 1, C) float64
        Polynomials, of which the softmax is taken.
    """

    edges: Array
    span: tuple[float, float]
    terms: Array

    def log_p(self, log_blur: Array) -> Array:
        """Return ln p (K, C); beyond `span` as at its ends."""
        low, high = self.span
        at = 2 * (np.clip(log_blur, low, high) - low) / (high - low) - 1
        return np.asarray(log_softmax(_basis(at) @ self.terms, axis=1), np.float64)

    def counts(self, q: Array) -> Array:
        """Return how many of q (m,) are in each class."""
        found = np.bincount(np.searchsorted(self.edges, q), minlength=len(self.edges) + 1)
        return found.astype(np.float64)


def evidence(
    regions: Regions,
    light: tuple[float, float],
    place_px: Array,
    D_px2_s: Array,
    between: tuple[float, float],
    rng: np.random.Generator,
) -> tuple[Array, int]:
    """Return ln L (2, K) of the widths along x and y at each D, and how many frames count.

    Parameters
    ----------
    regions : Regions
    light : (photons, background)
    place_px : (n, 2) float64
        Places in the frame.
    D_px2_s : (K,) float64
    between : (float, float)
        Where D is to be looked for, as the displacements say, px2/s.
    rng : numpy.random.Generator
        Of the images that are drawn.

    Returns
    -------
    ln L, number of frames
        Noughts and 0 where widths say nothing: motion is too slow or too fast, or no fit settles.
    """
    per_D = regions.exposure_s / 3 * (regions.pixel_um / regions.sigma_um) ** 2
    low = max(between[0] * per_D / BEYOND, LEAST)
    high = min(between[1] * per_D * BEYOND, MOST)
    seen = widths_of(regions.adu, stacked_camera(regions, alike=False), regions)
    if high < 3 * low or len(seen) == 0:
        return np.zeros((2, D_px2_s.size)), 0
    middle = regions.corner_px + 0.5 * (regions.adu.shape[1] - 1)
    classes = draw_classes(regions, light, place_px - middle, (low, high), rng)
    log_p = classes.log_p(np.log(np.maximum(D_px2_s * per_D, LEAST)))
    return np.array([log_p @ classes.counts(q) for q in seen.T]), len(seen)


def added(regions: Regions, D_px2_s: Array, steps: Array, widths: Array) -> Array:
    """Return the sum of the curves (K,) of steps and widths, flattened by what they share."""
    per_step = float(np.median(np.diff(regions.t_s))) / regions.exposure_s - 1 / 3
    shared = min(4 / math.pi**2 / per_step, 1.0)
    a, b = (c.D / c.sd for c in (read_curve(D_px2_s, steps), read_curve(D_px2_s, widths)))
    return (steps + widths) * (a * a + b * b) / (a * a + b * b + 2 * shared * a * b)


def widths_of(adu: NDArray[np.uint16], camera: object, regions: Regions) -> Array:
    """Return q along x and y (m, 2) of the images whose oval fit settles."""
    sigma_px = regions.sigma_um / regions.pixel_um
    counts = np.ascontiguousarray(adu)
    fits = fit_rois(counts, cast("Camera", camera), sigma_px, model="asymmetric")
    fits = fits[fits["status"] == FitStatus.OK]
    major, minor = fits["sigma_major_px"] ** 2, fits["sigma_minor_px"] ** 2
    lean = np.cos(fits["angle_rad"]) ** 2
    along = np.stack([lean * major + (1 - lean) * minor, lean * minor + (1 - lean) * major], 1)
    return np.log(along / sigma_px**2)


def draw_classes(
    regions: Regions,
    light: tuple[float, float],
    off_px: Array,
    between: tuple[float, float],
    rng: np.random.Generator,
) -> Classes:
    """Draw images and fit them; `off_px` (n, 2): places from the regions' middles.

    `between`: blur over the variance of a spot in focus.
    """
    shares = np.geomspace(*between, N_NODES)
    found = [draw_widths(regions, light, off_px, share, rng).ravel() for share in shares]
    edges = np.quantile(np.concatenate(found), np.arange(1, N_CLASSES) / N_CLASSES)
    blank = Classes(edges, (math.log(between[0]), math.log(between[1])), np.empty((0, 0)))
    return blank._replace(terms=_smooth(np.array([blank.counts(q) for q in found])))


def draw_widths(
    regions: Regions,
    light: tuple[float, float],
    off_px: Array,
    share: float,
    rng: np.random.Generator,
) -> Array:
    """Draw `N_IMAGES` images and return their q (m, 2); `share`: blur over the spot's variance."""
    camera = cast("Camera", stacked_camera(regions, alike=True))
    sigma_px, side = regions.sigma_um / regions.pixel_um, regions.adu.shape[1]
    places = off_px[rng.integers(0, len(off_px), N_IMAGES)] + 0.5 * (side - 1)
    paths = places[:, None] + _paths(rng) * math.sqrt(6 * share) * sigma_px
    rate = light[1] + light[0] * _images(paths, sigma_px, side)
    return widths_of(camera.sample(rate, rng), camera, regions)


def _smooth(counts: Array) -> Array:
    """Return the polynomials (DEGREE + 1, C) that make counts (nodes, C) likeliest, by Newton."""
    basis = _basis(np.linspace(-1, 1, len(counts)))
    terms = np.zeros((DEGREE + 1, counts.shape[1]))
    value = _misfit(terms, basis, counts)
    for _ in range(_PASSES):
        step = _newton_step(terms, basis, counts)
        size = 1.0
        while (trial := _misfit(terms - size * step, basis, counts)) > value and size > 1e-3:
            size *= 0.5
        gained, value, terms = value - trial, trial, terms - size * step
        if gained < _ENOUGH:
            break
    return terms


def _basis(at: Array) -> Array:
    """Return Legendre's polynomials (K, DEGREE + 1) at values (K,) from -1 to 1."""
    return np.asarray(np.polynomial.legendre.legvander(at, DEGREE), np.float64)


def _misfit(terms: Array, basis: Array, counts: Array) -> float:
    log_p = log_softmax(basis @ terms, axis=1)
    return 0.5 * _RIDGE * float((terms**2).sum()) - float((counts * log_p).sum())


def _newton_step(terms: Array, basis: Array, counts: Array) -> Array:
    """Return what Newton takes off the coefficients: inverse curvature times slope."""
    totals, p = counts.sum(axis=1), softmax(basis @ terms, axis=1)
    slope = basis.T @ (totals[:, None] * p - counts) + _RIDGE * terms
    spread = p[:, :, None] * (np.eye(p.shape[1]) - p[:, None, :])
    bend = np.einsum("k,ki,kj,kcd->icjd", totals, basis, basis, spread)
    bend = bend.reshape(terms.size, terms.size) + _RIDGE * np.eye(terms.size)
    return np.linalg.solve(bend, slope.ravel()).reshape(terms.shape)


def _paths(rng: np.random.Generator) -> Array:
    """Return paths (images, points, 2) about their means, of variance 1/6 along each axis."""
    steps = rng.normal(size=(N_IMAGES, N_POINTS, 2)) / math.sqrt(N_POINTS)
    path = np.cumsum(steps, axis=1) - 0.5 * steps
    return path - path.mean(axis=1, keepdims=True)


def _images(places_px: Array, sigma_px: float, side: int) -> Array:
    """Return the shares of light in each pixel (m, P, P) of paths (m, points, 2)."""
    edges = (np.arange(side + 1) - 0.5 - places_px[..., None]) / (math.sqrt(2.0) * sigma_px)
    shares = np.diff(0.5 * erf(edges), axis=-1)
    return np.einsum("mqi,mqj->mij", shares[:, :, 1], shares[:, :, 0]) / places_px.shape[1]
