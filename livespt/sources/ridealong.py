"""Ride along in a pycromanager `Acquisition` that someone else runs and saves.

    ride = RideAlong.beside(Core(), interval_s=0.01)
    with ride, Acquisition(directory, name, image_process_fn=ride.image_process_fn) as acquisition:
        acquisition.acquire(events)
    # meanwhile, on another thread: for item in ride.frames(): ...

`image_process_fn` copies the image into a ring and gives the image back at once: whatever analysis
does, the acquisition neither waits nor fails. It must give the image back: in pycromanager 1.0.2 a
process function that returns None has taken the image, and nothing is saved.

Frames are numbered by `ImageNumber`, which the core restarts with every hardware sequence and which
is absent where the engine snaps single images (then the acquisition's time axis numbers them).
Times are `TimeReceivedByCore`; `ElapsedTime-ms` is overwritten with one value for a whole sequence,
and serves only where the engine snaps.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

from numpy.typing import NDArray

from livespt.core import one_line
from livespt.sources.base import SourceError
from livespt.sources.coretap import as_counts, received
from livespt.sources.gaps import GapDetector
from livespt.sources.ring import Counters, Ring
from livespt.types import Frame, SourceInfo, StreamItem

_POLL_S = 0.1


class RideAlong:
    """The images of a user's own acquisition as a `Source`.

    Parameters
    ----------
    shape : (int, int)
        Height and width of the images.
    interval_s, exposure_s : float
    ring_frames : int
        Frames that may wait for analysis; beyond that the oldest are shed and counted.
    axes : dict, optional
        Take only images with these axis values, as ``{"channel": "GFP"}``; the rest pass by.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        interval_s: float,
        exposure_s: float,
        ring_frames: int = 256,
        axes: Mapping[str, Any] | None = None,
    ) -> None:
        # Not paced: the ring is already here, and the consumer needs no other.
        self.info = SourceInfo("acquisition", shape, interval_s, exposure_s, None, paced=False)
        self._ring = Ring(ring_frames, shape, "oldest")
        self._gaps = GapDetector(interval_s)
        self._lock = threading.Lock()
        self._axes = dict(axes or {})
        self._origin_s: float | None = None
        self._first = 0  # number of image 0 of the present hardware sequence
        self._image_number = -1
        self._next = 0

    @classmethod
    def beside(cls, core: Any, *, interval_s: float | None = None, **options: Any) -> RideAlong:
        """Make one for the camera of a pycromanager `Core()`, as it is set up now."""
        exposure_s = float(core.get_exposure()) * 1e-3
        shape = (int(core.get_image_height()), int(core.get_image_width()))
        interval_s = exposure_s if interval_s is None else interval_s
        return cls(shape, interval_s=interval_s, exposure_s=exposure_s, **options)

    @property
    def counters(self) -> Counters:
        """Frames in, shed, and the most that ever waited."""
        return self._ring.counters

    def image_process_fn(
        self, image: NDArray, metadata: dict[str, Any]
    ) -> tuple[NDArray, dict[str, Any]]:
        """Take a copy of an image, and hand the image on unchanged; never raises, never waits."""
        try:
            self._take(image, metadata)
        except SourceError as error:
            self._ring.end(error)
        except Exception as error:  # noqa: BLE001 (the user's acquisition must not suffer)
            self._ring.end(SourceError(f"ride-along: frame {self._next}: {one_line(error)}"))
        return image, metadata

    def frames(self) -> Iterator[StreamItem]:
        """Yield what the acquisition makes, until `end` or `close`.

        Raises
        ------
        SourceError
            An image could not be used; those before it came first.
        """
        while True:
            try:
                item = self._ring.pop(_POLL_S)
            except TimeoutError:
                yield from self._idle()
                continue
            if item is None:
                return
            yield item

    def end(self) -> None:
        """Say that the acquisition is over; what waits is still handed out."""
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

    def _take(self, image: NDArray, tags: Mapping[str, Any]) -> None:
        axes = tags.get("Axes", {})
        if any(axes.get(name) != value for name, value in self._axes.items()):
            return
        arrived_s = time.perf_counter()
        index = self._number(tags)
        received_s = received(tags, _snapped(tags, arrived_s))
        if self._origin_s is None:
            self._origin_s = received_s
        with self._lock:
            t_s, events = self._gaps.see(index, received_s - self._origin_s, arrived_s)
        adu = as_counts(image.view(), tags, "ride-along")  # a view: the user's stays writable
        for event in events:
            self._ring.push(event)
        self._ring.push(Frame(index, t_s, adu, self.info.exposure_s, arrived_s=arrived_s))

    def _number(self, tags: Mapping[str, Any]) -> int:
        if "ImageNumber" in tags:
            number = int(tags["ImageNumber"])
            if number <= self._image_number:  # the core began another sequence
                self._first = self._next
            self._image_number = number
            index = self._first + number
        else:
            at = tags.get("Axes", {}).get("time", self._next)
            index = max(int(at), self._next) if isinstance(at, int) else self._next
        self._next = index + 1
        return index

    def _idle(self) -> list[StreamItem]:
        if not self._next:
            return []  # the acquisition has not begun
        with self._lock:
            return [*self._gaps.idle(time.perf_counter())]


def _snapped(tags: Mapping[str, Any], arrived_s: float) -> float:
    try:
        return float(tags["ElapsedTime-ms"]) * 1e-3
    except (KeyError, TypeError, ValueError):
        return arrived_s
