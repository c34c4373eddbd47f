"""Photon transfer: the gain of each pixel from noise against light (SCIENCE 2).

A count c has, over frames, mean o + s and variance

    V = v0 + b s,        b = g (sCMOS)  or  F g (EMCCD),

with v0 the variance in the dark (rounding included) and s the signal, all in counts. The dark
series is the level s = 0 of the same line, so that its error is shared by all levels as it should
be. A sample variance over n frames, less b times a sample mean, has the variance

    Var = 2 V^2/nu + (b^2 V + k b^3 s)/n,   nu = n - 2,   k = -1 (Poisson), 0 (high-gain EMCCD)

where k collects the third and fourth cumulants of the multiplied charge (in the dark the first term
alone; the offset's own error, b^2 v0/n0, goes to the flats). Weighted least squares
over the levels gives v0 and b of each pixel with their covariance; weights are taken at the model's
V with the chip's common b, not at the pixel's own noisy variance, which would favour low outcomes.

Few frames do not resolve the gain of a pixel. With e_i the standard errors, the spread tau of
the true gains follows from Var(b_i) = tau^2 + mean e_i^2, and the best estimate of each pixel is

    b + (b_i - b) tau^2/(tau^2 + e_i^2),   of variance tau^2 e_i^2/(tau^2 + e_i^2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from livespt.calibration.series import Series

Array = NDArray[np.float64]

#: k of the two register kinds.
K_POISSON, K_MULTIPLIED = -1.0, 0.0
ROUNDING_ADU2 = 1.0 / 12.0
_MIN_VAR_ADU2 = 1e-3
_ROWS_AT_ONCE = 1 << 20  # pixels
_TURNS = 4


class Transfer(NamedTuple):
    """The line of each pixel.

    Attributes
    ----------
    slope, sd_slope : (H, W) float64
        b in counts per electron (times F), and its standard error; 0 and inf where no level says.
    dark_var, sd_dark_var : (H, W) float64
        v0, counts squared.
    signal : (L, H, W) float32
        s of each flat.
    usable : (L, H, W) bool
        Where a flat is not saturated.
    """

    slope: Array
    sd_slope: Array
    dark_var: Array
    sd_dark_var: Array
    signal: NDArray[np.float32]
    usable: NDArray[np.bool_]


class Pooled(NamedTuple):
    """The chip's common slope and what the pixels differ by.

    Attributes
    ----------
    slope, sd_slope : float
    spread : float
        tau, the true spread between pixels; 0 where it is not resolved.
    sd_pixel : float
        Typical standard error of one pixel.
    level_slope, sd_level_slope : (L,) float64
        The slope from each flat alone: a straight line has them equal.
    """

    slope: float
    sd_slope: float
    spread: float
    sd_pixel: float
    level_slope: Array
    sd_level_slope: Array


def fit_lines(dark: Series, flats: Sequence[Series], top_adu: int, k: float) -> Transfer:
    """Fit the line of each pixel.

    Parameters
    ----------
    dark : Series
    flats : sequence of Series
    top_adu : int
        Highest count that the converter gives; a pixel that reached it is left out of that flat.
    k : float
        `K_POISSON` or `K_MULTIPLIED`.
    """
    signal = np.stack([flat.mean - dark.mean for flat in flats])
    usable = np.stack([(flat.highest < top_adu) for flat in flats]) & (signal > 0)
    start = _first_slope(dark, flats, signal, usable)
    out = np.zeros((4, dark.mean.size))
    n = np.array([dark.n_frames, *(flat.n_frames for flat in flats)], np.float64)[:, None]
    variances = [dark.var.ravel(), *(flat.var.ravel() for flat in flats)]
    signals, use = signal.reshape(len(flats), -1), usable.reshape(len(flats), -1)
    for at in range(0, dark.mean.size, _ROWS_AT_ONCE):
        part = slice(at, at + _ROWS_AT_ONCE)
        var = np.stack([v[part] for v in variances]).astype(np.float64)
        light = np.concatenate([np.zeros((1, var.shape[1])), signals[:, part].astype(np.float64)])
        valid = np.concatenate([np.ones((1, var.shape[1]), np.bool_), use[:, part]])
        out[:, part] = _lines(var, light, valid, n, start, k)
    shaped = (values.reshape(dark.mean.shape) for values in out)
    return Transfer(*shaped, signal=signal, usable=usable)


def _first_slope(
    dark: Series, flats: Sequence[Series], signal: NDArray[np.float32], usable: NDArray[np.bool_]
) -> float:
    """Return the median over pixels of the steepest sensible estimate, to weight with."""
    ratios = []
    for flat, light, use in zip(flats, signal, usable, strict=True):
        if use.any():
            ratios.append(float(np.median((flat.var - dark.var)[use] / light[use])))
    return max(float(np.median(ratios)) if ratios else 1.0, 1e-3)


def _lines(
    var: Array, light: Array, valid: NDArray[np.bool_], n: Array, slope: float, k: float
) -> tuple[Array, Array, Array, Array]:
    """Return slope, its s.e., dark variance, its s.e. of a block of pixels; levels in rows."""
    v0 = np.maximum(var[0], _MIN_VAR_ADU2)
    for _ in range(_TURNS - 1):
        v0 = _solve(var, light, valid, n, slope, k, v0)[2]
    return _solve(var, light, valid, n, slope, k, v0)


def _solve(
    var: Array,
    light: Array,
    valid: NDArray[np.bool_],
    n: Array,
    slope: float,
    k: float,
    v0: Array,
) -> tuple[Array, Array, Array, Array]:
    """Solve the weighted normal equations, with weights at dark variance `v0` and `slope`."""
    expected = v0 + slope * light
    spread = 2.0 * expected**2 / (n - 2.0)
    spread[1:] += (slope**2 * expected + k * slope**3 * light)[1:] / n[1:]
    spread[1:] += slope**2 * v0 / n[0]  # the offset's error, taken as if each flat had its own
    weight = np.where(valid, 1.0 / spread, 0.0)
    a00, a01, a11 = weight.sum(0), (weight * light).sum(0), (weight * light**2).sum(0)
    r0, r1 = (weight * var).sum(0), (weight * light * var).sum(0)
    det = a00 * a11 - a01**2
    known = valid[1:].any(axis=0) & (det > 1e-12 * a00 * a11)
    det = np.where(known, det, 1.0)
    b = np.where(known, (a00 * r1 - a01 * r0) / det, 0.0)
    fitted = np.maximum(np.where(known, (a11 * r0 - a01 * r1) / det, var[0]), _MIN_VAR_ADU2)
    sd_b = np.where(known, np.sqrt(a00 / det), np.inf)
    sd_v0 = np.where(known, np.sqrt(a11 / det), fitted * np.sqrt(2.0 / (n[0] - 2.0)))
    return b, sd_b, fitted, sd_v0


def pool(dark: Series, flats: Sequence[Series], lines: Transfer, good: NDArray[np.bool_]) -> Pooled:
    """Pool the lines of all `good` pixels (H, W)."""
    b, sd = lines.slope[good], lines.sd_slope[good]
    usual = sd < 2.0 * np.median(sd)  # not those whose own noise hides the light
    b, sd = b[usual], sd[usual]
    weight = 1.0 / sd**2
    slope = float(np.sum(weight * b) / np.sum(weight))
    sd_slope = float(np.sqrt(np.sum(weight**2 * (b - slope) ** 2)) / np.sum(weight))
    excess = (b - slope) ** 2 - sd**2
    spread2, sd_spread2 = float(excess.mean()), float(excess.std() / np.sqrt(excess.size))
    spread = float(np.sqrt(spread2)) if spread2 > 3.0 * sd_spread2 else 0.0
    alone = [
        _level_slope(dark, flat, light[good], use[good], good)
        for flat, light, use in zip(flats, lines.signal, lines.usable, strict=True)
    ]
    level, sd_level = np.array(alone).T
    return Pooled(slope, sd_slope, spread, float(np.median(sd)), level, sd_level)


def _level_slope(
    dark: Series,
    flat: Series,
    light: NDArray[np.float32],
    use: NDArray[np.bool_],
    good: NDArray[np.bool_],
) -> tuple[float, float]:
    """Return the slope from one flat alone and its standard error; zero where none is usable."""
    if not use.any():
        return 0.0, 0.0
    rise = (flat.var.astype(np.float64) - dark.var)[good][use]
    s = light[use].astype(np.float64)
    slope = float(rise.sum() / s.sum())
    left = rise - slope * s
    return slope, float(np.sqrt(np.sum(left**2)) / s.sum())


def shrink(lines: Transfer, pooled: Pooled) -> tuple[Array, Array]:
    """Return the best slope of each pixel and its standard error (see the module's head)."""
    tau2 = pooled.spread**2
    e2 = lines.sd_slope**2
    share = np.where(np.isfinite(e2), tau2 / (tau2 + e2), 0.0) if tau2 > 0 else np.zeros_like(e2)
    slope = pooled.slope + (lines.slope - pooled.slope) * share
    return slope, np.sqrt(tau2 * (1.0 - share) + pooled.sd_slope**2)
