"""The ring between a camera and the analysis: the only place that may drop a frame.

One producer, one consumer, `n_frames` slots allocated at the start. When all are full, policy
"oldest" skips the oldest whole frame (an `Event("shed")` takes its place in the order, so that the
gap is seen where it is), and policy "raise" ends the stream with `RingFull` after the frames that
were received. Events ride in order with the frames and are never dropped.

Ownership: a frame handed out is a read-only view into a slot, and the slot is free again when the
last view of it is gone; there is nothing to release by hand and nothing to misuse. `LENT` slots
beyond the ring's `n_frames` serve frames in the hands of workers. A consumer that keeps more than
that gets copies instead, so that what it keeps never narrows the ring.

A producer whose frames are its consumer's for good (`copies=False`) needs no slots: the ring queues
the frames themselves, as many as before at most. A large frame is then copied once less.

The slot's return runs wherever the last reference dies, perhaps inside the garbage collector while
the ring's lock is held, and so it is one atomic `deque.append` that takes no lock.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np

from livespt.sources.base import Source, SourceError
from livespt.types import Event, Frame, LivesptError, SourceInfo, StreamItem

#: Slots beyond the ring's own for frames that workers hold.
LENT = 16
#: How long `close` waits for a source to stop.
JOIN_S = 10.0

WhenFull = Literal["oldest", "raise"]


class RingFull(SourceError):
    """Analysis fell behind by a whole ring and the policy is "raise"."""


class Counters(NamedTuple):
    """What went through the ring: frames in, frames shed, most frames waiting at once."""

    n_in: int
    n_shed: int
    high_water: int


class _Queued(NamedTuple):
    slot: int
    frame: Frame  # its `adu` is left empty where the pixels lie in a slot


#: The slot of a frame that brought its own pixels.
_NO_SLOT = -1
_NO_PIXELS = np.empty((0, 0), dtype=np.uint16)


class Ring:
    """A bounded queue of frames, with events between them.

    Parameters
    ----------
    n_frames : int
        Frames that may wait, at least 1.
    shape : (int, int)
        Height and width of every frame.
    when_full : {"oldest", "raise"}
    copies : bool
        Copy each frame into a slot; without, the producer never writes to a frame that it pushed.

    Raises
    ------
    SourceError
        The memory for the slots cannot be had.
    """

    def __init__(
        self, n_frames: int, shape: tuple[int, int], when_full: WhenFull, *, copies: bool = True
    ) -> None:
        if n_frames < 1:
            raise SourceError(f"ring_frames: {n_frames} (at least 1)")
        self.n_frames, self.shape, self.when_full = n_frames, shape, when_full
        self._copies = copies
        slots = _allocate(n_frames + LENT if copies else 0, self.shape)
        self._slots = slots
        self._views = [memoryview(slot).toreadonly() for slot in slots]
        self._free: deque[int] = deque(range(len(slots)))
        # Events ahead of the first waiting frame, then that frame and all behind it.
        self._ahead: deque[Event] = deque()
        self._queue: deque[_Queued | Event] = deque()
        self._n_waiting = 0
        self._n_in = self._n_shed = self._high_water = 0
        self._closed = False
        self._error: Exception | None = None
        self._changed = threading.Condition(threading.Lock())

    @property
    def counters(self) -> Counters:
        """Frames in, shed, and the most that ever waited."""
        return Counters(self._n_in, self._n_shed, self._high_water)

    @property
    def n_waiting(self) -> int:
        """Frames in the ring now."""
        return self._n_waiting

    def push(self, item: StreamItem) -> bool:
        """Put a frame or an event in, from the producer's thread; never waits for the consumer.

        Returns
        -------
        bool
            False where the ring takes no more: it was closed, it is full under policy "raise", or
            the frame has another shape or type (an `Event("shape")` then ends the stream).
        """
        if isinstance(item, Event):
            return self._push_event(item)
        if item.adu.shape != tuple(self.shape) or item.adu.dtype != np.uint16:
            self._push_event(shape_event(item, self.shape))
            self.end()
            return False
        return self._push_frame(item)

    def end(self, error: Exception | None = None) -> None:
        """Let the consumer drain the ring and then stop, raising `error` where one is given."""
        with self._changed:
            if not self._closed:
                self._closed, self._error = True, error
            self._changed.notify_all()

    def pop(self, timeout_s: float | None = None) -> StreamItem | None:
        """Take the next item, waiting for it; None at the end of the stream.

        Raises
        ------
        TimeoutError
            Nothing came within `timeout_s`.
        SourceError
            The stream failed; raised after everything that was received.
        """
        with self._changed:
            if not self._changed.wait_for(self._ready, timeout_s):
                raise TimeoutError
            if self._ahead:
                return self._ahead.popleft()
            if self._queue:
                return self._take_frame()
            if self._error is not None:
                raise self._error
            return None

    def _ready(self) -> bool:
        return bool(self._ahead or self._queue or self._closed)

    def _push_event(self, event: Event) -> bool:
        with self._changed:
            if self._closed:
                return False
            (self._queue if self._queue else self._ahead).append(event)
            self._changed.notify()
            return True

    def _push_frame(self, frame: Frame) -> bool:
        with self._changed:
            if self._closed:
                return False
            self._n_in += 1
            if self._n_waiting >= self.n_frames and not self._make_room(frame):
                return False
        queued = self._stored(frame)  # outside the lock: the consumer need not wait
        with self._changed:
            self._queue.append(queued)
            self._n_waiting += 1
            self._high_water = max(self._high_water, self._n_waiting)
            self._changed.notify()
        return True

    def _stored(self, frame: Frame) -> _Queued:
        if not self._copies:
            adu = frame.adu.view()
            adu.flags.writeable = False
            return _Queued(_NO_SLOT, frame._replace(adu=adu))
        slot = self._free.popleft()
        np.copyto(self._slots[slot], frame.adu)
        return _Queued(slot, frame._replace(adu=_NO_PIXELS))

    def _make_room(self, frame: Frame) -> bool:
        if self.when_full == "oldest":
            self._shed_oldest()
            return True
        self._closed = True
        self._error = RingFull(
            f"frame {frame.index}: the ring of {self.n_frames} frames is full and when_full is "
            f"'raise'; analysis is slower than the camera (more ring_frames ride out a pause)"
        )
        self._changed.notify_all()
        return False

    def _shed_oldest(self) -> None:
        queued = self._queue.popleft()
        assert isinstance(queued, _Queued)
        if queued.slot != _NO_SLOT:
            self._free.append(queued.slot)
        self._n_waiting -= 1
        self._n_shed += 1
        if self._ahead and _follows(self._ahead[-1], queued.frame):
            self._ahead.append(_shed_event(self._ahead.pop(), queued.frame))
        else:
            self._ahead.append(_shed_event(None, queued.frame))
        self._advance_events()

    def _take_frame(self) -> Frame:
        queued = self._queue.popleft()
        assert isinstance(queued, _Queued)
        # Lend the slot only while enough stay free for every frame that may yet wait.
        lend = len(self._free) + self._n_waiting > self.n_frames
        self._n_waiting -= 1
        self._advance_events()
        if queued.slot == _NO_SLOT:
            return queued.frame
        adu = np.asarray(self._views[queued.slot])
        if lend:
            # `adu` rests on a memoryview, so that every slice of it keeps `adu` itself alive.
            weakref.finalize(adu, self._free.append, queued.slot).atexit = False
        else:
            adu = adu.copy()
            adu.flags.writeable = False
            self._free.append(queued.slot)
        return queued.frame._replace(adu=adu)

    def _advance_events(self) -> None:
        while self._queue and isinstance(self._queue[0], Event):
            self._ahead.append(self._queue.popleft())  # type: ignore[arg-type]


class BufferedSource:
    """A paced source behind a ring: a thread receives, the caller takes frames when it can.

    Parameters
    ----------
    source : Source
        One with a true attribute `hands_over` never writes to a frame that it gave: its frames
        are queued as they are. Those of any other are copied.
    n_frames : int
        Frames that may wait.
    when_full : {"oldest", "raise"}
    """

    def __init__(self, source: Source, n_frames: int, when_full: WhenFull = "oldest") -> None:
        self.source = source
        copies = not getattr(source, "hands_over", False)
        self.ring = Ring(n_frames, source.info.shape, when_full, copies=copies)
        self._thread = threading.Thread(target=self._pump, name="livespt-source", daemon=True)

    @property
    def info(self) -> SourceInfo:
        """The source's own."""
        return self.source.info

    @property
    def counters(self) -> Counters:
        """What went through the ring."""
        return self.ring.counters

    def is_behind(self) -> bool:
        """Whether frames wait for the caller."""
        return self.ring.n_waiting > 0

    def frames(self) -> Iterator[StreamItem]:
        """Start receiving and yield what comes, until the end; close on the way out.

        Raises
        ------
        SourceError
            The source failed or, under policy "raise", the ring was full.
        """
        self._thread.start()
        try:
            while (item := self.ring.pop()) is not None:
                yield item
        finally:
            self.close()

    def close(self) -> None:
        """Stop receiving, wait for the thread, release the source.

        Frames that wait in the ring may still be taken.

        Raises
        ------
        SourceError
            The source did not stop within `JOIN_S` seconds.
        """
        self.ring.end()
        self.source.close()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(JOIN_S)
            if self._thread.is_alive():
                raise SourceError(f"{self.info.name}: did not stop within {JOIN_S:g} s")

    def _pump(self) -> None:
        error: Exception | None = None
        try:
            for item in self.source.frames():
                if isinstance(item, Frame) and not item.arrived_s:
                    item = item._replace(arrived_s=time.perf_counter())
                if not self.ring.push(item):
                    break
        except LivesptError as caught:
            error = caught
        except Exception as caught:  # noqa: BLE001 (a third party's source; raised at the consumer)
            error = SourceError(f"{self.info.name}: {type(caught).__name__}: {caught}")
            error.__cause__ = caught
        self.ring.end(error)


