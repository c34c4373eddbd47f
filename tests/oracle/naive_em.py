"""Naive twin of the variational EM: dense Gaussians, all state sequences, a general optimiser."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp


class Track(NamedTuple):
    """One track, frame by frame; `seen` (T,), `x` and `v` (T, 2)."""

    seen: np.ndarray
    x: np.ndarray
    v: np.ndarray


class Model(NamedTuple):
    """Parameters: lambda (K,), transitions (K, K), first state (K,), tau, beta."""

    lam: np.ndarray
    A: np.ndarray
    begin: np.ndarray
    tau: float
    beta: float


def contrasts(T: int, tau: float):
    """Rows that take a path (T + 1,) to its steps and to its means over the exposures."""
    step = np.eye(T, T + 1, 1) - np.eye(T, T + 1)
    mean = tau * np.eye(T, T + 1, 1) + (1 - tau) * np.eye(T, T + 1)
    return step, mean


def path(track: Track, model: Model, p: np.ndarray):
    """Best Gaussian of the path given p (T, K): means (T + 1, 2), covariances (2, T + 1, T + 1)."""
    T = len(track.x)
    step, mean = contrasts(T, model.tau)
    mu, cov = np.empty((T + 1, 2)), np.empty((2, T + 1, T + 1))
    for k in range(2):
        precision, pull = np.zeros((T + 1, T + 1)), np.zeros(T + 1)
        for t in range(T):
            for j, lam in enumerate(model.lam):
                precision += p[t, j] / lam * np.outer(step[t], step[t])
                if track.seen[t]:
                    weight = p[t, j] / (track.v[t, k] + model.beta * lam)
                    precision += weight * np.outer(mean[t], mean[t])
                    pull += weight * track.x[t, k] * mean[t]
        cov[k] = np.linalg.inv(precision)
        mu[:, k] = np.linalg.solve(precision, pull)
    return mu, cov


def expected_squares(track: Track, model: Model, mu, cov):
    """<|dy|^2> (T,) and <(x - mean)^2> (T, 2)."""
    step, mean = contrasts(len(track.x), model.tau)
    dy2 = ((step @ mu) ** 2).sum(axis=1) + sum(np.diag(step @ c @ step.T) for c in cov)
    own = np.stack([np.diag(mean @ c @ mean.T) for c in cov], axis=1)
    return dy2, (track.x - mean @ mu) ** 2 + own


def ln_h(track: Track, model: Model, dy2, c):
    """Expected log density of each row under each state, all constants included: (T, K)."""
    lam = model.lam[None, :]
    out = -np.log(2 * np.pi * lam) - dy2[:, None] / (2 * lam)
    for k in range(2):
        spread = track.v[:, k, None] + model.beta * lam
        seen = -0.5 * np.log(2 * np.pi * spread) - c[:, k, None] / (2 * spread)
        out += np.where(track.seen[:, None] > 0, seen, 0.0)
    return out


def states(track: Track, model: Model, h):
    """Enumerate all sequences: ln Z, p (T, K), expected transitions (K, K)."""
    T, K = h.shape
    logs, every = [], list(itertools.product(range(K), repeat=T))
    for s in every:
        prior = np.log(model.begin[s[0]]) + sum(np.log(model.A[a, b]) for a, b in pairs_of(s))
        logs.append(prior + sum(h[t, s[t]] for t in range(T)))
    ln_z = logsumexp(logs)
    p, pairs = np.zeros((T, K)), np.zeros((K, K))
    for s, weight in zip(every, np.exp(np.array(logs) - ln_z), strict=True):
        for t in range(T):
            p[t, s[t]] += weight
        for a, b in pairs_of(s):
            pairs[a, b] += weight
    return float(ln_z), p, pairs


def pairs_of(s):
    """Neighbours in a sequence."""
    return list(itertools.pairwise(s))


def entropy(cov) -> float:
    """Of the Gaussian of the path, both axes."""
    return sum(0.5 * np.linalg.slogdet(2 * np.pi * np.e * c)[1] for c in cov)


def best_lambda(track: Track, beta: float, p, dy2, c) -> float:
    """Most probable lambda of one state with weights p (T,), by a general search."""

    def cost(u):
        model = Model(np.array([np.exp(u)]), np.eye(1), np.ones(1), 0.0, beta)
        return -float(p @ ln_h(track, model, dy2, c)[:, 0])

    found = minimize_scalar(cost, bounds=(-20, 3), method="bounded", options={"xatol": 1e-11})
    return float(np.exp(found.x))


def refined(track: Track, model: Model, p, mu, cov):
    """Mean and variance of each mean over an exposure: (T, 2) both."""
    _, mean = contrasts(len(track.x), model.tau)
    bar, known = mean @ mu, np.stack([np.diag(mean @ c @ mean.T) for c in cov], axis=1)
    z, var = np.zeros_like(track.x), np.zeros_like(track.x)
    for t, k in np.ndindex(*track.x.shape):
        ms, ss = [], []
        for lam in model.lam:
            blur = model.beta * lam
            if track.seen[t]:  # product of N(bar, blur) and N(x, v), bar itself uncertain
                gain = blur / (blur + track.v[t, k])
                m, s = bar[t, k] + gain * (track.x[t, k] - bar[t, k]), blur * (1 - gain)
                s += (1 - gain) ** 2 * known[t, k]
            else:
                m, s = bar[t, k], blur + known[t, k]
            ms.append(m)
            ss.append(s)
        z[t, k] = p[t] @ ms
        var[t, k] = p[t] @ (np.array(ss) + (np.array(ms) - z[t, k]) ** 2)
    return z, var
