"""ExTrack's model as one of the methods of `livespt.refit`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from livespt.refit.extrack.arrays import Array
from livespt.refit.extrack.fitting import fit
from livespt.refit.extrack.likelihood import Problem, make_problem
from livespt.refit.extrack.model import Frame, error_names
from livespt.refit.extrack.parameters import generate_params, tie_fractions
from livespt.refit.extrack.series import Laid, lay_out
from livespt.refit.extrack.states import States, annotate, plain_values
from livespt.refit.result import Parameter, Refit, RefitError, positions_dtype
from livespt.refit.tracks import TrackTable

_Z = 1.959963984540054
#: Longest gap within a track, in frames, that is filled with unseen rows.
MOST_GAP = 1000


def refit_tracks(
    tracks: TrackTable,
    *,
    states: int | str | Sequence[int] = 2,
    frame_len: int = 6,
    n_substeps: int = 1,
    steady_state: bool = False,
    cell_um: tuple[float, ...] = (),
    known_errors: bool = True,
    blur: bool = True,
    D_max_um2_s: float = 100.0,
    workers: int = 1,
) -> Refit:
    """Fit switching diffusion by ExTrack's likelihood.

    Parameters
    ----------
    tracks : TrackTable
    states : int, list of int, or "auto"
        Of several ("auto": 1 to 3), the number with the least BIC is kept; all are in
        `tables["choice"]`.
    frame_len, n_substeps, steady_state, workers
        As in `param_fitting`.
    cell_um : tuple of float
        Sides over which a molecule can leave; none: it ends by bleaching alone.
    known_errors : bool
        Use the table's standard errors where it has them; otherwise one error is fitted.
    blur : bool
        Count in motion during the exposure (ExTrack itself does not).
    D_max_um2_s : float

    Raises
    ------
    RefitError
        Tracks or settings that cannot be used.
    """
    numbers = _numbers(states)
    laid = _laid(tracks, known_errors)
    exposure = tracks.exposure_s if blur else 0.0
    found: dict[int, tuple[Any, Problem]] = {}
    for number in numbers:
        frame = Frame(number, n_substeps, tracks.interval_s, tuple(cell_um))
        problem = make_problem(laid, frame, frame_len, exposure, workers)
        params = _params(tracks, laid, number, D_max_um2_s)
        if steady_state:
            tie_fractions(params, number, n_substeps)
        found[number] = (fit(params, problem), problem)
    best = min(found, key=lambda number: found[number][0].bic)
    result, problem = found[best]
    beliefs = annotate(plain_values(result.params), problem)
    order = np.argsort([result.params[f"D{k}"].value for k in range(best)])
    share = beliefs.p_state[laid.series.seen].mean(axis=0)[order].tolist()
    choice = [
        {
            "states": n,
            "loglik": -float(r.residual[0]),
            "n_parameters": r.nvarys,
            "aic": r.aic,
            "bic": r.bic,
            "D_um2_s": sorted(float(r.params[f"D{k}"].value) for k in range(n)),
        }
        for n, (r, _) in found.items()
    ]
    return Refit(
        method="extrack", parameters=_parameters(result, order), status=_status(result),
        loglik=-float(result.residual[0]), message=result.message, n_iterations=result.nit,
        n_tracks=laid.n_tracks, n_positions=laid.n_seen,
        left_out={**tracks.left_out, "tracks with one position": laid.left_out[_SHORT]},
        positions=_positions(tracks, laid, beliefs, order),
        evidence={"aic": result.aic, "bic": result.bic, "n_parameters": float(result.nvarys)},
        tables={"choice": choice, "share_of_positions": share}, seconds=0.0, provenance={},
    )  # fmt: skip


_SHORT = "fewer than two positions"
#: What "auto" chooses from.
_AUTO = (1, 2, 3)


def _numbers(states: int | str | Sequence[int]) -> list[int]:
    """Return the numbers of states to fit."""
    asked = _AUTO if states == "auto" else [states] if isinstance(states, int) else states
    if isinstance(asked, str) or not asked or not all(isinstance(k, int) and k > 0 for k in asked):
        raise RefitError(f"states: {states!r}; expected a number, a list of numbers, or auto")
    return list(asked)


def _laid(tracks: TrackTable, known_errors: bool) -> Laid:
    """Lay the tracks out, one row a frame; frames that were not seen become empty rows."""
    places, errors, times = [], [], []
    known = known_errors and tracks.sd_um is not None
    for low, high in zip(tracks.first[:-1], tracks.first[1:], strict=True):
        t = tracks.t_s[low:high]
        row = np.rint((t - t[0]) / tracks.interval_s).astype(np.int64)
        row = np.maximum.accumulate(row + np.cumsum(np.diff(row, prepend=-1) == 0))
        if row.size > 1 and np.diff(row).max() > MOST_GAP:
            name = tracks.track[low]
            raise RefitError(
                f"{tracks.source}: track {name} has a gap of {np.diff(row).max()} frames; "
                f"expected up to {MOST_GAP}"
            )
        place = np.full((row[-1] + 1, 2), np.nan)
        place[row] = np.stack([tracks.x_um[low:high], tracks.y_um[low:high]], axis=1)
        error = np.zeros((row[-1] + 1, 2))
        if known and tracks.sd_um is not None:
            error[row] = tracks.sd_um[low:high]
        at = np.interp(np.arange(row[-1] + 1), row, t)
        places.append(place)
        errors.append(error)
        times.append(np.append(np.diff(at), tracks.interval_s))
    return lay_out(places, times, errors if known else None, tracks.source)


def _params(tracks: TrackTable, laid: Laid, n_states: int, D_max: float) -> Any:
    """Start from the displacements: D spread over their quantiles."""
    steps = _steps(laid)
    rough = np.quantile(steps, (np.arange(n_states) + 0.5) / n_states) / (4 * laid.interval_s)
    starts = [float(np.clip(D, 1e-4, 0.5 * D_max)) for D in rough]
    for k in range(1, n_states):
        starts[k] = min(max(starts[k], 2 * starts[k - 1]), 0.9 * D_max)
    kind = None if laid.error_um is not None else 1
    return generate_params(
        n_states, kind, 2, (0.001, 0.3), D_max, (1e-4, 1 - 1e-4), estimated_Ds=starts,
        estimated_LocErr=[0.03], estimated_transition_rates=0.1,
    )  # fmt: skip


def _steps(laid: Laid) -> Array:
    """Return the squared displacements between rows that were both seen."""
    series = laid.series
    both = series.seen[1:] & series.seen[:-1]
    both[series.first[1:-1] - 1] = False
    found = (np.diff(series.x_um, axis=0)[both] ** 2).sum(axis=1)
    return found if found.size else np.array([4 * laid.interval_s * 0.1])


def _status(result: Any) -> str:
    if not result.success:
        return "not converged"
    return "ok" if result.errorbars else "too few data"


def _parameters(result: Any, order: NDArray[np.intp]) -> tuple[Parameter, ...]:
    params, K = result.params, len(order)
    wanted = [(f"D{k}", f"D_um2_s[{a}]", "um2/s") for a, k in enumerate(order)]
    wanted += [(f"F{k}", f"fraction[{a}]", "") for a, k in enumerate(order)]
    wanted += [
        (f"p{order[a]}{order[b]}", f"rate[{a},{b}]", "1/frame")
        for a in range(K)
        for b in range(K)
        if a != b
    ]
    wanted += [("pBL", "p_bleach", "1/frame")]
    wanted += [(name, "sd_um", "um") for name in error_names(list(params))]
    return tuple(_parameter(params[name], called, unit) for name, called, unit in wanted)


def _parameter(param: Any, called: str, unit: str) -> Parameter:
    value, sd = float(param.value), param.stderr
    if sd is None:
        fixed = not param.vary and param.expr is None
        return Parameter(called, value, unit=unit, fixed=fixed)
    low, high = value - _Z * sd, value + _Z * sd
    bounded = unit == "" or value > 0
    return Parameter(called, value, sd, max(low, 0.0) if bounded else low, high, unit)


def _positions(
    tracks: TrackTable, laid: Laid, states: States, order: NDArray[np.intp]
) -> np.ndarray:
    """Return one row for each position that the fit used, the states ordered by D."""
    seen = laid.series.seen
    out = np.zeros(int(seen.sum()), positions_dtype(len(order)))
    used = [np.arange(int(tracks.first[i]), int(tracks.first[i + 1])) for i in laid.origin[:, 0]]
    rows = np.concatenate(used)
    out["track"], out["frame"] = tracks.track[rows], tracks.frame[rows]
    out["x_um"], out["y_um"] = states.mean_um[seen].T
    out["var_x_um2"], out["var_y_um2"] = states.var_um2[seen].T
    out["p_state"] = states.p_state[seen][:, order]
    return out
