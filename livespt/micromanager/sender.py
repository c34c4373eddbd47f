"""What leaves the acquisition's process: images through the lane, orders through a pipe."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from livespt.core import one_line
from livespt.micromanager import messages
from livespt.micromanager.lane import Lane
from livespt.sources.axes import of_mda
from livespt.sources.base import SourceError


class Sender:
    """Puts images into the lane, and orders into the process's input; never waits, never raises.

    No more empty lines wait there than the lane has slots, so that a process that has stopped
    reading does not stop the acquisition.

    Parameters
    ----------
    lane : Lane
    pipe : file
        The process's standard input, without a buffer.

    Attributes
    ----------
    n_skipped : int
        Images that found no slot.
    """

    def __init__(self, lane: Lane, pipe: Any) -> None:
        self._lane, self._pipe = lane, pipe
        self._lock = threading.Lock()
        self._n_skipped = 0  # since the last image that was put
        self._failed = False
        self.n_skipped = 0

    def take(self, image: NDArray, tags: Mapping[str, Any]) -> None:
        """Put a copy of an image into the lane, or skip it where no slot is free."""
        if self._failed:
            return
        try:
            with self._lock:
                self._put(image, tags)
        except OSError:
            self._failed = True  # the process has ended, as whoever reads its reports learns
        except Exception as error:  # noqa: BLE001 (the user's acquisition must not suffer)
            self.fail(SourceError(f"ride-along: {one_line(error)}"))

    def frame_ready(self, image: NDArray, event: Any, metadata: Mapping[str, Any]) -> None:
        """Put an image from pymmcore-plus' signal into the lane."""
        try:
            tags = of_mda(event, metadata)
        except Exception as error:  # noqa: BLE001 (the user's acquisition must not suffer)
            return self.fail(SourceError(f"ride-along: frameReady: {one_line(error)}"))
        return self.take(image, tags)

    def fail(self, error: SourceError) -> None:
        """End the stream with an error; the acquisition goes on."""
        if not self._failed:
            self._failed = True
            self.order("fail", one_line(error))

    def end(self) -> None:
        """Say that the acquisition is over, and how many images at its end found no slot."""
        with self._lock:
            self.order("end", str(self._n_skipped))
            self._n_skipped = 0

    def order(self, word: str, text: str = "") -> None:
        """Send an order; to a process that has ended none goes."""
        with contextlib.suppress(OSError, ValueError):
            self._write(f"{word} {text}".strip().encode() + b"\n")

    def open(self, opening: messages.Open) -> None:
        """Send the first message."""
        with contextlib.suppress(OSError):  # ended at once: whoever reads its answer learns it
            self._write(messages.pack(opening))

    def _put(self, image: NDArray, tags: Mapping[str, Any]) -> None:
        note = messages.note_of(image, tags, time.perf_counter(), self._n_skipped)
        if self._lane.put(image, note):
            self._n_skipped = 0
            self._write(b"\n")
        else:
            self._n_skipped += 1
            self.n_skipped += 1

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._pipe.write(view) :]
