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
def cell(count, centre, sd):
    """Return the probability that N(centre, sd^2) is read out as `count`.

    Counts are rounded; the lowest and the highest take the tails beyond them.
    """
    low = (count - 0.5 - centre) / sd if count > 0.0 else -1e30
    high = (count + 0.5 - centre) / sd if count < TOP_ADU else 1e30
    if low > 0.0:  # the upper tail, so that the difference keeps its digits
        low, high = -high, -low
    return 0.5 * (math.erfc(-high * SQRT_HALF) - math.erfc(-low * SQRT_HALF))


@kernel
def log_floored(p):
    """Return ln p, or LOG_FLOOR where p cannot be told from zero."""
    return math.log(p) if p > 1e-300 else LOG_FLOOR


@kernel
def quadrature(count, offset, sd, work):
    """Lay Gauss-Legendre nodes over the charges that can be read out as `count`.

    `work` (5, N_QUAD) receives S, ln S and weight times the probability of the cell.
    """
    low = max(count - offset - 0.5 - 9.0 * sd, 0.0) if count > 0.0 else 0.0
    high = max(count - offset + 0.5 + 9.0 * sd, 1e-9)
    half = (high - low) / (2 * PANELS)
    for i in range(N_QUAD):
        panel = i // 32
        charge = low + half * (2 * panel + 1 + NODES[i % 32])
        work[0, i] = charge
        work[1, i] = math.log(charge)
        work[2, i] = WEIGHTS[i % 32] * half * cell(count, charge + offset, sd)


@kernel
def reference(n, gain, excess, work):
    """Return the charge between the nodes at which `n` electrons' charge is densest."""
    charge = (n / (excess - 1.0) - 1.0) * gain * (excess - 1.0)
    return min(max(charge, work[0, 0]), work[0, N_QUAD - 1])


@kernel
def begin_charges(n, direction, gain, excess, work):
    """Fill the gamma densities of `n` electrons' charge at the nodes, and the way to n +- 1.

    `work[3]` receives weight times density, over the density at a reference charge, `work[4]` the
    factors that turn n into n + direction. Returns the reference.
    """
    charge = reference(n, gain, excess, work)
    log_charge = math.log(charge)
    shape, scale = n / (excess - 1.0), gain * (excess - 1.0)
    power = direction / (excess - 1.0)
    for i in range(N_QUAD):
        ln = work[1, i] - log_charge
        work[3, i] = work[2, i] * math.exp((shape - 1.0) * ln - (work[0, i] - charge) / scale)
        work[4, i] = math.exp(power * ln)
    return charge


@kernel
def sum_charges(work):
    """Return the sum over the nodes, and step them on to the next number of electrons."""
    a = b = c = d = 0.0
    for i in range(0, N_QUAD, 4):  # four sums do not wait for each other
        a += work[3, i]
        b += work[3, i + 1]
        c += work[3, i + 2]
        d += work[3, i + 3]
    for i in range(N_QUAD):
        work[3, i] *= work[4, i]
    return (a + b) + (c + d)


@kernel
def log_h(n, direction, charge, gain, excess, work):
    """Return ln h_n(c) for n > 0 and the reference, which is laid anew where numbers run out.

    `charge` is that of the call before, for n - direction, or negative to begin.
    """
    h = sum_charges(work) if charge > 0.0 else 0.0
    if not 1e-200 < h < 1e200:
        charge = begin_charges(n, direction, gain, excess, work)
        h = sum_charges(work)
    if not h > 1e-300:
        return LOG_FLOOR, charge
    shape, scale = n / (excess - 1.0), gain * (excess - 1.0)
    norm = math.lgamma(shape) + shape * math.log(scale)
    return math.log(h) + (shape - 1.0) * math.log(charge) - charge / scale - norm, charge


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
        charge = -1.0
        while n >= 0:
            term = n * log_rate - math.lgamma(n + 1.0)
            if kind == SCMOS:
                term += log_floored(cell(count, offset + gain * n, sd))
            elif n == 0:
                term += log_floored(cell(count, offset, sd))
            else:
                share, charge = log_h(n, direction, charge, gain, excess, work)
                term += share
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
    work = np.empty((5, N_QUAD))
    for i in range(count.size):
        loglik[i], mean = mixture(kind, count[i], rate[i], gain[i], offset[i], sd[i], excess, work)
        score[i] = mean / rate[i] - 1.0


@kernel
def fisher_sum(kind, rate, gain, offset, sd, excess, fisher):
    """Fill `fisher` with sum_c q(c|E) score^2 for flat arrays of one length.

    Where the density is wide and smooth the sum takes strides of a sixteenth of its width.
    """
    work = np.empty((5, N_QUAD))
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
