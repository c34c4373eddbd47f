"""A curve against time that never outgrows its buffer.

Rows go in at any rate and for any time. When the buffer is full, neighbouring rows merge in pairs
and each later row stands for twice as many: after n appends the buffer holds between capacity/2
and capacity rows, evenly spread over the whole run, and an append costs O(1) on average.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray


class History:
    """Rows of `width` values against time in at most `capacity` + 1 rows.

    Parameters
    ----------
    width : int
        Values per row.
    capacity : int
        Rows kept; made even, at least 2.
    reduce : {"last", "mean"}
        What a merged row shows: the newest of its rows (for an estimate, which already holds
        all data before it) or their mean (for a figure of single frames).
    """

    def __init__(
        self, width: int, capacity: int = 1024, *, reduce: Literal["last", "mean"] = "last"
    ) -> None:
        self.capacity = max(2, capacity + capacity % 2)
        self.width = width
        self.stride = 1  # appends per row
        self.reduce = reduce
        self._rows = np.zeros((self.capacity, width + 1))
        self._n = 0
        self._open = np.zeros(width + 1)  # the row being gathered
        self._n_open = 0

    def __len__(self) -> int:
        """Return the number of rows, the unfinished last one included."""
        return self._n + (self._n_open > 0)

    def append(self, t_s: float, values: ArrayLike) -> None:
        """Add one row; rows that are not finite are left out."""
        row = np.concatenate(([t_s], np.ravel(values)))
        if not np.isfinite(row).all():
            return
        self._gather(row)
        if self._n_open == self.stride:
            self._close_row()

    def rows(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return times (n,) and values (n, width), copies, oldest first."""
        rows = self._rows[: self._n]
        if self._n_open:
            rows = np.vstack((rows, self._open))
        return rows[:, 0].copy(), rows[:, 1:].copy()

    def _gather(self, row: NDArray[np.float64]) -> None:
        self._n_open += 1
        if self.reduce == "last":
            self._open = row
        else:
            self._open = self._open + (row - self._open) / self._n_open

    def _close_row(self) -> None:
        self._rows[self._n] = self._open
        self._n += 1
        self._n_open = 0
        if self._n == self.capacity:
            self._halve()

    def _halve(self) -> None:
        odd = self._rows[1::2]
        merged = odd if self.reduce == "last" else (self._rows[::2] + odd) / 2
        self._n = self.capacity // 2
        self._rows[: self._n] = merged.copy()
        self.stride *= 2
