"""The standard pipes of a process that another one of ours has started."""

from __future__ import annotations

import os
import sys


def own_pipes() -> tuple[int, int]:
    """Keep standard input and output for messages; what a driver prints goes to standard error.

    Returns
    -------
    (int, int)
        File descriptors to read from and to write to, as they are: no line ends are changed.
    """
    read_fd, write_fd = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    if sys.platform == "win32":
        import msvcrt

        for fd in (read_fd, write_fd):
            msvcrt.setmode(fd, os.O_BINARY)
    return read_fd, write_fd
