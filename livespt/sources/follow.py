"""Follow a data set while Micro-Manager's own window, or a script, is writing it.

The camera, its settings and the saving stay with Micro-Manager; livespt reads each image from the
file as soon as it is whole (`livespt.sources.growing`), at the full rate of camera and disk.

Frames are numbered by `ImageNumber`, which restarts with every sequence of the camera; by the time
axis where images of several channels or positions pass by and only some are taken. Times are
`TimeReceivedByCore`, or `ElapsedTime-ms` where it runs forward.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from livespt.config import parse
from livespt.sections import NonNegative, Positive, Section
from livespt.sources.base import SourceError
from livespt.sources.choice import Choice
from livespt.sources.coretap import received
from livespt.sources.datasets import DataSet, Image, tag
from livespt.sources.gaps import GapDetector
from livespt.sources.ring import shape_event
from livespt.types import Event, Frame, SourceInfo, StreamItem

#: Images that are looked at to learn the interval and which clock can be believed.
_HEAD = 10
#: How long after the first to wait for these, where they are not all there.
_HEAD_S = 0.5
#: A backlog longer than this is played at `_CATCH_UP` times the camera's rate, for the ring's sake.
_BURST = 64
_CATCH_UP = 2.0
#: Sleep between two looks: a part of the interval within these limits, longer in silence.
_POLL_S = (0.5e-3, 10e-3)
_QUIET_POLL_S = 50e-3
#: What tells one camera from another, beside its label.
_SERIALS = ("SerialNumber", "Serial Number", "CameraID", "CameraName")


class FollowOptions(Section, frozen=True):
    """Options of the source "follow".

    Attributes
    ----------
    path : str
        The data set's folder, or its first file; need not be there yet.
    axes : dict
        Which images to take, as ``{channel = "GFP", position = 0}``; the rest pass by.
    from_ : {"start", "now"}
        Written ``from``. Begin with the first image, or with those to come.
    wait_s : float
        How long to wait for the data set and its first images.
    end_after_s : float
        Silence, of two intervals at least, that ends the stream where no mark in the files does.
    interval_s, exposure_s : float, optional
        From the images' metadata if left out.
    times : {"file", "interval"}
        Whether the images' own times count where they have them.
    camera_id : str
        What a calibration is checked against; the camera's label and serial number if empty.
    paced : bool
        Stay with the camera and let the ring shed what analysis cannot follow (True), or take
        every frame however late (False): the file keeps them.
    """

    path: str
    axes: dict[str, int | str] = msgspec.field(default_factory=dict)
    from_: Literal["start", "now"] = msgspec.field(default="start", name="from")
    wait_s: NonNegative = 60.0
    end_after_s: Positive = 60.0
    interval_s: Positive | None = None
    exposure_s: Positive | None = None
    times: Literal["file", "interval"] = "file"
    camera_id: str = ""
    paced: bool = True


def open_source(options: dict[str, Any]) -> Follow:
    """Wait for a data set and follow it (see `FollowOptions`).

    Raises
    ------
    SourceError
        Nothing came in time, or what came cannot be used.
    ConfigError
        An option is unknown or out of range.
    """
    return Follow(parse(options, "source.options", FollowOptions))


class Follow:
    """A growing data set as a `Source`."""

    def __init__(self, options: FollowOptions) -> None:
        self._options = options
        self._path = Path(options.path)
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._data = DataSet(self._path)
        self._choice = Choice(options.axes, self._path)
        self._head: deque[Image] = deque(maxlen=_HEAD if options.from_ == "now" else None)
        try:
            self._wait_for_head()
            tags = self._head[0].tags
            self._clock = _clock(options, list(self._head))
            self.info = self._describe(tags)
            #: Pixel size in the sample as Micro-Manager has it; 0 if it has none.
            self.pixel_um = _number(tag(tags, "PixelSizeUm"))
            self.pixel_um = self.pixel_um or _number(self._data.summary.get("PixelSize_um"))
        except BaseException:
            self._data.close()
            raise
        self._gaps = GapDetector(self.info.interval_s)
        self._poll_s = min(max(self.info.interval_s / 8, _POLL_S[0]), _POLL_S[1])
        self._origin_s: float | None = None
        self._last_t_s = 0.0
        self._image_number = -1
        self._first = 0  # number of image 0 of the present sequence of the camera
        self._next = 0
        self._due_s = 0.0  # no sooner than this may the next frame of a backlog come

    def frames(self) -> Iterator[StreamItem]:
        """Yield the images as they are written, until the data set is finished or silent.

        Raises
        ------
        SourceError
            A file was deleted, replaced or damaged; after what came before and an
            `Event("failed")`.
        """
        try:
            self._data.listen()  # kernels may have been compiled since it was opened
            if self._options.from_ == "now":
                self._skip()
            while not self._closing.is_set():
                with self._lock:
                    items, at_end = self._step()
                yield from items
                if at_end:
                    return
                self._rest(bool(items))
        except SourceError as error:
            yield Event("failed", self._last_t_s, self._next, 0, str(error))
            raise
        finally:
            self.close()

    def close(self) -> None:
        """Stop, and let go of the files."""
        self._closing.set()
        with self._lock:
            self._data.close()

    # --- one image -------------------------------------------------------------------------------

    def _step(self) -> tuple[list[StreamItem], bool]:
        """Return what came (perhaps nothing), and whether that was the end."""
        if self._closing.is_set():
            return [], True
        image = self._head.popleft() if self._head else self._next_image()
        if image is not None:
            return self._take(image)
        if self._data.finished:
            return [], self._data.has_ended()
        self._data.check()
        silence = self._gaps.idle(time.perf_counter()) if self._next else []
        patience_s = max(self._options.end_after_s, 2.0 * self.info.interval_s)
        return [*silence], self._data.quiet_s > patience_s

    def _take(self, image: Image) -> tuple[list[StreamItem], bool]:
        adu = image.file.read(image.page)
        adu.flags.writeable = False
        arrived_s = time.perf_counter()
        index = self._index(image)
        t_s = self._time(image, index)
        frame = Frame(index, t_s, adu, self.info.exposure_s, arrived_s=arrived_s)
        if adu.shape != self.info.shape:
            return [shape_event(frame, self.info.shape)], True
        mended_s, events = self._gaps.see(index, t_s, arrived_s)
        self._next, self._last_t_s = index + 1, mended_s
        return [*events, frame._replace(t_s=mended_s)], False

    def _next_image(self) -> Image | None:
        """Return the next image that was asked for; None while there is none."""
        while (image := self._data.next_image()) is not None:
            if self._choice.takes(image, self._data.summary):
                return image
        return None

    def _index(self, image: Image) -> int:
        known = _number(tag(image.tags, "ImageNumber"), np.nan)
        if not np.isfinite(known) or self._choice.leaves_out:
            at = image.axes.get("time", self._next)
            return max(at, self._next) if isinstance(at, int) else self._next
        number = int(known)
        if number <= self._image_number:  # the camera began another sequence
            self._first = self._next
        self._image_number = number
        return self._first + number

    def _time(self, image: Image, index: int) -> float:
        if not self._clock:
            return index * self.info.interval_s
        due_s = self._last_t_s + (index + 1 - self._next) * self.info.interval_s
        now_s = _stamp(image, self._clock)
        if not np.isfinite(now_s):
            return due_s
        if self._origin_s is None:
            self._origin_s = now_s
        return now_s - self._origin_s

    def _rest(self, some: bool) -> None:
        if some:
            if self.info.paced:
                self._closing.wait(self._ahead_s())
            return
        quiet = self._data.quiet_s > self._gaps.limit_s
        self._closing.wait(_QUIET_POLL_S if quiet else self._poll_s)

    def _ahead_s(self) -> float:
        """Return how long to wait for a backlog not to come faster than the ring can take it."""
        step_s, now_s = self.info.interval_s / _CATCH_UP, time.perf_counter()
        self._due_s = max(self._due_s, now_s - _BURST * step_s) + step_s
        return max(0.0, self._due_s - now_s)

    def _skip(self) -> None:
        """Pass by all that is there already."""
        with self._lock:
            self._head.clear()
            while self._next_image() is not None:
                pass

    # --- before the first ------------------------------------------------------------------------

    def _wait_for_head(self) -> None:
        """Wait for as many images as are needed to describe the stream."""
        options = self._options
        enough = 1 if options.interval_s is not None else 3
        until_s = time.perf_counter() + options.wait_s
        settled_s = until_s
        while len(self._head) < _HEAD or options.from_ == "now":
            image = self._next_image()
            now_s = time.perf_counter()
            if image is not None:
                settled_s = min(settled_s, now_s + _HEAD_S)
                self._head.append(image)
                continue
            late = now_s > until_s or self._data.has_ended()
            if late and not self._head:
                raise SourceError(self._nothing())
            if late or (len(self._head) >= enough and now_s > settled_s):
                return
            self._closing.wait(_POLL_S[1])

    def _nothing(self) -> str:
        waited = f"in {self._options.wait_s:g} s (wait_s)"
        if self._choice.leaves_out:
            return f"{self._path}: no image with axes = {self._options.axes} {waited}"
        if not self._path.exists():
            return f"{self._path}: no such file or folder {waited}"
        kinds = "NDTiff, or OME-TIFF as Micro-Manager writes it (image stack file)"
        return f"{self._path}: no image {waited}; expected {kinds}"

    def _describe(self, tags: dict[str, Any]) -> SourceInfo:
        interval_s = self._interval()
        given_s = self._options.exposure_s
        exposure_ms = _number(tag(tags, "Exposure-ms")) or _number(tag(tags, "Exposure"))
        if given_s is not None and given_s > interval_s * (1 + 1e-9):
            raise SourceError(
                f"{self._path}: exposure_s {given_s:g} is longer than the {interval_s:g} s interval"
            )
        exposure_s = given_s or exposure_ms * 1e-3 or interval_s
        return SourceInfo(
            name=f"{self._path.name}, as it grows",
            shape=self._head[0].page.shape,
            interval_s=interval_s,
            exposure_s=min(exposure_s, interval_s),
            n_frames=None,
            paced=self._options.paced,
            identity=self._options.camera_id or _camera(tags),
        )

    def _interval(self) -> float:
        if self._options.interval_s is not None:
            return self._options.interval_s
        if self._clock and len(self._head) > 1:
            steps = np.diff([_stamp(image, self._clock) for image in self._head])
            steps /= np.maximum(np.diff(self._numbers()), 1)
            return float(np.median(steps))
        interval_ms = _number(self._data.summary.get("Interval_ms"))
        if interval_ms > 0:
            return interval_ms * 1e-3
        raise SourceError(
            f"{self._path}: the images do not tell the time between them: "
            "give interval_s (--frame-ms)"
        )

    def _numbers(self) -> list[int]:
        """Return the numbers of the first images, as far as they have any."""
        found = [tag(image.tags, "ImageNumber") for image in self._head]
        if self._choice.leaves_out or None in found:
            found = [image.axes.get("time", i) for i, image in enumerate(self._head)]
        return [int(n) if str(n).isdigit() else i for i, n in enumerate(found)]


def _clock(options: FollowOptions, head: list[Image]) -> str:
    """Return the name of the time stamp that runs forward; "" if none does."""
    if options.times == "interval":
        return ""
    for name in ("TimeReceivedByCore", "ElapsedTime-ms"):
        t_s = np.array([_stamp(image, name) for image in head])
        if np.all(np.isfinite(t_s)) and np.all(np.diff(t_s) > 0):
            return name
    return ""


def _stamp(image: Image, name: str) -> float:
    """Return an image's time stamp in seconds, NaN if it has none."""
    value = tag(image.tags, name)
    if name == "ElapsedTime-ms":
        return _number(value, np.nan) * 1e-3
    return received({name: value}, np.nan)


def _number(value: Any, without: float = 0.0) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return without
    return number if np.isfinite(number) else without


def _camera(tags: dict[str, Any]) -> str:
    """Return the camera's label and, where the metadata have one, its serial number."""
    label = tag(tags, "Camera") or tag(tags, "Core-Camera") or ""
    serials = (tag(tags, f"{label}-{name}") for name in _SERIALS)
    return " ".join(str(part) for part in (label, *serials) if part)
