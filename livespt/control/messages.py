"""What analysis and guard say to each other: typed, of bounded size, over a pair of pipes.

A message is its length, four bytes, and a msgpack body that names its type. msgpack, because a NaN
must arrive as one. What cannot be understood ends the conversation: a side that speaks nonsense is
not to be trusted with the next word.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from livespt.control.errors import ControlError
from livespt.control.limits import Limits
from livespt.control.status import GuardStatus
from livespt.sections import ActuatorConfig, TightenConfig

#: Longest body; a calibration of a thousand settings takes a third of it.
MAX_BYTES = 64 * 1024
#: Longest reason that is passed on.
MAX_WHY = 400
_PREFIX = 4


class Message(msgspec.Struct, frozen=True, tag_field="type"):
    """Base of all messages."""


class Open(Message, frozen=True, tag="open"):
    """First word to the guard: what to control, how narrowly, and where to log."""

    actuator: ActuatorConfig
    tighten: TightenConfig
    folder: str = ""


class Arm(Message, frozen=True, tag="arm"):
    """Begin to obey `Ask`; clears what faults there were."""


class Ask(Message, frozen=True, tag="ask"):
    """Wish for a power."""

    power: float
    why: str = ""


class Beat(Message, frozen=True, tag="beat"):
    """Analysis lives; its newest good data came at `newest_s` (`time.monotonic`)."""

    newest_s: float


class Disarm(Message, frozen=True, tag="disarm"):
    """Go to safe power, and obey no more."""


class Close(Message, frozen=True, tag="close"):
    """Go to safe power, and end."""


class Opened(Message, frozen=True, tag="opened"):
    """The device answers; these limits are in force."""

    limits: Limits
    real: bool


class Done(Message, frozen=True, tag="done"):
    """It was done; or refused, and this is `why`."""

    why: str = ""


class Status(Message, frozen=True, tag="status"):
    """How things stand."""

    now: GuardStatus


ToGuard: TypeAlias = Open | Arm | Ask | Beat | Disarm | Close
FromGuard: TypeAlias = Opened | Done | Status

_ENCODER = msgspec.msgpack.Encoder()


def encode(message: Message) -> bytes:
    """Return the bytes of a message, its length first.

    Raises
    ------
    ControlError
        It is longer than `MAX_BYTES`.
    """
    body = _ENCODER.encode(message)
    if len(body) > MAX_BYTES:
        raise ControlError(
            f"message '{type(message).__name__.lower()}': {len(body)} bytes; at most {MAX_BYTES}"
        )
    return len(body).to_bytes(_PREFIX, "big") + body


class Decoder:
    """Bytes in, as they come; whole messages out.

    Parameters
    ----------
    kind : type
        `ToGuard` or `FromGuard`.
    """

    def __init__(self, kind: Any) -> None:
        self._decoder = msgspec.msgpack.Decoder(kind)
        self._bytes = bytearray()

    def feed(self, data: bytes) -> list[Any]:
        """Take more bytes; return the messages that are now whole.

        Raises
        ------
        ControlError
            They are no message, or one that is too long. What follows cannot be read either.
        """
        self._bytes += data
        found = []
        while (body := self._next()) is not None:
            try:
                found.append(self._decoder.decode(body))
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                raise ControlError(f"message of {len(body)} bytes: {error}") from None
        return found

    def _next(self) -> bytes | None:
        """Take one whole body off the front."""
        size = int.from_bytes(self._bytes[:_PREFIX], "big")
        if size > MAX_BYTES:
            raise ControlError(f"message of {size} bytes; at most {MAX_BYTES}")
        end = _PREFIX + size
        if len(self._bytes) < max(end, _PREFIX):
            return None
        body = bytes(self._bytes[_PREFIX:end])
        del self._bytes[:end]
        return body
