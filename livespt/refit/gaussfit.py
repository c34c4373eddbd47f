"""A Gaussian fit in each frame, then D from the positions: what most of the field does.

Each region is fitted on its own by `livespt.localize.fit_rois` (position, photons, background and
width free). `gf-msd` puts a line through the mean squared displacements; `gf-mle` and `mle-scmos`
maximise Berglund's likelihood, D and the localizations' s.d. both fitted. Without "scmos" all
pixels of an sCMOS camera are taken alike; with it each has its own gain, offset and read variance.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from livespt.camera import Camera, Emccd
from livespt.localize import fit_rois
from livespt.refit.berglund import LineFit, fit_line, msd_line
from livespt.refit.looks import (
    AXES,
    LEAST_FRAMES,
    Array,
    D_parameters,
    check,
    poisson_like,
    positions_of,
    stacked_camera,
)
from livespt.refit.regions import Regions
from livespt.refit.result import Parameter, Refit, RefitError
from livespt.types import FitStatus


class Fits(NamedTuple):
    """Positions of single frames, in pixels of the whole frame."""

    at_px: Array  # (m, 2)
    cov_px2: Array  # (m, 3) variances along x and y, covariance
    rows: NDArray[np.int64]
    light: tuple[float, float]  # median photons and background
    left_out: dict[str, int]


def fit_frames(regions: Regions, *, alike: bool = False) -> Fits:
    """Fit each region on its own; frames whose fit did not settle are left out and counted."""
    sigma_px = regions.sigma_um / regions.pixel_um
    camera = cast("Camera", stacked_camera(regions, alike=alike))
    found = fit_rois(np.ascontiguousarray(regions.adu), camera, sigma_px)
    rows = np.flatnonzero(found["status"] == FitStatus.OK)
    fits, cov = found[rows], found["covariance"][rows]
    middle = 0.5 * (regions.adu.shape[1] - 1)
    at = np.stack([fits["x_px"], fits["y_px"]], axis=1) + middle + regions.corner_px[rows]
    light = (1.0, 1.0)
    if rows.size:
        light = (float(np.median(fits["photons"])), float(np.median(fits["bg_photons"])))
    left_out = {"fit did not settle": len(found) - rows.size}
    return Fits(at, np.stack([cov[:, 0, 0], cov[:, 1, 1], cov[:, 0, 1]], 1), rows, light, left_out)


def gf_msd(regions: Regions) -> Refit:
    """Fit each frame, then the line 2 D n tau + c through the MSD at lags up to N / 4.

    Parameters
    ----------
    regions : Regions

    Returns
    -------
    Refit
        The line of correlated points gives no standard errors. D below 0 is reported as found.

    Raises
    ------
    RefitError
        Regions that cannot be used.
    """
    fits = _settled(regions, "gf-msd", alike=True)
    interval_s = float(np.median(np.diff(regions.t_s)))
    counts = np.rint((regions.t_s - regions.t_s[0]) / interval_s).astype(np.int64)[fits.rows]
    lines = [msd_line(regions.pixel_um * x, counts, interval_s) for x in fits.at_px.T]
    parameters = [
        Parameter(f"D_{axis}_um2_s", line[0], unit="um2/s")
        for axis, line in zip(AXES, lines, strict=True)
    ]
    parameters += [
        Parameter(f"offset_{axis}_um2", line[1], unit="um2")
        for axis, line in zip(AXES, lines, strict=True)
    ]
    message = "the line through the MSD gives no standard errors"
    return _answer(regions, fits, tuple(parameters), None, "ok", message, 0)


def gf_mle(regions: Regions) -> Refit:
    """Fit each frame with all pixels alike, then Berglund's likelihood; D and s both fitted.

    Parameters
    ----------
    regions : Regions

    Raises
    ------
    RefitError
        Regions that cannot be used.
    """
    return _berglund(regions, _settled(regions, "gf-mle", alike=True))


def mle_scmos(regions: Regions) -> Refit:
    """Fit each frame by the sCMOS likelihood of its own pixels, then Berglund's likelihood.

    Parameters
    ----------
    regions : Regions

    Raises
    ------
    RefitError
        Regions that cannot be used; an EMCCD.
    """
    poisson_like(regions, "mle-scmos")
    return _berglund(regions, _settled(regions, "mle-scmos", alike=False))


def _settled(regions: Regions, method: str, *, alike: bool) -> Fits:
    check(regions)
    if isinstance(regions.camera, Emccd):
        alike = False
    fits = fit_frames(regions, alike=alike)
    if fits.rows.size < LEAST_FRAMES:
        raise RefitError(
            f"{regions.source}: {method} settled in {fits.rows.size} of {len(regions.adu)} frames; "
            f"expected {LEAST_FRAMES} or more"
        )
    return fits


def _berglund(regions: Regions, fits: Fits) -> Refit:
    t_s = regions.t_s[fits.rows]
    lines = [fit_line(regions.pixel_um * x, t_s, regions.exposure_s) for x in fits.at_px.T]
    columns = (np.array([getattr(f, k) for f in lines]) for k in ("D", "sd_D", "low", "high"))
    parameters = D_parameters(*columns) + tuple(
        Parameter(f"sd_{axis}_um", float(f.s_um), float(f.sd_s), unit="um")
        for axis, f in zip(AXES, lines, strict=True)
    )
    status = "ok" if all(f.converged for f in lines) else "not converged"
    loglik = float(sum(f.loglik for f in lines))
    n = max(int(f.n_iterations) for f in lines)
    message = "positions are those of single frames"
    return _answer(regions, fits, parameters, loglik, status, message, n)


def _answer(
    regions: Regions,
    fits: Fits,
    parameters: tuple[Parameter, ...],
    loglik: float | None,
    status: str,
    message: str,
    n_iterations: int,
) -> Refit:
    return Refit(
        method="", parameters=parameters, loglik=loglik, status=status, message=message,
        n_iterations=n_iterations, n_tracks=1, n_positions=fits.rows.size, left_out=fits.left_out,
        positions=positions_of(regions, fits.at_px, fits.cov_px2, fits.rows),
        evidence={}, tables={}, seconds=0.0, provenance={},
    )  # fmt: skip


__all__ = ["Fits", "LineFit", "fit_frames", "gf_mle", "gf_msd", "mle_scmos"]
