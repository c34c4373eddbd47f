"""What the whole track says of each position: its state, and where the molecule truly was.

All of it is read off the slopes of the log-likelihood (`slopekernels`): the posterior of the
states at neighbouring rows, and the true position's mean and variance by Tweedie's formula. It is
exact as far as the likelihood is: where no sequences were merged, and to the error of the window
otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from livespt.refit.extrack.arrays import Array, Slopes, Tables, make_slopes
from livespt.refit.extrack.likelihood import Problem, make_problem, run_slopes, slopes_at
from livespt.refit.extrack.limits import window_for
from livespt.refit.extrack.model import Frame, check_names
from livespt.refit.extrack.series import Laid, lay_out
from livespt.refit.result import RefitError

if TYPE_CHECKING:
    from lmfit import Parameters

#: Least variance of a refined position, as a share of the localization error's.
LEAST_SHARE = 1e-6


class States(NamedTuple):
    """Posteriors of all rows of a series.

    Attributes
    ----------
    p_state : (n, K) float64
    pair : (n, K, K) float64
        State at the row before, and at this one; 0 in a track's first row.
    mean_um, var_um2 : (n, d) float64
        True position; 0 where nothing was seen.
    loglik : (n_tracks,) float64
    """

    p_state: Array
    pair: Array
    mean_um: Array
    var_um2: Array
    loglik: Array


def annotate(values: Mapping[str, float], problem: Problem) -> States:
    """Return the posteriors of all rows at these parameters."""
    loglik, slopes, _, var = slopes_at(values, problem)
    return read_off(problem.laid, slopes, var, loglik)


def read_off(laid: Laid, slopes: Slopes, var: Array, loglik: Array) -> States:
    """Turn slopes into posteriors."""
    pair = np.clip(slopes.pair, 0.0, None)
    total = pair.sum(axis=(1, 2), keepdims=True)
    pair = pair / np.where(total > 0, total, 1.0)
    p_state = pair.sum(axis=1)
    first = laid.series.first[:-1]
    p_state[first] = pair[first + 1].sum(axis=2)
    off = var * slopes.x
    spread = var + 2 * var**2 * slopes.var - off**2
    seen = laid.series.seen[:, None]
    mean = np.where(seen, laid.series.x_um + off, 0.0)
    spread = np.where(seen, np.maximum(spread, LEAST_SHARE * var), 0.0)
    return States(p_state, pair, mean, spread, loglik)


def plain_values(params: Any) -> dict[str, float]:
    """Return the values of lmfit `Parameters`, or of a mapping of numbers."""
    return {name: float(getattr(params[name], "value", params[name])) for name in params}


class Asked(NamedTuple):
    """What is asked of tracks once the parameters are known; names as in `param_fitting`."""

    nb_states: int
    frame_len: int
    cell_dims: Sequence[float | None] = (1,)
    input_LocErr: Any = None
    workers: int = 1
    exposure_s: float = 0.0
    nb_substeps: int = 1


def pose(all_tracks: Any, dt: Any, params: Any, asked: Asked) -> tuple[dict[str, float], Problem]:
    """Check tracks, parameters and settings, for what comes after a fit."""
    values = plain_values(params)
    check_names(list(values), asked.nb_states)
    laid = lay_out(all_tracks, dt, asked.input_LocErr)
    cell = tuple(float(side) for side in asked.cell_dims if side is not None)
    frame = Frame(asked.nb_states, asked.nb_substeps, laid.interval_s, cell)
    problem = make_problem(laid, frame, asked.frame_len, asked.exposure_s, asked.workers)
    return values, problem


def predict_Bs(
    all_tracks: Any,
    dt: Any,
    params: Parameters,
    cell_dims: Sequence[float | None] = (1,),
    nb_states: int = 4,
    frame_len: int = 5,
    max_nb_states: int | None = None,
    threshold: float | None = None,
    workers: int = 1,
    input_LocErr: Any = None,
    verbose: int = 0,
    nb_max: int = 1,
    *,
    exposure_s: float = 0.0,
) -> Any:
    """Return the probability of each state at each position, given the whole track.

    Arguments as in `param_fitting`. All tracks are done at once, each by itself, whatever `nb_max`
    says of how many; nothing is printed, whatever `verbose` says.

    Returns
    -------
    dict of str to (n, T, K), or list of (T, K)
        In the tracks' own form. Rows before the first and after the last position repeat their
        neighbour; tracks with fewer than two positions get the fractions F.
    """
    window = window_for(frame_len, nb_states, threshold, max_nb_states)
    asked = Asked(nb_states, window, cell_dims, input_LocErr, workers, exposure_s)
    values, problem = pose(all_tracks, dt, params, asked)
    p_state = annotate(values, problem).p_state
    fractions = np.array([values[f"F{k}"] for k in range(nb_states)])
    return in_form(p_state, fractions, problem.laid, all_tracks)


def in_form(rows: Array, filler: Array, laid: Laid, tracks: Any) -> Any:
    """Return rows of the series (n, ...) in the tracks' own form."""
    out = [np.empty((n, T, *rows.shape[1:])) for _, n, T in laid.shapes]
    for group in out:
        group[:] = filler
    first = laid.series.first
    for number, (index, i, begin) in enumerate(laid.origin):
        part = rows[first[number] : first[number + 1]]
        whole = out[index][i]
        whole[:begin], whole[begin + len(part) :] = part[0], part[-1]
        whole[begin : begin + len(part)] = part
    if isinstance(tracks, Mapping):
        return {key: group for (key, _, _), group in zip(laid.shapes, out, strict=True)}
    return [group[0] for group in out]


