"""A pair of pipes on which neither side can make the other wait.

One thread reads, one writes. Of what only the newest matters (a beat, a wish, a status) at most one
waits, so that a peer that has stopped reading costs one message of memory and no time.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from livespt.control.errors import ControlError
from livespt.control.messages import Decoder, Message, encode

_CHUNK = 64 * 1024


class Channel:
    """Messages in and out over two file descriptors.

    Parameters
    ----------
    read_fd, write_fd : int
    kind : type
        Union of the messages that may come in.
    heard : callable
        Gets each message, on the reading thread.
    ended : callable
        Gets one line that says why nothing more will come; called once, on the reading thread.
    """

    def __init__(
        self,
        read_fd: int,
        write_fd: int,
        kind: Any,
        heard: Callable[[Any], None],
        ended: Callable[[str], None],
    ) -> None:
        self._read_fd, self._write_fd = read_fd, write_fd
        if sys.platform == "win32":  # else it would turn line ends round
            import msvcrt

            for fd in (read_fd, write_fd):
                msvcrt.setmode(fd, os.O_BINARY)
        self._decoder = Decoder(kind)
        self._heard, self._ended = heard, ended
        self._waiting: dict[Any, Message] = {}
        self._n_sent = 0
        self._closing = False
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read, name="guard-read", daemon=True)
        self._writer = threading.Thread(target=self._write, name="guard-write", daemon=True)
        self._reader.start()
        self._writer.start()

    def send(self, message: Message, *, newest: bool = False) -> None:
        """Let a message go out; with `newest` it takes the place of one that still waits."""
        with self._more:
            self._n_sent += 1
            key = type(message) if newest else self._n_sent
            self._waiting[key] = message  # in the place of the older one: no answer overtakes it
            self._more.notify()

    def close(self, timeout_s: float = 1.0) -> None:
        """Send what waits, then hang up; the peer sees the end of its input."""
        with self._more:
            self._closing = True
            self._more.notify()
        self._writer.join(timeout_s)

    def join(self, timeout_s: float) -> bool:
        """Wait until the peer has hung up; return whether it has."""
        self._reader.join(timeout_s)
        return not self._reader.is_alive()

    def _read(self) -> None:
        why = "its pipe was closed"
        try:
            while data := os.read(self._read_fd, _CHUNK):
                for message in self._decoder.feed(data):
                    self._heard(message)
        except (ControlError, OSError) as error:
            why = str(error)
        self._ended(why)
        os.close(self._read_fd)

    def _write(self) -> None:
        try:
            while (message := self._take()) is not None:
                _write_all(self._write_fd, encode(message))
        except OSError:
            pass  # the peer is gone, as the reading thread finds out as well
        finally:
            os.close(self._write_fd)

    def _take(self) -> Message | None:
        """Wait for a message; None when closing and all are out."""
        with self._more:
            while not self._waiting and not self._closing:
                self._more.wait()
            if not self._waiting:
                return None
            return self._waiting.pop(next(iter(self._waiting)))


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
