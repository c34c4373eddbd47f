"""The refits from tracks: what each method gives, and the command `livespt refit`."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv

from livespt.cli import main
from livespt.infer import smooth_run
from livespt.infer.motion import Answer, to_model
from livespt.refit import METHODS, RefitError, em_rounds, refit, select, vbspt
from livespt.refit.single import covariance_estimate, moments
from livespt.refit.tracks import make_tracks

_spec = importlib.util.spec_from_file_location(
    "refit_scene", Path(__file__).parents[1] / "refit_scene.py"
)
scenes = sys.modules["refit_scene"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(scenes)

FROM_TRACKS = [name for name, one in METHODS.items() if one.needs == "tracks"]
SWITCHING = ["history", "em", "em-kalman", "em-vbspt", "vbspt"]


@pytest.fixture(scope="module")
def two():
    """Thirty tracks of 60 frames, D .1 and 1 um2/s."""
    return scenes.two_states(5, (30, 60))


@pytest.fixture(scope="module")
def answers(two):
    """Each switching method's answer."""
    return {name: refit(two[1], name) for name in SWITCHING}


def test_the_default_covers_the_truth_and_finds_the_states(two, answers):
    """Seed 5, one draw: intervals widened to 3 s.d. so that the claim holds for most seeds."""
    found = answers["history"]
    for k, true in enumerate(scenes.D_UM2_S):
        D = found.parameter(f"D_um2_s[{k}]")
        assert abs(np.log(D.value / true)) < 3 * D.sd / D.value
    scale = found.parameter("error_scale")
    assert abs(scale.value - 1) < 3 * scale.sd
    assert scenes.misclassified(found, two[0]) < 0.15


@pytest.mark.parametrize("method", SWITCHING)
def test_every_number_is_finite_and_inside_its_interval(answers, method):
    found = answers[method]
    assert found.status == "ok"
    for p in found.parameters:
        assert np.isfinite([p.value, p.sd, p.low, p.high]).all()
        assert p.low <= p.value <= p.high
    for name in found.positions.dtype.names:
        assert np.isfinite(found.positions[name]).all()
    np.testing.assert_allclose(found.positions["p_state"].sum(axis=1), 1)
    json.dumps(found.as_json())


def test_refined_positions_are_nearer_to_the_truth(rng):
    """Truth: the mean over the exposure. Errors of 60 nm on a molecule that moves by 32 nm."""
    true, _ = scenes.one_state(8, (20, 50), 0.1, 1e-9, dt_s=0.005)
    error = rng.normal(0, 0.06, true.x_um.shape)
    seen = true._replace(x_um=true.x_um + error, sd_um=np.full(true.state.shape, 0.06))
    for method in ("ml", "em"):
        given = {"states": 1} if method == "em" else {}
        found = refit(scenes.as_table(seen), method, **given).positions
        left = np.stack([found["x_um"], found["y_um"]], axis=1) - true.x_um.reshape(-1, 2)
        assert (left**2).mean() < 0.45 * (error**2).mean()
        told = (found["var_x_um2"].mean() + found["var_y_um2"].mean()) / 2
        assert told == pytest.approx((left**2).mean(), rel=0.15)  # 2000 correlated errors


def test_an_unknown_error_is_fitted_with_its_interval(two):
    _, data = two
    found = refit(data._replace(sd_um=None), "history").parameter("sd_um")
    rms = float(np.sqrt((data.sd_um**2).mean()))
    assert found.low < rms < found.high


def test_a_held_error_scale_is_said_to_be_given(two):
    scale = refit(two[1], "history", error_scale=1.2).parameter("error_scale")
    assert scale.fixed
    assert scale.value == pytest.approx(1.2, rel=1e-4)


