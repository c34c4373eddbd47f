"""The scenes of Lin and Andersson 2021: one molecule, a region of pixels that moves with it.

Frames of 100 ms, exposed during the first 10 ms; 540 nm, NA 1.2, pixels of 100 nm (sigma 101.3 nm);
photons 2 pi sigma^2 / pixel^2 times G. The region is centred on the molecule, off by up to a pixel
either way. The paper's tables of parameters are not to be had; these match its text.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from livespt.camera import Camera, Ideal
from livespt.psf import spot_image

PIXEL_UM, SIGMA_UM = 0.1, 0.1013
INTERVAL_S, EXPOSURE_S = 0.1, 0.01
SIDE, N_FRAMES, PARTS = 9, 100, 10


class Scene(NamedTuple):
    """One molecule's movie and its truth.

    Attributes
    ----------
    adu : (n, P, P) uint16
    corner_px : (n, 2) int64
        x, y of each region's first pixel.
    t_s : (n,) float64
    x_um : (n, 2) float64
        Mean position over each exposure, x and y.
    photons, bg_photons : float
        Of the molecule; per pixel.
    exposure_s : float
        0 where the molecule is made to stand still while the shutter is open.
    """

    adu: NDArray[np.uint16]
    corner_px: NDArray[np.int64]
    t_s: NDArray[np.float64]
    x_um: NDArray[np.float64]
    photons: float
    bg_photons: float
    exposure_s: float


def photons_of(G: float) -> float:
    """Return the photons of a molecule of peak intensity G per pixel."""
    return 2.0 * math.pi * (SIGMA_UM / PIXEL_UM) ** 2 * G


def make_scene(
    G: float,
    bg_photons: float,
    D_um2_s: tuple[float, float],
    rng: np.random.Generator,
    *,
    blur: bool = True,
    n_frames: int = N_FRAMES,
    camera: Camera | None = None,
) -> Scene:
    """Simulate one molecule that diffuses with D along x and along y.

    Parameters
    ----------
    G, bg_photons : float
        Peak intensity and background per pixel.
    D_um2_s : (float, float)
    rng : numpy.random.Generator
    blur : bool
        Let it move while the shutter is open, in `PARTS` parts; else it stands still then.
    n_frames : int
    camera : Camera, optional
        Ideal unless given; without maps.
    """
    camera = camera or Ideal()
    exposure_s = EXPOSURE_S if blur else 0.0
    D, photons, at = np.asarray(D_um2_s), photons_of(G), np.zeros(2)
    adu = np.empty((n_frames, SIDE, SIDE), np.uint16)
    corner_px, x_um = np.empty((n_frames, 2), np.int64), np.empty((n_frames, 2))
    for n in range(n_frames):
        parts = PARTS if blur else 1
        steps = rng.normal(size=(parts, 2)) * np.sqrt(2 * D * exposure_s / parts)
        path = at + np.cumsum(steps, axis=0) - steps / 2
        x_um[n] = path.mean(axis=0)
        corner_px[n] = np.round(x_um[n] / PIXEL_UM) + rng.integers(-1, 2, 2) - SIDE // 2
        rate = np.full((SIDE, SIDE), float(bg_photons))
        for x, y in path / PIXEL_UM - corner_px[n]:
            rate += spot_image(x, y, photons / parts, SIGMA_UM / PIXEL_UM, (SIDE, SIDE))
        adu[n] = camera.sample(rate, rng)
        at = at + steps.sum(axis=0)
        at = at + rng.normal(size=2) * np.sqrt(2 * D * (INTERVAL_S - exposure_s))
    t_s = INTERVAL_S * np.arange(n_frames, dtype=np.float64)
    return Scene(adu, corner_px, t_s, x_um, photons, float(bg_photons), exposure_s)
