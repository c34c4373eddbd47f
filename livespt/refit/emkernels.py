"""One round of the variational EM of a diffusive hidden Markov model (Linden 2017).

Path y at the exposures' starts, position x a mean over the exposure, per axis:

    y' = y + N(0, lambda_j),   x = (1 - tau) y + tau y' + N(0, v + beta lambda_j)

with beta = tau (1 - tau) - R and s_t = j a Markov chain. The posterior is taken as q(s) q(y): each
factor is the best one given the other, and the bound on the log-likelihood never falls.

    q(y): Gaussian, its precision tridiagonal; li = sum_j p_j / lambda_j,
          al = sum_j p_j / (v + beta lambda_j) (0 where nothing was seen); on the diagonal
          li + (1 - tau)^2 al at t and li + tau^2 al at t + 1, tau (1 - tau) al - li beside it;
          right side (1 - tau) al x at t, tau al x at t + 1
    q(s): forward-backward on ln h_j = -ln lambda_j - dy2 / (2 lambda_j)
          - sum_axes [ln(v + beta lambda_j) + c / (v + beta lambda_j)] / 2
    dy2 = sum_axes <(y' - y)^2>,   c = <(x - (1 - tau) y - tau y')^2> of each axis

Symbols: lam lambda (um2), mu / var / lag mean, variance and covariance with the next node of q(y),
p <s_t = j>, A transitions, begin those of a track's first state. A track of T rows has T + 1 nodes;
row t of track i has the nodes t + i and t + i + 1.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from livespt.infer.arrays import Array, Ints
from livespt.jit import inlined, kernel

#: A running product is turned into its logarithm beyond these.
SMALL, LARGE = 1e-200, 1e200
#: Newton's steps in ln lambda: at most so many, none longer, until one is shorter.
SEARCHES, STRIDE, CLOSE = 30, 1.0, 1e-6
#: Bounds of lambda (um2).
LEAST, MOST = 1e-10, 1e4
#: Added to every count of transitions: no path may become impossible.
FLOOR = 1e-12


class Rows(NamedTuple):
    """Tracks laid out frame by frame: what was not seen is a row with seen = 0."""

    first: Ints  # (n_tracks + 1,)
    seen: Array  # (n,) 1.0 or 0.0
    x: Array  # (n, 2)
    v: Array  # (n, 2)


class Chain(NamedTuple):
    """The parameters."""

    lam: Array  # (K,)
    A: Array  # (K, K)
    begin: Array  # (K,)
    tau: float
    beta: float


class Beliefs(NamedTuple):
    """The posterior, and what the maximisation needs of it; allocated by the caller."""

    mu: Array  # (n + n_tracks, 2)
    var: Array  # (n + n_tracks, 2)
    lag: Array  # (n, 2)
    p: Array  # (n, K)
    dy2: Array  # (n,)
    c: Array  # (n, 2)
    h: Array  # (n, K) scratch
    pairs: Array  # (K, K) expected transitions
    starts: Array  # (K,) expected first states
    row: Array  # (K,) scratch


@kernel
def fit_paths(rows: Rows, chain: Chain, q: Beliefs) -> float:
    """Write q(y) given q(s); return the sum of the log-determinants of its precisions."""
    lam, tau, beta = chain.lam, chain.tau, chain.beta
    far, near, cross = (1.0 - tau) * (1.0 - tau), tau * tau, tau * (1.0 - tau)
    total, product = 0.0, 1.0
    for i in range(rows.first.shape[0] - 1):
        low, high = rows.first[i], rows.first[i + 1]
        cx, cy, rx, ry = 0.0, 0.0, 0.0, 0.0  # diagonal and right side that the last row left
        for t in range(low, high):
            li, ax, ay = 0.0, 0.0, 0.0
            for j in range(lam.shape[0]):
                li += q.p[t, j] / lam[j]
                ax += q.p[t, j] / (rows.v[t, 0] + beta * lam[j])
                ay += q.p[t, j] / (rows.v[t, 1] + beta * lam[j])
            ax, ay = ax * rows.seen[t], ay * rows.seen[t]
            ix, iy = 1.0 / (cx + li + far * ax), 1.0 / (cy + li + far * ay)
            bx, by = (cross * ax - li) * ix, (cross * ay - li) * iy
            rx += (1.0 - tau) * ax * rows.x[t, 0]
            ry += (1.0 - tau) * ay * rows.x[t, 1]
            q.var[t + i, 0], q.var[t + i, 1] = ix, iy
            q.mu[t + i, 0], q.mu[t + i, 1] = rx * ix, ry * iy
            q.lag[t, 0], q.lag[t, 1] = bx, by
            cx = li + near * ax - bx * (cross * ax - li)
            cy = li + near * ay - by * (cross * ay - li)
            rx, ry = tau * ax * rows.x[t, 0] - bx * rx, tau * ay * rows.x[t, 1] - by * ry
            product *= ix * iy
            if product < SMALL or product > LARGE:
                total -= math.log(product)
                product = 1.0
        q.var[high + i, 0], q.var[high + i, 1] = 1.0 / cx, 1.0 / cy
        q.mu[high + i, 0], q.mu[high + i, 1] = rx / cx, ry / cy
        product /= cx * cy
        substitute_back(low, high, i, q)
    return total - math.log(product)


@inlined
def substitute_back(low: int, high: int, i: int, q: Beliefs) -> None:
    """Turn pivots and ratios of one track into means, variances and covariances."""
    for back in range(high - low):
        t = high - 1 - back
        for k in range(2):
            ratio, ahead = q.lag[t, k], t + i + 1
            q.mu[t + i, k] -= ratio * q.mu[ahead, k]
            q.lag[t, k] = -ratio * q.var[ahead, k]
            q.var[t + i, k] -= ratio * q.lag[t, k]


@inlined
def spread(rows: Rows, chain: Chain, i: int, t: int, q: Beliefs) -> None:
    """Write dy2 and c of a row."""
    here, ahead, tau = t + i, t + i + 1, chain.tau
    far = 1.0 - tau
    total = 0.0
    for k in range(2):
        step = q.mu[ahead, k] - q.mu[here, k]
        total += step * step + q.var[here, k] + q.var[ahead, k] - 2.0 * q.lag[t, k]
        off = rows.x[t, k] - far * q.mu[here, k] - tau * q.mu[ahead, k]
        known = far * far * q.var[here, k] + tau * tau * q.var[ahead, k]
        q.c[t, k] = off * off + known + 2.0 * tau * far * q.lag[t, k]
    q.dy2[t] = total


@inlined
def weigh(rows: Rows, chain: Chain, t: int, q: Beliefs) -> float:
    """Write the row's h over its largest exponential; return that one's logarithm."""
    top = -math.inf
    for j in range(chain.lam.shape[0]):
        lam = chain.lam[j]
        exponent = -0.5 * q.dy2[t] / lam
        if rows.seen[t] > 0.0:
            ex, ey = rows.v[t, 0] + chain.beta * lam, rows.v[t, 1] + chain.beta * lam
            exponent -= 0.5 * (q.c[t, 0] / ex + q.c[t, 1] / ey)
        q.row[j] = exponent
        top = max(top, exponent)
    for j in range(chain.lam.shape[0]):
        lam = chain.lam[j]
        share = math.exp(q.row[j] - top) / lam
        if rows.seen[t] > 0.0:
            ex, ey = rows.v[t, 0] + chain.beta * lam, rows.v[t, 1] + chain.beta * lam
            share /= math.sqrt(ex * ey)
        q.h[t, j] = share
    return top


@kernel
def fit_states(rows: Rows, chain: Chain, q: Beliefs) -> float:
    """Write q(s) given q(y), and what the maximisation needs; return sum ln Z without 2 pi."""
    total, product, n_states = 0.0, 1.0, chain.lam.shape[0]
    q.pairs[:] = 0.0
    q.starts[:] = 0.0
    for i in range(rows.first.shape[0] - 1):
        low, high = rows.first[i], rows.first[i + 1]
        for t in range(low, high):
            spread(rows, chain, i, t, q)
            total += weigh(rows, chain, t, q)
            norm = forward(chain, t, t == low, q)
            product *= norm
            if product < SMALL or product > LARGE:
                total += math.log(product)
                product = 1.0
        for back in range(high - low - 1):
            backward(chain, high - 2 - back, q)
        for j in range(n_states):
            q.starts[j] += q.p[low, j]
    return total + math.log(product)


@inlined
def forward(chain: Chain, t: int, first: bool, q: Beliefs) -> float:
    """Write p(s_t | rows up to t); return the norm."""
    n_states, norm = chain.lam.shape[0], 0.0
    for k in range(n_states):
        foretold = chain.begin[k]
        if not first:
            foretold = 0.0
            for j in range(n_states):
                foretold += q.p[t - 1, j] * chain.A[j, k]
        q.p[t, k] = foretold * q.h[t, k]
        norm += q.p[t, k]
    for k in range(n_states):
        q.p[t, k] /= norm
    return norm


@inlined
def backward(chain: Chain, t: int, q: Beliefs) -> None:
    """Turn p(s_t | rows up to t) into p(s_t | all), given that of t + 1; count transitions."""
    n_states = chain.lam.shape[0]
    for k in range(n_states):
        foretold = 0.0
        for j in range(n_states):
            foretold += q.p[t, j] * chain.A[j, k]
        q.row[k] = q.p[t + 1, k] / foretold
    for j in range(n_states):
        total = 0.0
        for k in range(n_states):
            pair = q.p[t, j] * chain.A[j, k] * q.row[k]
            q.pairs[j, k] += pair
            total += pair
        q.p[t, j] = total


@kernel
def slope(rows: Rows, beta: float, q: Beliefs, j: int, lam: float) -> tuple[float, float]:
    """Return first and second derivative of the bound in ln lambda_j."""
    first, second = 0.0, 0.0
    for t in range(rows.seen.shape[0]):
        half = 0.5 * q.dy2[t] / lam
        up, bend = half - 1.0, -half
        if beta > 0.0 and rows.seen[t] > 0.0:
            for k in range(2):
                inverse = 1.0 / (rows.v[t, k] + beta * lam)
                share, r = beta * lam * inverse, q.c[t, k] * inverse
                up += 0.5 * share * (r - 1.0)
                bend += 0.5 * share * ((1.0 - share) * (r - 1.0) - share * r)
        first += q.p[t, j] * up
        second += q.p[t, j] * bend
    return first, second


@kernel
def best_lambda(rows: Rows, beta: float, q: Beliefs, j: int, lam: float) -> float:
    """Return the lambda_j that is best given the posterior: Newton's steps in ln lambda."""
    if beta == 0.0:
        total, weight = 0.0, 0.0
        for t in range(rows.seen.shape[0]):
            total += q.p[t, j] * q.dy2[t]
            weight += q.p[t, j]
        return min(max(0.5 * total / weight, LEAST), MOST) if weight > FLOOR else lam
    at = math.log(lam)
    for _ in range(SEARCHES):
        first, second = slope(rows, beta, q, j, math.exp(at))
        step = -first / second if second < 0.0 else math.copysign(STRIDE, first)
        step = min(max(step, -STRIDE), STRIDE)
        at = min(max(at + step, math.log(LEAST)), math.log(MOST))
        if abs(step) < CLOSE:
            break
    return math.exp(at)


