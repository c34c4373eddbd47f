"""ExTrack's names: parameters, fits, tables and files, and what is refused."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from livespt.refit import RefitError, make_tracks, refit
from livespt.refit.extrack import (
    durations,
    generate_params,
    get_params,
    len_hist,
    param_fitting,
    position_refinement,
    predict_Bs,
    read_table,
    read_trackmate_xml,
    refine,
    save_extrack_2_CSV,
    save_extrack_2_xml,
    save_params,
)
from livespt.refit.extrack.durations import count_runs, kaplan_meier

DT_S, SD_UM = 0.02, 0.03
D_UM2_S, P = np.array([0.02, 0.5]), np.array([[0.95, 0.05], [0.1, 0.9]])


def draw(rng, n, T, n_dims=2):
    """States, true positions and seen ones, exactly as ExTrack's model has them."""
    state = np.zeros((n, T), int)
    state[:, 0] = rng.random(n) > 2 / 3
    for t in range(1, T):
        leaves = rng.random(n) < P[state[:, t - 1], 1 - state[:, t - 1]]
        state[:, t] = np.where(leaves, 1 - state[:, t - 1], state[:, t - 1])
    spread = np.sqrt((D_UM2_S[state[:, 1:]] + D_UM2_S[state[:, :-1]]) * DT_S)
    steps = rng.normal(size=(n, T - 1, n_dims)) * spread[..., None]
    true = np.concatenate([np.zeros((n, 1, n_dims)), steps.cumsum(axis=1)], axis=1)
    return state, true, true + rng.normal(0, SD_UM, true.shape)


@pytest.fixture(scope="module")
def tracks():
    rng = np.random.default_rng(11)
    return {str(T): draw(rng, 150, T)[2] for T in (6, 9, 12)}


@pytest.fixture(scope="module")
def fitted(tracks):
    start = generate_params(2, 1, 2, D_max=3)
    return param_fitting(tracks, DT_S, start, nb_states=2, cell_dims=[100], frame_len=4)


def test_a_fit_is_an_lmfit_result_with_standard_errors(fitted):
    from lmfit import fit_report

    assert fitted.success
    assert fitted.errorbars
    assert fitted.nvarys == 7 == len(fitted.var_names)
    loss = float(fitted.residual[0])
    assert fitted.aic == pytest.approx(2 * 7 + 2 * loss)
    assert fitted.bic == pytest.approx(7 * np.log(fitted.ndata) + 2 * loss)
    truth = {"D0": 0.02, "D1": 0.5, "LocErr": SD_UM, "F0": 2 / 3}
    for name, value in truth.items():
        found = fitted.params[name]
        assert abs(found.value - value) < 4 * found.stderr, name
    assert fitted.params["F1"].stderr == pytest.approx(fitted.params["F0"].stderr, rel=1e-4)
    assert fitted.covar[0, 0] == pytest.approx(fitted.params[fitted.var_names[0]].stderr ** 2)
    assert "D1" in fit_report(fitted)


def test_ordered_parameters_reach_the_same_summit(tracks, fitted):
    again = param_fitting(tracks, DT_S, get_params(2), cell_dims=[100], frame_len=4)
    assert again.residual[0] == pytest.approx(fitted.residual[0], abs=1e-3)
    assert again.params["D1"].stderr == pytest.approx(fitted.params["D1"].stderr, rel=0.02)


def test_a_ragged_list_is_the_same_data(tracks, fitted):
    ragged = [track for group in tracks.values() for track in group]
    again = param_fitting(ragged, DT_S, generate_params(2, 1, 2, D_max=3), frame_len=4,
                          cell_dims=[100], workers=2)  # fmt: skip
    assert again.residual[0] == pytest.approx(fitted.residual[0], abs=1e-6)
    assert len(predict_Bs(ragged, DT_S, again.params, nb_states=2)) == len(ragged)


def test_steady_state_ties_the_fractions_to_the_switching(tracks):
    start = generate_params(2, 1, 2, D_max=3)
    found = param_fitting(tracks, DT_S, start, cell_dims=[100], frame_len=4, steady_state=True)
    p = {name: 1 - np.exp(-found.params[name].value) for name in ("p01", "p10")}
    assert found.params["F0"].value == pytest.approx(p["p10"] / (p["p01"] + p["p10"]))
    assert found.params["F0"].stderr > 0
    assert found.nvarys == 6


