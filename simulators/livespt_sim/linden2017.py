"""Spots of molecules that move while the shutter is open, as in Linden 2017, figures 2 and 3.

Diffusion at D = 1 um2/s in a cylinder of radius 0.4 um along x, sampled at 64 times within the
exposure; pixels of 80 nm; an EMCCD of gain 50 and readout s.d. 10. The spot is a Gaussian of
95.85 nm, or the vectorial one (639 nm, NA 1.4, focused on the cylinder's axis). What a fit is held
against is the mean of the path over the exposure.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from livespt.camera import Emccd
from livespt_sim import opticskernels
from livespt_sim.optics import Optics, vectorial
from livespt_sim.readout import Readout

PIXEL_UM, SIGMA0 = 0.08, 95.85 / 80.0  # sigma0 in pixels
WAVELENGTH_UM, APERTURE = 0.639, 1.4
CAMERA = Emccd(50.0, 2.0, 10.0, 100.0)
SIDE, STEPS, RADIUS_UM = 9, 64, 0.4

Array = NDArray[np.float64]


class Cell(NamedTuple):
    """One condition of the figures: background per pixel, photons per spot."""

    exposure_ms: int
    bg: float
    photons: float

    @property
    def blur(self) -> float:
        """sqrt(D tE/3)/sigma0."""
        return float(np.sqrt(self.exposure_ms * 1e-3 / 3.0) / (SIGMA0 * PIXEL_UM))


def paths(
    n: int, exposure_s: float, rng: np.random.Generator, D_um2_s: float = 1.0
) -> tuple[Array, Array, Array]:
    """Return x, y, z (n, STEPS) in um; y and z within the cylinder, x from 0."""
    sd = np.sqrt(2.0 * D_um2_s * exposure_s / STEPS)
    x = np.cumsum(sd * rng.standard_normal((n, STEPS)), axis=1)
    r, angle = RADIUS_UM * np.sqrt(rng.random(n)), rng.uniform(0, 2 * np.pi, n)
    yz = np.stack([r * np.cos(angle), r * np.sin(angle)])
    y, z = np.empty((n, STEPS)), np.empty((n, STEPS))
    for k in range(STEPS):
        yz = yz + sd * rng.standard_normal((2, n))
        far = np.hypot(*yz)
        yz = yz * np.where(far > RADIUS_UM, 2 * RADIUS_UM / np.maximum(far, 1e-9) - 1.0, 1.0)
        y[:, k], z[:, k] = yz
    return x, y, z


def images(cell: Cell, n: int, rng: np.random.Generator) -> tuple[NDArray[np.uint16], Array]:
    """Return counts (n, SIDE, SIDE) of Gaussian spots and true positions (n, 2), in px.

    Positions are relative to the region's centre.
    """
    x, y, _, at = _placed(cell, n, rng)
    edges = np.arange(SIDE + 1) - 0.5
    rate = np.full((n, SIDE, SIDE), cell.bg)
    for k in range(STEPS):
        along_x = np.diff(ndtr((edges - x[:, k, None]) / SIGMA0), axis=1)
        along_y = np.diff(ndtr((edges - y[:, k, None]) / SIGMA0), axis=1)
        rate += cell.photons / STEPS * along_y[:, :, None] * along_x[:, None, :]
    return CAMERA.sample(rate, rng), at


def vectorial_images(
    cell: Cell, n: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint16], Array]:
    """Return the same as `images` through the real optics, out of focus where the path is.

    Raises
    ------
    ConfigError
        psfmodels is not installed.
    """
    optics = vectorial(PIXEL_UM, WAVELENGTH_UM, APERTURE, RADIUS_UM)
    x, y, z, at = _placed(cell, n, rng)
    where = np.stack([x * PIXEL_UM, y * PIXEL_UM, z], axis=2)
    return counts_of(where, cell.photons, cell.bg, optics, rng), at


def counts_of(
    where: Array, photons: float, bg: float, optics: Optics, rng: np.random.Generator
) -> NDArray[np.uint16]:
    """Return counts (n, SIDE, SIDE) of points that share the light of one spot.

    Parameters
    ----------
    where : (n, S, 3) float64
        From the first pixel's centre, um; z from the focus.
    photons, bg : float
        Per spot, and per pixel.
    optics : Optics
    rng : Generator
    """
    n, steps = where.shape[:2]
    draw = rng.integers(1 << 63, size=2).astype(np.uint64)
    readout = Readout(CAMERA, (SIDE, SIDE), tabulate=True)
    adu = np.empty((n, SIDE, SIDE), np.uint16)
    still, light = np.zeros((1, steps)), np.full((1, steps), photons / steps)
    landed, lit = np.zeros(1, np.int64), np.zeros(SIDE * SIDE, np.int64)
    with np.errstate(over="ignore"):  # kernels run as Python: their counters wrap on purpose
        for i in range(n):
            electrons = np.zeros((SIDE, SIDE), np.int32)
            n_lit = opticskernels.add_photons(
                electrons, where[i : i + 1], still, light, optics, draw[:1], landed, lit
            )
            adu[i] = readout(electrons, lit[:n_lit], bg, draw[1:])
    return adu


def _placed(cell: Cell, n: int, rng: np.random.Generator) -> tuple[Array, Array, Array, Array]:
    """Return paths in the region, x and y in px and z in um, and their means from its centre."""
    x, y, z = paths(n, cell.exposure_ms * 1e-3, rng)
    at = rng.uniform(-0.5, 0.5, (n, 2))
    middle = SIDE // 2
    x = (x - x.mean(axis=1, keepdims=True)) / PIXEL_UM + middle + at[:, :1]
    y = (y - y.mean(axis=1, keepdims=True)) / PIXEL_UM + middle + at[:, 1:]
    return x, y, z, at
