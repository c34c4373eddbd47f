"""Linden's variational EM for a diffusive hidden Markov model, and its two limits.

`em` knows blur and pointwise errors; `em-kalman` takes exposures for instants (tau = R = 0);
`em-vbspt` takes positions for exact too (v = 0). The rounds are `emkernels`; they stop when the
parameters change by less than 1e-3 and the bound by less than 1e-8 of itself, four times running.

The bound has many summits and is biased even when it is started at the truth (Linden 2017 and our
own trials): states and path are taken as independent. `history` has neither fault; this is here
because people know it.

Intervals are those of `em_errors`: of the same model's likelihood, with the EM's distance from its
summit. Missing frames are rows without a position; a gap longer than `em_rounds.MOST_MISSING` cuts
the track.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from livespt.infer.answerkernels import Z95
from livespt.infer.arrays import Array
from livespt.infer.fit import guess
from livespt.refit.em_errors import Errors, errors_at
from livespt.refit.em_rounds import (
    Found,
    Kind,
    Laid,
    chain_of,
    climb,
    lay_out,
    off_diagonal,
)
from livespt.refit.emkernels import refine
from livespt.refit.history import MOST_STATES, check_states, errors_of, tracks_of
from livespt.refit.result import Parameter, Refit, RefitError, positions_dtype
from livespt.refit.tracks import TrackTable, fit_to_use

#: Rounds from one start, at most.
ROUNDS = 2000


def fit_em(
    data: TrackTable,
    *,
    states: int | str = 2,
    starts: int = 5,
    seed: int = 1,
    D_um2_s: tuple[float, ...] | None = None,
    p_switch: float = 0.05,
    sd_um: float | None = None,
) -> Refit:
    """Fit by variational EM with blur and pointwise errors.

    Parameters
    ----------
    data : TrackTable
    states : int or "auto"
        1 to 4; "auto" takes the number with the least BIC of the bound.
    starts : int
        The first at `D_um2_s` (or guessed), the others drawn around it; the best bound is kept.
    seed : int
        Of the draws.
    D_um2_s, p_switch : optional
        Where to start.
    sd_um : float, optional
        One error for all rows, in the place of the table's.

    Raises
    ------
    RefitError
        Nothing to fit, no standard errors, or a setting that cannot be.
    """
    search = _Search(starts, seed, D_um2_s, p_switch)
    return _fit(data, Kind("em", True, True), states, search, sd_um)


def fit_em_kalman(
    data: TrackTable,
    *,
    states: int | str = 2,
    starts: int = 5,
    seed: int = 1,
    D_um2_s: tuple[float, ...] | None = None,
    p_switch: float = 0.05,
    sd_um: float | None = None,
) -> Refit:
    """Fit by variational EM without blur; settings as `fit_em`."""
    search = _Search(starts, seed, D_um2_s, p_switch)
    return _fit(data, Kind("em-kalman", False, True), states, search, sd_um)


def fit_em_vbspt(
    data: TrackTable,
    *,
    states: int | str = 2,
    starts: int = 5,
    seed: int = 1,
    D_um2_s: tuple[float, ...] | None = None,
    p_switch: float = 0.05,
) -> Refit:
    """Fit by EM without blur and without errors; settings as `fit_em`."""
    search = _Search(starts, seed, D_um2_s, p_switch)
    return _fit(data, Kind("em-vbspt", False, False), states, search, None)


class _Search(NamedTuple):
    starts: int
    seed: int
    D_um2_s: tuple[float, ...] | None
    p_switch: float


def _fit(
    data: TrackTable, kind: Kind, states: int | str, search: _Search, sd_um: float | None
) -> Refit:
    if search.starts < 1 or not 0 < search.p_switch < 1:
        raise RefitError("starts: expected 1 or more; p_switch: expected 0 < p < 1")
    data = fit_to_use(data)
    laid = lay_out(data, kind, sd_um)
    wanted = range(1, MOST_STATES + 1) if states == "auto" else (check_states(states),)
    fits = [_best(data, laid, k, search) for k in wanted]
    rows = [_choice_row(laid, found, data) for found in fits]
    best = int(np.argmin([row["bic"] for row in rows]))
    tables = {"choice": rows} if states == "auto" else {}
    return _answer(data, kind, laid, fits[best], rows[best], tables, search.seed)


def _best(data: TrackTable, laid: Laid, n_states: int, search: _Search) -> Found:
    """Return the best of several starts, states ordered by D."""
    rng = np.random.default_rng([search.seed, n_states])
    if search.D_um2_s is not None and len(search.D_um2_s) == n_states:
        D = np.asarray(search.D_um2_s, dtype=np.float64)
    else:
        errors = errors_of(data._replace(sd_um=np.sqrt(laid.rows.v[laid.at])), 1.0)
        D = np.exp(guess(tracks_of(data, errors), n_states, 0.05)[:n_states])
    if not (np.isfinite(D).all() and (D > 0).all()):
        raise RefitError(f"D_um2_s: {D.tolist()}; expected numbers > 0")
    best: Found | None = None
    for i in range(search.starts if n_states > 1 else 1):
        leave = search.p_switch if i == 0 else 10 ** rng.uniform(-2.5, -0.5)
        off = np.exp(rng.normal(0, 1, n_states) * (i > 0))
        chain = chain_of(np.sort(D * off), leave, laid, data.interval_s)
        found = climb(laid, chain, ROUNDS)
        if best is None or found.bound > best.bound:
            best = found
    assert best is not None
    return _ordered(best)


def _ordered(found: Found) -> Found:
    order = np.argsort(found.chain.lam)
    chain, q = found.chain, found.beliefs
    chain = chain._replace(
        lam=chain.lam[order],
        A=np.ascontiguousarray(chain.A[np.ix_(order, order)]),
        begin=chain.begin[order],
    )
    pairs = np.ascontiguousarray(q.pairs[np.ix_(order, order)])
    q = q._replace(p=np.ascontiguousarray(q.p[:, order]), pairs=pairs, starts=q.starts[order])
    return found._replace(chain=chain, beliefs=q)


def _choice_row(laid: Laid, found: Found, data: TrackTable) -> dict[str, Any]:
    k = found.chain.lam.size
    n_parameters, n = k * k + k - 1, max(laid.at.size - data.n_tracks, 1)
    return {
        "states": k,
        "bound": found.bound,
        "n_parameters": n_parameters,
        "aic": 2 * n_parameters - 2 * found.bound,
        "bic": n_parameters * math.log(n) - 2 * found.bound,
        "D_um2_s": (found.chain.lam / (2 * data.interval_s)).tolist(),
    }


def _answer(
    data: TrackTable,
    kind: Kind,
    laid: Laid,
    found: Found,
    row: dict[str, Any],
    tables: dict[str, Any],
    seed: int,
) -> Refit:
    positions = _positions(data, laid, found)
    errors = errors_at(data, kind, laid, found)
    parameters = _parameters(data, found, positions["p_state"], errors)
    notes = ["intervals by the likelihood of the same model, which hold the distance to its summit"]
    if not found.converged:
        notes.append("the rounds ended before the rule of convergence was met")
    if not kind.errors:
        notes.append("positions are taken for exact: none is refined")
    share = positions["p_state"].mean(axis=0).tolist()
    return Refit(
        method=kind.name,
        parameters=(*parameters, *_corrected(data, kind, parameters)),
        loglik=None,
        status="ok" if found.converged else "not converged",
        message="; ".join(notes),
        n_iterations=found.n_rounds,
        n_tracks=data.n_tracks,
        n_positions=data.x_um.size,
        left_out=data.left_out,
        positions=positions,
        evidence={name: float(row[name]) for name in ("bound", "n_parameters", "aic", "bic")},
        tables=tables | {"share_of_positions": share},
        seconds=0.0,
        provenance={"interval_s": data.interval_s, "exposure_s": data.exposure_s, "seed": seed},
    )


def _positions(data: TrackTable, laid: Laid, found: Found) -> NDArray[np.void]:
    n = laid.rows.seen.size
    place, var = np.empty((n, 2)), np.empty((n, 2))
    refine(laid.rows, found.chain, found.beliefs, place, var)
    out = np.zeros(data.x_um.size, positions_dtype(found.chain.lam.size))
    out["track"], out["frame"] = data.track, data.frame
    out["x_um"], out["y_um"] = place[laid.at].T
    out["var_x_um2"], out["var_y_um2"] = var[laid.at].T
    out["p_state"] = found.beliefs.p[laid.at]
    return out


def _parameters(data: TrackTable, found: Found, p_state: Array, errors: Errors) -> list[Parameter]:
    """Return all parameters; `errors` are those of ln D, of the logits and of occupancies."""
    k, sd = found.chain.lam.size, errors.sd
    D = found.chain.lam / (2 * data.interval_s)
    out = [
        Parameter(
            f"D_um2_s[{j}]",
            float(D[j]),
            float(D[j] * sd[j]),
            float(D[j] * math.exp(-Z95 * sd[j])),
            float(D[j] * math.exp(Z95 * sd[j])),
            "um2/s",
        )
        for j in range(k)
    ]
    out += _occupancy(data, p_state, errors.occupancy) if k > 1 else []
    for at, (i, j) in enumerate(off_diagonal(k)):
        p, width = float(found.chain.A[i, j]), float(sd[k + at])
        odds = max(p, 1e-12) / max(1 - p, 1e-12)
        low, high = odds * math.exp(-Z95 * width), odds * math.exp(Z95 * width)
        name, spread = f"p_switch[{i},{j}]", p * (1 - p) * width
        out.append(Parameter(name, p, spread, low / (1 + low), high / (1 + high)))
    return out


def _occupancy(data: TrackTable, p: Array, away: Array) -> list[Parameter]:
    """Return the share of positions in each state.

    Its error is the spread between tracks, and how far the rates are `away` from their summit.
    """
    share, out = p.mean(axis=0), []
    for j, value in enumerate(share.tolist()):
        off = np.add.reduceat(p[:, j] - value, data.first[:-1])
        sd = math.hypot(float(np.sqrt((off**2).sum()) / len(p)), float(away[j]))
        low, high = max(value - Z95 * sd, 0.0), min(value + Z95 * sd, 1.0)
        out.append(Parameter(f"occupancy[{j}]", value, sd, low, high))
    return out


def _corrected(data: TrackTable, kind: Kind, parameters: list[Parameter]) -> list[Parameter]:
    """Return D of the simpler models, made to explain the mean squared step (Linden's eq. 9)."""
    if kind.blur:
        return []
    R = data.exposure_s / (6 * data.interval_s)
    known = kind.errors or data.sd_um is None
    taken = 0.0 if known else float((np.asarray(data.sd_um) ** 2).mean()) / data.interval_s
    out = []
    for p in parameters:
        if p.name.startswith("D_um2_s") and p.sd is not None:
            D = (p.value - taken) / (1 - 2 * R)
            sd = p.sd / (1 - 2 * R)
            name = p.name.replace("D_", "D_corrected_")
            out.append(Parameter(name, D, sd, D - Z95 * sd, D + Z95 * sd, p.unit))
    return out
