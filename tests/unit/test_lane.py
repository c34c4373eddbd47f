"""Images reach the process of a ride-along in their order, whole, and nobody waits."""

from __future__ import annotations

import numpy as np
import pytest

from livespt.micromanager import messages
from livespt.micromanager.lane import Lane, make_lane
from livespt.sources import SourceError
from livespt.types import Estimates, Event, Model, track_dtype

SHAPE = (5, 7)
BYTES = 5 * 7 * 2


@pytest.fixture
def lane() -> Lane:
    return make_lane(BYTES)[0]


def image(value: int) -> np.ndarray:
    return np.arange(value, value + 35, dtype=np.uint16).reshape(SHAPE)


def take(lane: Lane) -> tuple[bytes, np.ndarray]:
    note = lane.look()
    assert note is not None
    pixels = lane.pixels(SHAPE, np.dtype(np.uint16)).copy()
    lane.done()
    return note, pixels


def test_images_come_out_as_they_went_in_also_the_second_time_round(lane):
    for value in range(3 * lane.spec.n_slots):
        assert lane.put(image(value), f"{value}".encode())
        note, pixels = take(lane)
        assert note == f"{value}".encode()
        assert (pixels == image(value)).all()
    assert lane.look() is None


def test_an_image_that_finds_no_slot_is_refused_and_the_others_stay(lane):
    n = lane.spec.n_slots
    assert [lane.put(image(i), b"%d" % i) for i in range(n + 1)] == [True] * n + [False]
    assert [take(lane)[0] for _ in range(n)] == [b"%d" % i for i in range(n)]
    assert lane.put(image(0), b"again")


def test_an_image_with_strides_of_its_own_is_put_whole(lane):
    flipped = image(3)[::-1, ::-1]
    lane.put(flipped, b"")
    assert (take(lane)[1] == flipped).all()


def test_an_image_that_is_too_large_keeps_its_shape_and_type(lane):
    lane.put(np.ones((9, 9), np.uint16), b"large")
    assert lane.look() == b"large"
    pixels = lane.pixels((9, 9), np.dtype(np.uint16))
    assert pixels.shape == (9, 9)
    assert not pixels.any()


def test_a_note_that_is_too_long_is_refused(lane):
    with pytest.raises(SourceError, match="tags are 5000 bytes"):
        lane.put(image(0), b" " * 5000)


def test_a_large_image_gets_few_slots_and_a_small_one_no_more_than_it_needs():
    assert make_lane(2 * 2048 * 2048)[0].spec.n_slots == 8
    assert make_lane(BYTES)[0].spec.n_slots == 64


def test_a_note_holds_what_is_read_of_the_tags_and_nothing_else():
    tags = {"Axes": {"time": np.int64(3), "channel": "red"}, "ImageNumber": "4", "Other": object()}
    note = messages.read_note(messages.note_of(image(0), tags, 2.5, 1))
    assert note.tags == {"Axes": {"time": 3, "channel": "red"}, "ImageNumber": "4"}
    assert note[1:] == (SHAPE, "<u2", 2.5, 1)


def test_estimates_arrive_bit_for_bit():
    rng = np.random.default_rng(1)
    table = np.zeros(4, track_dtype(2))
    table["x_um"], table["p_state"] = rng.random(4), rng.random((4, 2))
    model = Model(
        *rng.random((2, 2)), rng.random(2), *rng.random((2, 2, 2)), rng.random((2, 2, 2)),
        rng.random((2, 2)), 1.1, rng.random(2), rng.random((3, 2)), np.arange(3), 0.01, 5, 2, "ok",
    )  # fmt: skip
    sent = Estimates(7, 0.07, table, model, (Event("note", 0.1, 7, 0, "text"),))
    came = messages.unpack_estimates(messages.pack_estimates(sent))
    assert came is not None
    assert came.table.dtype == table.dtype
    assert (came.table == table).all()
    assert came.events == sent.events
    for ours, theirs in zip(model, came.model, strict=True):
        assert np.array_equal(ours, theirs)
    assert messages.unpack_estimates(messages.pack_estimates(None)) is None
