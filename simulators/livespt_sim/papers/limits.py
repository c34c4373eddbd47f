"""What no estimator of D can beat, where positions are read with known Gaussian errors.

Displacements have Berglund's covariance, which sines turn into independent variances

    D a_k + sd^2 g_k,   g_k = 2 - 2 c_k,   a_k = 2 dt (1 - 2 R + 2 R c_k)

with c_k = cos(pi k / (n + 1)) for n displacements, k = 1 ... n, R = exposure / (6 dt). So the
likelihood of D is known exactly, and so is what it permits. Pixels tell no more than positions with
the errors that their information allows.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

#: Values of ln D that the posterior is worked out at, on either side of the truth.
_AROUND, _STEP = 2.4, 0.01


class Track(NamedTuple):
    """Frames, time between them and exposure (s), s.d. of a position (um)."""

    n_frames: int
    interval_s: float
    exposure_s: float
    sd_um: float


class Limit(NamedTuple):
    """What one axis of one track permits.

    Attributes
    ----------
    rel_sd : float
        Cramer and Rao's bound on the s.d. of D / D.
    within : float
        Share of tracks within `near` of D, of the estimator that makes it greatest: the middle of
        the window with most of the posterior, all ln D alike before.
    within_ml : float
        The same of maximum likelihood.
    rel_rms : float
        Relative RMS error of maximum likelihood.
    """

    rel_sd: float
    within: float
    within_ml: float
    rel_rms: float


def limit_of(
    D_um2_s: float, track: Track, rng: np.random.Generator, repeats: int = 4000, near: float = 0.25
) -> Limit:
    """Draw displacements and estimate D with everything else known.

    Parameters
    ----------
    D_um2_s : float
    track : Track
    rng : numpy.random.Generator
    repeats : int
        Tracks.
    near : float
        "Within" means a relative error below it.
    """
    n = track.n_frames - 1
    c = np.cos(np.pi * np.arange(1, n + 1) / (n + 1))
    R = track.exposure_s / (6 * track.interval_s)
    a, noise = 2 * track.interval_s * (1 - 2 * R + 2 * R * c), track.sd_um**2 * (2 - 2 * c)
    truth = D_um2_s * a + noise
    rel_sd = 1 / (D_um2_s * np.sqrt(0.5 * ((a / truth) ** 2).sum()))
    squares = rng.normal(size=(repeats, n)) ** 2 * truth
    ln_D = np.log(D_um2_s) + np.arange(-_AROUND, _AROUND, _STEP)
    var = np.exp(ln_D)[:, None] * a + noise
    loglik = -0.5 * (np.log(var).sum(axis=1) + squares @ (1 / var).T)
    ml = np.exp(ln_D[loglik.argmax(axis=1)]) / D_um2_s
    middle = _middles(loglik, near) * _STEP + ln_D[0] - np.log(D_um2_s)
    return Limit(
        float(rel_sd),
        float((np.abs(np.exp(middle) - 1) < near).mean()),
        float((np.abs(ml - 1) < near).mean()),
        float(np.sqrt(((ml - 1) ** 2).mean())),
    )


def _middles(loglik: np.ndarray, near: float) -> np.ndarray:
    """Return the index of the d that has D most probably in d / (1 + near) to d / (1 - near)."""
    weight = np.exp(loglik - loglik.max(axis=1, keepdims=True))
    before = np.concatenate([np.zeros((len(weight), 1)), np.cumsum(weight, axis=1)], axis=1)
    at = np.arange(weight.shape[1])
    high = np.minimum(at - round(np.log(1 - near) / _STEP), at[-1] + 1)
    low = np.maximum(at - round(np.log(1 + near) / _STEP), 0)
    return (before[:, high] - before[:, low]).argmax(axis=1)
