"""What the linker promises, whatever the spots are like."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livespt.link import FrameOrderError, Linker, LinkError
from livespt.sections import LinkConfig
from livespt.types import SPOT_DTYPE, FitStatus, Spots

INTERVAL_S = 0.02


def table_of(points_um, sd_um=0.03):
    points_um = np.asarray(points_um, float).reshape(-1, 2)
    table = np.zeros(len(points_um), SPOT_DTYPE)
    table["x_um"], table["y_um"] = points_um.T
    table["var_x_um2"] = table["var_y_um2"] = sd_um**2
    return table


def spots_of(frame, points_um, *, t_s=None, sd_um=0.03):
    t_s = frame * INTERVAL_S if t_s is None else t_s
    return Spots(frame, t_s, INTERVAL_S, 1.0, table_of(points_um, sd_um))


def crowd(n, n_frames, seed=5, field_um=20.0):
    """Brownian molecules, all found in each frame."""
    rng = np.random.default_rng(seed)
    step = rng.normal(size=(n_frames, n, 2)) * np.sqrt(2 * 0.3 * INTERVAL_S)
    return rng.uniform(0, field_um, (n, 2)) + np.cumsum(step, axis=0)


def test_one_molecule_is_one_track():
    linker = Linker(INTERVAL_S)
    ids = [linker.step(spots_of(f, p)).track_id for f, p in enumerate(crowd(1, 200))]
    assert np.concatenate(ids).tolist() == [0] * 200
    assert linker.n_live == 1
    assert linker.flush().ended.tolist() == [0]
    assert linker.n_live == 0


def test_a_sure_link_is_called_sure_and_an_even_choice_even():
    linker = Linker(INTERVAL_S, field_um=(40, 40))
    for frame in range(5):
        linker.step(spots_of(frame, [(10, 10), (30, 30)]))
    links = linker.step(spots_of(5, [(10, 10), (29.9, 30), (30.1, 30)]))
    assert links.p_link[0] > 0.99
    # two spots as near as each other share the track: the chosen one has half, the other is new
    np.testing.assert_allclose(links.p_link[1:], 0.5, atol=0.02)
    assert len(set(links.track_id.tolist())) == 3


def test_the_first_spots_are_births_without_rivals():
    links = Linker(INTERVAL_S).step(spots_of(0, crowd(8, 1)[0]))
    assert sorted(links.track_id) == list(range(8))
    np.testing.assert_array_equal(links.p_link, 1.0)


def test_the_nearer_pairing_wins_over_the_nearest_spot():
    """Two tracks, two spots in line: the greedy choice would strand one molecule."""
    linker = Linker(INTERVAL_S, field_um=(40, 40), overrides=LinkConfig(D_um2_s=[0.3]))
    for frame in range(4):
        a, b = linker.step(spots_of(frame, [(10.0, 10), (10.3, 10)])).track_id
    links = linker.step(spots_of(4, [(10.19, 10), (10.5, 10)]))
    assert links.track_id.tolist() == [a, b]


def test_rows_that_are_not_ok_get_no_track_and_change_nothing():
    clean, dirty = Linker(INTERVAL_S), Linker(INTERVAL_S)
    for frame, points in enumerate(crowd(30, 20)):
        spots = spots_of(frame, points)
        rubbish = np.zeros(7, SPOT_DTYPE)
        rubbish["status"] = FitStatus.DIM
        rubbish["x_um"] = np.nan  # not looked at either
        place = np.sort(np.random.default_rng(frame).integers(0, 31, 7))
        table = np.insert(spots.table, place, rubbish)
        a, b = clean.step(spots), dirty.step(spots._replace(table=table))
        ok = table["status"] == FitStatus.OK
        assert (b.track_id[~ok] == -1).all()
        assert (b.p_link[~ok] == 0).all()
        np.testing.assert_array_equal(a.track_id, b.track_id[ok])
        np.testing.assert_array_equal(a.p_link, b.p_link[ok])


def test_the_order_of_the_rows_does_not_matter():
    rng = np.random.default_rng(3)
    a, b = Linker(INTERVAL_S), Linker(INTERVAL_S)
    for frame, points in enumerate(crowd(300, 30)):
        spots, order = spots_of(frame, points), rng.permutation(300)
        x, y = a.step(spots), b.step(spots._replace(table=spots.table[order]))
        np.testing.assert_array_equal(x.track_id[order], y.track_id)
        np.testing.assert_array_equal(x.p_link[order], y.p_link)


def test_the_same_spots_give_the_same_links_bit_for_bit():
    runs = []
    for _ in range(2):
        linker = Linker(INTERVAL_S)
        links = [linker.step(spots_of(f, p)) for f, p in enumerate(crowd(200, 30))]
        runs.append(b"".join(k.track_id.tobytes() + k.p_link.tobytes() for k in links))
    assert runs[0] == runs[1]


def test_an_empty_frame_is_a_miss_not_an_end():
    linker = Linker(INTERVAL_S)
    path = crowd(20, 12)
    first = [linker.step(spots_of(f, path[f])) for f in range(10)][-1]
    empty = linker.step(spots_of(10, []))
    assert len(empty.track_id) == len(empty.ended) == 0
    np.testing.assert_array_equal(linker.step(spots_of(11, path[11])).track_id, first.track_id)


def test_a_thousand_empty_frames_end_every_track_and_then_all_begins_anew():
    linker = Linker(INTERVAL_S)
    path = crowd(20, 10)
    for frame in range(10):
        linker.step(spots_of(frame, path[frame]))
    ended = np.concatenate([linker.step(spots_of(f, [])).ended for f in range(10, 1010)])
    assert sorted(ended) == list(range(20))
    assert linker.n_live == 0
    assert sorted(linker.step(spots_of(1010, path[0])).track_id) == list(range(20, 40))


def test_a_thousand_empty_frames_at_the_start_do_no_harm():
    linker = Linker(INTERVAL_S)
    for frame in range(1000):
        linker.step(spots_of(frame, []))
    path = crowd(20, 10)
    first = [linker.step(spots_of(1000 + f, p)).track_id for f, p in enumerate(path)]
    np.testing.assert_array_equal(first[0], first[-1])


def test_five_thousand_molecules_are_linked():
    """70 x 70 um: one a square micron; steps of .11 um a dimension."""
    linker = Linker(INTERVAL_S)
    path = crowd(5000, 6, field_um=70.0)
    ids = [linker.step(spots_of(f, p)).track_id for f, p in enumerate(path)]
    assert all(len(set(i.tolist())) == 5000 for i in ids)
    assert np.mean(ids[-1] == ids[-2]) > 0.85


def test_real_time_counts_not_the_number_of_frames():
    """After ten intervals a step of 1.4 um is no wonder (s.d. .63); after one it is another."""
    for later, same in ((10, True), (1, False)):
        linker = Linker(INTERVAL_S, field_um=(40, 40), overrides=LinkConfig(D_um2_s=[1.0]))
        for frame in range(20):
            last = linker.step(spots_of(frame, [(10, 10), (30, 30)]))
        t_s = (19 + later) * INTERVAL_S
        links = linker.step(spots_of(20, [(11.4, 10), (30, 30)], t_s=t_s))
        assert bool(links.track_id[0] == last.track_id[0]) is same


def test_a_clock_that_stands_still_falls_back_to_the_frame_numbers():
    good, bad = Linker(INTERVAL_S), Linker(INTERVAL_S)
    for frame, points in enumerate(crowd(50, 20)):
        a = good.step(spots_of(frame, points))
        b = bad.step(spots_of(frame, points, t_s=0.0))
        np.testing.assert_array_equal(a.track_id, b.track_id)


def test_a_tilted_covariance_decides_between_two_spots():
    """Both spots are as far away; only along its long axis is a spot's error so large."""
    linker = Linker(INTERVAL_S, field_um=(40, 40), overrides=LinkConfig(D_um2_s=[0.01]))
    for frame in range(5):
        linker.step(spots_of(frame, [(10, 10)], sd_um=0.02))
    spots = spots_of(5, [(10.14, 10.14), (10.14, 9.86)])
    spots.table["var_x_um2"] = spots.table["var_y_um2"] = 0.01
    spots.table["cov_xy_um2"] = 0.0095
    assert linker.step(spots).track_id.tolist()[0] == 0