@kernel
def maximise(rows: Rows, chain: Chain, q: Beliefs) -> None:
    """Write into `chain` the parameters that are best given the posterior."""
    n_states, n_tracks = chain.lam.shape[0], rows.first.shape[0] - 1
    for j in range(n_states):
        chain.lam[j] = best_lambda(rows, chain.beta, q, j, chain.lam[j])
        total = 0.0
        for k in range(n_states):
            total += q.pairs[j, k] + FLOOR
        for k in range(n_states):
            chain.A[j, k] = (q.pairs[j, k] + FLOOR) / total
        chain.begin[j] = (q.starts[j] + FLOOR) / (n_tracks + n_states * FLOOR)


@kernel
def refine(rows: Rows, chain: Chain, q: Beliefs, out: Array, var: Array) -> None:
    """Write the refined positions (n, 2), means over the exposure, and their variances.

    Given the state, z = ybar / (1 + b) + x b / (1 + b) and 1 / (1 / v + 1 / (beta lambda)) for its
    variance, b = beta lambda_j / v, ybar = (1 - tau) y + tau y'; the spread of ybar and of the
    states is added.
    """
    tau = chain.tau
    for i in range(rows.first.shape[0] - 1):
        for t in range(rows.first[i], rows.first[i + 1]):
            for k in range(2):
                here, ahead, x, v = t + i, t + i + 1, rows.x[t, k], rows.v[t, k]
                bar = (1.0 - tau) * q.mu[here, k] + tau * q.mu[ahead, k]
                known = (1.0 - tau) ** 2 * q.var[here, k] + tau**2 * q.var[ahead, k]
                known += 2.0 * tau * (1.0 - tau) * q.lag[t, k]
                mean, square = 0.0, 0.0
                for j in range(chain.lam.shape[0]):
                    blur = chain.beta * chain.lam[j]
                    pull = v / (v + blur) if rows.seen[t] > 0.0 else 1.0
                    z = bar * pull + x * (1.0 - pull) if rows.seen[t] > 0.0 else bar
                    own = blur * pull + pull * pull * known
                    mean += q.p[t, j] * z
                    square += q.p[t, j] * (own + (z - bar) ** 2)
                out[t, k] = mean
                var[t, k] = square - (mean - bar) ** 2
