"""Where the live loop's answers go: the run folder, and whoever listens.

The journal never drops and comes first; the broadcast is for eyes and scripts, and may.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from livespt.control.controller import Controller, Standing
from livespt.jit import read_only
from livespt.journal import Journal
from livespt.pipeline import Counters
from livespt.preview_kernels import shrink
from livespt.types import Estimates, Event, Frame, Links, Spots
from livespt.wire import Publisher, schema
from livespt.wire.messages import estimate_message, event_message

Listener = Callable[[schema.AnyMessage], object]


class Gauges(NamedTuple):
    """Fields of a status message that only the session knows."""

    ring_used: int = 0
    ring_size: int = 0
    journal_bytes: int = 0
    wire_dropped: int = 0
    trouble: str = ""
    frames_saved: int = 0
    frames_unsaved: int = 0


#: The longer side of a preview image, at most.
PREVIEW_PX = 512


class JournalSink:
    """Hands every answer and event to the run folder."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def send(self, frame: Frame, spots: Spots, links: Links, estimates: Estimates) -> None:
        """Write one frame's spots, links and estimates."""
        latency_ms = 1e3 * (time.perf_counter() - frame.arrived_s)
        self._journal.append(spots, links, estimates, latency_ms=latency_ms)

    def event(self, event: Event) -> None:
        """Write one event."""
        self._journal.event(event)

    def tick(self, counters: Counters) -> None:
        """Write the counters."""
        self._journal.counters(
            t_s=counters.t_s,
            frames_in=counters.frames_in,
            frames_processed=counters.frames_processed,
            frames_shed=counters.frames_shed,
            frames_missing=counters.frames_missing,
            spots=counters.spots,
            tracks_ended=counters.tracks_ended,
        )


class _Untold(NamedTuple):
    """The newest answer that no message has told yet, and how many are untold with it."""

    spots: Spots
    estimates: Estimates
    latency_ms: float
    n_frames: int


class BroadcastSink:
    """Turns answers into messages and gives each to every listener.

    Parameters
    ----------
    listeners : sequence of callables
        The publisher's `send`, a terminal view's `update`, a test's `list.append`.
    pixel_um : float
    image_every_s : float
        Time between two preview images; 0 sends none.
    estimate_every_s : float
        Least time between two estimates: of those that come faster the newest is told, and how
        many frames it stands for. 0 tells each.
    gauges : callable, optional
        Reads the gauges of ring, journal and wire.
    """

    def __init__(
        self,
        listeners: Sequence[Listener],
        *,
        pixel_um: float,
        image_every_s: float = 0.1,
        estimate_every_s: float = 0.0,
        gauges: Callable[[], Gauges] = Gauges,
    ) -> None:
        self._listeners = list(listeners)
        self._pixel_um = pixel_um
        self._image_every_s = image_every_s
        self._next_image_s = 0.0
        self._estimate_every_s = estimate_every_s
        self._next_estimate_s = 0.0
        self._untold: _Untold | None = None
        self._gauges = gauges
        self.state = "running"

    def tell(self, message: schema.AnyMessage) -> None:
        """Give any message to all listeners."""
        for listener in self._listeners:
            listener(message)

    def send(self, frame: Frame, spots: Spots, links: Links, estimates: Estimates) -> None:
        """Send the estimate where one is due, and now and then the image."""
        now = time.perf_counter()
        n_frames = self._untold.n_frames + 1 if self._untold else 1
        self._untold = _Untold(spots, estimates, 1e3 * (now - frame.arrived_s), n_frames)
        if now >= self._next_estimate_s or len(links.revised):
            self._next_estimate_s = now + self._estimate_every_s
            self._tell_estimate(links.revised)
        if self._image_every_s and now >= self._next_image_s:
            self._next_image_s = now + self._image_every_s
            self.tell(preview(frame))

    def event(self, event: Event) -> None:
        """Send an event; a stall shows in the state too."""
        if event.kind in ("stalled", "resumed"):
            self.state = "stalled" if event.kind == "stalled" else "running"
        self.tell(event_message(event))

    def tick(self, counters: Counters) -> None:
        """Send what is still untold, and the counters."""
        self._tell_estimate()
        self.tell(self.status(counters))

    def _tell_estimate(self, revised: NDArray[np.void] | None = None) -> None:
        untold, self._untold = self._untold, None
        if untold is not None:
            spots, estimates, latency_ms, n_frames = untold
            message = estimate_message(spots, estimates, latency_ms, self._pixel_um, revised)
            self.tell(message if n_frames == 1 else replace(message, n_frames=n_frames))

    def status(
        self, counters: Counters, *, progress: float = 0.0, note: str = ""
    ) -> schema.StatusMessage:
        """Make a status message from the counters and the session's gauges."""
        gauges = self._gauges()
        fps_in, fps_out = counters.rates()
        p50, p99 = counters.latency.percentiles(recent=2048)
        return schema.StatusMessage(
            state=self.state,
            t_s=counters.t_s,
            frames_in=counters.frames_in,
            frames_processed=counters.frames_processed,
            frames_shed=counters.frames_shed,
            frames_missing=counters.frames_missing,
            spots=counters.spots,
            tracks_live=max(counters.tracks_seen - counters.tracks_ended, 0),
            tracks_ended=counters.tracks_ended,
            fps_in=fps_in,
            fps_out=fps_out,
            latency_ms_p50=p50,
            latency_ms_p99=p99,
            progress=progress,
            ring_used=gauges.ring_used,
            ring_size=gauges.ring_size,
            journal_bytes=gauges.journal_bytes,
            wire_dropped=gauges.wire_dropped,
            note=gauges.trouble or note,
            frames_saved=gauges.frames_saved,
            frames_unsaved=gauges.frames_unsaved,
        )


