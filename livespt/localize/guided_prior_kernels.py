# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""Gaussian mixtures as priors of a place, and which spot explains which (theory: `guided`).

Symbols: ``modes[k] = (w, x, y, vxx, vxy, vyy)``; ``terms[k] = (c, x, y, axx, axy, ayy)`` the same
with the precision a and the constant c of ln [w N(x; mean, v)] = c - (1/2) d a d.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from livespt.jit import inlined, kernel
from livespt.localize.column_kernels import set_all

LN_2PI = math.log(2.0 * math.pi)
LEAST_WEIGHT = 1e-300


class Pairing(NamedTuple):
    """Work space of `explain` for n predictions and m spots."""

    mine: np.ndarray  # (n,) int64: nearest spot
    theirs: np.ndarray  # (m,) int64: nearest prediction
    square: np.ndarray  # (m,): its squared distance
    taken: np.ndarray  # (m,) uint8


@kernel
def sharpen(modes, site, terms):
    """Fill the terms of a mixture that was measured with the covariance ``site[2:5]``."""
    for k in range(modes.shape[0]):
        vxx, vxy, vyy = modes[k, 3] + site[2], modes[k, 4] + site[3], modes[k, 5] + site[4]
        det = vxx * vyy - vxy * vxy
        terms[k, 0] = math.log(max(modes[k, 0], LEAST_WEIGHT)) - 0.5 * math.log(det) - LN_2PI
        terms[k, 1], terms[k, 2] = modes[k, 1], modes[k, 2]
        terms[k, 3], terms[k, 4], terms[k, 5] = vyy / det, -vxy / det, vxx / det


@inlined
def log_term(terms, k, x, y):
    """Return ln of one term of the mixture at (x, y)."""
    dx, dy = x - terms[k, 1], y - terms[k, 2]
    square = terms[k, 3] * dx * dx + 2.0 * terms[k, 4] * dx * dy + terms[k, 5] * dy * dy
    return terms[k, 0] - 0.5 * square


@kernel
def log_top(terms, x, y):
    """Return ln of the greatest term of the mixture at (x, y)."""
    top = -1e300
    for k in range(terms.shape[0]):
        top = max(top, log_term(terms, k, x, y))
    return top


@kernel
def log_density(terms, x, y):
    """Return ln of the mixture at (x, y)."""
    top = log_top(terms, x, y)
    total = 0.0
    for k in range(terms.shape[0]):
        total += math.exp(log_term(terms, k, x, y) - top)
    return top + math.log(total)


@kernel
def pull_of(terms, x, y, pull):
    """Fill gradient (2), precision (xx, xy, yy) and value of the mixture's ln density at (x, y).

    The precision is that of the responsible modes; the spread between them, which would only
    lower it, is left out, so that scoring stays an ascent.
    """
    top = log_top(terms, x, y)
    total = 0.0
    set_all(pull, 0.0)
    for k in range(terms.shape[0]):
        share = math.exp(log_term(terms, k, x, y) - top)
        total += share
        dx, dy = terms[k, 1] - x, terms[k, 2] - y
        pull[0] += share * (terms[k, 3] * dx + terms[k, 4] * dy)
        pull[1] += share * (terms[k, 4] * dx + terms[k, 5] * dy)
        for f in range(3):
            pull[2 + f] += share * terms[k, 3 + f]
    for f in range(5):
        pull[f] /= total
    pull[5] = top + math.log(total)


@kernel
def centre_of(modes, centre):
    """Fill (x, y, greatest variance) of the mixture, moments matched."""
    w = x = y = 0.0
    for k in range(modes.shape[0]):
        w += modes[k, 0]
        x += modes[k, 0] * modes[k, 1]
        y += modes[k, 0] * modes[k, 2]
    x /= w
    y /= w
    xx = yy = 0.0
    for k in range(modes.shape[0]):
        xx += modes[k, 0] * (modes[k, 3] + (modes[k, 1] - x) ** 2)
        yy += modes[k, 0] * (modes[k, 5] + (modes[k, 2] - y) ** 2)
    centre[0], centre[1], centre[2] = x, y, max(xx, yy) / w


@kernel
def explain(centres, spots, gate, owner, pairing):
    """Give each prediction the spot that explains it, one to one: ``owner[i]`` is it, or -1.

    `centres` (n, 5) and `spots` (m, 5) hold x, y, vxx, vxy, vyy. Pairs that are each other's
    nearest, by squared distance in variances up to `gate`, are taken in turn until none is left.
    """
    set_all(owner, -1)
    set_all(pairing.taken, 0)
    found = 1
    while found > 0:
        find_nearest(centres, spots, gate, owner, pairing)
        found = 0
        for i in range(owner.size):
            j = pairing.mine[i]
            if j >= 0 and pairing.theirs[j] == i:
                owner[i] = j
                pairing.taken[j] = 1
                found += 1


@kernel
def find_nearest(centres, spots, gate, owner, pairing):
    """Find the nearest free spot of each open prediction, and the nearest of these of each spot."""
    set_all(pairing.mine, -1)
    set_all(pairing.theirs, -1)
    set_all(pairing.square, gate)
    for i in range(owner.size):
        if owner[i] >= 0:
            continue
        best = gate
        for j in range(pairing.taken.size):
            if pairing.taken[j]:
                continue
            square = square_of(centres, i, spots, j, gate)
            if square < best:
                best, pairing.mine[i] = square, j
            if square < pairing.square[j]:
                pairing.square[j], pairing.theirs[j] = square, i


@inlined
def square_of(centres, i, spots, j, gate):
    """Return the squared distance in variances, or `gate` where it is beyond."""
    vyy = centres[i, 4] + spots[j, 4]
    dy = spots[j, 1] - centres[i, 1]
    if dy * dy > gate * vyy:
        return gate
    vxx, vxy = centres[i, 2] + spots[j, 2], centres[i, 3] + spots[j, 3]
    dx = spots[j, 0] - centres[i, 0]
    return (vyy * dx * dx - 2.0 * vxy * dx * dy + vxx * dy * dy) / (vxx * vyy - vxy * vxy)