def _allocate(n_slots: int, shape: tuple[int, int]) -> np.ndarray:
    try:
        slots = np.empty((n_slots, *shape), dtype=np.uint16)
        slots.fill(0)  # the system finds the memory now, not while the first frames come
        return slots
    except (MemoryError, ValueError):
        height, width = shape
        raise SourceError(
            f"ring_frames: no memory for {n_slots} frames of {height} x {width} "
            f"({n_slots * height * width * 2 / 2**20:.0f} MiB)"
        ) from None


def _follows(event: Event, frame: Frame) -> bool:
    return event.kind == "shed" and event.frame + event.n_frames == frame.index


def _shed_event(before: Event | None, frame: Frame) -> Event:
    first, n_frames, t_s = frame.index, 1, frame.t_s
    if before is not None:
        first, n_frames, t_s = before.frame, before.n_frames + 1, before.t_s
    last = first + n_frames - 1
    message = f"analysis was behind and skipped frames {first} to {last} ({n_frames})"
    return Event("shed", t_s, first, n_frames, message)


def shape_event(frame: Frame, shape: tuple[int, int]) -> Event:
    """Say that `frame` is not `shape` and uint16 like those before, and that the stream ends."""
    found = f"{frame.adu.shape} {frame.adu.dtype}"
    message = f"frame {frame.index} is {found}, those before {shape} uint16; the stream ends here"
    return Event("shape", frame.t_s, frame.index, 0, message)
