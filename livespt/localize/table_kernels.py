# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""Tabulated likelihood of an electron-multiplying camera (theory: `livespt.localize.table`).

Symbols: c count less offset, E rate, m = E[n|c, E], w and z the stretched coordinates of E and c.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from livespt import camera_kernels as camera
from livespt.jit import kernel

KNEE = 18.0  # in units of `Table.sd`, a third of the read noise


class Table(NamedTuple):
    """Score and log-likelihood over (count, rate), each axis stretched to even noise.

    `mean_n[z, w]` posterior mean of n over E; `rest[z, w]` = ln q + (2/F)(sqrt(c/g) - sqrt(E))^2;
    `info[w]` = E I(E). `size` is 0 in the stand-in that Poisson-like cameras pass along.
    """

    mean_n: np.ndarray
    rest: np.ndarray
    info: np.ndarray
    gain: float
    offset: float
    sd: float
    excess: float
    z_min: float
    w_min: float
    per_w: float
    size: int


@kernel
def stretch_rate(rate):
    """Return w(E): 3 ln E below 1, 2(sqrt(E) - 1) above (where 1.41 is one s.d. of E)."""
    return 3.0 * math.log(rate) if rate < 1.0 else 2.0 * (math.sqrt(rate) - 1.0)


@kernel
def rate_at(w):
    """Invert `stretch_rate`."""
    return math.exp(w / 3.0) if w < 0.0 else (0.5 * w + 1.0) ** 2


@kernel
def stretch_count(count, gain, sd, excess):
    """Return z(c): steps of sd up to KNEE sd (read noise), growing as sqrt(F g c) beyond."""
    beyond = count - KNEE * sd
    if beyond <= 0.0:
        return beyond / sd
    slope = excess * gain
    return 2.0 / slope * (math.sqrt(sd * sd + slope * beyond) - sd)


@kernel
def count_at(z, gain, sd, excess):
    """Invert `stretch_count`."""
    if z <= 0.0:
        return (z + KNEE) * sd
    slope = excess * gain
    return ((0.5 * slope * z + sd) ** 2 - sd * sd) / slope + KNEE * sd


@kernel
def log_share(n, count, gain, offset, readout, excess, work):
    """Return ln h_n(c), the probability to read `count` where n electrons came."""
    if n == 0:
        return camera.log_floored(camera.cell(count, offset, readout))
    return camera.log_h(n, 1, -1.0, gain, excess, work)[0]


@kernel
def fill(counts, rates, gain, readout, excess, mean_n, rest, log_q):
    """Fill the table at `counts` (less offset; not clipped) and `rates`.

    h_n(c) does not know E, so it is worked out once per count and reused for every rate.
    """
    work = np.empty((5, camera.N_QUAD))
    n_max = int(2.0 * rates[-1] + 40.0 * math.sqrt(rates[-1]) + 60.0)
    log_h = np.empty(n_max + 1)
    known = np.empty(n_max + 1, np.uint8)
    log_fact = np.empty(n_max + 1)
    for n in range(n_max + 1):
        log_fact[n] = math.lgamma(n + 1.0)
    shift = 1e4  # keeps counts away from the end cells: no tails are gathered at zero here
    for i in range(counts.size):
        known[:] = 0
        count = counts[i]
        camera.quadrature(count + shift, shift, readout, work)
        root_count = math.sqrt(max(count, 0.0) / gain)
        for j in range(rates.size):
            rate = rates[j]
            log_rate = math.log(rate)
            start = min(int(root_count * math.sqrt(rate) + 0.5), n_max)
            top, total, first = -1e300, 0.0, 0.0
            for direction in (1, -1):
                n = start if direction == 1 else start - 1
                last = -1e300
                while 0 <= n <= n_max:
                    if known[n] == 0:
                        log_h[n] = log_share(n, count + shift, gain, shift, readout, excess, work)
                        known[n] = 1
                    term = n * log_rate - log_fact[n] + log_h[n]
                    if term > top:
                        scale = math.exp(top - term)
                        total, first, top = total * scale, first * scale, term
                    weight = math.exp(term - top)
                    total += weight
                    first += n * weight
                    if term < top - 28.0 and term <= last:
                        break
                    last = term
                    n += direction
            log_q[i, j] = top + math.log(total) - rate
            mean_n[i, j] = first / total
            rest[i, j] = log_q[i, j] + 2.0 / excess * (root_count - math.sqrt(rate)) ** 2


@kernel
def position(count, per_z, table):
    """Return where the count lies on the table's first axis, within its ends."""
    z = stretch_count(count, table.gain, table.sd, table.excess)
    return min(max((z - table.z_min) * per_z, 0.0), table.mean_n.shape[0] - 1.001)


@kernel
def fill_places(counts, per_z, table, places):
    """Fill where each count lies on the first axis."""
    for k in range(counts.size):
        places[k] = position(counts[k], per_z, table)


@kernel
def look_up(at_z, rate, table):
    """Return (score, information) of a pixel at rate `rate` (bilinear in m and E I)."""
    at_w = (stretch_rate(rate) - table.w_min) * table.per_w
    at_w = min(max(at_w, 0.0), table.mean_n.shape[1] - 1.001)
    i, j = int(at_z), int(at_w)
    u, v = at_z - i, at_w - j
    low = table.mean_n[i, j] + v * (table.mean_n[i, j + 1] - table.mean_n[i, j])
    high = table.mean_n[i + 1, j] + v * (table.mean_n[i + 1, j + 1] - table.mean_n[i + 1, j])
    info = table.info[j] + v * (table.info[j + 1] - table.info[j])
    return (low + u * (high - low)) / rate - 1.0, info / rate


@kernel
def look_up_loglik(at_z, count, rate, table):
    """Return ln q of a pixel (bilinear in the smooth rest)."""
    at_w = (stretch_rate(rate) - table.w_min) * table.per_w
    at_w = min(max(at_w, 0.0), table.mean_n.shape[1] - 1.001)
    i, j = int(at_z), int(at_w)
    u, v = at_z - i, at_w - j
    low = table.rest[i, j] + v * (table.rest[i, j + 1] - table.rest[i, j])
    high = table.rest[i + 1, j] + v * (table.rest[i + 1, j + 1] - table.rest[i + 1, j])
    root = math.sqrt(max(count, 0.0) / table.gain) - math.sqrt(rate)
    return low + u * (high - low) - 2.0 / table.excess * root * root
