"""How fast and how true the motion inference is, peers beside it on one scene: `make bench`.

The peers: ExTrack (likelihood over recent state histories, no blur), hmmlearn (a Gaussian hidden
Markov model of the displacements: no errors, no blur) and the covariance estimator of Vestergaard
(one state). Each is given what it can take, the true localization error included. Table in
``bench/infer.md``; the asserts only guard floors that no noise reaches.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from livespt.infer import OnlineFilter
from livespt.infer.fit import fit_tracks, guess
from livespt.infer.motion import motion, weak_prior
from livespt.infer.smooth import as_tracks
from livespt.sections import InferConfig

sys.path.insert(0, str(Path(__file__).parents[1]))  # motion_scene.py
sys.path.insert(0, str(Path(__file__).parent))

from ledger import Ledger, Row

from motion_scene import simulate, stream, switching_matrix, table_of

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1200)]

DT_S, SD_UM = 0.02, 0.03
D_UM2_S, P_SWITCH = np.array([0.05, 1.0]), 0.0198
N_SPOTS = 10  # of each track: ExTrack takes a pass for each length


def installed(name):
    return importlib.util.find_spec(name) is not None


@pytest.fixture(scope="module")
def ledger():
    """The table of this run."""
    found = Ledger(", ".join(n for n in ("extrack", "hmmlearn") if installed(n)), name="infer")
    yield found
    print(f"\n{found.markdown()}\n{found.write()}")  # noqa: T201


@pytest.fixture(scope="module")
def scene():
    """1000 tracks of 10 spots, D 0.05 and 1, p 0.0198 a frame, full exposure, errors of 30 nm."""
    T = switching_matrix([P_SWITCH, P_SWITCH])
    return simulate(np.random.default_rng(3), (1000, N_SPOTS), D_UM2_S, T, SD_UM)


def timed(job):
    """Return the job's answer and the CPU time it took."""
    began = time.process_time()
    found = job()
    return found, time.process_time() - began


def fit_ours(table, n_states=2):
    tracks = as_tracks(table)
    first = guess(tracks, n_states, 0.05)
    theta = fit_tracks(tracks, DT_S, [first], weak_prior(first, n_states)).theta
    at = motion(theta, n_states, derivatives=False)
    return at.D, np.exp(at.ln_T[..., 0])


def fit_extrack(scene):
    """ExTrack's own fit, its window of 6, each spot's error given."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        from extrack import tracking

        params = tracking.generate_params(
            nb_states=2, LocErr_type=None, D_max=3, estimated_transition_rates=0.05
        )
        key, errors = str(N_SPOTS), np.full_like(scene.x_um, SD_UM)
        found = tracking.param_fitting(
            {key: scene.x_um}, DT_S, params=params, input_LocErr={key: errors},
            nb_states=2, verbose=0,
        ).params  # fmt: skip
    D = np.array([found["D0"].value, found["D1"].value])
    p = np.array([[0, found["p01"].value], [found["p10"].value, 0]])
    states = np.argsort(D)
    return D[states], 1 - np.exp(-p[np.ix_(states, states)])


def fit_hmmlearn(scene):
    """Two Gaussian states over the displacements; D as its users take it, blur left in.

    Its means are free: with fixed ones its M-step divides by nothing.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from hmmlearn.hmm import GaussianHMM

        steps = np.diff(scene.x_um, axis=1)
        model = GaussianHMM(2, "spherical", init_params="st", n_iter=200)
        model.means_ = np.zeros((2, 2))
        model.covars_ = np.quantile(steps**2, [0.3, 0.9])
        model.fit(steps.reshape(-1, 2), [steps.shape[1]] * len(steps))
    variance = model.covars_.reshape(2, -1)[:, 0]
    D, states = (variance - 2 * SD_UM**2) / (2 * DT_S), np.argsort(variance)
    return D[states], model.transmat_[np.ix_(states, states)]


PEERS = {"extrack": fit_extrack, "hmmlearn": fit_hmmlearn}


def add_answers(ledger, peer, ours, theirs):
    """Note D and rates as ratios to the truth: ours and the peer's."""
    rows = [("D slow", 0, 0, 0), ("D fast", 0, 1, 1), ("p slow to fast", 1, 0, 1)]
    for name, part, i, j in rows:
        true = P_SWITCH if part else D_UM2_S[i]
        values = [a[1][i, j] if part else a[0][i] for a in (ours, theirs)]
        note = f"truth 1; beside {peer}"
        ledger.add(
            Row(f"{name}, found / true", "", values[0] / true, peer=values[1] / true, note=note)
        )


@pytest.mark.parametrize("peer", PEERS)
def test_batch_fits(ledger, scene, peer):
    table = table_of(scene)
    fit_ours(table)  # compiled
    ours, seconds = timed(lambda: fit_ours(table))
    if not installed(peer):
        pytest.skip(f"{peer} is not installed")
    theirs, slow = timed(lambda: PEERS[peer](scene))
    note = f"beside {peer}"
    row = Row("batch fit, 1000 tracks of 10", "s CPU", seconds, 1.0, slow, above=False, note=note)
    assert ledger.add(row).ours < 60
    add_answers(ledger, peer, ours, theirs)
    np.testing.assert_allclose(ours[0], D_UM2_S, rtol=0.15)


def cve(scene):
    """Vestergaard's estimator over all tracks: <dx^2> / 2 dt + <dx dx'> / dt."""
    steps = np.diff(scene.x_um, axis=1)
    return (steps**2).mean() / (2 * DT_S) + (steps[:, 1:] * steps[:, :-1]).mean() / DT_S


def test_one_state_beside_the_covariance_estimator(ledger):
    """RMSE of D, 40 sets of 100 tracks of 10 spots, D 0.1."""
    errors = []
    for seed in range(40):
        rng = np.random.default_rng([4, seed])
        scene = simulate(rng, (100, N_SPOTS), [0.1], np.ones((1, 1)), SD_UM)
        errors.append([fit_ours(table_of(scene), 1)[0][0] - 0.1, cve(scene) - 0.1])
    ours, theirs = np.sqrt(np.mean(np.square(errors), axis=0)) / 0.1
    note = "the peer: covariance estimator"
    row = Row("one state, RMSE of D / D", "", ours, peer=theirs, above=False, note=note)
    assert ledger.add(row).ours < 0.2


@pytest.mark.parametrize("n_states", [2, 3])
def test_live_frames(ledger, n_states):
    """CPU time of one frame of the live filter, 1000 molecules, the median of 80 frames."""
    D = np.array([0.05, 1.0] if n_states == 2 else [0.05, 0.3, 2.0])
    T = np.full((n_states, n_states), 0.02)
    np.fill_diagonal(T, 1 - 0.02 * (n_states - 1))
    scene = simulate(np.random.default_rng(1), (1000, 100), D, T, SD_UM)
    online = OnlineFilter(n_states, DT_S, config=InferConfig(D_um2_s=list(D)))
    online.warm_up()
    taken = []
    for spots, links in stream(scene):
        began = time.thread_time()
        online.step(spots, links)
        taken.append(time.thread_time() - began)
    ms = 1e3 * float(np.median(taken[20:]))
    row = Row(
        f"live filter, 1000 molecules x {n_states} states", "ms a frame", ms, 1.0, above=False
    )
    assert ledger.add(row).ours < 50