def refine(
    all_tracks: Any,
    dt: Any,
    params: Parameters,
    nb_states: int = 2,
    frame_len: int = 7,
    cell_dims: Sequence[float | None] = (1,),
    input_LocErr: Any = None,
    *,
    exposure_s: float = 0.0,
) -> tuple[Any, Any]:
    """Return mean (um) and standard deviation (um) of each true position, given the whole track.

    Arguments as in `param_fitting`.

    Returns
    -------
    mean, sd : dict of str to (n, T, d), or list of (T, d)
        0 with an s.d. of 0 in tracks that are not used; frames in which nothing was seen too.
    """
    asked = Asked(nb_states, frame_len, cell_dims, input_LocErr, 1, exposure_s)
    values, problem = pose(all_tracks, dt, params, asked)
    states = annotate(values, problem)
    empty = np.zeros(states.mean_um.shape[1])
    mean = in_form(states.mean_um, empty, problem.laid, all_tracks)
    return mean, in_form(np.sqrt(states.var_um2), empty, problem.laid, all_tracks)


def position_refinement(
    all_tracks: Any,
    LocErr: Any,
    ds: Array,
    Fs: Array,
    TrMat: Array,
    frame_len: int = 7,
    threshold: float | None = None,
    max_nb_states: int | None = None,
) -> tuple[Any, Any]:
    """Refine positions by ExTrack's own arguments; leaving the field of view plays no part.

    Parameters
    ----------
    all_tracks : dict of str to (n, T, d), or list of (T, d)
    LocErr : float, (d,), or of the tracks' form
        Standard error (um).
    ds : (K,)
        Diffusion lengths sqrt(2 D dt) (um).
    Fs : (K,)
    TrMat : (K, K)
        Probability of going from state to state in a frame.
    frame_len, threshold, max_nb_states
        As in `param_fitting`.

    Returns
    -------
    mean : of the tracks' form, (n, T, d)
    sd : (n, T), the root of the variance averaged over the axes
        `refine` returns one for each axis.
    """
    D, P, F = np.asarray(ds) ** 2 / 2, np.asarray(TrMat, dtype=float), np.asarray(Fs)
    if P.shape != (D.size, D.size) or F.shape != D.shape:
        raise RefitError(
            f"TrMat {P.shape}, Fs {F.shape}; expected ({D.size}, {D.size}), ({D.size},)"
        )
    per_position = isinstance(LocErr, Mapping) or (
        isinstance(LocErr, (list, tuple)) and np.ndim(LocErr[0]) > 0
    )
    laid = lay_out(all_tracks, 1.0, LocErr if per_position else None)
    shape = laid.series.x_um.shape
    error: Any = laid.error_um if per_position else np.ravel(np.asarray(LocErr, dtype=float))
    sd = np.broadcast_to(error, shape)
    var = np.where(laid.series.seen[:, None], np.asarray(sd) ** 2, 1.0)
    window = window_for(frame_len, D.size, threshold, max_nb_states)
    problem = make_problem(laid, Frame(D.size, 1, 1.0, ()), window)
    slopes = make_slopes(laid.series, problem.rule)
    loglik = run_slopes(problem, plain_tables(F, P, D), var, slopes)
    states = read_off(laid, slopes, var, loglik)
    empty = np.zeros(shape[1])
    mean = in_form(states.mean_um, empty, laid, all_tracks)
    spread = np.sqrt(states.var_um2.mean(axis=1))
    return mean, in_form(spread, np.zeros(()), laid, all_tracks)


def plain_tables(F: Array, P: Array, D: Array) -> Tables:
    """Return the tables of a model in which no molecule leaves or bleaches."""
    step = np.ascontiguousarray(P).reshape(-1)  # c = new + K old
    K = D.size
    old, new = np.divmod(np.arange(K * K), K)
    return Tables(F[old] * step, step, step, 0.5 * (D[old] + D[new]), np.ones(K))
