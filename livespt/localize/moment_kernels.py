# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""Moments of the electrons behind a count, tabulated (theory: `livespt.localize.moments`).

Symbols: c count less offset, E rate, m and V mean and variance of n given (c, E), w = E^(1/4).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from livespt import camera_kernels as camera
from livespt.jit import kernel
from livespt.localize.table_kernels import log_share, stretch_count

MEAN, VAR, REST, INFO = 0, 1, 2, 3  # what each node holds
PER_NODE = 4
NEGLIGIBLE = 1e-13  # terms below this share of the largest are left out


class Moments(NamedTuple):
    """Nodes over (count, rate), one after the other, each of `PER_NODE` numbers.

    `mean` E[n|c, E]; `var` of n; `rest` = ln q + (2/F)(sqrt(c/g) - sqrt(E))^2; `info` E I(E).
    `per_w` is 0 in the stand-in that Poisson-like cameras pass along.
    """

    nodes: np.ndarray  # (n_z n_w PER_NODE,) float32
    n_z: int
    n_w: int
    gain: float
    sd: float
    excess: float
    z_min: float
    per_z: float
    w_min: float
    per_w: float


@kernel
def add_terms(start, rate, direction, known, share, count, work):
    """Add Poisson(n; E) h_n(c), over its value at `start`, for all n on one side of it.

    Returns the sums of weight, weight k and weight k^2, k = n - start. `share` holds ln h_n(c)
    where `known`; `count` is (c, gain, offset, readout, excess).
    """
    total, mean, square = 0.0, 0.0, 0.0
    weight, n = 1.0, start
    log_rate = math.log(rate)
    while True:
        other = n + direction
        if other < 0 or other >= share.size:
            break
        if known[other] == 0:
            gain, shift, readout, excess = count[1], count[2], count[3], count[4]
            share[other] = log_share(other, count[0], gain, shift, readout, excess, work)
            known[other] = 1
        last = weight
        ratio = log_rate - math.log(max(n, other))
        weight *= math.exp(direction * ratio + share[other] - share[n])
        n = other
        k = float(n - start)
        total += weight
        mean += weight * k
        square += weight * k * k
        if weight < NEGLIGIBLE * (1.0 + total) and weight <= last:
            break
    return total, mean, square


@kernel
def fill_moments(counts, rates, info, gain, readout, excess, nodes):
    """Fill `nodes` at `counts` (less offset; not clipped) and `rates`.

    h_n(c) does not know E, so it is worked out once per count and reused for every rate.
    """
    work = np.empty((5, camera.N_QUAD))
    n_max = int(2.0 * rates[-1] + 40.0 * math.sqrt(rates[-1]) + 60.0)
    share, known = np.empty(n_max + 1), np.empty(n_max + 1, np.uint8)
    shift = 1e4  # keeps counts away from the end cells: no tails are gathered at zero here
    count = np.array([0.0, gain, shift, readout, excess])
    at = 0
    for i in range(counts.size):
        for n in range(n_max + 1):
            known[n] = 0
        count[0] = counts[i] + shift
        camera.quadrature(count[0], shift, readout, work)
        root_count = math.sqrt(max(counts[i], 0.0) / gain)
        for j in range(rates.size):
            rate = rates[j]
            start = min(int(root_count * math.sqrt(rate) + 0.5), n_max)
            if known[start] == 0:
                share[start] = log_share(start, count[0], gain, shift, readout, excess, work)
                known[start] = 1
            up = add_terms(start, rate, 1, known, share, count, work)
            down = add_terms(start, rate, -1, known, share, count, work)
            total = 1.0 + up[0] + down[0]
            k = (up[1] + down[1]) / total
            log_q = start * math.log(rate) - math.lgamma(start + 1.0) + share[start] - rate
            log_q += math.log(total)
            nodes[at + MEAN] = start + k
            nodes[at + VAR] = (up[2] + down[2]) / total - k * k
            nodes[at + REST] = log_q + 2.0 / excess * (root_count - math.sqrt(rate)) ** 2
            nodes[at + INFO] = info[j]
            at += PER_NODE


@kernel
def count_position(count, moments):
    """Return where the count lies on the table's first axis, within its ends."""
    z = stretch_count(count, moments.gain, moments.sd, moments.excess)
    return min(max((z - moments.z_min) * moments.per_z, 0.0), moments.n_z - 1.001)