def test_the_log_likelihood_is_that_of_the_final_pass_without_its_prior(two):
    """The same summit as `smooth_run` of the live path finds from elsewhere."""
    _, data = two
    rows = np.zeros(data.x_um.size, [(name, "f8") for name in ROW_FIELDS])
    for name in ("frame", "t_s", "x_um", "y_um"):
        rows[name] = getattr(data, name)
    rows["track_id"], rows["exposure_s"] = data.track, data.exposure_s
    rows["var_x_um2"], rows["var_y_um2"] = data.sd_um.T**2
    theta = np.array([np.log(0.2), 0.0, -2.0, -2.0, -0.7, -0.7, 0.0])
    blank = Answer(theta, np.eye(7), 0, 0, settled=False)
    start = to_model(blank, np.ones((1, 2)), np.zeros(1, np.int64), data.interval_s)
    final = smooth_run(rows, start).model
    found = refit(data, "history")
    for k in range(2):
        D = found.parameter(f"D_um2_s[{k}]")
        assert D.value == pytest.approx(final.D_um2_s[k], rel=0.1 * D.sd / D.value + 5e-3)


ROW_FIELDS = (
    "track_id", "frame", "t_s", "exposure_s",
    "x_um", "y_um", "var_x_um2", "var_y_um2", "cov_xy_um2",
)  # fmt: skip


def test_auto_takes_one_state_where_there_is_one():
    _, data = scenes.one_state(3, (20, 40), 0.3, 0.03, dt_s=0.01)
    found = refit(data, "history", states="auto")
    assert [row["states"] for row in found.tables["choice"]] == [1, 2, 3, 4]
    assert found.positions["p_state"].shape[1] == 1


def test_the_evidence_chooses_one_state_where_there_is_one():
    """vbSPT's bound has its own penalty; no errors, no blur, as it believes."""
    _, data = scenes.one_state(4, (20, 40), 0.3, 1e-9, dt_s=0.01, exposure_s=0.0)
    found = refit(data, "vbspt", states="auto")
    assert len(found.tables["choice"]) == 4
    D = found.parameter("D_um2_s[0]")
    assert found.positions["p_state"].shape[1] == 1
    assert D.low < 0.3 < D.high


def test_the_bound_on_the_evidence_never_falls(two):
    steps = vbspt.lay_steps(two[1])
    prior = vbspt._prior(0.005, 2)
    q = em_rounds.blank(steps.laid, 2)
    q.mu[:] = steps.place
    now, bounds = prior._replace(c=prior.c * [0.5, 2.0]), []
    for _ in range(40):
        bounds.append(vbspt.expect(steps.laid.rows, now, prior, q))
        now = vbspt.Posterior(
            prior.n + q.p.sum(axis=0),
            prior.c + q.dy2 @ q.p,
            prior.w + q.pairs,
            prior.first + q.starts,
        )
    assert np.diff(bounds).min() > -1e-8
    assert bounds[-1] > bounds[1] + 2


def test_starts_are_drawn_from_the_seed(two):
    few = select(two[1], np.arange(30) < 8)
    one, same = (refit(few, "em", seed=4, starts=2) for _ in range(2))
    assert one.parameters == same.parameters
    assert one.provenance["seed"] == 4


def test_corrections_undo_what_the_simpler_models_leave_out(answers):
    """Blur and errors bias D by a known factor (Linden's eq. 9); R = 1/6."""
    for method in ("em-kalman", "em-vbspt"):
        found = answers[method]
        bare, mended = (found.parameter(f"D_{which}um2_s[1]") for which in ("", "corrected_"))
        assert abs(mended.value - 1) < 0.2
        taken = 0.0 if method == "em-kalman" else scenes_error(found)
        assert mended.value == pytest.approx((bare.value - taken) / (1 - 1 / 3), rel=0.02)


def scenes_error(found):
    """<eps^2> / dt of errors drawn evenly from 20 to 60 nm."""
    return (0.06**3 - 0.02**3) / (3 * 0.04) / scenes.DT_S