def test_steady_fractions_of_three_states_are_stationary():
    names = ["D0", "D1", "D2", "F0", "F1", "p01", "p02", "p10", "p12", "p20", "p21", "pBL"]
    vals = dict(zip(names, [0.01, 0.1, 1, 0.3, 0.3, 0.1, 0.02, 0.05, 0.2, 0.03, 0.15, 0.1]))  # noqa: B905
    vals["LocErr"] = 0.03
    params = get_params(3, True, dict.fromkeys(vals, True), vals, dict.fromkeys(vals, 1e-6),
                        dict.fromkeys(vals, 5.0))  # fmt: skip
    T = np.zeros((3, 3))
    for i in range(3):
        for j in range(3):
            T[i, j] = 0 if i == j else 1 - np.exp(-vals[f"p{i}{j}"])
        T[i, i] = 1 - T[i].sum()
    F = np.array([params[f"F{k}"].value for k in range(3)])
    np.testing.assert_allclose(F @ T, F, atol=1e-12)
    assert params["D2"].value == pytest.approx(1.0)


@pytest.mark.parametrize(
    "kind, names",
    [
        (1, {"LocErr"}),
        (2, {"LocErr0", "LocErr1", "LocErr2"}),
        (3, {"LocErr0", "LocErr1", "LocErr2"}),
        (4, {"slope_LocErr", "offset_LocErr"}),
        (None, set()),
    ],
)
def test_each_kind_of_error_has_its_parameters(kind, names):
    params = generate_params(3, kind, 3, slope_offsets_estimates=[1, 0])
    assert {name for name in params if "LocErr" in name} == names
    assert sum(params[f"F{k}"].value for k in range(3)) == pytest.approx(1)
    if kind == 3:
        assert params["LocErr1"].expr == "LocErr0"


@pytest.mark.parametrize("kind", [2, 3, 4, None])
def test_each_kind_of_error_fits(kind):
    x = draw(np.random.default_rng(5), 60, 7, 3)[2]
    errors = np.full(x.shape, SD_UM / 2 if kind == 4 else SD_UM)
    errors *= np.random.default_rng(1).uniform(0.9, 1.1, x.shape) if kind == 4 else 1.0
    given = None if kind in (2, 3) else {"7": errors}
    start = generate_params(2, kind, 3, D_max=3, slope_offsets_estimates=[1.5, 0.005])
    found = param_fitting({"7": x}, DT_S, start, input_LocErr=given, frame_len=3, cell_dims=[100])
    assert found.success
    assert found.params["D1"].value == pytest.approx(0.5, abs=5 * found.params["D1"].stderr)
    if kind in (2, 3):
        assert found.params["LocErr2"].value == pytest.approx(SD_UM, rel=0.3)


def test_a_state_that_is_not_there_holds_a_bound_and_says_so():
    x = np.random.default_rng(4).normal(0, 0.05, (50, 6, 2)).cumsum(axis=1)
    start = generate_params(1, 1, 2, (0.2, 0.3), D_max=3)
    found = param_fitting({"6": x}, DT_S, start, nb_states=1, cell_dims=[100])
    assert "at a bound: D0, LocErr; the data say nothing of pBL" in found.message
    assert found.params["LocErr"].stderr is None


def test_annotation_and_refinement_know_their_errors():
    """Seed 2, 400 tracks of 12: z-variance within .97 to 1.05 (its s.d. here is about .015)."""
    state, true, x = draw(np.random.default_rng(2), 400, 12)
    params = generate_params(2, 1, 2, estimated_Ds=[0.02, 0.5], estimated_LocErr=[SD_UM],
                             estimated_Fs=[2 / 3, 1 / 3],
                             estimated_transition_rates=[0.0513, 0.1054])  # fmt: skip
    p = predict_Bs({"12": x}, DT_S, params, nb_states=2, frame_len=4, cell_dims=[100])["12"]
    np.testing.assert_allclose(p.sum(axis=2), 1)
    assert (p.argmax(axis=2) == state).mean() > 0.92
    sure = p[..., 1] > 0.9
    assert state[sure].mean() == pytest.approx(p[..., 1][sure].mean(), abs=0.02)
    mean, sd = refine({"12": x}, DT_S, params, frame_len=4, cell_dims=[100])
    z = (mean["12"] - true) / sd["12"]
    assert 0.97 < (z**2).mean() < 1.05
    mean, sd = position_refinement({"12": x}, SD_UM, np.sqrt(2 * D_UM2_S * DT_S), [2 / 3, 1 / 3], P)
    z = (mean["12"] - true) / sd["12"][..., None]
    assert 0.97 < (z**2).mean() < 1.05
    assert ((mean["12"] - true) ** 2).mean() < 0.75 * SD_UM**2


