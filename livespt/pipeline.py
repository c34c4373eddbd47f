"""The live loop: frames in, answers out, in order.

    source -> (ring) -> ordered_map(localize) -> [guide] -> link -> (settle) -> infer -> sinks

Localization is pure and most of the work, so it is spread over a few threads and put back in
order; its kernels release the GIL. All that follows is cheap and runs on one thread, so that
the same frames give the same answers whatever the number of workers.

In joint mode the tracks' predictions are looked up in the frame's own pixels before the linker's
step; the frame is still here, so nothing is copied. Tracks that are followed in their pixels take
theirs from it behind the filter.

Where the linker may revise the last frames' identities, a frame waits until they are settled: all
that comes after sees it `lag` frames later, whole, with links that no longer change.

Events ride in line with the frames: a sink sees a gap exactly where it happened. That a camera is
silent is told at once.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from livespt.ordered import ordered_map
from livespt.settle import Settled, Settling
from livespt.types import Estimates, Event, Frame, Links, Predictions, Spots, StreamItem

_NO_PIXELS = np.empty((0, 0), dtype=np.uint16)


class Sink(Protocol):
    """Whoever wants the answers: the journal, the wire, a view, a controller."""

    def send(self, frame: Frame, spots: Spots, links: Links, estimates: Estimates) -> None:
        """Take the answer after one frame."""
        ...

    def event(self, event: Event) -> None:
        """Take something that happened to the stream."""
        ...

    def tick(self, counters: Counters) -> None:
        """Called about twice a second, also while no frame comes, and once at the end."""
        ...


class LinkStage(Protocol):
    """What the loop needs of a linker."""

    def step(self, spots: Spots) -> Links:
        """Give each spot of the next frame a track."""
        ...

    def predict(self, frame: int, t_s: float, exposure_s: float) -> Predictions:
        """Say where each track expects its molecule in a frame to come (joint mode only)."""
        ...


class GuideStage(Protocol):
    """What the loop needs to look for predicted molecules in a frame's pixels."""

    def __call__(self, frame: Frame, spots: Spots, predictions: Predictions) -> Spots:
        """Return the spots, and those that the predictions add."""
        ...

    def learn(self, spots: Spots, links: Links) -> None:
        """Take in what became of the spots."""
        ...


class InferStage(Protocol):
    """What the loop needs of an online filter."""

    def step(self, spots: Spots, links: Links) -> Estimates:
        """Take the next frame's spots into the running answer."""
        ...


class FollowStage(Protocol):
    """What the loop needs to follow tracks in a frame's pixels."""

    def step(self, frame: Frame, spots: Spots, links: Links, estimates: Estimates) -> Estimates:
        """Return the estimates with what the pixels say of each track."""
        ...


class Chain(NamedTuple):
    """The stages of the loop, in order.

    Attributes
    ----------
    localize : Frame -> Spots
    linker, online
        The two sequential stages.
    guide : GuideStage, optional
        Joint mode: looks for what the linker predicts; the linker must then be able to `predict`.
    follow : FollowStage, optional
        Follows tracks in their pixels.
    lag : int
        For so many frames the linker may revise identities.
    """

    localize: Callable[[Frame], Spots]
    linker: LinkStage
    online: InferStage
    guide: GuideStage | None = None
    follow: FollowStage | None = None
    lag: int = 0


class _Held(NamedTuple):
    """What waits with a linked frame: its image, and the events that came behind it."""

    frame: Frame
    behind: list[Event]


class LatencyLog:
    """The last 65,536 latencies: bounded memory, exact percentiles of the recent past."""

    def __init__(self, size: int = 1 << 16) -> None:
        self._ms = np.zeros(size)
        self._n = 0

    def add(self, ms: float) -> None:
        """Note one latency."""
        self._ms[self._n % self._ms.size] = ms
        self._n += 1

    def percentiles(self, recent: int | None = None) -> tuple[float, float]:
        """Return (p50, p99) in ms over all kept, or over the `recent` newest; 0 when empty."""
        kept = min(self._n, self._ms.size)
        if kept == 0:
            return 0.0, 0.0
        newest = np.arange(self._n - min(recent or kept, kept), self._n) % self._ms.size
        p50, p99 = np.percentile(self._ms[newest], (50, 99))
        return float(p50), float(p99)


