"""The default refit: maximum likelihood with the history-merging filter of the live path.

The likelihood is Berglund's (blur, pointwise errors, real gaps) for K states that switch, the
filter's Gaussians merged with the between-component variance (`livespt.infer`).
It is climbed from several starts; intervals come from the observed information. Where the table
tells no errors, one common error is fitted: the error scale on a nominal one.

A weak prior keeps what the data do not speak of in bounds (`infer.motion.weak_prior`); the
log-likelihood that is returned, and AIC and BIC, are without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from livespt.infer.arrays import AMBIGUOUS, Array, Tracks, field_of
from livespt.infer.fit import Elsewhere, Fit, climb, evaluate, guess, ordered
from livespt.infer.motion import Answer, Prior, to_model, weak_prior
from livespt.infer.smooth import TRIAL_SPOTS, covariance, part_of, smooth_at
from livespt.refit.result import Parameter, Refit, RefitError, positions_dtype
from livespt.refit.tracks import TrackTable, fit_to_use
from livespt.types import Model

#: Most states, and passes over the data for a climb.
MOST_STATES, PASSES = 4, 60
#: A climb that a kink has stopped (a link turns false) has arrived where a full step would gain
#: less (nats): the summit is then within a fifth of a standard error.
CLOSE = 0.02
#: S.d. of the prior on ln(error scale): errors that were reported, one that is not known at all.
REPORTED, UNKNOWN, HELD = 0.5, 3.0, 1e-6
#: What a start believes of switching per frame.
SWITCHING = (0.05, 0.01, 0.2)


class Spread(Elsewhere, Protocol):
    """Tracks that other processes hold, filter and smooth."""

    def smooth(self, theta: Array, interval_s: float) -> NDArray[np.void]:
        """Return `infer.smoothed_dtype`, in the order of the tracks' rows."""
        ...


class Errors(NamedTuple):
    """What is known of the standard errors: nominal ones and the scale on them."""

    sd_um: Array  # (n, 2)
    scale: float  # at the start
    spread: float  # s.d. of the prior on its logarithm
    common: float | None  # the nominal error where it is one for all


class Fitted(NamedTuple):
    """One summit with what belongs to it."""

    fit: Fit
    prior: Prior
    tracks: Tracks | Spread
    errors: Errors
    loglik: float  # without the prior
    n_passes: int  # over the data

    @property
    def n_states(self) -> int:
        """Number of states."""
        return self.fit.filters.shape[1]

    @property
    def n_parameters(self) -> int:
        """Numbers that were fitted: D, switching, where tracks begin, the error scale."""
        k = self.n_states
        return k * k + k - 1 + (self.errors.spread != HELD)


def fit_history(
    data: TrackTable,
    *,
    states: int | str = 2,
    error_scale: float | str = "fit",
    sd_um: float | None = None,
    spread: Callable[[Tracks], Spread] | None = None,
) -> Refit:
    """Fit D, switching and the error scale by maximum likelihood; smooth every track.

    Parameters
    ----------
    data : TrackTable
    states : int or "auto"
        1 to 4; "auto" takes the number with the least BIC.
    error_scale : float or "fit"
        Factor on the standard errors: fitted, or held there.
    sd_um : float, optional
        One error for all rows, in the place of the table's.
    spread : callable, optional
        Hands the tracks to other processes (`cluster.spread_over`).

    Raises
    ------
    RefitError
        No such number of states, or nothing to fit.
    """
    data = fit_to_use(data)
    errors = errors_of(data, error_scale, sd_um)
    tracks = tracks_of(data, errors)
    full = spread(tracks) if spread else tracks
    if states != "auto":
        fitted = climb_all(tracks, data.interval_s, check_states(states), errors, full)
        return answer(data, fitted, {})
    found = [climb_all(tracks, data.interval_s, k, errors, full) for k in range(1, MOST_STATES + 1)]
    rows = [choice_row(one) for one in found]
    best = int(np.argmin([row["bic"] for row in rows]))
    return answer(data, found[best], {"choice": rows})


def check_states(states: int | str) -> int:
    """Return the number of states.

    Raises
    ------
    RefitError
        It is none.
    """
    if isinstance(states, bool) or not isinstance(states, int) or not 1 <= states <= MOST_STATES:
        raise RefitError(f"states: {states}; expected 1 to {MOST_STATES}, or auto")
    return states