def test_runs_that_are_cut_off_are_censored():
    """Without noise the pairs are 0 and 1: two runs of state 1, of 2 (ended) and 1 (cut off)."""
    states = np.array([0, 1, 1, 0, 0, 1])
    pair = np.zeros((6, 2, 2))
    pair[np.arange(1, 6), states[:-1], states[1:]] = 1.0
    ended, censored = count_runs(pair, np.array([0, 6]))
    np.testing.assert_array_equal(ended[:3], [[0, 0], [1, 1], [0, 0]])
    np.testing.assert_array_equal(censored[:3], [[0, 1], [0, 0], [0, 0]])
    found = kaplan_meier(ended[:, 1], censored[:, 1])
    np.testing.assert_array_equal(found.at_risk[:3], [2, 1, 0])
    np.testing.assert_allclose(found.survival[:3], [1, 0, 0])
    assert found.mean_frames == 3


def test_mean_stays_are_those_of_the_switching():
    """Seed 6, tracks much shorter than a stay; runs counted as ended would give about 6 frames."""
    _, _, x = draw(np.random.default_rng(6), 500, 15)
    params = generate_params(2, 1, 2, estimated_Ds=[0.02, 0.5], estimated_LocErr=[SD_UM],
                             estimated_Fs=[2 / 3, 1 / 3],
                             estimated_transition_rates=[0.0513, 0.1054])  # fmt: skip
    found = durations({"15": x}, DT_S, params, cell_dims=[100])
    for state, mean in zip(found, (20, 10), strict=True):
        assert state.mean_frames == pytest.approx(mean, abs=3 * state.mean_sd)
        assert (np.diff(state.survival) <= 0).all()
    counts = len_hist({"15": x}, params, DT_S, cell_dims=[100])
    assert counts.shape == (15, 2)
    assert (counts >= 0).all()


def test_gaps_and_uneven_times_are_counted_right():
    """Half the frames of one state are lost: D stays (seed 9; 5 standard errors)."""
    rng = np.random.default_rng(9)
    x = rng.normal(0, np.sqrt(2 * 0.3 * DT_S), (200, 12, 2)).cumsum(axis=1)
    x += rng.normal(0, SD_UM, x.shape)
    x[:, 1::2] = np.nan
    start = generate_params(1, 1, 2, D_max=3, estimated_Ds=[1.0])
    found = param_fitting({"12": x}, DT_S, start, nb_states=1, cell_dims=[100])
    assert abs(found.params["D0"].value - 0.3) < 5 * found.params["D0"].stderr
    dts = np.where(np.arange(6) % 2, DT_S, 3 * DT_S)
    steps = rng.normal(size=(300, 6, 2)) * np.sqrt(2 * 0.3 * dts)[None, :, None]
    x = np.concatenate([np.zeros((300, 1, 2)), steps.cumsum(axis=1)], axis=1)
    x += rng.normal(0, SD_UM, x.shape)
    found = param_fitting({"7": x}, {"7": np.tile(dts, (300, 1))}, start, nb_states=1)
    assert abs(found.params["D0"].value - 0.3) < 5 * found.params["D0"].stderr