class PaceCheck:
    """Compares the pace of the first frames with the nominal one, once.

    Switching probabilities are per nominal interval: where that is wrong, so are the rates.
    """

    FRAMES = 100
    TOLERANCE = 0.05

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._first: Frame | None = None
        self._done = interval_s <= 0

    def see(self, frame: Frame) -> Event | None:
        """Take one frame; return a note where the pace turns out to be another than stated."""
        if self._done:
            return None
        if self._first is None:
            self._first = frame._replace(adu=_NO_PIXELS)
            return None
        n = frame.index - self._first.index
        if n < self.FRAMES:
            return None
        self._done = True
        found_s = (frame.t_s - self._first.t_s) / n
        if abs(found_s / self._interval_s - 1) <= self.TOLERANCE:
            return None
        why = (
            f"frames come every {1e3 * found_s:.3g} ms, not {1e3 * self._interval_s:.3g} ms as "
            "stated: D is right, switching is per stated interval (set the interval)"
        )
        return Event("note", frame.t_s, frame.index, 0, why)


@dataclass
class Counters:
    """Everything that is counted while a run goes on."""

    frames_in: int = 0
    frames_processed: int = 0
    frames_shed: int = 0
    frames_missing: int = 0
    spots: int = 0
    tracks_seen: int = 0
    tracks_ended: int = 0
    t_s: float = 0.0
    started_s: float = field(default_factory=time.perf_counter)
    latency: LatencyLog = field(default_factory=LatencyLog)
    _marks: deque[tuple[float, int, int]] = field(default_factory=lambda: deque(maxlen=8))

    def count(self, event: Event) -> None:
        """Add what an event says about lost frames."""
        if event.kind == "missing":
            self.frames_missing += event.n_frames
        elif event.kind == "shed":
            self.frames_shed += event.n_frames
            self.frames_in += event.n_frames
        elif event.kind == "overflow":
            self.frames_missing += event.n_frames

    def rates(self) -> tuple[float, float]:
        """Return frames/s (in, out) over the last few ticks."""
        now = time.perf_counter()
        self._marks.append((now, self.frames_in, self.frames_processed))
        then, n_in, n_out = self._marks[0]
        span = max(now - then, 1e-9)
        if len(self._marks) < 2:
            return 0.0, 0.0
        return (self.frames_in - n_in) / span, (self.frames_processed - n_out) / span


