"""The live loop keeps order, hands over at once, and loses nothing on the way to an error."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from livespt.pipeline import Counters, LatencyLog, PaceCheck, ordered_map
from livespt.types import SPOT_DTYPE, Event, Frame, Spots

ADU = np.zeros((4, 4), np.uint16)


def frame(index: int) -> Frame:
    return Frame(index, 0.01 * index, ADU, 0.01)


def spots_of(item: Frame) -> Spots:
    return Spots(item.index, item.t_s, item.exposure_s, 1.0, np.zeros(0, SPOT_DTYPE))


def uneven(item: Frame) -> Spots:
    time.sleep(0.003 if item.index % 3 == 0 else 0.0)
    return spots_of(item)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_order_is_kept_and_events_stay_in_their_place(workers):
    gap = Event("missing", 0.2, 20, 1, "")
    stream = [frame(i) for i in range(20)] + [gap] + [frame(i) for i in range(21, 40)]
    out = list(ordered_map(uneven, stream, workers))
    seen = [item if isinstance(item, Event) else item[1].frame for item in out]
    assert seen == [*range(20), gap, *range(21, 40)]


def test_a_slow_source_never_holds_back_a_frame_already_given():
    release = threading.Event()

    def stream():
        yield frame(0)
        release.wait(5)
        yield frame(1)

    results = ordered_map(spots_of, stream(), workers=2)
    first = next(results)
    assert not isinstance(first, Event)
    assert first[0].index == 0  # came although the source is still waiting
    release.set()
    assert len(list(results)) == 1


def test_an_error_comes_after_all_results_before_it():
    def broken(item: Frame) -> Spots:
        if item.index == 5:
            raise ValueError("five")
        return spots_of(item)

    seen = []
    with pytest.raises(ValueError, match="five"):
        for item in ordered_map(broken, map(frame, range(10)), workers=3):
            seen.append(item[0].index)
    assert seen == [0, 1, 2, 3, 4]


def test_a_source_that_fails_gives_its_frames_first():
    def stream():
        yield from map(frame, range(7))
        raise OSError("cable")

    seen = []
    with pytest.raises(OSError, match="cable"):
        for item in ordered_map(uneven, stream(), workers=2):
            seen.append(item[0].index)
    assert seen == list(range(7))


def test_frames_in_flight_are_bounded():
    taken = []

    def stream():
        for i in range(50):
            taken.append(i)
            yield frame(i)

    results = ordered_map(spots_of, stream(), workers=1, window=4)
    next(results)
    time.sleep(0.05)
    assert len(taken) <= 7  # 4 in flight, 1 taken, 1 waiting for a slot, 1 being made
    results.close()


def test_a_pace_that_is_not_the_stated_one_is_noted_once():
    check = PaceCheck(0.010)
    notes = [check.see(Frame(i, 0.014 * i, ADU, 0.01)) for i in range(300)]
    (note,) = [n for n in notes if n is not None]
    assert note.kind == "note"
    assert "14 ms, not 10 ms" in note.message
    steady = PaceCheck(0.014)
    assert not any(steady.see(Frame(i, 0.014 * i, ADU, 0.01)) for i in range(300))


def test_latency_percentiles_rest_on_the_newest():
    log = LatencyLog(size=100)
    assert log.percentiles() == (0.0, 0.0)
    for ms in [1000.0] * 100 + [1.0] * 100:
        log.add(ms)
    assert log.percentiles() == (1.0, 1.0)


def test_every_lost_frame_is_counted_by_its_kind():
    counters = Counters()
    for event in (
        Event("missing", 0, 1, 3, ""),
        Event("shed", 0, 4, 2, ""),
        Event("note", 0, 0, 9, ""),
    ):
        counters.count(event)
    assert (counters.frames_missing, counters.frames_shed, counters.frames_in) == (3, 2, 2)
