"""The dark counts of an EMCCD: readout noise, and charge that nobody wanted (SCIENCE 2).

Without light a pixel holds no electron, or now and then one that clocking made: spurious charge, of
mean lam per pixel and frame, which goes through the multiplying register like any other. With
phi_s the readout noise around the offset o and theta = g (F - 1) the register's scale,

    P(c) = e^-lam N + lam e^-lam E1 + (1 - e^-lam - lam e^-lam) E2

over the bin of c, where N is Gaussian, E1 the exponentially modified Gaussian (one electron) and
E2 the same of a Gamma of shape 2. Their distribution functions, x = c - o, follow one from another:

    F0 = Phi(x/s),  F1 = F0 - theta f1,  F2 = F1 - theta f2,   mu = x - s^2/theta,
    f1 = (1/theta) A Phi(mu/s),  f2 = (1/theta^2) A [mu Phi(mu/s) + s phi(mu/s)],
    A = exp(s^2/(2 theta^2) - x/theta)

The four numbers (o, ln s, ln lam, ln theta) maximise the likelihood of the histogram by Fisher
scoring; standard errors are the inverse information.

Charge made inside the register is multiplied by less than g, so that theta from a dark series
is low on cameras that make much of it: where there are flats, they decide on the gain.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr

from livespt.calibration.errors import CalibrationError

Array = NDArray[np.float64]

_STEPS = 60
_STEP = 1e-4
_FEWEST_ELECTRONS = 100


class DarkMixture(NamedTuple):
    """What a dark series of an EMCCD says; `sd` holds standard errors in the same order.

    Attributes
    ----------
    offset_adu, readout_adu : float
    spurious_e : float
        Electrons per pixel and frame that no light made.
    scale_adu : float
        Mean count of one such electron: the gain at F = 2; 0 where there are too few to tell.
    sd : tuple of 4 floats
    """

    offset_adu: float
    readout_adu: float
    spurious_e: float
    scale_adu: float
    sd: tuple[float, float, float, float]


def mixture(counts: NDArray, theta: Array) -> Array:
    """Return P(c) of each count for theta = (o, ln s, ln lam, ln scale)."""
    edges = np.append(counts - 0.5, counts[-1] + 0.5) - theta[0]
    s, lam, scale = np.exp(theta[1]), np.exp(theta[2]), np.exp(theta[3])
    mu = (edges - s * s / scale) / s
    log_a = s * s / (2 * scale * scale) - edges / scale
    f1 = np.exp(log_a + log_ndtr(mu)) / scale
    normal = np.exp(np.minimum(log_a - 0.5 * mu * mu, 50.0)) / np.sqrt(2 * np.pi)
    f2 = (mu * s * f1 * scale + s * normal) / scale**2
    below0 = ndtr(edges / s)
    below1 = below0 - scale * f1
    below2 = below1 - scale * np.maximum(f2, 0.0)
    none, one = np.exp(-lam), lam * np.exp(-lam)
    whole = none * below0 + one * below1 + (1.0 - none - one) * below2
    return np.maximum(np.diff(whole), 1e-300)


def fit_dark(histogram: NDArray[np.int64], origin: str) -> DarkMixture:
    """Fit the mixture to how often each count came.

    Raises
    ------
    CalibrationError
        The counts do not vary, or the fit does not converge.
    """
    first, last = np.flatnonzero(histogram)[[0, -1]]
    if last - first < 3:
        raise CalibrationError(
            f"{origin}: dark counts are all {first} to {last}: is this a camera's dark series?"
        )
    counts = np.arange(first, last + 1)
    number = histogram[first : last + 1].astype(np.float64)
    theta = _start(counts, number)
    fitted, inverse = _climb(counts, number, theta)
    if fitted is None:
        raise CalibrationError(f"{origin}: the dark counts do not look like an EMCCD's")
    o, s, lam, scale = fitted[0], *np.exp(fitted[1:])
    sd = np.sqrt(np.diag(inverse)) * np.array([1.0, s, lam, scale])
    seen = lam * number.sum() >= _FEWEST_ELECTRONS and lam > 4 * sd[2] and scale > 4 * sd[3]
    if not seen:
        scale, sd[3] = 0.0, 0.0
    return DarkMixture(float(o), float(s), float(lam), float(scale), tuple(map(float, sd)))  # type: ignore[arg-type]


def _start(counts: NDArray, number: Array) -> Array:
    """Return a first guess: the Gaussian from its lower half, the tail from what lies above it."""
    mode = counts[np.argmax(number)]
    low = counts <= mode
    share = np.cumsum(number[low]) / number[low].sum()
    s = max(float(mode - np.interp(0.317, share, counts[low])), 0.5)  # half a Gaussian
    tail = counts > mode + 4 * s
    n_tail = max(float(number[tail].sum()), 1.0)
    scale = max(float((number * (counts - mode - 4 * s))[tail].sum()) / n_tail, 2 * s)
    lam = np.clip(n_tail * np.exp(4 * s / scale) / number.sum(), 1e-6, 0.5)
    return np.array([float(mode), np.log(s), np.log(lam), np.log(scale)])


def _climb(counts: NDArray, number: Array, theta: Array) -> tuple[Array | None, Array]:
    """Fisher scoring with damping; None where it does not settle."""
    total, damping = number.sum(), 1e-3
    best = _loglik(counts, number, theta)
    for _ in range(_STEPS):
        p = mixture(counts, theta)
        slopes = np.stack([_slope(counts, theta, k) for k in range(4)])
        score = slopes @ (number / p)
        info = total * (slopes / p) @ slopes.T
        damped = info + damping * np.diag(np.diag(info))
        step = np.clip(np.linalg.solve(damped, score), -0.7 * np.exp(theta[1]), 0.7)
        step[1:] = np.clip(step[1:], -0.7, 0.7)
        trial = theta + step
        value = _loglik(counts, number, trial)
        if value >= best - 1e-9 * abs(best):
            theta, best, damping = trial, value, max(damping / 10, 1e-9)
            if float(step @ info @ step) < 1e-4:
                return theta, np.linalg.inv(info)
        else:
            damping *= 10
            if damping > 1e8:
                break
    return None, np.zeros((4, 4))


def _loglik(counts: NDArray, number: Array, theta: Array) -> float:
    return float(number @ np.log(mixture(counts, theta)))


def _slope(counts: NDArray, theta: Array, k: int) -> Array:
    """Return dP/dtheta_k by central differences."""
    up, down = theta.copy(), theta.copy()
    up[k] += _STEP
    down[k] -= _STEP
    return (mixture(counts, up) - mixture(counts, down)) / (2 * _STEP)
