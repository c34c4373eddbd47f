"""What more light gives: a small Kalman filter over quality, its gain and its drift.

State per unit of ln power u: quality y now (minus the log of the precision, or the log of the SBR),
gain g = dy/du, and drift d = dy/dt at constant power. A step of the power by du moves y by g du;
time moves it by d dt. The gain begins at what physics says (`gain_of_precision`), wanders a little
with every step, because it is local, and forgets with time what it learned: no probe, no knowledge.

Physics (SCIENCE 1): the s.d. goes as N^-1/2 f(t)^1/2 with f = 1 + 4t + sqrt(2t / (1 + 4t)), t the
background beneath the spot over its photons = 1 / (2 SBR). Where the laser makes all of the
background, t stays and the gain is 1/2. Where none of it comes from the laser, t falls as 1/P and
the gain is (1 + t f'/f) / 2, up to 1.
"""

from __future__ import annotations

import math

import numpy as np

#: s.d. per sqrt(s) by which quality and drift wander; memory of the gain.
WANDER, DRIFT_WANDER, MEMORY_S = 0.01, 0.01, 60.0
#: s.d. of the drift at first, and how soon it is forgotten.
DRIFT, DRIFT_MEMORY_S = 0.03, 30.0
#: By how much the gain may differ one e-fold of power away (s.d.).
LOCAL = 0.15


def gain_of_precision(sbr: float) -> tuple[float, float]:
    """Return mean and s.d. of d(-ln s.d.) / d ln power before anything was tried.

    Halfway between a background that the laser makes and one that it does not.
    """
    t = 0.5 / max(sbr, 1e-3)
    root = math.sqrt(2 * t / (1 + 4 * t))
    f = 1 + 4 * t + root
    steep = (4 * t + 0.5 * root / (1 + 4 * t)) / f  # t f' / f
    return 0.5 + steep / 4, 0.05 + steep / 4


#: The SBR does not move with the power where the laser makes the background, else in proportion.
GAIN_OF_SBR = (0.5, 0.5)


class Response:
    """Follow quality, gain and drift.

    Parameters
    ----------
    prior : (float, float)
        Mean and s.d. of the gain before anything was tried.
    """

    def __init__(self, prior: tuple[float, float]) -> None:
        self._prior = prior
        self._mean = np.array([0.0, prior[0], 0.0])
        self._cov = np.diag([1e6, prior[1] ** 2, DRIFT**2])
        self._u = math.nan
        self._t_s = math.nan

    @property
    def gain(self) -> float:
        """Quality won per unit of ln power."""
        return float(self._mean[1])

    @property
    def sd_gain(self) -> float:
        """Its standard deviation."""
        return math.sqrt(self._cov[1, 1])

    @property
    def drift_per_s(self) -> float:
        """What quality loses (negative) or wins by itself."""
        return float(self._mean[2])

    @property
    def quality(self) -> float:
        """Quality now."""
        return float(self._mean[0])

    def see(self, t_s: float, power: float, quality: float, error: float) -> None:
        """Take a window's quality at its power, with its standard error."""
        u = math.log(power)
        if not math.isnan(self._u):
            self._predict(u - self._u, max(t_s - self._t_s, 0.0))
        self._u, self._t_s = u, t_s
        variance = self._cov[0, 0] + error**2
        weight = self._cov[:, 0] / variance
        self._mean = self._mean + weight * (quality - self._mean[0])
        self._cov = self._cov - np.outer(weight, weight) * variance

    def _predict(self, du: float, dt_s: float) -> None:
        keep = math.exp(-dt_s / MEMORY_S)
        calm = math.exp(-dt_s / DRIFT_MEMORY_S)
        move = np.array([[1.0, du, dt_s], [0.0, keep, 0.0], [0.0, 0.0, calm]])
        mean, sd = self._prior
        self._mean = move @ self._mean + np.array([0.0, (1 - keep) * mean, 0.0])
        noise = np.diag(
            [
                WANDER**2 * dt_s,
                (1 - keep**2) * sd**2 + LOCAL**2 * abs(du),
                (1 - calm**2) * DRIFT**2 + DRIFT_WANDER**2 * dt_s / DRIFT_MEMORY_S,
            ]
        )
        self._cov = move @ self._cov @ move.T + noise
