"""The live filter as its caller sees it: order, gaps, false links, endings, bad input."""

from __future__ import annotations

import numpy as np
import pytest

from livespt.infer import InferError, OnlineFilter, smooth_run
from livespt.sections import InferConfig
from livespt.types import SPOT_DTYPE, FitStatus, Links, Spots, track_dtype

INTERVAL_S, SD_UM = 0.02, 0.03
TRACK_DTYPE = np.dtype(
    [("track_id", "i8"), ("frame", "i8")]
    + [(name, "f8") for name in ("t_s", "exposure_s", "x_um", "y_um")]
    + [(name, "f8") for name in ("var_x_um2", "var_y_um2", "cov_xy_um2", "p_link")]
)
NONE = np.empty(0, np.int64)


def walk(n_tracks=20, n_frames=40, seed=0, D=(0.05, 1.0)):
    """Paths that keep their state: half the tracks slow, half fast. Blur-free, 30 nm errors."""
    rng = np.random.default_rng(seed)
    sd = np.sqrt(2 * np.asarray(D)[np.arange(n_tracks) % len(D)] * INTERVAL_S)
    steps = rng.normal(0, 1, (n_frames, n_tracks, 2)) * sd[:, None]
    return np.cumsum(steps, axis=0) + rng.normal(0, SD_UM, steps.shape)


def a_frame(index, xy, track_id=None, ended=NONE, **columns):
    table = np.zeros(len(xy), SPOT_DTYPE)
    table["x_um"], table["y_um"] = np.asarray(xy).T
    table["var_x_um2"] = table["var_y_um2"] = SD_UM**2
    for name, value in columns.items():
        table[name] = value
    ids = np.arange(len(xy)) if track_id is None else np.asarray(track_id)
    spots = Spots(index, index * INTERVAL_S, 1e-6, 1.0, table)
    return spots, Links(index, ids, np.ones(len(xy)), np.asarray(ended, np.int64))


def feed(online, path, first=0):
    return [online.step(*a_frame(first + i, xy)) for i, xy in enumerate(path)]


def as_table(path):
    n_frames, n_tracks, _ = path.shape
    table = np.zeros(n_frames * n_tracks, TRACK_DTYPE)
    table["track_id"] = np.repeat(np.arange(n_tracks), n_frames)
    table["frame"] = np.tile(np.arange(n_frames), n_tracks)
    table["t_s"], table["exposure_s"] = table["frame"] * INTERVAL_S, 1e-6
    table["x_um"], table["y_um"] = path.transpose(1, 0, 2).reshape(-1, 2).T
    table["var_x_um2"] = table["var_y_um2"] = SD_UM**2
    table["p_link"] = 1.0
    return table


def bits(estimates):
    return estimates.table.tobytes(), [np.asarray(v).tobytes() for v in estimates.model[:-1]]


def test_same_input_gives_the_same_bits():
    one, two = (feed(OnlineFilter(2, INTERVAL_S), walk()) for _ in range(2))
    assert [bits(e) for e in one] == [bits(e) for e in two]


def test_the_start_is_forgotten():
    """The early refit also starts from a fresh guess: 10 times wrong changes nothing but digits."""
    path = walk(n_frames=60)
    models = [
        feed(OnlineFilter(2, INTERVAL_S, config=InferConfig(D_um2_s=D)), path)[-1].model
        for D in ([], [0.5, 0.6], [0.005, 10.0], [1.0, 0.05])
    ]
    for other in models[1:]:
        np.testing.assert_allclose(other.D_um2_s, models[0].D_um2_s, rtol=0.03)


def test_states_are_ordered_by_D_and_numbers_are_whole():
    for estimates in feed(OnlineFilter(3, INTERVAL_S), walk(n_frames=25)):
        model, table = estimates.model, estimates.table
        assert (np.diff(model.D_um2_s) >= 0).all()
        assert table.dtype == track_dtype(3)
        np.testing.assert_allclose(model.p_switch.sum(axis=1), 1)
        np.testing.assert_allclose(model.rate_per_s.sum(axis=1), 0, atol=1e-9)
        np.testing.assert_allclose(table["p_state"].sum(axis=1), 1)
        np.testing.assert_allclose(model.occupancy_lag.sum(axis=1), 1)
        for name in ("D", "occupancy", "p_switch"):
            low, high = np.moveaxis(getattr(model, name + "_95"), -1, 0)
            value = getattr(model, "D_um2_s" if name == "D" else name)
            assert ((low < value) & (value < high)).all()
        assert all(np.isfinite(table[n]).all() for n in table.dtype.names)


