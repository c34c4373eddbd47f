# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""Unscented Kalman filter and smoother of one molecule's pixels, and the M-step of its D.

Theory: `livespt.refit.unscented`. One frame's unscented step on the square roots of the counts is
`pixelkernels.site_unscented`; it gives a Gaussian per axis, and the two axes are filtered apart.

Symbols: m, P filtered mean and variance; p, S predicted; G smoother gain; Q variance of a step.
"""

from __future__ import annotations

import numpy as np

from livespt.infer.pixelkernels import site_unscented
from livespt.jit import kernel


@kernel
def predict(Q, t, first, states):
    """Fill predicted mean and variance of frame t from the filtered of the one before."""
    for a in range(2):
        if t == 0:
            states[0, a, 0], states[0, a, 1] = first[a, 0], first[a, 1]
        else:
            states[t, a, 0] = states[t - 1, a, 2]
            states[t, a, 1] = states[t - 1, a, 3] + Q[a]


@kernel
def run_filter(looks, Q, first, optics, states, space):
    """Fill states (n, 2, 4): predicted mean and variance, filtered mean and variance.

    `first` (2, 2) mean and variance of the first place; `optics`: widths (2,), light (2,); `space`:
    profiles (2, 3, P), points (6, P * P), work (5, 5).
    """
    d, v, origin, _, _ = looks
    widths, light = optics
    profiles, points, work = space
    cavity, at, site = np.empty(4), np.empty(2), np.empty((2, 2))
    for t in range(d.shape[0]):
        predict(Q, t, first, states)
        for a in range(2):
            cavity[2 * a] = states[t, a, 0] - origin[t, a]
            cavity[2 * a + 1] = states[t, a, 1]
        site_unscented(d[t], v[t], cavity, widths, light, at, profiles, points, work, site)
        for a in range(2):
            states[t, a, 2] = at[a] + origin[t, a]
            states[t, a, 3] = 1.0 / (1.0 / cavity[2 * a + 1] + 1.0 / site[a, 1])


@kernel
def smooth(states, smoothed, mean_square):
    """Fill smoothed (n, 2, 2) and the steps' expected squares, summed, (2,) (Rauch-Tung-Striebel).

    E[(x' - x)^2] = (m' - m)^2 + P' + P - 2 G P' with smoothed moments: the cross term counts.
    """
    n = states.shape[0]
    mean_square[:] = 0.0
    for a in range(2):
        smoothed[n - 1, a, 0], smoothed[n - 1, a, 1] = states[n - 1, a, 2], states[n - 1, a, 3]
        for t in range(n - 2, -1, -1):
            gain = states[t, a, 3] / states[t + 1, a, 1]
            ahead, var = smoothed[t + 1, a, 0], smoothed[t + 1, a, 1]
            mean = states[t, a, 2] + gain * (ahead - states[t + 1, a, 0])
            here = states[t, a, 3] + gain * gain * (var - states[t + 1, a, 1])
            mean_square[a] += (ahead - mean) ** 2 + var + here - 2.0 * gain * var
            smoothed[t, a, 0], smoothed[t, a, 1] = mean, here


@kernel
def iterate(looks, Q, first, optics, rule, arrays):
    """Alternate smoothing and Q = mean expected square until ln Q moves by less than `rule[0]`.

    At most `rule[1]` times; `arrays`: states, smoothed, space. Returns iterations, negative if it
    did not settle, and fills Q (2,).
    """
    states, smoothed, space = arrays
    mean_square, steps = np.empty(2), looks[0].shape[0] - 1
    most = int(rule[1])
    for iteration in range(1, most + 1):
        run_filter(looks, Q, first, optics, states, space)
        smooth(states, smoothed, mean_square)
        moved = 0.0
        for a in range(2):
            new = max(mean_square[a] / steps, 1e-9)
            moved = max(moved, abs(np.log(new / Q[a])))
            Q[a] = new
        if moved < rule[0]:
            return iteration
    return -most
