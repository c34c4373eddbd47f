"""What a movie file is to a replay, and the numpy stacks.

A `Movie` reads one frame at a time, so that a movie larger than memory replays as well as a small
one. A file that was cut short opens with the frames that are whole and says in `torn` what is
wrong, for the replay to report after the last good frame.

Only counts that fit uint16 exactly are taken (uint8 and uint16): the camera models score integer
counts as the camera gave them, and a rescaled movie would give wrong photon numbers in silence.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from livespt.sources.base import SourceError


@dataclass(frozen=True)
class Movie:
    """An open movie.

    Attributes
    ----------
    path : Path
    shape : (int, int)
    n_frames : int
        Whole frames that can be read.
    read : int -> (H, W) array
        Pixels of one frame, of the file's own type; raises where the file is damaged.
    close : () -> None
    torn : str
        Why the file ends before its time; "" where it is whole.
    n_expected : int
        Frames that the file promises; `n_frames` unless torn.
    t_s : (n,) float64 or None
        Start of each exposure, where the file knows it.
    index : (n,) int64 or None
        The camera's frame numbers, where the file knows them.
    interval_s, exposure_s : float
        0 where the file does not know.
    nominal_s : float
        Time between frames as the run had it that saved them, believed before `t_s`; else 0.
    exposures_s, excitation : (n,) float64 or None
        Of each frame, where the file knows them.
    """

    path: Path
    shape: tuple[int, int]
    n_frames: int
    read: Callable[[int], NDArray]
    close: Callable[[], None] = lambda: None
    torn: str = ""
    n_expected: int = 0
    t_s: NDArray[np.float64] | None = None
    index: NDArray[np.int64] | None = None
    interval_s: float = 0.0
    exposure_s: float = 0.0
    nominal_s: float = 0.0
    exposures_s: NDArray[np.float64] | None = None
    excitation: NDArray[np.float64] | None = None


def check_dtype(path: Path, dtype: np.dtype) -> None:
    """Refuse pixels that are not counts of at most 16 bits.

    Raises
    ------
    SourceError
        Naming the type found and what to do.
    """
    if dtype.kind == "u" and dtype.itemsize <= 2:
        return
    raise SourceError(
        f"{path}: pixels are {dtype}, expected uint8 or uint16: "
        "save the camera's raw counts, neither scaled nor background-corrected"
    )


def check_stack(path: Path, shape: tuple[int, ...], what: str = "") -> None:
    """Refuse anything but (frames, height, width) with something in it.

    Raises
    ------
    SourceError
        Naming the shape found.
    """
    label = f"{path}: {what}" if what else f"{path}:"
    if len(shape) != 3:
        raise SourceError(f"{label} has shape {shape}, expected (frames, height, width)")
    if 0 in shape:
        raise SourceError(f"{label} is empty: shape {shape}")


def from_memmap(path: Path, dtype: np.dtype, offset: int, shape: tuple[int, ...]) -> Movie:
    """Open a stack that lies in one piece in `path`, `offset` bytes from its start."""
    n_expected, height, width = shape
    frame_bytes = height * width * dtype.itemsize
    n_frames = min(n_expected, max(0, path.stat().st_size - offset) // frame_bytes)
    if n_frames == 0:
        raise SourceError(f"{path}: cut short: not one whole frame of {height} x {width}")
    torn = ""
    if n_frames < n_expected:
        torn = f"the file is cut short: {n_frames} of {n_expected} frames are whole"
    stack = np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=(n_frames, height, width))
    return Movie(
        path, (height, width), n_frames, stack.__getitem__, torn=torn, n_expected=n_expected
    )


def open_npy(path: Path, key: str = "") -> Movie:
    """Open a .npy stack, mapped into memory.

    Raises
    ------
    SourceError
        Not a .npy file, of another type or shape, or without one whole frame.
    """
    if key:
        raise SourceError(f"{path}: option 'key' is for .npz files, which hold named arrays")
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0
            if version != (1, 0):
                read = np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(file)
            offset = file.tell()
    except (OSError, ValueError) as error:
        raise SourceError(f"{path}: not a .npy file: {_one_line(error)}") from None
    check_dtype(path, dtype)
    check_stack(path, shape)
    if fortran:
        raise SourceError(f"{path}: saved in Fortran order; save np.ascontiguousarray(frames)")
    return from_memmap(path, dtype, offset, shape)


def open_npz(path: Path, key: str = "") -> Movie:
    """Open a stack in a .npz: the array `key`, else `frames`, else the only 3-D one.

    Raises
    ------
    SourceError
        Not a .npz, damaged, no such array, or of another type or shape.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            name = key or _pick(path, archive)
            if name not in archive:
                raise SourceError(f"{path}: no array '{name}' (has: {', '.join(archive.files)})")
            stack = archive[name]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise SourceError(f"{path}: not a readable .npz: {_one_line(error)}") from None
    check_stack(path, stack.shape, f"'{name}'")
    check_dtype(path, stack.dtype)
    return Movie(path, stack.shape[1:], len(stack), stack.__getitem__, n_expected=len(stack))


def _pick(path: Path, archive: np.lib.npyio.NpzFile) -> str:
    if "frames" in archive:
        return "frames"
    stacks = [name for name in archive.files if archive[name].ndim == 3]
    if len(stacks) == 1:
        return stacks[0]
    found = ", ".join(stacks) if stacks else "none"
    raise SourceError(f"{path}: no array 'frames', and 3-D arrays: {found}; name one with 'key'")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
