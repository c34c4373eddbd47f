"""Tracks followed in their pixels, end to end, on the simulated microscope."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from livespt.config import ConfigError, parse
from livespt.journal import read_run
from livespt.offline import replay_recorded
from livespt.session import Session
from livespt.stages import open_stages
from livespt.wire import schema

#: 40 photons on 2, one state: the blind search finds three in five.
OPTIONS = {
    "scene": "dim", "seed": 3, "photons": 40.0, "n_frames": 120, "paced": False,
    "D_um2_s": [0.02], "rates_per_s": [[0.0]],
}  # fmt: skip
GATE_UM = 0.3


def run_config(folder, **infer):
    return parse(
        {
            "source": {"kind": "simulated", "options": OPTIONS},
            "infer": {"n_states": 1} | infer,
            "link": {"lag": 1},
            "journal": {"folder": str(folder)},
            "wire": {"publish": "tcp://127.0.0.1:*", "command": "tcp://127.0.0.1:*"},
        }
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same frames with each filter: the result, its messages, and the truth."""
    found = {}
    for name in ("tracks", "ukf"):
        messages: list[schema.AnyMessage] = []
        config = run_config(tmp_path_factory.mktemp("runs"), filter=name)
        with Session(config, listeners=[messages.append]) as session:
            result = session.run()
            truth = session._stages.source.truth().table
        assert not result.failed
        found[name] = result, messages, truth
    return found


def scored(run):
    """Return each row's error in um, (n, 2), its z squared, and which rows have a molecule."""
    result, _, truth = run
    rows = read_run(result.run).estimates
    error = np.full((len(rows), 2), np.inf)
    for frame in np.unique(rows["frame"]):
        here, there = np.flatnonzero(rows["frame"] == frame), truth[truth["frame"] == frame]
        at = np.stack([rows["x_um"], rows["y_um"]], axis=1)[here]
        places = np.stack([there["x_um"], there["y_um"]], axis=1)
        error[here] = at - places[cKDTree(places).query(at)[1]]
    z2 = error**2 / np.stack([rows["var_x_um2"], rows["var_y_um2"]], axis=1)
    return rows, error, z2, np.hypot(*error.T) < GATE_UM


def test_molecules_that_no_fit_found_are_followed(runs):
    """Some 1,900 rows by spots; the pixels add 40 % and more, of them 1 in 50 or fewer false."""
    (tracks, *_), (pixels, _, _, real) = scored(runs["tracks"]), scored(runs["ukf"])
    unseen = pixels["spot"] < 0
    assert np.count_nonzero(~unseen) == len(tracks)
    assert np.count_nonzero(unseen) > 0.4 * len(tracks)
    assert real[unseen].mean() > 0.98


def test_positions_of_what_was_found_are_better_and_their_errors_true(runs):
    """RMSE of rows with a spot: 4 % less or better (s.e. of the paired difference 1 %)."""
    rmse = {}
    for name, run in runs.items():
        rows, error, z2, real = scored(run)
        kept = real & (rows["spot"] >= 0) & (rows["n_spots"] > 10)
        rmse[name] = float(np.sqrt((error[kept] ** 2).mean()))
        assert 0.8 < z2[kept].mean() < 1.6
    assert rmse["ukf"] < 0.985 * rmse["tracks"], rmse


def test_intervals_of_each_tracks_D_hold_the_truth(runs):
    rows = read_run(runs["ukf"][0].run).estimates
    last = rows[np.unique(rows["track_id"][::-1], return_index=True)[1] * -1 + len(rows) - 1]
    last = last[last["n_spots"] > 20]
    held = (last["D_track_95"][:, 0] < 0.02) & (last["D_track_95"][:, 1] > 0.02)
    assert len(last) > 15
    assert held.mean() > 0.75  # of some 25 exact ones, fewer with p = .001


def test_the_pooled_answer_is_that_of_the_spots_bit_for_bit(runs):
    models = [read_run(run[0].run).models for run in runs.values()]
    for name in ("D_um2_s", "D_95", "error_scale", "n_steps"):
        assert models[0][name].tobytes() == models[1][name].tobytes(), name
    again = replay_recorded(read_run(runs["ukf"][0].run).folder)
    assert again.live.D_um2_s.tobytes() == runs["ukf"][0].live.D_um2_s.tobytes()
    assert again.final.D_um2_s.tobytes() == runs["tracks"][0].final.D_um2_s.tobytes()


def test_the_wire_tells_what_the_journal_holds(runs):
    result, messages, _ = runs["ukf"]
    told = [m.tracks.array() for m in messages if isinstance(m, schema.EstimateMessage)]
    told = np.concatenate(told)
    rows = read_run(result.run).estimates
    for name in told.dtype.names:
        assert told[name].tobytes() == rows[name].tobytes(), name
        assert np.isfinite(rows[name]).all(), name
    np.testing.assert_allclose(rows["p_state"].sum(axis=1), 1)


@pytest.mark.parametrize("method", ["ukf", "unscented"])
def test_an_emccd_is_refused_by_key_and_name(tmp_path, method):
    config = parse(
        {
            "source": {"kind": "simulated", "options": {"scene": "emccd"}},
            "infer": {"filter": method},
            "journal": {"folder": str(tmp_path)},
        }
    )
    with pytest.raises(ConfigError, match=f"run.toml: infer.filter: '{method}': .*EMCCD"):
        open_stages(config, "run.toml")
