"""`livespt.localize.crowd` as numpy says it in a few lines."""

from __future__ import annotations

import numpy as np

BIN, MOST_BINS, ROUNDS = 0.1, 64, 4


def others(at, side):
    """Other spots in a spot's own square, on average."""
    square = np.floor((at - at.min(axis=0)) / side).astype(int)
    n = np.bincount(square[:, 0] * (square[:, 1].max() + 1) + square[:, 1])
    return float((n * (n - 1)).sum()) / len(at)


def p_two(photons, share):
    """Probability of each spot to be two."""
    ln = np.log(np.maximum(photons, 1.0))
    bins = np.rint((ln - ln.max()) / BIN).astype(int) + MOST_BINS - 1
    bins = np.clip(bins, 0, MOST_BINS - 1)
    z = np.arange(MOST_BINS) * BIN
    to = np.rint(np.logaddexp.outer(z, z) / BIN).astype(int)
    f = smooth(np.bincount(bins, minlength=MOST_BINS) / ln.size)
    p = np.zeros(MOST_BINS)
    for _ in range(ROUNDS):
        f1 = (1 - p) * f
        f1 /= f1.sum()
        f2 = np.bincount(to.ravel(), np.outer(f1, f1).ravel())[:MOST_BINS]
        p = np.minimum(1.0, share * smooth(f2) / np.maximum(f, 1e-12))
    return p[bins]


def smooth(f):
    return np.convolve(f, (0.25, 0.5, 0.25), "same")