def test_it_is_a_method_of_refit(tracks):
    rows = [(i, t, *place) for i, track in enumerate(tracks["9"]) for t, place in enumerate(track)]
    table = np.array(rows)
    found = refit(
        make_tracks(table[:, 0].astype(int), table[:, 1].astype(int), table[:, 2:],
                    interval_s=DT_S, exposure_s=0.0),
        "extrack", frame_len=3, states=[1, 2],
    )  # fmt: skip
    assert found.status == "ok"
    assert [row["states"] for row in found.tables["choice"]] == [1, 2]
    slow, fast = found.parameter("D_um2_s[0]"), found.parameter("D_um2_s[1]")
    assert slow.value < fast.value
    assert fast.low < 0.5 < fast.high
    assert found.positions.size == found.n_positions == len(table)
    np.testing.assert_allclose(found.positions["p_state"].sum(axis=1), 1)
    found.as_json()


def test_tables_come_back_as_they_were_written(tracks, tmp_path):
    p = {key: np.full((*x.shape[:2], 2), 0.5) for key, x in tracks.items()}
    save_extrack_2_CSV(tmp_path / "out.csv", tracks, p, DT_S)
    read, frames, more = read_table(
        tmp_path / "out.csv", colnames=["POSITION_X", "POSITION_Y", "FRAME", "TRACK_ID"],
        opt_colnames=["PRED_0"],
    )  # fmt: skip
    assert list(read) == list(tracks)
    for key, x in tracks.items():
        np.testing.assert_array_equal(read[key], x)
        np.testing.assert_array_equal(frames[key][0], np.arange(int(key)))
        assert (more["PRED_0"][key] == 0.5).all()
    params = generate_params(2, 1)
    save_extrack_2_xml(tracks, p, params, tmp_path / "out.xml", DT_S)
    read, frames, more = read_trackmate_xml(tmp_path / "out.xml", dist_th=np.inf,
                                            opt_metrics_names=["pred_1"])  # fmt: skip
    for key, x in tracks.items():
        np.testing.assert_array_equal(read[key], x)
        assert (more["pred_1"][key] == 0.5).all()
    save_params(params, tmp_path, "csv")
    text = (tmp_path / "params.csv").read_text().splitlines()
    names = [row[0] for row in csv.reader(text)]
    assert names == list(params)


def test_readers_keep_what_they_are_asked_to(tmp_path):
    rows = ["POSITION_X,POSITION_Y,FRAME,TRACK_ID,MOVIE"]
    rows += [f"{0.1 * t},{0.2 * t},{5 - t},1,a" for t in range(6)]  # backwards
    rows += [f"{0.1 * t},{0.3 * t},{t},1,b" for t in range(8)]
    rows += ["1,1,0,None,a", "5,5,3,,b"]
    rows += [f"{t * 5.0},0.3,{t},2,a" for t in range(7)]  # long steps
    path = tmp_path / "tracks.csv"
    path.write_text("\n".join(rows))
    names = ["POSITION_X", "POSITION_Y", "FRAME", ["TRACK_ID", "MOVIE"]]
    read, frames, _ = read_table(path, [5, 7], dist_th=1, colnames=names)
    assert {key: len(x) for key, x in read.items()} == {"5": 1, "7": 1}
    np.testing.assert_array_equal(frames["5"][0], np.arange(5))
    assert names[-1] == ["TRACK_ID", "MOVIE"]


