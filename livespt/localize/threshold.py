"""From "false spots per frame" to a threshold on the matched filter.

1. Under background alone the output f = sum_i k_i n_i is close to a Gaussian field. A false spot is
   a pixel above its neighbours and above the threshold. Given the value z of the centre, the two
   neighbours along an axis are jointly normal with correlations rho1 (to the centre) and rho2 (to
   each other), and the axes are independent given the centre (separable kernel), so that

       false per pixel = int_u^inf phi(z) q(z)^2 dz,   q(z) = P(both neighbours < z | centre = z).

   Solving for u gives the level in standard deviations (the discrete-local-maxima argument known
   from brain imaging, Worsley 2005).
2. Counts are not Gaussian. The threshold T at a background b is where the true tail of f equals the
   Gaussian tail beyond u, by the Lugannani-Rice saddle point of its cumulant function

       K(t) = sum_i [b (M(k_i t) - 1) - k_i t b] + t^2 V/2,

   M(a) = e^a for Poisson electrons, (1 - (F-1) a)^(-1/(F-1)) after multiplication with excess noise
   F, and V = sum k_i^2 var_i the read noise behind the filter.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr, owens_t

Array = NDArray[np.float64]


def level_sds(weights: Array, false_per_pixel: float) -> float:
    """Return the threshold in standard deviations of a Gaussian field filtered with `weights`.

    Parameters
    ----------
    weights : (n, n) float64
        The filter.
    false_per_pixel : float
        Expected local maxima above the threshold per pixel of pure noise.
    """
    power = float(np.sum(weights**2))
    rho1 = float(np.sum(weights[:, 1:] * weights[:, :-1])) / power
    rho2 = float(np.sum(weights[:, 2:] * weights[:, :-2])) / power
    z = np.linspace(-1.0, 9.0, 401)
    below = _both_below(z, rho1, rho2)
    density = _density(z) * below**2
    tail = np.cumsum(density[::-1])[::-1] * (z[1] - z[0])
    log_tail = np.log(np.maximum(tail, 1e-300))
    target = np.clip(np.log(false_per_pixel), log_tail[-1], log_tail[0])
    return float(np.interp(-target, -log_tail, z))


def _both_below(z: Array, rho1: float, rho2: float) -> Array:
    spread = np.sqrt(1.0 - rho1**2)
    partial = np.clip((rho2 - rho1**2) / spread**2, -0.999, 0.999)
    scaled = z * (1.0 - rho1) / spread
    # two standard normals of correlation `partial`, both below `scaled` (Owen 1956)
    return ndtr(scaled) - 2.0 * owens_t(scaled, np.sqrt((1.0 - partial) / (1.0 + partial)))


def _density(z: Array) -> Array:
    """Return the standard normal density (scipy.stats would take longer to load than all else)."""
    return np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)


def limits(weights: Array, sds: float, levels: Array, read_vars: Array, excess: float) -> Array:
    """Return the threshold on the filter's output, (len(levels), len(read_vars)).

    Parameters
    ----------
    weights : (n, n) float64
        The filter.
    sds : float
        From `level_sds`.
    levels : (nb,) float64
        Background, electrons per pixel.
    read_vars : (nv,) float64
        Read variance behind the filter, e2.
    excess : float
        Excess noise factor F; 1 for cameras without multiplication.
    """
    # pixels of equal weight count once: the kernel is symmetric
    values, repeats = np.unique(np.round(weights, 9), return_counts=True)
    counts = repeats.astype(np.float64)
    out = np.empty((levels.size, read_vars.size))
    for i, level in enumerate(levels):
        for j, read_var in enumerate(read_vars):
            out[i, j] = _limit(values, counts, sds, float(level), float(read_var), excess)
    return out


def _limit(k: Array, counts: Array, sds: float, b: float, read_var: float, excess: float) -> float:
    """Return T at which the tail is that of `sds`, by scanning the saddle point upward."""
    sd = np.sqrt(excess * b * np.sum(counts * k**2) + read_var)
    spread = excess - 1.0
    if spread > 0:  # crowd toward the singularity, where the rare long tails come from
        top = (1.0 - 1e-7) / (spread * k.max())
        t = np.unique(np.r_[np.geomspace(1e-4, 0.9, 300), 1.0 - np.geomspace(0.1, 1e-7, 100)])
        t = t * min(1.2 * sds / sd, top)
    else:
        t = np.geomspace(1e-4, 1.0, 400) * min(1.2 * sds / sd, 60.0 / k.max())
    log_p, value, w = _log_tail(t, k, counts, b, read_var, spread)
    far = w > 1.0  # nearer to the mean the formula's last term cancels badly, and is not needed
    return float(np.interp(-log_ndtr(-sds), -log_p[far], value[far]))


def _log_tail(
    t: Array, k: Array, counts: Array, b: float, read_var: float, spread: float
) -> tuple[Array, Array, Array]:
    """Return ln P(f > T), T and w at the saddle points t (Lugannani and Rice 1980)."""
    a = np.outer(t, k)
    if spread > 0:
        base = 1.0 - spread * a
        m0 = base ** (-1.0 / spread)
        m1 = m0 / base
        m2 = m1 * (1.0 + spread) / base
    else:
        m0 = m1 = m2 = np.exp(a)
    cumulant = b * ((m0 - 1.0 - a) @ counts) + 0.5 * t * t * read_var
    slope = b * ((m1 - 1.0) @ (counts * k)) + t * read_var
    curve = b * (m2 @ (counts * k * k)) + read_var
    w = np.sqrt(np.maximum(2.0 * (t * slope - cumulant), 1e-12))
    tail = ndtr(-w) + _density(w) * (1.0 / (t * np.sqrt(curve)) - 1.0 / w)
    return np.log(np.maximum(tail, 1e-300)), slope, w
