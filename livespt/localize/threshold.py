"""From "false spots per frame" to a threshold on the matched filter.

1. Under background alone the output f = sum_i k_i n_i is close to a Gaussian field. A false spot is
   a pixel above its eight neighbours and above the threshold. Given the centre, f_0 = z s_0, each
   neighbour is c_i0/c_00 f_0 + r_i with residuals r that do not depend on z, so that the centre is
   a peak where z > m = max_i r_i / (s_0 (1 - c_i0/c_00)), and with Q the normal tail

       false per pixel = P(z > u, z > m) = E Q(max(u, m)).

   m is drawn (fixed seed), for each line of a group of four, whose filters differ, and with a map
   of read variance for pixels all over it: a hot pixel is one lasting peak where there were many
   passing ones. Solving for u gives the level in standard deviations.
2. Counts are not Gaussian. The threshold T at a background b is where the true tail of f equals the
   Gaussian tail beyond u, by the Lugannani-Rice saddle point of its cumulant function

       K(t) = sum_i [b (M(k_i t) - 1) - k_i t b] + t^2 V/2,

   M(a) = e^a for Poisson electrons, (1 - (F-1) a)^(-1/(F-1)) after multiplication with excess noise
   F, and V = sum k_i^2 var_i the read noise behind the filter.
3. b itself is measured, from some `LEVEL_PX` pixels: its variance times (dT/db)^2 is added to V.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr

Array = NDArray[np.float64]

LEVEL_PX = 1000  # a tile's sample of 128 px, after the tiles around it have joined in


def draw_peaks(weights: Array, variances: Array, n_draws: int) -> Array:
    """Return draws of m: how far above its mean a pixel must be to top its neighbours.

    Parameters
    ----------
    weights : (4, n, k) float64
        The filter for the four lines of a group, with a border of zeros.
    variances : (p, n, k) float64
        Variances of the pixels about p pixels; those take the lines of a group in turn.
    n_draws : int
        Draws for each of them.

    Returns
    -------
    (p * n_draws,) float64
        In standard deviations of the filter's output at the pixel.
    """
    rng = np.random.default_rng(0)
    out = []
    for line in range(weights.shape[0]):
        fields = _neighbours(weights, line)
        v = variances[line % len(variances) :: weights.shape[0]].reshape(-1, fields.shape[1])
        cov = np.einsum("in,pn,jn->pij", fields, v, fields, optimize=True)
        own, shared = cov[:, 4, 4], cov[:, 4, :] / cov[:, 4:5, 4]
        others = np.arange(9) != 4
        rest = cov - cov[:, :, 4:5] * shared[:, None, :]
        rest = rest[:, others][:, :, others]
        value, vector = np.linalg.eigh(rest)
        root = vector * np.sqrt(np.maximum(value, 0.0))[:, None, :]
        residuals = rng.normal(size=(len(v), n_draws, 8)) @ root.transpose(0, 2, 1)
        scale = np.sqrt(own)[:, None, None] * np.maximum(1.0 - shared[:, None, others], 1e-9)
        out.append((residuals / scale).max(axis=2).ravel())
    return np.concatenate(out)


def _neighbours(weights: Array, line: int) -> Array:
    """Return the filter at a pixel of a line and at its eight neighbours, (9, n * k)."""
    steps = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    n = weights.shape[0]
    moved = [np.roll(weights[(line + dy) % n], (dy, dx), (0, 1)) for dy, dx in steps]
    return np.array(moved).reshape(9, -1)


def level_sds(peaks: Array, false_per_pixel: float) -> float:
    """Return the threshold in standard deviations of the filter's output.

    Parameters
    ----------
    peaks : (n,) float64
        From `draw_peaks`.
    false_per_pixel : float
        Expected local maxima above the threshold per pixel of pure noise.
    """
    m, u = np.sort(peaks), np.linspace(1.0, 9.0, 801)
    above = np.append(np.cumsum(ndtr(-m)[::-1])[::-1], 0.0)
    first = np.searchsorted(m, u)
    tail = (first * ndtr(-u) + above[first]) / m.size
    return float(np.interp(-np.log(false_per_pixel), -np.log(tail), u))


def _density(z: Array) -> Array:
    """Return the standard normal density (scipy.stats would take longer to load than all else)."""
    return np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)


def limits(weights: Array, sds: Array, levels: Array, read_vars: Array, excess: float) -> Array:
    """Return the threshold on the filter's output, (len(levels), len(read_vars)).

    Parameters
    ----------
    weights : (4, n, k) float64
        The filter for the four lines of a group.
    sds : (nb,) float64
        From `level_sds`, for each level.
    levels : (nb,) float64
        Background, electrons per pixel.
    read_vars : (nv,) float64
        Read variance behind the filter, e2.
    excess : float
        Excess noise factor F; 1 for cameras without multiplication.
    """
    # pixels of equal weight count once: the kernel is symmetric
    values, repeats = np.unique(np.round(weights, 9), return_counts=True)
    counts = repeats / weights.shape[0]
    power = float(np.sum(counts * values**2))
    known = _limits(values, counts, sds, levels, np.tile(read_vars, (levels.size, 1)), excess)
    slope = np.gradient(known, levels, axis=0)
    of_level = (excess * levels[:, None] + read_vars / power) / LEVEL_PX
    return _limits(values, counts, sds, levels, read_vars + slope**2 * of_level, excess)


def _limits(
    k: Array, counts: Array, sds: Array, levels: Array, read_vars: Array, excess: float
) -> Array:
    out = np.empty(read_vars.shape)
    for i, level in enumerate(levels):
        for j, read_var in enumerate(read_vars[i]):
            out[i, j] = _limit(k, counts, float(sds[i]), float(level), float(read_var), excess)
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
