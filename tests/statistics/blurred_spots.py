"""Spots of molecules that move while the shutter is open, as in Linden 2017, figures 2 and 3.

Diffusion at D = 1 um2/s in a cylinder of radius 0.4 um along x, sampled at 64 times within the
exposure; a Gaussian spot of 95.85 nm at each; pixels of 80 nm; an EMCCD of gain 50 and readout s.d.
10. What a fit is held against is the mean of the path over the exposure.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

from livespt.camera import Emccd
from livespt.localize import fit_rois

PIXEL_UM, SIGMA0 = 0.08, 95.85 / 80.0  # sigma0 in pixels
CAMERA = Emccd(50.0, 2.0, 10.0, 100.0)
SIDE, STEPS, RADIUS_UM = 9, 64, 0.4


class Cell(NamedTuple):
    """One condition of the figures."""

    exposure_ms: int
    bg: float
    photons: float

    @property
    def blur(self):
        """sqrt(D tE/3)/sigma0."""
        return np.sqrt(self.exposure_ms * 1e-3 / 3.0) / (SIGMA0 * PIXEL_UM)


def paths(n, exposure_s, rng, D=1.0):
    """Return x, y (n, STEPS) in um; y within the cylinder."""
    sd = np.sqrt(2.0 * D * exposure_s / STEPS)
    x = np.cumsum(sd * rng.standard_normal((n, STEPS)), axis=1)
    r, angle = RADIUS_UM * np.sqrt(rng.random(n)), rng.uniform(0, 2 * np.pi, n)
    yz = np.stack([r * np.cos(angle), r * np.sin(angle)])
    y = np.empty((n, STEPS))
    for k in range(STEPS):
        yz = yz + sd * rng.standard_normal((2, n))
        far = np.hypot(*yz)
        yz = yz * np.where(far > RADIUS_UM, 2 * RADIUS_UM / np.maximum(far, 1e-9) - 1.0, 1.0)
        y[:, k] = yz[0]
    return x, y


def images(cell, n, rng):
    """Return counts (n, SIDE, SIDE) and true positions (n, 2) relative to the region's centre."""
    x, y = paths(n, cell.exposure_ms * 1e-3, rng)
    at = rng.uniform(-0.5, 0.5, (n, 2))
    middle = SIDE // 2
    x = (x - x.mean(axis=1, keepdims=True)) / PIXEL_UM + middle + at[:, :1]
    y = (y - y.mean(axis=1, keepdims=True)) / PIXEL_UM + middle + at[:, 1:]
    edges = np.arange(SIDE + 1) - 0.5
    rate = np.full((n, SIDE, SIDE), cell.bg)
    for k in range(STEPS):
        along_x = np.diff(ndtr((edges - x[:, k, None]) / SIGMA0), axis=1)
        along_y = np.diff(ndtr((edges - y[:, k, None]) / SIGMA0), axis=1)
        rate += cell.photons / STEPS * along_y[:, :, None] * along_x[:, None, :]
    return CAMERA.sample(rate, rng), at


class Verdict(NamedTuple):
    """How one kind of fit did in one cell."""

    rmse_nm: float
    sd_over_rmse: float  # root mean reported variance over RMSE
    z_sd: float  # s.d. of errors over their reported s.d.
    accepted: float


def judge(adu, truth, **how):
    """Fit, keep what the paper keeps, and hold it against the truth."""
    fits = fit_rois(adu, CAMERA, SIGMA0, **how)
    error = np.stack([fits["x_px"], fits["y_px"]], axis=1) - truth
    variance = np.stack([fits["covariance"][:, a, a] for a in (0, 1)], axis=1)
    kept = (variance.min(axis=1) > 0) & (variance.max(axis=1) < 16.0**2)
    kept &= (np.abs(error).max(axis=1) < 4.0) & (fits["sigma_px"] < SIDE)
    error, variance = error[kept], variance[kept]
    rmse = np.sqrt(np.mean(error**2))
    return Verdict(
        1e3 * PIXEL_UM * rmse,
        np.sqrt(variance.mean()) / rmse,
        np.std(error / np.sqrt(variance)),
        kept.mean(),
    )
