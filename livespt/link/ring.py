"""The last frames and their tracks, kept in one block and lent out as banks and sheets."""

from __future__ import annotations

import numpy as np

from livespt.link.bank import F8, I8, Bank, Elapsed, Past, Sheet


class Ring:
    """Slots for the tracks after each of the last frames, and for these frames' spots.

    Parameters
    ----------
    n_slots : int
        Frames that are kept.
    n_modes : int
    n_most : int
        Tracks, and spots, that there is room for.

    Attributes
    ----------
    past : Past
    banks, sheets : lists of Bank and Sheet
        Views of `past`, one a slot.
    """

    def __init__(self, n_slots: int, n_modes: int, n_most: int = 64) -> None:
        self.n_slots, self.n_most = n_slots, n_most
        n = n_slots * n_most
        self.past = Past(
            track_id=np.zeros(n, np.int64),
            modes=np.zeros((n + 2, n_modes, 6))[:n],  # some kernels read a little beyond
            life=np.zeros((n, 3)),
            spots=np.zeros((n + 1, 6))[:n],
            number=np.full(n, -1, np.int64),
            row=np.zeros(n, np.int64),
            cell=np.zeros(n + n_slots, np.int64),
            p_link=np.zeros(n),
            sheet=np.zeros((n_slots, 11)),
            n=np.zeros((n_slots, 4), np.int64),
            when=np.zeros((n_slots, 4)),
        )
        before: F8 = np.zeros((n_most, n_modes))
        spot: I8 = np.zeros(n_most, np.int64)
        cost: F8 = np.zeros(n_most)
        owner: I8 = np.zeros(n_most, np.int64)
        p: F8 = np.zeros(n_most)
        self.banks: list[Bank] = []
        self.sheets: list[Sheet] = []
        for s in range(n_slots):
            at = slice(s * n_most, (s + 1) * n_most)
            cell = self.past.cell[s * (n_most + 1) : (s + 1) * (n_most + 1)]
            past = self.past
            self.banks.append(
                Bank(past.track_id[at], past.modes[at], before, past.life[at], spot, cost)
            )
            self.sheets.append(
                Sheet(
                    spots=past.spots[at],
                    row=past.row[at],
                    start=cell,
                    owner=owner,
                    p=p,
                    number=past.number[at],
                    p_link=past.p_link[at],
                    frame=past.sheet[s],
                )
            )

    def turn(self, slot: int) -> int:
        """Return the slot after `slot`, with the same tracks in it."""
        if self.n_slots == 1:
            return slot
        after, n = (slot + 1) % self.n_slots, self.past.n[slot, 0]
        old, new = self.banks[slot], self.banks[after]
        new.track_id[:n] = old.track_id[:n]
        new.modes[:n] = old.modes[:n]
        new.life[:n] = old.life[:n]
        return after

    def note(self, slot: int, n: tuple[int, int, int, int], elapsed: Elapsed) -> None:
        """Write down a frame's counts (see `Past.n`) and what passed before it."""
        self.past.n[slot] = n
        self.past.when[slot] = elapsed

    def grown(self, n_most: int) -> Ring:
        """Return a larger ring that holds the same."""
        larger = Ring(self.n_slots, self.past.modes.shape[1], n_most)
        for s in range(self.n_slots):
            for olds, news in ((self.banks, larger.banks), (self.sheets, larger.sheets)):
                for old, new in zip(olds[s], news[s], strict=True):
                    new[: len(old)] = old
        larger.past.n[:] = self.past.n
        larger.past.when[:] = self.past.when
        return larger
