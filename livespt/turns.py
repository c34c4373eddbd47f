"""While a camera streams: whose turn it is, and no pauses of the interpreter's collector."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

#: Longest turn of one thread while others want the interpreter.
TURN_S = 0.0005
#: Shorter pauses cost more than they give.
LEAST_REST_S = 0.001


@contextmanager
def short_turns() -> Iterator[None]:
    """Let threads take the interpreter in turns of half a millisecond while a camera streams.

    Python's own 5 ms are as long as a frame: a thread that draws the screen would hold all up.
    """
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(TURN_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before_s)


@contextmanager
def no_pauses() -> Iterator[None]:
    """Take all that was made before the stream out of the garbage collector's sight.

    It looks through everything now and then, and compilers leave it half a million objects: a pause
    of 80 ms, eight frames of a fast camera.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def stand_back(by: int) -> None:
    """Lower this thread's priority, and that of the threads that it will start.

    Linux alone gives threads priorities of their own and hands them on to their children.

    Parameters
    ----------
    by : int
        Niceness, 1 to 19: 10 leaves a thread a tenth of what its rival gets, 19 a seventieth.
    """
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), by)


class Pauses:
    """Keeps a thread's work down to a share of the time, until somebody waits for it.

    A low priority alone does not: the thread then has its processor for milliseconds at once. And a
    very low one keeps it waiting while it holds the interpreter.

    Parameters
    ----------
    share : float
        Of the time, 0 to 1, that may be worked.
    """

    def __init__(self, share: float) -> None:
        self._rest = 1.0 / share - 1.0
        self._wanted = threading.Event()
        self._rested_for_s = 0.0

    def __call__(self) -> None:
        """Rest for what has been worked, once that is worth it; the thread itself calls this."""
        worked_s = time.thread_time()
        rest_s = self._rest * (worked_s - self._rested_for_s)
        if rest_s >= LEAST_REST_S:
            self._rested_for_s = worked_s
            self._wanted.wait(rest_s)

    def end(self) -> None:
        """Let the thread work without pauses from now on; any thread may call."""
        self._wanted.set()
