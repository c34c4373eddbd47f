"""ExTrack's likelihood, its slopes and posteriors against plain enumeration (SCIENCE 5)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from livespt.infer import layout as at
from livespt.infer.axiskernels import condition
from livespt.infer.columnkernels import observe
from livespt.jit import kernel_of_lanes
from livespt.refit.extrack.likelihood import loglik_of_tracks, make_problem, scores
from livespt.refit.extrack.model import Frame
from livespt.refit.extrack.series import lay_out
from livespt.refit.extrack.states import annotate
from livespt.vectors import WIDTH, spread

_spec = importlib.util.spec_from_file_location(
    "naive_extrack", Path(__file__).with_name("naive_extrack.py")
)
naive = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(naive)

DT_S, SD_UM, CELL_UM = 0.02, 0.03, (1.0, 0.7)
#: States, sub-steps, exposure, axes, rows of the tracks.
CASES = [
    (2, 1, 0.0, 2, (3, 5, 6)),
    (2, 1, 0.01, 2, (3, 5, 6)),
    (3, 1, 0.0, 1, (2, 4)),
    (2, 2, 0.0, 3, (2, 4)),
    (1, 1, 0.01, 2, (3, 5)),
]


def values_of(n_states):
    """Parameters of some model."""
    F = {1: [1.0], 2: [0.6, 0.4], 3: [0.5, 0.3, 0.2]}[n_states]
    out = {"LocErr": SD_UM, "pBL": 0.12}
    for i in range(n_states):
        out |= {f"D{i}": [0.03, 0.5, 2.0][i], f"F{i}": F[i]}
        out |= {f"p{i}{j}": 0.05 + 0.03 * i + 0.02 * j for j in range(n_states) if j != i}
    return out


def draw(case, gap=True):
    """Tracks with irregular times; one position of a longer one was not seen."""
    n_dims, rows = case[3:]
    rng = np.random.default_rng([5, *rows])
    tracks = [rng.normal(0, 0.15, (T, n_dims)).cumsum(axis=0) for T in rows]
    if gap and rows[1] > 3:
        tracks[1][1] = np.nan
    return tracks, [rng.uniform(0.015, 0.03, T) for T in rows]


def setting(case):
    K, n_sub, te, _, rows = case
    return naive.Setting(values_of(K), K, n_sub, CELL_UM, DT_S, min(rows), max(rows), te)


def problem_of(case, window=30):
    tracks, dts = draw(case)
    frame = Frame(case[0], case[1], DT_S, CELL_UM)
    return make_problem(lay_out(tracks, dts), frame, window, case[2])


@pytest.mark.parametrize("case", CASES)
def test_a_long_window_is_plain_enumeration(case):
    tracks, dts = draw(case)
    exact = [
        naive.enumerate_states(x, np.full(x.shape, SD_UM**2), t, setting(case))
        for x, t in zip(tracks, dts, strict=True)
    ]
    problem = problem_of(case)
    found = annotate(values_of(case[0]), problem)
    np.testing.assert_allclose(found.loglik, [e.loglik for e in exact], rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.p_state, np.concatenate([e.p_state for e in exact]), atol=1e-9)
    np.testing.assert_allclose(found.mean_um, np.concatenate([e.mean for e in exact]), atol=1e-10)
    np.testing.assert_allclose(found.var_um2, np.concatenate([e.var for e in exact]), atol=1e-12)


def test_eight_frames_are_exact_with_a_window_of_eight():
    rng = np.random.default_rng(8)
    track = rng.normal(0, 0.15, (8, 2)).cumsum(axis=0)
    at = naive.Setting(values_of(2), 2, 1, CELL_UM, DT_S, 8, 8)
    exact = naive.enumerate_states(track, np.full((8, 2), SD_UM**2), np.full(8, DT_S), at)
    problem = make_problem(lay_out([track], DT_S), Frame(2, 1, DT_S, CELL_UM), 8)
    assert loglik_of_tracks(values_of(2), problem)[0] == pytest.approx(exact.loglik, abs=1e-9)


@pytest.mark.parametrize("window", [2, 3, 4])
def test_a_short_window_merges_as_the_naive_filter_does(window):
    case = (2, 1, 0.0, 2, (4, 7, 9))
    tracks, dts = draw(case)
    wanted = [
        naive.windowed(x, np.full(x.shape, SD_UM**2), t, window, setting(case))
        for x, t in zip(tracks, dts, strict=True)
    ]
    found = loglik_of_tracks(values_of(2), problem_of(case, window))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-9)


@pytest.mark.parametrize("window", [3, 30])
@pytest.mark.parametrize("case", CASES)
def test_slopes_are_those_of_the_likelihood(case, window):
    problem, values = problem_of(case, window), values_of(case[0])
    names, x = list(values), np.array(list(values.values()))

    def at(x):
        return dict(zip(names, x, strict=True))

    _, slopes = scores(x, at, problem, 1e-6 * x)
    for a, step in enumerate(np.diag(1e-5 * x)):
        there, back = (loglik_of_tracks(at(x + sign * step), problem) for sign in (1, -1))
        wanted = (there - back) / (2 * step[a])
        np.testing.assert_allclose(slopes[:, a], wanted, rtol=1e-6, atol=1e-5, err_msg=names[a])


@kernel_of_lanes
def observe_all(F, h, w):
    """Condition the state of all tracks on their spots, as the first branch."""
    observe(F, np.uint64(0), spread(h), w, at.BRANCH)


def test_one_axis_of_the_shared_step_is_that_of_the_live_filter():
    rng, w, h = np.random.default_rng(2), np.zeros(at.SIZE), 0.013
    m, P, x, V = rng.normal(size=2), rng.uniform(0.01, 0.05, 2), rng.normal(size=2), [0.001, 0.002]
    F = np.repeat([*m, P[0], 0.0, P[1], 0.0], WIDTH)
    rows = w[int(at.SPOT) :][: 5 * WIDTH]
    rows[:] = np.repeat([*x, *V, 0.0], WIDTH)
    w[int(at.C2)], w[int(at.SEEN) : int(at.SEEN) + WIDTH] = 1.0, 1.0
    observe_all(F, h, w)
    branch = [w[int(at.BRANCH + at.OFF) + WIDTH * row] for row in (0, 1, 2, 4)]
    for axis in range(2):
        mean, var, inverse, r = condition(m[axis], P[axis], h, x[axis], V[axis])
        assert mean == pytest.approx(branch[axis], rel=1e-12)
        assert var == pytest.approx(branch[2 + axis], rel=1e-12)
        u = w[int(at.BRANCH + at.U) + WIDTH * axis]
        assert inverse * r == pytest.approx(u, rel=1e-12)


def test_what_no_state_can_explain_stays_finite():
    """Positions in nm where um are expected: theirs returns NaN there."""
    rng = np.random.default_rng(3)
    tracks = [rng.normal(0, 150.0, (T, 2)).cumsum(axis=0) for T in (5, 60)]
    problem = make_problem(lay_out(tracks, DT_S), Frame(2, 1, DT_S, CELL_UM), 4)
    values = values_of(2)
    names, x = list(values), np.array(list(values.values()))
    loglik, slopes = scores(x, lambda x: dict(zip(names, x, strict=True)), problem, 1e-6 * x)
    assert np.isfinite(loglik).all()
    assert np.isfinite(slopes).all()
    assert (loglik < -1e5).all()


#: -ln L by ExTrack 1.6.3 with a window as long as the tracks (`threshold=1e-9, frame_len=30`), of
#: the tracks of `peer_tracks`, at `values_of(2)`: one error; the error of each position given.
PEER = {"LocErr": -61.05116333408856, "input": -61.908908134568485}


def peer_tracks():
    rng = np.random.default_rng(163)
    tracks = {str(T): rng.normal(0, 0.1, (4, T, 2)).cumsum(axis=1) for T in (4, 5, 7)}
    return tracks, {key: rng.uniform(0.01, 0.05, x.shape) for key, x in tracks.items()}


@pytest.mark.parametrize("kind", PEER)
def test_the_likelihood_is_that_of_extrack(kind):
    tracks, errors = peer_tracks()
    values = values_of(2)
    if kind == "input":
        del values["LocErr"]
    laid = lay_out(tracks, DT_S, errors if kind == "input" else None)
    problem = make_problem(laid, Frame(2, 1, DT_S, CELL_UM), 30)
    assert -loglik_of_tracks(values, problem).sum() == pytest.approx(PEER[kind], abs=1e-9)