def test_frames_out_of_order_are_refused():
    linker = Linker(INTERVAL_S)
    linker.step(spots_of(7, [(1, 1)]))
    for frame in (7, 3):
        with pytest.raises(FrameOrderError, match=rf"frame {frame} came after frame 7"):
            linker.step(spots_of(frame, [(1, 1)]))
    assert linker.step(spots_of(8, [(1, 1)])).track_id.tolist() == [0]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("x_um", np.nan),
        ("y_um", np.inf),
        ("var_x_um2", -1.0),
        ("var_y_um2", 0.0),
        ("cov_xy_um2", 1.0),
        ("cov_xy_um2", np.nan),
    ],
)
def test_an_unusable_row_is_refused_by_name_and_leaves_no_trace(field, value):
    linker, twin = Linker(INTERVAL_S), Linker(INTERVAL_S)
    path = crowd(30, 6)
    for frame in range(5):
        linker.step(spots_of(frame, path[frame]))
        twin.step(spots_of(frame, path[frame]))
    bad = spots_of(5, path[5])
    bad.table[field][17] = value
    with pytest.raises(LinkError, match=rf"frame 5, row 17: .*{field}"):
        linker.step(bad)
    a, b = linker.step(spots_of(5, path[5])), twin.step(spots_of(5, path[5]))
    np.testing.assert_array_equal(a.track_id, b.track_id)
    np.testing.assert_array_equal(a.p_link, b.p_link)


