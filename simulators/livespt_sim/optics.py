"""What reaches the sensor: molecules' photons along their paths, and the background.

Model: a molecule at r(t) emits photons as a Poisson process; a photon emitted at t lands at
r(t) + N(0, sigma^2) and counts in the pixel whose square it hits. So, given the path, the pixels
are independent Poisson numbers of rate

    E_i = b + N (1/te) int over the exposure of PSF_i(r(t)) dt

with real motion blur: no shape is assumed for it. The path is cut into sub-steps; within one, its
exact mean position is drawn, and its spread about that mean is taken as Gaussian of variance
lam / 6 (lam = 2 D h), the mean variance of a Brownian path about its own mean. The second moment of
the image is so exact for any number of sub-steps, and its shape converges fast with their number.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import pdtr


def background_e(start_e: float, floor_e: float, tau_s: float, t_s: float) -> float:
    """Return the background per pixel and exposure at `t_s`, at the reference excitation.

    Uniform (`start_e`) where `tau_s` is 0, else decaying exponentially from `start_e` to
    `floor_e`.
    """
    if tau_s <= 0:
        return start_e
    return floor_e + (start_e - floor_e) * math.exp(-t_s / tau_s)


def poisson_cdf(mean: float) -> NDArray[np.float64]:
    """Return P(n <= k) of a Poisson number, as far as it differs from 1; the last is 1."""
    n_max = int(mean + 8.0 * math.sqrt(mean)) + 20  # what lies above has P < 1e-13
    cdf = pdtr(np.arange(n_max), mean)
    cdf[-1] = 1.0
    return cdf


def inverse_table(cdf: NDArray[np.float64]) -> NDArray[np.int32]:
    """Tabulate the inverse of a discrete distribution for `opticskernels.fill`.

    Returns
    -------
    (2^k,) int32
        The number that a draw u of [i, i + 1) / 2^k gives, where there is only one; else
        -1 - the smallest one. About 64 cells per number keep the second case rare.
    """
    cells = 1 << min(16, 6 + len(cdf).bit_length())
    edges = np.arange(cells + 1) / cells
    low = np.searchsorted(cdf, edges[:-1], side="right")
    high = np.searchsorted(cdf, edges[1:], side="left")
    return np.where(low >= high, low, -1 - low).astype(np.int32)
