"""Mean squared displacements, and Berglund's likelihood of displacements, along one axis.

Positions averaged over exposures te and read with errors of s.d. s have displacements that are
Gaussian, mean 0, with (Berglund 2010, eqs. 5-7; dt from one start to the next)

    Var = 2 D (dt - te/3) + 2 s^2,    Cov(next to each other) = D te/3 - s^2,

all others uncorrelated. The likelihood is that of a tridiagonal covariance, exactly, for any times
and with a position missing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cholesky_banded, solve_banded
from scipy.optimize import minimize

Array = NDArray[np.float64]
_WORST = 1e300


class LineFit(NamedTuple):
    """D along one axis and the localizations' s.d., with their standard errors; um2/s and um."""

    D: float
    sd_D: float
    low: float
    high: float
    s_um: float
    sd_s: float
    loglik: float
    converged: bool
    n_iterations: int


def msd_line(x_um: Array, frame: NDArray[np.int64], interval_s: float) -> tuple[float, float]:
    """Return slope / 2 (D, um2/s) and offset (um2) of the line 2 D n tau + c, lags to N / 4.

    Parameters
    ----------
    x_um : (N,) float64
    frame : (N,) int64
        Lags are counted in these, so that a missing position leaves a gap.
    interval_s : float

    Notes
    -----
    Plain least squares over the lags, as Lin and Andersson 2021 fitted it (eq. 3).
    """
    lag = frame[None, :] - frame[:, None]
    square = (x_um[None, :] - x_um[:, None]) ** 2
    most = max(2, x_um.size // 4)
    lags = [n for n in range(1, most + 1) if (lag == n).any()]
    msd = [square[lag == n].mean() for n in lags]
    slope, offset = np.polyfit(np.asarray(lags) * interval_s, msd, 1)
    return 0.5 * float(slope), float(offset)


def log_likelihood(x_um: Array, t_s: Array, te_s: float, D: float, s2: float) -> float:
    """Return ln p of one axis' displacements (nats)."""
    r, dt = np.diff(x_um), np.diff(t_s)
    band = np.empty((2, r.size))
    band[1] = 2 * D * (dt - te_s / 3) + 2 * s2
    band[0] = D * te_s / 3 - s2
    try:
        root = cholesky_banded(band)
    except LinAlgError:
        return -_WORST
    lower = np.vstack([root[1], np.append(root[0, 1:], 0.0)])
    white = solve_banded((1, 0), lower, r)
    return float(
        -0.5 * white @ white - np.log(root[1]).sum() - 0.5 * r.size * math.log(2 * math.pi)
    )


def fit_line(x_um: Array, t_s: Array, te_s: float) -> LineFit:
    """Fit D and s by maximum likelihood; errors from its curvature in (ln D, ln s^2).

    Intervals of D are those of ln D, 1.96 standard errors either way.
    """
    r, dt = np.diff(x_um), np.diff(t_s)
    lag_one = float(np.mean(r[1:] * r[:-1])) if r.size > 1 else 0.0
    mean_square = float(np.mean(r * r)) + 1e-18
    s2 = max(-lag_one, 0.02 * mean_square)
    D = max(mean_square - 2 * s2, 0.02 * mean_square) / (2 * float(dt.mean()))

    def minus(q: Array) -> float:
        if np.abs(q - start).max() > 25:
            return _WORST
        return -log_likelihood(x_um, t_s, te_s, math.exp(q[0]), math.exp(q[1]))

    start = np.log([D, s2])
    found = minimize(
        minus, start, method="Nelder-Mead",
        options={"xatol": 1e-3, "fatol": 1e-5, "maxiter": 400},
    )  # fmt: skip
    cov = _inverse(_curvature(minus, found.x, np.array([0.05, 0.05])))
    D, s, sds = math.exp(found.x[0]), math.exp(0.5 * found.x[1]), np.sqrt(np.diag(cov))
    reach = min(1.96 * sds[0], 25.0)
    return LineFit(
        D, D * sds[0], D * math.exp(-reach), D * math.exp(reach), s, 0.5 * s * sds[1],
        -float(found.fun), bool(found.success), int(found.nit),
    )  # fmt: skip


def _curvature(function: Callable[[Array], float], at: Array, step: Array) -> Array:
    """Return the Hessian of a function of few numbers by central differences."""
    n, eye = at.size, np.diag(step)
    out = np.empty((n, n))
    middle = function(at)
    for i in range(n):
        up, down = function(at + eye[i]), function(at - eye[i])
        out[i, i] = (up - 2 * middle + down) / step[i] ** 2
        for j in range(i):
            cross = sum(
                a * b * function(at + a * eye[i] + b * eye[j]) for a in (1, -1) for b in (1, -1)
            )
            out[i, j] = out[j, i] = cross / (4 * step[i] * step[j])
    return out


def _inverse(hessian: Array) -> Array:
    """Return a covariance from a Hessian; directions of which nothing is known get a s.d. of 10."""
    values, vectors = np.linalg.eigh(np.nan_to_num(hessian, posinf=0.0, neginf=0.0))
    return (vectors / np.maximum(values, 1e-2)) @ vectors.T
