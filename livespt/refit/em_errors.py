"""How far the EM's numbers are from the truth, by the likelihood of their own model.

The curvature of the EM's bound takes states and path for independent, so it is too sharp; and the
summit of the bound is not that of the likelihood. Both are told by the likelihood of the same model
(the history-merging filter's) at the EM's estimate theta: with its score g and observed information
J there,

    error^2 = [J^-1] + [J^-1 g]^2

for ln D and the logits of the switching: chance, and the distance to the likelihood's own summit.
Occupancies are shares of positions, whose chance is the spread between tracks; what they are off by
is taken from the rates: how far the stationary occupancy goes on the way J^-1 g to the summit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from livespt.infer.arrays import Array
from livespt.infer.fit import evaluate
from livespt.infer.motion import motion, pack
from livespt.infer.smooth import covariance
from livespt.refit.em_rounds import Found, Kind, Laid, off_diagonal
from livespt.refit.history import errors_of, prior_at, tracks_of
from livespt.refit.tracks import TrackTable

#: Least probability of a track's first state: its logarithm must be finite.
LEAST_BEGIN = 1e-3
#: The distance to the summit is trusted so far (in ln D and logits); J holds near theta only.
FARTHEST = 3.0


class Errors(NamedTuple):
    """How far the EM's numbers are off.

    Attributes
    ----------
    sd : (K^2,) float64
        Root mean squared errors of ln D (K), then of the logits of p_switch, row by row.
    occupancy : (K,) float64
        What the stationary occupancies are at the likelihood's summit, less those here.
    """

    sd: Array
    occupancy: Array


def errors_at(data: TrackTable, kind: Kind, laid: Laid, found: Found) -> Errors:
    """Hold the EM's estimate against the likelihood of its own model."""
    k = found.chain.lam.size
    known = data._replace(
        sd_um=np.sqrt(laid.rows.v[laid.at]), exposure_s=data.exposure_s if kind.blur else 0.0
    )
    errors = errors_of(known, 1.0)
    tracks = tracks_of(known, errors)
    theta = pack(found.chain.lam / (2 * data.interval_s), found.chain.A, 1.0)
    theta[-1 - k : -1] = np.log(np.maximum(found.chain.begin, LEAST_BEGIN))
    prior = prior_at(theta, k, errors)
    fit = evaluate(theta, tracks, data.interval_s, prior)
    cov = covariance(fit, tracks, data.interval_s, prior, lambda: None)
    step = np.clip(cov @ fit.scores.sum(axis=0), -FARTHEST, FARTHEST)
    turn = _to_logits(found.chain.A)
    square = cov[: k * k, : k * k] + np.outer(step[: k * k], step[: k * k])
    sd = np.sqrt(np.diag(turn @ square @ turn.T))
    return Errors(sd, _stationary(theta + step, k) - _stationary(theta, k))


def _stationary(theta: Array, n_states: int) -> Array:
    return np.exp(motion(theta, n_states, derivatives=False).ln_pi[:, 0])


def _to_logits(A: Array) -> Array:
    """Return the derivatives of (ln D, logits of p_switch) in theta, whose reference is staying."""
    k = len(A)
    turn = np.eye(k * k)
    places = off_diagonal(k)
    for a, (i, j) in enumerate(places):
        for b, (row, other) in enumerate(places):
            if row == i and other != j:
                turn[k + a, k + b] = -A[i, other] / max(1 - A[i, j], 1e-12)
    return turn
