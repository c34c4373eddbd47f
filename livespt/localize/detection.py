"""Finding spots: a matched filter whose threshold is a false-alarm rate.

The frame in electrons, less a smooth background level, is filtered with k = (unit Gaussian of the
spot's width) - (box mean). The box makes the filter blind to gradients; pixels that stand out as
spots are clipped in the box, so that a bright neighbour does not dig a hole. Local maxima of the
output f are spots where

    f > T(b, V)

with b the local background level (tiles of 32 px: mean of what is not a spot, smoothed), V the
camera's read variance behind the filter at that pixel, and T from the number of false spots per
frame that the user allows (`livespt.localize.threshold`). A constant added to a frame and to the
camera's offset changes nothing.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import convolve

from livespt import psf
from livespt.camera import Camera, CameraError, Emccd
from livespt.localize import detect_kernels as kernels
from livespt.localize.detect_kernels import Plan, Work
from livespt.localize.errors import LocalizeError
from livespt.localize.fit import check_sigma, electron_maps
from livespt.localize.line_kernels import N_NAMED, SPARE, layout_of
from livespt.localize.threshold import level_sds, limits

#: Result of `detect`; `strength` is the filter's output over its threshold.
DETECTION_DTYPE = np.dtype(
    [("x_px", "f8"), ("y_px", "f8"), ("photons", "f8"), ("bg_photons", "f8"), ("strength", "f8")]
)


def detect(
    frame_adu: ArrayLike, camera: Camera, sigma_px: float, false_per_frame: float = 0.1
) -> NDArray[np.void]:
    """Find the spots of one frame.

    Parameters
    ----------
    frame_adu : (H, W) uint16
        Counts as read out.
    camera : Camera
        The pixel model of the whole frame.
    sigma_px : float
        Width of an in-focus spot.
    false_per_frame : float
        Spots to expect in a frame that holds none, > 0.

    Returns
    -------
    (n,) structured array
        `DETECTION_DTYPE` in reading order: rough positions, photons and background (e/px).

    Raises
    ------
    LocalizeError
        The frame is not 2-D uint16, or a parameter is out of range.
    CameraError
        The camera's maps have another shape than the frame.
    """
    frame = np.asarray(frame_adu)
    if frame.ndim != 2 or frame.dtype != np.uint16:
        raise LocalizeError(
            f"frame: found {frame.dtype} of shape {frame.shape}; expected uint16 (H, W)"
        )
    shape = (frame.shape[0], frame.shape[1])
    plan, work = make_plan(camera, sigma_px, shape, false_per_frame), make_work(shape, sigma_px)
    n = kernels.detect_frame(np.ascontiguousarray(frame), plan, work)
    return np.ascontiguousarray(work.found[:n]).view(DETECTION_DTYPE)[:, 0]


def filter_weights(sigma_px: float) -> tuple[NDArray[np.float64], int]:
    """Return the Gaussian's weights along one axis (unit sum) and the radius of the box."""
    radius = math.ceil(2.5 * sigma_px)
    weights = psf.profile(radius, sigma_px, 2 * radius + 1).value
    return weights / weights.sum(), math.ceil(3.5 * sigma_px) + 1


def full_kernel(sigma_px: float) -> NDArray[np.float64]:
    """Return the 2-D filter: Gaussian less box."""
    weights, box = filter_weights(sigma_px)
    line = np.pad(weights, box - weights.size // 2)
    return np.outer(line, line) - 1.0 / line.size**2


def make_plan(
    camera: Camera, sigma_px: float, shape: tuple[int, int], false_per_frame: float
) -> Plan:
    """Work out all that does not change from frame to frame."""
    check_sigma(sigma_px)
    camera.check(shape)
    weights, box = filter_weights(sigma_px)
    if min(shape) < 2 * box + 1:
        raise LocalizeError(
            f"frame: found shape {shape}; expected at least {2 * box + 1} px a side"
        )
    if not 0 < false_per_frame < 0.01 * shape[0] * shape[1]:
        raise LocalizeError(
            f"false_per_frame: {false_per_frame:g}; expected more than 0 and less than one in a "
            "hundred pixels"
        )
    kernel = full_kernel(sigma_px)
    sds = level_sds(kernel, false_per_frame / (shape[0] * shape[1]))
    gain, offset, var = electron_maps(camera)
    var_f, log_vars = _filtered_variance(np.asarray(var, np.float64), kernel)
    excess = camera.excess if isinstance(camera, Emccd) else 1.0
    levels = np.geomspace(1e-3, 1e5, 65)
    spot = psf.spot_image(box, box, 1.0, sigma_px, (2 * box + 1, 2 * box + 1))
    return Plan(
        per_gain=_map(1.0 / np.asarray(gain, np.float64)),
        offset=_map(np.asarray(offset, np.float64)),
        tile_var=_tile_means(np.asarray(var, np.float64), shape),
        var_f=var_f,
        taps=np.pad(weights[weights.size // 2 :], (0, SPARE)).astype(np.float32),
        log_levels=np.log(levels),
        log_vars=log_vars,
        limits=limits(kernel, sds, levels, np.exp(log_vars), excess),
        excess=float(excess),
        box=box,
        pad=_pad(sigma_px),
        response=float(np.sum(spot * kernel)),
    )


def make_work(shape: tuple[int, int], sigma_px: float) -> Work:
    """Return the images of one thread."""
    box = filter_weights(sigma_px)[1]
    tiles = _n_tiles(shape)
    at = layout_of(shape[1], box, _pad(sigma_px))
    capacity = max(64, shape[0] * shape[1] // 12)
    return Work(
        np.zeros(shape, np.float32),
        np.zeros(tiles, np.float32),
        np.zeros(tiles, np.float32),
        np.zeros((2 * at.ring + N_NAMED) * at.wide, np.float32),
        np.zeros((capacity, 5)),
    )


def _pad(sigma_px: float) -> int:
    """Return a border that neither the box nor the taps, taken in threes, reach beyond."""
    weights, box = filter_weights(sigma_px)
    return max(box, weights.size // 2 + 2) + 1


def _map(values: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.ascontiguousarray(np.atleast_2d(values), dtype=np.float32)


def _n_tiles(shape: tuple[int, int]) -> tuple[int, int]:
    return max(1, shape[0] // kernels.TILE), max(1, shape[1] // kernels.TILE)


def _tile_means(var: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.float32]:
    n_y, n_x = _n_tiles(shape)
    if var.ndim == 0:
        return np.full((n_y, n_x), float(var), np.float32)
    rows = [var[i * shape[0] // n_y : (i + 1) * shape[0] // n_y] for i in range(n_y)]
    cut = [i * shape[1] // n_x for i in range(n_x + 1)]
    means = [[row[:, a:b].mean() for a, b in pairwise(cut)] for row in rows]
    return np.array(means, np.float32)


def _filtered_variance(
    var: NDArray[np.float64], kernel: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return the read variance behind the filter, and the levels to tabulate thresholds at."""
    if var.ndim == 0:
        one = max(float(var) * float(np.sum(kernel**2)), 1e-12)
        return np.full((1, 1), one, np.float32), np.array([math.log(one)])
    behind = np.maximum(convolve(var, kernel**2, mode="constant"), 1e-12)
    low, high = math.log(behind.min()) - 1e-3, math.log(behind.max()) + 1e-3
    return behind.astype(np.float32), np.linspace(low, high, 12)


__all__ = ["DETECTION_DTYPE", "CameraError", "detect", "full_kernel", "make_plan", "make_work"]
