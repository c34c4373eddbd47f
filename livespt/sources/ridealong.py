"""Ride along in an acquisition that someone else runs and saves.

    ride = RideAlong.beside(Core(), interval_s=0.01)
    with ride, Acquisition(directory, name, image_process_fn=ride.image_process_fn) as acquisition:
        acquisition.acquire(events)
    # meanwhile, on another thread: for item in ride.frames(): ...

`image_process_fn` copies the image into a ring and gives the image back at once: whatever analysis
does, the acquisition neither waits nor fails. It must give the image back: in pycromanager 1.0.2 a
process function that returns None has taken the image, and nothing is saved. `frame_ready` is the
same for the signal of pymmcore-plus.

One stream is one place: one channel, one position, one z. What an image shows is told by its axes
(`livespt.sources.axes`); images of another place pass by, and a note says so. With `per`, each
value of an axis is a stream of its own.

All streams share the one ring. There a frame has a serial number; what else belongs to it (its
stream, its number there, the events before it) waits in a record until it is taken or shed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from types import TracebackType
from typing import Any, NamedTuple

from numpy.typing import NDArray

from livespt.core import CameraFacts, door_of, one_line, read_camera
from livespt.sources.axes import Key, Numbers, Places, of_mda
from livespt.sources.base import SourceError
from livespt.sources.coretap import as_counts, received
from livespt.sources.gaps import GapDetector
from livespt.sources.ring import Counters, Ring, shape_event
from livespt.types import Event, Frame, SourceInfo, StreamItem

_POLL_S = 0.1


class _Stream:
    """What is known of one place."""

    def __init__(self, interval_s: float) -> None:
        self.gaps = GapDetector(interval_s)
        self.numbers = Numbers()
        self.origin_s: float | None = None
        self.t_s = 0.0  # of its newest image
        self.n_skipped = 0  # of all streams, when that came


class _Record(NamedTuple):
    """What belongs to a frame in the ring: its stream, its number there, the events before it."""

    key: Key
    number: int
    before: tuple[Event, ...]


class RideAlong:
    """The images of a user's own acquisition as a `Source`.

    Parameters
    ----------
    shape : (int, int)
        Height and width of the images.
    interval_s, exposure_s : float
        Time between frames of one place; exposure where an image does not tell its own.
    ring_frames : int
        Frames that may wait for analysis; beyond that the oldest are shed and counted.
    axes : dict, optional
        Take only images with these axis values, as ``{"channel": "GFP"}``; the rest pass by.
    per : str or sequence of str
        Axes whose values are streams of their own, read by `streams`.
    facts : CameraFacts, optional
        What the core says of its camera, for the config to be held against.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        interval_s: float,
        exposure_s: float,
        ring_frames: int = 256,
        axes: Mapping[str, Any] | None = None,
        per: str | Sequence[str] = (),
        facts: CameraFacts | None = None,
    ) -> None:
        identity = facts.identity if facts else ""
        # Not paced: the ring is already here, and the consumer needs no other.
        self.info = SourceInfo("acquisition", shape, interval_s, exposure_s, None, False, identity)
        self.pixel_um = facts.pixel_um if facts else 0.0
        self.binning = facts.binning if facts else 0
        self.origin_px = facts.origin_px if facts else None
        self.saturation_adu = facts.saturation_adu if facts else 0
        #: What somebody should know of it, one line each; told when the run begins.
        self.notes: tuple[str, ...] = ()
        self._ring = Ring(ring_frames, shape, "oldest")
        self._places = Places(axes, (per,) if isinstance(per, str) else tuple(per))
        self._lock = threading.Lock()
        self._streams: dict[Key, _Stream] = {}
        self._records: dict[int, _Record] = {}
        self._newest: Key | None = None
        self._serial = 0
        self._n_skipped = 0

    @classmethod
    def beside(cls, core: Any, *, interval_s: float | None = None, **options: Any) -> RideAlong:
        """Make one for the camera of a core (see `livespt.core.door_of`), as it is set up now.

        Raises
        ------
        CoreError
            It is no core, or has no camera.
        """
        with closing(door_of(core)) as door:
            facts = read_camera(door)
        interval_s = facts.exposure_s if interval_s is None else interval_s
        return cls(
            facts.shape, interval_s=interval_s, exposure_s=facts.exposure_s, facts=facts, **options
        )

    @property
    def counters(self) -> Counters:
        """Frames in, shed, and the most that ever waited."""
        return self._ring.counters

    @property
    def n_passed(self) -> int:
        """Images of other places, which passed by."""
        return self._places.n_passed

    def image_process_fn(
        self, image: NDArray, metadata: dict[str, Any]
    ) -> tuple[NDArray, dict[str, Any]]:
        """Take a copy of an image, and hand the image on unchanged; never raises, never waits."""
        self.take(image, metadata)
        return image, metadata

    def frame_ready(self, image: NDArray, event: Any, metadata: Mapping[str, Any]) -> None:
        """Take a copy of an image from pymmcore-plus' signal; never raises, never waits."""
        try:
            tags = of_mda(event, metadata)
        except Exception as error:  # noqa: BLE001 (the user's acquisition must not suffer)
            self._ring.end(SourceError(f"ride-along: frameReady: {one_line(error)}"))
            return
        self.take(image, tags)

    def take(
        self,
        image: NDArray,
        tags: Mapping[str, Any],
        arrived_s: float | None = None,
        n_skipped: int = 0,
    ) -> None:
        """Take a copy of an image with pycromanager's tags; never raises, never waits.

        Parameters
        ----------
        image : NDArray
        tags : mapping
        arrived_s : float, optional
            When it came (`time.perf_counter`); now where left out.
        n_skipped : int
            Images that came just before it and were not taken, for want of time.
        """
        try:
            self._take(image, tags, arrived_s or time.perf_counter(), n_skipped)
        except SourceError as error:
            self._ring.end(error)
        except Exception as error:  # noqa: BLE001 (the user's acquisition must not suffer)
            self._ring.end(SourceError(f"ride-along: image {self._serial}: {one_line(error)}"))

    def fail(self, error: SourceError) -> None:
        """End the stream with an error, after what was taken; the acquisition goes on."""
        self._ring.end(error)

    def frames(self) -> Iterator[StreamItem]:
        """Yield what the acquisition makes, until `end` or `close`.

        Raises
        ------
        SourceError
            An image could not be used; those before it came first.
        """
        for _, item in self.streams():
            yield item

    def streams(self) -> Iterator[tuple[Key, StreamItem]]:
        """Yield the same, each with the values of the `per` axes that name its stream."""
        while True:
            try:
                item = self._ring.pop(_POLL_S)
            except TimeoutError:
                yield from self._idle()
                continue
            if item is None:
                return
            yield from self._translate(item)

    def end(self, n_skipped: int = 0) -> None:
        """Say that the acquisition is over, and what was not taken at its very end.

        What waits is still handed out.
        """
        key = self._newest
        if n_skipped and key is not None:
            stream, first = self._streams[key], self._serial
            for k in range(n_skipped):
                self._records[first + k] = _Record(key, stream.numbers.following + k, ())
            self._ring.push(Event("shed", stream.t_s, first, n_skipped, ""))
        self._ring.end()

    def close(self) -> None:
        """Take no more images."""
        self.end()

    def __enter__(self) -> RideAlong:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    def _take(
        self, image: NDArray, tags: Mapping[str, Any], arrived_s: float, n_skipped: int
    ) -> None:
        n_lost = max(0, self._places.n_lost(tags) - n_skipped)
        self._n_skipped += n_skipped
        axes = tags.get("Axes") or {}
        key = self._places.key(axes)
        if key is None:
            return
        stream = self._streams.get(key) or self._begin(key)
        n_skipped, stream.n_skipped = self._n_skipped - stream.n_skipped, self._n_skipped
        index = stream.numbers.next(axes, n_lost, n_skipped)
        received_s = received(tags, _snapped(tags, arrived_s))
        if stream.origin_s is None:
            stream.origin_s = received_s
        with self._lock:
            t_s, events = stream.gaps.see(index, received_s - stream.origin_s, arrived_s)
        stream.t_s = t_s
        events = [_if_skipped(event, n_skipped) for event in events]
        notes = [Event("note", t_s, index, 0, text) for text in self._places.notes(key)]
        adu = as_counts(image.view(), tags, "ride-along")  # a view: the user's stays writable
        frame = Frame(index, t_s, adu, self._exposure(tags), arrived_s=arrived_s)
        self._newest = key
        if adu.shape != self.info.shape:
            self._ring.push(shape_event(frame, self.info.shape))
            self._ring.end()
            return
        self._push(_Record(key, index, (*notes, *events)), frame)

    def _begin(self, key: Key) -> _Stream:
        self._streams[key] = stream = _Stream(self.info.interval_s)
        stream.n_skipped = self._n_skipped
        return stream

    def _push(self, record: _Record, frame: Frame) -> None:
        serial = self._serial
        self._serial += 1
        self._records[serial] = record
        if not self._ring.push(frame._replace(index=serial)):
            del self._records[serial]

    def _exposure(self, tags: Mapping[str, Any]) -> float:
        try:
            return float(tags["Exposure"]) * 1e-3
        except (KeyError, TypeError, ValueError):
            return self.info.exposure_s

    def _translate(self, item: StreamItem) -> Iterator[tuple[Key, StreamItem]]:
        """Give what comes out of the ring its place in its stream."""
        if isinstance(item, Frame):
            record = self._records.pop(item.index)
            yield from ((record.key, event) for event in record.before)
            yield record.key, item._replace(index=record.number)
        elif item.kind == "shed":
            yield from self._shed(item)
        else:
            yield self._newest or (), item

    def _shed(self, event: Event) -> Iterator[tuple[Key, StreamItem]]:
        """Say of each stream what the ring shed; frames in a row are one event."""
        held: dict[Key, Event] = {}
        for serial in range(event.frame, event.frame + event.n_frames):
            key, index, before = self._records.pop(serial)
            last = held.get(key)
            if last is not None and (before or last.frame + last.n_frames != index):
                yield key, _skipped(held.pop(key))
                last = None
            yield from ((key, one) for one in before)
            first = last or Event("shed", event.t_s, index, 0, "")
            held[key] = first._replace(n_frames=first.n_frames + 1)
        for key, one in held.items():
            yield key, _skipped(one)

    def _idle(self) -> list[tuple[Key, StreamItem]]:
        key = self._newest
        if key is None:
            return []  # the acquisition has not begun
        with self._lock:
            return [(key, event) for event in self._streams[key].gaps.idle(time.perf_counter())]


def _skipped(event: Event) -> Event:
    first, n = event.frame, event.n_frames
    text = f"analysis was behind and skipped frames {first} to {first + n - 1} ({n})"
    return event._replace(kind="shed", message=text)


def _if_skipped(event: Event, n_skipped: int) -> Event:
    """Call a hole by its name where it is no larger than what was skipped."""
    ours = event.kind == "missing" and event.n_frames <= n_skipped
    return _skipped(event) if ours else event


def _snapped(tags: Mapping[str, Any], arrived_s: float) -> float:
    try:
        return float(tags["ElapsedTime-ms"]) * 1e-3
    except (KeyError, TypeError, ValueError):
        return arrived_s
