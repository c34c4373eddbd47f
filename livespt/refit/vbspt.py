"""vbSPT's model (Persson 2013): variational Bayes over steps, no errors, no blur.

A step dx has two axes of variance 2 D dt; g_j = 1 / (4 D_j dt) ~ Gamma(n_j, rate c_j) and the rows
of the transition matrix ~ Dirichlet(w_j). Given q(s) = p:

    n_j = n0 + sum_t p_tj,   c_j = c0 + sum_t p_tj |dx_t|^2,   w = w0 + expected transitions

and q(s) is forward-backward on ln h_j = psi(n_j) - ln(pi c_j) - (n_j / c_j) |dx|^2 with
exp(psi(w_jk) - psi(sum_k w_jk)) for the transitions: `emkernels.fit_states` with lambda = c / 2 n,
its 1 / lambda mended by a factor exp(psi(n) - ln n) that rides on the transitions into j.

The bound ln Z - KL(q(g)) - KL(q(A)) - KL(q(first)) chooses the number of states. Priors in the
authors' manner, the matrix's being ours: D of 1 um2/s with the weight of 5 steps; a row of the
matrix counts `ROW` steps, one of them a switch; first states count 5. A gap cuts the track.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma, gammaln
from scipy.stats import beta, gamma

from livespt.infer.answerkernels import Z95
from livespt.infer.arrays import Array, Ints
from livespt.refit.em_rounds import LN_2PI, Laid, blank
from livespt.refit.emkernels import Beliefs, Chain, Rows, fit_states
from livespt.refit.history import MOST_STATES, check_states
from livespt.refit.result import Parameter, Refit, RefitError, positions_dtype
from livespt.refit.single import OFF_TIME
from livespt.refit.tracks import TrackTable, fit_to_use

#: Priors: D (um2/s) and its weight in steps; steps that a row of A counts; first states.
PRIOR_D, PRIOR_STEPS, ROW, FIRST = 1.0, 5.0, 10.0, 5.0
#: The rounds end when the bound changes by less, relative to itself.
SAME_BOUND, ROUNDS = 1e-9, 1000


class Steps(NamedTuple):
    """Runs of frames that follow each other, as the kernel wants them."""

    laid: Laid
    place: Array  # (n_nodes, 2)
    position: Ints  # (n_nodes,) row of the table of each node


class Posterior(NamedTuple):
    """Gamma(n, c) of 1 / (4 D dt), Dirichlet(w) of the rows of A, Dirichlet(first)."""

    n: Array
    c: Array
    w: Array
    first: Array


class Found(NamedTuple):
    """Where the rounds ended."""

    posterior: Posterior
    beliefs: Beliefs
    bound: float
    n_rounds: int
    converged: bool


def fit_vbspt(data: TrackTable, *, states: int | str = 2, starts: int = 5, seed: int = 1) -> Refit:
    """Fit by variational Bayes over the steps.

    Parameters
    ----------
    data : TrackTable
    states : int or "auto"
        1 to 4; "auto" takes the number with the greatest bound on the evidence.
    starts, seed : int
        Starts are drawn around the quantiles of the squared steps; the best bound is kept.

    Raises
    ------
    RefitError
        No two frames that follow each other, or a setting that cannot be.
    """
    if starts < 1:
        raise RefitError(f"starts: {starts}; expected 1 or more")
    data = fit_to_use(data)
    steps = lay_steps(data)
    wanted = range(1, MOST_STATES + 1) if states == "auto" else (check_states(states),)
    fits = [_best(steps, data.interval_s, k, starts, seed) for k in wanted]
    best = max(fits, key=lambda found: found.bound)
    rows = [_choice_row(found, data.interval_s) for found in fits] if states == "auto" else []
    return _answer(data, steps, best, {"choice": rows} if rows else {}, seed)


def lay_steps(data: TrackTable) -> Steps:
    """Cut tracks at gaps and lay out what is left of two positions or more.

    Raises
    ------
    RefitError
        Nothing is left.
    """
    off = np.abs(np.diff(data.t_s) / data.interval_s - 1) > OFF_TIME
    joined = (np.diff(data.track) == 0) & ~off
    run = np.concatenate([[0], np.cumsum(~joined)])
    length = np.bincount(run)
    kept = np.flatnonzero(length[run] > 1)
    if kept.size == 0:
        raise RefitError(f"{data.source}: no two frames of a track follow each other")
    n_steps = length[length > 1] - 1
    first = np.concatenate([[0], np.cumsum(n_steps)]).astype(np.int64)
    n = int(first[-1])
    rows = Rows(first, np.zeros(n), np.zeros((n, 2)), np.ones((n, 2)))
    place = np.stack([data.x_um[kept], data.y_um[kept]], axis=1)
    return Steps(Laid(rows, np.arange(n), 0.0, 0.0), place, kept)


def _best(steps: Steps, interval_s: float, k: int, starts: int, seed: int) -> Found:
    rng = np.random.default_rng([seed, k])
    inside = np.ones(len(steps.place) - 1, bool)
    first = steps.laid.rows.first
    inside[first[1:-1] + np.arange(first.size - 2)] = False
    squares = (np.diff(steps.place, axis=0) ** 2).sum(axis=1)[inside]
    best: Found | None = None
    for i in range(starts if k > 1 else 1):
        at = (np.arange(k) + 0.5) / k if i == 0 else np.sort(rng.random(k))
        spread = np.maximum(np.quantile(squares, at), 1e-3 * squares.mean()) + 1e-300
        found = climb(steps, interval_s, spread)
        if best is None or found.bound > best.bound:
            best = found
    assert best is not None
    return _ordered(best)


def climb(steps: Steps, interval_s: float, mean_square: Array) -> Found:
    """Go round from states of these mean squared steps (um2) until the bound stays."""
    rows, k = steps.laid.rows, mean_square.size
    q, prior = blank(steps.laid, k), _prior(interval_s, k)
    q.mu[:] = steps.place
    n = np.full(k, PRIOR_STEPS + rows.seen.size / k)
    now = Posterior(n, n * mean_square, prior.w + 1, prior.first + 1)
    bound = -math.inf
    for i in range(1, ROUNDS + 1):
        before, bound = bound, expect(rows, now, prior, q)
        if abs(bound - before) < SAME_BOUND * abs(bound):
            return Found(now, q, bound, i, True)
        now = Posterior(
            prior.n + q.p.sum(axis=0), prior.c + q.dy2 @ q.p, prior.w + q.pairs,
            prior.first + q.starts,
        )  # fmt: skip
    return Found(now, q, bound, ROUNDS, False)


def _prior(interval_s: float, k: int) -> Posterior:
    c0 = 4 * PRIOR_D * interval_s * (PRIOR_STEPS - 1)
    w = np.full((k, k), 1 / max(k - 1, 1))
    np.fill_diagonal(w, ROW - 1)
    return Posterior(np.full(k, PRIOR_STEPS), np.full(k, c0), w, np.full(k, FIRST / k))


def expect(rows: Rows, now: Posterior, prior: Posterior, q: Beliefs) -> float:
    """Write q(s); return the bound on the log evidence of the steps."""
    mend = np.exp(digamma(now.n) - np.log(now.n))
    A = np.exp(digamma(now.w) - digamma(now.w.sum(axis=1))[:, None]) * mend
    begin = np.exp(digamma(now.first) - digamma(now.first.sum())) * mend
    ln_z = fit_states(rows, Chain(now.c / (2 * now.n), A, begin, 0.0, 0.0), q)
    divergence = float(_gamma_kl(now, prior).sum())
    for row, before in ((now.first, prior.first), *zip(now.w, prior.w, strict=True)):
        divergence += _dirichlet_kl(row, before)
    return ln_z - LN_2PI * rows.seen.size - divergence


def _gamma_kl(a: Posterior, b: Posterior) -> Array:
    """Kullback-Leibler divergence of Gamma(a.n, a.c) from Gamma(b.n, b.c)."""
    shape = (a.n - b.n) * digamma(a.n) - gammaln(a.n) + gammaln(b.n)
    return shape + b.n * np.log(a.c / b.c) + a.n * (b.c / a.c - 1)


def _dirichlet_kl(a: Array, b: Array) -> float:
    """Kullback-Leibler divergence of Dirichlet(a) from Dirichlet(b)."""
    norm = gammaln(a.sum()) - gammaln(b.sum()) - float((gammaln(a) - gammaln(b)).sum())
    return float(norm + (a - b) @ (digamma(a) - digamma(a.sum())))


def _ordered(found: Found) -> Found:
    at = found.posterior
    order = np.argsort(at.c / at.n)
    now = Posterior(at.n[order], at.c[order], at.w[np.ix_(order, order)], at.first[order])
    q = found.beliefs._replace(p=found.beliefs.p[:, order])
    return found._replace(posterior=now, beliefs=q)


def _choice_row(found: Found, interval_s: float) -> dict[str, Any]:
    at = found.posterior
    return {
        "states": at.n.size,
        "bound": found.bound,
        "D_um2_s": (at.c / (4 * interval_s * (at.n - 1))).tolist(),
    }


def _answer(
    data: TrackTable, steps: Steps, found: Found, tables: dict[str, Any], seed: int
) -> Refit:
    n_used = steps.position.size
    positions = _positions(data, steps, found)
    cut = data.x_um.size - n_used
    return Refit(
        method="vbspt",
        parameters=tuple(_parameters(data, found, positions)),
        loglik=None,
        status="ok" if found.converged else "not converged",
        message="D as it is, errors and blur in it; positions are taken for exact",
        n_iterations=found.n_rounds,
        n_tracks=data.n_tracks,
        n_positions=n_used,
        left_out=data.left_out | {"positions without a neighbour in time": cut},
        positions=positions,
        evidence={"bound": found.bound},
        tables=tables | {"share_of_positions": positions["p_state"].mean(axis=0).tolist()},
        seconds=0.0,
        provenance={"interval_s": data.interval_s, "seed": seed},
    )


def _positions(data: TrackTable, steps: Steps, found: Found) -> NDArray[np.void]:
    """Each position takes the state of the step that leaves it, the last one of the step before."""
    rows, at = steps.laid.rows, steps.position
    run = np.repeat(np.arange(rows.first.size - 1), np.diff(rows.first) + 1)
    step = np.minimum(np.arange(at.size) - run, rows.first[run + 1] - 1)
    out = np.zeros(at.size, positions_dtype(found.posterior.n.size))
    out["track"], out["frame"] = data.track[at], data.frame[at]
    out["x_um"], out["y_um"] = steps.place.T
    if data.sd_um is not None:
        out["var_x_um2"], out["var_y_um2"] = data.sd_um[at].T ** 2
    out["p_state"] = found.beliefs.p[step]
    return out


def _parameters(data: TrackTable, found: Found, positions: NDArray[np.void]) -> list[Parameter]:
    """Return posterior means with the posterior's 95 % intervals."""
    at, out, unit = found.posterior, [], 4 * data.interval_s
    for j in range(at.n.size):
        n, c = float(at.n[j]), float(at.c[j])
        low, high = c / (unit * gamma.ppf([0.975, 0.025], n))
        mean = c / (unit * (n - 1))
        sd = mean / math.sqrt(n - 2)
        out.append(Parameter(f"D_um2_s[{j}]", mean, sd, float(low), float(high), "um2/s"))
    tracks = np.flatnonzero(np.diff(positions["track"], prepend=positions["track"][0] - 1))
    for j in range(at.n.size if at.n.size > 1 else 0):
        p = positions["p_state"][:, j]
        share = float(p.mean())
        sd = float(np.sqrt((np.add.reduceat(p - share, tracks) ** 2).sum()) / p.size)
        low, high = max(share - Z95 * sd, 0.0), min(share + Z95 * sd, 1.0)
        out.append(Parameter(f"occupancy[{j}]", share, sd, low, high))
    for i, j in np.ndindex(*at.w.shape):
        if i != j:
            a, b = float(at.w[i, j]), float(at.w[i].sum() - at.w[i, j])
            low, high = beta.ppf([0.025, 0.975], a, b)
            mean = a / (a + b)
            sd = math.sqrt(mean * (1 - mean) / (a + b + 1))
            out.append(Parameter(f"p_switch[{i},{j}]", mean, sd, float(low), float(high)))
    return out
