"""How well localizations meet the truth, and how well they could.

Reference
    The true position of a moving molecule is its mean over the exposure (over the part of it in
    which it was on). Photons are emitted evenly in time, so their expected centroid, given the
    path, is that mean: an unbiased fit aims at it, and Berglund's model takes it for the exposure's
    position. The path's spread V about its mean (recorded per molecule and frame) widens the
    image; each photon lands there with variance sigma^2 + V.

Bound
    The Cramer-Rao bound of (x, y, photons, background, width) for an image
    E_i = b + N * (pixel integral of a Gaussian of variance sigma^2 + V_x, sigma^2 + V_y) with the
    true position, N, b, V of each spot, and the camera's own Fisher information,
    F_ab = sum_i I(E_i) dE_i/da dE_i/db over the 9 x 9 region. A path is no Gaussian: a fit of a
    Gaussian to its image pays a little above this bound when the blur ratio sqrt(D te / 3) / sigma
    is not small. That price is real and is left in.

Which spots
    Matching is one to one per frame, least squared distance, within a gate. Error figures rest on
    isolated spots only (no other light within 9 px), on for the whole exposure, and at least a
    region's half from the border: the bound is made for those. Recall counts molecules on for at
    least half of the exposure, off the border, crowded ones included; precision, all spots whose
    status is OK.

Outliers
    A pair more than 6 bounds apart on either axis is no localization error (for Gaussian errors: 4
    in 10^9) but a mismatch or a failed fit. It is left out of `rmse_um`, counted in `outliers`
    (a fraction), and left in in `rmse_over_crlb_all`. `z_sd` is the standard deviation of
    error / reported s.d. over both axes without those beyond 5 robust s.d. (1.4826 times the median
    absolute deviation); for Gaussian errors this cut changes it by less than 1 in 10^4. No figure
    is scaled or fitted.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.optimize import linear_sum_assignment
from scipy.special import erf

from livespt.camera import Camera, Scmos
from livespt.types import FitStatus, LivesptError

Array = NDArray[np.float64]

ROI_PX = 9
ISOLATION_PX = 9.0
OUTLIER_BOUNDS = 6.0
Z_CUT = 5.0
GRID = 12  # rates at which the information is computed; the spline between them is good to 1e-5
MAX_MAPPED = 4000  # spots whose bound is computed for a camera with maps: each pixel is its own

_NEEDED = ("frame", "x_um", "y_um", "var_x_um2", "var_y_um2", "status")


class ScoringError(LivesptError):
    """The spots cannot be scored; the message says what is missing."""


class Optics(NamedTuple):
    """What the bound needs to know about the microscope."""

    camera: Camera
    shape: tuple[int, int]
    pixel_um: float
    sigma_um: float


class Matches(NamedTuple):
    """Pairs of rows, and which truth rows stand alone.

    Attributes
    ----------
    spot, truth : (m,) int64
        Rows that belong together.
    isolated : (n_truth,) bool
    """

    spot: NDArray[np.int64]
    truth: NDArray[np.int64]
    isolated: NDArray[np.bool_]


def score(
    spots: NDArray[np.void], truth: NDArray[np.void], optics: Optics, gate_um: float | None = None
) -> dict[str, Any]:
    """Score localizations against the truth; see the module for what each figure means.

    Parameters
    ----------
    spots : (n,) structured
        With `frame`, `x_um`, `y_um`, `var_x_um2`, `var_y_um2`, `status`.
    truth : (m,) `TRUTH_DTYPE`
        Of all frames that `spots` come from; a frame without rows held no light.
    optics : Optics
    gate_um : float, optional
        Largest distance of a match; by default the smaller of 0.5 um and 3 px.

    Returns
    -------
    dict
        `rmse_um`, `crlb_um` (root means per axis), `rmse_over_crlb`, `rmse_over_crlb_all`,
        `z_sd`, `outliers`, `recall`, `precision`, and counts `n_spots`, `n_truth`, `n_matched`,
        `n_isolated`, `n_scored`. A figure that nothing was there for is None.

    Raises
    ------
    ScoringError
        A column is missing.
    """
    _check(spots)
    gate = min(0.5, 3 * optics.pixel_um) if gate_um is None else gate_um
    spots = spots[spots["status"] == FitStatus.OK]
    matches = match(spots, truth, gate, ISOLATION_PX * optics.pixel_um)
    central = _central(truth["x_um"], truth["y_um"], optics)
    chosen = _choose(matches, truth, central, optics)
    return {
        **_counts(spots, truth, matches, central, optics),
        "n_scored": len(chosen),
        **_figures(spots[matches.spot[chosen]], truth[matches.truth[chosen]], optics),
    }


def match(
    spots: NDArray[np.void], truth: NDArray[np.void], gate_um: float, alone_um: float
) -> Matches:
    """Pair spots with molecules, one to one in each frame.

    A molecule is isolated if no other light came from within `alone_um` on both axes.
    """
    isolated = np.ones(len(truth), bool)
    found: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    of_frame = _by_frame(spots["frame"])
    for frame, rows in _by_frame(truth["frame"]).items():
        xy = _xy(truth, rows)
        apart = np.abs(xy[:, None] - xy[None]).max(axis=2)
        np.fill_diagonal(apart, np.inf)
        isolated[rows] = apart.min(axis=1) > alone_um
        if frame in of_frame:
            seen = of_frame[frame]
            i, j = _assign(_xy(spots, seen), xy, gate_um)
            found.append((seen[i], rows[j]))
    none = np.zeros(0, np.int64)
    spot = np.concatenate([none, *(s for s, _ in found)])
    true = np.concatenate([none, *(t for _, t in found)])
    return Matches(spot, true, isolated)


def crlb_um2(truth: NDArray[np.void], optics: Optics) -> Array:
    """Return the bound on the variance of x and y for each row of `truth`, (n, 2).

    For a camera with maps the region must lie on the sensor.
    """
    out = np.empty((len(truth), 2))
    for start in range(0, len(truth), 5000):
        part = truth[start : start + 5000]
        rate, slopes, corner = _image(part, optics)
        information = _pixel_information(rate, corner, optics.camera)
        fisher = np.einsum("npa,np,npb->nab", slopes, information, slopes)
        bound = np.linalg.inv(fisher)
        out[start : start + len(part)] = bound[:, [0, 1], [0, 1]] * optics.pixel_um**2
    return out


def _check(spots: NDArray[np.void]) -> None:
    names = spots.dtype.names or ()
    missing = [name for name in _NEEDED if name not in names]
    if missing:
        raise ScoringError(f"spots: no column {missing[0]!r} (has: {', '.join(names)})")


def _by_frame(frame: NDArray[np.integer]) -> dict[int, NDArray[np.int64]]:
    order = np.argsort(frame, kind="stable")
    values, starts = np.unique(frame[order], return_index=True)
    return dict(zip(values.tolist(), np.split(order, starts[1:]), strict=False))


def _xy(table: NDArray[np.void], rows: NDArray[np.int64]) -> Array:
    return np.stack([table["x_um"][rows], table["y_um"][rows]], axis=1)


def _assign(a: Array, b: Array, gate_um: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    d2 = ((a[:, None] - b[None]) ** 2).sum(axis=2)
    i, j = linear_sum_assignment(np.minimum(d2, gate_um**2))
    near = d2[i, j] < gate_um**2
    return i[near], j[near]


def _central(x_um: Array, y_um: Array, optics: Optics) -> NDArray[np.bool_]:
    """Say which positions have their whole region on the sensor."""
    half = ROI_PX // 2
    x, y = np.rint(x_um / optics.pixel_um), np.rint(y_um / optics.pixel_um)
    height, width = optics.shape
    return (x >= half) & (x < width - half) & (y >= half) & (y < height - half)


def _choose(
    matches: Matches, truth: NDArray[np.void], central: NDArray[np.bool_], optics: Optics
) -> NDArray[np.int64]:
    """Return which matches the error figures rest on."""
    whole = truth["on_fraction"] > 0.999
    usable = matches.isolated & central & whole
    chosen = np.flatnonzero(usable[matches.truth])
    if optics.camera.shape is not None and len(chosen) > MAX_MAPPED:
        chosen = np.sort(np.random.default_rng(0).choice(chosen, MAX_MAPPED, replace=False))
    return chosen


def _counts(
    spots: NDArray[np.void],
    truth: NDArray[np.void],
    matches: Matches,
    central: NDArray[np.bool_],
    optics: Optics,
) -> dict[str, Any]:
    wanted = central & (truth["on_fraction"] >= 0.5)
    hit = np.zeros(len(truth), bool)
    hit[matches.truth] = True
    n_wanted = int(wanted.sum())
    return {
        "n_spots": len(spots),
        "n_truth": n_wanted,
        "n_matched": len(matches.spot),
        "n_isolated": int((wanted & matches.isolated).sum()),
        "recall": float(hit[wanted].mean()) if n_wanted else None,
        "precision": len(matches.spot) / len(spots) if len(spots) else None,
    }


def _figures(
    spots: NDArray[np.void], truth: NDArray[np.void], optics: Optics
) -> dict[str, float | None]:
    names = ("rmse_um", "crlb_um", "rmse_over_crlb", "rmse_over_crlb_all", "z_sd", "outliers")
    if not len(spots):
        return dict.fromkeys(names)
    error = np.stack([spots[k] - truth[k] for k in ("x_um", "y_um")], axis=1)
    bound = crlb_um2(truth, optics)
    kept = np.all(error**2 < OUTLIER_BOUNDS**2 * bound, axis=1)
    if not kept.any():
        return {**dict.fromkeys(names), "outliers": 1.0}
    rmse, crlb = _rms(error[kept] ** 2), _rms(bound[kept])
    reported = np.stack([spots["var_x_um2"], spots["var_y_um2"]], axis=1)
    figures = (
        rmse,
        crlb,
        rmse / crlb,
        _rms(error**2) / _rms(bound),
        _z_sd(error / np.sqrt(np.maximum(reported, 1e-12))),
        1.0 - float(kept.mean()),
    )
    return dict(zip(names, figures, strict=True))


def _rms(squares: Array) -> float:
    return float(np.sqrt(squares.mean()))


def _z_sd(z: Array) -> float:
    """Return the s.d. about zero of normalised errors, without gross outliers."""
    robust = 1.4826 * np.median(np.abs(z))
    return _rms(z[np.abs(z) <= Z_CUT * robust] ** 2)


def _image(truth: NDArray[np.void], optics: Optics) -> tuple[Array, Array, NDArray[np.int64]]:
    """Return expected electrons (n, 81), their slopes (n, 81, 5) and each region's corner (y, x).

    Slopes are in x, y (px), photons, background and ln width.
    """
    axes = [_axis(truth, name, optics) for name in "xy"]
    (px, dx, wx, x0), (py, dy, wy, y0) = axes
    n = truth["expected_photons"].astype(np.float64)[:, None, None]
    b = truth["background_e"].astype(np.float64)[:, None, None]

    def outer(along_y: Array, along_x: Array) -> Array:
        return along_y[:, :, None] * along_x[:, None, :]

    shape = outer(py, px)
    width = outer(wy, px) + outer(py, wx)
    slopes = [n * outer(py, dx), n * outer(dy, px), shape, np.ones_like(shape), n * width]
    flat = (len(truth), ROI_PX * ROI_PX)
    stacked = np.stack([s.reshape(flat) for s in slopes], axis=2)
    return (b + n * shape).reshape(flat), stacked, np.stack([y0, x0], axis=1)


def _axis(
    truth: NDArray[np.void], name: str, optics: Optics
) -> tuple[Array, Array, Array, NDArray[np.int64]]:
    """Return a pixel-integrated Gaussian along one axis, its slopes in place and ln width."""
    centre = truth[f"{name}_um"] / optics.pixel_um
    variance = optics.sigma_um**2 + truth[f"path_var_{name}_um2"].astype(np.float64)
    sd = (np.sqrt(variance) / optics.pixel_um)[:, None]
    corner = np.rint(centre).astype(np.int64) - ROI_PX // 2
    edges = corner[:, None] + np.arange(ROI_PX + 1) - 0.5
    u = (edges - centre[:, None]) / sd
    density = np.exp(-0.5 * u * u) / np.sqrt(2 * np.pi)
    part = np.diff(0.5 * erf(u / np.sqrt(2)), axis=1)
    return part, -np.diff(density, axis=1) / sd, -np.diff(u * density, axis=1), corner


def _pixel_information(rate: Array, corner: NDArray[np.int64], camera: Camera) -> Array:
    """Return the camera's Fisher information about each pixel's rate, (n, 81)."""
    if camera.shape is not None and isinstance(camera, Scmos):
        return _mapped(camera, corner).fisher(rate)
    low, high = max(float(rate.min()), 1e-9), float(rate.max())
    if high < low * (1 + 1e-6):
        return np.full(rate.shape, camera.fisher(np.array([low]))[0])
    # The information is a smooth function of one number: a table serves millions of pixels.
    grid = np.geomspace(low, high, GRID)
    table = CubicSpline(np.log(grid), np.log(camera.fisher(grid)))
    return np.exp(table(np.log(np.clip(rate, low, high))))


def _mapped(camera: Scmos, corner: NDArray[np.int64]) -> Scmos:
    """Return the model of many regions, stacked as the rows (n, 81) of one camera."""
    step = np.arange(ROI_PX)
    y = (corner[:, 0, None, None] + step[:, None]).repeat(ROI_PX, axis=2)
    x = (corner[:, 1, None, None] + step[None, :]).repeat(ROI_PX, axis=1)
    shape = camera.shape or (1, 1)
    maps = (camera.gain_adu_per_e, camera.offset_adu, camera.var_e2)
    rows = (len(corner), ROI_PX * ROI_PX)
    return Scmos(*(np.broadcast_to(m, shape)[y, x].reshape(rows) for m in maps))
