"""A frame's way in and out of the filter: its spots taken, its table and the model written down.

All of it is small, and costs a call of numpy many times what its arithmetic does.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from livespt.infer.arrays import AMBIGUOUS, MX, MY, PXX, PXY, PYY, Array, Ints, Motion
from livespt.infer.motionkernels import log_matrix
from livespt.jit import brief_kernel, kernel
from livespt.types import FitStatus

OK = int(FitStatus.OK)
#: Two-sided 95 % point of the normal distribution.
Z95 = 1.959963984540054
#: Widest half-interval on the log and logit scales: nothing is known.
WIDEST = 12.0
#: Where a track's own D and its interval lie among the numbers of its row, and what follows them.
OWN, AFTER_OWN = 7, 10


@brief_kernel
def take_rows(
    table: NDArray[np.void], links: tuple[Ints, Array], whole: Ints, spot: Array, weight: Array
) -> int:
    """Take the rows that belong to tracks; return how many.

    Fills the first two lines of `whole`, with rows and tracks, `spot` and `weight` from the front.
    """
    x, y, status = table["x_um"], table["y_um"], table["status"]
    xx, yy, xy = table["var_x_um2"], table["var_y_um2"], table["cov_xy_um2"]
    track_id, p_link = links
    n = 0
    for i in range(table.shape[0]):
        if track_id[i] < 0 or status[i] != OK or not math.isfinite(x[i] + y[i]):
            continue
        if not xx[i] * yy[i] - xy[i] * xy[i] > 0.0:
            continue
        whole[0, n], whole[1, n] = i, track_id[i]
        spot[n, 0], spot[n, 1] = x[i], y[i]
        spot[n, 2], spot[n, 3], spot[n, 4] = xx[i], yy[i], xy[i]
        weight[n] = 1.0 if p_link[i] >= AMBIGUOUS else 0.0
        n += 1
    return n


@kernel
def rank_of(D: Array, k: int) -> int:
    """Return the place of state k in ascending order of D."""
    rank = 0
    for j in range(D.shape[0]):
        rank += int(D[j] < D[k] or (D[j] == D[k] and j < k))
    return rank


@kernel
def fill_words(position: Array, p_state: Array, D: Array, states: Ints, words: Array) -> None:
    """Fill the numbers of a track's row, from x on, in the order of `track_dtype`.

    `states` sorts the states by D. The track's own D and its interval are left alone.
    """
    n_states = D.shape[0]
    for i in range(words.shape[0]):
        words[i, 0], words[i, 1] = position[i, MX], position[i, MY]
        words[i, 2], words[i, 3], words[i, 4] = (
            position[i, PXX], position[i, PYY], position[i, PXY],
        )  # fmt: skip
        mean, spread = 0.0, 0.0
        for k in range(n_states):
            mean += p_state[i, k] * D[k]
        for k in range(n_states):
            spread += p_state[i, k] * (D[k] - mean) ** 2
            words[i, AFTER_OWN + k] = p_state[i, states[k]]
        words[i, 5], words[i, 6] = mean, math.sqrt(spread)


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
        for i in range(c, n):  # down: root z = unit vector
            total = 1.0 if i == c else 0.0
            for k in range(c, i):
                total -= root[i, k] * inverse[c, k]
            inverse[c, i] = total / root[i, i]
        for i in range(n - 1, c - 1, -1):  # up: root' x = z
            total = inverse[c, i]
            for k in range(i + 1, n):
                total -= root[k, i] * inverse[c, k]
            inverse[c, i] = total / root[i, i]
    for c in range(n):
        for i in range(c):
            inverse[c, i] = inverse[i, c]
    return True


@brief_kernel
def fill_model(at: Motion, covariance: Array, occupancy: Array, interval_s: float, out: Array,
               spare: Array) -> None:  # fmt: skip
    """Write what is published of the model `at` theta, whose covariance is given.

    Parameters
    ----------
    occupancy : (L, K)
        At each lag.
    out : flat
        In the order of `motion.answer_dtype`, the states ascending in D.
    spare : (3, K, K)
        Scratch.
    """
    n, n_lags = at.D.shape[0], occupancy.shape[0]
    D, on_log, end = out[:n], out[n : 3 * n + 2].reshape((n + 1, 2)), 3 * n + 2
    p, end = out[end : end + n * (n + 1)].reshape((n + 1, n)), end + n * (n + 1)
    p_95, end = out[end : end + 2 * n * (n + 1)].reshape((n + 1, n, 2)), end + 2 * n * (n + 1)
    rate, end = out[end : end + n * n].reshape((n, n)), end + n * n
    lagged, end = out[end : end + n_lags * n].reshape((n_lags, n)), end + n_lags * n
    for k in range(n):
        to = rank_of(at.D, k)
        D[to] = at.D[k]
        _log_interval(at.D[k], covariance[k, k], on_log[to])
        p[0, to] = _logit_interval(at.ln_pi[k], covariance, n, p_95[0, to])
        for j in range(n):
            fr = rank_of(at.D, j)
            p[1 + fr, to] = _logit_interval(at.ln_T[j, k], covariance, n, p_95[1 + fr, to])
        for i in range(n_lags):
            lagged[i, to] = occupancy[i, k]
    last = covariance.shape[0] - 1
    out[end] = math.sqrt(at.c2)
    _log_interval(math.sqrt(at.c2), float(covariance[last, last]), on_log[n])
    spare[2] = p[1:]
    fill_rates(spare[2], interval_s, rate, spare)


@kernel
def _log_interval(value: float, variance: float, out: Array) -> None:
    factor = math.exp(min(Z95 * math.sqrt(variance), WIDEST))
    out[0], out[1] = value / factor, value * factor


@kernel
def _logit_interval(ln_p: Array, covariance: Array, n_states: int, out: Array) -> float:
    """Write the interval of a probability that is given as a dual of ln p; return it.

    By the delta method on the logit; one state is certain.
    """
    n, p = covariance.shape[0], math.exp(ln_p[0])
    if n_states == 1:
        out[0], out[1] = 1.0, 1.0
        return p
    variance = 0.0
    for a in range(n):
        inner = 0.0
        for b in range(n):
            inner += covariance[a, b] * ln_p[1 + b]
        variance += inner * ln_p[1 + a]
    rest = 1.0 - p
    factor = math.exp(min(Z95 * math.sqrt(max(variance, 0.0)) / rest, WIDEST))
    low, high = p / rest / factor, p / rest * factor
    out[0], out[1] = low / (1.0 + low), high / (1.0 + high)
    return p


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
