"""Images on their way to another process: slots of memory that both share.

One side puts an image into the next slot, the other takes the images in their order. Two counters,
how many were put and how many were taken, say which slots are free; each is written by one side
only, in one aligned word. No side waits for the other, and neither needs a lock.

Beside its pixels a slot holds a note: what the image shows, and whatever else belongs to it.
"""

from __future__ import annotations

import math
import mmap
import os
import struct
import sys
import tempfile
import uuid
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from livespt.sources.base import SourceError

#: Slots take so much memory together, within these numbers of them.
_LANE_BYTES = 64 * 2**20
_FEWEST, _MOST = 8, 64
#: Bytes of a note, its length included, and of what stands before the slots.
_NOTE, _HEAD = 4096, 4096
_LENGTH = struct.Struct("<I")
_PUT, _TAKEN = 0, 64  # where the counters stand, each in a cache line of its own


class LaneSpec(NamedTuple):
    """What the other process needs to find the lane.

    Attributes
    ----------
    where : str
        A file descriptor that it has inherited; on Windows a name.
    n_slots, slot_bytes : int
        How many, and the most pixels' bytes that one holds.
    """

    where: str
    n_slots: int
    slot_bytes: int


class Lane:
    """Images in their order from one process to another.

    Parameters
    ----------
    spec : LaneSpec
        From `make_lane`.
    """

    def __init__(self, spec: LaneSpec) -> None:
        self.spec = spec
        self._memory = memory = memoryview(_map(spec.where, _n_bytes(spec)))
        self._n_put = memory[_PUT : _PUT + 8].cast("Q")
        self._n_taken = memory[_TAKEN : _TAKEN + 8].cast("Q")
        starts = range(_HEAD, len(memory), _NOTE + spec.slot_bytes)
        self._notes = [memory[at : at + _NOTE] for at in starts]
        self._pixels = [memory[at + _NOTE : at + _NOTE + spec.slot_bytes] for at in starts]

    def warm_up(self) -> None:
        """Write to all of it once, so that the system finds the memory now."""
        np.asarray(self._memory).fill(0)

    def put(self, image: NDArray, note: bytes) -> bool:
        """Copy an image into the next slot; return whether one was free.

        An image that is larger than a slot is put without its pixels.

        Raises
        ------
        SourceError
            The note is too long.
        """
        if len(note) > _NOTE - _LENGTH.size:
            raise SourceError(f"an image's tags are {len(note)} bytes, at most {_NOTE}")
        n_put = self._n_put[0]
        if n_put - self._n_taken[0] >= self.spec.n_slots:
            return False
        slot = n_put % self.spec.n_slots
        head = self._notes[slot]
        _LENGTH.pack_into(head, 0, len(note))
        head[_LENGTH.size : _LENGTH.size + len(note)] = note
        if self._fits(image.shape, image.dtype):
            np.copyto(np.ndarray(image.shape, image.dtype, self._pixels[slot]), image)
        self._n_put[0] = n_put + 1  # the last: now it may be taken
        return True

    def look(self) -> bytes | None:
        """Return the note of the oldest image; None where there is none."""
        n_taken = self._n_taken[0]
        if n_taken == self._n_put[0]:
            return None
        head = self._notes[n_taken % self.spec.n_slots]
        (length,) = _LENGTH.unpack_from(head)
        return bytes(head[_LENGTH.size : _LENGTH.size + length])

    def pixels(self, shape: tuple[int, ...], dtype: np.dtype) -> NDArray:
        """Return the pixels of the oldest image, valid until `done`; zeros where they did not fit.

        The shape and type must be those of the image that was put.
        """
        if not self._fits(shape, dtype):
            return np.broadcast_to(np.zeros((), dtype), shape)
        return np.ndarray(shape, dtype, self._pixels[self._n_taken[0] % self.spec.n_slots])

    def done(self) -> None:
        """Let the slot of the oldest image go."""
        self._n_taken[0] += 1

    def _fits(self, shape: tuple[int, ...], dtype: np.dtype) -> bool:
        return dtype.kind in "uif" and math.prod(shape) * dtype.itemsize <= self.spec.slot_bytes


def make_lane(slot_bytes: int) -> tuple[Lane, tuple[int, ...]]:
    """Make a lane for images of so many bytes.

    Returns
    -------
    Lane
    tuple of int
        File descriptors for the other process to inherit; to be closed here when it has.

    Raises
    ------
    SourceError
        The memory cannot be had.
    """
    slot_bytes = -(-slot_bytes // 64) * 64
    n_slots = min(max(_LANE_BYTES // slot_bytes, _FEWEST), _MOST)
    try:
        where, keep = _make(_n_bytes(LaneSpec("", n_slots, slot_bytes)))
        lane = Lane(LaneSpec(where, n_slots, slot_bytes))
        lane.warm_up()
    except (OSError, ValueError, MemoryError) as error:
        raise SourceError(
            f"ride-along: no memory for {n_slots} images of {slot_bytes} bytes ({error})"
        ) from None
    return lane, keep


def _n_bytes(spec: LaneSpec) -> int:
    return _HEAD + spec.n_slots * (_NOTE + spec.slot_bytes)


def _make(n_bytes: int) -> tuple[str, tuple[int, ...]]:
    if sys.platform == "win32":
        return f"livespt-{uuid.uuid4().hex}", ()
    if sys.platform == "linux":
        fd = os.memfd_create("livespt-lane")
    else:  # a file without a name, whose pages the system need not write
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, n_bytes)
    return str(fd), (fd,)


def _map(where: str, n_bytes: int) -> mmap.mmap:
    if sys.platform == "win32":
        return mmap.mmap(-1, n_bytes, tagname=where)
    return mmap.mmap(int(where), n_bytes)
