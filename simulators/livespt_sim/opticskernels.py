# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""Photons onto pixels: one by one from molecules, by inverse table from a uniform background."""

from __future__ import annotations

import math

import numpy as np

from livespt.jit import kernel
from livespt_sim.randomkernels import bits, normal, poisson, unit

BITS = np.uint64(64)
FLOOR = 1 << 20  # makes truncation round down
WITHIN_STEP = 1.0 / 6.0  # variance of a Brownian path about its own mean, per lam


@kernel
def add_photons(electrons, mid, lam, photons, pixel_um, sigma_um, rng, landed, lit):
    """Add to `electrons` (H, W), zero at first, the photons molecules emit along their paths.

    `photons` (n, S) is the expected number per sub-step. Each photon starts at the sub-step's
    mean position `mid` (n, S, 2), is scattered by the path within the sub-step (Gaussian of that
    path's mean variance lam / 6) and by the PSF, and counts in the pixel where it lands.
    `landed` (n,) receives the number that hit the sensor, `lit` (H W,) the flat indices of pixels
    hit; returns how many those are.
    """
    height, width = electrons.shape
    r = rng[0]
    n_lit = 0
    for i in range(mid.shape[0]):
        hits = 0
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
                px = int(x + sd * dx + FLOOR) - FLOOR
                py = int(y + sd * dy + FLOOR) - FLOOR
                if 0 <= px < width and 0 <= py < height:
                    if electrons[py, px] == 0:
                        lit[n_lit] = py * width + px
                        n_lit += 1
                    electrons[py, px] += 1
                    hits += 1
        landed[i] = hits
    rng[0] = r
    return n_lit


@kernel
def fill(flat, guide, cdf, rng):
    """Fill `flat` (n,) with draws from a distribution of 0, 1, 2, ... by its inverse.

    `guide` (2^k,) gives the answer for the leading bits of a draw where they settle it, else
    -1 - the least number possible; `cdf` (K,) then decides (`optics.inverse_table`).
    """
    r = rng[0]
    shift = BITS - np.uint64(round(math.log2(guide.shape[0])))
    for i in range(flat.shape[0]):
        r, z = bits(r)
        n = guide[z >> shift]
        if n < 0:
            n = -1 - n
            u = unit(z)
            while u >= cdf[n]:
                n += 1
        flat[i] = n
    rng[0] = r
