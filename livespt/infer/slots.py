"""A slot of the bank for each live track."""

from __future__ import annotations

import numpy as np

from livespt.infer.arrays import Ints
from livespt.infer.slotkernels import FREE, NONE, TWICE, drop, find, put


class Slots:
    """Gives each name a slot and takes it back; freed slots are given out again, the last first.

    Parameters
    ----------
    capacity : int
        Slots to begin with, a power of two.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._free = list(range(capacity - 1, -1, -1))
        self._stamp = np.zeros(1 + capacity, np.int64)
        self._names, self._slots = np.full((2, 2 * capacity), FREE)

    @property
    def known(self) -> tuple[Ints, Ints, Ints]:
        """Names, their slots, and the stamp, as `slotkernels.find` takes them."""
        return self._names, self._slots, self._stamp

    def find(self, names: Ints) -> tuple[Ints, int]:
        """Return the slot of each name, `NONE` where it has none yet, and how many have none.

        In place of that number `TWICE`, where a name comes twice.
        """
        slots = np.empty(names.size, np.int64)
        missing = find(self._names, self._slots, names, self._stamp, slots)
        return slots, self.checked(names, slots, missing)

    @staticmethod
    def checked(names: Ints, slots: Ints, missing: int) -> int:
        """Return how many names have no slot, as `find` counted them, or `TWICE`."""
        if missing > 1 and np.unique(names[slots == NONE]).size < missing:
            return TWICE
        return missing

    @property
    def n_free(self) -> int:
        """Slots left."""
        return len(self._free)

    def give(self, names: Ints, slots: Ints) -> None:
        """Write a slot for each name that has none; there must be enough left."""
        for i in np.flatnonzero(slots == NONE).tolist():
            slots[i] = self._free.pop()
            put(self._names, self._slots, names[i], slots[i])

    def grow(self) -> None:
        """Double the number of slots."""
        n, known = self.capacity, self.items()
        self.capacity = 2 * n
        self._stamp = np.concatenate([self._stamp, np.zeros(n, np.int64)])
        self._names, self._slots = np.full((2, 4 * n), FREE)
        for name, slot in known.items():
            put(self._names, self._slots, name, slot)
        self._free = [*range(2 * n - 1, n - 1, -1), *self._free]

    def free(self, ended: Ints) -> Ints:
        """Take back the slots of tracks that have ended; return them."""
        out = np.empty(ended.size, np.int64)
        out = out[: drop(self._names, self._slots, ended, out)]
        self._free.extend(out[::-1].tolist())
        return out

    def items(self) -> dict[int, int]:
        """Return name -> slot."""
        taken = self._names != FREE
        return dict(zip(self._names[taken].tolist(), self._slots[taken].tolist(), strict=True))
