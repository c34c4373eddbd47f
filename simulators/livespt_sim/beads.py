"""Beads that lie still under a laser that alternates, as in Linden 2017, figure 4.

Beads of .1 um, 80 nm pixels, NA 1.49, 10 frames of strong light in every 100. A bright frame has
ten times the light of a dim one, background and all, and the background of dim ones is .7 photons
per pixel. What the paper does not tell is assumed: light of 545 nm (the middle of its filter), the
camera of its simulations, beads up to .15 um out of focus, a drift of 30 nm in the film's 1000
frames with a random walk of .2 nm a frame on top. Ten bright frames in a block are the paper's
words; its .2 s of strong light would hold six or seven of its exposures of 30 ms.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from livespt_sim.linden2017 import PIXEL_UM, SIDE, Array, counts_of
from livespt_sim.optics import Optics, vectorial

WAVELENGTH_UM, APERTURE, RADIUS_UM = 0.545, 1.49, 0.05
SIGMA0 = 0.21 * WAVELENGTH_UM / APERTURE / PIXEL_UM  # pixels
PERIOD, N_BRIGHT = 100, 10
RATIO, BG = 10.0, 0.7
_DEEPEST_UM, _DRIFT_UM, _WALK_UM, _POINTS = 0.15, 3e-5, 2e-4, 64  # drift and walk: a frame


class Film(NamedTuple):
    """One bead's frames.

    Attributes
    ----------
    adu : (n, SIDE, SIDE) uint16
    at_px : (n, 2) float64
        Where the bead is, x and y from the region's centre.
    bright : (n,) bool
    """

    adu: NDArray[np.uint16]
    at_px: Array
    bright: NDArray[np.bool_]


def optics() -> Optics:
    """Return the microscope's.

    Raises
    ------
    ConfigError
        psfmodels is not installed.
    """
    return vectorial(PIXEL_UM, WAVELENGTH_UM, APERTURE, _DEEPEST_UM + RADIUS_UM)


def film(photons: float, n: int, through: Optics, rng: np.random.Generator) -> Film:
    """Return `n` frames of a bead of `photons` in a dim one."""
    angle = rng.uniform(0, 2 * np.pi)
    step = _DRIFT_UM * np.array([np.cos(angle), np.sin(angle)])
    off = np.cumsum(step + _WALK_UM * rng.standard_normal((n, 2)), axis=0)
    at = rng.uniform(-0.5, 0.5, 2) * PIXEL_UM + off - off.mean(axis=0)
    centre = np.pad(at + SIDE // 2 * PIXEL_UM, ((0, 0), (0, 1)))
    centre[:, 2] = rng.uniform(-_DEEPEST_UM, _DEEPEST_UM)
    where = centre[:, None] + _ball(rng)
    bright = np.arange(n) % PERIOD < N_BRIGHT
    adu = np.empty((n, SIDE, SIDE), np.uint16)
    for which, times in ((bright, RATIO), (~bright, 1.0)):
        adu[which] = counts_of(where[which], times * photons, times * BG, through, rng)
    return Film(adu, at / PIXEL_UM, bright)


def _ball(rng: np.random.Generator) -> Array:
    """Return points (_POINTS, 3) of a bead about its centre, um; their mean is the centre."""
    way = rng.standard_normal((_POINTS // 2, 3))
    way *= RADIUS_UM * np.cbrt(rng.random((len(way), 1))) / np.linalg.norm(way, axis=1)[:, None]
    return np.concatenate([way, -way])
