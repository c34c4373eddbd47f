"""An electron-multiplying camera's score, its slope and its likelihood in one table (SCIENCE 2).

The Laplace precision asks for the second derivative of ln q(c|E) in E, which the table of
`livespt.localize.table` does not hold. With n the electrons that came,

    q(c|E) = sum_n Poisson(n; E) h_n(c),   m = E[n|c, E],   V = Var[n|c, E]
    d ln q/dE = m/E - 1,      d2 ln q/dE2 = (V - m)/E^2,      dm/dE = V/E

so both derivatives are moments of n, smooth in count and rate. One node holds (m, V, rest, E I):
16 bytes, so that a look-up meets few cache lines. Rates are laid out evenly in w = E^(1/4), which
needs two square roots and no logarithm, and is fine at both ends: 6 % of E a step at E = 1, 1 % at
2500. Counts are stretched as in `table`. In between, bilinear: the score is then good to 0.001 of
its s.d. (rms), the slope to 0.5 % of the information.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from livespt.camera import Emccd
from livespt.localize import moment_kernels as kernels
from livespt.localize import table_kernels
from livespt.localize.moment_kernels import Moments
from livespt.localize.table import PER_Z

PER_W = 64.0
_MIN_RATE = 1e-3
_MAX_RATE = 2500.0
_MIN_READ_ADU = 0.1


def no_moments() -> Moments:
    """Return the stand-in for cameras whose likelihood is Poisson of shifted data."""
    nodes = np.zeros(4, np.float32)
    nodes.setflags(write=False)  # as the real one: to numba a writable array is another type
    return Moments(nodes, 2, 2, 1.0, 1.0, 2.0, 0.0, 1.0, 0.0, 0.0)


@functools.lru_cache(maxsize=4)
def moments_of(camera: Emccd) -> Moments:
    """Return the table of `camera` (made once per set of its four numbers, then kept)."""
    gain, excess = camera.gain_adu_per_e, camera.excess
    readout = max(camera.readout_adu, _MIN_READ_ADU)
    sd = max(readout / 3.0, 0.3)  # the grid is finest where read noise meets first electrons
    top = min((65535.0 - camera.offset_adu) / gain, _MAX_RATE)
    z_min = -table_kernels.KNEE * 2.5
    z_max = table_kernels.stretch_count(top * gain, gain, sd, excess)
    z = z_min + np.arange(math.ceil((z_max - z_min) * PER_Z) + 2) / PER_Z
    counts = np.array([table_kernels.count_at(v, gain, sd, excess) for v in z])
    w_min = _MIN_RATE**0.25
    w = w_min + np.arange(math.ceil(((1.3 * top) ** 0.25 - w_min) * PER_W) + 2) / PER_W
    rates = w**4
    nodes = np.zeros(z.size * w.size * kernels.PER_NODE, np.float32)
    kernels.fill_moments(counts, rates, _information(camera, rates), gain, readout, excess, nodes)
    nodes.setflags(write=False)
    return Moments(nodes, z.size, w.size, gain, sd, excess, z_min, PER_Z, w_min, PER_W)


def _information(camera: Emccd, rates: np.ndarray) -> np.ndarray:
    """Return E I(E): exact at a few rates, the Gaussian limit above 60 electrons."""
    knots = np.r_[np.geomspace(rates[0], 1.0, 16), np.geomspace(1.2, 60.0, 14)]
    clean = Emccd(camera.gain_adu_per_e, camera.excess, camera.readout_adu, 1e3)
    exact = knots * clean.fisher(knots)
    spread = (max(camera.readout_adu, _MIN_READ_ADU) / camera.gain_adu_per_e) ** 2
    bright = rates / (camera.excess * rates + spread)
    scale = exact[-1] / (knots[-1] / (camera.excess * knots[-1] + spread))
    bright *= 1.0 + (scale - 1.0) * knots[-1] / np.maximum(rates, knots[-1])
    low = np.interp(rates**0.25, knots**0.25, exact)
    return np.where(rates > knots[-1], bright, low)
