"""The live loop keeps order, hands over at once, and loses nothing on the way to an error."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from livespt.config import parse
from livespt.journal import read_run
from livespt.ordered import ordered_map
from livespt.pipeline import Chain, Counters, LatencyLog, PaceCheck, Pipeline
from livespt.session import Session
from livespt.settle import Settling
from livespt.types import (
    REVISION_DTYPE,
    SPOT_DTYPE,
    Estimates,
    Event,
    Frame,
    Links,
    Spots,
    track_dtype,
)

pytestmark = pytest.mark.alone

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


def test_the_source_is_read_by_one_thread_at_a_time():
    """A generator that two threads enter at once says so itself: ValueError."""

    def stream():
        for i in range(200):
            if i % 10 == 0:
                time.sleep(0.001)
            yield frame(i)

    assert len(list(ordered_map(uneven, stream(), workers=4))) == 200


@pytest.mark.parametrize("behind", [False, True])
def test_one_worker_does_all_until_items_wait(behind):
    """The first two items meet at work only where more than one waits at the source."""
    meet, names = threading.Barrier(2), set()

    def work(item: Frame) -> Spots:
        names.add(threading.current_thread().name)
        if behind and item.index < 2:
            meet.wait(10)  # raises unless both are at work at once
        return spots_of(item)

    out = list(ordered_map(work, map(frame, range(20)), workers=2, behind=lambda: behind))
    assert [item.index for item, _ in out] == list(range(20))
    assert len(names) == 1 + behind


def test_who_leaves_early_waits_for_work_in_hand_and_not_for_the_source():
    working, silent, done = threading.Event(), threading.Event(), []

    def stream():
        yield from (frame(0), frame(1))
        silent.wait(30)

    def slow(item: Frame) -> Spots:
        if item.index == 1:
            working.set()
            time.sleep(0.1)
            done.append(item.index)
        return spots_of(item)

    results = ordered_map(slow, stream(), workers=2)
    next(results)
    working.wait(5)
    results.close()
    assert done == [1]
    silent.set()


def test_any_number_of_workers_gives_the_same_answers_bit_for_bit(tmp_path):
    """Spots, links, estimates and models of 60 frames; two states, a crowd to be widened."""
    one, three = (answers_of(tmp_path / str(n), workers=n) for n in (1, 3))
    for name in ("spots", "links", "estimates"):
        assert one[name].tobytes() == three[name].tobytes(), name
    assert one["spots"]["var_x_um2"].size > 60 * 30
    assert one["model"] == three["model"]


def answers_of(folder, workers: int) -> dict[str, Any]:
    source = {"seed": 3, "n_frames": 60, "molecules": 60.0, "paced": False}
    text = {
        "source": {"kind": "simulated", "options": source},
        "localize": {"workers": workers},
        "infer": {"n_states": 2},
        "journal": {"folder": str(folder)},
        "wire": {"enabled": False},
    }
    with Session(parse(text)) as session:
        session.run()
    run = read_run(session.folder)
    spots, links = run.linked()
    model = [np.asarray(value).tolist() for value in run.model()]
    return {"spots": spots, "links": links, "estimates": run.estimates, "model": model}


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


def linked(n: int, revised: list[tuple[int, int, int, float]] | None = None):
    """Two spots of frame `n`, on tracks 0 and 1; and what is revised with it."""
    spots = Spots(n, 0.01 * n, 0.01, 1.0, np.zeros(2, SPOT_DTYPE))
    changes = np.array(revised or [], REVISION_DTYPE)
    nobody = np.zeros(0, np.int64)
    return spots, Links(n, np.array([0, 1]), np.ones(2), nobody, changes)


def test_a_frame_waits_until_its_identities_are_settled():
    """Frames 0, 1, 5, 6 (a gap between): each comes two frames later, with the last word on it."""
    settling: Settling[str] = Settling(2)
    revisions = {1: [(0, 1, 7, 0.6)], 5: [(0, 1, 8, 0.7), (1, 0, 9, 0.9)]}
    taken = {n: settling.take(*linked(n, revisions.get(n)), f"image {n}") for n in (0, 1, 5, 6)}
    assert [[each.spots.frame for each in taken[n]] for n in (0, 1, 5, 6)] == [[], [], [0], [1]]
    first, second = taken[5][0], taken[6][0]
    assert first.links.track_id.tolist() == [0, 8]
    assert first.links.p_link.tolist() == [1.0, 0.7]
    assert second.links.track_id.tolist() == [9, 1]
    assert (first.extra, len(second.links.revised)) == ("image 0", 0)
    assert [each.spots.frame for each in settling.rest()] == [5, 6]
    assert settling.rest() == []


def test_without_a_lag_nothing_waits():
    settling: Settling[None] = Settling(0)
    (only,) = settling.take(*linked(3), None)
    assert only.spots.frame == 3
    assert settling.newest is None


class Revising:
    """A linker that gives the first spot of the frame before to track 7, if it may."""

    def __init__(self, lag: int) -> None:
        self.lag = lag

    def step(self, spots):
        before = [(spots.frame - 1, 0, 7, 0.6)] if self.lag and spots.frame else []
        return linked(spots.frame, before)[1]


class Noting:
    """A filter and a sink in one, which note what comes."""

    def __init__(self) -> None:
        self.seen: list[object] = []

    def step(self, spots, links):
        self.seen.append(links.track_id.tolist())
        return Estimates(spots.frame, spots.t_s, np.zeros(0, track_dtype(1)), None)

    def send(self, frame, spots, links, estimates):
        assert frame.index == spots.frame == links.frame == estimates.frame
        self.seen.append(frame.index)

    def event(self, event):
        self.seen.append(event.kind)

    def tick(self, counters):
        pass


def run_revising(lag: int, stream) -> tuple[list[object], Pipeline]:
    noting = Noting()
    chain = Chain(lambda item: linked(item.index)[0], Revising(lag), noting, lag=lag)
    pipeline = Pipeline(chain, [noting], workers=1)
    with suppress(OSError):
        pipeline.run(stream)
    return noting.seen, pipeline


GAP, SILENT = Event("missing", 0.0, 2, 3, ""), Event("stalled", 0.0, -1, 0, "")


def test_the_filter_sees_settled_identities_and_events_stay_in_line():
    """Frames 0, 1, gap, 2 with lag 1: each answer a frame later, the last one when all is over."""
    stream = [frame(0), frame(1), GAP, frame(2)]
    seen, pipeline = run_revising(1, stream)
    assert seen == [[7, 1], 0, [7, 1], 1, "missing", [0, 1], 2]
    assert (pipeline.counters.frames_in, pipeline.counters.frames_processed) == (3, 3)
    assert run_revising(0, stream[:3])[0] == [[0, 1], 0, [0, 1], 1, "missing"]


def test_that_a_camera_is_silent_is_told_at_once():
    seen, _ = run_revising(1, [frame(0), SILENT])
    assert seen == ["stalled", [0, 1], 0]


def test_frames_that_wait_are_answered_when_the_source_fails():
    def stream():
        yield from (frame(0), frame(1))
        raise OSError("cable")

    assert run_revising(3, stream())[0] == [[7, 1], 0, [0, 1], 1]
