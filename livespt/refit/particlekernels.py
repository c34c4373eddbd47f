# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""Particle filter and smoother of one molecule's pixels (theory: `livespt.refit.particles`).

All chance comes in from outside: normal numbers for the steps, uniform ones for the resampling.

Symbols: M particles; w filter weights, s smoother weights; Q (2,) variance of a step, px^2.
"""

from __future__ import annotations

import math

import numpy as np

from livespt.jit import kernel
from livespt.psf_kernels import profile

#: Pairs less probable than exp(-FAR) of a step's density do not count.
FAR = 30.0


@kernel
def weigh(d, v, places, origin, optics, profiles, weights):
    """Fill normalised weights (M,) of places (M, 2) by a frame's pixels; return ln of the mean."""
    widths, light = optics
    side = profiles.shape[2]
    top = -math.inf
    for k in range(weights.size):
        for a in range(2):
            p = profiles[a]
            profile(places[k, a] - origin[a], widths[a], side, p[0], p[1], p[2])
        total = 0.0
        for i in range(side):
            bright = light[0] * profiles[1, 0, i]
            for j in range(side):
                q = i * side + j
                more, before = bright * profiles[0, 0, j], light[1] + v[q]
                total += d[q] * math.log(1.0 + more / before) - more
        weights[k] = total
        top = max(top, total)
    share = 0.0
    for k in range(weights.size):
        weights[k] = math.exp(weights[k] - top)
        share += weights[k]
    for k in range(weights.size):
        weights[k] /= share
    return top + math.log(share / weights.size)


@kernel
def resample(weights, uniforms, chosen):
    """Choose particles by their weights, each draw on its own (multinomial)."""
    sums = np.cumsum(weights)
    for k in range(weights.size):
        chosen[k] = min(np.searchsorted(sums, uniforms[k] * sums[-1]), weights.size - 1)


@kernel
def run_filter(looks, Q, first, optics, chance, places, weights):
    """Fill places (n, M, 2) and weights (n, M) of the bootstrap filter; return ln L.

    `first` (2, 2) mean and variance of the first place; `chance`: normals (n, M, 2), uniforms
    (n, M).
    """
    d, v, origin, _, _ = looks
    normals, uniforms = chance
    profiles = np.empty((2, 3, int(math.sqrt(d.shape[1]))))
    n, size = weights.shape
    chosen = np.empty(size, np.int64)
    total = 0.0
    for t in range(n):
        if t > 0:
            resample(weights[t - 1], uniforms[t], chosen)
        for k in range(size):
            for a in range(2):
                if t == 0:
                    places[0, k, a] = first[a, 0] + math.sqrt(first[a, 1]) * normals[0, k, a]
                else:
                    before = places[t - 1, chosen[k], a]
                    places[t, k, a] = before + math.sqrt(Q[a]) * normals[t, k, a]
        total += weigh(d[t], v[t], places[t], origin[t], optics, profiles, weights[t])
    return total


@kernel
def smooth(places, weights, Q, after, mean_square):
    """Fill smoother weights `after` (n, M) and the steps' expected squares, summed, (2,).

    Forward filtering, backward smoothing over all pairs: with p(j|i) the density of a step,
    s_t(i) = w_t(i) sum_j s_{t+1}(j) p(j|i) / sum_l w_t(l) p(j|l).
    """
    n, size = weights.shape
    step, below = np.empty((size, size)), np.empty(size)
    after[n - 1] = weights[n - 1]
    mean_square[:] = 0.0
    halves = (0.5 / Q[0], 0.5 / Q[1])
    for t in range(n - 2, -1, -1):
        for j in range(size):
            x, y, total = places[t + 1, j, 0], places[t + 1, j, 1], 0.0
            row = step[j]
            for i in range(size):
                dx, dy = places[t, i, 0] - x, places[t, i, 1] - y
                far = halves[0] * dx * dx + halves[1] * dy * dy
                row[i] = weights[t, i] * math.exp(-far) if far < FAR else 0.0
                total += row[i]
            below[j] = after[t + 1, j] / total if total > 0.0 else 0.0
        add_pairs(places[t], places[t + 1], step, below, after[t], mean_square)


@kernel
def add_pairs(here, there, step, below, after, mean_square):
    """Fill one frame's smoother weights and add the expected squares of its steps."""
    size = after.size
    after[:] = 0.0
    sx = sy = total = 0.0
    for j in range(size):
        scale, row = below[j], step[j]
        if scale > 0.0:
            x, y = there[j, 0], there[j, 1]
            for i in range(size):
                p = row[i] * scale
                dx, dy = here[i, 0] - x, here[i, 1] - y
                after[i] += p
                total += p
                sx += p * dx * dx
                sy += p * dy * dy
    mean_square[0] += sx / total
    mean_square[1] += sy / total
    for i in range(size):
        after[i] /= total
