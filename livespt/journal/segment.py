"""One file of the journal: Arrow IPC messages, each able to tell whether it is whole.

    segment = schema message, record batch, record batch, ..., end of stream

It is a plain Arrow IPC stream, which any Arrow library reads. What makes it safe is a *seal*, a
line of fixed width in the custom metadata of every message::

    crc32=1a2b3c4d;bytes=000000012345;rows=000000000042;number=000000000007

`bytes` is the length of the whole message, so that a reader needs to trust nothing else to find
its end; `crc32` is over all those bytes with its own eight digits set to 0; `number` counts the
messages of a stream over all its segments, so that a batch gone missing shows. A message is
good if and only if its seal holds, and a segment is good up to its first bad message.
"""

from __future__ import annotations

import io
import os
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from livespt.journal.columns import batch_of, schema_of

END = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_START = struct.Struct("<Ii")  # continuation marker, length of the metadata
_MARKER = 0xFFFFFFFF
_KEY = "livespt"
_SEAL = re.compile(rb"crc32=([0-9a-f]{8});bytes=(\d{12});rows=(\d{12});number=(\d{12})")
_BLANK = "crc32=00000000;bytes=000000000000;rows={:012d};number={:012d}"
#: Longest metadata that is believed; a damaged length field must not ask for gigabytes.
_MAX_METADATA = 1 << 20


class Message(NamedTuple):
    """One good message, as found in a file."""

    start: int
    length: int
    rows: int
    number: int


class Scan(NamedTuple):
    """What a segment holds.

    Attributes
    ----------
    schema : pa.Schema or None
        None where not even the schema is whole.
    batches : list of Message
    good_bytes : int
        Length up to the end of the last good message (and the end mark, if `closed`).
    torn_bytes : int
        What follows and cannot be read.
    torn_rows : int
        Rows that the torn part says it holds, as far as it can be understood.
    closed : bool
        Whether the segment ends with its end mark and nothing after it.
    """

    schema: pa.Schema | None
    batches: list[Message]
    good_bytes: int
    torn_bytes: int
    torn_rows: int
    closed: bool

    @property
    def rows(self) -> int:
        """Rows that can be read."""
        return sum(batch.rows for batch in self.batches)


class Encoder:
    """Turns rows of one dtype into sealed messages.

    Parameters
    ----------
    dtype : np.dtype
    about : dict of str
        What the schema message says of itself (stream, version, ...).
    """

    def __init__(self, dtype: np.dtype, about: dict[str, str]) -> None:
        self.dtype = dtype
        self._about = about
        self._schema = schema_of(dtype)
        self._sink = io.BytesIO()
        self._writer = pa.ipc.new_stream(self._sink, self._schema)
        self._writer.write_batch(batch_of(np.empty(0, dtype), self._schema))  # brings the schema

    def header(self, number: int) -> bytearray:
        """Return the schema message that opens a segment."""
        about = {**self._about, _KEY: _BLANK.format(0, number)}
        return _seal(bytearray(self._schema.with_metadata(about).serialize()))

    def batch(self, table: NDArray[np.void], number: int) -> bytearray:
        """Return the message that holds `table`."""
        self._sink.seek(0)
        self._sink.truncate()
        seal = {_KEY: _BLANK.format(len(table), number)}
        self._writer.write_batch(batch_of(table, self._schema), custom_metadata=seal)
        return _seal(bytearray(self._sink.getbuffer()))


def _seal(message: bytearray) -> bytearray:
    seal = _SEAL.search(message)
    if seal is None:
        raise AssertionError("a message was made without its seal")
    crc, size = seal.start(1), seal.start(2)
    message[size : size + 12] = b"%012d" % len(message)
    message[crc : crc + 8] = b"%08x" % zlib.crc32(message)
    return message


def scan(file: BinaryIO) -> Scan:
    """Walk a segment from the file's position and stop at the first message that is not whole."""
    first, data = next_message(file)
    if first is None:
        return _scan_of(file, None, [], 0)
    batches: list[Message] = []
    message, _ = next_message(file, first)
    while message is not None:
        batches.append(message)
        message, _ = next_message(file, message)
    last = batches[-1] if batches else first
    return _scan_of(file, _schema(data), batches, last.start + last.length)


def scan_file(path: Path) -> Scan:
    """Walk the segment in `path`."""
    with path.open("rb") as file:
        return scan(file)


def read_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """Yield the good batches of a segment, one after the other, one of them in memory."""
    with path.open("rb") as file:
        before, data = next_message(file)
        if before is None:
            return
        schema = _schema(data)
        message, data = next_message(file, before)
        while message is not None:
            yield pa.ipc.read_record_batch(pa.ipc.read_message(pa.py_buffer(data)), schema)
            message, data = next_message(file, message)


def next_message(file: BinaryIO, before: Message | None = None) -> tuple[Message | None, bytes]:
    """Return the message at the file's position if its seal holds and it follows `before`."""
    start = file.tell()
    head, seal = _find_seal(file)
    if seal is None:
        return None, b""
    length, number, at = int(seal[2]), int(seal[4]), seal.start(1)
    if not len(head) <= length <= os.fstat(file.fileno()).st_size - start:
        return None, b""  # looked at before it is read: a damaged length may ask for terabytes
    data = head + file.read(length - len(head))
    crc = zlib.crc32(data[at + 8 :], zlib.crc32(b"00000000", zlib.crc32(data[:at])))
    if len(data) != length or crc != int(seal[1], 16):
        return None, b""
    if before is not None and number != before.number + 1:
        return None, b""
    return Message(start, len(data), int(seal[3]), number), data


def _find_seal(file: BinaryIO) -> tuple[bytes, re.Match[bytes] | None]:
    """Read a message's metadata; return it and the seal in it, whether or not it holds."""
    head = file.read(_START.size)
    if len(head) < _START.size:
        return head, None
    marker, size = _START.unpack(head)
    if marker != _MARKER or not 0 < size <= _MAX_METADATA:
        return head, None
    head += file.read(size)
    return head, _SEAL.search(head)


def _schema(data: bytes) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(data))


def _scan_of(
    file: BinaryIO, schema: pa.Schema | None, batches: list[Message], good_bytes: int
) -> Scan:
    size = file.seek(0, io.SEEK_END)
    file.seek(good_bytes)
    if schema is not None and file.read(len(END) + 1) == END:
        return Scan(schema, batches, size, 0, 0, True)
    torn_rows = _torn_rows(file, good_bytes, size)
    return Scan(schema, batches, good_bytes, size - good_bytes, torn_rows, False)


def _torn_rows(file: BinaryIO, start: int, size: int) -> int:
    """Count the rows that torn data says it holds: its own message's and those of later ones."""
    rows = 0
    while start < size:
        file.seek(start)
        _, seal = _find_seal(file)
        if seal is None:
            break
        rows += int(seal[3])
        start += max(int(seal[2]), 1)
    return rows
