"""A frame's way in and out of the filter: its spots taken, its table and the model written down.

All of it is small, and costs a call of numpy many times what its arithmetic does.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from livespt.infer.arrays import AMBIGUOUS, MX, MY, PXX, PXY, PYY, Array, Ints, Motion, Seen
from livespt.infer.motionkernels import log_matrix
from livespt.jit import brief_kernel, kernel
from livespt.types import FitStatus

OK = int(FitStatus.OK)
#: Two-sided 95 % point of the normal distribution.
Z95 = 1.959963984540054
#: Widest half-interval on the log and logit scales: nothing is known.
WIDEST = 12.0


@brief_kernel
def take_rows(
    table: NDArray[np.void], track_id: Ints, p_link: Array, rows: Ints, track: Ints, seen: Seen
) -> int:
    """Take the rows that belong to tracks; return how many.

    Fills `rows`, `track`, `seen.spot` and `seen.weight` from the front.
    """
    x, y, status = table["x_um"], table["y_um"], table["status"]
    xx, yy, xy = table["var_x_um2"], table["var_y_um2"], table["cov_xy_um2"]
    n = 0
    for i in range(table.shape[0]):
        if track_id[i] < 0 or status[i] != OK or not math.isfinite(x[i] + y[i]):
            continue
        if not xx[i] * yy[i] - xy[i] * xy[i] > 0.0:
            continue
        rows[n], track[n] = i, track_id[i]
        seen.spot[n, 0], seen.spot[n, 1] = x[i], y[i]
        seen.spot[n, 2], seen.spot[n, 3], seen.spot[n, 4] = xx[i], yy[i], xy[i]
        seen.weight[n] = 1.0 if p_link[i] >= AMBIGUOUS else 0.0
        n += 1
    return n


@kernel
def fill_words(
    position: Array, p_state: Array, D: Array, states: Ints, own: Array, words: Array
) -> None:
    """Fill the numbers of a track's row, from x on, in the order of `track_dtype`.

    `states` sorts the states by D; `own` (n, 3) is the track's own D and its interval.
    """
    n_states = D.shape[0]
    for i in range(position.shape[0]):
        words[i, 0], words[i, 1] = position[i, MX], position[i, MY]
        words[i, 2], words[i, 3], words[i, 4] = (
            position[i, PXX], position[i, PYY], position[i, PXY],
        )  # fmt: skip
        mean, spread = 0.0, 0.0
        for k in range(n_states):
            mean += p_state[i, k] * D[k]
        for k in range(n_states):
            spread += p_state[i, k] * (D[k] - mean) ** 2
            words[i, 10 + k] = p_state[i, states[k]]
        words[i, 5], words[i, 6] = mean, math.sqrt(spread)
        for c in range(3):
            words[i, 7 + c] = own[i, c]


@brief_kernel
def invert(matrix: Array, inverse: Array, root: Array) -> bool:
    """Invert a symmetric, positive definite matrix by its Cholesky root; False if it is not one."""
    n = matrix.shape[0]
    for i in range(n):
        for j in range(i + 1):
            total = matrix[i, j]
            for k in range(j):
                total -= root[i, k] * root[j, k]
            if i == j:
                if not total > 0.0:
                    return False
                root[i, i] = math.sqrt(total)
            else:
                root[i, j] = total / root[j, j]
    for c in range(n):
        for i in range(n):  # down: root z = unit vector
            total = 1.0 if i == c else 0.0
            for k in range(i):
                total -= root[i, k] * inverse[k, c]
            inverse[i, c] = total / root[i, i]
        for i in range(n - 1, -1, -1):  # up: root' x = z
            total = inverse[i, c]
            for k in range(i + 1, n):
                total -= root[k, i] * inverse[k, c]
            inverse[i, c] = total / root[i, i]
    return True


@brief_kernel
def fill_model(
    at: Motion, covariance: Array, interval_s: float, on_log: Array, p: Array, p_95: Array,
    rate: Array, spare: Array,
) -> None:  # fmt: skip
    """Write what is published of the model `at` theta, whose covariance is given.

    Parameters
    ----------
    on_log : (K + 1, 2)
        Intervals of D, and of the error scale.
    p : (K + 1, K)
        Occupancy, and the transition matrix below it; `p_95` (K + 1, K, 2) their intervals.
    rate : (K, K)
        Rates per second (see `motion.rates`).
    spare : (2, K, K)
        Scratch.
    """
    n_states = at.D.shape[0]
    for k in range(n_states):
        _log_interval(at.D[k], covariance[k, k], on_log[k])
        _logit_interval(at.ln_pi[k], covariance, p[0], p_95[0], k)
        for j in range(n_states):
            _logit_interval(at.ln_T[j, k], covariance, p[1 + j], p_95[1 + j], k)
    last = covariance.shape[0] - 1
    _log_interval(math.sqrt(at.c2), float(covariance[last, last]), on_log[n_states])
    fill_rates(p[1:], interval_s, rate, spare)


@kernel
def _log_interval(value: float, variance: float, out: Array) -> None:
    factor = math.exp(min(Z95 * math.sqrt(variance), WIDEST))
    out[0], out[1] = value / factor, value * factor


@kernel
def _logit_interval(ln_p: Array, covariance: Array, p: Array, p_95: Array, k: int) -> None:
    """Write a probability given as a dual of ln p, and its interval: delta method on the logit."""
    n = covariance.shape[0]
    p[k] = math.exp(ln_p[0])
    if p.shape[0] == 1:  # one state: certain
        p_95[k, 0], p_95[k, 1] = 1.0, 1.0
        return
    variance = 0.0
    for a in range(n):
        inner = 0.0
        for b in range(n):
            inner += covariance[a, b] * ln_p[1 + b]
        variance += inner * ln_p[1 + a]
    rest = 1.0 - p[k]
    factor = math.exp(min(Z95 * math.sqrt(max(variance, 0.0)) / rest, WIDEST))
    low, high = p[k] / rest / factor, p[k] / rest * factor
    p_95[k, 0], p_95[k, 1] = low / (1.0 + low), high / (1.0 + high)


@kernel
def fill_rates(T: Array, interval_s: float, rate: Array, spare: Array) -> None:
    """Write ln T / interval, or (T - I) / interval where T is no sampled continuous-time chain."""
    n_states = T.shape[0]
    sampled = log_matrix(T, rate, spare[0], spare[1])
    for j in range(n_states):
        for k in range(n_states):
            sampled = sampled and (j == k or rate[j, k] >= 0.0)
    for j in range(n_states):
        total = 0.0
        for k in range(n_states):
            if j != k:
                rate[j, k] = (rate[j, k] if sampled else T[j, k]) / interval_s
                total += rate[j, k]
        rate[j, j] = -total
