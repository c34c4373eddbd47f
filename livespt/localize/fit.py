"""The five-parameter fit of a spot: maximum likelihood by Fisher scoring (SCIENCE 1, 2).

Model: rate E_i = b + N * (pixel-integrated Gaussian at (x, y), width sigma) + light of neighbours.
With score s_i = d ln q(c_i|E_i)/dE and information I_i of the camera,

    g = sum_i s_i dE_i/dtheta,   J = sum_i I_i dE_i/dtheta dE_i/dtheta^T,   theta += J^-1 g

until the squared length of the step in standard deviations, g^T J^-1 g, is negligible. Thirty-two
spots go side by side in float32 (`lane_fit_kernels`); those that do not arrive there start again in
float64, under Levenberg damping where they must (`fit_kernels`, the reference). A parameter at its
bound is held while the gradient pushes outward. The covariance handed on is J^-1 at the optimum,
the Cramer-Rao bound, times what a free width costs x and y (`second_order_kernels`).

- `Ideal`, `Scmos`: shifted Poisson, d = n + var against E + var (Huang 2013): s = d/(E+var) - 1,
  I = 1/(E+var); negative d is floored.
- `Emccd`: exact score and information from `livespt.localize.table`; no flat factor 2.

Symbols: x, y, N, b, sigma = x_px, y_px, photons, bg_photons, sigma_px; P = side of the region.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from livespt.camera import Camera, Emccd, electron_maps
from livespt.localize import column_kernels as columns
from livespt.localize import fit_kernels as kernels
from livespt.localize import lane_roi_kernels as lane_rois
from livespt.localize import posterior
from livespt.localize.errors import LocalizeError
from livespt.localize.fit_kernels import Region, Scratch
from livespt.localize.lane_kernels import LANES
from livespt.localize.lane_table_kernels import N_ROWS_TABLE, LaneTable
from livespt.localize.start import make_start
from livespt.localize.table import PER_Z, lane_table_of, no_lane_table, no_table, table_of
from livespt.localize.table_kernels import Table
from livespt.types import FitStatus

#: Result of `fit_rois`; `covariance` is over (x, y, photons, bg_photons, sigma).
FIT_DTYPE = np.dtype(
    [
        ("x_px", "f8"),  # relative to the centre of the region
        ("y_px", "f8"),
        ("photons", "f8"),
        ("bg_photons", "f8"),  # per pixel
        ("sigma_px", "f8"),
        ("covariance", "f8", (5, 5)),
        ("loglik", "f8"),
        ("status", "u1"),  # FitStatus
        ("sigma_major_px", "f8"),  # the two widths; `sigma_px` is their geometric mean
        ("sigma_minor_px", "f8"),
        ("angle_rad", "f8"),  # of the major axis, from x towards y
        ("asymmetric", "?"),  # two widths and an angle were fitted
        ("log_prior", "f8"),  # 0 for "mle"; the posterior is loglik + log_prior
    ],
    align=True,
)

MIN_SIDE, MAX_SIDE = 5, 15
_CODES = {
    kernels.CONVERGED: FitStatus.OK,
    kernels.FAILED: FitStatus.NOT_CONVERGED,
    kernels.SINGULAR: FitStatus.SINGULAR,
    posterior.STRAYED: FitStatus.OUT_OF_REGION,
    posterior.VAGUE: FitStatus.DIM,
}
#: The status of a fit's code (`fit_kernels.judge`).
MEANINGS = np.array([_CODES[code] for code in range(len(_CODES))], np.uint8)


def fit_rois(
    rois: ArrayLike,
    camera: Camera,
    sigma_px: float,
    model: str = "symmetric",
    method: str = "mle",
    fix_sigma: bool = False,
) -> NDArray[np.void]:
    """Fit one spot in each region.

    Parameters
    ----------
    rois : (n, P, P) uint16
        Counts in ADU; P odd, 5 to 15.
    camera : Camera
        The pixel model. Maps may be (P, P), the same for all regions, or stacked (n * P, P), the
        maps of one region below those of the other.
    sigma_px : float
        Width of an in-focus spot: start of the width, and its value with `fix_sigma`.
    model : {"symmetric", "asymmetric", "auto"}
        Shape of the spot: one width, two and an angle, or what the blur of the regions calls for.
    method : {"mle", "map"}
        Maximum likelihood, or the priors and the Laplace precision of Linden 2017
        (`livespt.localize.posterior`). The covariance is the inverse of the expected information
        and what a free width adds for "mle" with one width, the inverse of the true Hessian else.
    fix_sigma : bool
        Hold the width.

    Returns
    -------
    (n,) structured array
        `FIT_DTYPE`; no field is ever NaN.

    Raises
    ------
    LocalizeError
        Shape, dtype or an option is not one of those above.
    """
    for name, value, known in (
        ("model", model, posterior.MODELS),
        ("method", method, posterior.METHODS),
    ):
        if value not in known:
            raise LocalizeError(f"{name}: {value!r}; expected {' or '.join(map(repr, known))}")
    regions = _checked_regions(rois)
    n, side = regions.shape[0], regions.shape[1]
    check_sigma(sigma_px)
    maps = _region_maps(camera, n, side)
    adu = np.ascontiguousarray(regions.reshape(n, side * side))
    bounds = bounds_of(sigma_px, side, fix_sigma)
    if model != "symmetric" or method != "mle":
        fits, bad, oval = posterior.fit_counts(
            adu, maps.astype(np.float64), camera, sigma_px, model, method, fix_sigma
        )
        result = np.zeros(n, FIT_DTYPE)
        _theta_of(result)[:] = fits.theta
        result["covariance"], result["loglik"] = fits.covariance, fits.loglik
        result = _finished(result, fits.code, bad, bounds, side)
        return _with_shape(result, fits.shape, oval, fits.log_prior)
    return _fit_side_by_side(adu, maps, camera, sigma_px, bounds)


def _fit_side_by_side(
    adu: NDArray[np.uint16],
    maps: NDArray[np.float32],
    camera: Camera,
    sigma_px: float,
    bounds: NDArray[np.float64],
) -> NDArray[np.void]:
    """Fit all regions in the lanes, and one by one those that do not arrive there."""
    n, side = adu.shape[0], round(adu.shape[1] ** 0.5)
    result, pending = np.empty(n, FIT_DTYPE), np.empty(n, np.int64)
    n_left = lane_rois.fit_lanes(
        adu,
        maps,
        lane_table_for(camera),
        make_start(float(sigma_px), side, bool(bounds[0, 4] < bounds[1, 4])),
        bounds,
        make_lanes(),
        pending,
        _both_ways(result),
    )
    if n_left:
        left, code, bad = pending[:n_left], np.zeros(n, np.int64), np.zeros(n, np.bool_)
        out = (_theta_of(result), result["covariance"], result["loglik"], code, bad)
        fit_one_by_one(adu, maps, camera, sigma_px, bounds, left, out)
        result[left] = _round(_finished(result[left], code[left], bad[left], bounds, side))
    return result


def fit_one_by_one(
    adu: NDArray[np.uint16],
    maps: NDArray[np.float32],
    camera: Camera,
    sigma_px: float,
    bounds: NDArray[np.float64],
    which: NDArray[np.int64],
    out: tuple[NDArray, ...],
) -> None:
    """Fit the regions `which` in float64 with damping: the reference, and the way out."""
    side = round(adu.shape[1] ** 0.5)
    kernels.fit_many(
        adu,
        maps,
        table_for(camera),
        PER_Z,
        float(sigma_px),
        bounds,
        make_region(side),
        make_scratch(),
        (np.empty(side * side), np.empty(5), np.empty((5, 5))),
        which,
        out,
    )


def make_lanes() -> NDArray[np.float32]:
    """Return the lanes' work space, on a cache line's border."""
    n = N_ROWS_TABLE * LANES
    whole = np.zeros(n + 16, np.float32)
    start = -whole.ctypes.data % 64 // 4
    return whole[start : start + n]


def table_for(camera: Camera) -> Table:
    """Return the likelihood's table, or its stand-in for Poisson-like cameras."""
    return table_of(camera) if isinstance(camera, Emccd) else no_table()


