"""Regions of pixels, checked and turned into electrons; answers of the refits from pixels.

A *look* is one frame's region: data d (electrons plus read variance), read variance v, the first
pixel, start and length of the exposure.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from livespt.camera import Emccd, Scmos, electron_maps
from livespt.refit.regions import Regions
from livespt.refit.result import Parameter, RefitError, positions_dtype

Array = NDArray[np.float64]
#: Fewer frames tell nothing of D.
LEAST_FRAMES = 4
AXES = ("x", "y")


class Looks(NamedTuple):
    """The frames of one molecule as the kernels take them; lengths in pixels.

    Attributes
    ----------
    d, v : (n, P * P) float64
        Electrons plus read variance, at least 1e-6; read variance.
    origin : (n, 2) float64
        x, y of each region's first pixel.
    t_s, te_s : (n,) float64
        Start and length of each exposure.
    """

    d: Array
    v: Array
    origin: Array
    t_s: Array
    te_s: Array


def check(regions: Regions, least_frames: int = LEAST_FRAMES) -> None:
    """Raise `RefitError` where regions cannot be fitted; the message names the field."""
    shape, where = regions.adu.shape, regions.source
    if len(shape) != 3 or shape[1] != shape[2] or shape[1] % 2 == 0 or not 5 <= shape[1] <= 15:
        raise RefitError(f"{where}: adu of shape {shape}; expected (n, P, P), P odd, 5 to 15")
    if regions.adu.dtype != np.uint16:
        raise RefitError(f"{where}: adu of type {regions.adu.dtype}; expected uint16 counts")
    n = shape[0]
    if n < least_frames:
        raise RefitError(f"{where}: {n} frames; expected {least_frames} or more")
    for name, expected in (("corner_px", (n, 2)), ("frame", (n,)), ("t_s", (n,))):
        found = getattr(regions, name).shape
        if found != expected:
            raise RefitError(f"{where}: {name} of shape {found}; expected {expected}")
    steps = np.diff(regions.t_s)
    if not (np.isfinite(regions.t_s).all() and (steps > 0).all()):
        raise RefitError(f"{where}: t_s does not go forward")
    if not 0 <= regions.exposure_s <= steps.min() * (1 + 1e-9):
        raise RefitError(
            f"{where}: exposure_s {regions.exposure_s:g}; expected 0 to the shortest time between "
            f"frames, {steps.min():g}"
        )
    _check_numbers(regions)


def _check_numbers(regions: Regions) -> None:
    for name in ("pixel_um", "sigma_um", "photons", "bg_photons"):
        value: float | None = getattr(regions, name)
        free = value is None and name in ("photons", "bg_photons")
        if not free and not (value is not None and math.isfinite(value) and value > 0):
            raise RefitError(f"{regions.source}: {name} {value}; expected a number > 0")
    ratio = regions.sigma_um / regions.pixel_um
    if not 0.3 <= ratio <= 5.0:
        raise RefitError(
            f"{regions.source}: sigma_um is {ratio:g} pixels; expected 0.3 to 5 (another unit?)"
        )


def looks_of(regions: Regions) -> Looks:
    """Turn counts into electrons, each pixel by its own gain, offset and read variance."""
    n, side, _ = regions.adu.shape
    gain, offset, var = maps_of(regions)
    v = np.broadcast_to(var, (n, side, side)).reshape(n, -1).copy()
    electrons = (regions.adu - offset) / gain
    d = np.maximum(electrons.reshape(n, -1) + v, 1e-6)
    te_s = np.full(n, float(regions.exposure_s))
    return Looks(d, v, regions.corner_px.astype(np.float64), regions.t_s.astype(np.float64), te_s)


def maps_of(regions: Regions) -> tuple[Array, Array, Array]:
    """Return gain, offset and read variance of every region: (n, P, P), or one number each."""
    camera, side = regions.camera, regions.adu.shape[1]
    maps = [np.asarray(m, np.float64) for m in electron_maps(camera)]
    if camera.shape is None:
        return maps[0], maps[1], maps[2]
    height, width = camera.shape
    x, y = regions.corner_px.T
    if (x < 0).any() or (y < 0).any() or (x + side > width).any() or (y + side > height).any():
        raise RefitError(
            f"{regions.source}: corner_px {x.min()}, {y.min()} to {x.max()}, {y.max()}; expected "
            f"regions of {side} pixels inside the camera's maps, {camera.shape}"
        )
    rows = y[:, None, None] + np.arange(side)[:, None]
    columns = x[:, None, None] + np.arange(side)
    cut = [m[rows, columns] if m.ndim else np.full((*rows.shape[:2], side), m) for m in maps]
    return cut[0], cut[1], cut[2]


def poisson_like(regions: Regions, method: str) -> None:
    """Raise `RefitError` for an EMCCD, whose counts are not shifted Poisson numbers."""
    if isinstance(regions.camera, Emccd):
        raise RefitError(
            f"{method} knows Ideal and Scmos cameras; found an EMCCD (l-ml, point-mass and gf-mle "
            "know it)"
        )


def stacked_camera(regions: Regions, *, alike: bool) -> object:
    """Return the camera as `localize.fit_rois` takes it: maps stacked, or all pixels alike."""
    camera = regions.camera
    if camera.shape is None:
        return camera
    gain, offset, var = (np.asarray(m) for m in maps_of(regions))
    if alike:
        return Scmos(float(gain.mean()), float(offset.mean()), float(var.mean()))
    side = regions.adu.shape[1]
    return Scmos(*(m.reshape(-1, side) for m in (gain, offset, var)))


def positions_of(
    regions: Regions, mean_px: Array, cov_px2: Array, rows: NDArray[np.int64]
) -> NDArray[np.void]:
    """Return the table of refined positions.

    Parameters
    ----------
    regions : Regions
    mean_px : (m, 2) float64
        In pixels of the frame.
    cov_px2 : (m, 3) float64
        Variances along x and y, and their covariance.
    rows : (m,) int64
        Which frames.
    """
    out = np.zeros(rows.size, positions_dtype(1))
    out["frame"], out["p_state"] = regions.frame[rows], 1.0
    unit = regions.pixel_um
    out["x_um"], out["y_um"] = unit * mean_px.T
    for name, values in zip(("var_x_um2", "var_y_um2", "cov_xy_um2"), cov_px2.T, strict=True):
        out[name] = unit**2 * values
    return out


def D_parameters(D: Array, sd: Array, low: Array, high: Array) -> tuple[Parameter, ...]:
    """Return D along x and y, um2/s, as parameters."""
    return tuple(
        Parameter(f"D_{axis}_um2_s", *(float(v[a]) for v in (D, sd, low, high)), unit="um2/s")
        for a, axis in enumerate(AXES)
    )


def light_parameters(light: tuple[float, float], sds: tuple[float, float]) -> tuple[Parameter, ...]:
    """Return photons and background as parameters; one without a standard error was given."""
    found = []
    for name, value, sd, unit in zip(
        ("photons", "bg_photons"), light, sds, ("", "1/pixel"), strict=True
    ):
        if sd > 0:
            ends = (max(value - 1.96 * sd, 0.0), value + 1.96 * sd)
            found.append(Parameter(name, value, sd, *ends, unit=unit))
        else:
            found.append(Parameter(name, value, unit=unit, fixed=True))
    return tuple(found)
