"""One stream on disk: rows in, sealed messages out, over as many segments as it takes.

What was encoded stays in memory until the disk has taken all of it. A write that fails part-way
(a full disk) is undone by cutting the file back to its last good length, so that a segment holds
whole messages only, and is tried again later.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from livespt.journal.folder import VERSION
from livespt.journal.segment import END, Encoder

_OPEN = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


class Appender:
    """Append rows of one dtype to ``<folder>/<name>-0000.arrows`` and on.

    Attributes
    ----------
    n_rows, n_bytes : int
        What the disk has taken.
    waiting_bytes : int
        Encoded and not yet taken.
    retired : list of int
        Handles of finished segments, still to be synced and closed.
    """

    def __init__(self, folder: Path, name: str, dtype: np.dtype, rotate_bytes: float) -> None:
        self.name = name
        self.dtype = dtype
        self.n_rows = self.n_bytes = self.waiting_bytes = 0
        self.handle: int | None = None
        self.retired: list[int] = []
        self._folder = folder
        self._rotate_bytes = rotate_bytes
        about = {"stream": name, "format": "livespt-journal", "version": str(VERSION)}
        self._encoder = Encoder(dtype, about)
        self._waiting: deque[tuple[int, bytes | bytearray, int]] = deque()  # segment, data, rows
        self._count = 0
        self._segment = -1  # being encoded
        self._planned_bytes = 0  # length of that segment once all is written
        self._on_disk = -1  # segment of `handle`
        self._good_bytes = 0  # its length up to the last whole message
        self._torn = False  # there may be part of a message after that

    def encode(self, table: NDArray[np.void]) -> None:
        """Seal `table` into one message that waits for the disk."""
        data = bytearray()
        if self._segment < 0 or self._planned_bytes > self._rotate_bytes:
            self.end_segment()
            self._segment += 1
            self._planned_bytes = 0
            data = self._encoder.header(self._take_count())
        batch = self._encoder.batch(table, self._take_count())
        self._wait(data + batch if data else batch, len(table))

    def end_segment(self) -> None:
        """Let the current segment, if any, end with its end mark."""
        if self._segment >= 0:
            self._wait(END, 0)

    def drain(self) -> None:
        """Write what waits, one call per message.

        Raises
        ------
        OSError
            The disk did not take it; what was not taken still waits.
        """
        while self._waiting:
            segment, data, rows = self._waiting[0]
            self._turn_to(segment)
            self._write(data)
            self._waiting.popleft()
            self.waiting_bytes -= len(data)
            self.n_bytes += len(data)
            self.n_rows += rows

    def close(self) -> None:
        """Close all handles; what still waits is lost."""
        for handle in [*self.retired, self.handle]:
            if handle is not None:
                os.close(handle)
        self.retired, self.handle = [], None

    def _take_count(self) -> int:
        self._count += 1
        return self._count - 1

    def _wait(self, data: bytes | bytearray, rows: int) -> None:
        self._waiting.append((self._segment, data, rows))
        self.waiting_bytes += len(data)
        self._planned_bytes += len(data)

    def _turn_to(self, segment: int) -> None:
        if segment == self._on_disk:
            return
        path = self._folder / f"{self.name}-{segment:04d}.arrows"
        handle = os.open(path, _OPEN, 0o666)
        if self.handle is not None:
            self.retired.append(self.handle)
        self.handle, self._on_disk = handle, segment
        self._good_bytes, self._torn = 0, False

    def _write(self, data: bytes | bytearray) -> None:
        assert self.handle is not None
        if self._torn:
            self._cut_back(self.handle)
        self._torn = True
        try:
            _write_all(self.handle, data)
        except OSError:
            with contextlib.suppress(OSError):  # else the next attempt begins with it
                self._cut_back(self.handle)
            raise
        self._torn = False
        self._good_bytes += len(data)

    def _cut_back(self, handle: int) -> None:
        os.ftruncate(handle, self._good_bytes)
        os.lseek(handle, self._good_bytes, os.SEEK_SET)
        self._torn = False


def _write_all(handle: int, data: bytes | bytearray) -> None:
    """Write in one call; the rest in more only where the system took a part."""
    written = os.write(handle, data)
    while written < len(data):
        written += os.write(handle, memoryview(data)[written:])
