"""What light stood when: the powers that the guard has told, by time.

Filled by the thread that beats and by whoever asks; read by the thread that receives frames.
"""

from __future__ import annotations

import threading
from collections import deque

from livespt.control.status import GuardStatus

#: Changes of the power that are kept; there is about one a second.
KEPT = 4096
#: Read-backs that differ by less than this are the same light.
SAME = 1e-3


class Lit:
    """A power over time, constant between its changes.

    Parameters
    ----------
    power : float
        What stood before anything was told.
    """

    def __init__(self, power: float) -> None:
        self._changes: deque[tuple[float, float]] = deque([(float("-inf"), power)], maxlen=KEPT)
        self._lock = threading.Lock()

    def note(self, status: GuardStatus) -> None:
        """Take what the guard has said."""
        with self._lock:
            t_s, power = self._changes[-1]
            if status.t_s > t_s and abs(status.power - power) > SAME * max(power, status.power):
                self._changes.append((status.t_s, status.power))

    def mean(self, since_s: float, until_s: float) -> float:
        """Return the mean power between two times (`time.monotonic`)."""
        with self._lock:
            changes = list(self._changes) if self._changes[-1][0] > since_s else []
            power = self._changes[-1][1]
        if not changes:
            return power
        total, end_s = 0.0, until_s
        for t_s, power in reversed(changes):
            begin_s = min(max(t_s, since_s), end_s)
            total += power * (end_s - begin_s)
            end_s = begin_s
            if t_s <= since_s:
                break
        return total / max(until_s - since_s, 1e-9) if until_s > since_s else power
