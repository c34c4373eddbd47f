"""What was done to the light, and why: written before it is done.

`control.jsonl` holds one JSON object a line, each with a running number and the CRC32 of what
stands before it. A line is one write call, and on the disk before the device is told, so that after
any crash the log may name a write that was not made, and never lacks one that was. A torn last line
is expected and passed over; any other bad line is reported.
"""

from __future__ import annotations

import datetime
import os
import re
import zlib
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec

LOG_FILE = "control.jsonl"
_OPEN = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
_LINE = re.compile(rb'(\{.*),"crc32":"([0-9a-f]{8})"\}')
_ENCODER = msgspec.json.Encoder()


class Log(Protocol):
    """Where the guard says what it is about to do."""

    def note(self, kind: str, t_s: float, *, sync: bool = True, **about: Any) -> None:
        """Write one line; with `sync` it is on the disk when this returns.

        Raises
        ------
        OSError
            It could not be written.
        """
        ...

    def sync(self) -> None:
        """Put on the disk what was written."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


class NoLog:
    """Where there is no run folder: a simulated laser may do without."""

    def note(self, kind: str, t_s: float, *, sync: bool = True, **about: Any) -> None:
        """Forget it."""

    def sync(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class FileLog:
    """Append to ``<folder>/control.jsonl``.

    Raises
    ------
    OSError
        The file cannot be opened.
    """

    def __init__(self, folder: Path) -> None:
        self._fd = os.open(folder / LOG_FILE, _OPEN, 0o666)
        self._n = 0
        self._end_torn_line()

    def _end_torn_line(self) -> None:
        size = os.lseek(self._fd, 0, os.SEEK_END)
        if size:
            os.lseek(self._fd, size - 1, os.SEEK_SET)
            if os.read(self._fd, 1) != b"\n":
                os.write(self._fd, b"\n")

    def note(self, kind: str, t_s: float, *, sync: bool = True, **about: Any) -> None:
        """Write one line; with `sync` it is on the disk when this returns."""
        utc = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        entry = {"n": self._n, "utc": utc, "t_s": round(t_s, 6), "kind": kind, **about}
        line = seal(entry)
        if os.write(self._fd, line) != len(line):
            raise OSError("the disk took a part of a line")
        self._n += 1
        if sync:
            os.fsync(self._fd)

    def sync(self) -> None:
        """Put on the disk what was written."""
        os.fsync(self._fd)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)


class LogRead(NamedTuple):
    """A log as it was found.

    Attributes
    ----------
    entries : list of dict
        The good lines, in order.
    torn : bool
        Whether the last line was cut off.
    problems : list of str
        Bad lines elsewhere, and numbers that are missing.
    """

    entries: list[dict[str, Any]]
    torn: bool
    problems: list[str]


def seal(entry: dict[str, Any]) -> bytes:
    """Return one line of the log."""
    body = _ENCODER.encode(entry)[:-1]
    return body + b',"crc32":"%08x"}\n' % zlib.crc32(body)


def read_log(path: Path) -> LogRead:
    """Read a log, also one whose writer was killed.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    *lines, rest = path.read_bytes().split(b"\n")
    entries, problems = [], []
    for number, line in enumerate(lines, 1):
        entry = _unseal(line)
        if entry is None:
            problems.append(f"{path}: line {number}: cut off or changed")
        else:
            entries.append(entry)
    return LogRead(entries, bool(rest), problems)


def _unseal(line: bytes) -> dict[str, Any] | None:
    found = _LINE.fullmatch(line)
    if found is None or zlib.crc32(found[1]) != int(found[2], 16):
        return None
    try:
        entry = msgspec.json.decode(found[1] + b"}")
    except msgspec.DecodeError:
        return None
    return entry if isinstance(entry, dict) else None
