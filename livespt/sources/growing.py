"""A TIFF file that another program is still writing: each page, as soon as it is whole.

A TIFF is a chain of pages, each linked to the next. `GrowingTiff` keeps its place in the chain and
looks only at the next link, so that a page costs the same whether it is the first or the millionth.
Bytes that are not there yet are never an error, whichever they are: the page waits. livespt's own
raw files (`livespt.raw`) say in their header when they are finished.

Micro-Manager (and ndstorage, which writes the same pages) makes this harder in two ways and easier
in two. The file has its full size of up to 4 GiB from the start, so that bytes that are not there
yet read as zeros; and a link points to where the next page will be, long before it is. But each
page is written from front to back and its metadata last, so that metadata that parse tell that all
before them is there; and the last link is set to zero when the file is finished.

The file is read, never mapped into memory: Windows lets nobody cut a file that is mapped, and
cutting it to its true size is how Micro-Manager ends it.
"""

from __future__ import annotations

import io
import json
import os
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from livespt.raw import pages as raw
from livespt.sources.base import SourceError

_WIDTH, _HEIGHT, _BITS, _COMPRESSION = 256, 257, 258, 259
_STRIPS, _SAMPLES, _COUNTS, _FORMAT = 273, 277, 279, 339
_TILES, _METADATA = 324, 51123

#: Bytes 8 to 11 of a file by Micro-Manager (its OME-TIFF, and NDTiff), and of one of our own.
_MARKS = {54773648, 483729, raw.MARK}
#: The metadata of an image that Micro-Manager puts in to fill up an acquisition that was aborted.
_BLANK = b"NULL"

#: Sizes of the types of whole numbers and text; others are of no concern here.
_TYPES = {1: 1, 2: 1, 3: 2, 4: 4, 6: 1, 7: 1, 13: 4, 16: 8}
_CODES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}
#: More entries than any page has: what is there is not yet a page.
_MOST_ENTRIES = 1000
#: Read at once, enough for a usual page's entries.
_CHUNK = 512


class Page(NamedTuple):
    """A whole page.

    Attributes
    ----------
    shape : (int, int)
    dtype : dtype
        One or two bytes, of the file's byte order.
    strips : tuple of (int, int)
        Offset and length of each stretch of pixels.
    tags : dict or None
        Micro-Manager's metadata of the image; None for one that it put in to fill a gap.
    """

    shape: tuple[int, int]
    dtype: np.dtype
    strips: tuple[tuple[int, int], ...]
    tags: dict[str, Any] | None


class _Layout(NamedTuple):
    """How this TIFF writes numbers: byte order, and the sizes of the classic or the big form."""

    order: str
    head: str
    entry: str
    link: str
    inline: int

    @property
    def entry_bytes(self) -> int:
        return struct.calcsize(self.order + self.entry) + self.inline


class _Entry(NamedTuple):
    kind: int
    n_values: int
    value: bytes
    at: int


