"""The ring: order, ownership, and that nothing is ever lost in silence."""

from __future__ import annotations

import gc
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livespt.sources import BufferedSource, Ring, RingFull, SourceError
from livespt.sources.ring import LENT
from livespt.types import Event, Frame, SourceInfo

pytestmark = pytest.mark.alone

SHAPE = (4, 6)


def frame(index: int, value: int | None = None, shape=SHAPE) -> Frame:
    adu = np.full(shape, index if value is None else value, dtype=np.uint16)
    return Frame(index, index * 0.01, adu, 0.01)


def drain(ring: Ring) -> list:
    items = []
    while ring.n_waiting or ring._ahead:
        items.append(ring.pop(0.1))
    return items


class Scripted:
    """A source that yields what it is given."""

    def __init__(self, items, error=None, pace_s=0.0):
        self.info = SourceInfo("scripted", SHAPE, 0.01, 0.01, None, True)
        self.items, self.error, self.pace_s = items, error, pace_s
        self.closed = threading.Event()

    def frames(self):
        for item in self.items:
            if self.closed.wait(self.pace_s):
                return
            yield item
        if self.error:
            raise self.error

    def close(self):
        self.closed.set()


def test_frames_and_events_come_out_in_the_order_they_went_in():
    ring = Ring(8, SHAPE, "oldest")
    note = Event("note", 0.0, -1, 0, "x")
    for item in (note, frame(0), frame(1), note, frame(2), note):
        assert ring.push(item)
    out = drain(ring)
    assert [item.index if isinstance(item, Frame) else "note" for item in out] == [
        "note",
        0,
        1,
        "note",
        2,
        "note",
    ]


def test_a_full_ring_sheds_the_oldest_and_says_so_where_the_gap_is():
    ring = Ring(3, SHAPE, "oldest")
    for i in range(8):
        assert ring.push(frame(i))
    shed, *kept = drain(ring)
    assert (shed.kind, shed.frame, shed.n_frames, shed.t_s) == ("shed", 0, 5, 0.0)
    assert [item.index for item in kept] == [5, 6, 7]
    assert ring.counters == (8, 5, 3)


def test_events_are_never_shed_and_keep_their_place():
    ring = Ring(2, SHAPE, "oldest")
    mark = Event("missing", 0.0, 2, 1, "hole")
    for item in (frame(0), frame(1), mark, frame(3), frame(4), frame(5)):
        ring.push(item)
    kinds = [
        (item.kind, item.frame, item.n_frames) if isinstance(item, Event) else item.index
        for item in drain(ring)
    ]
    assert kinds == [("shed", 0, 2), ("missing", 2, 1), ("shed", 3, 1), 4, 5]


@settings(max_examples=60, deadline=None)
@given(
    n_frames=st.integers(1, 5),
    steps=st.lists(st.sampled_from(["frame", "event", "pop", "keep"]), max_size=80),
)
def test_every_frame_is_handed_over_or_counted_as_shed(n_frames, steps):
    ring = Ring(n_frames, SHAPE, "oldest")
    n_pushed, n_events, out, held = 0, 0, [], []
    for step in [*steps, *["pop"] * 200]:
        if step == "frame":
            ring.push(frame(n_pushed))
            n_pushed += 1
        elif step == "event":
            ring.push(Event("note", 0.0, n_pushed, 0, "between"))
            n_events += 1
        elif ring._ahead or ring._queue:
            out.append(ring.pop(0.1))
            if step == "keep":
                held.append(out[-1])
            elif isinstance(out[-1], Frame):
                assert (out[-1].adu == out[-1].index).all()
                out[-1] = out[-1]._replace(adu=np.empty((0, 0), np.uint16))
    next_index = 0
    for item in out:  # frames and shed runs tile 0..n without hole or overlap
        if isinstance(item, Frame):
            assert item.index == next_index
            next_index += 1
        elif item.kind == "shed":
            assert item.frame == next_index
            next_index += item.n_frames
        else:
            assert item.frame == next_index
    assert next_index == n_pushed
    assert sum(isinstance(i, Event) and i.kind == "note" for i in out) == n_events
    assert all((i.adu == i.index).all() for i in held if isinstance(i, Frame))


def test_policy_raise_ends_after_the_good_frames():
    ring = Ring(2, SHAPE, "raise")
    assert ring.push(frame(0))
    assert ring.push(frame(1))
    assert not ring.push(frame(2))
    assert not ring.push(frame(3))
    assert [ring.pop().index, ring.pop().index] == [0, 1]
    with pytest.raises(RingFull, match=r"frame 2: the ring of 2 frames is full"):
        ring.pop()


def test_a_frame_stays_as_it_is_while_anyone_looks_at_any_part_of_it():
    ring = Ring(2, SHAPE, "oldest")
    ring.push(frame(7))
    part = ring.pop().adu[1:, 2:][::2]  # the frame itself is gone; only a slice of a slice is held
    gc.collect()
    for i in range(5 * LENT):
        ring.push(frame(i, value=999))
        ring.pop()
    assert (part == 7).all()


def test_a_slot_is_used_again_once_its_frame_is_gone():
    ring = Ring(2, SHAPE, "oldest")
    for i in range(10 * LENT):
        ring.push(frame(i))
        ring.pop()
    assert len(ring._free) == 2 + LENT


