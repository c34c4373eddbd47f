"""While a camera streams: whose turn it is, and no pauses of the interpreter's collector."""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

#: Longest turn of one thread while others want the interpreter.
TURN_S = 0.0005


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