def errors_of(data: TrackTable, scale: float | str = "fit", sd_um: float | None = None) -> Errors:
    """Return nominal errors, and how much is known of the scale on them.

    Raises
    ------
    RefitError
        A scale or an error that is not > 0.
    """
    for name, value in (("error_scale", scale), ("sd_um", sd_um)):
        if value not in ("fit", None) and not (
            isinstance(value, int | float) and 0 < value < math.inf
        ):
            raise RefitError(f"{name}: {value}; expected a number > 0")
    known = data.sd_um if sd_um is None else np.full((data.x_um.size, 2), sd_um)
    common = sd_um
    spread = REPORTED
    if known is None:
        common = nominal_error(data)
        known, spread = np.full((data.x_um.size, 2), common), UNKNOWN
    if scale == "fit":
        return Errors(known, 1.0, spread, common)
    return Errors(known, float(scale), HELD, common)


def nominal_error(data: TrackTable) -> float:
    """Return an error (um) to begin with where none is known: from successive steps.

    A step and the next share the position between them, which makes them anticorrelated.
    """
    step = np.stack([np.diff(data.x_um), np.diff(data.y_um)], axis=1)
    inside = np.diff(data.track) == 0
    both = inside[1:] & inside[:-1]
    squares = float((step[inside] ** 2).mean()) if inside.any() else 1e-4
    cross = -float((step[1:][both] * step[:-1][both]).mean()) if both.any() else 0.0
    return math.sqrt(max(cross, 0.02 * squares))


def tracks_of(data: TrackTable, errors: Errors) -> Tracks:
    """Lay the table out for the kernels of `livespt.infer`."""
    n = data.x_um.size
    var = errors.sd_um**2
    cov = np.zeros(n) if data.cov_xy_um2 is None else data.cov_xy_um2
    cov = np.where(np.isfinite(cov) & (cov**2 < var[:, 0] * var[:, 1]), cov, 0.0)
    weight = np.ones(n) if data.weight is None else np.where(data.weight >= AMBIGUOUS, 1.0, 0.0)
    steps = np.hypot(np.diff(data.x_um), np.diff(data.y_um))[np.diff(data.track) == 0]
    fastest = float(np.quantile(steps, 0.95) ** 2 / (4 * data.interval_s)) if steps.size else 0.0
    return Tracks(
        first=data.first,
        t_s=data.t_s,
        exposure_s=np.full(n, data.exposure_s),
        spot=np.column_stack([data.x_um, data.y_um, var, cov]),
        weight=weight,
        field=field_of(data.field_um, fastest),
    )


def climb_all(
    tracks: Tracks, interval: float, n_states: int, errors: Errors, full: Tracks | Spread
) -> Fitted:
    """Let several starts compete on a part of the tracks; fit the winner to the full ones."""
    starts = [_with_scale(theta, errors.scale) for theta in _starts(tracks, n_states)]
    prior = prior_at(starts[0], n_states, errors)
    part = part_of(tracks, TRIAL_SPOTS)
    passes: list[None] = []

    def up(theta: Array, among: Tracks | Spread) -> Fit:
        begun = evaluate(theta, among, interval, prior)
        return climb(begun, among, interval, prior, PASSES, lambda: passes.append(None))

    best = max((up(theta, part) for theta in starts), key=lambda fit: fit.objective)
    if tracks.t_s.size > part.t_s.size:
        best = up(best.theta, full)
    best = best._replace(converged=best.converged or _left(best, prior) < CLOSE)
    penalty = 0.5 * float(prior.precision @ (best.theta - prior.mean) ** 2)
    return Fitted(
        ordered(best), prior, full, errors, best.objective + penalty, len(passes) + len(starts)
    )


def _left(fit: Fit, prior: Prior) -> float:
    """Return the log-likelihood that a full step would still gain."""
    gradient = fit.scores.sum(axis=0) - prior.precision * (fit.theta - prior.mean)
    information = fit.information + np.diag(prior.precision)
    return 0.5 * float(gradient @ np.linalg.solve(information, gradient))


def _starts(tracks: Tracks, n_states: int) -> Iterator[Array]:
    """Yield starts: the guess, with rarer and more frequent switching, and with D spread wider."""
    for p_switch in SWITCHING if n_states > 1 else SWITCHING[:1]:
        yield guess(tracks, n_states, p_switch)
    if n_states > 1:
        wide = guess(tracks, n_states, SWITCHING[0])
        wide[:n_states] += np.linspace(-1.5, 1.0, n_states)
        yield wide


def _with_scale(theta: Array, scale: float) -> Array:
    theta = theta.copy()
    theta[-1] = math.log(scale)
    return theta


def prior_at(theta: Array, n_states: int, errors: Errors) -> Prior:
    """Return the weak prior around `theta`, with what is known of the error scale."""
    prior = weak_prior(theta, n_states)
    mean, precision = prior.mean.copy(), prior.precision.copy()
    mean[-1] = math.log(errors.scale)
    precision[-1] = 1 / errors.spread**2
    return Prior(mean, precision)


