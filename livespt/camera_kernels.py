# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""Exact probabilities of a camera's counts (theory: `livespt.camera`).

Symbols: E rate (expected photo-electrons), n electrons that came, c count, g gain, o offset,
s read noise in ADU, k and theta the shape and scale of the multiplied charge S.
"""

from __future__ import annotations

import math

import numpy as np

from livespt.jit import kernel

SCMOS, EMCCD = 0, 1
TOP_ADU = 65535.0
NODES, WEIGHTS = np.polynomial.legendre.leggauss(32)
PANELS = 3
N_QUAD = PANELS * 32
LOG_FLOOR = -690.0  # ln of the smallest probability that is told apart from zero
DROP = 36.0  # terms e-36 below the largest do not count in float64
SQRT_HALF = math.sqrt(0.5)


@kernel
def log_cell(count, centre, sd):
    """Return ln of the probability that N(centre, sd^2) is read out as `count`.

    Counts are rounded; the lowest and the highest take the tails beyond them.
    """
    low = (count - 0.5 - centre) / sd if count > 0.0 else -1e30
    high = (count + 0.5 - centre) / sd if count < TOP_ADU else 1e30
    if low > 0.0:  # the upper tail, so that the difference keeps its digits
        low, high = -high, -low
    p = 0.5 * (math.erfc(-high * SQRT_HALF) - math.erfc(-low * SQRT_HALF))
    return math.log(p) if p > 1e-300 else LOG_FLOOR


@kernel
def quadrature(count, offset, sd, work):
    """Lay Gauss-Legendre nodes over the charges that can be read out as `count`.

    `work` (3, N_QUAD) receives S, ln S and weight times the probability of the cell.
    """
    low = max(count - offset - 0.5 - 9.0 * sd, 0.0) if count > 0.0 else 0.0
    high = max(count - offset + 0.5 + 9.0 * sd, 1e-9)
    half = (high - low) / (2 * PANELS)
    for i in range(N_QUAD):
        panel = i // 32
        charge = low + half * (2 * panel + 1 + NODES[i % 32])
        work[0, i] = charge
        work[1, i] = math.log(charge)
        work[2, i] = WEIGHTS[i % 32] * half * math.exp(log_cell(count, charge + offset, sd))


@kernel
def log_h(kind, n, count, gain, offset, sd, excess, work):
    """Return ln h_n(c): probability of reading `count` where n electrons came."""
    if kind == SCMOS:
        return log_cell(count, offset + gain * n, sd)
    if n == 0:
        return log_cell(count, offset, sd)
    shape = n / (excess - 1.0)
    scale = gain * (excess - 1.0)
    norm = math.lgamma(shape) + shape * math.log(scale)
    h = 0.0
    for i in range(N_QUAD):
        h += work[2, i] * math.exp((shape - 1.0) * work[1, i] - work[0, i] / scale - norm)
    return math.log(h) if h > 1e-300 else LOG_FLOOR


@kernel
def mixture(kind, count, rate, gain, offset, sd, excess, work):
    """Return ln q(c|E) and the posterior mean of n, summing over n outward from a guess.

    q(c|E) = sum_n Poisson(n; E) h_n(c); d ln q/dE = E[n|c, E]/E - 1.
    """
    if kind == EMCCD:
        quadrature(count, offset, sd, work)
    seen = max(count - offset, 0.0) / gain
    spread = (sd / gain) ** 2
    guess = (
        math.sqrt(seen * rate) if kind == EMCCD else (seen * rate + spread * rate) / (rate + spread)
    )
    start = int(guess + 0.5)
    log_rate = math.log(rate)
    top, total, first = -1e300, 0.0, 0.0
    for direction in (1, -1):
        n = start if direction == 1 else start - 1
        last = -1e300
        while n >= 0:
            term = n * log_rate - math.lgamma(n + 1.0)
            term += log_h(kind, n, count, gain, offset, sd, excess, work)
            if term > top:
                scale = math.exp(top - term)
                total, first, top = total * scale, first * scale, term
            weight = math.exp(term - top)
            total += weight
            first += n * weight
            if term < top - DROP and term <= last:
                break
            last = term
            n += direction
    return top + math.log(total) - rate, first / total


@kernel
def score_counts(kind, count, rate, gain, offset, sd, excess, loglik, score):
    """Fill `loglik` and `score` for flat arrays of one length."""
    work = np.empty((3, N_QUAD))
    for i in range(count.size):
        loglik[i], mean = mixture(kind, count[i], rate[i], gain[i], offset[i], sd[i], excess, work)
        score[i] = mean / rate[i] - 1.0


@kernel
def fisher_sum(kind, rate, gain, offset, sd, excess, fisher):
    """Fill `fisher` with sum_c q(c|E) score^2 for flat arrays of one length.

    Where the density is wide and smooth the sum takes strides of a sixteenth of its width.
    """
    work = np.empty((3, N_QUAD))
    for i in range(rate.size):
        width = math.sqrt(gain[i] ** 2 * excess * rate[i] + sd[i] ** 2 + 0.1)
        mean = offset[i] + gain[i] * rate[i]
        smooth = width if kind == EMCCD and rate[i] > 30.0 else min(width, 4.0 * sd[i])
        stride = max(1.0, math.floor(smooth / 16.0))
        count = max(0.0, math.floor(mean - 10.0 * width))
        end = min(TOP_ADU, mean + 12.0 * width + 20.0 * gain[i])
        mass, total = 0.0, 0.0
        while count <= end:
            log_q, n = mixture(kind, count, rate[i], gain[i], offset[i], sd[i], excess, work)
            q = math.exp(log_q)
            mass += q
            total += q * (n / rate[i] - 1.0) ** 2
            count += stride
        fisher[i] = total / mass if mass > 0.0 else 0.0
