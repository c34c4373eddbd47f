"""Gaps from frame numbers and clocks."""

from __future__ import annotations

import pytest

from livespt.sources import GapDetector


def run(frames, interval_s=0.01, **options):
    """Feed (index, t_s, now_s); return the mended times and the events of each frame."""
    gaps = GapDetector(interval_s, **options)
    return zip(*(gaps.see(*one) for one in frames), strict=True)


def test_a_regular_stream_is_silent():
    t_s, events = run([(i, i * 0.01, i * 0.01) for i in range(100)])
    assert not any(events)
    assert list(t_s) == [i * 0.01 for i in range(100)]


def test_a_hole_in_the_numbers_is_missing_frames():
    _, events = run([(0, 0.0, 0.0), (4, 0.04, 0.04)])
    (event,) = events[1]
    assert (event.kind, event.frame, event.n_frames) == ("missing", 1, 3)
    assert event.t_s == pytest.approx(0.01)


def test_frames_lost_before_the_first_are_missing_too():
    _, events = run([(2, 0.02, 0.0)], first_index=0)
    assert (events[0][0].frame, events[0][0].n_frames) == (0, 2)


def test_jitter_is_no_event():
    _, events = run([(0, 0.0, 0.0), (1, 0.001, 0.4), (2, 0.45, 0.4), (3, 0.46, 0.46)])
    assert not any(events)


def test_silence_is_said_once_and_its_end_too():
    gaps = GapDetector(0.01)
    gaps.see(0, 0.0, 10.0)
    assert gaps.idle(10.49) == []
    (stalled,) = gaps.idle(10.51)
    assert (stalled.kind, stalled.frame) == ("stalled", 1)
    assert gaps.idle(11.0) == []
    _, (resumed,) = gaps.see(1, 2.0, 12.0)
    assert resumed.kind == "resumed"
    assert "2.00 s" in resumed.message


def test_a_long_interval_stretches_the_patience():
    gaps = GapDetector(0.2)
    gaps.see(0, 0.0, 0.0)
    assert gaps.idle(1.9) == []
    assert gaps.idle(2.1)[0].kind == "stalled"


def test_a_camera_that_never_starts_is_stalled():
    gaps = GapDetector(0.01)
    assert gaps.idle(5.0) == []
    assert gaps.idle(5.6)[0].kind == "stalled"


def test_a_clock_that_runs_back_is_said_and_time_goes_on():
    t_s, events = run(
        [(0, 5.0, 0.0), (1, 5.01, 0.01), (2, 1.0, 0.02), (3, 1.01, 0.03)], interval_s=0.01
    )
    assert [len(e) for e in events] == [0, 0, 1, 0]
    assert events[2][0].kind == "timestamp"
    assert list(t_s) == pytest.approx([5.0, 5.01, 5.02, 5.03])


def test_a_leap_of_the_clock_is_said_and_left_as_it_is():
    t_s, events = run([(0, 0.0, 0.0), (1, 3.0, 0.01)])
    assert "leapt" in events[1][0].message
    assert t_s[1] == 3.0


def test_a_real_pause_is_no_leap():
    _, events = run([(0, 0.0, 0.0), (1, 3.0, 3.0)])
    assert not any(events)


def test_numbers_that_run_back_are_said():
    _, events = run([(5, 0.0, 0.0), (3, 0.01, 0.01)])
    assert events[1][0].kind == "timestamp"
    assert "from 5 to 3" in events[1][0].message
