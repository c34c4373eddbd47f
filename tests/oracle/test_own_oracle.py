"""Each track's own D against dense Gaussians and fine sums."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from livespt.element_kernels import exp_of, inverse_and_log, log_of
from livespt.infer.arrays import Seen
from livespt.infer.own import OwnD
from livespt.infer.ownkernels import LNW, N_GRID
from livespt.jit import kernel
from livespt.vectors import fetch, highest, load, lowest, store

_spec = importlib.util.spec_from_file_location(
    "naive_own", Path(__file__).with_name("naive_own.py")
)
naive = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(naive)

INTERVAL_S = 0.02


def a_track(n, seed, D, te_s=0.012):
    """Correlated, unequal errors, and frames lost at random."""
    rng = np.random.default_rng(seed)
    t_s = np.cumsum(rng.choice([1, 1, 1, 4], n)) * INTERVAL_S
    V = np.empty((n, 2, 2))
    for i in range(n):
        sd = rng.uniform(0.02, 0.05, 2)
        V[i] = np.outer(sd, sd) * np.array([[1, rho := rng.uniform(-0.7, 0.7)], [rho, 1]])
    steps = rng.normal(0, 1, (n, 2)) * np.sqrt(2 * D * np.diff(t_s, prepend=0.0))[:, None]
    x = np.cumsum(steps, axis=0) + 3.0
    x += np.array([rng.multivariate_normal([0, 0], v) for v in V])
    return naive.motion.Track(x, V, t_s, np.full(n, te_s))


def follow(track, c=1.0, fastest=np.inf, weight=None, scale=1.0):
    """Run one track through the bank; return the bank and what it said after each spot."""
    n = len(track.t_s)
    own, said = OwnD(INTERVAL_S, 1), []
    if scale != 1.0:
        own.grid = own.grid * scale**2
    for i in range(n):
        v = track.V[i] * scale**2
        spot = np.array([[*(scale * track.x[i]), v[0, 0], v[1, 1], v[0, 1]]])
        weights = np.ones(1) if weight is None else weight[i : i + 1]
        seen = Seen(i, track.t_s[i], track.te_s[i], np.zeros(1, np.int64), spot, weights)
        said.append(own.step(seen, np.array([i]), c**2, fastest)[0])
    return own, np.array(said)


@pytest.mark.parametrize("seed", range(3))
def test_likelihood_at_every_D_of_the_grid(seed):
    track = a_track(9, seed, 0.2)
    own, _ = follow(track, c=1.2)
    expected = np.array([naive.loglik(track, D, 1.2) for D in own.grid])
    found = own._own[0, int(LNW) :][:N_GRID]
    np.testing.assert_allclose(found, expected - expected.max(), atol=1e-7)


@pytest.mark.parametrize(
    ("n", "D"), [(2, 0.1), (4, 1.0), (8, 0.1), (8, 1e-4), (20, 0.02), (30, 5.0), (60, 0.3)]
)
def test_mean_and_interval_are_those_of_a_fine_grid(n, D):
    """Within .05 of the interval's width: a coarse grid is enough, wide and narrow posteriors."""
    track = a_track(n, n, D)
    own, said = follow(track)
    expected = np.array(naive.summary(track, own.grid[0], own.grid[-1], 1.0, n=400))
    bound = 0.05 * max(0.3, expected[2] - expected[1])
    np.testing.assert_allclose(np.log(said[-1]), expected, atol=bound)


def test_a_lone_spot_knows_nothing():
    own, said = follow(a_track(1, 0, 0.1))
    width = np.log(own.grid[-1] / own.grid[0])
    assert np.log(said[0, 2] / said[0, 1]) == pytest.approx(0.95 * width, rel=1e-6)


def test_a_false_link_and_an_ambiguous_one_say_nothing():
    track = a_track(40, 3, 0.05)
    _, clean = follow(track)
    torn = track._replace(x=track.x + 8.0 * (np.arange(40) >= 20)[:, None])
    _, said = follow(torn, fastest=0.1)
    np.testing.assert_allclose(said[-1], clean[-1], rtol=0.2)
    _, poisoned = follow(torn)  # nobody knows yet how fast molecules are: it counts
    assert poisoned[19, 0] == pytest.approx(clean[19, 0])
    before, at = follow(track, weight=1.0 * (np.arange(40) != 20))[1][19:21]
    np.testing.assert_allclose(at, before)


