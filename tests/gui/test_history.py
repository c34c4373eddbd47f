"""Curves and tails hold a bounded memory and lose nothing that the eye would miss."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livespt.dashboard.history import History
from livespt.dashboard.tails import Positions, Tails


@settings(max_examples=60, deadline=None)
@given(n=st.integers(0, 700), capacity=st.integers(2, 40))
def test_a_history_is_bounded_and_spans_all_that_it_was_given(n, capacity):
    history = History(1, capacity)
    for i in range(n):
        history.append(float(i), [i])
    t_s, values = history.rows()
    assert len(t_s) == len(history) <= history.capacity + 1
    assert np.all(np.diff(t_s) > 0)
    np.testing.assert_array_equal(values[:, 0], t_s)  # each row is one that was put in
    if n:
        assert t_s[-1] == n - 1  # the newest is always shown
        assert t_s[0] < history.stride
        assert np.diff(t_s).max(initial=0) <= history.stride


def test_a_mean_history_averages_what_it_merges(rng):
    history = History(2, 8, reduce="mean")
    values = rng.normal(size=(64, 2))
    for t, row in enumerate(values):
        history.append(t, row)
    _, rows = history.rows()
    block = 64 // len(rows)
    np.testing.assert_allclose(rows, values.reshape(len(rows), block, 2).mean(axis=1), rtol=1e-12)


def test_rows_that_are_not_finite_are_left_out():
    history = History(1, 8)
    history.append(0.0, [1.0])
    history.append(1.0, [np.nan])
    history.append(np.inf, [1.0])
    assert len(history) == 1


def frame_of(frame: int, ids, x, states=None) -> Positions:
    ids = np.asarray(ids)
    states = np.zeros(len(ids), int) if states is None else np.asarray(states)
    return Positions(frame, 0.1 * frame, ids, np.asarray(x, float), np.zeros(len(ids)), states)


def test_tails_join_positions_of_one_track_in_order_of_time():
    tails = Tails(span_s=1.0)
    tails.push(frame_of(0, [7, 3], [0.0, 10.0]))
    tails.push(frame_of(1, [3, 7], [11.0, 1.0], [1, 0]))
    tails.push(frame_of(2, [7], [2.0]))
    segments = tails.segments(tails.newest())
    assert sorted(map(tuple, segments.x_um.tolist())) == [(0.0, 1.0), (1.0, 2.0), (10.0, 11.0)]
    newest = segments.x_um[:, 1] == 2.0
    assert segments.age[newest] == 0.0
    assert segments.state[segments.x_um[:, 1] == 11.0] == 1


def test_tails_forget_what_is_old_and_what_is_too_much():
    tails = Tails(span_s=1.0, max_rows=500)
    for frame in range(1000):
        tails.push(frame_of(frame, np.arange(30), np.full(30, frame)))
        assert tails.n_rows <= 500
    assert tails.segments(tails.newest()).x_um.min() >= 985
    crowd = Tails(span_s=1.0, max_rows=10)
    crowd.push(frame_of(0, np.arange(30), np.zeros(30)))
    assert crowd.newest().frame == 0  # one frame is always kept


def test_positions_are_found_by_frame_or_the_one_before():
    tails = Tails(span_s=10.0)
    for frame in (3, 4, 6):
        tails.push(frame_of(frame, [1], [frame]))
    assert [tails.at(f) and tails.at(f).frame for f in (2, 3, 5, 9)] == [None, 3, 4, 6]


@pytest.mark.parametrize("n_tracks", [0, 1])
def test_tails_of_nobody_and_of_one_frame_are_empty(n_tracks):
    tails = Tails()
    tails.push(frame_of(0, np.arange(n_tracks), np.zeros(n_tracks)))
    assert len(tails.segments(tails.newest()).x_um) == 0
