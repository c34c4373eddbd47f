"""Frames on their way to the disk: a bounded queue and a thread that empties it.

Whoever hands a frame over never waits for a disk (unless it wants to). Where the queue is full,
or the disk has refused, the frame is not saved; each one is counted, and an event "unsaved" says
so in line with the frames, at once and then once a second.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from livespt.raw.pages import Page, RawError
from livespt.raw.part import MOST_PAGES
from livespt.raw.writer import RawWriter
from livespt.types import Event, Frame

#: How long the thread rests between two looks: at 1,000 frames/s it wakes for ten at a time.
_REST_S = 0.01
#: Bytes in one write call at most, where frames are not larger: their places are soon free again.
_BATCH_BYTES = 32_000_000
#: Time between two events about frames that are not saved.
_TELL_S = 1.0
#: How long the end waits for what is still to be written.
DRAIN_S = 60.0
_NO_PIXELS = np.empty((0, 0), np.uint16)
_SLOW = "the disk is slower than the camera"


class Standing(NamedTuple):
    """How saving goes: frames in the files, frames that are not, bytes, and what is wrong."""

    n_saved: int
    n_unsaved: int
    n_bytes: int
    trouble: str


#: Before the first frame, and where nothing is saved.
NOTHING_SAVED = Standing(0, 0, 0, "")


class _Loss(NamedTuple):
    """Frames that nobody has been told of yet: the first, its time, how many."""

    frame: int
    t_s: float
    n: int


class Saver:
    """Saves frames beside the analysis.

    Parameters
    ----------
    writer : RawWriter
    n_frames : int
        Frames that may wait.
    waits : bool
        Let `take` wait for room instead of leaving a frame out.

    Raises
    ------
    RawError
        No memory for the frames that may wait.
    """

    def __init__(self, writer: RawWriter, n_frames: int, *, waits: bool = False) -> None:
        self.writer, self._waits = writer, waits
        try:
            self._blocks = writer.form.blocks(n_frames)
        except (MemoryError, OSError, ValueError, OverflowError):
            raise RawError(f"raw.buffer_mb: no memory for {n_frames} frames") from None
        self._pixels = [writer.form.pixels(block) for block in self._blocks]
        self._free: deque[int] = deque(range(n_frames))
        self._queue: deque[tuple[int, Frame]] = deque()
        self._lock = threading.Lock()
        self._loss: _Loss | None = None
        self._told_s = -_TELL_S
        self._n_unsaved = 0
        self._trouble = ""
        self._most = max(1, min(MOST_PAGES, _BATCH_BYTES // writer.form.n_bytes))
        self._ending = threading.Event()
        self._started = False
        self._thread = threading.Thread(target=self._work, name="livespt-raw", daemon=True)

    @property
    def standing(self) -> Standing:
        """How it goes; any thread may ask."""
        writer = self.writer
        return Standing(writer.n_frames, self._n_unsaved, writer.n_bytes, self._trouble)

    def take(self, frame: Frame) -> list[Event]:
        """Take a copy of one frame, from one thread; return what is to be told behind it."""
        if not self._started:
            self._started = True
            self._thread.start()
        place = self._place() if self._fits(frame) else None
        if place is None:
            self._lose(frame, 1)
        else:
            np.copyto(self._pixels[place], frame.adu)
            self._queue.append((place, frame._replace(adu=_NO_PIXELS)))
        return self._tell(time.perf_counter()) if self._loss is not None else []

    def end(self) -> list[Event]:
        """Write what waits, end the files, and return what is still to be told."""
        if self._ending.is_set():
            return []
        self._ending.set()
        if self._started:
            self._thread.join(DRAIN_S)
        if self._thread.is_alive():
            self._trouble = f"the disk did not take the last frames within {DRAIN_S:g} s"
            while batch := self._batch():
                self._lose(batch[0][1], len(batch))
        return self._tell(float("inf"))

    # --- the hand-over ---------------------------------------------------------------------------

    def _fits(self, frame: Frame) -> bool:
        alike = frame.adu.shape == self.writer.form.shape and frame.adu.dtype == np.uint16
        return alike and not self._trouble and not self._ending.is_set()

    def _place(self) -> int | None:
        while True:
            try:
                return self._free.pop()  # the one used last: memory is touched only when needed
            except IndexError:
                if not self._waits or self._trouble or self._ending.is_set():
                    return None
            time.sleep(1e-3)

    def _lose(self, first: Frame, n: int) -> None:
        with self._lock:
            self._n_unsaved += n
            before = self._loss
            if before is None:
                self._loss = _Loss(first.index, first.t_s, n)
            else:
                self._loss = before._replace(n=before.n + n)

    def _tell(self, now_s: float) -> list[Event]:
        if now_s - self._told_s < _TELL_S:
            return []
        with self._lock:
            loss, self._loss = self._loss, None
        if loss is None:
            return []
        self._told_s = now_s
        many = f"{loss.n} frames from {loss.frame} on are" if loss.n > 1 else f"{loss.frame} is"
        why = f"{'' if loss.n > 1 else 'frame '}{many} not saved: {self._trouble or _SLOW}"
        return [Event("unsaved", loss.t_s, loss.frame, loss.n, why)]

    # --- the thread ------------------------------------------------------------------------------

    def _work(self) -> None:
        over = False
        while not over:
            over = self._ending.is_set()  # before the queue: then nothing comes after this look
            while batch := self._batch():
                self._write(batch)
            if not over:
                self._ending.wait(_REST_S)
        try:
            self.writer.finish()
        except Exception as error:  # noqa: BLE001 (the frames are there all the same)
            self._trouble = self._trouble or _reason(error)

    def _batch(self) -> list[tuple[int, Frame]]:
        batch: list[tuple[int, Frame]] = []
        with suppress(IndexError):  # nothing waits
            while len(batch) < self._most:
                batch.append(self._queue.popleft())
        return batch

    def _write(self, batch: list[tuple[int, Frame]]) -> None:
        pages = [Page(frame, self._blocks[place]) for place, frame in batch]
        n_before = self.writer.n_frames
        if not self._trouble:
            try:
                self.writer.write(pages)
            except Exception as error:  # noqa: BLE001 (told; whatever it is, analysis goes on)
                self._trouble = f"{_reason(error)}; saving has ended, analysis goes on"
        rest = pages[self.writer.n_frames - n_before :]
        if rest:
            self._lose(rest[0].frame, len(rest))
        self._free.extend(place for place, _ in batch)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