class Pipeline:
    """Link, infer and hand out, frame after frame.

    Parameters
    ----------
    chain : Chain
        The stages.
    sinks : sequence of Sink
        Called in order, on the loop's thread.
    workers : int
    interval_s : float
        Nominal time between frames, to be checked against the first ones; 0 checks nothing.
    tick_s : float
        Time between two calls of each sink's `tick`.
    """

    def __init__(
        self,
        chain: Chain,
        sinks: Sequence[Sink],
        *,
        workers: int = 2,
        interval_s: float = 0.0,
        tick_s: float = 0.5,
    ) -> None:
        self._chain = chain
        self.sinks = list(sinks)
        self._workers = workers
        self._tick_s = tick_s
        self._pace = PaceCheck(interval_s)
        self._settling: Settling[_Held] = Settling(chain.lag)
        self._stop = threading.Event()
        self.counters = Counters()
        self.last: Estimates | None = None

    def stop(self) -> None:
        """End the run in good order after the frames in flight (any thread may call)."""
        self._stop.set()

    def run(
        self,
        items: Iterable[StreamItem],
        max_frames: int | None = None,
        max_s: float | None = None,
        behind: Callable[[], bool] | None = None,
    ) -> Counters:
        """Work through the stream to its end, to `max_frames`, or until `stop`.

        A camera that is silent when `max_s` have passed is not waited for longer. `behind` tells
        whether frames wait at the source (`livespt.ordered`).
        """
        self.counters = Counters()
        try:
            self._take_all(self._until(items, max_frames), max_s, behind)
        except BaseException:
            with suppress(Exception):  # what went wrong first says more
                self._hand_out(self._settling.rest())
            raise
        self._hand_out(self._settling.rest())
        self._tick()
        return self.counters

    def _take_all(
        self,
        stream: Iterable[StreamItem],
        max_s: float | None,
        behind: Callable[[], bool] | None,
    ) -> None:
        deadline = math.inf if max_s is None else time.perf_counter() + max_s
        next_tick = time.perf_counter() + self._tick_s
        localized = ordered_map(
            self._chain.localize, stream, self._workers, patience_s=self._tick_s, behind=behind
        )
        for item in localized:
            if isinstance(item, Event):
                self._in_line(item)
            elif item is not None:
                self._frame(*item)
            elif time.perf_counter() > deadline:
                break
            if time.perf_counter() >= next_tick:
                self._tick()
                next_tick = time.perf_counter() + self._tick_s

    def _until(self, items: Iterable[StreamItem], max_frames: int | None) -> Iterator[StreamItem]:
        count = itertools.count(1)
        t_s, newest = 0.0, -1
        for item in items:
            if isinstance(item, Frame):
                if item.index <= newest:
                    why = f"frame {item.index} came after frame {newest} and is not analysed"
                    yield Event("shed", item.t_s, item.index, 1, why)
                    continue
                newest = item.index
            if isinstance(item, Frame) and not item.arrived_s:
                item = item._replace(arrived_s=time.perf_counter())
            yield item
            if isinstance(item, Frame):
                t_s = item.t_s
                if max_frames is not None and next(count) >= max_frames:
                    return
            if self._stop.is_set():
                yield Event("stopped", t_s, -1, 0, "stopped on request")
                return

    def _frame(self, frame: Frame, spots: Spots) -> None:
        spots, links = self._link(frame, spots)
        self.counters.frames_in += 1
        self._hand_out(self._settling.take(spots, links, _Held(frame, [])))

    def _hand_out(self, settled: list[Settled[_Held]]) -> None:
        """Infer from frames whose identities are settled, and tell the sinks."""
        for spots, links, held in settled:
            estimates = self._infer(held.frame, spots, links)
            self.last = estimates
            self._count(spots, links)
            for sink in self.sinks:
                sink.send(held.frame, spots, links, estimates)
            for event in estimates.events:
                self._event(event)
            note = self._pace.see(held.frame)
            if note is not None:
                self._event(note)
            self.counters.latency.add(1e3 * (time.perf_counter() - held.frame.arrived_s))
            for event in held.behind:
                self._event(event)

    def _infer(self, frame: Frame, spots: Spots, links: Links) -> Estimates:
        estimates = self._chain.online.step(spots, links)
        follow = self._chain.follow
        return estimates if follow is None else follow.step(frame, spots, links, estimates)

    def _count(self, spots: Spots, links: Links) -> None:
        counters = self.counters
        counters.frames_processed += 1
        counters.t_s = spots.t_s
        counters.spots += int(np.count_nonzero(spots.table["status"] == 0))
        counters.tracks_ended += len(links.ended)
        if len(links.track_id):
            counters.tracks_seen = max(counters.tracks_seen, int(links.track_id.max()) + 1)

    def _link(self, frame: Frame, spots: Spots) -> tuple[Spots, Links]:
        """Link one frame; in joint mode look first where the tracks should be."""
        guide, linker = self._chain.guide, self._chain.linker
        if guide is None:
            return spots, linker.step(spots)
        spots = guide(frame, spots, linker.predict(spots.frame, spots.t_s, spots.exposure_s))
        links = linker.step(spots)
        guide.learn(spots, links)
        return spots, links

    def _in_line(self, event: Event) -> None:
        """Tell an event behind the frames that came before it."""
        newest = self._settling.newest
        if newest is None or event.kind == "stalled":
            self._event(event)
        else:
            newest.extra.behind.append(event)

    def _event(self, event: Event) -> None:
        self.counters.count(event)
        for sink in self.sinks:
            sink.event(event)

    def _tick(self) -> None:
        for sink in self.sinks:
            sink.tick(self.counters)
