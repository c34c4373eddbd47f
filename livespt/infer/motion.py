"""The motion model's parameters: from a vector to what is published, each with an interval.

theta = (ln D_k, logits of T off the diagonal, log weights of a track's first state, ln c). Every
published number is a smooth function of theta; its interval is taken on the scale where that
function is nearly linear (log for D and c, logit for probabilities) by the delta method:
se^2 = grad' Cov grad.
"""

from __future__ import annotations

import functools
import operator
from typing import NamedTuple

import numpy as np

from livespt.infer.answerkernels import fill_model, fill_rates
from livespt.infer.arrays import Array, Ints, Motion
from livespt.infer.layout import n_duals, n_parameters
from livespt.infer.motionkernels import fill_motion
from livespt.infer.plain import plain
from livespt.types import LivesptError, Model


class InferError(LivesptError):
    """The motion inference was given something that it cannot use."""


class Prior(NamedTuple):
    """A weak Gaussian prior on theta: keeps what the data do not speak of in sane bounds."""

    mean: Array
    precision: Array


def weak_prior(theta: Array, n_states: int) -> Prior:
    """Center on `theta` (on c = 1): factor e^4 on D, 3 on a logit, factor e^0.5 on c (1 s.d.)."""
    mean = theta.copy()
    mean[-1] = 0.0
    sd = np.full(theta.size, 3.0)
    sd[:n_states] = 4.0
    sd[-1] = 0.5
    return Prior(mean, 1 / sd**2)


def pack(D_um2_s: Array, p_switch: Array, error_scale: float) -> Array:
    """Return theta for diffusion constants, a transition matrix and an error scale.

    Tracks begin with the stationary distribution of the matrix.
    """
    k = len(D_um2_s)
    safe = np.clip(p_switch, 1e-9, None)
    logit = np.log(safe) - np.log(np.diag(safe))[:, None]
    switching = logit[~np.eye(k, dtype=bool)]
    theta = np.concatenate([np.log(D_um2_s), switching, np.zeros(k), [np.log(error_scale)]])
    theta[-1 - k : -1] = motion(theta, k, derivatives=False).ln_pi[:, 0]
    return theta


def uniform_switching(n_states: int, p_switch: float) -> Array:
    """Return the transition matrix that leaves each state with probability `p_switch`."""
    T = np.full((n_states, n_states), p_switch / max(1, n_states - 1))
    np.fill_diagonal(T, 1.0 if n_states == 1 else 1 - p_switch)
    return T


def motion(theta: Array, n_states: int, *, derivatives: bool = True) -> Motion:
    """Evaluate the model at `theta`, with or without derivatives."""
    width = n_duals(n_states) if derivatives else 1
    D = np.empty(n_states)
    ln_T = np.zeros((n_states, n_states, width))
    ln_pi, ln_begin = np.zeros((n_states, width)), np.zeros((n_states, width))
    fill_motion(theta, D, ln_T, ln_pi, ln_begin, np.empty((n_states, n_states + 1)))
    return Motion(D, ln_T, ln_pi, ln_begin, float(np.exp(2 * theta[-1])))


def order(theta: Array, n_states: int) -> Ints:
    """Return the permutation that sorts the states by D."""
    return np.argsort(theta[:n_states], kind="stable")


def permutation_of(states: Ints, n_states: int) -> Ints:
    """Return the permutation of theta that goes with a permutation of the states."""
    at = np.full((n_states, n_states), -1)
    at[~np.eye(n_states, dtype=bool)] = np.arange(n_states, n_states * n_states)
    moved = at[np.ix_(states, states)][~np.eye(n_states, dtype=bool)]
    begin = n_states * n_states + states
    return np.concatenate([states, moved, begin, [n_parameters(n_states) - 1]]).astype(np.int64)


class Answer(NamedTuple):
    """An estimate of theta and its covariance, states in any order."""

    theta: Array
    covariance: Array
    n_steps: int
    n_tracks: int
    settled: bool


@functools.lru_cache(maxsize=64)
def answer_dtype(n_states: int, n_lags: int) -> np.dtype:
    """Return the order in which `answerkernels.fill_model` writes a model, and the shapes."""
    k = n_states
    shapes = {
        "D_um2_s": (k,), "D_95": (k, 2), "error_scale_95": (2,), "occupancy": (k,),
        "p_switch": (k, k), "occupancy_95": (k, 2), "p_switch_95": (k, k, 2),
        "rate_per_s": (k, k), "occupancy_lag": (n_lags, k), "error_scale": (),
    }  # fmt: skip
    return np.dtype([(name, "f8", shape) for name, shape in shapes.items()])


#: Picks a model's arrays.
_ARRAYS = operator.itemgetter(
    "D_um2_s", "D_95", "occupancy", "occupancy_95", "p_switch", "p_switch_95", "rate_per_s",
    "error_scale", "error_scale_95", "occupancy_lag",
)  # fmt: skip


def to_model(answer: Answer, occupancy_lag: Array, lags: Ints, interval_s: float) -> Model:
    """Turn an estimate into the published model, states ordered by D.

    `occupancy_lag` (L, K) is in the order of `answer`.
    """
    n_lags, n_states = occupancy_lag.shape
    at, dtype = motion(answer.theta, n_states), answer_dtype(n_states, n_lags)
    words = np.empty(dtype.itemsize // 8)
    covariance, lagged = plain(answer.covariance, np.float64), plain(occupancy_lag, np.float64)
    fill_model(at, covariance, lagged, interval_s, words, np.empty((3, n_states, n_states)))
    counts = answer.n_steps, answer.n_tracks, answer.settled
    return model_of(words, dtype, (lags, interval_s), counts)


def model_of(
    words: Array, dtype: np.dtype, of: tuple[Ints, float], counts: tuple[int, int, bool]
) -> Model:
    """Return the model that `fill_model` wrote into `words`, whose memory becomes its own.

    `dtype` is the `answer_dtype`, `of` the lags and the nominal interval; `counts` are steps,
    tracks, and whether the parameters have been fitted.
    """
    D, D_95, here, here_95, p, p_95, rate, scale, scale_95, lagged = _ARRAYS(
        np.ndarray((), dtype, words)
    )
    n_steps, n_tracks, settled = counts
    return Model(
        D, D_95, here, here_95, p, p_95, rate, float(scale), scale_95, lagged, *of, n_steps,
        n_tracks, "ok" if settled else "warming",
    )  # fmt: skip


def rates(T: Array, interval_s: float) -> Array:
    """Return the rates per second whose chain gives T: ln T / interval.

    Where T is no sampled continuous-time chain (too fast for the frame rate), (T - I) / interval.
    """
    rate = np.empty(T.shape)
    fill_rates(np.ascontiguousarray(T), interval_s, rate, np.empty((2, *T.shape)))
    return rate
