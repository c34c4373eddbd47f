"""The recent paths of all tracks, kept by frame, not by track.

Whole tables of the last frames lie in a queue bounded in time and in rows; only when something
is to be drawn are they sorted into tracks. A frame costs the same however many tracks live, and
a track that ends needs no bookkeeping.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Positions(NamedTuple):
    """Tracks seen in one frame: (n,) arrays; `state` is the most probable motion state."""

    frame: int
    t_s: float
    track_id: NDArray[np.int64]
    x_um: NDArray[np.float64]
    y_um: NDArray[np.float64]
    state: NDArray[np.intp]


class Segments(NamedTuple):
    """Pieces of tails: from (x[:, 0], y[:, 0]) to (x[:, 1], y[:, 1]), (n, 2) arrays.

    `age` runs from 0 (now) to 1 (about to be forgotten).
    """

    x_um: NDArray[np.float64]
    y_um: NDArray[np.float64]
    state: NDArray[np.intp]
    age: NDArray[np.float64]


def positions_of(frame: int, t_s: float, table: NDArray[np.void]) -> Positions:
    """Read what is drawn from a table of `livespt.types.track_dtype`; bad rows are left out."""
    good = np.isfinite(table["x_um"]) & np.isfinite(table["y_um"])
    table = table[good]
    state = np.argmax(table["p_state"], axis=1) if len(table) else np.zeros(0, np.intp)
    return Positions(frame, t_s, table["track_id"], table["x_um"], table["y_um"], state)


class Tails:
    """The last `span_s` seconds of every track, in at most `max_rows` positions."""

    def __init__(self, span_s: float = 1.0, max_rows: int = 30_000, max_frames: int = 512) -> None:
        self.span_s = span_s
        self.max_rows = max_rows
        self.max_frames = max_frames
        self.n_rows = 0  # positions held
        self._frames: deque[Positions] = deque()

    def push(self, positions: Positions) -> None:
        """Add a frame and forget what is too old or too much."""
        self._frames.append(positions)
        self.n_rows += len(positions.x_um)
        while len(self._frames) > 1 and self._is_stale():
            self.n_rows -= len(self._frames.popleft().x_um)

    def at(self, frame: int) -> Positions | None:
        """Return the positions of `frame`, or of the newest frame before it that is held."""
        for positions in reversed(self._frames):
            if positions.frame <= frame:
                return positions
        return None

    def newest(self) -> Positions | None:
        """Return the newest frame held."""
        return self._frames[-1] if self._frames else None

    def segments(self, end: Positions) -> Segments:
        """Return the tails as they stood at the frame `end`."""
        held = [p for p in self._frames if p.frame <= end.frame and end.t_s - p.t_s <= self.span_s]
        if len(held) < 2:
            return Segments(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0, np.intp), np.zeros(0))
        t_s = np.concatenate([np.full(len(p.x_um), p.t_s) for p in held])
        track = np.concatenate([p.track_id for p in held])
        x, y = (np.concatenate([getattr(p, name) for p in held]) for name in ("x_um", "y_um"))
        state = np.concatenate([p.state for p in held])
        order = np.lexsort((t_s, track))
        here, there = order[:-1], order[1:]
        same = track[here] == track[there]
        here, there = here[same], there[same]
        age = np.clip((end.t_s - t_s[there]) / self.span_s, 0.0, 1.0)
        return Segments(
            np.column_stack((x[here], x[there])),
            np.column_stack((y[here], y[there])),
            state[there],
            age,
        )

    def _is_stale(self) -> bool:
        too_old = self._frames[-1].t_s - self._frames[0].t_s > 2.0 * self.span_s
        return too_old or self.n_rows > self.max_rows or len(self._frames) > self.max_frames
