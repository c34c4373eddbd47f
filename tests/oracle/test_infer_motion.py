"""The step kernels against Berglund's recursion, dense Gaussians and enumeration of all states."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numba
import numpy as np
import pytest

from livespt.infer import layout
from livespt.infer.arrays import Smoothed, Tracks, batch, rows, scratch, states_of
from livespt.infer.batchkernels import run_tracks
from livespt.infer.columnkernels import branch, observe
from livespt.infer.motion import motion, pack, permutation_of, rates
from livespt.infer.smoothkernels import count_rows, smooth_tracks
from livespt.infer.stepkernels import (
    diffuse,
    first_dark,
    load_spot,
    n_steps,
    pass_unseen,
    prepare,
    see,
    start,
    step,
)
from livespt.jit import kernel_of_lanes
from livespt.vectors import WIDTH, load

_spec = importlib.util.spec_from_file_location(
    "naive_motion", Path(__file__).with_name("naive_motion.py")
)
naive = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(naive)

INTERVAL_S = 0.02
LANE = WIDTH - 1
JIT = not numba.config.DISABLE_JIT
DS = np.array([0.05, 0.6, 3.0, 9.0])


def a_track(n, seed, *, te_s=0.012, jitter_s=0.0, missing=(), D=0.3):
    """A track with correlated, unequal errors; `missing` frames leave real gaps."""
    rng = np.random.default_rng(seed)
    frame = np.array([i for i in range(n + len(missing)) if i not in missing])[:n]
    t_s = frame * INTERVAL_S + rng.uniform(0, jitter_s, n) if jitter_s else frame * INTERVAL_S
    V = np.empty((n, 2, 2))
    for i in range(n):
        sd = rng.uniform(0.02, 0.05, 2)
        V[i] = np.outer(sd, sd) * np.array([[1, rho := rng.uniform(-0.7, 0.7)], [rho, 1]])
    x = np.cumsum(rng.normal(0, np.sqrt(2 * D * INTERVAL_S), (n, 2)), axis=0) + 3.0
    return naive.Track(x, V, t_s, np.full(n, te_s))


def as_tracks(*tracks):
    spot = [np.column_stack([t.x, t.V[:, 0, 0], t.V[:, 1, 1], t.V[:, 0, 1]]) for t in tracks]
    first = np.cumsum([0, *(len(t.x) for t in tracks)])
    return Tracks(
        first,
        np.concatenate([t.t_s for t in tracks]),
        np.concatenate([t.te_s for t in tracks]),
        np.concatenate(spot),
        np.ones(first[-1]),
    )


def run(theta, tracks, *, derivatives=True, interval_s=INTERVAL_S):
    q = len(theta) if derivatives else 0
    at, info = motion(theta, states_of(len(theta)), derivatives=derivatives), np.empty((q, q))
    found = batch(tracks, (at.D.size, 1 + q), interval_s, keep=True)
    loglik, _ = run_tracks(found, at, info, scratch())
    return loglik, found.sums[:, 1:].sum(axis=0), found.filters, info


def smooth(theta, tracks, interval_s=INTERVAL_S):
    k = states_of(len(theta))
    n = len(tracks.t_s)
    out = Smoothed(np.empty((n, 5)), np.empty((n, k)))
    room = rows(count_rows(tracks, interval_s), k)
    at = motion(theta, k, derivatives=False)
    smooth_tracks(tracks, at, interval_s, room, scratch(), out)
    return out


def switching(k, p=0.1):
    T = np.full((k, k), p)
    T += np.diag(np.linspace(0.02, 0.05, k)) @ (np.ones((k, k)) * np.arange(1, k + 1))
    np.fill_diagonal(T, 0)
    np.fill_diagonal(T, 1 - T.sum(axis=1))
    return T


def random_switching(rng, k):
    T = rng.dirichlet(np.ones(k), size=k) + 3 * np.eye(k)
    return T / T.sum(axis=1, keepdims=True)


def stationary(T):
    equations = np.vstack([(np.eye(len(T)) - T).T, np.ones(len(T))])
    return np.linalg.lstsq(equations, np.append(np.zeros(len(T)), 1.0), rcond=None)[0]


def matrices(position):
    return position[:, [[2, 3], [3, 4]]]


def a_theta(k, c=1.2):
    return pack(DS[:k], switching(k), c)


@pytest.mark.parametrize("te_s", [0.02, 0.007, 1e-6])
def test_one_state_is_berglunds_likelihood(te_s):
    track = a_track(12, 1, te_s=te_s)
    track.V[:, 0, 1] = track.V[:, 1, 0] = 0.0  # Berglund's axes are separate
    theta, c2 = pack(np.array([0.4]), np.ones((1, 1)), 1.3), 1.69
    expected = [
        [f(track.x[:, a], c2 * track.V[:, a, a], 0.4, te_s, INTERVAL_S) for a in (0, 1)]
        for f in (naive.berglund_loglik, naive.tridiagonal_loglik)
    ]
    loglik = run(theta, as_tracks(track))[0]
    assert loglik == pytest.approx(sum(expected[0]), abs=1e-9)
    assert loglik == pytest.approx(sum(expected[1]), abs=1e-9)


def test_one_state_with_gaps_jitter_and_correlated_errors_is_the_dense_gaussian():
    track = a_track(9, 2, jitter_s=0.003, missing=(2, 5, 6))
    states = [0] * naive.n_intervals(track, INTERVAL_S)
    C = naive.dense(track, np.array([0.4]), states, INTERVAL_S)
    loglik, mean, cov = naive.flat_prior_gaussian(track, C, 1.3)
    theta, tracks = pack(np.array([0.4]), np.ones((1, 1)), 1.3), as_tracks(track)
    assert run(theta, tracks)[0] == pytest.approx(loglik, abs=1e-9)
    out = smooth(theta, tracks)
    np.testing.assert_allclose(out.position[:, :2], mean, atol=1e-11)
    blocks = [cov[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] for i in range(len(mean))]
    np.testing.assert_allclose(matrices(out.position), blocks, atol=1e-13)


def without_merging(theta, track, k):
    """Follow every state sequence by the filter's own steps, none merged; return ln of the sum."""
    at, w, base, size = motion(theta, k, derivatives=False), scratch(), np.uint64(0), (k, 1)
    spots = as_tracks(track).spot.ravel()
    F = np.zeros((k, 6, WIDTH))  # the track is the last of those side by side
    prepare(at, w)
    load_spot(w, LANE, spots, 0)
    start(F.ravel(), base, size, LANE, track.te_s[0], w)
    alive = [(F[j, 5, LANE], j, F[j, :5, LANE].copy()) for j in range(k)]  # ln weight, state, m, P
    for n in range(1, len(track.t_s)):
        elapsed = track.t_s[n] - track.t_s[n - 1]
        steps = n_steps(elapsed, INTERVAL_S)
        dark = first_dark(elapsed, track.te_s[n - 1], steps)
        for i in range(steps):
            grown = []
            if i < steps - 1:
                pass_unseen(w, LANE, dark)
            else:
                load_spot(w, LANE, spots, n)
                see(w, LANE, dark, track.te_s[n])
            for weight, j, gauss in alive:
                F[:] = 0.0
                F[j, :5, LANE] = gauss
                diffuse(F.ravel(), base, size, w)
                for m in range(k):
                    condition_all(F.ravel(), j, 2 * at.D[m], w)
                    ln_p = weight + at.ln_T[j, m, 0] + ln_weight(w)
                    grown.append((ln_p, m, row_of(w, layout.OFF, 5)))
            alive, dark = grown, elapsed / steps
    return np.logaddexp.reduce([a[0] for a in alive])


