"""The rounds of the variational EM: tracks laid out frame by frame, and the climb.

What one round does is in `emkernels`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from livespt.infer.arrays import Array, Ints
from livespt.refit.emkernels import (
    Beliefs,
    Chain,
    Rows,
    fit_paths,
    fit_states,
    maximise,
)
from livespt.refit.history import errors_of
from livespt.refit.result import RefitError
from livespt.refit.tracks import TrackTable

#: The rule of convergence.
SAME_PARAMETERS, SAME_BOUND, TIMES = 1e-3, 1e-8, 4
#: Frames in a row without a position, beyond which the track is cut.
MOST_MISSING = 50
#: Variance (um2) that stands for none, as a share of a mean squared step.
EXACT = 1e-9
LN_2PI = math.log(2 * math.pi)


class Kind(NamedTuple):
    """Which of the three models."""

    name: str
    blur: bool
    errors: bool


class Laid(NamedTuple):
    """A table laid out frame by frame."""

    rows: Rows
    at: Ints  # (n,) row of each position
    tau: float
    beta: float


class Found(NamedTuple):
    """Where the rounds ended."""

    chain: Chain
    beliefs: Beliefs
    bound: float
    n_rounds: int
    converged: bool


def lay_out(data: TrackTable, kind: Kind, sd_um: float | None = None) -> Laid:
    """Lay tracks out frame by frame, with rows for the frames in which nothing was seen.

    Raises
    ------
    RefitError
        Standard errors are needed and not known.
    """
    if kind.errors and data.sd_um is None and sd_um is None:
        raise RefitError(f"{data.source}: {kind.name} needs standard errors; give sd_um (um)")
    inside = np.diff(data.track) == 0
    apart = np.maximum(1, np.floor(np.diff(data.t_s) / data.interval_s + 0.5)).astype(np.int64)
    joined = inside & (apart <= MOST_MISSING)
    at = np.concatenate([[0], np.cumsum(np.where(joined, apart, 1))])
    n = int(at[-1]) + 1
    first = np.concatenate([at[np.flatnonzero(~joined) + 1], [n]])
    seen, x, v = np.zeros(n), np.zeros((n, 2)), np.ones((n, 2))
    seen[at] = 1.0
    x[at, 0], x[at, 1] = data.x_um, data.y_um
    if kind.errors:
        v[at] = errors_of(data, 1.0, sd_um).sd_um ** 2
    else:
        squares = np.diff(data.x_um) ** 2 + np.diff(data.y_um) ** 2
        v[:] = EXACT * float(squares[inside].mean())
    share = data.exposure_s / data.interval_s if kind.blur else 0.0
    tau, R = share / 2, share / 6
    rows = Rows(np.concatenate([[0], first]).astype(np.int64), seen, x, v)
    return Laid(rows, at, tau, tau * (1 - tau) - R)


def blank(laid: Laid, n_states: int) -> Beliefs:
    """Allocate a posterior that prefers no state."""
    n, k = laid.rows.seen.size, n_states
    nodes = n + laid.rows.first.size - 1
    return Beliefs(
        mu=np.zeros((nodes, 2)),
        var=np.zeros((nodes, 2)),
        lag=np.zeros((n, 2)),
        p=np.full((n, k), 1 / k),
        dy2=np.zeros(n),
        c=np.zeros((n, 2)),
        h=np.zeros((n, k)),
        pairs=np.zeros((k, k)),
        starts=np.zeros(k),
        row=np.zeros(k),
    )


def expect(laid: Laid, chain: Chain, q: Beliefs) -> float:
    """Write q(y), then q(s); return the bound on the log-likelihood (nats)."""
    ln_det = fit_paths(laid.rows, chain, q)
    ln_z = fit_states(laid.rows, chain, q)
    entropy = q.mu.shape[0] * (1 + LN_2PI) - 0.5 * ln_det
    return ln_z + entropy - LN_2PI * (laid.rows.seen.size + laid.at.size)


def climb(laid: Laid, chain: Chain, rounds: int) -> Found:
    """Go round from `chain` until the rule of convergence is met."""
    q = blank(laid, chain.lam.size)
    bound, same = -math.inf, 0
    for n in range(1, rounds + 1):
        before, old = bound, _flat(chain)
        bound = expect(laid, chain, q)
        maximise(laid.rows, chain, q)
        change = np.abs(_flat(chain) - old) / np.maximum(np.abs(old), SAME_PARAMETERS)
        still = abs(bound - before) < SAME_BOUND * abs(bound)
        same = same + 1 if still and change.max() < SAME_PARAMETERS else 0
        if same == TIMES:
            return Found(chain, q, expect(laid, chain, q), n, True)
    return Found(chain, q, expect(laid, chain, q), rounds, False)


def _flat(chain: Chain) -> Array:
    return np.concatenate([chain.lam, chain.A.ravel()])


def chain_of(D: Array, p_switch: float, laid: Laid, interval_s: float) -> Chain:
    """Return the parameters that leave each state with probability `p_switch`."""
    k = D.size
    A = np.full((k, k), p_switch / max(k - 1, 1))
    np.fill_diagonal(A, 1 - p_switch if k > 1 else 1.0)
    return Chain(2 * D * interval_s, A, np.full(k, 1 / k), laid.tau, laid.beta)


def off_diagonal(k: int) -> list[tuple[int, int]]:
    """Return the places of the switching probabilities, row by row."""
    return [(i, j) for i in range(k) for j in range(k) if i != j]
