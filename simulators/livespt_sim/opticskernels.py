# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""Photons onto pixels: one by one from molecules, by inverse table from a uniform background."""

from __future__ import annotations

import math

import numpy as np

from livespt.jit import inlined, kernel
from livespt_sim.randomkernels import bits, normal, poisson, uniform, unit

BITS = np.uint64(64)
FLOOR = 1 << 20  # makes truncation round down
TURN = 2.0 * math.pi
REACH_UM = 2.0  # of a table of radii
WITHIN_STEP = 1.0 / 6.0  # variance of a Brownian path about its own mean, per lam


@inlined
def radius(u, z_um, table, first_um, step_um):
    """Return how far from the centre a photon lands: the quantile `u` at depth `z_um`.

    `table` (Z, U) holds quantiles at Z depths, `step_um` apart from `first_um` on.
    """
    n_z, n_u = table.shape
    at = min(max((z_um - first_um) / step_um, 0.0), n_z - 1.000001)
    k = int(at)
    w = at - k
    along = u * (n_u - 1)
    i = min(int(along), n_u - 2)
    v = along - i
    near = (1.0 - v) * table[k, i] + v * table[k, i + 1]
    far = (1.0 - v) * table[k + 1, i] + v * table[k + 1, i + 1]
    return (1.0 - w) * near + w * far


@inlined
def gaussian_width(z_um, var_um2, optics):
    """Return the s.d. of the Gaussian part: of the path's spread, and of the PSF where it is one.

    `optics` = (pixel_um, sigma_um, depth_um, table, first_um, step_um): a table of radii, or, where
    it is empty, a Gaussian whose width grows with z / depth (depth 0: does not).
    """
    _, sigma_um, depth_um, table, _, _ = optics
    if table.shape[0] > 0:
        return math.sqrt(var_um2)
    grown = 1.0 + (z_um / depth_um) ** 2 if depth_um > 0.0 else 1.0
    return math.sqrt(var_um2 + sigma_um * sigma_um * grown)


@inlined
def ring(r, z_um, optics):
    """Draw where a photon lands (dx, dy) by the table of radii, from `z_um` above focus."""
    r, u = uniform(r)
    r, turn = uniform(r)
    away = radius(u, z_um, optics[3], optics[4], optics[5])
    return r, away * math.cos(TURN * turn), away * math.sin(TURN * turn)


@kernel
def add_photons(electrons, mid, lam, photons, optics, rng, landed, lit):
    """Add to `electrons` (H, W), zero at first, the photons molecules emit along their paths.

    `photons` (n, S) is the expected number per sub-step. Each photon starts at the sub-step's
    mean position `mid` (n, S, 3), is scattered by the path within the sub-step (Gaussian of that
    path's mean variance lam / 6) and by the PSF (`optics`), and counts where it lands.
    `landed` (n,) receives the number that hit the sensor, `lit` (H W,) the flat indices of pixels
    hit; returns how many those are.
    """
    height, width = electrons.shape
    pixel_um = optics[0]
    tabled = optics[3].shape[0] > 0
    far_px = REACH_UM / pixel_um if tabled else 0.0
    r = rng[0]
    n_lit = 0
    for i in range(mid.shape[0]):
        hits = 0
        for j in range(mid.shape[1]):
            if photons[i, j] <= 0.0:
                continue
            z = mid[i, j, 2]
            width_px = gaussian_width(z, WITHIN_STEP * lam[i, j], optics) / pixel_um
            x = mid[i, j, 0] / pixel_um + 0.5
            y = mid[i, j, 1] / pixel_um + 0.5
            reach = far_px + 8.0 * width_px
            if not (-reach < x < width + reach and -reach < y < height + reach):
                continue
            r, n = poisson(r, photons[i, j])
            for _ in range(n):
                r, dx = normal(r)
                r, dy = normal(r)
                at_x, at_y = x + width_px * dx, y + width_px * dy
                if tabled:
                    r, rx, ry = ring(r, z, optics)
                    at_x, at_y = at_x + rx / pixel_um, at_y + ry / pixel_um
                px = int(at_x + FLOOR) - FLOOR
                py = int(at_y + FLOOR) - FLOOR
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


@kernel
def fill_uneven(flat, rate, rng):
    """Fill `flat` (n,) with Poisson draws, each of its own `rate`."""
    r = rng[0]
    for i in range(flat.shape[0]):
        r, flat[i] = poisson(r, rate[i])
    rng[0] = r