def test_one_state_has_no_switching():
    model = feed(OnlineFilter(1, INTERVAL_S), walk(D=(0.4,)))[-1].model
    assert model.p_switch.tolist() == [[1.0]]
    assert model.occupancy.tolist() == [1.0]
    assert model.D_95[0, 0] < 0.4 < model.D_95[0, 1]


def test_before_the_first_answer_it_says_so_and_intervals_are_wide():
    online = OnlineFilter(2, INTERVAL_S)
    model = online.model()
    assert model.status == "warming"
    assert (model.D_95[:, 1] / model.D_95[:, 0] > 1e3).all()
    assert feed(online, walk())[-1].model.status == "ok"


def test_one_false_link_does_not_blow_up_D():
    """One spot 5 um away in 800: without a guard it alone would put D_fast up by ten times."""
    path = walk()
    clean = feed(OnlineFilter(2, INTERVAL_S), path)[-1].model
    path[30, 3] += 5.0
    torn = feed(OnlineFilter(2, INTERVAL_S), path)[-1].model
    np.testing.assert_allclose(torn.D_um2_s, clean.D_um2_s, rtol=0.1)
    assert torn.n_steps == clean.n_steps - 2  # there and back


def test_an_ambiguous_link_is_followed_but_not_learned_from():
    path, online = walk(), OnlineFilter(2, INTERVAL_S)
    feed(online, path[:30])
    spots, links = a_frame(30, path[30])
    before = online.model()
    after = online.step(spots, links._replace(p_link=np.full(len(path[30]), 0.3)))
    np.testing.assert_array_equal(after.model.D_um2_s, before.D_um2_s)
    assert len(after.table) == len(path[30])


def test_rows_that_are_not_ok_or_not_linked_are_ignored():
    path, online = walk(n_tracks=4), OnlineFilter(2, INTERVAL_S)
    status = [FitStatus.OK, FitStatus.SINGULAR, FitStatus.OK, FitStatus.OK]
    table = online.step(*a_frame(0, path[0], [5, 6, -1, 8], status=status)).table
    assert table["track_id"].tolist() == [5, 8]
    assert table["spot"].tolist() == [0, 3]


def test_slots_of_ended_tracks_are_reused():
    online = OnlineFilter(2, INTERVAL_S)
    for i in range(200):
        xy = np.zeros((10, 2)) + np.random.default_rng(i).normal(0, 0.1, (10, 2))
        ended = np.arange(10) + 10 * (i - 1) if i else NONE
        online.step(*a_frame(i, xy, np.arange(10) + 10 * i, ended))
    assert online._slots.capacity == 64
    assert online.model().n_tracks == 0  # none had two spots


def test_more_tracks_than_slots_make_room():
    online = OnlineFilter(2, INTERVAL_S)
    table = feed(online, walk(n_tracks=150, n_frames=3))[-1].table
    assert len(table) == 150
    assert (table["n_spots"] == 3).all()


def test_a_gap_is_never_counted_as_motion():
    """Every second frame lost: D stays, because time is the clock's and not the count of frames."""
    path = walk(n_tracks=40, n_frames=120)
    online = OnlineFilter(2, INTERVAL_S)
    for i in range(0, 120, 2):
        model = online.step(*a_frame(i, path[i])).model
    for k, D in enumerate((0.05, 1.0)):
        assert model.D_95[k, 0] < D < model.D_95[k, 1]


def test_lagged_occupancy_counts_ended_tracks_too():
    """Two thirds of the molecules leave after frame 9; three frames on, frame 9 is still whole."""
    path, online = walk(n_tracks=30, n_frames=13), OnlineFilter(2, INTERVAL_S)
    feed(online, path[:10])
    slow = np.arange(0, 30, 2)[:5]
    gone = np.setdiff1d(np.arange(30), slow)
    for i in range(10, 13):
        ended = gone if i == 10 else NONE
        model = online.step(*a_frame(i, path[i][slow], slow, ended)).model
    assert model.lags.tolist() == [0, 3, 7]
    assert model.occupancy_lag[0, 0] > 0.9  # now: slow ones only
    assert model.occupancy_lag[1, 0] == pytest.approx(0.5, abs=0.1)  # frame 9: half and half


