"""The final pass over a finished run: refit on all tracks, then smooth them.

The parameters are the maximum of the same likelihood that the live filter climbs, now over all data
at once. Intervals come from the observed information: the score, differentiated numerically.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from livespt.infer.arrays import (
    AMBIGUOUS,
    Array,
    Smoothed,
    Tracks,
    field_of,
    rows,
    scratch,
    states_of,
)
from livespt.infer.fit import Elsewhere, Fit, climb, evaluate, guess, ordered
from livespt.infer.inverse import inverse_of
from livespt.infer.motion import (
    Answer,
    InferError,
    Prior,
    motion,
    pack,
    to_model,
    uniform_switching,
    weak_prior,
)
from livespt.infer.smoothkernels import count_rows, smooth_tracks
from livespt.types import Model

#: Fields that `smooth_run` reads.
TRACK_FIELDS = (
    "track_id", "frame", "t_s", "exposure_s",
    "x_um", "y_um", "var_x_um2", "var_y_um2", "cov_xy_um2",
)  # fmt: skip
#: Spots on which the starts compete before the winner is fitted to all.
TRIAL_SPOTS = 20_000
#: Passes over the data for the fit, and for the trials together.
FIT_PASSES, TRIAL_PASSES = 20, 30
#: Numerical differentiation of the score: step in units of the standard error.
STEP_SE = 0.05


def smoothed_dtype(n_states: int) -> np.dtype:
    """Return the dtype of `FinalResult.table`: one row per spot, in the order given."""
    return np.dtype(
        [
            ("track_id", "i8"),
            ("frame", "i8"),
            ("x_um", "f8"),  # smoothed position: mean over the exposure
            ("y_um", "f8"),
            ("var_x_um2", "f8"),
            ("var_y_um2", "f8"),
            ("cov_xy_um2", "f8"),
            ("D_um2_s", "f8"),
            ("p_state", "f8", (n_states,)),
        ]
    )


class FinalResult(NamedTuple):
    """The answer after the run: the refitted model, and each spot given the whole of its track."""

    model: Model
    table: NDArray[np.void]


def smooth_run(
    tracks: NDArray[np.void],
    start: Model,
    *,
    interval_s: float | None = None,
    field_um: tuple[float, float] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FinalResult:
    """Refit the model on a finished run and smooth every track.

    Parameters
    ----------
    tracks : structured array
        Fields `TRACK_FIELDS` (and `p_link`, optional), sorted by (track_id, frame).
    start : Model
        Where to begin: the live answer; a poor one does no harm, a fresh guess competes with it.
    interval_s : float, optional
        Nominal time between frames; the live model's unless given.
    field_um : (height, width), optional
        The field of view, as for `OnlineFilter`.
    progress : callable, optional
        Called as progress(done, total) with work done and work in all.

    Returns
    -------
    FinalResult

    Raises
    ------
    InferError
        If a field is missing, rows are unsorted, or values are not finite.
    """
    interval = start.interval_s if interval_s is None else float(interval_s)
    field = field_of(field_um, float(np.max(start.D_um2_s)))
    data = as_tracks(tracks)._replace(field=field)
    n_states = len(start.D_um2_s)
    ticks = _Ticks(progress, FIT_PASSES + 2 * n_states * n_states + 4)
    prior = weak_prior(_theta(start), n_states)
    if np.diff(data.first).max(initial=0) < 2:
        model = start._replace(n_steps=0, n_tracks=0, status="warming", interval_s=interval)
        fit = None
    else:
        fit, prior = _fit(data, start, interval, ticks)
        answer = _answer(fit, data, interval, prior, ticks)
        model = to_model(answer, np.ones((1, n_states)), np.zeros(1, np.int64), interval)
    table = smooth_at(_theta(model) if fit is None else fit.theta, tracks, data, interval)
    model = _with_occupancy(model, table, start)
    ticks.end()
    return FinalResult(model, table)


class _Ticks:
    """Counts passes for a progress bar; the end is the end however many there were."""

    def __init__(self, report: Callable[[int, int], None] | None, total: int) -> None:
        self._report, self._total, self._done = report, total, 0

    def __call__(self) -> None:
        self._done = min(self._done + 1, self._total - 1)
        if self._report:
            self._report(self._done, self._total)

    def end(self) -> None:
        if self._report:
            self._report(self._total, self._total)


def as_tracks(table: NDArray[np.void]) -> Tracks:
    """Check a table of tracked spots and lay it out for the kernels."""
    names = table.dtype.names or ()
    missing = [name for name in TRACK_FIELDS if name not in names]
    if missing:
        raise InferError(f"tracks: no field '{missing[0]}' (has: {', '.join(names)})")
    track, same = table["track_id"], np.diff(table["track_id"]) == 0
    if (np.diff(track) < 0).any() or (np.diff(table["t_s"])[same] <= 0).any():
        raise InferError("tracks: rows must be sorted by track_id, then by time, each time once")
    spot = np.stack([table[name].astype(np.float64) for name in TRACK_FIELDS[4:]], axis=1)
    if not (np.isfinite(spot).all() and (spot[:, 2] * spot[:, 3] > spot[:, 4] ** 2).all()):
        raise InferError("tracks: positions must be finite and covariances positive definite")
    first = np.concatenate([[0], np.flatnonzero(~same) + 1, [len(table)]]).astype(np.int64)
    weight = table["p_link"].astype(np.float64) if "p_link" in names else np.ones(len(table))
    return Tracks(
        first=first if len(table) else np.zeros(1, np.int64),
        t_s=table["t_s"].astype(np.float64),
        exposure_s=table["exposure_s"].astype(np.float64),
        spot=spot,
        weight=np.where(weight >= AMBIGUOUS, 1.0, 0.0),
    )


def _theta(model: Model) -> Array:
    return pack(model.D_um2_s, model.p_switch, model.error_scale)


def _fit(data: Tracks, start: Model, interval: float, ticks: _Ticks) -> tuple[Fit, Prior]:
    """Let the starts compete on a part of the tracks, then fit the winner to all."""
    n_states = len(start.D_um2_s)
    fresh = guess(data, n_states, 0.05)
    prior = weak_prior(fresh, n_states)
    part = part_of(data, TRIAL_SPOTS)
    trials = [
        climb(evaluate(theta, part, interval, prior), part, interval, prior, TRIAL_PASSES // 2)
        for theta in (_theta(start), fresh)
    ]
    best = max(trials, key=lambda fit: fit.objective)
    ticks()
    fit = evaluate(best.theta, data, interval, prior)
    return ordered(climb(fit, data, interval, prior, FIT_PASSES, ticks)), prior


def part_of(data: Tracks, n_spots: int) -> Tracks:
    """Take whole tracks, spread evenly over the run, of about `n_spots` spots together."""
    n_tracks = data.first.size - 1
    every = max(1, data.t_s.size // n_spots)
    chosen = np.arange(0, n_tracks, every)
    rows = np.concatenate([np.arange(data.first[i], data.first[i + 1]) for i in chosen])
    lengths = (data.first[1:] - data.first[:-1])[chosen]
    first = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    columns = (data.t_s, data.exposure_s, data.spot, data.weight)
    return Tracks(first, *(column[rows] for column in columns), field=data.field)


def _answer(fit: Fit, data: Tracks, interval: float, prior: Prior, ticks: _Ticks) -> Answer:
    return Answer(
        theta=fit.theta,
        covariance=covariance(fit, data, interval, prior, ticks),
        n_steps=fit.n_steps,
        n_tracks=int((np.diff(data.first) > 1).sum()),
        settled=True,
    )


def covariance(
    fit: Fit, data: Tracks | Elsewhere, interval: float, prior: Prior, tick: Callable[[], None]
) -> Array:
    """Covariance of theta at the summit from the observed information, prior included.

    Where it is not positive definite (too few data), from the outer products of the scores.
    """
    outer = fit.information + np.diag(prior.precision)
    se = np.sqrt(np.diag(inverse_of(outer)))
    hessian = np.empty_like(outer)
    for q in range(se.size):
        shift = np.zeros(se.size)
        shift[q] = STEP_SE * se[q]
        up = evaluate(fit.theta + shift, data, interval, prior).scores.sum(axis=0)
        down = evaluate(fit.theta - shift, data, interval, prior).scores.sum(axis=0)
        hessian[q] = (down - up) / (2 * shift[q])
        tick()
    observed = (hessian + hessian.T) / 2 + np.diag(prior.precision)
    if np.linalg.eigvalsh(observed).min() <= 0:
        observed = outer
    return inverse_of(observed)


def smooth_at(
    theta: Array, tracks: NDArray[np.void], data: Tracks, interval: float
) -> NDArray[np.void]:
    """Smooth every track at given parameters; return `smoothed_dtype`, states ordered by D.

    `tracks` names each row of `data`: fields `track_id` and `frame`.
    """
    n, n_states = len(tracks), states_of(theta.size)
    out = Smoothed(np.empty((n, 5)), np.empty((n, n_states)))
    at = motion(theta, n_states, derivatives=False)
    room = rows(count_rows(data, interval), n_states)
    smooth_tracks(data, at, interval, room, scratch(), out)
    table = np.zeros(n, smoothed_dtype(n_states))
    for name in ("track_id", "frame"):
        table[name] = tracks[name]
    for i, name in enumerate(("x_um", "y_um", "var_x_um2", "cov_xy_um2", "var_y_um2")):
        table[name] = out.position[:, i]
    states = np.argsort(at.D, kind="stable")
    table["p_state"] = out.p_state[:, states]
    table["D_um2_s"] = out.p_state @ at.D
    return table


def _with_occupancy(model: Model, table: NDArray[np.void], start: Model) -> Model:
    """Add the share of all spots in each state; it stands for every lag, being smoothed in full."""
    share = table["p_state"].mean(axis=0) if len(table) else start.occupancy
    return model._replace(
        occupancy_lag=np.repeat(share[None], start.lags.size, axis=0), lags=start.lags
    )


def warm_up(n_states: int, interval_s: float) -> None:
    """Compile everything that `smooth_run` calls, on two made-up tracks."""
    table = np.zeros(12, [(name, "f8") for name in TRACK_FIELDS])
    table["track_id"] = np.repeat([0, 1], 6)
    table["frame"] = np.tile([0, 1, 2, 4, 5, 6], 2)
    table["t_s"] = interval_s * table["frame"]
    table["exposure_s"] = interval_s
    table["x_um"] = table["y_um"] = 0.1 * np.cos(np.arange(12))
    table["var_x_um2"] = table["var_y_um2"] = 1e-3
    theta = pack(
        np.exp2(np.arange(n_states, dtype=np.float64)), uniform_switching(n_states, 0.1), 1.0
    )
    blank = Answer(theta, np.eye(theta.size), 0, 0, settled=False)
    model = to_model(blank, np.ones((1, n_states)), np.zeros(1, np.int64), interval_s)
    smooth_run(table, model)
