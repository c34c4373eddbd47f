"""D along one axis, read from its likelihood's curve."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

#: Half the 95 % quantile of chi^2 with one degree of freedom.
DROP = 1.9207


class Curve(NamedTuple):
    """Top of the likelihood's curve over ln D, standard error and 95 % interval.

    Attributes
    ----------
    D, sd, low, high : float
        In the unit of the D given; the interval is that of the likelihood ratio, at most to the
        curve's ends.
    inside : bool
        The top is not an end of the curve.
    """

    D: float
    sd: float
    low: float
    high: float
    inside: bool


def read_curve(D: NDArray[np.float64], curve: NDArray[np.float64]) -> Curve:
    """Read a curve of ln L, (K,), over values of D, (K,), evenly spaced in ln D."""
    x = np.log(D)
    near = curve >= curve.max() - 60.0  # far from the top a spline would only ring
    first, last = max(int(near.argmax()) - 2, 0), x.size - max(int(near[::-1].argmax()) - 2, 0)
    spline = CubicSpline(x[first:last], np.maximum(curve[first:last], curve.max() - 200.0))
    fine = np.linspace(x[first], x[last - 1], 12 * (last - first))
    values = spline(fine)
    best = int(values.argmax())
    top, inside = float(fine[best]), 0 < best < fine.size - 1
    bend = float(spline(top, 2))
    if inside:
        top -= float(np.clip(spline(top, 1) / min(bend, -1e-6), -0.02, 0.02))
    sd = min((-bend) ** -0.5 if bend < 0 else 10.0, 10.0)
    above = np.flatnonzero(values >= values[best] - DROP)
    value = math.exp(top)
    return Curve(value, value * sd, math.exp(fine[above[0]]), math.exp(fine[above[-1]]), inside)
