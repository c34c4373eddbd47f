"""NDTiff datasets, the folders that Micro-Manager and pycromanager write.

Read through ndstorage, read-only. The camera's `ImageNumber` is the frame number, so that a hole
in the movie is a hole here. Times are `TimeReceivedByCore`, or `ElapsedTime-ms` where it runs
forward: pycromanager overwrites it with one value for a whole hardware sequence.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from livespt.core import need
from livespt.sources.base import SourceError
from livespt.sources.coretap import received
from livespt.sources.movies import Movie, check_dtype

INDEX = "NDTiff.index"


def open_ndtiff(path: Path, key: str = "") -> Movie:
    """Open an NDTiff folder whose images differ along one axis only.

    Raises
    ------
    SourceError
        Not such a folder, damaged, more than one axis, or ndstorage is not installed.
    """
    if key:
        raise SourceError(f"{path}: option 'key' is for .npz files, which hold named arrays")
    module = need("ndstorage", "micromanager")
    with _one_error(path):
        data = module.NDTiffDataset(str(path))
    try:
        return _movie(path, data)
    except SourceError:
        data.close()
        raise


def _movie(path: Path, data: Any) -> Movie:
    axis, places = _frame_axis(path, data)
    fixed = {name: next(iter(values)) for name, values in data.axes.items() if name != axis}
    where = [{**fixed, axis: place} if axis else fixed for place in places]
    dtype = np.dtype(data.dtype)
    check_dtype(path, dtype)

    def read(index: int) -> NDArray:
        with _one_error(path, index):
            return data.read_image(**where[index])

    with _one_error(path):
        found = _metadata([data.read_metadata(**axes) for axes in where])
    shape = (int(data.image_height), int(data.image_width))
    return Movie(path, shape, len(where), read, data.close, n_expected=len(where), **found)


def _frame_axis(path: Path, data: Any) -> tuple[str, list[Any]]:
    if not data.index:
        raise SourceError(f"{path}: a dataset without images")
    many = {name: len(values) for name, values in data.axes.items() if len(values) > 1}
    if len(many) > 1:
        found = ", ".join(f"{name} = {n}" for name, n in many.items())
        raise SourceError(f"{path}: has {found}; expected one axis of frames")
    if not many:
        return "", [0]
    axis = next(iter(many))
    return axis, sorted(dict(entry)[axis] for entry in data.index)


def _metadata(tags: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    numbers = _column(tags, "ImageNumber")
    if numbers is not None and np.all(np.diff(numbers) >= 1):
        found["index"] = numbers.astype(np.int64)
    t_s = _times(tags)
    if t_s is not None:
        found["t_s"] = t_s - t_s[0]
    exposure_ms = _column(tags[:1], "Exposure-ms")
    if exposure_ms is None:
        exposure_ms = _column(tags[:1], "Exposure")
    if exposure_ms is not None:
        found["exposure_s"] = float(exposure_ms[0]) * 1e-3
    return found


def _times(tags: list[dict[str, Any]]) -> NDArray[np.float64] | None:
    received_s = np.array([received(one, np.nan) for one in tags])
    elapsed_ms = _column(tags, "ElapsedTime-ms")
    for t_s in (received_s, None if elapsed_ms is None else elapsed_ms * 1e-3):
        if t_s is not None and np.all(np.isfinite(t_s)) and np.all(np.diff(t_s) > 0):
            return t_s
    return None


def _column(tags: list[dict[str, Any]], name: str) -> NDArray[np.float64] | None:
    try:
        return np.array([float(one[name]) for one in tags])
    except (KeyError, TypeError, ValueError):
        return None


@contextlib.contextmanager
def _one_error(path: Path, frame: int = -1) -> Iterator[None]:
    """Turn whatever a damaged dataset raises into one line; ndstorage also prints and warns."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:  # noqa: BLE001 (struct, json, key, value and OS errors all occur)
        what = f"frame {frame} cannot be read" if frame >= 0 else "not a readable NDTiff dataset"
        text = " ".join(str(error).split()) or type(error).__name__
        raise SourceError(f"{path}: {what}: {text}") from None
