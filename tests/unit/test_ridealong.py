"""Riding along: images are sorted by what they show, and every loss is told where it happened."""

from __future__ import annotations

import numpy as np
import pytest

from livespt.core import CameraFacts
from livespt.sources import SourceError
from livespt.sources.axes import Numbers, of_mda
from livespt.sources.ridealong import RideAlong
from livespt.types import Event, Frame

SHAPE = (4, 6)


def image(value: int = 0) -> np.ndarray:
    return np.full(SHAPE, value, np.uint16)


def ride(**options) -> RideAlong:
    return RideAlong(SHAPE, interval_s=0.01, exposure_s=0.009, **options)


def tags(number: int | None = None, **axes) -> dict:
    found = {"Axes": axes, "ElapsedTime-ms": 10.0 * axes.get("time", 0)}
    if number is not None:
        second = f"{number * 0.01:09.6f}"
        found |= {"ImageNumber": str(number), "TimeReceivedByCore": f"2026-01-01 00:00:{second}"}
    return found


def drain(along: RideAlong) -> list:
    along.end()
    return list(along.streams())


def indices(items: list) -> list[tuple]:
    return [(key, item.index) for key, item in items if isinstance(item, Frame)]


def events(items: list) -> list[Event]:
    return [item for _, item in items if isinstance(item, Event)]