def test_units_do_not_matter():
    track = a_track(12, 5, 0.3)
    np.testing.assert_allclose(follow(track, scale=1e3)[1], 1e6 * follow(track)[1], rtol=1e-9)


def test_any_track_of_any_length_gives_numbers():
    """1000 still spots at one place, 1000 leaps: the ends of the grid, never a NaN."""
    for step in (0.0, 50.0):
        n = 1000
        x = step * np.arange(n)[:, None] * np.ones(2)
        V = np.tile(1e-4 * np.eye(2), (n, 1, 1))
        track = naive.motion.Track(x, V, np.arange(n) * INTERVAL_S, np.full(n, INTERVAL_S))
        own, said = follow(track)
        assert np.isfinite(said).all()
        assert (np.diff(said[:, [1, 0, 2]], axis=1) >= 0).all()
        assert (said >= own.grid[0] * (1 - 1e-9)).all()
        assert (said <= own.grid[-1] * (1 + 1e-9)).all()


@kernel
def on_eight(w):
    """Fill inverse and logarithm of the first eight; return their greatest and least."""
    eight = load(w, 0)
    inverse, ln = inverse_and_log(eight)
    store(w, 8, inverse)
    store(w, 16, ln)
    fetch(w, 8)
    return highest(eight), lowest(eight)


def test_inverses_and_logarithms_side_by_side_and_the_extremes():
    """Inverses to 2 units in the last place, logarithms as below."""
    rng = np.random.default_rng(1)
    for _ in range(50):
        w = np.append(np.exp(rng.uniform(-300, 300, 8)), np.zeros(16))
        high, low = on_eight(w)
        assert (high, low) == (w[:8].max(), w[:8].min())
        np.testing.assert_allclose(w[8:16], 1 / w[:8], rtol=5e-16)
        np.testing.assert_allclose(w[16:], np.log(w[:8]), rtol=1e-15, atol=4e-16)


def test_tracks_side_by_side_say_what_each_says_by_itself():
    """Nineteen tracks, wide and narrow ones mixed, in slots that are not in order."""
    tracks = [a_track(n, n, 0.2) for n in range(2, 40, 2)]
    rng, n_frames = np.random.default_rng(2), 60
    slots, own = rng.permutation(24)[: len(tracks)], OwnD(INTERVAL_S, 24)
    n_spots, said = np.zeros(24, np.int64), {}
    for i in range(n_frames):
        now = [k for k, track in enumerate(tracks) if i < len(track.t_s)]
        if not now:
            break
        spot = np.array([[*(t := tracks[k]).x[i], *t.V[i][[0, 1, 0], [0, 1, 1]]] for k in now])
        for t_s in {tracks[k].t_s[i] for k in now}:
            here = [k for k in now if tracks[k].t_s[i] == t_s]
            rows = spot[[now.index(k) for k in here]]
            seen = Seen(i, t_s, tracks[0].te_s[0], slots[here], rows, np.ones(len(here)))
            out = own.step(seen, n_spots, 1.0, np.inf)
            said |= dict(zip(here, out, strict=True))
        n_spots[slots[now]] += 1
    for k, track in enumerate(tracks):
        np.testing.assert_allclose(said[k], follow(track)[1][-1], rtol=1e-12)


def test_exponential_and_logarithm_are_those_of_the_library():
    """To 4 units in the last place; the exponential ends at e^-300."""
    x = np.linspace(-299, 50, 2001)
    np.testing.assert_allclose([exp_of(v) for v in x], np.exp(x), rtol=1e-15)
    assert exp_of(-1e300) == pytest.approx(np.exp(-300), rel=1e-15)
    y = np.concatenate([np.exp(np.linspace(-600, 600, 2001)), 1 + np.linspace(-0.4, 0.6, 400)])
    np.testing.assert_allclose([log_of(v) for v in y], np.log(y), rtol=1e-15, atol=4e-16)
