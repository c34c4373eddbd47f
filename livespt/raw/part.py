"""One part of a raw file: pages appended many at a time in one call, good at every moment.

Large pages go past the system's cache where the system can do that (Linux): a processor copies
each byte once less, and a disk takes four times as many of them (decision 46).
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

from livespt.raw.pages import BLOCK, DESCRIPTION_AT, LINK_AT, MOST_BYTES, STATE_AT, Page, PageForm

#: Pages in one call at most: what every system takes.
MOST_PAGES = 512


class Part:
    """A file that grows by whole pages.

    Parameters
    ----------
    path : Path
        Must not be there yet.
    form : PageForm
    head : bytes
        What stands before the first page.
    described : (int, int)
        Length and place of the first page's description in `head`; 0 if there is none.

    Raises
    ------
    OSError
        The file cannot be made.
    """

    def __init__(
        self, path: Path, form: PageForm, head: bytes, described: tuple[int, int] = (0, 0)
    ) -> None:
        self.path, self.n_pages = path, 0
        self._form, self._described = form, described
        self._first = self.end = len(head)
        # bytes that are written anew with a page's link: no less than a disk takes at a time
        self._link_bytes = BLOCK if form.is_aligned else LINK_AT + 4
        self._last = mmap.mmap(-1, BLOCK)  # those of the newest page
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        self._handle = os.open(path, flags, 0o666)
        n, error = _write(self._handle, [memoryview(head)])
        if error is not None or n < len(head):
            self.discard()
            raise error or OSError(errno.ENOSPC, f"{n} bytes written of {len(head)}")
        self._direct = form.is_aligned and _set_direct(self._handle, on=True)

    def append(self, pages: Sequence[Page]) -> tuple[int, OSError | None]:
        """Write pages behind those that are there; what stands before their pixels is filled in.

        Returns
        -------
        int
            Pages now in the file, of those given.
        OSError or None
            Why they are not all there; the file ends with the last whole one.
        """
        n_bytes = self._form.n_bytes
        for i, page in enumerate(pages):
            at = self.end + i * n_bytes
            link = at + n_bytes if i + 1 < len(pages) else 0
            described = (0, 0) if self.n_pages + i else self._described
            self._form.fill(page, at, link, described)
        written, error = self._put_all(self.end, [page.block for page in pages])
        n_whole = written // n_bytes
        before, self.end = self.end, self.end + n_whole * n_bytes
        if n_whole < len(pages):
            with contextlib.suppress(OSError):
                os.ftruncate(self._handle, self.end)
        if n_whole:
            if n_whole < len(pages):
                self._link(pages[n_whole - 1].block, self.end - n_bytes, 0)
            if self.n_pages:  # last of all: what it leads to is there
                self._link(memoryview(self._last), before - n_bytes, before)
            n = self._link_bytes
            self._last[:n] = pages[n_whole - 1].block[:n]
        self.n_pages += n_whole
        return n_whole, error

    def describe(self, text: bytes) -> bool:
        """Give the first page a description, behind the last page; False where it has no room."""
        if not self.n_pages or self.end + len(text) > MOST_BYTES:
            return False
        self._go_through_cache()
        written, _ = self._put_all(self.end, [memoryview(text)])
        if written < len(text):
            os.ftruncate(self._handle, self.end)
            return False
        self._put(self._first + DESCRIPTION_AT, len(text), self.end)
        return True

    def finish(self) -> None:
        """Say that no page will follow."""
        self._go_through_cache()
        self._put(STATE_AT, 1)

    def close(self) -> None:
        """Let go of the file."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def discard(self) -> None:
        """Remove the file."""
        self.close()
        with contextlib.suppress(OSError):
            self.path.unlink()

    def _link(self, block: memoryview, at: int, link: int) -> None:
        """Set the link of the page at `at`, whose first bytes `block` holds."""
        struct.pack_into("<I", block, LINK_AT, link)
        self._put_all(at, [block[: self._link_bytes]])

    def _put(self, at: int, *numbers: int) -> None:
        self._put_all(at, [memoryview(struct.pack(f"<{len(numbers)}I", *numbers))])

    def _put_all(self, at: int, pieces: list[memoryview]) -> tuple[int, OSError | None]:
        os.lseek(self._handle, at, os.SEEK_SET)
        done, error = _write(self._handle, pieces)
        if not (self._direct and error is not None and error.errno == errno.EINVAL):
            return done, error
        self._go_through_cache()  # a file system that knows no other way
        os.lseek(self._handle, at, os.SEEK_SET)
        return _write(self._handle, pieces)

    def _go_through_cache(self) -> None:
        if self._direct:
            self._direct = not _set_direct(self._handle, on=False)


def _set_direct(handle: int, *, on: bool) -> bool:
    """Have a file written past the system's cache, or through it; tell whether that was done."""
    if sys.platform != "linux":
        return False
    import fcntl

    try:
        flags = fcntl.fcntl(handle, fcntl.F_GETFL)
        flags = flags | os.O_DIRECT if on else flags & ~os.O_DIRECT
        fcntl.fcntl(handle, fcntl.F_SETFL, flags)
    except OSError:
        return False
    return True


def _write(handle: int, pieces: Sequence[memoryview]) -> tuple[int, OSError | None]:
    """Write all of `pieces`; return how many bytes were taken, and what stopped it."""
    left, done = list(pieces), 0
    while left:
        try:
            n = _write_some(handle, left)
        except OSError as error:
            return done, error
        done += n
        while left and n >= len(left[0]):
            n -= len(left.pop(0))
        if left and n:
            left[0] = left[0][n:]
    return done, None


def _write_some(handle: int, pieces: list[memoryview]) -> int:
    """Write as much as one call takes; other threads run meanwhile."""
    if sys.platform == "win32":
        return os.write(handle, pieces[0])
    return os.writev(handle, pieces)