@kernel_of_lanes
def condition_all(F, j, two_D, w):
    """Condition state j of all tracks on their spots, as the first branch of the first column."""
    fr = np.uint64(6 * WIDTH * j)
    observe(F, fr, two_D * load(w, layout.TE), w, branch(0, 0))


def row_of(w, row, n):
    """Return n rows of the first branch, of the track that is followed."""
    return w[int(layout.BRANCH + row) + LANE :][: n * WIDTH : WIDTH].copy()


def ln_weight(w):
    return row_of(w, layout.P, 1)[0] + np.log(row_of(w, layout.ROOT, 1)[0])


@pytest.mark.parametrize("k, n", [(2, 5), (2, 8), (3, 5), (4, 4)])
def test_branches_without_merging_are_exact(k, n):
    """Followed one by one, the branches sum to the likelihood of all state sequences."""
    track, T = a_track(n, 3 + k), switching(k)
    total = without_merging(a_theta(k), track, k)
    exact = naive.loglik_of_states(track, DS[:k], T, stationary(T), 1.2, INTERVAL_S)
    assert total == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize("missing", [(1, 2), (2, 4)])
@pytest.mark.parametrize("jitter_s", [0.0, 0.004])
def test_branches_are_exact_through_gaps_and_uneven_times(missing, jitter_s):
    """Dropped frames switch and diffuse unseen; every interval has the length the clock says."""
    track, T = a_track(6, 31, missing=missing, jitter_s=jitter_s), switching(2)
    track = track._replace(te_s=np.linspace(0.004, 0.015, 6))
    total = without_merging(a_theta(2), track, 2)
    exact = naive.loglik_of_states(track, DS[:2], T, stationary(T), 1.2, INTERVAL_S)
    assert total == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize("n, tolerance", [(2, 1e-9), (3, 0.02), (6, 0.05)])
