"""Take frames out of a Micro-Manager core by polling its circular buffer.

One loop serves every door to a core (pycromanager, pymmcore-plus, a running Micro-Manager); a door
only spells the core's methods. What the core shows, and what it hides:

- `ImageNumber` counts the images of a sequence; a hole is frames that were made and never came.
- With `stop_on_overflow` a full buffer stops the camera. The backlog is kept and read out first;
  then acquisition is resumed, and the frames that the pause cost are counted by the clock.
- Without it a full buffer is emptied at once, the camera goes on, and the core's own overflow flag
  stays down: only a hole of at least a whole buffer tells.
- `TimeReceivedByCore` is the one time that no one rewrites: the host's wall clock when the image
  reached the core, good to the host's jitter. It may run back with the wall clock, which the gap
  detector mends.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from livespt.core import Door, ask, one_line, read_camera
from livespt.sources.base import SourceError
from livespt.sources.camera_setup import CameraOptions, set_up
from livespt.sources.gaps import GapDetector
from livespt.sources.ring import shape_event
from livespt.types import Event, Frame, LivesptError, SourceInfo, StreamItem

#: Images asked of a camera: it runs until it is stopped. A camera that ends by itself has a thread
#: that outlives its last image a little; stopping it waits for that thread, unloading it does not.
ENDLESS = 2**31 - 1
#: After a frame the tap sleeps for this part of the time between frames, and then polls: on a busy
#: machine each look at the core costs as much as the linker's share of a frame. No longer than
#: `LONGEST_NAP_S`, should the camera be faster than is said.
NAP = 0.7
LONGEST_NAP_S = 8e-3


class CoreTap:
    """A camera behind a Micro-Manager core as a `Source`.

    Parameters
    ----------
    door : Door
        An open core; closed with the tap.
    options : CameraOptions
    name : str
        For people; the camera's label is added.

    Raises
    ------
    CoreError
        The core refuses a setting.
    SourceError
        The camera's pixels are not counts of at most 16 bits.
    """

    #: The core gives each image away as an array of its own, so that no ring need copy it again.
    hands_over = True

    def __init__(self, door: Door, options: CameraOptions, name: str = "Micro-Manager") -> None:
        self._door, self._options = door, options
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._closed = False
        try:
            self.label = set_up(door, options)
            self._facts = facts = read_camera(door)
            self.info = self._describe(name)
            # What a config is held against (see `CameraFacts`).
            self.pixel_um, self.binning = facts.pixel_um, facts.binning
            self.origin_px, self.saturation_adu = facts.origin_px, facts.saturation_adu
            self.notes: tuple[str, ...] = ()  # what somebody should know, for the run's events
        except LivesptError:
            door.close()
            raise
        self._gaps = GapDetector(self.info.interval_s, first_index=0)
        self._interval_s = self.info.interval_s  # as measured
        self._poll_s = min(max(self._interval_s / 20, 2e-4), 2e-3)
        self._arrived_s = 0.0  # when the last frame came
        self._capacity = 0
        self._origin_s: float | None = None
        self._last_t_s = 0.0
        self._next = 0  # number of the next frame, if none is lost
        self._first = 0  # number of image 0 of this sequence of the camera
        self._n_taken = 0  # frames received
        self._resumed = False  # this sequence follows an overflow, and its first image is due

    def frames(self) -> Iterator[StreamItem]:
        """Start the camera and yield what it gives, until `n_frames` or `close`.

        Raises
        ------
        CoreError, SourceError
            The core or the camera failed; what was received came before.
        """
        try:
            with self._lock:
                if not self._closing.is_set():
                    self._start()
            while True:
                with self._lock:
                    if self._closing.is_set():
                        return
                    items, at_end = self._step()
                yield from items
                if at_end:
                    return
                if not items:
                    self._closing.wait(self._nap_s())
        finally:
            self.close()

    def close(self) -> None:
        """Stop the camera and let go of the core."""
        self._closing.set()
        with self._lock:  # never under the feet of a call to the core
            if self._closed:
                return
            self._closed = True
            try:
                if self._door.call("isSequenceRunning"):
                    self._door.call("stopSequenceAcquisition")
            except Exception:  # noqa: BLE001, S110 (a core that is gone has stopped)
                pass
            self._door.close()

    def _nap_s(self) -> float:
        """Return how long to leave the core alone: until shortly before the next frame is due."""
        due_s = self._arrived_s + NAP * self._interval_s - time.perf_counter()
        return max(min(due_s, LONGEST_NAP_S), self._poll_s)

    def _describe(self, name: str) -> SourceInfo:
        def get(method: str) -> int:
            return int(ask(self._door, self.label, method))

        n_bytes, n_parts = get("getBytesPerPixel"), get("getNumberOfComponents")
        if n_parts != 1 or n_bytes > 2:
            raise SourceError(
                f"{self.label}: pixels of {n_parts} x {n_bytes // n_parts} bytes, "
                "expected one component of 8 or 16 bits (set PixelType)"
            )
        exposure_s = float(ask(self._door, self.label, "getExposure")) * 1e-3
        given_ms = self._options.interval_ms
        interval_s = exposure_s if given_ms is None else given_ms * 1e-3
        if exposure_s > interval_s * (1 + 1e-9):
            raise SourceError(
                f"interval_ms = {interval_s * 1e3:g}: shorter than the camera's exposure "
                f"of {exposure_s * 1e3:g} ms"
            )
        return SourceInfo(
            name=f"{name}: {self.label}",
            shape=(get("getImageHeight"), get("getImageWidth")),
            interval_s=interval_s,
            exposure_s=exposure_s,
            n_frames=self._options.n_frames,
            paced=True,
            identity=self._facts.identity,
        )

    def _start(self) -> None:
        what = f"{self.label}: cannot start"
        stop = self._options.stop_on_overflow
        ask(self._door, what, "startSequenceAcquisition", ENDLESS, 0.0, stop)
        self._capacity = self._number("getBufferTotalCapacity")
        self._first = self._next

    def _number(self, method: str) -> int:
        return int(ask(self._door, self.label, method))

    def _step(self) -> tuple[list[StreamItem], bool]:
        """Return what came (perhaps nothing), and whether that was the end."""
        if self._number("getRemainingImageCount"):
            return self._take()
        silence = self._gaps.idle(time.perf_counter())
        # In this order: what came before the camera stopped is then seen in the buffer.
        if self._number("isSequenceRunning") or self._number("getRemainingImageCount"):
            return [*silence], False
        if self._number("isBufferOverflowed"):
            ask(self._door, self.label, "stopSequenceAcquisition")
            self._start()
            self._resumed = True
            return [*silence], False
        message = f"{self.label} stopped acquiring, and not on our request"
        return [Event("ended", self._last_t_s, self._next, 0, message)], True

    def _take(self) -> tuple[list[StreamItem], bool]:
        try:
            pixels, tags = self._door.pop()
        except Exception as error:  # noqa: BLE001 (several kinds, see `ask`)
            raise SourceError(f"{self.label}: frame {self._next}: {one_line(error)}") from None
        arrived_s = self._arrived_s = time.perf_counter()
        t_s = self._camera_time(tags, arrived_s)
        if self._resumed:
            self._first += self._n_lost_by_clock(t_s)
        index = self._first + int(tags.get("ImageNumber", self._next - self._first))
        adu = as_counts(pixels, tags, self.label)
        frame = Frame(index, t_s, adu, self.info.exposure_s, arrived_s=arrived_s)
        if frame.adu.shape != self.info.shape:
            return [shape_event(frame, self.info.shape)], True
        t_s, events = self._gaps.see(index, t_s, arrived_s)
        self._note_interval(index, t_s)
        self._next, self._last_t_s = index + 1, t_s
        items = [*map(self._name_overflow, events), frame._replace(t_s=t_s)]
        self._resumed = False
        self._n_taken += 1
        return items, self._n_taken == self._options.n_frames

    def _camera_time(self, tags: Mapping[str, Any], arrived_s: float) -> float:
        """Return the start of the exposure, in seconds since that of the first frame."""
        received_s = received(tags, arrived_s)
        if self._origin_s is None:
            self._origin_s = received_s
        return received_s - self._origin_s

    def _note_interval(self, index: int, t_s: float) -> None:
        """Follow the true interval: cameras add readout to the exposure that was asked for."""
        if index == self._next and index > 0:
            step_s = min(t_s - self._last_t_s, 2 * self._interval_s)
            self._interval_s += 0.05 * (step_s - self._interval_s)

    def _n_lost_by_clock(self, t_s: float) -> int:
        """Return how many frames the pause cost; at least the one that found no room."""
        return max(1, round((t_s - self._last_t_s) / self._interval_s) - 1)

    def _name_overflow(self, event: Event) -> Event:
        if event.kind != "missing" or not (self._resumed or event.n_frames >= self._capacity):
            return event
        how = "stopped the camera" if self._resumed else "was emptied"
        message = (
            f"the core's buffer of {self._capacity} images overflowed and {how}: frames "
            f"{event.frame} to {event.frame + event.n_frames - 1} are lost ({event.n_frames}); "
            "acquisition goes on"
        )
        return event._replace(kind="overflow", message=message)


def as_counts(pixels: NDArray, tags: Mapping[str, Any], camera: str) -> NDArray[np.uint16]:
    """Return an image as read-only (height, width) uint16.

    Raises
    ------
    SourceError
        The pixels are not counts of at most 16 bits.
    """
    if pixels.ndim == 1:  # as the Java bridge sends them
        pixels = pixels.reshape(int(tags["Height"]), int(tags["Width"]))
    if pixels.dtype.kind not in "ui" or pixels.dtype.itemsize > 2 or pixels.ndim != 2:
        found = f"{pixels.shape} {pixels.dtype}"
        raise SourceError(f"{camera}: images are {found}, expected (height, width) uint8 or uint16")
    if pixels.dtype.kind == "i":  # Java has no unsigned types: the bits are right
        pixels = pixels.view(f"u{pixels.dtype.itemsize}")
    pixels = pixels.astype(np.uint16, copy=False)
    pixels.flags.writeable = False
    return pixels


def received(tags: Mapping[str, Any], fallback_s: float) -> float:
    """Return the core's time stamp in seconds, or `fallback_s` where there is none."""
    try:
        return datetime.fromisoformat(str(tags["TimeReceivedByCore"])).timestamp()
    except (KeyError, ValueError):
        return fallback_s
