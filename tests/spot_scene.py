"""Regions and frames with known spots, and the exact bound on how well they can be fitted.

The bound is that of the camera itself (`camera.fisher`, summed over all counts), not of the
likelihood that a fit happens to use.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.interpolate import RegularGridInterpolator
from scipy.special import ndtr

from livespt import psf
from livespt.camera import Ideal, Scmos

SIGMA = 1.3


class Regions(NamedTuple):
    """`n` regions of one spot each; `at` (n, 2) is x, y relative to the region's centre."""

    at: np.ndarray
    rate: np.ndarray
    adu: np.ndarray
    photons: float
    bg: float
    sigma: float


class Score(NamedTuple):
    """How a set of fits compares with the truth and with the bound."""

    rmse_over_bound: float
    bias_px: float
    bias_se_px: float
    reported_over_true: float
    share_ok: float


def share(centre, sigma, n):
    """Light per pixel along one axis, (len(centre), n)."""
    edges = np.arange(n + 1) - 0.5
    return np.diff(ndtr((edges - centre[:, None]) / sigma), axis=1)


def regions(camera, photons, bg, n, rng, side=9, sigma=SIGMA, low=0.0, high=0.5):
    """Draw `n` regions; spots lie between `low` and `high` px to the right of and below the centre.

    Not around it: a pull towards the centre would average out.
    """
    at = rng.uniform(low, high, (n, 2))
    middle = side // 2
    light = share(at[:, 1] + middle, sigma, side)[:, :, None]
    rate = bg + photons * light * share(at[:, 0] + middle, sigma, side)[:, None, :]
    stacked = camera.shape is not None and camera.shape != (side, side)
    shape = (n * side, side) if stacked else (n, side, side)
    adu = camera.sample(rate.reshape(shape), rng).reshape(n, side, side)
    return Regions(at, rate, adu, photons, bg, sigma)


def hot_camera(n, side, rng, hot=0.03):
    """Maps of `n` stacked regions: spread gains and offsets, 3 % of the pixels 20 times noisier."""
    shape = (n * side, side)
    var = rng.lognormal(np.log(1.5), 0.3, shape)
    var[rng.random(shape) < hot] *= 20.0
    return Scmos(rng.normal(2.2, 0.07, shape), rng.normal(100.0, 2.0, shape), var)


def information(camera, rate):
    """Exact Fisher information per pixel of a stack of rates, read off a fine grid.

    Maps go in by their read variance; their gains (a few per cent of spread) only move the
    rounding noise, a sixtieth of an electron squared, and enter as their mean.
    """
    rates = np.geomspace(0.99 * rate.min(), 1.01 * rate.max(), 24)
    if camera.shape is None:
        return np.interp(rate, rates, rates * camera.fisher(rates)) / rate
    var = camera.var_e2[: rate.shape[0] * rate.shape[1]].reshape(rate.shape)
    levels = np.geomspace(var.min(), var.max(), 24)
    gain = float(np.mean(camera.gain_adu_per_e))
    flat = np.array([(rates + v) * Scmos(gain, 100.0, v).fisher(rates) for v in levels])
    axes = (np.log(levels), np.log(rates))
    return RegularGridInterpolator(axes, flat)((np.log(var), np.log(rate))) / (rate + var)


def variances(camera, scene, n=400):
    """Cramer-Rao variances of x and y of the first `n` spots, (n, 2)."""
    side = scene.rate.shape[1]
    info = information(camera, scene.rate[:n])
    found = np.empty((n, 2))
    for k, (x, y) in enumerate(scene.at[:n] + side // 2):
        theta = (x, y, scene.photons, scene.bg, scene.sigma)
        found[k] = np.diag(np.linalg.inv(psf.fisher_matrix(theta, info[k], side)))[:2]
    return found


def score(camera, scene, x_px, y_px, var_x, var_y, ok, n_bound=1500):
    """Compare fits (relative to the centre) with the truth and the bound."""
    errors = np.stack([x_px, y_px], axis=1)[ok] - scene.at[ok]
    reported = np.stack([var_x, var_y], axis=1)[ok]
    rmse = np.sqrt(np.mean(errors**2))
    return Score(
        float(rmse / np.sqrt(variances(camera, scene, n_bound).mean())),
        float(errors.mean()),
        float(errors.std() / np.sqrt(errors.size)),
        float(np.sqrt(reported.mean()) / rmse),
        float(np.mean(ok)),
    )


def scattered(shape, n, rng, apart=0.0, border=6.0):
    """Positions (n, 2) as x, y anywhere but at the border, none nearer than `apart`."""
    high = np.array([shape[1] - 1 - border, shape[0] - 1 - border])
    taken: dict[tuple[int, int], list] = {}
    found = []
    while len(found) < n:
        spot = rng.uniform(border, high)
        cell = tuple(int(v // max(apart, 1.0)) for v in spot)
        cells = [(cell[0] + i, cell[1] + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        near = [other for c in cells for other in taken.get(c, [])]
        if all(np.hypot(*(spot - p)) >= apart for p in near):
            taken.setdefault(cell, []).append(spot)
            found.append(spot)
    return np.array(found)


def image(shape, at, photons, bg, sigma=SIGMA):
    """Return the rate image (H, W) of spots at `at` (n, 2) as x, y."""
    rate = np.full(shape, float(bg))
    half = int(np.ceil(6 * sigma))
    for x, y in at:
        x0, y0 = max(int(x) - half, 0), max(int(y) - half, 0)
        part = rate[y0 : y0 + 2 * half + 2, x0 : x0 + 2 * half + 2]
        along_y = share(np.array([y - y0]), sigma, part.shape[0])[0]
        part += photons * np.outer(along_y, share(np.array([x - x0]), sigma, part.shape[1])[0])
    return rate


def frames(camera, shape, n_spots, photons, bg, n_frames, rng, apart=0.0):
    """Return a stack of frames (n, H, W) uint16 and the list of true positions."""
    truth = [scattered(shape, n_spots, rng, apart) for _ in range(n_frames)]
    stack = [(camera or Ideal()).sample(image(shape, at, photons, bg), rng) for at in truth]
    return np.stack(stack), truth
