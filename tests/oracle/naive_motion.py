"""Naive twins of the motion kernels: dense Gaussians and plain enumeration, from the equations."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp


class Track(NamedTuple):
    """One track for the twins: spots (n, 2), covariances (n, 2, 2), times, exposures."""

    x: np.ndarray
    V: np.ndarray
    t_s: np.ndarray
    te_s: np.ndarray


class Segment(NamedTuple):
    """A stretch of time under one D; `frame` is the exposure it is, or -1."""

    length_s: float
    state: int
    frame: int


def segments(track: Track, states: list[int], interval_s: float) -> list[Segment]:
    """Cut the time from the first exposure to the end of the last into stretches of one D.

    `states` holds one state per nominal interval, unseen ones included.
    """
    out, at = [], 0
    for n in range(len(track.t_s)):
        out.append(Segment(track.te_s[n], states[at], n))
        if n + 1 < len(track.t_s):
            elapsed = track.t_s[n + 1] - track.t_s[n]
            m = max(1, int(np.floor(elapsed / interval_s + 0.5)))
            out.append(Segment(elapsed / m - track.te_s[n], states[at], -1))
            out += [Segment(elapsed / m, states[at + i], -1) for i in range(1, m)]
            at += m
    return out


def n_intervals(track: Track, interval_s: float) -> int:
    """Nominal intervals from the first spot to the last, both included."""
    m = np.floor(np.diff(track.t_s) / interval_s + 0.5)
    return 1 + int(np.maximum(1, m).sum())


def dense(track: Track, D: np.ndarray, states: list[int], interval_s: float):
    """Joint covariance of the exposure means, of one axis, relative to the path's start.

    Exposure mean = start of the exposure + a, Var a = 2 D te/3; displacement b, Cov(a, b) = D te.
    Returns C (n, n) with the path starting at 0.
    """
    parts = segments(track, states, interval_s)
    n = len(track.t_s)
    # independent noises: per segment b; per exposure a split as b/2 + rest (Var rest = D te/6)
    sd, b = np.zeros((n, len(parts))), np.array([2 * D[s.state] * s.length_s for s in parts])
    rest = np.zeros(n)
    for i, s in enumerate(parts):
        if s.frame >= 0:
            sd[s.frame, :i] = 1.0
            sd[s.frame, i] = 0.5
            rest[s.frame] = D[s.state] * s.length_s / 6
    return (sd * b) @ sd.T + np.diag(rest)


def flat_prior_gaussian(track: Track, C: np.ndarray, c: float):
    """Likelihood of all spots after the first, and posterior of the exposure means.

    Both axes together (2n), order (spot, axis); the start's prior is flat.
    """
    n = len(track.x)
    blur = np.kron(C, np.eye(2))
    noise = np.zeros((2 * n, 2 * n))
    for i in range(n):
        noise[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = c**2 * track.V[i]
    diff = np.zeros((2 * (n - 1), 2 * n))  # differences free of the start
    for i in range(n - 1):
        diff[2 * i : 2 * i + 2, :2] = -np.eye(2)
        diff[2 * i : 2 * i + 2, 2 * i + 2 : 2 * i + 4] = np.eye(2)
    S = diff @ (blur + noise) @ diff.T
    r = diff @ track.x.ravel()
    loglik = -0.5 * (
        len(r) * np.log(2 * np.pi) + np.linalg.slogdet(S)[1] + r @ np.linalg.solve(S, r)
    )
    # z = 1 * start + blur noise; flat start as a very wide one is inexact: eliminate it instead
    A = np.kron(np.ones((n, 1)), np.eye(2))
    total = np.linalg.inv(blur + noise)
    fisher = A.T @ total @ A
    start = np.linalg.solve(fisher, A.T @ total @ track.x.ravel())
    mean = A @ start + blur @ total @ (track.x.ravel() - A @ start)
    spread = A - blur @ total @ A
    cov = blur - blur @ total @ blur + spread @ np.linalg.inv(fisher) @ spread.T
    return loglik, mean.reshape(n, 2), cov


def loglik_of_states(track: Track, D, T, pi, c: float, interval_s: float) -> float:
    """Sum the likelihood over every state sequence."""
    logs = []
    for states in itertools.product(range(len(D)), repeat=n_intervals(track, interval_s)):
        prior = np.log(pi[states[0]]) + sum(np.log(T[a, b]) for a, b in itertools.pairwise(states))
        C = dense(track, D, states, interval_s)
        logs.append(prior + flat_prior_gaussian(track, C, c)[0])
    return float(logsumexp(logs))


class Enumerated(NamedTuple):
    """Exact answer over all state sequences."""

    loglik: float
    p_state: np.ndarray  # (n, K) at the spots
    mean: np.ndarray  # (n, 2)
    cov: np.ndarray  # (n, 2, 2)


def enumerate_states(track: Track, D, T, pi, c: float, interval_s: float) -> Enumerated:
    """Sum over every state sequence: exact likelihood and posterior for short tracks."""
    n, n_states = len(track.x), len(D)
    m = n_intervals(track, interval_s)
    spots = np.cumsum(
        [0, *np.maximum(1, np.floor(np.diff(track.t_s) / interval_s + 0.5)).astype(int)]
    )
    logs, means, covs, at = [], [], [], []
    for states in itertools.product(range(n_states), repeat=m):
        prior = np.log(pi[states[0]]) + sum(np.log(T[a, b]) for a, b in itertools.pairwise(states))
        ll, mean, cov = flat_prior_gaussian(track, dense(track, D, states, interval_s), c)
        logs.append(prior + ll)
        means.append(mean)
        covs.append([cov[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] for i in range(n)])
        at.append([states[i] for i in spots])
    total = logsumexp(logs)
    w, means, covs, at = (
        np.exp(np.array(logs) - total),
        np.array(means),
        np.array(covs),
        np.array(at),
    )
    p_state = np.array([[(w * (at[:, i] == k)).sum() for k in range(n_states)] for i in range(n)])
    mean = np.einsum("s,sia->ia", w, means)
    off = means - mean
    cov = np.einsum("s,siab->iab", w, covs + off[..., :, None] * off[..., None, :])
    return Enumerated(float(total), p_state, mean, cov)


def berglund_loglik(x, v, D, te_s, dt_s):
    """SCIENCE 3's recursion for one axis and constant dt; x, v (n,)."""
    lam, tau, R = 2 * D * dt_s, te_s / (2 * dt_s), te_s / (6 * dt_s)
    m, P, ll = x[0], v[0] + (1 - tau - R) * lam, 0.0
    for xn, vn in zip(x[1:], v[1:], strict=True):
        S, r = P + (tau - R) * lam + vn, xn - m
        ll -= (np.log(2 * np.pi * S) + r * r / S) / 2
        m, P = m + (P + tau * lam) * r / S, P + lam - (P + tau * lam) ** 2 / S
    return ll


def tridiagonal_loglik(x, v, D, te_s, dt_s):
    """Gaussian likelihood of the displacements of one axis (SCIENCE 3's moments)."""
    R, n = te_s / (6 * dt_s), len(x) - 1
    S = np.diag(2 * D * dt_s * (1 - 2 * R) + v[1:] + v[:-1])
    off = 2 * R * D * dt_s - v[1:-1]
    S += np.diag(off, 1) + np.diag(off, -1)
    d = np.diff(x)
    return -0.5 * (n * np.log(2 * np.pi) + np.linalg.slogdet(S)[1] + d @ np.linalg.solve(S, d))
