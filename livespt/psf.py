"""The spot: a Gaussian integrated over each pixel (SCIENCE 1).

A molecule at (x, y) that sends N photons over a background of b per pixel makes the rate

    E_ij = b + N X_j(x, sigma_x) Y_i(y, sigma_y)
    X_j  = Phi((j + 1/2 - x)/sigma) - Phi((j - 1/2 - x)/sigma)

because the symmetric Gaussian is separable. Pixel centres are integers, lengths are pixels. The
width that fits an in-focus spot is sigma0 = 0.21 wavelength/NA; motion within the exposure
widens it, which is why the width is left free.

Symbols: N photons, b bg_photons, (x, y) = (x_px, y_px).
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from livespt import psf_kernels as kernels

Array: TypeAlias = NDArray[np.float64]


class Profile(NamedTuple):
    """Share of a spot's light per pixel along one axis, with derivatives; each (n,)."""

    value: Array
    d_centre: Array
    d_sigma: Array


def profile(centre_px: float, sigma_px: float, n: int) -> Profile:
    """Integrate a 1-D Gaussian over the pixels 0 to n-1.

    Parameters
    ----------
    centre_px, sigma_px : float
        Centre (pixel centres are integers) and standard deviation.
    n : int
        Number of pixels.

    Returns
    -------
    Profile
        Shares (they sum to 1 over an infinite axis) and their derivatives, 1/px.
    """
    out = Profile(np.empty(n), np.empty(n), np.empty(n))
    kernels.profile(float(centre_px), float(sigma_px), n, *out)
    return out


def spot_image(
    x_px: float,
    y_px: float,
    photons: float,
    sigma_px: float | tuple[float, float],
    shape: tuple[int, int],
) -> Array:
    """Return the expected photons (H, W) of one spot, without background.

    Parameters
    ----------
    x_px, y_px : float
        Position; (0, 0) is the centre of the first pixel.
    photons : float
        Integral over the infinite plane.
    sigma_px : float or (float, float)
        Width, or the widths along x and y.
    shape : (int, int)
        Height and width of the image.
    """
    sigma_x, sigma_y = sigma_px if isinstance(sigma_px, tuple) else (sigma_px, sigma_px)
    along_x = profile(x_px, sigma_x, shape[1]).value
    along_y = profile(y_px, sigma_y, shape[0]).value
    return photons * np.outer(along_y, along_x)


def fisher_matrix(
    theta: tuple[float, float, float, float, float], pixel_fisher: Array, n: int
) -> Array:
    """Return the 5x5 Fisher information of (x, y, N, b, sigma) in an n x n region.

    Parameters
    ----------
    theta : (x_px, y_px, photons, bg_photons, sigma_px)
        Position relative to the first pixel's centre.
    pixel_fisher : (n, n) float64
        Information of each pixel about its rate, `camera.fisher(rate)`.
    n : int
        Side of the region.
    """
    derivatives = rate_derivatives(theta, n)
    return np.einsum("aij,bij,ij->ab", derivatives, derivatives, pixel_fisher)


def rate_derivatives(theta: tuple[float, float, float, float, float], n: int) -> Array:
    """Return dE_ij/d(x, y, N, b, sigma) as (5, n, n)."""
    x, y, photons, _, sigma = theta
    px, py = profile(x, sigma, n), profile(y, sigma, n)
    return np.stack(
        [
            photons * np.outer(py.value, px.d_centre),
            photons * np.outer(py.d_centre, px.value),
            np.outer(py.value, px.value),
            np.ones((n, n)),
            photons * (np.outer(py.d_sigma, px.value) + np.outer(py.value, px.d_sigma)),
        ]
    )