BAD = {
    "no such column": ("X,Y\n1,2\n", "no column 'POSITION_X'"),
    "text": ("POSITION_X,POSITION_Y,FRAME,TRACK_ID\nx,1,2,3\n", "row 2: 'x' is not a number"),
    "short row": ("POSITION_X,POSITION_Y,FRAME,TRACK_ID\n1,1\n", "row 2 has 2 of 4 columns"),
    "infinite": ("POSITION_X,POSITION_Y,FRAME,TRACK_ID\ninf,1,2,3\n", "row 2 is not finite"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_table_is_named(kind, tmp_path):
    text, said = BAD[kind]
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(RefitError, match=said):
        read_table(path)


@pytest.mark.parametrize(
    "text, said",
    [
        ('<!DOCTYPE a [<!ENTITY b "c">]><Tracks/>', "document type"),
        ("<Tracks><particle>", "not XML"),
        ("<Model/>", "expected TrackMate's <Tracks>"),
        ('<Tracks><particle><detection t="0" x="1"/></particle></Tracks>', "without 'y'"),
        ('<Tracks><particle><detection t="0" x="a" y="1"/></particle></Tracks>', "not a number"),
    ],
)
def test_bad_xml_is_refused(text, said, tmp_path):
    path = tmp_path / "bad.xml"
    path.write_text(text)
    with pytest.raises(RefitError, match=said):
        read_trackmate_xml(path)


@pytest.mark.parametrize(
    "change, said",
    [
        ({"all_tracks": {}}, "no tracks"),
        ({"all_tracks": {"5": np.zeros((2, 4, 2))}}, "4 positions a track, not 5"),
        ({"all_tracks": {"5": np.zeros((2, 5, 4))}}, "expected \\(n, T, 1 to 3\\)"),
        ({"all_tracks": {"5": np.full((2, 5, 2), np.nan)}}, "no track with two positions"),
        ({"dt": 0}, "above 0"),
        ({"dt": {"6": np.ones((2, 6))}}, "no entry '5'"),
        ({"dt": {"5": np.zeros((2, 5))}}, "above 0 between all positions"),
        ({"nb_states": 3}, "3 states need D2, F2"),
        ({"input_LocErr": {"5": np.ones((2, 5, 2))}}, "expected one of the two"),
        ({"frame_len": 1}, "frame_len 1"),
        ({"frame_len": 40, "all_tracks": {"50": np.zeros((1, 50, 2))}}, "needs .* GB"),
        ({"exposure_s": 0.1}, "exposure_s"),
        ({"cell_dims": [-1]}, "cell_dims"),
        ({"Matrix_type": 2}, "Matrix_type"),
    ],
)
def test_bad_input_is_named(change, said):
    whole = {"all_tracks": {"5": np.zeros((2, 5, 2))}, "dt": 0.02, "params": generate_params(2, 1)}
    with pytest.raises(RefitError, match=said):
        param_fitting(**{**whole, **change})


def test_params_without_an_error_need_one_given():
    with pytest.raises(RefitError, match="input_LocErr: needed"):
        param_fitting({"5": np.zeros((2, 5, 2))}, 0.02, generate_params(2, None))
    with pytest.raises(RefitError, match="'LocErr' is missing"):
        get_params(2, min_values={"D0": 0})


def test_the_number_of_sequences_is_bounded_as_asked(tracks, fitted):
    """16 sequences of two states are those of four frames."""
    four = param_fitting(tracks, DT_S, get_params(2), cell_dims=[100], max_nb_states=16)
    assert four.residual[0] == pytest.approx(fitted.residual[0], abs=1e-3)
    few = predict_Bs(tracks, DT_S, fitted.params, [100], 2, frame_len=9, max_nb_states=8)
    three = predict_Bs(tracks, DT_S, fitted.params, [100], 2, frame_len=3)
    for key, p in few.items():
        np.testing.assert_allclose(p, three[key])


def test_settings_that_mean_nothing_here_are_refused(tracks, fitted):
    for more, expected in (
        ({"threshold": 0.2}, "threshold: 0.2; sequences are merged by"),
        ({"method": "powell"}, "method: 'powell'; expected 'bfgs'"),
        ({"max_nb_states": 3}, "max_nb_states: 3; expected 4 or more"),
    ):
        with pytest.raises(RefitError, match=expected):
            param_fitting(tracks, DT_S, **more)
    with pytest.raises(RefitError, match="threshold"):
        predict_Bs(tracks, DT_S, fitted.params, nb_states=2, threshold=0.1)


def test_a_talkative_fit_tells_its_steps(tracks, capsys):
    small = {"6": tracks["6"][:40]}
    param_fitting(small, DT_S, get_params(2), cell_dims=[100], frame_len=3)
    assert capsys.readouterr().err == ""
    found = param_fitting(small, DT_S, get_params(2), cell_dims=[100], frame_len=3, verbose=1)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= found.nit
    assert f"-ln L {found.residual[0]:.4f}" in lines[-1]


def test_stays_are_counted_with_sub_steps_too(tracks, fitted):
    """Two sub-steps are nearly the same model where switching is rare: within a tenth."""
    one = len_hist(tracks, fitted.params, DT_S, cell_dims=(100,), frame_len=4)
    two = len_hist(tracks, fitted.params, DT_S, (100,), nb_substeps=2, workers=2, frame_len=6)
    assert not np.array_equal(one, two)
    np.testing.assert_allclose(two.sum(axis=0), one.sum(axis=0), rtol=0.1)
