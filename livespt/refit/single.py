"""One diffusion constant: the covariance estimator and maximum likelihood, pooled and per track.

Steps dx of one axis have <dx^2> = 2 D dt (1 - 2 R) + 2 eps^2 and <dx dx'> = 2 R D dt - eps^2
(Berglund 2010), R = exposure / (6 dt). With sample means S0, S1 of both

    D = S0 / (2 dt) + S1 / dt,   eps^2 = R S0 + (2 R - 1) S1         (Vestergaard 2014)
    D = (S0 - 2 <eps^2>) / (2 dt (1 - 2 R))                          errors known (Linden 2017)

The standard errors are those of the sample means of n Gaussian steps with these two covariances
c0, c1, with m = n - 1 (Vestergaard's formula, to the first order in 1 / n):

    Var S0 = 2 [n c0^2 + 2 (n - 1) c1^2] / n^2,   Cov(S0, S1) = 4 c0 c1 / n
    Var S1 = [c0^2 + c1^2 + 2 c1^2 (m - 1) / m] / m
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from livespt.infer.answerkernels import Z95
from livespt.infer.arrays import Tracks
from livespt.infer.fit import climb, evaluate
from livespt.refit.history import (
    PASSES,
    Fitted,
    climb_all,
    errors_of,
    model_of,
    parameters_of,
    smoothed,
    tracks_of,
)
from livespt.refit.result import Parameter, Refit, RefitError
from livespt.refit.tracks import Floats, TrackTable, fit_to_use, select

#: A step between frames whose time is off the nominal one by more is none of the covariances'.
OFF_TIME = 0.01
#: So many tracks tell the standard error of their mean by their own spread.
MANY_TRACKS = 20


class Moments(NamedTuple):
    """Sample means over the steps of each track, both axes together.

    Attributes
    ----------
    n, m : (n_tracks,) int64
        Steps; pairs of successive steps.
    s0, s1 : (n_tracks,) float64
        Means of dx^2 and of dx dx' (um2); 0 without a step or a pair.
    var : (n_tracks,) float64
        Mean squared standard error (um2); 0 where none is known.
    """

    n: NDArray[np.int64]
    m: NDArray[np.int64]
    s0: Floats
    s1: Floats
    var: Floats


def moments(data: TrackTable) -> Moments:
    """Average over the steps between frames that follow each other."""
    tracks = np.repeat(np.arange(data.n_tracks), np.diff(data.first))
    off = np.abs(np.diff(data.t_s) / data.interval_s - 1) > OFF_TIME
    step = (tracks[1:] == tracks[:-1]) & ~off
    both = step[1:] & step[:-1]
    dx = np.stack([np.diff(data.x_um), np.diff(data.y_um)], axis=1)
    n = np.bincount(tracks[1:][step], minlength=data.n_tracks)
    m = np.bincount(tracks[2:][both], minlength=data.n_tracks)
    squares = (dx**2).mean(axis=1)[step]
    crosses = (dx[1:] * dx[:-1]).mean(axis=1)[both]
    s0 = np.bincount(tracks[1:][step], squares, data.n_tracks) / np.maximum(n, 1)
    s1 = np.bincount(tracks[2:][both], crosses, data.n_tracks) / np.maximum(m, 1)
    var = np.zeros(data.n_tracks)
    if data.sd_um is not None:
        each = (data.sd_um**2).mean(axis=1)
        var = np.bincount(tracks, each, data.n_tracks) / np.diff(data.first)
    return Moments(n, m, s0, s1, var)


class Estimate(NamedTuple):
    """D (um2/s) and the error's variance (um2) with standard errors; arrays or numbers."""

    D: Any
    sd_D: Any
    var: Any
    sd_var: Any


def covariance_estimate(found: Moments, dt_s: float, R: float, *, known: bool) -> Estimate:
    """Return the estimate for each track; see the module's text.

    `known`: the errors are taken from the table, else estimated.
    """
    if known:
        D = (found.s0 - 2 * found.var) / (2 * dt_s * (1 - 2 * R))
        var = found.var
    else:
        D = found.s0 / (2 * dt_s) + found.s1 / dt_s
        var = R * found.s0 + (2 * R - 1) * found.s1
    c0 = np.maximum(2 * D * dt_s * (1 - 2 * R) + 2 * var, 0.0)
    c1 = 2 * R * D * dt_s - var
    v0, v1, v01 = moment_variances(c0, c1, found.n, found.m)
    if known:
        return Estimate(D, np.sqrt(v0) / (2 * dt_s * (1 - 2 * R)), var, np.zeros_like(var))
    in_D = v0 / 4 + v1 + v01
    in_var = R**2 * v0 + (2 * R - 1) ** 2 * v1 + 2 * R * (2 * R - 1) * v01
    return Estimate(D, np.sqrt(np.maximum(in_D, 0)) / dt_s, var, np.sqrt(np.maximum(in_var, 0)))