def test_an_unusable_time_exposure_table_interval_or_field_is_refused():
    linker, spots = Linker(INTERVAL_S), spots_of(0, [(1, 1)])
    with pytest.raises(LinkError, match="t_s is nan"):
        linker.step(spots._replace(t_s=np.nan))
    with pytest.raises(LinkError, match="exposure_s is -1"):
        linker.step(spots._replace(exposure_s=-1.0))
    with pytest.raises(LinkError, match="expected rows of SPOT_DTYPE"):
        linker.step(spots._replace(table=np.zeros(3)))
    with pytest.raises(LinkError, match="interval_s is 0"):
        Linker(0)
    with pytest.raises(LinkError, match="field_um is"):
        Linker(1.0, field_um=(10.0, -1.0))


def test_a_wrong_choice_is_revised_when_the_next_frames_show_it():
    """A slow and a fast molecule come back from the dark, each as far from either's last place.

    Who is who shows only as one of them stays and the other leaps on. Whichever way it turns out,
    the frame of their return looks the same: one of the two cases needs a revision.
    """
    leaps = np.array([(0.0, 0.0), (0.3, -0.3), (0.0, -0.5), (0.4, -0.2)])
    fast = (10.5, 10) + leaps[[1, 0, 1, 2, 0, 3, 1, 0]] * (1, 0.5)
    n_told = 0
    for slow_is in (1, -1):
        linker = Linker(
            INTERVAL_S, field_um=(40, 40), overrides=LinkConfig(
                D_um2_s=[0.05, 3.0], p_switch=0.001, lag=2
            )
        )  # fmt: skip
        for frame, at in enumerate(fast):
            slow_id, fast_id = linker.step(spots_of(frame, [(10, 10), at])).track_id
        final = {}
        for k, leap in enumerate(leaps[[0, 1, 2, 3, 1]]):
            frame = 15 + k
            back = np.array([(10.25, 10 + 0.25 * slow_is), (10.25, 10 - 0.25 * slow_is)])
            back[1] += leap * (1, slow_is)
            order = np.lexsort(back.T) if k == 0 else [0, 1]
            links = linker.step(spots_of(frame, back[order]))
            final[frame] = np.empty(2, int)
            final[frame][:] = links.track_id
            for of_frame, row, track, p in links.revised.tolist():
                final[of_frame][row] = track
                assert p > 0.5
            n_told += len(links.revised)
            if k == 0:
                rows = np.argsort(order)
        assert final[15][rows].tolist() == [slow_id, fast_id]
        assert [final[f].tolist() for f in range(16, 20)] == [[slow_id, fast_id]] * 4
    assert n_told >= 2


def test_without_a_lag_nothing_is_revised_and_nobody_can_write_there():
    links = Linker(INTERVAL_S).step(spots_of(0, [(1, 1)]))
    assert len(links.revised) == 0
    assert not links.revised.flags.writeable


