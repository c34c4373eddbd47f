"""The rounds of the variational EM against their naive twin, and what must hold of the bound."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from livespt.refit.em_rounds import Kind, Laid, blank, climb, expect, lay_out
from livespt.refit.emkernels import Chain, Rows, best_lambda, maximise, refine
from livespt.refit.tracks import make_tracks

_spec = importlib.util.spec_from_file_location("naive_em", Path(__file__).with_name("naive_em.py"))
naive = sys.modules["naive_em"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(naive)

SHARES = [1.0, 0.3, 0.0]  # of the frame that the shutter is open; 0: no blur


def a_track(rng, T, n_missing=0):
    """A walk with an error for each axis and row; some rows unseen."""
    seen = np.ones(T)
    seen[rng.choice(np.arange(1, T - 1), n_missing, replace=False)] = 0.0
    x = np.cumsum(rng.normal(0, 0.1, (T, 2)), axis=0)
    return naive.Track(seen, x, rng.uniform(0.01, 0.05, (T, 2)) ** 2)


def laid_of(tracks, share):
    """The tracks as the kernels want them."""
    first = np.concatenate([[0], np.cumsum([len(t.x) for t in tracks])]).astype(np.int64)
    rows = Rows(first, *(np.concatenate(parts) for parts in zip(*tracks, strict=True)))
    tau = share / 2
    return Laid(rows, np.flatnonzero(rows.seen > 0), tau, tau * (1 - tau) - share / 6)


def a_chain(laid, K):
    """Parameters of K states."""
    A = np.full((K, K), 0.1 / max(K - 1, 1)) + np.diag(np.full(K, 1.0))
    A /= A.sum(axis=1, keepdims=True)
    begin = np.arange(1, K + 1) / (K * (K + 1) / 2)
    return Chain(0.02 / 4.0 ** np.arange(K)[::-1], A, begin, laid.tau, laid.beta)


def copy_of(chain):
    return naive.Model(chain.lam.copy(), chain.A.copy(), chain.begin.copy(), chain.tau, chain.beta)


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("K", [1, 2, 3])
def test_each_step_of_a_round_is_its_naive_twin(K, share, rng):
    tracks = [a_track(rng, 6, 1), a_track(rng, 4), a_track(rng, 5, 2)]
    laid = laid_of(tracks, share)
    chain, q = a_chain(laid, K), blank(laid, K)
    q.p[:] = rng.dirichlet(np.ones(K), len(q.p))
    before, model = q.p.copy(), copy_of(chain)
    bound = expect(laid, chain, q)
    total, pairs, at = 0.0, np.zeros((K, K)), 0
    for i, track in enumerate(tracks):
        T = len(track.x)
        own, nodes = slice(at, at + T), slice(at + i, at + i + T + 1)
        mu, cov = naive.path(track, model, before[own])
        np.testing.assert_allclose(q.mu[nodes], mu, rtol=1e-9, atol=1e-11)
        for k in range(2):
            np.testing.assert_allclose(q.var[nodes, k], np.diag(cov[k]), rtol=1e-9)
            np.testing.assert_allclose(q.lag[own, k], np.diag(cov[k], 1), rtol=1e-9, atol=1e-14)
        dy2, c = naive.expected_squares(track, model, mu, cov)
        ln_z, p, counts = naive.states(track, model, naive.ln_h(track, model, dy2, c))
        np.testing.assert_allclose(q.p[own], p, rtol=1e-9, atol=1e-12)
        total, pairs, at = total + ln_z + naive.entropy(cov), pairs + counts, at + T
    np.testing.assert_allclose(q.pairs, pairs, rtol=1e-9, atol=1e-12)
    assert bound == pytest.approx(total, rel=1e-10)


@pytest.mark.parametrize("share", SHARES)
def test_the_maximisation_is_its_naive_twin(share, rng):
    track = a_track(rng, 40, 5)
    laid = laid_of([track], share)
    chain, q = a_chain(laid, 2), blank(laid, 2)
    expect(laid, chain, q)
    dy2, c = q.dy2.copy(), q.c.copy()
    for j in range(2):
        found = best_lambda(laid.rows, laid.beta, q, j, chain.lam[j])
        # a search sees a summit only to the root of rounding
        assert found == pytest.approx(
            naive.best_lambda(track, laid.beta, q.p[:, j], dy2, c), rel=1e-6
        )
    counts, first = q.pairs.copy(), q.p[0].copy()
    maximise(laid.rows, chain, q)
    np.testing.assert_allclose(chain.A, counts / counts.sum(axis=1, keepdims=True), rtol=1e-9)
    np.testing.assert_allclose(chain.begin, first, rtol=1e-9)


@pytest.mark.parametrize("share", SHARES)
def test_refined_positions_are_their_naive_twin(share, rng):
    track = a_track(rng, 8, 2)
    laid = laid_of([track], share)
    chain, q = a_chain(laid, 2), blank(laid, 2)
    expect(laid, chain, q)
    z, var = np.empty((8, 2)), np.empty((8, 2))
    refine(laid.rows, chain, q, z, var)
    model = copy_of(chain)
    mu, cov = naive.path(track, model, np.full((8, 2), 0.5))
    expected, spread = naive.refined(track, model, q.p, mu, cov)
    np.testing.assert_allclose(z, expected, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(var, spread, rtol=1e-9)


@pytest.mark.parametrize("share", SHARES)
def test_the_bound_never_falls(share, rng):
    laid = laid_of([a_track(rng, 60, 9) for _ in range(5)], share)
    chain, q = a_chain(laid, 2), blank(laid, 2)
    bounds = []
    for _ in range(60):
        bounds.append(expect(laid, chain, q))
        maximise(laid.rows, chain, q)
    assert np.diff(bounds).min() > -1e-8  # the floor on counts is 1e-12


def test_a_gap_is_rows_without_a_position_and_a_long_one_cuts_the_track(rng):
    frame = np.array([0, 1, 2, 5, 6, 200, 201])
    data = make_tracks(
        np.zeros(7, np.int64), frame, rng.normal(0, 0.1, (7, 2)), np.full((7, 2), 0.02),
        interval_s=0.01,
    )  # fmt: skip
    laid = lay_out(data, Kind("em", True, True))
    assert laid.rows.seen.tolist() == [1, 1, 1, 0, 0, 1, 1, 1, 1]
    assert laid.rows.first.tolist() == [0, 7, 9]
    np.testing.assert_array_equal(laid.rows.x[laid.at, 0], data.x_um)


def test_one_state_without_errors_gives_the_mean_squared_step(rng):
    """Where positions are exact the EM is a mixture of steps; of one state, their mean."""
    x = np.cumsum(rng.normal(0, 0.1, (200, 2)), axis=0)
    data = make_tracks(np.zeros(200, np.int64), np.arange(200), x, interval_s=0.01)
    laid = lay_out(data, Kind("em-vbspt", False, False))
    chain = Chain(np.array([0.5]), np.eye(1), np.ones(1), laid.tau, laid.beta)
    found = climb(laid, chain, 2000)
    assert found.converged
    expected = (np.diff(x, axis=0) ** 2).mean()
    assert found.chain.lam[0] == pytest.approx(expected, rel=2e-3)  # the rule stops 1e-3 short
