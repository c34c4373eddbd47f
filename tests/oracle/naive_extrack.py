"""Naive twins of ExTrack's model: every sequence of states, dense Gaussians; windows as dicts."""

from __future__ import annotations

import functools
import itertools
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp
from scipy.stats import norm


class Setting(NamedTuple):
    """Parameters by name, and what is fixed."""

    values: dict[str, float]
    n_states: int
    n_sub: int
    cell_um: tuple[float, ...]
    dt_s: float
    shortest: int
    longest: int
    exposure_s: float = 0.0


class Posterior(NamedTuple):
    """Exact answer of one track."""

    loglik: float
    p_state: np.ndarray  # (T, K)
    mean: np.ndarray  # (T, d)
    var: np.ndarray  # (T, d)


def matrices(at: Setting):
    """Return P of a sub-step, D, F."""
    K, v = at.n_states, at.values
    P = np.zeros((K, K))
    for i, j in itertools.permutations(range(K), 2):
        P[i, j] = 1 - np.exp(-v[f"p{i}{j}"] / at.n_sub)
    np.fill_diagonal(P, 1 - P.sum(axis=1))
    return P, np.array([v[f"D{k}"] for k in range(K)]), np.array([v[f"F{k}"] for k in range(K)])


def stay(D, at: Setting):
    """Probability of a frame's step staying in view."""
    return _stay(float(np.sqrt(2 * D * at.dt_s)), at.cell_um)


@functools.lru_cache
def _stay(sd, cell_um):
    out = 1.0
    for side in cell_um:
        x = np.linspace(side / 2000, side - side / 2000, 1000)
        out *= np.mean(norm.cdf((side - x) / sd) - norm.cdf(-x / sd))
    return out


def prior(states, T, at: Setting):
    """Log probability of a sequence of sub-states, and of being seen for T frames."""
    P, D, F = matrices(at)
    n, bleach = at.n_sub, at.values["pBL"]
    total = np.log(F[states[0]]) + sum(np.log(P[a, b]) for a, b in itertools.pairwise(states))
    for t in range(1, T - 1):
        if t + 1 >= at.shortest:
            seen = stay(np.mean(D[list(states[n * t + 1 : n * t + n + 1])]), at)
            total += np.log(seen * (1 - bleach))
    if at.longest > T:
        seen = stay(np.mean(D[list(states[-n:])]), at)
        total += np.log(bleach + (1 - seen) * (1 - bleach))
    return total


def frame_D(states, t, at: Setting):
    """Mean D of the frame from row t to the next."""
    _, D, _ = matrices(at)
    part = D[list(states[at.n_sub * t : at.n_sub * (t + 1) + 1])]
    return np.mean((part[1:] + part[:-1]) / 2)


def dense(states, dts, T, at: Setting):
    """Covariance of the exposure means about the end of the first exposure."""
    _, D, _ = matrices(at)
    te = at.exposure_s
    load, size, rest = np.zeros((T, 2 * T - 2)), np.zeros(2 * T - 2), np.zeros(T)
    rest[0] = 2 * D[states[0]] * te / 3
    for t in range(1, T):
        h = 2 * frame_D(states, t - 1, at) * te
        size[2 * t - 2] = 2 * frame_D(states, t - 1, at) * dts[t - 1] - h
        size[2 * t - 1] = h
        load[t, : 2 * t - 1], load[t, 2 * t - 1], rest[t] = 1.0, 0.5, h / 12
    return (load * size) @ load.T + np.diag(rest)


def enumerate_states(x, var, dts, at: Setting) -> Posterior:
    """Sum over every sequence of states; x (T, d) with NaN where nothing was seen."""
    T, d = x.shape
    length = at.n_sub * (T - 1) + 1 + (at.n_sub if at.longest > T else 0)
    logs, shown, means, spreads = [], [], [], []
    seen = np.flatnonzero(np.isfinite(x[:, 0]))
    for states in itertools.product(range(at.n_states), repeat=length):
        logs.append(prior(states, T, at))
        shown.append(states[: at.n_sub * (T - 1) + 1 : at.n_sub])
        mean, spread = np.zeros((T, d)), np.zeros((T, d))
        C = dense(states, dts, T, at)[np.ix_(seen, seen)]
        for axis in range(d):
            V = np.diag(var[seen, axis])
            diff = np.hstack([-np.ones((seen.size - 1, 1)), np.eye(seen.size - 1)])
            S, r = diff @ (C + V) @ diff.T, diff @ x[seen, axis]
            logs[-1] -= 0.5 * (r @ np.linalg.solve(S, r) + np.linalg.slogdet(2 * np.pi * S)[1])
            inverse, ones = np.linalg.inv(C + V), np.ones(seen.size)
            start = ones @ inverse @ x[seen, axis] / (ones @ inverse @ ones)
            mean[seen, axis] = start + C @ inverse @ (x[seen, axis] - start)
            off = ones - C @ inverse @ ones
            cov = C - C @ inverse @ C + np.outer(off, off) / (ones @ inverse @ ones)
            spread[seen, axis] = np.diag(cov)
        means.append(mean)
        spreads.append(spread)
    total = logsumexp(logs)
    w, shown, means = np.exp(np.array(logs) - total), np.array(shown), np.array(means)
    p = np.array([[w[shown[:, t] == k].sum() for k in range(at.n_states)] for t in range(T)])
    mean = np.einsum("s,std->td", w, means)
    var_out = np.einsum("s,std->td", w, np.array(spreads) + (means - mean) ** 2)
    return Posterior(float(total), p, mean, var_out)


def windowed(x, var, dts, window, at: Setting) -> float:
    """Filter over windows of recent states, sequences as keys of a dict; no blur, no sub-steps."""
    P, D, F = matrices(at)
    T, K, bleach = len(x), at.n_states, at.values["pBL"]
    found = {
        (a, b): (F[a] * P[a, b], x[0].copy(), var[0].copy()) for a in range(K) for b in range(K)
    }
    for t in range(1, T):
        seen = {}
        for states, (w, m, v) in found.items():
            v = v + (D[states[-2]] + D[states[-1]]) * dts[t - 1]
            if np.isfinite(x[t, 0]):
                w = w * np.prod(norm.pdf(x[t], m, np.sqrt(v + var[t])))
                m = m + v / (v + var[t]) * (x[t] - m)
                v = v * var[t] / (v + var[t])
            seen[states] = (w, m, v)
        if t == T - 1:
            break
        merged = {}
        for states in {s[-(window - 1) :] for s in seen}:
            parts = [part for s, part in seen.items() if s[-(window - 1) :] == states]
            w = np.array([part[0] for part in parts])
            share = (w / w.sum())[:, None]
            m = (share * np.array([part[1] for part in parts])).sum(axis=0)
            v = sum(
                s * (part[2] + (part[1] - m) ** 2) for s, part in zip(share, parts, strict=True)
            )
            merged[states] = (w.sum(), m, v)
        found = {}
        for states, (w, m, v) in merged.items():
            for k in range(K):
                again = stay(D[k], at) * (1 - bleach) if t + 1 >= at.shortest else 1.0
                found[(*states, k)] = (w * P[states[-1], k] * again, m, v)
    total = 0.0
    for states, (w, _, _) in seen.items():
        ends = 1.0
        if at.longest > T:
            leaves = [1 - stay(D[k], at) for k in range(K)]
            ends = sum(P[states[-1], k] * (bleach + leaves[k] * (1 - bleach)) for k in range(K))
        total += w * ends
    return float(np.log(total))
