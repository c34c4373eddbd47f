"""The raw file's format: a plain TIFF of up to 4 GB a part, one page for each frame.

A part begins with a header that says who wrote it and how its frames were taken (JSON), then come
the pages, all of one size, each from front to back: its entries, what belongs to the frame (JSON),
its pixels in one strip. The newest page's link to the next is 0 until the next is whole, so that
the file is a good TIFF at every moment, whenever its writer is killed.

    byte  0  "II", 42, offset of the first page
          8  `MARK`
         12  0 while it is being written, 1 when no page will follow
         16  `SUMMARY`, length of the JSON that follows, the JSON

A page's JSON (`TAG`, and ImageDescription) has `ImageNumber`, the camera's number of the frame;
`ElapsedTime-ms` and `Exposure-ms` as Micro-Manager calls them; and, exactly as livespt had them,
`t_s`, `exposure_s` and `excitation`. A page of 128 KiB and more begins at a multiple of `BLOCK`
bytes and so do its pixels, as disks like it. The description of the first page becomes OME-XML in
the end.
"""

from __future__ import annotations

import json
import mmap
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from livespt.types import Frame, LivesptError

#: Name of the first part; the second is raw_1.ome.tif.
FILE = "raw.ome.tif"
#: "LSPT" in the header, where Micro-Manager has a mark of its own.
MARK = int.from_bytes(b"LSPT", "little")
STATE_AT = 12
SUMMARY = 2355492
#: The page's JSON; a private tag, so that nobody takes the file for Micro-Manager's.
TAG = 65101
#: No place in such a file is beyond this.
MOST_BYTES = 2**32 - 1

_SHORT, _LONG, _TEXT, _RATIO = 3, 4, 2, 5
_DESCRIPTION, _STRIP, _XRES, _YRES = 270, 273, 282, 283
_N_ENTRIES = 16
_RATIO_AT = 2 + 12 * _N_ENTRIES + 4
_JSON_AT = _RATIO_AT + 8
_JSON_BYTES = 256
_HEAD_BYTES = _JSON_AT + _JSON_BYTES
#: What disks write at a time; where a page of more than `_LARGE` begins.
BLOCK = 4096
_LARGE = 1 << 17
#: Where in a page the link to the next one is, and the place and length of its description.
LINK_AT = _RATIO_AT - 4
DESCRIPTION_AT = 2 + 12 * 5 + 4


class RawError(LivesptError):
    """Raw frames cannot be saved; the message names the key or the file."""


def is_raw(path: Path) -> bool:
    """Tell whether a file is one of ours."""
    try:
        with path.open("rb") as file:
            head = file.read(STATE_AT)
    except OSError:
        return False
    return len(head) == STATE_AT and head[:2] == b"II" and head[8:] == struct.pack("<I", MARK)


class Page(NamedTuple):
    """A frame on its way to a file.

    Attributes
    ----------
    frame : Frame
        What belongs to it; its pixels are in `block`.
    block : memoryview
        All bytes of the page.
    """

    frame: Frame
    block: memoryview


def header(form: PageForm, summary: dict[str, Any], description: bytes = b"") -> tuple[bytes, int]:
    """Return the bytes before the first page, and where in them the description is (0: none)."""
    text = json.dumps(summary).encode()
    text_at = 24 + len(text)
    n_bytes = form.rounded(text_at + len(description))
    head = b"II" + struct.pack("<HIIIII", 42, n_bytes, MARK, 0, SUMMARY, len(text))
    return (head + text + description).ljust(n_bytes, b"\0"), text_at if description else 0


