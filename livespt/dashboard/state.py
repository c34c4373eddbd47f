"""What a face knows of a run: plain state built from messages, without any toolkit.

`LiveState.update` takes every message of the wire in any order and never raises on a sound one.
Memory is bounded for runs of any length. A message of another run, or a publisher that counts
from the start again, empties the state.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import NamedTuple

import numpy as np

from livespt.dashboard.history import History
from livespt.dashboard.tails import Tails, positions_of
from livespt.wire.schema import (
    AnyMessage,
    ControlMessage,
    EstimateMessage,
    EventMessage,
    FinalMessage,
    HelloMessage,
    ImageMessage,
    Message,
    ModelMessage,
    SnapshotMessage,
    StatusMessage,
)

N_EVENTS = 200
TAIL_FRAMES = 25
MIN_TAIL_S = 0.3
ANSWER_COLUMNS = 6  # per state: D, low, high, occupancy, low, high
WIDEST = 1e3
QUALITY_COLUMNS = ("precision_um", "sbr", "photons")


class Quality(NamedTuple):
    """Figures of the images, smoothed over recent frames (0 where nothing was seen yet)."""

    precision_um: float = 0.0
    photons: float = 0.0
    bg_photons: float = 0.0
    sbr: float = 0.0
    n_spots: float = 0.0


class Drop(NamedTuple):
    """One way in which frames or messages go missing, and how many did."""

    name: str
    n: int
    level: str  # good | fair | poor
    meaning: str


class LiveState:
    """The newest of each kind of message, and the past in decimated form.

    Attributes
    ----------
    run : str
        Name of the run that all else belongs to.
    hello, status, estimate, image, final : message or None
        The newest of each kind.
    events : deque of EventMessage
        The newest events, oldest first.
    answers, figures : History
        `answers` has `ANSWER_COLUMNS` columns per state; `figures` has `QUALITY_COLUMNS`.
    quality : Quality
        Smoothed figures of recent frames.
    lost : int
        Messages lost on the wire on this side; set by whoever receives.
    version : int
        Grows with each message: an unchanged version needs no redraw.
    """

    def __init__(self, capacity: int = 1024) -> None:
        self._capacity = capacity
        self.version = 0
        self.lost = 0
        self._clear("")

    def update(self, message: AnyMessage) -> None:
        """Take one message."""
        self.version += 1
        if isinstance(message, SnapshotMessage):
            self._take_snapshot(message)
            return
        if self._is_of_another_run(message):
            if isinstance(message, ImageMessage):
                return  # a straggler of the last run, or early for the next
            self._clear(message.run)
        self._take(message)

    @property
    def model(self) -> ModelMessage | None:
        """The newest live answer."""
        return self.estimate.model if self.estimate else None

    @property
    def n_states(self) -> int:
        """Number of motion states, 0 while unknown."""
        if self.model:
            return len(self.model.D_um2_s)
        if self.final:
            return len(self.final.model.D_um2_s)
        return self.hello.n_states if self.hello else 0

    @property
    def title(self) -> str:
        """The run's name, or what comes nearest to one."""
        if self.run:
            return self.run
        if self.hello is None:
            return "no run yet"
        return Path(self.hello.folder).name or "live"

    @property
    def run_state(self) -> str:
        """Return "waiting" before any status, then the state that the run reports."""
        if self.status:
            return self.status.state
        return "running" if self.estimate else "waiting"

    @property
    def elapsed_s(self) -> float:
        """Time of the newest status or estimate on the run's clock."""
        return max((m.t_s for m in (self.status, self.estimate) if m), default=0.0)

    @property
    def drops(self) -> list[Drop]:
        """Every way to lose a frame or a message, in the order of the path of a frame."""
        status = self.status
        missing = status.frames_missing if status else 0
        shed = status.frames_shed if status else 0
        wire = self.lost + (status.wire_dropped if status else 0)
        drops = [
            _drop("missing", missing, "poor", "made by the camera, never received"),
            _drop("overflow", self._n_overflows, "poor", "times the camera's buffer overflowed"),
            _drop("shed", shed, "fair", "frames skipped by analysis, which was behind"),
            _drop("wire", wire, "fair", "messages lost between publisher and this view"),
        ]
        if status and status.frames_unsaved:
            why = "frames that are not in the raw files"
            drops.append(_drop("unsaved", status.frames_unsaved, "poor", why))
        return drops

    def _is_of_another_run(self, message: Message) -> bool:
        if self.run and message.run and message.run != self.run:
            return True
        if isinstance(message, HelloMessage) and self.hello is not None:
            return message != self.hello
        # Topics may overtake one another (images travel apart); one topic never runs backwards.
        return 0 < message.seq < self._last_seq.get(type(message), 0)

    def _clear(self, run: str) -> None:
        self.run = run
        self.hello: HelloMessage | None = None
        self.status: StatusMessage | None = None
        self.estimate: EstimateMessage | None = None
        self.image: ImageMessage | None = None
        self.final: FinalMessage | None = None
        self.control: ControlMessage | None = None
        self.events: deque[EventMessage] = deque(maxlen=N_EVENTS)
        self.answers = History(ANSWER_COLUMNS, self._capacity)
        self.figures = History(len(QUALITY_COLUMNS), self._capacity, reduce="mean")
        self.tails = Tails()
        self.quality = Quality()
        self._n_overflows = 0
        self._last_seq: dict[type[Message], int] = {}

    def _take_snapshot(self, snapshot: SnapshotMessage) -> None:
        if snapshot.run != self.run:
            self._clear(snapshot.run)
        s = snapshot
        parts = (s.hello, s.status, s.estimate, s.image, s.final, s.control)
        for part in filter(None, (*parts, *s.events)):
            if part.seq > self._last_seq.get(type(part), -1):  # else known already
                self._take(part)

    def _take(self, message: Message) -> None:
        self.run = message.run or self.run
        self._last_seq[type(message)] = message.seq
        if isinstance(message, EstimateMessage):
            self._take_estimate(message)
        elif isinstance(message, EventMessage):
            self._take_event(message)
        elif isinstance(message, HelloMessage):
            self.hello = message
            self.tails.span_s = max(TAIL_FRAMES * message.interval_s, MIN_TAIL_S)
        elif isinstance(message, StatusMessage):
            self.status = message
        elif isinstance(message, ImageMessage):
            self.image = message
        elif isinstance(message, FinalMessage):
            self.final = message
        elif isinstance(message, ControlMessage):
            self.control = message

    def _take_estimate(self, message: EstimateMessage) -> None:
        self.estimate = message
        row = answer_row(message.model)
        if row.size != self.answers.width:
            self.answers = History(row.size, self._capacity)
        self.answers.append(message.t_s, row)
        self.tails.push(positions_of(message.frame, message.t_s, message.tracks.array()))
        if message.n_spots > 0:
            self.figures.append(
                message.t_s, (message.median_sd_um, message.sbr, message.median_photons)
            )
            self.quality = _smoothed(self.quality, message)

    def _take_event(self, message: EventMessage) -> None:
        self.events.append(message)
        self._n_overflows += message.kind == "overflow"


def answer_row(model: ModelMessage) -> np.ndarray:
    """Lay a model out as one row of `LiveState.answers`: `ANSWER_COLUMNS` per state.

    Bounds of D that say "not known yet" (0, infinity) are drawn `WIDEST` times off the value.
    """
    D_um2_s, occupancy_95 = np.array(model.D_um2_s), np.array(model.occupancy_95)
    limits = np.column_stack((D_um2_s / WIDEST, D_um2_s * WIDEST))
    D_95 = np.clip(np.array(model.D_95), limits[:, :1], limits[:, 1:])
    return np.column_stack((D_um2_s, D_95, model.occupancy, occupancy_95)).ravel()


def _drop(name: str, count: int, level: str, meaning: str) -> Drop:
    return Drop(name, count, level if count else "good", meaning)


def _smoothed(old: Quality, message: EstimateMessage, weight: float = 0.1) -> Quality:
    new = Quality(
        message.median_sd_um,
        message.median_photons,
        message.median_bg_photons,
        message.sbr,
        float(message.n_spots),
    )
    if not np.isfinite(new).all():
        return old
    if not old.n_spots:
        return new
    return Quality(*(o + weight * (n - o) for o, n in zip(old, new, strict=True)))
