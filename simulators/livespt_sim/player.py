"""A camera for pymmcore-plus' `UniMMCore` that plays frames from memory on a clock of its own.

Imported only where pymmcore-plus is there (`livespt_sim.core`).
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from pymmcore_plus.experimental.unicore import CameraDevice

from livespt_sim.source import there_and_back

#: A buffer is filled so many times the last filling's duration before the frame is due.
LEAD = 2.0


class Player(CameraDevice):
    """Frames from memory, there and back, one each `interval_s` as long as the sequence runs.

    The clock starts with the first sequence and goes on between sequences, as the specimen does:
    after a pause the next frame is the one that is due.

    Parameters
    ----------
    shape : (int, int)
    interval_s, exposure_s : float

    Attributes
    ----------
    frames : list of (height, width) uint16
        To be set before the first sequence starts.
    late_s : float
        How long after it was due the last frame was ready.
    """

    def __init__(self, shape: tuple[int, int], interval_s: float, exposure_s: float) -> None:
        super().__init__()
        self.frames: list[NDArray[np.uint16]] = []
        self._shape, self._interval_s, self._exposure_ms = shape, interval_s, 1e3 * exposure_s
        self._origin_s: float | None = None
        self.late_s = 0.0

    def get_exposure(self) -> float:
        """Return the exposure in ms."""
        return self._exposure_ms

    def set_exposure(self, exposure: float) -> None:
        """Take no exposure but the one that the frames were made with."""
        if not math.isclose(exposure, self._exposure_ms, rel_tol=1e-6):
            raise ValueError(
                f"exposure {exposure:g} ms: the frames were made with {self._exposure_ms:g} ms"
            )

    def shape(self) -> tuple[int, int]:
        """Return height and width."""
        return self._shape

    def dtype(self) -> DTypeLike:
        """Return uint16."""
        return np.uint16

    def start_sequence(
        self, n: int | None, get_buffer: Callable[[Sequence[int], DTypeLike], NDArray[Any]]
    ) -> Iterator[Mapping[str, Any]]:
        """Fill buffers on the clock; a frame is given to the core when it is due, never before.

        A buffer is asked for late, when the image before has most likely been taken: the core's
        buffer then begins anew. Else it would go round, through memory that no cache holds; and it
        does not go round while an image waits, unless images fill it to the last byte.
        """
        first, lead_s = self._due(), self._interval_s / 2
        for index in itertools.count(first) if n is None else range(first, first + n):
            self._wait(index, lead_s)
            began_s = time.perf_counter()
            image = self.frames[there_and_back(index, len(self.frames))]
            np.copyto(get_buffer(self._shape, np.uint16), image)
            lead_s = min(LEAD * (time.perf_counter() - began_s), self._interval_s / 2)
            self._wait(index)
            yield {}

    def _due(self) -> int:
        """Return the number of the next frame on the clock; the first call starts it."""
        now_s = time.perf_counter()
        if self._origin_s is None:
            self._origin_s = now_s + self._interval_s  # the first takes its time as all do
        return max(0, math.ceil((now_s - self._origin_s) / self._interval_s))

    def _wait(self, index: int, lead_s: float = 0.0) -> None:
        """Sleep until a frame is due, or `lead_s` before that."""
        assert self._origin_s is not None
        left_s = self._origin_s + index * self._interval_s - lead_s - time.perf_counter()
        if left_s > 0:
            time.sleep(left_s)
        if not lead_s:
            self.late_s = max(0.0, -left_s)