def lane_table_for(camera: Camera) -> LaneTable:
    """As `table_for`, for the lanes."""
    return lane_table_of(camera) if isinstance(camera, Emccd) else no_lane_table()


def bounds_of(sigma_px: float, side: int, fix_sigma: bool) -> NDArray[np.float64]:
    """Return the lowest and highest (x, y, N, b, sigma) of a fit, (2, 5)."""
    widest = max(min(3.0 * sigma_px, 0.5 * side), 1.2 * sigma_px)
    widths = (sigma_px, sigma_px) if fix_sigma else (0.4 * sigma_px, widest)
    low = [-1.0, -1.0, 0.1, 0.005, widths[0]]
    return np.array([low, [side, side, 1e9, 1e7, widths[1]]], dtype=np.float64)


def make_region(side: int) -> Region:
    """Return space for one region of `side` pixels."""
    data, var, signal, extra = (np.zeros(side * columns.WIDE) for _ in range(4))
    var[:] = 1.0  # beyond the region: nothing there divides by zero
    return Region(data, var, signal, extra)


def make_scratch() -> Scratch:
    """Return the work space of one thread."""
    return Scratch(
        np.zeros(columns.N_ROWS * columns.WIDE),
        np.zeros(5),
        np.zeros((5, 5)),
        np.zeros(5),
        np.zeros(5),
        np.zeros((5, 5)),
        np.zeros((5, 5)),
        np.zeros(5, np.uint8),
    )