def test_merging_costs_little_likelihood(n, tolerance):
    """Two spots are exact: nothing was merged yet. After that merging costs < 0.05 nats."""
    T, k = switching(2), 2
    for seed in range(4):
        track = a_track(n, seed)
        exact = naive.enumerate_states(
            track, np.array([0.05, 0.6]), T, stationary(T), 1.2, INTERVAL_S
        )
        assert run(a_theta(k), as_tracks(track))[0] == pytest.approx(exact.loglik, abs=tolerance)


def test_merging_is_not_felt_at_usual_rates():
    """Eight spots, 2 % switch a frame: over 40 tracks the r.m.s. was 0.0004, the worst 0.0017."""
    D, T = np.array([0.05, 1.0]), np.array([[0.98, 0.02], [0.02, 0.98]])
    for seed in range(6):
        track = a_track(8, 50 + seed, D=D[seed % 2])
        exact = naive.loglik_of_states(track, D, T, stationary(T), 1.2, INTERVAL_S)
        loglik = run(pack(D, T, 1.2), as_tracks(track))[0]
        assert loglik == pytest.approx(exact, abs=0.01)


@pytest.mark.parametrize("p, tolerance", [(1e-6, 1e-4), (0.02, 0.1), (0.1, 0.3)])
def test_a_gap_lets_the_state_switch_unseen(p, tolerance):
    """Unseen intervals are enumerated too; merging blurs those in which a switch is likely.

    Measured: 0.07 nats at p = 0.02 and 0.25 at p = 0.1 a frame, two intervals unseen.
    """
    T, D = np.array([[1 - p, p], [2 * p, 1 - 2 * p]]), np.array([0.05, 0.6])
    for seed in range(4):
        track = a_track(3, seed, missing=(1, 2))
        exact = naive.enumerate_states(track, D, T, stationary(T), 1.2, INTERVAL_S)
        loglik = run(pack(D, T, 1.2), as_tracks(track))[0]
        assert loglik == pytest.approx(exact.loglik, abs=tolerance)


@pytest.mark.parametrize("missing", [(), (2, 3)])
def test_smoother_is_close_to_enumeration(missing):
    """Fast switching (p > 0.1) and six spots, the worst case for merging.

    Measured: probabilities within 0.09 (0.18 beside a gap of two frames), means within 0.26 s.d.,
    variances within 35 %.
    """
    T = switching(2)
    worst_p, worst_z = 0.0, 0.0
    for seed in range(6):
        track = a_track(6, 10 + seed, missing=missing)
        exact = naive.enumerate_states(
            track, np.array([0.05, 0.6]), T, stationary(T), 1.2, INTERVAL_S
        )
        out = smooth(a_theta(2), as_tracks(track))
        worst_p = max(worst_p, np.abs(out.p_state - exact.p_state).max())
        sd = np.sqrt(np.diagonal(exact.cov, axis1=1, axis2=2))
        worst_z = max(worst_z, (np.abs(out.position[:, :2] - exact.mean) / sd).max())
        spread = np.diagonal(matrices(out.position), axis1=1, axis2=2) / sd**2
        assert spread.min() > 0.8
        assert spread.max() < 1.4
    assert worst_p < (0.2 if missing else 0.1)
    assert worst_z < 0.3