def test_an_empty_frame_is_a_frame():
    online = OnlineFilter(2, INTERVAL_S)
    feed(online, walk(n_frames=5))
    assert len(online.step(*a_frame(5, np.empty((0, 2)))).table) == 0
    assert len(OnlineFilter(2, INTERVAL_S).step(*a_frame(0, np.empty((0, 2)))).table) == 0


def test_bad_input_is_named():
    with pytest.raises(InferError, match="n_states: 5"):
        OnlineFilter(5, INTERVAL_S)
    with pytest.raises(InferError, match="interval_s: 0"):
        OnlineFilter(2, 0.0)
    with pytest.raises(InferError, match=r"infer\.D_um2_s: 1 values for 2 states"):
        OnlineFilter(2, INTERVAL_S, config=InferConfig(D_um2_s=[1.0]))
    online, xy = OnlineFilter(2, INTERVAL_S), np.zeros((2, 2))
    online.step(*a_frame(3, xy))
    with pytest.raises(InferError, match=r"frame 3 .* after frame 3"):
        online.step(*a_frame(3, xy))
    with pytest.raises(InferError, match="frame 4: 1 links for 2 spots"):
        online.step(a_frame(4, xy)[0], a_frame(4, xy[:1])[1])
    with pytest.raises(InferError, match="same track"):
        online.step(*a_frame(4, xy, [7, 7]))
    assert len(online.step(*a_frame(4, xy)).table) == 2  # a refused frame leaves no trace


def test_the_final_pass_needs_no_good_start():
    path = walk(n_tracks=40, n_frames=60)
    calls = []
    poor = OnlineFilter(2, INTERVAL_S, config=InferConfig(D_um2_s=[20.0, 90.0])).model()
    good = feed(OnlineFilter(2, INTERVAL_S), path)[-1].model
    one = smooth_run(as_table(path), poor, progress=lambda done, total: calls.append((done, total)))
    two = smooth_run(as_table(path), good)
    np.testing.assert_allclose(one.model.D_um2_s, two.model.D_um2_s, rtol=0.01)
    assert [d for d, _ in calls] == sorted(d for d, _ in calls)
    assert calls[-1][0] == calls[-1][1]
    slow = one.table["p_state"][:, 0].reshape(40, 60)
    assert (slow[::2].mean(axis=1) > 0.9).all()
    assert (slow[1::2].mean(axis=1) < 0.1).all()


def test_the_final_pass_takes_an_empty_run_and_single_spots():
    start = OnlineFilter(2, INTERVAL_S).model()
    assert smooth_run(np.zeros(0, TRACK_DTYPE), start).model.status == "warming"
    lone = smooth_run(as_table(walk(n_tracks=3, n_frames=1)), start)
    assert len(lone.table) == 3
    assert lone.model.n_steps == 0


def test_the_final_pass_names_bad_tables():
    good, start = as_table(walk(n_tracks=3, n_frames=4)), OnlineFilter(2, INTERVAL_S).model()
    with pytest.raises(InferError, match="no field 't_s'"):
        smooth_run(good[["track_id", "frame"]], start)
    with pytest.raises(InferError, match="sorted"):
        smooth_run(good[::-1], start)
    good["x_um"][2] = np.nan
    with pytest.raises(InferError, match="finite"):
        smooth_run(good, start)


def test_while_warming_nothing_is_known():
    online = OnlineFilter(2, INTERVAL_S)
    model = feed(online, walk(n_tracks=5, n_frames=4))[-1].model
    assert model.status == "warming"
    assert (model.D_95[:, 1] / model.D_95[:, 0] > 1e4).all()


def test_strays_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr("livespt.infer.learn.MOST_KEPT", 50)
    online = OnlineFilter(2, INTERVAL_S)
    for index in range(300):  # every spot a track of its own, none ever makes a step
        ids = np.array([2 * index, 2 * index + 1])
        online.step(*a_frame(index, [[1.0, 1.0], [5.0, 5.0]], track_id=ids, ended=ids - 2))
    assert sum(r.track.size for r in online._live.learner._rows) <= 100