def test_the_order_of_the_rows_does_not_matter_for_revisions_either():
    rng = np.random.default_rng(3)
    runs = []
    for shuffled in (False, True):
        linker = Linker(INTERVAL_S, field_um=(8, 8), overrides=LinkConfig(lag=3))
        final = {}
        for frame, points in enumerate(crowd(120, 25, field_um=8.0)):
            order = rng.permutation(120) if shuffled else np.arange(120)
            spots = spots_of(frame, points)
            links = linker.step(spots._replace(table=spots.table[order]))
            final[frame] = np.empty(120, int), order
            final[frame][0][order] = links.track_id
            for of_frame, row, track, _ in links.revised.tolist():
                ids, rows = final[of_frame]
                ids[rows[row]] = track
        runs.append(np.array([ids for ids, _ in final.values()]))
        assert len(links.revised) > 0
    np.testing.assert_array_equal(*runs)


def test_a_fixed_bank_and_fixed_rates_are_kept():
    overrides = LinkConfig(D_um2_s=[1.0, 0.05], p_switch=0.02, p_detect=0.9, p_bleach=0.03)
    linker = Linker(INTERVAL_S, overrides=overrides)
    for frame, points in enumerate(crowd(40, 30)):
        linker.step(spots_of(frame, points))
    motion = linker.motion
    assert motion.D_um2_s.tolist() == [0.05, 1.0]
    np.testing.assert_allclose(motion.transition, [[0.98, 0.02], [0.02, 0.98]])
    assert (motion.p_detect, motion.p_bleach) == (0.9, 0.03)


def test_warming_up_leaves_the_linker_as_it_is():
    linker = Linker(INTERVAL_S)
    linker.warm_up()
    assert linker.n_live == 0
    assert linker.step(spots_of(0, [(1, 1)])).track_id.tolist() == [0]
    assert linker.flush().frame == 0


def test_flushing_before_any_frame_ends_nothing():
    links = Linker(INTERVAL_S).flush()
    assert (links.frame, len(links.ended), len(links.track_id)) == (-1, 0, 0)


coordinate = st.one_of(
    st.sampled_from([0.0, 1.0, 1.5]), st.floats(-1e3, 1e3, allow_subnormal=False)
)
spot = st.tuples(coordinate, coordinate, st.floats(1e-3, 2.0), st.sampled_from([0, 0, 0, 1, 4]))
frames = st.lists(st.tuples(st.integers(1, 40), st.lists(spot, max_size=12)), max_size=12)


@settings(max_examples=60, deadline=None)
@given(frames, st.booleans(), st.integers(0, 3))
def test_every_spot_gets_one_track_no_track_two_spots_and_the_ended_stay_ended(frames, known, lag):
    d_um2_s = [0.5] if known else []
    linker = Linker(INTERVAL_S, overrides=LinkConfig(D_um2_s=d_um2_s, lag=lag))
    frame, dead, seen, told = -1, set(), set(), {}
    for step, points in frames:
        frame += step
        table = table_of([p[:2] for p in points])
        table["var_x_um2"] = table["var_y_um2"] = [p[2] ** 2 for p in points]
        table["status"] = [p[3] for p in points]
        links = linker.step(Spots(frame, frame * INTERVAL_S, INTERVAL_S, 1.0, table))
        ok = table["status"] == FitStatus.OK
        ids = links.track_id[ok].tolist()
        assert min(ids, default=0) >= 0
        assert len(set(ids)) == len(ids)
        assert (links.track_id[~ok] == -1).all()
        assert ((links.p_link >= 0) & (links.p_link <= 1)).all()
        told[frame] = links.track_id.copy()
        for of_frame, row, track, p in links.revised.tolist():
            assert of_frame < frame
            assert sorted(told).index(frame) - sorted(told).index(of_frame) <= lag
            assert told[of_frame][row] >= 0
            assert 0 <= p <= 1
            told[of_frame][row] = track
            seen.add(track)
        for found in told.values():
            tracks = found[found >= 0].tolist()
            assert len(set(tracks)) == len(tracks)
        ended = links.ended.tolist()
        assert len(set(ended)) == len(ended)
        assert not dead & set(ids)
        assert not set(ended) & set(ids)
        assert set(ended) <= seen - dead
        dead |= set(ended)
        seen |= set(ids)
        assert not dead & set(ids)
        assert linker.n_live == len(seen) - len(dead)
    assert set(linker.flush().ended.tolist()) == seen - dead