def moment_variances(
    c0: Floats, c1: Floats, n: NDArray[np.int64], m: NDArray[np.int64]
) -> tuple[Floats, Floats, Floats]:
    """Return Var S0, Var S1 and their covariance, averaged over two axes."""
    n, m = np.maximum(n, 1), np.maximum(m, 1)
    v0 = 2 * (n * c0**2 + 2 * (n - 1) * c1**2) / n**2
    v1 = (c0**2 + c1**2 + 2 * c1**2 * (m - 1) / m) / m
    return v0 / 2, v1 / 2, 2 * c0 * c1 / n


def fit_covariance(data: TrackTable, *, precision: str = "auto") -> Refit:
    """Estimate D from the covariances of steps: each track's, and pooled over all.

    Parameters
    ----------
    data : TrackTable
    precision : {"auto", "known", "unknown"}
        Whether the table's standard errors are taken for true; "auto": where it has some.

    Raises
    ------
    RefitError
        No such precision, no standard errors, or too few frames that follow each other.
    """
    known = _is_known(data, precision)
    data = fit_to_use(data)
    found = moments(data)
    data = select(data, found.m > 0 if not known else found.n > 0, "tracks of too few steps")
    found = moments(data)
    dt_s, R = data.interval_s, data.exposure_s / (6 * data.interval_s)
    each = covariance_estimate(found, dt_s, R, known=known)
    pooled, how = _pooled(found, each, dt_s, R, known=known)
    parameters = [normal("D_um2_s", pooled.D, pooled.sd_D, "um2/s"), _error(pooled, known=known)]
    steps = int(found.n.sum())
    return Refit(
        method="covariance",
        parameters=tuple(parameters),
        loglik=None,
        status="ok" if steps >= 10 else "too few data",
        message=f"{steps} steps; standard errors from {how}; {_said(known=known)}",
        n_iterations=1,
        n_tracks=data.n_tracks,
        n_positions=data.x_um.size,
        left_out=data.left_out,
        positions=None,
        evidence={},
        tables={"tracks": _rows(data, found, each, known=known)},
        seconds=0.0,
        provenance={"interval_s": dt_s, "exposure_s": data.exposure_s},
    )


def _is_known(data: TrackTable, precision: str) -> bool:
    if precision not in ("auto", "known", "unknown"):
        raise RefitError(f"precision: {precision}; expected auto, known or unknown")
    if precision == "known" and data.sd_um is None:
        raise RefitError(f"{data.source}: has no standard errors, which precision=known needs")
    return data.sd_um is not None and precision != "unknown"


def _said(*, known: bool) -> str:
    return "errors as the table tells them" if known else "errors estimated with D"


def _pooled(
    found: Moments, each: Estimate, dt_s: float, R: float, *, known: bool
) -> tuple[Estimate, str]:
    """Pool over tracks: means over all steps, with standard errors."""
    n, m = int(found.n.sum()), int(found.m.sum())
    weight = found.n / n
    s1 = float(found.m @ found.s1) / max(m, 1)
    one = Moments(
        np.array([n]),
        np.array([m]),
        np.array([weight @ found.s0]),
        np.array([s1]),
        np.array([weight @ found.var]),
    )
    pooled = Estimate(
        *(float(value[0]) for value in covariance_estimate(one, dt_s, R, known=known))
    )
    if found.n.size < MANY_TRACKS:
        return pooled, "the formula for one D"
    spread = 1 / (1 - float(weight @ weight))
    sd = [
        math.sqrt(spread * float(weight**2 @ (values - middle) ** 2))
        for values, middle in ((each.D, pooled.D), (each.var, pooled.var))
    ]
    return pooled._replace(sd_D=sd[0], sd_var=0.0 if known else sd[1]), "the spread between tracks"


def normal(name: str, value: float, sd: float, unit: str) -> Parameter:
    """Return a parameter with a symmetric interval."""
    return Parameter(name, value, sd, value - Z95 * sd, value + Z95 * sd, unit)