def judge(
    theta: NDArray[np.float64],
    covariance: NDArray[np.float64],
    code: NDArray[np.int64],
    bad: NDArray[np.bool_],
    bounds: NDArray[np.float64],
    side: int,
) -> NDArray[np.uint8]:
    """Return the `FitStatus` of each fit; the gravest reason wins."""
    status = np.empty(code.size, np.uint8)
    kernels.judge(theta, covariance, code, bad, bounds, side, MEANINGS, status)
    return status


def check_sigma(sigma_px: float) -> None:
    """Raise `LocalizeError` unless the width is one that a region can hold."""
    if not 0.3 <= sigma_px <= 5.0:
        raise LocalizeError(
            f"sigma_px: {sigma_px:g} px; expected 0.3 to 5 (is the pixel size or the width in "
            "another unit?)"
        )


def _checked_regions(rois: ArrayLike) -> NDArray[np.uint16]:
    regions = np.asarray(rois)
    if regions.ndim != 3 or regions.shape[1] != regions.shape[2]:
        raise LocalizeError(f"rois: found shape {regions.shape}; expected (n, P, P)")
    if regions.dtype != np.uint16:
        raise LocalizeError(f"rois: found dtype {regions.dtype}; expected uint16 counts")
    check_side(regions.shape[1])
    return regions


def check_side(side: int) -> None:
    """Raise `LocalizeError` unless `side` is odd and 5 to 15."""
    if side % 2 == 0 or not MIN_SIDE <= side <= MAX_SIDE:
        raise LocalizeError(f"roi_px: {side}; expected an odd number from 5 to 15")


def _region_maps(camera: Camera, n: int, side: int) -> NDArray[np.float32]:
    """Return gain, offset, variance as (3, 1 or n, P*P)."""
    shape = camera.shape
    if shape not in (None, (side, side), (n * side, side)):
        raise LocalizeError(
            f"camera: maps have shape {shape}; expected {(side, side)} or {(n * side, side)}"
        )
    full = (side, side) if shape is None else shape
    maps = [np.broadcast_to(np.asarray(m, np.float64), full) for m in electron_maps(camera)]
    out = np.empty((3, full[0] // side, side * side), np.float32)
    for target, values in zip(out, maps, strict=True):
        target[:] = values.reshape(target.shape)
    return out


def _both_ways(result: NDArray[np.void]) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Return results as numbers and as bytes, a row each."""
    step = result.dtype.itemsize
    numbers, bytes_ = result.view(np.float64), result.view(np.uint8)
    return numbers.reshape(result.size, step // 8), bytes_.reshape(result.size, step)


def _theta_of(result: NDArray[np.void]) -> NDArray[np.float64]:
    """Return the five parameters as a (n, 5) view of the result's first fields."""
    step = result.dtype.itemsize
    return np.ndarray((result.size, 5), np.float64, result, 0, (step, 8))


def _finished(
    result: NDArray[np.void],
    code: NDArray[np.int64],
    bad: NDArray[np.bool_],
    bounds: NDArray[np.float64],
    side: int,
) -> NDArray[np.void]:
    """Judge the fits, count positions from the region's centre, and let no NaN out."""
    theta, covariance = _theta_of(result), result["covariance"]
    result["status"] = judge(theta, covariance, code, bad, bounds, side)
    theta[:, :2] -= 0.5 * (side - 1)
    if bounds[0, 4] == bounds[1, 4]:
        theta[:, 4] = bounds[0, 4]  # as given, not as float32 holds it
    lost = result[result["status"] != FitStatus.OK]
    for name in FIT_DTYPE.names or ():
        lost[name] = np.nan_to_num(lost[name], nan=0.0, posinf=0.0, neginf=0.0)
    result[result["status"] != FitStatus.OK] = lost
    return result


def _round(result: NDArray[np.void]) -> NDArray[np.void]:
    """Fill in the widths of spots fitted with one."""
    result["sigma_major_px"] = result["sigma_minor_px"] = result["sigma_px"]
    return result


def _with_shape(
    result: NDArray[np.void],
    shape: NDArray[np.float64],
    asymmetric: NDArray[np.bool_],
    log_prior: NDArray[np.float64],
) -> NDArray[np.void]:
    """Fill in the two widths and the angle; where one width was fitted, both are that one."""
    one = np.zeros_like(shape)
    one[:, :2] = result["sigma_px"][:, None]
    shape = np.where(asymmetric[:, None], shape, one)
    for column, name in enumerate(("sigma_major_px", "sigma_minor_px", "angle_rad")):
        result[name] = np.nan_to_num(shape[:, column])
    result["asymmetric"], result["log_prior"] = asymmetric, np.nan_to_num(log_prior)
    return result
