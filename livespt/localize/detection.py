"""Finding spots: a matched filter whose threshold is a false-alarm rate.

The frame in electrons is filtered with k = G - B, G a Gaussian of the spot's width (2.2 widths
either side, peak 1) and B a box of equal sum: at least 3.5 widths + 1 px either side along the
line, and an odd number of groups of four lines down it, interpolated linearly between the middles
of groups. Each of the four lines of a group so has a filter of its own; all four sum to zero and
are blind to gradients. Pixels that stand out as spots are clipped in the box, so that a bright
neighbour does not dig a hole. Outside the frame lies background without noise. Local maxima of the
output f are spots where

    f > T(b, V)

with b the local background (tiles of 32 px: mean of what is not a spot, smoothed, interpolated),
V the camera's read variance behind the filter at that pixel, and T from the number of false spots
per frame that the user allows (`livespt.localize.threshold`). A constant added to a frame and to
the camera's offset changes nothing. SCIENCE section 8 shows what such a pass can reach.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import correlate1d

from livespt import psf
from livespt.camera import Camera, CameraError, Emccd, electron_maps
from livespt.jit import read_only
from livespt.localize import detect_kernels as kernels
from livespt.localize.detect_kernels import Plan, Work
from livespt.localize.errors import LocalizeError
from livespt.localize.fit import check_sigma
from livespt.localize.line_kernels import GROUP, SPARE, TILE, Layout, layout_of
from livespt.localize.packing import pack, strips_of
from livespt.localize.threshold import draw_peaks, level_sds, limits

T = TypeVar("T", bound=np.generic)

#: Result of `detect`; `strength` is the filter's output over its threshold.
DETECTION_DTYPE = np.dtype(
    [("x_px", "f8"), ("y_px", "f8"), ("photons", "f8"), ("bg_photons", "f8"), ("strength", "f8")]
)
SAMPLED_PX = 4000  # of a map, to find the level of a threshold


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
    n = kernels.detect_frame(read_only(frame), plan, work)
    return np.ascontiguousarray(work.found[:n]).view(DETECTION_DTYPE)[:, 0]


def filter_weights(sigma_px: float) -> tuple[NDArray[np.float64], int, int]:
    """Return the taps (middle 1), the columns of the box either side, its groups of lines."""
    radius = math.ceil(2.2 * sigma_px)
    weights = psf.profile(radius, sigma_px, 2 * radius + 1).value
    box = math.ceil(3.5 * sigma_px) + 1
    return weights / weights.max(), box, 2 * math.ceil(box / GROUP - 0.5) + 1


def filter_phases(sigma_px: float) -> tuple[NDArray[np.float64], ...]:
    """Return what the filter is made of: outer(taps, taps) - outer(down[j], along).

    `down` (4, n) holds the lines of the box for the four lines of a group, j = 0 to 3.
    """
    taps, box, groups = filter_weights(sigma_px)
    half = (GROUP * (groups + 2)) // 2 + 1
    down = np.zeros((GROUP, 2 * half + 1))
    for j in range(GROUP):
        middles = (-1, 0) if j < GROUP // 2 else (0, 1)
        far = abs(j - 0.5 * (GROUP - 1)) / GROUP
        for middle, share in zip((0, middles[0] + middles[1]), (1.0 - far, far), strict=True):
            first = half - j + GROUP * (middle - groups // 2)
            down[j, first : first + GROUP * groups] += share
    along = np.full(2 * box + 1, float(taps.sum() ** 2 / (GROUP * groups * (2 * box + 1))))
    # a border of zeros leaves room for a neighbour's filter
    return _widen(taps, half), _widen(taps, box + 1), down, np.pad(along, 1)


def _widen(taps: NDArray[np.float64], half: int) -> NDArray[np.float64]:
    return np.pad(taps, half - taps.size // 2)


def full_kernel(sigma_px: float) -> NDArray[np.float64]:
    """Return the 2-D filter, Gaussian less box, for each line of a group of four."""
    g_down, g_along, down, along = filter_phases(sigma_px)
    return np.outer(g_down, g_along) - down[:, :, None] * along


def make_plan(
    camera: Camera, sigma_px: float, shape: tuple[int, int], false_per_frame: float
) -> Plan:
    """Work out all that does not change from frame to frame."""
    check_sigma(sigma_px)
    camera.check(shape)
    taps, box, _ = filter_weights(sigma_px)
    if min(shape) < 2 * box + 1:
        raise LocalizeError(
            f"frame: found shape {shape}; expected at least {2 * box + 1} px a side"
        )
    if not 0 < false_per_frame < 0.01 * shape[0] * shape[1]:
        raise LocalizeError(
            f"false_per_frame: {false_per_frame:g}; expected more than 0 and less than one in a "
            "hundred pixels"
        )
    kernels_4 = full_kernel(sigma_px)
    gain, offset, var = (np.asarray(m, np.float64) for m in electron_maps(camera))
    var_f, log_vars = _filtered_variance(var, sigma_px)
    excess = camera.excess if isinstance(camera, Emccd) else 1.0
    levels = np.geomspace(1e-2, 1e5, 65)
    sds = _level_sds(kernels_4, false_per_frame / (shape[0] * shape[1]), var, excess * levels)
    at = _layout(shape, sigma_px)
    strips = strips_of(at)
    maps, packed, steps = _maps(gain, offset, shape, strips)
    return Plan(
        at=at,
        maps=maps,
        strips=strips,
        packed=packed,
        steps=steps,
        taps=np.pad(taps[taps.size // 2 :], (0, SPARE)).astype(np.float32),
        tile_var=_tiles(var, shape, np.mean),
        tile_var_f=_tiles(var_f if var_f.size > 1 else var_f[0, 0], shape, np.min),
        var_f=var_f,
        log_levels=np.log(levels),
        log_vars=log_vars,
        limits=limits(kernels_4, sds, levels, np.exp(log_vars), excess),
        excess=np.float32(excess),
        per_photon=1.0 / _response(sigma_px),
    )


def make_work(shape: tuple[int, int], sigma_px: float) -> Work:
    """Return the work space of one thread."""
    capacity = max(64, shape[0] * shape[1] // 12)
    return Work(
        _aligned(_layout(shape, sigma_px).size),
        np.zeros((capacity, 9)),
        np.zeros(shape[0], np.int64),
        np.zeros((capacity, 5)),
    )


def _aligned(n: int) -> NDArray[np.float32]:
    """Return zeros that begin a line of the cache: registers then take no part of two."""
    room = np.zeros(n + 16, np.float32)
    first = -room.ctypes.data // room.itemsize % 16
    return room[first : first + n]


def _level_sds(
    kernels_4: NDArray[np.float64],
    false_per_pixel: float,
    var: NDArray[np.float64],
    shot_vars: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the threshold in standard deviations for each variance that light adds."""
    size = kernels_4.shape[1:]
    if var.ndim == 0:
        peaks = draw_peaks(kernels_4, np.ones((4, *size)), 20_000)
        return np.full(shot_vars.size, level_sds(peaks, false_per_pixel))
    rng = np.random.default_rng(0)
    border = [(n // 2, n // 2) for n in size]
    around = sliding_window_view(np.pad(var, border), size)
    rows, columns = (rng.integers(0, n, SAMPLED_PX) for n in var.shape)
    around = around[rows, columns]
    some = np.geomspace(0.01, 1000.0, 6) * np.median(var).clip(1e-3)
    sds = [level_sds(draw_peaks(kernels_4, around + v, 32), false_per_pixel) for v in some]
    return np.interp(np.log(shot_vars), np.log(some), sds)


def _response(sigma_px: float) -> float:
    """Return the filter's output at a spot of one photon, about half of its box part clipped."""
    g_down, g_along, _, _ = filter_phases(sigma_px)
    gaussian = np.outer(g_down, g_along)
    n_y, n_x = gaussian.shape
    spot = psf.spot_image(n_x // 2, n_y // 2, 1.0, sigma_px, (n_y, n_x))
    both = 0.5 * (gaussian + full_kernel(sigma_px).mean(axis=0))
    return float(np.sum(spot * both))


def _layout(shape: tuple[int, int], sigma_px: float) -> Layout:
    taps, box, groups = filter_weights(sigma_px)
    scale = taps.sum() ** 2 / (GROUP * groups * (2 * box + 1))
    return layout_of(shape, box, groups, taps.size // 2, scale)


def _maps(
    gain: NDArray[np.float64],
    offset: NDArray[np.float64],
    shape: tuple[int, int],
    strips: NDArray[np.int64],
) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32]]:
    """Return what turns counts into electrons: as it is, and packed for a camera with maps."""
    mapped = gain.ndim > 0 or offset.ndim > 0
    full = shape if mapped else (1, 1)
    both = (np.broadcast_to(m, full) for m in (1.0 / gain, offset / gain))
    maps = np.concatenate([m.astype(np.float32).reshape(-1) for m in both])
    if not mapped:
        return maps, np.empty(0, np.int32), np.array([maps[0], 0.0, maps[1], 0.0], np.float32)
    return maps, *pack(np.broadcast_to(gain, full), np.broadcast_to(offset, full), strips)


def _n_tiles(shape: tuple[int, int]) -> tuple[int, int]:
    return max(1, shape[0] // TILE), max(1, shape[1] // TILE)


def _tiles(var: NDArray, shape: tuple[int, int], pick: Callable) -> NDArray[np.float32]:
    n_y, n_x = _n_tiles(shape)
    if np.ndim(var) == 0:
        return np.full((n_y, n_x), float(var), np.float32)
    rows = [var[i * shape[0] // n_y : (i + 1) * shape[0] // n_y] for i in range(n_y)]
    cut = [i * shape[1] // n_x for i in range(n_x + 1)]
    return np.array([[pick(row[:, a:b]) for a, b in pairwise(cut)] for row in rows], np.float32)


def _filtered_variance(
    var: NDArray[np.float64], sigma_px: float
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return the read variance behind the filter, and the levels to tabulate thresholds at."""
    if var.ndim == 0:
        power = np.mean(np.sum(full_kernel(sigma_px) ** 2, axis=(1, 2)))
        one = max(float(var * power), 1e-12)
        return np.full((1, 1), one, np.float32), np.array([math.log(one)])
    g_down, g_along, down, along = filter_phases(sigma_px)
    behind = np.zeros(var.shape)
    terms = (
        (g_down**2, g_along**2),
        (-2.0 * g_down * down.mean(axis=0), g_along * along),
        ((down**2).mean(axis=0), along**2),
    )
    for of_column, of_line in terms:
        part = correlate1d(var, of_column, axis=0, mode="constant")
        behind += correlate1d(part, of_line, axis=1, mode="constant")
    behind = np.maximum(behind, 1e-12)
    low, high = math.log(behind.min()) - 1e-3, math.log(behind.max()) + 1e-3
    return behind.astype(np.float32), np.linspace(low, high, 12)


__all__ = ["DETECTION_DTYPE", "CameraError", "detect", "full_kernel", "make_plan", "make_work"]
