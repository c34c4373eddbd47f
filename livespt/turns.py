"""How long one thread may hold the interpreter while others want it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

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
