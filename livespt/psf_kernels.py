# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""Pixel-integrated Gaussian profiles (theory: `livespt.psf`)."""

from __future__ import annotations

import math

from livespt.jit import kernel

_SQRT_HALF = math.sqrt(0.5)
_PHI0 = 1.0 / math.sqrt(2.0 * math.pi)


@kernel
def profile(centre, sigma, n, value, d_centre, d_sigma):
    """Fill the share of light in pixels 0..n-1 along one axis, and its two derivatives.

    With t = (edge - centre)/sigma: value = Phi(t+) - Phi(t-), d/d centre = -(phi(t+) -
    phi(t-))/sigma, d/d sigma = -(t+ phi(t+) - t- phi(t-))/sigma.
    """
    inverse = 1.0 / sigma
    t = (-0.5 - centre) * inverse
    last_erf = math.erf(t * _SQRT_HALF)
    last_phi = _PHI0 * inverse * math.exp(-0.5 * t * t)
    last_t_phi = t * last_phi
    for j in range(n):
        t = (j + 0.5 - centre) * inverse
        edge_erf = math.erf(t * _SQRT_HALF)
        edge_phi = _PHI0 * inverse * math.exp(-0.5 * t * t)
        edge_t_phi = t * edge_phi
        value[j] = 0.5 * (edge_erf - last_erf)
        d_centre[j] = last_phi - edge_phi
        d_sigma[j] = last_t_phi - edge_t_phi
        last_erf, last_phi, last_t_phi = edge_erf, edge_phi, edge_t_phi
