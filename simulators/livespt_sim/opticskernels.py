# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""Photons onto pixels: one by one from molecules, by inverse table from a uniform background."""

from __future__ import annotations

import math

from livespt.jit import kernel

from livespt_sim.randomkernels import SHIFT_52, bits, normal, poisson, unit

WITHIN_STEP = 1.0 / 6.0  # variance of a Brownian path about its own mean, per lam


@kernel
def add_photons(electrons, mid, lam, photons, pixel_um, sigma_um, rng, actual):
    """Add to `electrons` (H, W) the photons that molecules emit along their paths.

    `photons` (n, S) is the expected number per sub-step. Each photon starts at the sub-step's
    mean position `mid` (n, S, 2), is scattered by the path within the sub-step (Gaussian of that
    path's mean variance lam / 6) and by the PSF, and counts in the pixel where it lands.
    `actual` (n,) receives the number that landed on the sensor.
    """
    height, width = electrons.shape
    r = rng[0]
    for i in range(mid.shape[0]):
        landed = 0
        for j in range(mid.shape[1]):
            if photons[i, j] <= 0.0:
                continue
            sd = math.sqrt(sigma_um * sigma_um + WITHIN_STEP * lam[i, j]) / pixel_um
            x = mid[i, j, 0] / pixel_um + 0.5
            y = mid[i, j, 1] / pixel_um + 0.5
            reach = 8.0 * sd
            if not (-reach < x < width + reach and -reach < y < height + reach):
                continue
            r, n = poisson(r, photons[i, j])
            for _ in range(n):
                r, dx = normal(r)
                r, dy = normal(r)
                px = math.floor(x + sd * dx)
                py = math.floor(y + sd * dy)
                if 0 <= px < width and 0 <= py < height:
                    electrons[py, px] += 1
                    landed += 1
        actual[i] = landed
    rng[0] = r


@kernel
def fill_background(electrons, guide, cdf, rng):
    """Fill `electrons` (H, W) with draws from a distribution of 0, 1, 2, ... by its inverse.

    `guide` (4096,) gives the answer for the leading bits of the draw where they settle it, else
    -1 - the least number possible; `cdf` (K,) then decides (`optics.inverse_table`).
    """
    flat = electrons.reshape(-1)
    r = rng[0]
    for i in range(flat.shape[0]):
        r, z = bits(r)
        n = guide[z >> SHIFT_52]
        if n < 0:
            n = -1 - n
            u = unit(z)
            while u >= cdf[n]:
                n += 1
        flat[i] = n
    rng[0] = r
