"""What travels: one versioned family of messages.

A message is two ZeroMQ frames: the topic (``b"livespt.estimate"`` and so on, for subscriptions)
and a msgpack body made by msgspec. Each body carries `v` (schema version), `seq` (one running
number over all topics of a publisher), `nth` (the same within its topic, so that a hole is a lost
message even for who subscribes to some topics only) and `run` (the run's name).

Images travel on a socket of their own with a short queue, so that a slow onlooker costs memory
for two images and never an estimate; `SnapshotMessage.image_address` says where.

Tables travel as raw little-endian bytes beside their dtype, so that a reader needs numpy alone.
Within a version, fields are only ever added, with defaults.
"""

from __future__ import annotations

import functools
from typing import Annotated, ClassVar

import msgspec
import numpy as np

from livespt.types import LivesptError

VERSION = 1

#: Longest command that a publisher reads.
MAX_COMMAND_BYTES = 64 * 1024


class WireError(LivesptError):
    """An address cannot be used, or what came over it cannot be understood."""


class Table(msgspec.Struct, frozen=True):
    """An array on its way: dtype description (JSON text), shape and bytes."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes

    @classmethod
    def of(cls, array: np.ndarray) -> Table:
        """Pack `array` (plain or structured)."""
        array = np.ascontiguousarray(array)
        return cls(_described(array.dtype), array.shape, array.tobytes())

    def array(self) -> np.ndarray:
        """Unpack; read-only."""
        descr = msgspec.json.decode(self.dtype)
        if isinstance(descr, list):
            descr = [
                tuple(tuple(p) if isinstance(p, list) else p for p in field) for field in descr
            ]
        return np.frombuffer(self.data, dtype=np.dtype(descr)).reshape(self.shape)


@functools.lru_cache(maxsize=64)
def _described(dtype: np.dtype) -> str:
    return msgspec.json.encode(dtype.descr if dtype.names else dtype.str).decode()


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """What every message carries."""

    topic: ClassVar[str] = "livespt"
    v: int = VERSION
    seq: int = 0
    nth: int = 0
    run: str = ""


class HelloMessage(Message, frozen=True, tag="hello"):
    """The run as it began: sent first, and part of every snapshot."""

    topic: ClassVar[str] = "livespt.hello"
    livespt: str  # version of the program
    config_toml: str
    source: str
    shape: tuple[int, int]
    interval_s: float
    exposure_s: float
    pixel_um: float
    n_states: int
    folder: str = ""  # the run folder, "" without a journal


class ModelMessage(msgspec.Struct, frozen=True, kw_only=True):
    """`livespt.types.Model` in plain lists (states ordered by D)."""

    D_um2_s: list[float]
    D_95: list[tuple[float, float]]
    occupancy: list[float]
    occupancy_95: list[tuple[float, float]]
    p_switch: list[list[float]]
    p_switch_95: list[list[tuple[float, float]]]
    rate_per_s: list[list[float]]
    error_scale: float
    error_scale_95: tuple[float, float]
    occupancy_lag: list[list[float]]
    lags: list[int]
    interval_s: float
    n_steps: int
    n_tracks: int
    status: str


class EstimateMessage(Message, frozen=True, tag="estimate"):
    """The answer after one frame; of each, unless `wire.estimate_every_s` says otherwise."""

    topic: ClassVar[str] = "livespt.estimate"
    frame: int
    t_s: float
    model: ModelMessage
    tracks: Table  # track_dtype(K)
    n_spots: int  # accepted fits in the frame
    median_sd_um: float  # localization precision, 0 where there is no spot
    median_photons: float
    median_bg_photons: float
    sbr: float  # median of photons / (background under the spot, 4 pi sigma^2 b)
    latency_ms: float  # frame received -> this message
    n_guided: int = 0  # of these fits, those found because a track predicted them
    revised: Table | None = None  # REVISION_DTYPE: spots of earlier frames, tracks anew
    n_frames: int = 1  # this frame and those before it whose estimates were not sent


class StatusMessage(Message, frozen=True, tag="status"):
    """Counters and rates, about twice a second and at the end."""

    topic: ClassVar[str] = "livespt.status"
    state: str  # compiling | running | stalled | finishing | done | failed
    t_s: float
    frames_in: int
    frames_processed: int
    frames_shed: int
    frames_missing: int
    spots: int
    tracks_live: int
    tracks_ended: int
    fps_in: float
    fps_out: float
    latency_ms_p50: float
    latency_ms_p99: float
    ring_used: int
    ring_size: int
    journal_bytes: int
    wire_dropped: int
    progress: float = 0.0  # 0..1 of compiling or of the final pass
    note: str = ""
    frames_saved: int = 0  # raw saving
    frames_unsaved: int = 0


class EventMessage(Message, frozen=True, tag="event"):
    """`livespt.types.Event`."""

    topic: ClassVar[str] = "livespt.event"
    kind: str
    t_s: float
    frame: int
    n_frames: int
    message: str
    name: str = ""  # what changed; before and after in the unit of `livespt.types.EVENT_NAMES`
    before: float = 0.0
    after: float = 0.0


class ImageMessage(Message, frozen=True, tag="image"):
    """A camera image for looking at (every n-th, perhaps binned), never for analysis."""

    topic: ClassVar[str] = "livespt.image"
    frame: int
    t_s: float
    binning: int
    adu: Table


class FinalMessage(Message, frozen=True, tag="final"):
    """The answer of the final pass."""

    topic: ClassVar[str] = "livespt.final"
    model: ModelMessage
    n_tracks: int
    n_spots: int
    seconds: float


class ControlMessage(Message, frozen=True, tag="control"):
    """How the control of the excitation stands, about twice a second where there is one."""

    topic: ClassVar[str] = "livespt.control"
    mode: str  # advise | auto
    state: str  # idle | armed | fault | ended
    goal: str  # precision | sbr | the name of a law
    target: float  # um, or SBR; 0: the law has none
    measured: float  # the same of the last good window, 0 before
    power: float  # as read back
    unit: str  # of all powers here
    wish: float  # what was asked for, or would be
    why: str
    writes: int
    dose: float  # unit times seconds
    dose_left: float  # infinite without a budget
    reached_s: float | None  # when the target was reached, after the first frame
    faults: list[str] = []


class SnapshotMessage(Message, frozen=True, tag="snapshot"):
    """For who joins late: the newest of each kind; `seq` is the number to continue from."""

    topic: ClassVar[str] = "livespt.snapshot"
    hello: HelloMessage | None = None
    estimate: EstimateMessage | None = None
    status: StatusMessage | None = None
    image: ImageMessage | None = None
    final: FinalMessage | None = None
    control: ControlMessage | None = None
    events: list[EventMessage] = []
    image_address: str = ""


AnyMessage = (
    HelloMessage
    | EstimateMessage
    | StatusMessage
    | EventMessage
    | ImageMessage
    | FinalMessage
    | ControlMessage
    | SnapshotMessage
)


class SnapshotCommand(msgspec.Struct, frozen=True, tag="snapshot", forbid_unknown_fields=True):
    """Ask for a `SnapshotMessage`."""


class StopCommand(msgspec.Struct, frozen=True, tag="stop", forbid_unknown_fields=True):
    """End the acquisition's analysis in good order (final pass included)."""

    reason: str = ""


class LowerCommand(msgspec.Struct, frozen=True, tag="lower", forbid_unknown_fields=True):
    """Hold the excitation to `factor` of what it is; nothing over the wire can raise it again."""

    factor: Annotated[float, msgspec.Meta(gt=0, lt=1)]


class OffCommand(msgspec.Struct, frozen=True, tag="off", forbid_unknown_fields=True):
    """Take the excitation to its safe value for the rest of the run."""

    reason: Annotated[str, msgspec.Meta(max_length=200)] = ""


AnyCommand = SnapshotCommand | StopCommand | LowerCommand | OffCommand


class CommandReply(msgspec.Struct, frozen=True):
    """Whether a command was taken, and if not, why."""

    ok: bool
    message: str = ""
    snapshot: SnapshotMessage | None = None