class GrowingTiff:
    """One file, opened for reading beside its writer.

    Parameters
    ----------
    path : Path

    Raises
    ------
    OSError
        It cannot be opened (yet).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("rb", buffering=0)
        self._identity = _identity(os.fstat(self._file.fileno()))
        self._layout: _Layout | None = None
        self._link_at = 0
        self._reached = 0
        self._is_raw = False
        self._text_tag = _METADATA
        self.n_pages = 0
        #: Written by Micro-Manager or by us, who say when a file is finished.
        self.marks_its_end = False
        #: No page will follow.
        self.finished = False
        #: Micro-Manager's metadata of the whole acquisition.
        self.summary: dict[str, Any] = {}

    def next_page(self) -> Page | None:
        """Return the next page; None while it is not all there.

        Raises
        ------
        SourceError
            Not a TIFF, or pages that are not plain counts of 8 or 16 bits.
        """
        if not self.n_pages and not self._read_header():  # the first page proves it whole
            return None
        link = self._number(self._link_at)
        if not link:
            self.finished = link == 0 and self.n_pages > 0 and self._says_its_end()
            return None
        found = self._page(link)
        if found is None:
            return None
        page, self._link_at = found
        self.n_pages += 1
        return page

    @property
    def leads_on(self) -> bool:
        """Whether the last page links to one more: where none is there, it was lost."""
        return self.n_pages > 0 and bool(self._number(self._link_at))

    def read(self, page: Page) -> NDArray[np.uint16]:
        """Return the pixels of a page, also after `close`.

        Raises
        ------
        SourceError
            They are no longer there.
        """
        raw = np.empty(page.shape, page.dtype)
        try:
            if self._file.closed:
                with self.path.open("rb", buffering=0) as file:
                    whole = _fill(raw, file, page)
            else:
                whole = _fill(raw, self._file, page)
        except OSError as error:
            raise SourceError(f"{self.path}: cannot be read: {error.strerror}") from None
        if not whole:
            raise SourceError(f"{self.path}: cut short while it was followed")
        return raw.astype(np.uint16, copy=False)

    def check(self) -> None:
        """Make sure that this is still the file that it was.

        Raises
        ------
        SourceError
            It was deleted, replaced or cut short.
        """
        try:
            now = self.path.stat()
        except FileNotFoundError:
            raise SourceError(f"{self.path}: deleted while it was followed") from None
        except OSError as error:
            raise SourceError(f"{self.path}: cannot be read: {error.strerror}") from None
        if _identity(now) != self._identity:
            raise SourceError(f"{self.path}: replaced while it was followed")
        if now.st_size < self._reached:
            raise SourceError(f"{self.path}: cut short while it was followed")

    def close(self) -> None:
        """Let go of the file; what was found in it is kept."""
        self._file.close()

    # --- the header ------------------------------------------------------------------------------

    def _read_header(self) -> bool:
        head = self._bytes(0, 40)
        if len(head) < 16 or not any(head[4:8]):
            return False
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        magic = struct.unpack(f"{order or '<'}H", head[2:4])[0]
        if order is None or magic not in (42, 43):
            raise SourceError(f"{self.path}: not a TIFF")
        if magic == 43:
            self._layout, self._link_at = _Layout(order, "Q", "HHQ", "Q", 8), 8
            return True
        mark = struct.unpack(f"{order}I", head[8:12])[0]
        self._is_raw = mark == raw.MARK
        self._text_tag = raw.TAG if self._is_raw else _METADATA
        if mark in _MARKS and not self._read_summary(head, order):
            return False
        self.marks_its_end = mark in _MARKS
        self._layout, self._link_at = _Layout(order, "H", "HHI", "I", 4), 4
        return True

    def _read_summary(self, head: bytes, order: str) -> bool:
        """Read what Micro-Manager says of the whole; False while it is not there."""
        for at in (16, 20, 32):  # NDTiff 2, NDTiff 3, OME-TIFF
            mark, n_bytes = struct.unpack_from(f"{order}II", head.ljust(40, b"\0"), at)
            if mark == raw.SUMMARY:
                summary = _parsed(self._bytes(at + 8, n_bytes))
                self.summary = summary or {}
                return summary is not None
        return False

    def _says_its_end(self) -> bool:
        """Tell what a link of 0 means: the end, or in a raw file perhaps only the newest page."""
        if not self._is_raw:
            return self.marks_its_end
        over = self._number(raw.STATE_AT)
        return over == 1 and self._number(self._link_at) == 0  # again: one may have come since

    # --- pages -----------------------------------------------------------------------------------

    def _page(self, where: int) -> tuple[Page, int] | None:
        entries = self._entries(where)
        if entries is None:
            return None
        found, link_at = entries
        if _TILES in found:
            raise SourceError(f"{self._name()}: in tiles; only pages in strips can be followed")
        shape = (self._one(found, _HEIGHT), self._one(found, _WIDTH))
        offsets, counts = self._many(found, _STRIPS), self._many(found, _COUNTS)
        if not all(shape) or not offsets or not counts or not all(offsets) or not all(counts):
            return None
        strips = _merged(offsets, counts)
        end = max(offset + n for offset, n in strips)
        text_at, n_bytes = self._text_place(found)
        text = self._bytes(text_at, n_bytes) if self._text_tag in found else b"{}"
        blank = text.strip(b"\0 ") == _BLANK
        tags = None if blank else _parsed(text)
        if tags is None and not blank:
            return None
        end = max(end, text_at + n_bytes)
        if os.fstat(self._file.fileno()).st_size < end:
            return None
        self._reached = max(self._reached, end)
        dtype = self._dtype(found)
        if sum(counts) != shape[0] * shape[1] * dtype.itemsize:
            raise SourceError(
                f"{self._name()}: {sum(counts)} bytes of pixels for {shape[0]} x {shape[1]} "
                f"of {dtype.itemsize} bytes"
            )
        return Page(shape, dtype, strips, tags), link_at

    def _entries(self, where: int) -> tuple[dict[int, _Entry], int] | None:
        """Return a page's entries and the place of its link; None while they are not all there."""
        layout = self._layout
        assert layout is not None
        n_head = struct.calcsize(layout.order + layout.head)
        raw = self._bytes(where, _CHUNK)
        if len(raw) < n_head:
            return None
        n = struct.unpack_from(layout.order + layout.head, raw)[0]
        link_at = n_head + n * layout.entry_bytes
        whole = link_at + struct.calcsize(layout.order + layout.link)
        if not 0 < n <= _MOST_ENTRIES:
            return None
        if whole > len(raw):
            raw = self._bytes(where, whole)
        if whole > len(raw):
            return None
        found: dict[int, _Entry] = {}
        for i in range(n):
            at = n_head + i * layout.entry_bytes
            tag, kind, count = struct.unpack_from(layout.order + layout.entry, raw, at)
            if not tag or not kind:
                return None
            value_at = at + layout.entry_bytes - layout.inline
            value = raw[value_at : value_at + layout.inline]
            n_bytes = count * _TYPES.get(kind, 0)
            if n_bytes > layout.inline:
                place = struct.unpack(layout.order + layout.link, value)[0]
            else:
                place = where + value_at
            found.setdefault(tag, _Entry(kind, count, value, place))
        return found, where + link_at

    def _text_place(self, found: dict[int, _Entry]) -> tuple[int, int]:
        """Return where an image's metadata are and their length, 0 if there are none.

        Micro-Manager gives their place even where so few bytes ought to stand in its stead.
        """
        entry = found.get(self._text_tag)
        if entry is None:
            return 0, 0
        assert self._layout is not None
        if self.marks_its_end:
            place = struct.unpack(self._layout.order + self._layout.link, entry.value)[0]
            return place, entry.n_values
        return entry.at, entry.n_values

    def _many(self, found: dict[int, _Entry], tag: int) -> list[int]:
        entry = found.get(tag)
        if entry is None or entry.kind not in _CODES:
            return []
        assert self._layout is not None
        code = f"{self._layout.order}{entry.n_values}{_CODES[entry.kind]}"
        n_bytes = struct.calcsize(code)
        inline = n_bytes <= self._layout.inline
        raw = entry.value[:n_bytes] if inline else self._bytes(entry.at, n_bytes)
        return list(struct.unpack(code, raw)) if len(raw) == n_bytes else []

    def _one(self, found: dict[int, _Entry], tag: int, default: int = 0) -> int:
        return next(iter(self._many(found, tag)), default)

    def _dtype(self, found: dict[int, _Entry]) -> np.dtype:
        """Return the type of the pixels.

        Raises
        ------
        SourceError
            They are not plain counts of 8 or 16 bits.
        """
        bits, samples = self._one(found, _BITS, 1), self._one(found, _SAMPLES, 1)
        if self._one(found, _COMPRESSION, 1) != 1:
            raise SourceError(f"{self._name()}: compressed; only plain pixels can be followed")
        if samples != 1 or bits not in (8, 16) or self._one(found, _FORMAT, 1) != 1:
            what = "floating-point or signed" if bits in (8, 16) and samples == 1 else "packed"
            what = f"{samples} components of" if samples != 1 else what
            raise SourceError(
                f"{self._name()}: {what} pixels of {bits} bits, expected unsigned counts of 8 or 16"
            )
        assert self._layout is not None
        return np.dtype(f"{self._layout.order}u{bits // 8}")

    # --- bytes -----------------------------------------------------------------------------------

    def _name(self) -> str:
        return f"{self.path}: page {self.n_pages}"

    def _number(self, at: int) -> int | None:
        """Return the link that stands at `at`; None while it is not there."""
        assert self._layout is not None
        code = self._layout.order + self._layout.link
        raw = self._bytes(at, struct.calcsize(code))
        return struct.unpack(code, raw)[0] if len(raw) == struct.calcsize(code) else None

    def _bytes(self, at: int, n_bytes: int) -> bytes:
        try:
            self._file.seek(at)
            return self._file.read(n_bytes)
        except OSError as error:  # the disk or the network behind it is gone
            raise SourceError(f"{self.path}: cannot be read: {error.strerror}") from None


def _fill(raw: NDArray, file: io.FileIO, page: Page) -> bool:
    """Read a page's pixels into `raw`; False where they are not all there."""
    view, filled = raw.data.cast("B"), 0
    for offset, n_bytes in page.strips:
        file.seek(offset)
        end = filled + n_bytes
        while filled < end:
            n = file.readinto(view[filled:end])
            if not n:
                return False
            filled += n
    return True


def _identity(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_dev, stat.st_ino


def _merged(offsets: list[int], counts: list[int]) -> tuple[tuple[int, int], ...]:
    """Return the strips, those that lie end to end as one."""
    strips: list[tuple[int, int]] = []
    for offset, n_bytes in zip(offsets, counts, strict=False):
        if strips and sum(strips[-1]) == offset:
            strips[-1] = (strips[-1][0], strips[-1][1] + n_bytes)
        else:
            strips.append((offset, n_bytes))
    return tuple(strips)


def _parsed(text: bytes) -> dict[str, Any] | None:
    """Return metadata, or None while they are not all there: no part of an object is an object."""
    try:
        found = json.loads(text.rstrip(b"\0 "))
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