class Notebook:
    """Takes notes from any thread and tells them in the loop's own time; a sink for its ticks.

    Parameters
    ----------
    tell : callable
        Takes each event, on the loop's thread.
    """

    #: Notes that may wait; of more the oldest go.
    MOST = 256

    def __init__(self, tell: Callable[[Event], None]) -> None:
        self._tell = tell
        self._waiting: deque[str] = deque(maxlen=self.MOST)

    def add(self, text: str) -> None:
        """Write down one line; any thread may call."""
        self._waiting.append(" ".join(text.split()))

    def send(self, frame: Frame, spots: Spots, links: Links, estimates: Estimates) -> None:
        """Nothing to do for one frame."""

    def event(self, event: Event) -> None:
        """Nothing to do for one event."""

    def tick(self, counters: Counters) -> None:
        """Tell what has been written down."""
        for _ in range(len(self._waiting)):
            self._tell(Event("note", counters.t_s, -1, 0, self._waiting.popleft()))


class CommandSink:
    """Obeys the commands that came over the wire; a sink because it wants the loop's ticks.

    Parameters
    ----------
    publisher : Publisher
    stop : callable
        Ends the run in good order.
    control : Controller, optional
        Lowers the excitation; nothing that comes over the wire can raise it.
    """

    def __init__(
        self, publisher: Publisher, stop: Callable[[], None], control: Controller | None = None
    ) -> None:
        self._publisher = publisher
        self._stop = stop
        self._control = control

    def send(self, frame: Frame, spots: Spots, links: Links, estimates: Estimates) -> None:
        """Nothing to do for one frame."""

    def event(self, event: Event) -> None:
        """Nothing to do for one event."""

    def tick(self, counters: Counters) -> None:
        """Stop when asked to; called while the camera is silent, too."""
        for command in self._publisher.poll_commands():
            if isinstance(command, schema.StopCommand):
                self._stop()
            elif self._control is not None and isinstance(command, schema.LowerCommand):
                self._control.lower(command.factor)
            elif self._control is not None and isinstance(command, schema.OffCommand):
                self._control.off(command.reason or "asked for over the wire")


def control_message(standing: Standing) -> schema.ControlMessage:
    """Turn the standing of the control into its message."""
    fields: dict[str, Any] = {**standing._asdict(), "faults": list(standing.faults)}
    return schema.ControlMessage(**fields)


def preview(frame: Frame) -> schema.ImageMessage:
    """Shrink a frame for looking at: means over square bins, at most `PREVIEW_PX` a side."""
    n = -(-max(frame.adu.shape) // PREVIEW_PX)
    adu = frame.adu if n == 1 else _binned(frame.adu, n)
    return schema.ImageMessage(
        frame=frame.index, t_s=frame.t_s, binning=n, adu=schema.Table.of(adu)
    )


def _binned(adu: NDArray[np.uint16], n: int) -> NDArray[np.uint16]:
    """Return the rounded means of n x n pixels; what is left over at the ends is cut off."""
    out = np.empty((adu.shape[0] // n, adu.shape[1] // n), np.uint16)
    shrink(read_only(adu), n, np.empty(adu.shape[1], np.uint32), out)
    return out


def warm_up_preview() -> None:
    """Compile what shrinks large frames."""
    _binned(np.zeros((2, 2), np.uint16), 2)
