"""Batch maximum likelihood over whole tracks, with the steps of the live filter.

Scoring on the outer-product information (Berndt, Hall, Hall, Hausman 1974):
theta += (J + P0)^-1 (g + g0), cut until the penalised likelihood rises; P0, g0 belong to a weak
prior. Several starts are tried, the best is kept: a mixture's likelihood has several summits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

import numpy as np

from livespt.infer.arrays import Array, Tracks, batch, scratch, states_of
from livespt.infer.batchkernels import run_tracks
from livespt.infer.inverse import inverse_of
from livespt.infer.layout import n_duals
from livespt.infer.motion import Prior, motion, order, pack, permutation_of, uniform_switching

#: Converged when a full step would gain less log-likelihood than this.
ENOUGH = 2e-3
#: Largest change of a parameter in one step.
STRIDE = 1.0


class Part(NamedTuple):
    """What some of the tracks say of theta; adds up over tracks."""

    loglik: float
    score: Array  # (q,)
    information: Array  # (q, q)
    n_steps: int


class Elsewhere(Protocol):
    """Tracks that other processes hold and filter."""

    def parts(self, theta: Array, interval_s: float) -> list[Part]:
        """Filter all tracks at `theta`; the same parts in the same order whoever does it."""
        ...


class Fit(NamedTuple):
    """The summit found: theta (states ordered by D), and what the data say there."""

    theta: Array
    objective: float  # penalised log-likelihood
    information: Array  # (q, q) sum of s s' over steps, without the prior
    scores: Array  # (n_tracks, q); (parts, q) of tracks elsewhere
    filters: Array  # (n_tracks or 1, K, 6, duals) at each track's end
    n_steps: int
    converged: bool


def evaluate(
    theta: Array, tracks: Tracks | Elsewhere, interval_s: float, prior: Prior, *, keep: bool = False
) -> Fit:
    """Filter all tracks at `theta`; collect likelihood, scores and information.

    Only with `keep` are the filters of all tracks kept; those of tracks elsewhere never are.
    """
    if not isinstance(tracks, Tracks):
        return _sum(theta, tracks.parts(theta, interval_s), prior)
    n_states = states_of(theta.size)
    found = batch(tracks, (n_states, n_duals(n_states)), interval_s, keep=keep)
    half = np.empty((theta.size, theta.size))
    loglik, n_steps = run_tracks(found, motion(theta, n_states), half, scratch())
    information = half + np.triu(half, 1).T
    objective = loglik - _penalty(theta, prior)
    return Fit(theta, objective, information, found.sums[:, 1:], found.filters, n_steps, False)


def part_at(theta: Array, tracks: Tracks, interval_s: float) -> Part:
    """Filter some tracks at `theta` for a sum over many."""
    flat = Prior(theta, np.zeros_like(theta))
    fit = evaluate(theta, tracks, interval_s, flat)
    return Part(fit.objective, fit.scores.sum(axis=0), fit.information, fit.n_steps)


def _sum(theta: Array, parts: list[Part], prior: Prior) -> Fit:
    loglik = sum(part.loglik for part in parts)
    information = np.sum([part.information for part in parts], axis=0)
    scores = np.array([part.score for part in parts])
    n_steps = sum(part.n_steps for part in parts)
    n_states = states_of(theta.size)
    none = np.empty((0, n_states, 6, n_duals(n_states)))
    return Fit(theta, loglik - _penalty(theta, prior), information, scores, none, n_steps, False)


def _penalty(theta: Array, prior: Prior) -> float:
    return 0.5 * float(prior.precision @ (theta - prior.mean) ** 2)


def climb(fit: Fit, tracks: Tracks | Elsewhere, interval_s: float, prior: Prior, passes: int,
          tick: Callable[[], None] = lambda: None) -> Fit:  # fmt: skip
    """Climb from `fit` to the nearest summit in at most `passes` passes over the data."""
    while passes > 0:
        gradient = fit.scores.sum(axis=0) - prior.precision * (fit.theta - prior.mean)
        stride = inverse_of(fit.information + np.diag(prior.precision)) @ gradient
        if gradient @ stride < 2 * ENOUGH:
            return fit._replace(converged=True)
        stride *= min(1.0, STRIDE / np.abs(stride).max())
        better = None
        while passes > 0 and np.abs(stride).max() > 1e-6:
            trial = evaluate(fit.theta + stride, tracks, interval_s, prior)
            passes -= 1
            tick()
            if trial.objective > fit.objective:
                better = trial
                break
            stride = stride * 0.4
        if better is None:
            return fit
        fit = better
    return fit


def fit_tracks(tracks: Tracks, interval_s: float, starts: Iterable[Array], prior: Prior,
               passes: int = 40, tick: Callable[[], None] = lambda: None) -> Fit:  # fmt: skip
    """Return the best summit reached from `starts`, its states ordered by D.

    `tick` is called after each pass over the data but the last.
    """
    best: Fit | None = None
    for start in starts:
        first = evaluate(start, tracks, interval_s, prior)
        tick()
        found = climb(first, tracks, interval_s, prior, passes, tick)
        if best is None or found.objective > best.objective:
            best = found
    if best is None:
        raise AssertionError("fit_tracks needs a start")
    kept = evaluate(best.theta, tracks, interval_s, prior, keep=True)
    return ordered(kept._replace(converged=best.converged))


def ordered(fit: Fit) -> Fit:
    """Relabel the states by D."""
    n_states = fit.filters.shape[1]
    states = order(fit.theta, n_states)
    where = permutation_of(states, n_states)
    duals = np.arange(fit.filters.shape[-1])
    duals[1 : 1 + where.size] = 1 + where
    return fit._replace(
        theta=fit.theta[where],
        information=fit.information[np.ix_(where, where)],
        scores=fit.scores[:, where],
        filters=fit.filters[:, states][..., duals],
    )


def guess(tracks: Tracks, n_states: int, p_switch: float) -> Array:
    """Guess theta from the displacements alone.

    Each |dx|^2 - 2 V gives a rough D; running means over up to five of one track sharpen it; the
    D_k are spread over the quantiles, at least a factor of two apart.
    """
    rough = _rough_D(tracks)
    at = (np.arange(n_states) + 0.5) / n_states
    D = np.maximum(np.quantile(rough, at), 0.05 * _error_D(tracks))
    for k in range(1, n_states):
        D[k] = max(D[k], 2 * D[k - 1])
    return pack(D, uniform_switching(n_states, p_switch), 1.0)


def _error_D(tracks: Tracks) -> float:
    """The D whose motion in a typical interval equals the localization error."""
    inside = _inside(tracks)
    elapsed = np.median(np.diff(tracks.t_s)[inside]) if inside.any() else tracks.exposure_s.mean()
    return float(np.median(tracks.spot[:, 2] + tracks.spot[:, 3]) / (4 * elapsed))


def _inside(tracks: Tracks) -> np.ndarray:
    """Mark the displacements that stay within one track."""
    inside = np.ones(max(0, tracks.t_s.size - 1), bool)
    inside[tracks.first[1:-1] - 1] = False
    return inside


def _rough_D(tracks: Tracks) -> Array:
    inside = _inside(tracks)
    step, elapsed = np.diff(tracks.spot[:, :2], axis=0), np.diff(tracks.t_s)
    var = tracks.spot[:, 2] + tracks.spot[:, 3]
    blur = tracks.exposure_s[1:] / 3
    with np.errstate(divide="ignore", invalid="ignore"):
        D = ((step**2).sum(axis=1) - var[1:] - var[:-1]) / (4 * np.maximum(elapsed - blur, blur))
    track = np.repeat(np.arange(tracks.first.size - 1), np.diff(tracks.first))[1:][inside]
    D = D[inside]
    if D.size == 0:
        return np.array([_error_D(tracks)])
    total, count = np.zeros_like(D), np.zeros_like(D)
    for lag in range(5):
        same = track[lag:] == track[: D.size - lag]
        total[lag:] += np.where(same, D[: D.size - lag], 0.0)
        count[lag:] += same
    return total / count