def test_a_channel_of_a_hardware_sequence_has_no_holes_where_the_other_one_was():
    along = ride(axes={"channel": "red"})
    for number in range(8):
        along.take(image(), tags(number, time=number // 2, channel=("red", "blue")[number % 2]))
    items = drain(along)
    assert indices(items) == [((), i) for i in range(4)]
    assert [event.message for event in events(items)] == ["axes: channel = 'red'"]
    assert along.n_passed == 4


def test_an_image_that_the_camera_lost_is_a_hole():
    along = ride()
    for time, number in enumerate([0, 1, 3, 4]):  # the engine numbers what it got
        along.take(image(), tags(number, time=time))
    items = drain(along)
    assert indices(items) == [((), i) for i in (0, 1, 3, 4)]
    assert [(e.kind, e.frame, e.n_frames) for e in events(items)] == [("missing", 2, 1)]


def test_the_next_hardware_sequence_goes_on_with_the_numbers():
    along = ride()
    for time, number in enumerate([0, 1, 2, 0, 1, 2]):
        along.take(image(), {**tags(None, time=time), "ImageNumber": number})
    assert indices(drain(along)) == [((), i) for i in range(6)]


def test_each_camera_has_its_own_numbers():
    along = ride(axes={"channel": "left"})
    for number in range(3):
        for side in ("left", "right"):
            along.take(image(), {**tags(number, time=number, channel=side), "Camera": side})
    items = drain(along)
    assert indices(items) == [((), i) for i in range(3)]
    assert {event.kind for event in events(items)} == {"note"}


def test_positions_are_streams_with_times_and_numbers_of_their_own():
    along = ride(per="position")
    for time in range(3):
        for place in ("A", "B"):
            along.take(image(), tags(None, time=time, position=place))
    items = drain(along)
    assert indices(items) == [((p,), t) for t in range(3) for p in ("A", "B")]
    told = [(key, event.message) for key, event in items if isinstance(event, Event)]
    assert told[0] == (("A",), "axes: position = 'A'")
    assert (("B",), "axes: position = 'B'") in told


def test_what_is_another_place_passes_by_and_a_note_says_how_to_choose():
    along = ride()
    for time in range(3):
        for z in range(2):
            along.take(image(), tags(None, time=time, z=z))
    items = drain(along)
    assert indices(items) == [((), t) for t in range(3)]
    (note,) = [event for event in events(items) if "pass by" in event.message]
    assert "z = 1" in note.message
    assert "per = 'z'" in note.message
    assert along.n_passed == 3


def test_an_axis_of_numbers_that_is_no_place_counts_as_time():
    along = ride()
    for i in range(3):
        along.take(image(), tags(None, repeat=i))
    assert indices(drain(along)) == [((), i) for i in range(3)]


def test_what_the_ring_shed_is_told_to_the_stream_that_lost_it():
    along = ride(per="position", ring_frames=2)
    for time in range(3):
        for place in ("A", "B"):
            along.take(image(), tags(None, time=time, position=place))
    items = drain(along)
    shed = [(k, e.frame, e.n_frames) for k, e in items if isinstance(e, Event) and e.kind == "shed"]
    assert sorted(shed) == [(("A",), 0, 2), (("B",), 0, 2)]
    assert indices(items) == [(("A",), 2), (("B",), 2)]
    assert not along._records


def test_images_that_were_skipped_before_the_ring_are_shed_and_not_missing():
    along = ride()
    along.take(image(), tags(0, time=0))
    along.take(image(), tags(3, time=3), n_skipped=2)
    along.take(image(), tags(6, time=5), n_skipped=1)  # and one that never came
    found = [(e.kind, e.frame, e.n_frames) for e in events(drain(along))]
    assert found == [("shed", 1, 2), ("missing", 4, 2)]


def test_what_was_skipped_at_the_very_end_is_told_as_well():
    along = ride()
    along.take(image(), tags(0, time=0))
    along.take(image(), tags(1, time=1))
    along.end(3)
    found = [(e.kind, e.frame, e.n_frames) for e in events(list(along.streams()))]
    assert found == [("shed", 2, 3)]


def test_an_image_of_another_channel_does_not_hide_what_was_skipped_before_it():
    along = ride(axes={"channel": "red"})
    along.take(image(), tags(0, time=0, channel="red"))
    along.take(image(), tags(5, time=2, channel="blue"), n_skipped=4)
    along.take(image(), tags(6, time=3, channel="red"))
    found = [(e.kind, e.frame, e.n_frames) for e in events(drain(along))]
    assert found[1:] == [("shed", 1, 2)]


def test_the_exposure_is_the_images_own():
    along = ride()
    along.take(image(), {**tags(None, time=0), "Exposure": 5.0})
    along.take(image(), tags(None, time=1))
    found = [item.exposure_s for _, item in drain(along) if isinstance(item, Frame)]
    assert found == pytest.approx([0.005, 0.009])


def test_an_image_of_another_shape_ends_the_stream_and_not_the_acquisition():
    along = ride()
    along.take(image(), tags(None, time=0))
    other = np.zeros((3, 3), np.uint16)
    assert along.image_process_fn(other, tags(None, time=1))[0] is other
    along.take(image(), tags(None, time=2))
    items = drain(along)
    assert indices(items) == [((), 0)]
    assert [event.kind for event in events(items)] == ["shape"]


@pytest.mark.parametrize(
    "pixels, found",
    [(np.zeros((4, 6, 3), np.uint8), "(4, 6, 3)"), (np.zeros(SHAPE), "float64")],
)
def test_pixels_that_are_no_counts_are_an_error_behind_what_came(pixels, found):
    along = ride()
    along.take(image(), tags(None, time=0))
    along.take(pixels, tags(None, time=1))
    stream = along.frames()
    assert isinstance(next(stream), Frame)
    with pytest.raises(SourceError, match="uint16") as raised:
        next(stream)
    assert found in str(raised.value)


def test_what_the_core_says_is_there_for_the_config_to_be_held_against():
    facts = CameraFacts("Cam", "Vendor X 12", SHAPE, 0.01, 0.108, 2, (8, 16), 4095)
    along = ride(facts=facts)
    assert along.info.identity == "Vendor X 12"
    assert (along.pixel_um, along.binning, along.origin_px) == (0.108, 2, (8, 16))
    assert along.saturation_adu == 4095


def test_an_event_of_pymmcore_plus_has_pycromanagers_axes():
    useq = pytest.importorskip("useq")
    event = useq.MDAEvent(
        index={"t": 3, "p": 1, "c": 0, "z": 2},
        pos_name="well 2",
        channel={"config": "FITC", "group": "Channel"},
        exposure=7.0,
    )
    found = of_mda(event, {"runner_time_ms": 12.0, "camera_metadata": {"ImageNumber": "3"}})
    assert found["Axes"] == {"time": 3, "z": 2, "position": "well 2", "channel": "FITC"}
    assert (found["Exposure"], found["ImageNumber"], found["ElapsedTime-ms"]) == (7.0, "3", 12.0)


def test_a_signal_that_makes_no_sense_ends_the_stream_with_an_error():
    along = ride()
    along.frame_ready(image(), None, {})
    with pytest.raises(SourceError, match="frameReady"):
        list(along.frames())


def test_numbers_never_go_back():
    numbers = Numbers()
    found = [numbers.next({"time": t}, 0) for t in (0, 1, 1, 0, 5)]
    assert found == [0, 1, 2, 3, 5]
