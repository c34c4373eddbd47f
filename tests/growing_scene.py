"""Data sets that grow: a writer of Micro-Manager's OME-TIFF, and files written in torn pieces.

`MmStackWriter` writes the bytes that Micro-Manager 2's image stack files have, in the order in
which they are written: full size first, each image as entries, pixels, resolution, metadata; the
last link set to zero and the file cut to its size in the end. Micro-Manager itself is Java and not
here.
"""

from __future__ import annotations

import functools
import json
import struct

import numpy as np

INDEX_MAP, SUMMARY = 54773648, 2355492


@functools.cache
def pixels(i, shape=(6, 5), dtype=np.uint16):
    """Return image `i` of the movie that all tests write: no two are alike."""
    return np.random.default_rng([7, i]).integers(1, 250, shape).astype(dtype)


class MmStackWriter:
    """One series of `_MMStack` files; it rolls over into the next before `max_bytes`."""

    def __init__(self, folder, base="run_MMStack_Pos0", summary=None, max_bytes=4096, n_index=8):
        self.folder, self.base, self.max_bytes = folder, base, max_bytes
        self.summary, self.n_index = json.dumps(summary or {}).encode(), n_index
        self.n_files, self.file = 0, None
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, image, tags, coords=None):
        """Append an image; `coords` are (channel, slice, frame, position)."""
        coords = coords or (0, 0, 0, 0)
        named = dict(
            zip(("ChannelIndex", "SliceIndex", "FrameIndex", "PositionIndex"), coords, strict=True)
        )
        self._page(image, json.dumps({**named, **tags}).encode() + b"\0")

    def write_blank(self, shape=(6, 5)):
        """Append what Micro-Manager fills an aborted acquisition up with."""
        self._page(np.zeros(shape, np.uint16), b"NULL ")

    def finish(self):
        """End the series, as at the end of an acquisition."""
        self._end_file()
        self.file = None

    def _page(self, image, text):
        n_bytes = 2 + 17 * 12 + 4 + image.nbytes + 16 + len(text)
        if self.file is not None and self.at + n_bytes + 100 > self.max_bytes:
            self._end_file()
        if self.file is None:
            self._begin_file()
        n = 17 if self.first else 13
        at = self.at + 2 + n * 12 + 4
        height, width = image.shape
        entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, image.itemsize * 8)]
        entries += [(259, 3, 1, 1), (262, 3, 1, 1)]
        entries += [(270, 2, 0, 0), (270, 2, 0, 0)] if self.first else []
        entries += [(273, 4, 1, at), (277, 3, 1, 1), (278, 3, 1, height), (279, 4, 1, image.nbytes)]
        at += image.nbytes
        entries += [(282, 5, 1, at), (283, 5, 1, at + 8), (296, 3, 1, 3)]
        entries += [(50838, 4, 0, 0), (50839, 1, 0, 0)] if self.first else []
        entries += [(51123, 2, len(text), at + 16)]
        end = at + 16 + len(text)
        raw = struct.pack("<H", n) + b"".join(struct.pack("<HHII", *e) for e in entries)
        self.link_at = self.at + len(raw)
        raw += struct.pack("<I", end)
        self.file.seek(self.at)
        for part in (raw, image.tobytes(), struct.pack("<IIII", 1, 1, 1, 1), text):
            self.file.write(part)
        self.file.flush()
        self.at, self.first = end, False

    def _begin_file(self):
        name = self.base + (f"_{self.n_files}" if self.n_files else "") + ".ome.tif"
        self.n_files, self.first = self.n_files + 1, True
        self.file = open(self.folder / name, "wb+")  # noqa: SIM115 (closed by _end_file)
        self.file.truncate(self.max_bytes)
        room = 8 + 20 * self.n_index
        self.at = 40 + len(self.summary) + room
        head = b"II" + struct.pack("<HI", 42, self.at)
        head += struct.pack("<II", INDEX_MAP, 40 + len(self.summary)) + bytes(16)
        head += struct.pack("<II", SUMMARY, len(self.summary)) + self.summary
        self.file.write(head + struct.pack("<II", 3453623, self.n_index))
        self.file.flush()

    def _end_file(self):
        self.file.seek(self.link_at)
        self.file.write(bytes(4))
        self.file.seek(self.at)
        self.file.write(b"comments, display settings")
        self.file.truncate(self.at + 34)
        self.file.close()
        self.file = None


class Torn:
    """A finished file that is written once more, in pieces cut anywhere.

    With `full_size` the bytes that are not there yet are zeros; otherwise the file ends there.
    """

    def __init__(self, source, target, full_size=False):
        self.content = source.read_bytes()
        self.target, self.full_size = target, full_size

    def write_to(self, n):
        """Let the file hold its first `n` bytes."""
        room = len(self.content) + 1000 if self.full_size and n < len(self.content) else n
        with self.target.open("wb" if not self.target.exists() else "rb+") as file:
            file.write(self.content[:n])
            file.truncate(room)


def drain(data):
    """Return all images of a `DataSet` that are whole now, with their pixels read at once."""
    found = []
    while (image := data.next_image()) is not None:
        found.append((image, image.file.read(image.page)))
    return found
