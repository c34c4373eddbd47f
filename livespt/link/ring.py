"""The last frames and their tracks, kept in one block and lent out as banks and sheets."""

from __future__ import annotations

import numpy as np

from livespt.link.bank import F8, I8, Bank, Sheet, Size
from livespt.link.room_kernels import n_all, parts_of, past_of


class Ring:
    """Slots for the tracks after each of the last frames, and for these frames' spots.

    Parameters
    ----------
    n_slots : int
        Frames that are kept.
    n_modes : int
    n_most : int
        Tracks, and spots, that there is room for.
    n_edges : int
        Possible links of a frame that there is room for.

    Attributes
    ----------
    numbers, wholes : arrays
        All of it, in two blocks (`livespt.link.room_kernels`).
    size : Size
    past : Past
        Cut from the blocks, as all that follows.
    banks, sheets : lists of Bank and Sheet
        One a slot.
    edges, search, parts, beside
        Scratch of the newest frame.
    """

    def __init__(self, n_slots: int, n_modes: int, n_most: int = 64, n_edges: int = 512) -> None:
        self.size = Size(n_slots, n_modes, n_most, n_edges)
        n_numbers, n_wholes = n_all(self.size)
        self.numbers: F8 = np.zeros(n_numbers)
        self.wholes: I8 = np.zeros(n_wholes, np.int64)
        self.past = past_of(self.numbers, self.wholes, self.size)
        self.past.number[:] = -1
        self.banks: list[Bank] = []
        self.sheets: list[Sheet] = []
        for slot in range(n_slots):
            bank, sheet, self.edges, self.search, self.parts, self.beside = parts_of(
                self.numbers, self.wholes, self.size, slot
            )
            self.banks.append(bank)
            self.sheets.append(sheet)
        self.search.distance[:] = np.inf

    def turn(self, slot: int) -> int:
        """Return the slot after `slot`, with the same tracks in it."""
        if self.size.n_slots == 1:
            return slot
        after, n = (slot + 1) % self.size.n_slots, self.past.n[slot, 0]
        old, new = self.banks[slot], self.banks[after]
        new.track_id[:n] = old.track_id[:n]
        new.modes[:n] = old.modes[:n]
        new.life[:n] = old.life[:n]
        self.past.n[after, 0] = n
        return after

    def grown(self, n_most: int, n_edges: int) -> Ring:
        """Return a larger ring that holds the same."""
        larger = Ring(self.size.n_slots, self.size.n_modes, n_most, n_edges)
        for s in range(self.size.n_slots):
            for olds, news in ((self.banks, larger.banks), (self.sheets, larger.sheets)):
                for old, new in zip(olds[s], news[s], strict=True):
                    new[: len(old)] = old
        larger.past.n[:] = self.past.n
        larger.past.when[:] = self.past.when
        return larger