@pytest.mark.parametrize("k, blur", [(1, True), (2, True), (3, True), (4, True), (2, False)])
def test_score_is_the_derivative_of_the_likelihood(k, blur):
    """Gaps, jitter and unequal errors included: the tangents go through start, gap and merge.

    Exposures of no length too, which are seen all the same.
    """
    tracks = as_tracks(*(a_track(7, s, jitter_s=0.002, missing=(3, 4)) for s in range(3)))
    if not blur:
        tracks = tracks._replace(exposure_s=np.zeros_like(tracks.exposure_s))
    theta = a_theta(k)
    score = run(theta, tracks)[1]
    for q in range(theta.size):
        shift = np.zeros(theta.size)
        shift[q] = 1e-5
        up, down = (run(theta + s * shift, tracks, derivatives=False)[0] for s in (1, -1))
        assert score[q] == pytest.approx((up - down) / 2e-5, abs=2e-6)


def test_likelihood_knows_no_units_and_no_axes():
    """nm for um only shifts the log-likelihood; a rotated world gives the same one."""
    track = a_track(8, 5, missing=(4,))
    loglik, score, _, _ = run(a_theta(2), as_tracks(track))
    nm = naive.Track(track.x * 1e3, track.V * 1e6, track.t_s, track.te_s)
    theta = a_theta(2) + np.array([np.log(1e6)] * 2 + [0] * 5)
    in_nm, score_nm, _, _ = run(theta, as_tracks(nm))
    assert in_nm + 2 * 7 * np.log(1e3) == pytest.approx(loglik, abs=1e-8)
    np.testing.assert_allclose(score_nm, score, atol=1e-7)
    turn = np.array([[np.cos(0.7), -np.sin(0.7)], [np.sin(0.7), np.cos(0.7)]])
    turned = naive.Track(track.x @ turn.T, turn @ track.V @ turn.T, track.t_s, track.te_s)
    rotated, score_turned, _, _ = run(a_theta(2), as_tracks(turned))
    assert rotated == pytest.approx(loglik, abs=1e-9)
    np.testing.assert_allclose(score_turned, score, atol=1e-8)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_motion_is_softmax_and_its_stationary_distribution(k):
    rng = np.random.default_rng(k)
    theta = pack(np.exp(np.sort(rng.normal(size=k))), random_switching(rng, k), 1.1)
    at = motion(theta, k)
    T = np.exp(at.ln_T[..., 0])
    np.testing.assert_allclose(T.sum(axis=1), 1)
    np.testing.assert_allclose(np.exp(at.ln_pi[:, 0]), stationary(T), atol=1e-10)
    np.testing.assert_allclose(pack(at.D, T, np.sqrt(at.c2)), theta, atol=1e-9)
    for q in range(theta.size):
        shift = np.zeros(theta.size)
        shift[q] = 1e-6
        up, down = motion(theta + shift, k), motion(theta - shift, k)
        slope = (up.ln_T[..., 0] - down.ln_T[..., 0]) / 2e-6
        np.testing.assert_allclose(at.ln_T[..., 1 + q], slope, atol=1e-8)
        slope = (up.ln_pi[:, 0] - down.ln_pi[:, 0]) / 2e-6
        np.testing.assert_allclose(at.ln_pi[:, 1 + q], slope, atol=1e-7)
        slope = (up.ln_begin[:, 0] - down.ln_begin[:, 0]) / 2e-6
        np.testing.assert_allclose(at.ln_begin[:, 1 + q], slope, atol=1e-8)
    assert np.exp(at.ln_begin[:, 0]).sum() == pytest.approx(1)


def test_relabelling_states_moves_all_parameters():
    theta = np.array([1.0, 0.0, 2.0, 10, 11, 12, 13, 14, 15, 20, 21, 22, 0.5])
    states = np.array([1, 0, 2])
    at, moved = motion(theta, 3), motion(theta[permutation_of(states, 3)], 3)
    np.testing.assert_allclose(moved.D, at.D[states])
    np.testing.assert_allclose(moved.ln_T[..., 0], at.ln_T[..., 0][np.ix_(states, states)])
    np.testing.assert_allclose(moved.ln_begin[:, 0], at.ln_begin[states, 0])