@pytest.mark.parametrize("known", [True, False])
def test_the_covariance_estimate_has_the_error_it_tells(known):
    """4000 tracks of 10 steps: mean within 3 of its errors, s.d. within 4 %."""
    _, data = scenes.one_state(11, (4000, 11), 1.0, 0.04, dt_s=0.01)
    found = moments(data)
    each = covariance_estimate(found, 0.01, 1 / 6, known=known)
    assert abs(each.D.mean() - 1) < 3 * each.D.std() / np.sqrt(4000)
    mean = found._replace(
        s0=np.array([found.s0.mean()]), s1=np.array([found.s1.mean()]),
        var=np.array([found.var.mean()]), n=np.array([10]), m=np.array([9]),
    )  # fmt: skip
    told = covariance_estimate(mean, 0.01, 1 / 6, known=known)
    assert each.D.std() == pytest.approx(float(told.sd_D[0]), rel=0.04)


def test_known_errors_sharpen_the_covariance_estimate():
    """Ten steps at a short exposure, e = .55: s.d. .71 D without, .50 D with them (4000 tracks)."""
    _, data = scenes.one_state(12, (4000, 11), 1.0, np.sqrt(0.0055), dt_s=0.01, exposure_s=0.0)
    found = moments(data)
    spread = [covariance_estimate(found, 0.01, 0.0, known=k).D.std() for k in (False, True)]
    assert spread[0] == pytest.approx(0.71, rel=0.05)
    assert spread[1] == pytest.approx(0.50, rel=0.05)


def test_steps_across_a_gap_do_not_count_for_the_covariances(rng):
    frame = np.array([0, 1, 2, 5, 6, 7])
    data = make_tracks(np.zeros(6, np.int64), frame, rng.normal(0, 0.1, (6, 2)), interval_s=0.01)
    found = moments(data)
    assert (found.n[0], found.m[0]) == (4, 2)


def test_maximum_likelihood_agrees_with_the_covariances():
    _, data = scenes.one_state(13, (30, 40), 0.5, 0.03, dt_s=0.01)
    ml = refit(data, "ml")
    cve = refit(data, "covariance")
    D, other = ml.parameter("D_um2_s"), cve.parameter("D_um2_s")
    assert abs(D.value - other.value) < 3 * other.sd
    rows = ml.tables["tracks"]
    assert len(rows) == 30
    inside = [row["D_low_um2_s"] < 0.5 < row["D_high_um2_s"] for row in rows]
    assert sum(inside) >= 25  # 95 % of 30; fewer than 25 has a chance of 1e-3


def test_em_needs_errors_and_says_so(two):
    bare = two[1]._replace(sd_um=None)
    with pytest.raises(RefitError, match="em needs standard errors; give sd_um"):
        refit(bare, "em")
    assert refit(bare, "em", sd_um=0.04, starts=1).status == "ok"
    assert refit(bare, "em-vbspt", starts=1).status == "ok"


@pytest.fixture
def table(two, tmp_path):
    """The scene as a file."""
    _, data = two
    path = tmp_path / "tracks.csv"
    columns = {name: getattr(data, name) for name in ("track", "frame", "x_um", "y_um")}
    columns |= {"sd_x_um": data.sd_um[:, 0], "sd_y_um": data.sd_um[:, 1]}
    csv.write_csv(pa.table(columns), path)
    return path


@pytest.mark.parametrize("method", FROM_TRACKS)
def test_each_method_is_one_command(table, tmp_path, capsys, method):
    out = tmp_path / "out.csv"
    given = ["refit", str(table), "--method", method, "--frame-ms", "5", "--out", str(out)]
    assert main([*given, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["method"] == method
    assert answer["parameters"][0]["low"] < answer["parameters"][0]["high"]
    assert answer["provenance"]["source"] == str(table)
    assert csv.read_csv(out).num_rows > 0


def test_people_see_intervals_and_the_choice(table, capsys):
    assert main(["refit", str(table), "--frame-ms", "5", "--states", "auto"]) == 0
    said = capsys.readouterr().out
    assert "D_um2_s[0] = " in said
    assert " to " in said
    chosen = [line for line in said.splitlines() if line.endswith("<")]
    assert len(chosen) == 1
    assert chosen[0].split()[0] == "2"


def test_the_list_names_every_method(capsys):
    assert main(["refit", "--list"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in METHODS)
