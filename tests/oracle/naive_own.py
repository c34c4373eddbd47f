"""Naive twin of the bank over ln D: dense Gaussians per value of D, fine sums for the interval."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

_spec = importlib.util.spec_from_file_location(
    "naive_motion", Path(__file__).with_name("naive_motion.py")
)
motion = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(motion)


def loglik(track, D, c):
    """Log-likelihood of a track of one D, its errors scaled by c, under a flat start.

    The differences to the first spot are jointly Gaussian; both axes at once, since the errors
    of x and y are correlated.
    """
    states = [0] * motion.n_intervals(track, np.inf)
    path = motion.dense(track, np.array([D]), states, np.inf)
    n = len(track.t_s)
    cov = np.kron(path, np.eye(2))
    for i in range(n):
        cov[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] += c**2 * track.V[i]
    away = np.hstack([-np.tile(np.eye(2), (n - 1, 1)), np.eye(2 * n - 2)])
    y, S = away @ track.x.ravel(), away @ cov @ away.T
    return -0.5 * (np.linalg.slogdet(2 * np.pi * S)[1] + y @ np.linalg.solve(S, y))


def summary(track, low, high, c, n=2000):
    """Mean of ln D and its 95 % interval under a prior flat in ln D from `low` to `high`."""
    u = np.linspace(np.log(low), np.log(high), n)
    f = np.array([loglik(track, D, c) for D in np.exp(u)])
    p = np.exp(f - f.max())
    p[[0, -1]] /= 2
    cumulated = (np.cumsum(p) - p / 2) / p.sum()
    return (p @ u) / p.sum(), *np.interp([0.025, 0.975], cumulated, u)