def test_a_consumer_that_keeps_everything_gets_everything():
    ring = Ring(3, SHAPE, "oldest")
    kept = []
    for i in range(4 * LENT):
        ring.push(frame(i))
        kept.append(ring.pop())
    assert all((item.adu == i).all() for i, item in enumerate(kept))
    assert ring.counters.n_shed == 0


def test_frames_handed_out_cannot_be_written():
    ring = Ring(1, SHAPE, "oldest")
    kept = []
    for i in range(2 * LENT):  # lent slots and copies alike
        ring.push(frame(i))
        kept.append(ring.pop().adu)
        assert not kept[-1].flags.writeable
    with pytest.raises(ValueError, match="WRITEABLE"):
        kept[0].flags.writeable = True


def test_frames_that_are_given_away_are_queued_without_a_copy():
    ring = Ring(3, SHAPE, "oldest", copies=False)
    given = [frame(i) for i in range(3)]
    for item in given:
        assert ring.push(item)
    for item in given:
        got = ring.pop()
        assert got.index == item.index
        assert np.shares_memory(got.adu, item.adu)
        with pytest.raises(ValueError, match="read-only"):
            got.adu[0, 0] = 1


def test_frames_that_are_given_away_are_shed_and_counted_like_others():
    ring = Ring(3, SHAPE, "oldest", copies=False)
    mark = Event("note", 0.0, -1, 0, "x")
    for item in (*map(frame, range(6)), mark, frame(6)):
        assert ring.push(item)
    shed, *rest = drain(ring)
    assert (shed.kind, shed.frame, shed.n_frames) == ("shed", 0, 4)
    assert [item.index if isinstance(item, Frame) else "note" for item in rest] == [4, 5, "note", 6]
    assert ring.counters == (7, 4, 3)


@pytest.mark.parametrize("hands_over", [False, True])
def test_only_a_source_that_says_so_is_taken_at_its_word(hands_over):
    source = Scripted([frame(0)])
    source.hands_over = hands_over
    (got,) = BufferedSource(source, 8).frames()
    assert np.shares_memory(got.adu, source.items[0].adu) is hands_over
    assert (got.adu == source.items[0].adu).all()


@pytest.mark.parametrize(
    "odd", [frame(1, shape=(5, 6)), frame(1)._replace(adu=np.zeros(SHAPE, np.uint8))]
)
def test_a_frame_of_another_shape_or_type_ends_the_stream_with_an_event(odd):
    items = list(BufferedSource(Scripted([frame(0), odd, frame(2)]), 8).frames())
    assert [type(item).__name__ for item in items] == ["Frame", "Event"]
    assert items[1].kind == "shape"
    assert items[1].frame == 1


def test_what_a_source_raises_arrives_after_what_it_gave():
    got = []
    buffered = BufferedSource(Scripted([frame(0), frame(1)], SourceError("cam: unplugged")), 8)
    with pytest.raises(SourceError, match="cam: unplugged"):
        got.extend(iter_into(buffered, got))
    assert [item.index for item in got] == [0, 1]


def iter_into(buffered, got):
    for item in buffered.frames():
        got.append(item)
    return []


def test_a_foreign_exception_becomes_one_line():
    buffered = BufferedSource(Scripted([frame(0)], ZeroDivisionError("oh")), 8)
    with pytest.raises(SourceError, match="scripted: ZeroDivisionError: oh"):
        list(buffered.frames())


def test_a_slow_consumer_sheds_and_the_sum_is_right():
    n = 400
    buffered = BufferedSource(Scripted([frame(i) for i in range(n)], pace_s=5e-4), 4, "oldest")
    n_frames, n_shed = 0, 0
    for item in buffered.frames():
        if isinstance(item, Frame):
            n_frames += 1
            time.sleep(2e-3)
        else:
            n_shed += item.n_frames
    assert n_frames + n_shed == n
    assert n_shed == buffered.counters.n_shed > 0
    assert buffered.counters.high_water == 4


def test_close_ends_a_source_that_never_ends():
    def forever():
        i = 0
        while True:
            yield frame(i)
            i += 1

    buffered = BufferedSource(Scripted(forever(), pace_s=1e-3), 4)
    stream = buffered.frames()
    assert next(stream).index == 0
    buffered.close()
    assert not buffered._thread.is_alive()
    rest = list(stream)
    assert len(rest) <= 5
    buffered.close()


def test_leaving_the_loop_early_closes_the_source():
    source = Scripted((frame(i) for i in range(10**6)), pace_s=1e-3)
    for _ in BufferedSource(source, 4).frames():
        break
    gc.collect()
    assert source.closed.is_set()


def test_arrival_is_stamped_when_the_frame_is_received():
    before = time.perf_counter()
    (item,) = BufferedSource(Scripted([frame(0)]), 4).frames()
    assert before <= item.arrived_s <= time.perf_counter()


def test_a_ring_without_room_is_refused():
    with pytest.raises(SourceError, match="ring_frames: 0"):
        Ring(0, SHAPE, "oldest")
    with pytest.raises(SourceError, match="no memory"):
        Ring(10**9, (10**5, 10**5), "oldest")