class PageForm:
    """The bytes of pages of one shape.

    Parameters
    ----------
    shape : (int, int)
        Height and width.
    pixel_um : float
        Pixel size in the sample; 0 if unknown.

    Raises
    ------
    RawError
        A frame is too large for a part.
    """

    def __init__(self, shape: tuple[int, int], pixel_um: float) -> None:
        self.shape = height, width = shape
        n_pixels = 2 * height * width
        #: Whether pages and their pixels begin at multiples of `BLOCK`.
        self.is_aligned = n_pixels >= _LARGE
        #: Where in a page its pixels are.
        self.pixels_at = self.rounded(_HEAD_BYTES)
        self.n_bytes = self.rounded(self.pixels_at + n_pixels)
        if self.n_bytes + (1 << 16) > MOST_BYTES:
            raise RawError(f"raw.save: a frame of {height} x {width} is larger than a TIFF can be")
        unit = 3 if pixel_um > 0 else 1  # per centimetre, or none
        self._per_cm = (round(1e7 / pixel_um), 1000) if 0.01 <= pixel_um < 1e6 else (1, 1)
        self._entries = (
            (256, _LONG, 1, width), (257, _LONG, 1, height), (258, _SHORT, 1, 16),
            (259, _SHORT, 1, 1), (262, _SHORT, 1, 1), (_DESCRIPTION, _TEXT, _JSON_BYTES, _JSON_AT),
            (_STRIP, _LONG, 1, self.pixels_at), (277, _SHORT, 1, 1), (278, _LONG, 1, height),
            (279, _LONG, 1, n_pixels), (_XRES, _RATIO, 1, _RATIO_AT), (_YRES, _RATIO, 1, _RATIO_AT),
            (284, _SHORT, 1, 1), (296, _SHORT, 1, unit), (339, _SHORT, 1, 1),
            (TAG, _TEXT, _JSON_BYTES, _JSON_AT),
        )  # fmt: skip
        self._relative = frozenset((_DESCRIPTION, _STRIP, _XRES, _YRES, TAG))
        self._packed = struct.Struct("<H" + "HHII" * _N_ENTRIES + "III")

    def rounded(self, n_bytes: int) -> int:
        """Return the next number of bytes at which something may begin."""
        unit = BLOCK if self.is_aligned else 2
        return -(-n_bytes // unit) * unit

    def blocks(self, n: int) -> list[memoryview]:
        """Return memory for `n` pages, taken from the system as it is first written to.

        Raises
        ------
        OSError, ValueError
            There is no such memory.
        """
        memory = memoryview(mmap.mmap(-1, n * self.rounded(self.n_bytes)))
        return [memory[i * self.n_bytes : (i + 1) * self.n_bytes] for i in range(n)]

    def pixels(self, block: memoryview) -> np.ndarray:
        """Return a page's pixels as an array, to be written."""
        return np.ndarray(self.shape, "<u2", block, self.pixels_at)

    def fill(self, page: Page, at: int, link: int, described: tuple[int, int] = (0, 0)) -> None:
        """Write what stands before the pixels of a page that begins at `at`.

        `described` is the length and place of a description in the place of the page's own.
        """
        head = page.block
        numbers = [_N_ENTRIES]
        for tag, kind, count, value in self._entries:
            place = value + at if tag in self._relative else value
            if tag == _DESCRIPTION and described[0]:
                count, place = described
            numbers += (tag, kind, count, place)
        self._packed.pack_into(head, 0, *numbers, link, *self._per_cm)
        head[_JSON_AT:_HEAD_BYTES] = facts(page.frame)


def facts(frame: Frame) -> bytes:
    """Return what belongs to a frame as JSON, always of the same length."""
    t_s, exposure_s, excitation = (
        float(x) for x in (frame.t_s, frame.exposure_s, frame.excitation)
    )
    text = (
        f'{{"ImageNumber": {int(frame.index)}, "ElapsedTime-ms": {1e3 * t_s!r}, '
        f'"Exposure-ms": {1e3 * exposure_s!r}, "t_s": {t_s!r}, "exposure_s": {exposure_s!r}, '
        f'"excitation": {excitation!r}}}'
    )
    return text.encode().ljust(_JSON_BYTES - 1) + b"\0"