def choice_row(fitted: Fitted) -> dict[str, Any]:
    """Return what tells for and against a number of states, as plain numbers."""
    q, n = fitted.n_parameters, max(fitted.fit.n_steps, 1)
    return {
        "states": fitted.n_states,
        "loglik": fitted.loglik,
        "n_parameters": q,
        "aic": 2 * q - 2 * fitted.loglik,
        "bic": q * math.log(n) - 2 * fitted.loglik,
        "D_um2_s": np.exp(fitted.fit.theta[: fitted.n_states]).tolist(),
    }


def answer(data: TrackTable, fitted: Fitted, tables: dict[str, Any]) -> Refit:
    """Turn a summit into the answer: parameters with intervals, and smoothed tracks."""
    model = model_of(data, fitted)
    row = choice_row(fitted)
    positions = smoothed(data, fitted)
    share = positions["p_state"].mean(axis=0).tolist()
    notes = (
        [] if fitted.fit.converged else [f"stopped off the summit, after {fitted.n_passes} passes"]
    )
    if fitted.fit.n_steps < 10 * fitted.n_parameters:
        notes.append("fewer than ten steps for each parameter: intervals are rough")
    return Refit(
        method="history",
        parameters=tuple(parameters_of(model, fitted.errors)),
        loglik=fitted.loglik,
        status="ok" if fitted.fit.converged else "not converged",
        message="; ".join(notes),
        n_iterations=fitted.n_passes,
        n_tracks=data.n_tracks,
        n_positions=data.x_um.size,
        left_out=data.left_out,
        positions=positions,
        evidence={name: float(row[name]) for name in ("n_parameters", "aic", "bic")},
        tables=tables | {"share_of_positions": share},
        seconds=0.0,
        provenance={"interval_s": data.interval_s, "exposure_s": data.exposure_s},
    )


def model_of(data: TrackTable, fitted: Fitted) -> Model:
    """Return the published model at a summit, each number with its interval."""
    cov = covariance(fitted.fit, fitted.tracks, data.interval_s, fitted.prior, lambda: None)
    found = Answer(fitted.fit.theta, cov, fitted.fit.n_steps, data.n_tracks, settled=True)
    n_states = fitted.n_states
    return to_model(found, np.ones((1, n_states)), np.zeros(1, np.int64), data.interval_s)


def parameters_of(model: Model, errors: Errors) -> Iterator[Parameter]:
    """Yield what was fitted, with 95 % intervals."""
    states = range(len(model.D_um2_s))
    for k in states:
        yield on_log(f"D_um2_s[{k}]", model.D_um2_s[k], model.D_95[k], "um2/s")
    for k in states if len(states) > 1 else ():
        name = f"occupancy[{k}]"
        yield on_logit(name, model.occupancy[k], model.occupancy_95[k])
    for j in states:
        for k in states:
            if j != k:
                name = f"p_switch[{j},{k}]"
                yield on_logit(name, model.p_switch[j, k], model.p_switch_95[j, k])
    fixed = errors.spread == HELD
    if errors.common is not None:
        scaled = np.asarray(model.error_scale_95) * errors.common
        yield on_log("sd_um", model.error_scale * errors.common, scaled, "um", fixed=fixed)
    else:
        yield on_log("error_scale", model.error_scale, model.error_scale_95, "", fixed=fixed)


def on_log(
    name: str, value: float, interval: NDArray[np.float64], unit: str, *, fixed: bool = False
) -> Parameter:
    """Return a parameter whose interval was taken on the logarithm."""
    value, low, high = float(value), float(interval[0]), float(interval[1])
    if fixed:
        return Parameter(name, value, unit=unit, fixed=True)
    return Parameter(name, value, value * math.log(high / low) / 3.92, low, high, unit)


def on_logit(name: str, value: float, interval: NDArray[np.float64]) -> Parameter:
    """Return a probability whose interval was taken on the logit."""
    value, low, high = float(value), float(interval[0]), float(interval[1])
    low, high = max(low, 1e-300), min(high, 1 - 1e-16)
    width = math.log(high / (1 - high)) - math.log(low / (1 - low))
    return Parameter(name, value, value * (1 - value) * width / 3.92, low, high)


def smoothed(data: TrackTable, fitted: Fitted) -> NDArray[np.void]:
    """Return every position given the whole of its track."""
    labels = np.zeros(data.x_um.size, [("track_id", "i8"), ("frame", "i8")])
    labels["track_id"], labels["frame"] = data.track, data.frame
    if isinstance(fitted.tracks, Tracks):
        table = smooth_at(fitted.fit.theta, labels, fitted.tracks, data.interval_s)
    else:
        table = fitted.tracks.smooth(fitted.fit.theta, data.interval_s)
        for name in ("track_id", "frame"):
            table[name] = labels[name]
    out = np.zeros(len(table), positions_dtype(fitted.n_states))
    for name in out.dtype.names or ():
        out[name] = table["track_id" if name == "track" else name]
    return out
