"""Second thoughts: identities of the last frames, revised while more is seen (SCIENCE 7)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from livespt.link import revise_kernels
from livespt.link.bank import F8, I8, Motion, new_edges, new_parts, new_search, new_tails
from livespt.link.ring import Ring
from livespt.types import REVISION_DTYPE

#: Most frames that `link.lag` may ask for.
MOST = 3


class Lag:
    """Judge each frame's links anew in each of the next `n_frames`; and the room this takes.

    The youngest links are judged first, so that the tails that decide on an older one hold few
    mistakes of their own.

    Parameters
    ----------
    n_frames : int
        0 to `MOST`; 0: never.
    n_modes : int
    """

    def __init__(self, n_frames: int, n_modes: int) -> None:
        self.n_frames = n_frames
        self._seen = 0
        self._tails = new_tails(64, MOST + 1)
        self._edges, self._search = new_edges(64, 512), new_search(64)
        self._parts = new_parts(64, 512)
        self._start_of: I8 = np.zeros(0, np.int64)
        self._modes: F8 = np.zeros((2, n_modes, 6))
        self._life: F8 = np.zeros((2, 3))
        self._scratch: F8 = np.zeros((n_modes, 6))
        self._reach: F8 = np.zeros((n_modes, 2))

    def reconsider(
        self, ring: Ring, slot: int, motion: Motion, first_id: int, next_id: int, track_id: I8,
        p_link: F8,
    ) -> tuple[int, NDArray[np.void], I8]:  # fmt: skip
        """Judge the links of the last frames anew, now that the frame of `slot` was seen.

        Parameters
        ----------
        first_id, next_id : int
            The first number of this frame's new tracks, and the next to be given.
        track_id, p_link : (n,) arrays
            What is to be told of this frame; changed where another choice was made.

        Returns
        -------
        next_id : int
        revised : (r,) `REVISION_DTYPE`
        ended : (m,) int64
        """
        self._seen += 1
        told: list[NDArray[np.void]] = [np.empty(0, REVISION_DTYPE)]
        ended: list[I8] = [np.empty(0, np.int64)]
        for lag in range(1, min(self.n_frames, self._seen - 2) + 1):
            slots: I8 = (slot - np.arange(lag + 1, -1, -1)) % ring.size.n_slots
            next_id, revised, gone = self._judge(
                ring, slots, motion, first_id, next_id, track_id, p_link
            )
            told.append(revised)
            ended.append(gone)
        return next_id, np.concatenate(told), np.concatenate(ended)

    def _judge(
        self, ring: Ring, slots: I8, motion: Motion, first_id: int, next_id: int, track_id: I8,
        p_link: F8,
    ) -> tuple[int, NDArray[np.void], I8]:  # fmt: skip
        """Judge the links into the frame of ``slots[1]``; ``slots[0]`` are the heads'."""
        past = ring.past
        base = int(past.n[slots[0], 3])
        n_tails = int(past.n[slots[0], 0]) + next_id - base
        self._make_room(ring, n_tails)
        n_spots = int(past.n[slots[1:], 1].sum())
        told: I8 = np.empty((n_spots, 3), np.int64)
        told_p, ended = np.empty(n_spots), np.empty(2 * n_tails + ring.size.n_most, np.int64)
        while True:
            n_edges, next_id, n_revised, n_ended = revise_kernels.reconsider(
                past, slots, motion, base, first_id, next_id, self._tails, self._start_of,
                self._edges, self._search, self._parts, self._modes, self._life, self._scratch,
                self._reach, told, told_p, ended, track_id, p_link,
            )  # fmt: skip
            if n_edges <= len(self._edges.spot):
                break
            self._edges = new_edges(len(self._edges.start) - 1, 2 * n_edges)
            self._parts = new_parts(len(self._parts.done), 2 * n_edges)
        revised = np.empty(n_revised, REVISION_DTYPE)
        for name, column in zip(("frame", "row", "track_id"), told[:n_revised].T, strict=True):
            revised[name] = column
        revised["p_link"] = told_p[:n_revised]
        return next_id, revised, ended[:n_ended]

    def _make_room(self, ring: Ring, n_tails: int) -> None:
        """Enlarge what is too small for so many tails."""
        if len(self._start_of) != len(ring.past.number):
            self._start_of = np.full(len(ring.past.number), -1, np.int64)
        if n_tails > len(self._tails.first):
            self._tails = new_tails(2 * n_tails, MOST + 1)
            self._search = new_search(2 * n_tails)
            self._edges = new_edges(2 * n_tails, len(self._edges.spot))
            self._parts = new_parts(2 * n_tails, len(self._edges.spot))