def test_rates_are_the_matrix_logarithm():
    from scipy.linalg import logm

    T = switching(3)
    np.testing.assert_allclose(rates(T, 0.5), logm(T).real / 0.5, atol=1e-9)
    too_fast = np.array([[0.3, 0.7], [0.8, 0.2]])  # no continuous-time chain gives this
    np.testing.assert_allclose(rates(too_fast, 0.5), (too_fast - np.eye(2)) / 0.5)


@numba.njit(error_model="numpy")
def walk_at_random(w, F, n_steps):
    """Step filters through random spots, gaps and parameters; return the least eigenvalue ratio."""
    np.random.seed(1)
    base, size, worst, lane = np.uint64(0), (3, 1), np.inf, 0
    spots = np.zeros(5)
    for n in range(n_steps // WIDTH):
        if n % 50 == 0:
            F[:] = 0.0
            for k in range(3):
                w[layout.D + np.uint64(k)] = 10 ** np.random.uniform(-5, 3)
                for lane in range(WIDTH):
                    at = (6 * k + 2) * WIDTH + lane
                    F[at] = F[at + 2 * WIDTH] = 10 ** np.random.uniform(-8, 2)
        if n % 7 == 0:
            for lane in range(WIDTH):
                pass_unseen(w, lane, 10 ** np.random.uniform(-5, 2))
            step(F, base, size, w, False)
        for lane in range(WIDTH):
            sd, rho = 10 ** np.random.uniform(-4, 0, 2), np.random.uniform(-0.999, 0.999)
            for i in range(2):
                away = 10 ** np.random.uniform(-5, 1) * np.random.normal()
                spots[i] = F[i * WIDTH + lane] + away
            spots[2], spots[3], spots[4] = sd[0] ** 2, sd[1] ** 2, rho * sd[0] * sd[1]
            load_spot(w, lane, spots, 0)
            see(w, lane, 10 ** np.random.uniform(-5, 2), 10 ** np.random.uniform(-6, 0))
        step(F, base, size, w, False)
        for i in range(3 * WIDTH):
            at = 6 * WIDTH * (i // WIDTH) + i % WIDTH
            xx, xy, yy = F[at + 2 * WIDTH], F[at + 3 * WIDTH], F[at + 4 * WIDTH]
            half = 0.5 * (xx + yy)
            root = np.sqrt(0.25 * (xx - yy) ** 2 + xy * xy)
            worst = min(worst, (xx * yy - xy * xy) / (half + root) ** 2)
    return worst


def test_covariances_stay_positive_for_a_million_random_steps():
    """Errors of 0.1 nm to 1 um, correlated to 0.999, D over eight decades, gaps of up to 100 s.

    Symmetry is in the storage: xx, xy, yy. The ratio of the eigenvalues stays above rounding.
    """
    w, F = scratch(), np.zeros(18 * WIDTH)
    at = motion(a_theta(3), 3, derivatives=False)
    prepare(at, w)
    assert walk_at_random(w, F, 1_000_000 if JIT else 2_000) > 0
    assert np.isfinite(F).all()


@pytest.mark.parametrize("k", [1, 3])
def test_units_change_nothing(k):
    """In nm all is a thousand times longer: same states, same scores, positions scaled."""
    tracks = as_tracks(*(a_track(9, s, missing=(3, 4), jitter_s=0.002) for s in range(3)))
    spot = tracks.spot * np.array([1e3, 1e3, 1e6, 1e6, 1e6])
    theta, longer = a_theta(k), a_theta(k)
    longer[:k] += np.log(1e6)
    n_steps_seen = tracks.t_s.size - 3
    one, two = run(theta, tracks), run(longer, tracks._replace(spot=spot))
    assert two[0] + 2 * np.log(1e3) * n_steps_seen == pytest.approx(one[0], rel=1e-9)
    np.testing.assert_allclose(two[1], one[1], rtol=1e-9, atol=1e-9)
    here, there = smooth(theta, tracks), smooth(longer, tracks._replace(spot=spot))
    np.testing.assert_allclose(there.p_state, here.p_state, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(there.position[:, :2], 1e3 * here.position[:, :2], rtol=1e-9)
    np.testing.assert_allclose(there.position[:, 2:], 1e6 * here.position[:, 2:], rtol=1e-8)
