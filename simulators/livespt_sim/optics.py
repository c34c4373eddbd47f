"""What reaches the sensor: molecules' photons along their paths, and the background.

Model: a molecule at r(t) emits photons as a Poisson process; a photon emitted at t lands at
r(t) + N(0, sigma^2) and counts in the pixel whose square it hits. So, given the path, the pixels
are independent Poisson numbers of rate

    E_i = b + N (1/te) int over the exposure of PSF_i(r(t)) dt

with real motion blur: no shape is assumed for it. The path is cut into sub-steps; within one, its
exact mean position is drawn, and its spread about that mean is taken as Gaussian of variance
lam / 6 (lam = 2 D h), the mean variance of a Brownian path about its own mean. The second moment of
the image is so exact for any number of sub-steps, and its shape converges fast with their number.

The PSF is a Gaussian, whose width may grow with the distance from focus as a beam's does,
sigma sqrt(1 + (z / depth)^2), or the vectorial one of psfmodels for freely turning dipoles. That
has no preferred direction, so a photon's distance from the centre is drawn from tabled quantiles.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from scipy.special import pdtr

from livespt.config import ConfigError
from livespt_sim.opticskernels import REACH_UM

#: Vectorial PSF: pixels of its tables, spacing in depth, quantiles.
FINE_UM, LAYER_UM, N_QUANTILES = 0.01, 0.05, 2048
IMMERSION_INDEX = 1.515


class Optics(NamedTuple):
    """What the kernels want to know (`opticskernels.gaussian_width`).

    Attributes
    ----------
    pixel_um, sigma_um : float
    depth_um : float
        Where a Gaussian's width has grown by sqrt 2; 0: it does not grow.
    radius_um : (Z, U) float64
        Quantiles of the distance from the centre at Z depths; empty for a Gaussian.
    first_um, step_um : float
        First depth, and how far apart they are.
    """

    pixel_um: float
    sigma_um: float
    depth_um: float
    radius_um: NDArray[np.float64]
    first_um: float
    step_um: float


def gaussian(pixel_um: float, sigma_um: float, depth_um: float = 0.0) -> Optics:
    """Return a Gaussian PSF."""
    return Optics(pixel_um, sigma_um, depth_um, np.zeros((0, 0)), 0.0, 1.0)


def vectorial(pixel_um: float, wavelength_um: float, numerical_aperture: float,
              deepest_um: float) -> Optics:  # fmt: skip
    """Return the vectorial PSF between `deepest_um` below and above focus.

    Light beyond `REACH_UM` is counted within it. The index of refraction is the immersion's
    everywhere: no aberration but defocus.

    Raises
    ------
    ConfigError
        psfmodels is not installed, or no such aperture.
    """
    if numerical_aperture >= IMMERSION_INDEX:
        raise ConfigError(
            f"source.options: numerical_aperture: {numerical_aperture:g}; expected less than the "
            f"index of the immersion, {IMMERSION_INDEX:g}"
        )
    try:
        from psfmodels import vectorial_psf
    except ImportError:
        raise ConfigError(
            "source.options: psf: 'vectorial' needs psfmodels: pip install 'livespt[simulate]'"
        ) from None
    layers = max(1, int(np.ceil(deepest_um / LAYER_UM)))
    depth = LAYER_UM * np.arange(layers + 1)
    index = dict.fromkeys(("ni", "ni0", "ns", "ng", "ng0"), IMMERSION_INDEX)
    side = 2 * round(REACH_UM / FINE_UM) + 1
    images = vectorial_psf(
        cast("Any", depth),
        nx=side,
        dxy=FINE_UM,
        wvl=wavelength_um,
        params={"NA": numerical_aperture, **index},
    )
    half = np.array([_quantiles(image) for image in images])
    both = np.concatenate([half[:0:-1], half])  # without aberrations alike on both sides
    sigma_um = 0.21 * wavelength_um / numerical_aperture
    return Optics(pixel_um, sigma_um, 0.0, both, -depth[-1], LAYER_UM)


def _quantiles(image: NDArray) -> NDArray[np.float64]:
    """Return the distance from the middle within which 0 ... 1 of the light lies."""
    middle = (np.arange(len(image)) - len(image) // 2) * FINE_UM
    distance = np.hypot(*np.meshgrid(middle, middle))
    rings = np.minimum((distance / FINE_UM + 0.5).astype(int), len(middle) // 2)
    edge = FINE_UM * (np.arange(rings.max() + 2) - 0.5).clip(0.0)
    inside = distance.ravel() <= edge[-1]
    mean = np.bincount(rings.ravel(), image.ravel() * inside) / np.bincount(rings.ravel(), inside)
    share = np.concatenate([[0.0], np.cumsum(mean * np.diff(edge**2))])
    return np.interp(np.linspace(0, 1, N_QUANTILES), share / share[-1], edge)


def decaying(start: float, floor: float, tau_s: float, t_s: float) -> float:
    """Return what decays exponentially from `start` to `floor`; `start` where `tau_s` is 0."""
    if tau_s <= 0:
        return start
    return floor + (start - floor) * math.exp(-t_s / tau_s)


def poisson_cdf(mean: float) -> NDArray[np.float64]:
    """Return P(n <= k) of a Poisson number, as far as it differs from 1; the last is 1."""
    n_max = int(mean + 8.0 * math.sqrt(mean)) + 20  # what lies above has P < 1e-13
    cdf = pdtr(np.arange(n_max), mean)
    cdf[-1] = 1.0
    return cdf


def inverse_table(cdf: NDArray[np.float64]) -> NDArray[np.int32]:
    """Tabulate the inverse of a discrete distribution for `opticskernels.fill`.

    Returns
    -------
    (2^k,) int32
        The number that a draw u of [i, i + 1) / 2^k gives, where there is only one; else
        -1 - the smallest one. About 64 cells per number keep the second case rare.
    """
    cells = 1 << min(16, 6 + len(cdf).bit_length())
    edges = np.arange(cells + 1) / cells
    low = np.searchsorted(cdf, edges[:-1], side="right")
    high = np.searchsorted(cdf, edges[1:], side="left")
    return np.where(low >= high, low, -1 - low).astype(np.int32)
