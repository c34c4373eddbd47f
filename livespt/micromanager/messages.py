"""What a script and its ride-along's process say to each other.

To the process go an `Open` and then lines: an empty one says that an image lies in the lane, any
other is an order. From it come reports. `Open` and reports are a length of four bytes and a msgpack
body; arrays in them are their dtype, shape and bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, BinaryIO, NamedTuple, TypeAlias

import msgspec
import numpy as np

from livespt.core import CameraFacts
from livespt.micromanager.lane import LaneSpec
from livespt.results import RunResult
from livespt.sections import Config
from livespt.types import Estimates

#: The tags of an image that are read (`livespt.sources.ridealong`); the rest stays behind.
TAGS = (
    "Axes", "Camera", "ElapsedTime-ms", "Exposure", "Height", "ImageNumber",
    "TimeReceivedByCore", "Width",
)  # fmt: skip
_PREFIX = struct.Struct("<I")


class Note(NamedTuple):
    """What goes beside an image's pixels.

    Attributes
    ----------
    tags : dict
    shape : tuple of int
    dtype : str
    arrived_s : float
        `time.perf_counter`, which all processes of a computer share.
    n_skipped : int
        Images before it that found no slot.
    """

    tags: dict[str, Any]
    shape: tuple[int, ...]
    dtype: str
    arrived_s: float
    n_skipped: int


class Open(msgspec.Struct, frozen=True):
    """First word to the process: what to analyse, and how."""

    config: Config
    origin: str
    lane: LaneSpec
    facts: CameraFacts
    interval_s: float
    per: tuple[str, ...]
    options: dict[str, Any]
    notes: tuple[str, ...]


class Message(msgspec.Struct, frozen=True, tag_field="type"):
    """Base of what comes from the process."""


class Ready(Message, frozen=True, tag="ready"):
    """Everything is compiled; images may come."""


class Refused(Message, frozen=True, tag="refused"):
    """It cannot be done: the error's class and its one line."""

    kind: str
    why: str


class Run(Message, frozen=True, tag="run"):
    """How one run stands. `counters` are those of `livespt.pipeline.Counters`, in its order."""

    name: str
    folder: str
    running: bool
    counters: tuple[int, int, int, int, int, int, int, float]
    estimates: bytes


class Ride(Message, frozen=True, tag="ride"):
    """What all runs together did not take: images shed, images of other places."""

    n_shed: int
    n_passed: int


class Finished(Message, frozen=True, tag="finished"):
    """A run has ended with an answer, or with an error."""

    name: str
    result: RunResult | None
    why: str


class Ended(Message, frozen=True, tag="ended"):
    """All runs have ended, and no other will begin."""

    why: str


Report: TypeAlias = Ready | Refused | Run | Ride | Finished | Ended


def _plain(value: Any) -> Any:
    """Turn what numpy brings into what can be sent."""
    if isinstance(value, np.ndarray):
        kind = value.dtype.descr if value.dtype.names else value.dtype.str
        return [kind, value.shape, value.tobytes()]
    if isinstance(value, np.generic):
        return value.item()
    return str(value)  # what an axis or a tag may be besides


def _array(kind: Any, value: Any) -> Any:
    if not isinstance(value, list):
        return value
    descr, shape, data = value
    if not isinstance(descr, str):
        descr = [tuple(tuple(x) if isinstance(x, list) else x for x in one) for one in descr]
    return np.frombuffer(data, np.dtype(descr)).reshape(shape)


_note = msgspec.json.Encoder(enc_hook=_plain)
_read_note = msgspec.json.Decoder(Note)
_packed = msgspec.msgpack.Encoder(enc_hook=_plain)
_read_open = msgspec.msgpack.Decoder(Open)
_read_report = msgspec.msgpack.Decoder(Report, dec_hook=_array)
_read_estimates = msgspec.msgpack.Decoder(Estimates, dec_hook=_array)


def note_of(image: Any, tags: Mapping[str, Any], arrived_s: float, n_skipped: int) -> bytes:
    """Return the note of an image."""
    kept = {name: tags[name] for name in TAGS if name in tags}
    return _note.encode(Note(kept, image.shape, image.dtype.str, arrived_s, n_skipped))


def read_note(data: bytes) -> Note:
    """Return what `note_of` made."""
    return _read_note.decode(data)


def pack_estimates(estimates: Estimates | None) -> bytes:
    """Return the estimates as bytes, none for None."""
    return b"" if estimates is None else _packed.encode(estimates)


def unpack_estimates(data: bytes) -> Estimates | None:
    """Return what `pack_estimates` made."""
    return _read_estimates.decode(data) if data else None


def pack(message: Open | Report) -> bytes:
    """Return a message with its length before it."""
    body = _packed.encode(message)
    return _PREFIX.pack(len(body)) + body


def read_open(stream: BinaryIO) -> Open | None:
    """Return the first message to the process; None where there is none."""
    body = _read_body(stream)
    return None if body is None else _read_open.decode(body)


def read_report(stream: BinaryIO) -> Report | None:
    """Return the next message from the process; None at the end, also in the midst of one."""
    body = _read_body(stream)
    return None if body is None else _read_report.decode(body)


def _read_body(stream: BinaryIO) -> bytes | None:
    prefix = stream.read(_PREFIX.size)
    if len(prefix) < _PREFIX.size:
        return None
    (size,) = _PREFIX.unpack(prefix)
    body = stream.read(size)
    return body if len(body) == size else None