def _error(pooled: Estimate, *, known: bool) -> Parameter:
    root = math.sqrt(max(pooled.var, 0.0))
    if known:
        return Parameter("sd_um", root, unit="um", fixed=True)
    low = math.sqrt(max(pooled.var - Z95 * pooled.sd_var, 0.0))
    high = math.sqrt(max(pooled.var + Z95 * pooled.sd_var, 0.0))
    return Parameter("sd_um", root, (high - low) / (2 * Z95), low, high, "um")


def _rows(data: TrackTable, found: Moments, each: Estimate, *, known: bool) -> list[dict[str, Any]]:
    names = data.track[data.first[:-1]]
    return [
        {
            "track": int(names[i]),
            "n_steps": int(found.n[i]),
            "D_um2_s": float(each.D[i]),
            "sd_D_um2_s": float(each.sd_D[i]),
            "var_error_um2": float(each.var[i]),
            "sd_var_error_um2": 0.0 if known else float(each.sd_var[i]),
        }
        for i in range(data.n_tracks)
    ]


def fit_ml(
    data: TrackTable, *, error_scale: float | str = "fit", sd_um: float | None = None
) -> Refit:
    """Fit one D by maximum likelihood (Berglund's, pointwise errors): pooled, then each track.

    Parameters
    ----------
    data : TrackTable
    error_scale : float or "fit"
        Factor on the standard errors: fitted to all tracks together, or held. Single tracks take
        the pooled one.
    sd_um : float, optional
        One error for all rows, in the place of the table's.

    Raises
    ------
    RefitError
        Nothing to fit.
    """
    data = fit_to_use(data)
    errors = errors_of(data, error_scale, sd_um)
    tracks = tracks_of(data, errors)
    pooled = climb_all(tracks, data.interval_s, 1, errors, tracks)
    rows = [row for i in range(data.n_tracks) if (row := _one_track(data, tracks, pooled, i))]
    model = model_of(data, pooled)
    n, q = max(pooled.fit.n_steps, 1), 1 + (pooled.n_parameters > 1)
    return Refit(
        method="ml",
        parameters=tuple(
            p._replace(name="D_um2_s") if p.name == "D_um2_s[0]" else p
            for p in parameters_of(model, errors)
        ),
        loglik=pooled.loglik,
        status="ok" if pooled.fit.converged else "not converged",
        message="single tracks take the pooled errors",
        n_iterations=pooled.n_passes,
        n_tracks=data.n_tracks,
        n_positions=data.x_um.size,
        left_out=data.left_out,
        positions=smoothed(data, pooled),
        evidence={
            "n_parameters": float(q),
            "aic": 2 * q - 2 * pooled.loglik,
            "bic": q * math.log(n) - 2 * pooled.loglik,
        },
        tables={"tracks": rows},
        seconds=0.0,
        provenance={"interval_s": data.interval_s, "exposure_s": data.exposure_s},
    )


def _one_track(data: TrackTable, tracks: Tracks, pooled: Fitted, i: int) -> dict[str, Any]:
    """Fit D of one track at the pooled error scale; its interval is the curvature's."""
    low, high = int(data.first[i]), int(data.first[i + 1])
    one = tracks._replace(
        first=np.array([0, high - low]),
        t_s=tracks.t_s[low:high],
        exposure_s=tracks.exposure_s[low:high],
        spot=tracks.spot[low:high],
        weight=tracks.weight[low:high],
    )
    theta = pooled.fit.theta
    held = pooled.prior._replace(
        mean=np.array([pooled.prior.mean[0], 0.0, theta[-1]]),
        precision=np.array([pooled.prior.precision[0], 1e12, 1e12]),
    )
    fit = climb(evaluate(theta, one, data.interval_s, held), one, data.interval_s, held, PASSES)
    D, sd = math.exp(fit.theta[0]), _log_sd(fit.theta, one, data.interval_s, held)
    return {
        "track": int(data.track[low]),
        "n_steps": high - low - 1,
        "D_um2_s": D,
        "D_low_um2_s": D * math.exp(-Z95 * sd),
        "D_high_um2_s": D * math.exp(Z95 * sd),
        "converged": bool(fit.converged),
    }


def _log_sd(theta: Floats, one: Any, interval_s: float, prior: Any, step: float = 0.05) -> float:
    """Return the standard error of ln D: the curvature of log-likelihood and prior."""
    slopes = []
    for shift in (-step, step):
        moved = theta.copy()
        moved[0] += shift
        slopes.append(float(evaluate(moved, one, interval_s, prior).scores[:, 0].sum()))
    curvature = (slopes[0] - slopes[1]) / (2 * step) + float(prior.precision[0])
    return 1 / math.sqrt(max(curvature, float(prior.precision[0])))
