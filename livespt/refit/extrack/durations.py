"""How long molecules stay in a state, with runs that were cut off treated as such.

Within a track the states are a Markov chain given the data (the pairs of `states.annotate`). A run
counts from a change that was seen into the state; runs that a track begins with have no known
length and do not count. A run that the track's end cuts off is censored: it was at risk for as
long as it was seen. Expected numbers over the posterior take the place of counts, and

    S(L) = prod over l <= L of (1 - ended(l) / at_risk(l))                   (Kaplan, Meier 1958)
    Var S(L) = S(L)^2 sum ended / (at_risk (at_risk - ended))                (Greenwood 1926)
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from livespt.refit.extrack.arrays import Array, Ints
from livespt.refit.extrack.limits import window_for
from livespt.refit.extrack.states import Asked, annotate, pose

if TYPE_CHECKING:
    from lmfit import Parameters


class Durations(NamedTuple):
    """Runs in one state, by their length 1 ... L in frames.

    Attributes
    ----------
    frames : (L,) int64
    ended, censored, at_risk : (L,) float64
        Expected numbers of runs that ended after, were cut off after, or lasted at least so long.
    survival, sd : (L,) float64
        Share of runs that last longer; its standard error.
    mean_frames : float
        At risk in all over ended in all: the mean stay if the state has no memory.
    mean_sd : float
        Its standard error.
    """

    frames: Ints
    ended: Array
    censored: Array
    at_risk: Array
    survival: Array
    sd: Array
    mean_frames: float
    mean_sd: float


def durations(
    all_tracks: Any,
    dt: Any,
    params: Parameters,
    nb_states: int = 2,
    frame_len: int = 6,
    cell_dims: Sequence[float | None] = (1,),
    input_LocErr: Any = None,
    *,
    exposure_s: float = 0.0,
) -> list[Durations]:
    """Return how long runs last, for each state; arguments as in `param_fitting`."""
    asked = Asked(nb_states, frame_len, cell_dims, input_LocErr, 1, exposure_s)
    return _durations(all_tracks, dt, params, asked)


def _durations(all_tracks: Any, dt: Any, params: Any, asked: Asked) -> list[Durations]:
    values, problem = pose(all_tracks, dt, params, asked)
    pair = annotate(values, problem).pair
    ended, censored = count_runs(pair, problem.laid.series.first)
    return [kaplan_meier(ended[:, k], censored[:, k]) for k in range(asked.nb_states)]


def len_hist(
    all_tracks: Any,
    params: Parameters,
    dt: Any,
    cell_dims: Sequence[float | None] = (0.5, None, None),
    nb_states: int = 2,
    max_nb_states: int | None = None,
    workers: int = 1,
    nb_substeps: int = 1,
    input_LocErr: Any = None,
    *,
    frame_len: int = 6,
) -> Array:
    """Return the number of runs by length and state (longest, K), by ExTrack's own arguments.

    Each run that was seen to begin counts once; one that was cut off is shared out over the lengths
    that it may have had (the Kaplan-Meier estimate), those beyond the longest left out. ExTrack
    counts it as if it had ended. Other arguments as in `param_fitting`.
    """
    window = window_for(frame_len, nb_states, None, max_nb_states)
    asked = Asked(nb_states, window, cell_dims, input_LocErr, workers, nb_substeps=nb_substeps)
    found = _durations(all_tracks, dt, params, asked)
    columns = []
    for state in found:
        before = np.concatenate([[1.0], state.survival[:-1]])
        columns.append(state.at_risk[0] * (before - state.survival))
    return np.stack(columns, axis=1)


def count_runs(pair: Array, first: Ints) -> tuple[Array, Array]:
    """Return the expected numbers of runs that ended and that were cut off, by length and state.

    Parameters
    ----------
    pair : (n, K, K) float64
        State at the row before and at this one; 0 in a track's first row.
    first : (n_tracks + 1,) int64

    Returns
    -------
    ended, censored : (longest track, K) float64
    """
    n_states, longest = pair.shape[1], int(np.diff(first).max())
    ended, censored = np.zeros((longest, n_states)), np.zeros((longest, n_states))
    diagonal = np.diagonal(pair, axis1=1, axis2=2)
    entered, left = pair.sum(axis=1) - diagonal, pair.sum(axis=2) - diagonal
    held = pair.sum(axis=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        stays = np.where(held > 0, diagonal / held, 0.0)
        leaves = np.where(held > 0, left / held, 0.0)
    for low, high in itertools.pairwise(first):
        going = np.zeros((longest + 1, n_states))  # runs now so long, by length - 1
        for t in range(low + 1, high):
            ended += going[:-1] * leaves[t]
            going[1:] = going[:-1] * stays[t]
            going[0] = entered[t]
        censored += going[:-1]
    return ended, censored


def kaplan_meier(ended: Array, censored: Array) -> Durations:
    """Estimate the survival of runs from those that ended and those that were cut off."""
    gone = ended + censored
    at_risk = gone[::-1].cumsum()[::-1]
    some = at_risk > 1e-9
    hazard = np.where(some, ended / np.where(some, at_risk, 1.0), 0.0)
    survival = np.cumprod(np.clip(1.0 - hazard, 0.0, 1.0)).astype(np.float64)
    rest = at_risk * (at_risk - ended)
    terms = np.where(rest > 1e-9, ended / np.where(rest > 1e-9, rest, 1.0), 0.0)
    total, events = at_risk.sum(), ended.sum()
    mean = total / events if events > 0 else 0.0
    return Durations(
        np.arange(1, ended.size + 1), ended, censored, at_risk, survival,
        np.asarray(survival * np.sqrt(np.cumsum(terms)), dtype=np.float64), mean,
        mean / np.sqrt(events) if events > 0 else 0.0,
    )  # fmt: skip
