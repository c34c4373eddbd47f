"""TIFF and OME-TIFF movies, read page by page through tifffile.

An uncompressed stack that lies in one piece is mapped into memory; any other is read one page at
a time. A file cut short shows in three ways: pixels past the end of the file, a chain of pages
whose last link points nowhere, or fewer pages than the description promises. tifffile logs these
and goes on with less; here each becomes `Movie.torn`.

Frame times come from OME (DeltaT, ExposureTime, TimeIncrement) or ImageJ (finterval).
"""

from __future__ import annotations

import contextlib
import logging
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from livespt.raw.pages import is_raw
from livespt.sources.base import SourceError
from livespt.sources.movies import Movie, check_dtype, check_stack, from_memmap
from livespt.sources.ownraw import open_raw

#: Seconds in the units of time that OME and ImageJ use.
_SECONDS = {"s": 1.0, "sec": 1.0, "ms": 1e-3, "msec": 1e-3, "us": 1e-6, "µs": 1e-6, "min": 60.0}


def open_tiff(path: Path, key: str = "") -> Movie:
    """Open a TIFF or OME-TIFF movie.

    Raises
    ------
    SourceError
        Not a TIFF, damaged before its first frame, or of another type or shape.
    """
    if key:
        raise SourceError(f"{path}: option 'key' is for .npz files, which hold named arrays")
    if is_raw(path):
        return open_raw(path)
    with _quiet():
        try:
            tif = tifffile.TiffFile(path)
        except (OSError, ValueError, tifffile.TiffFileError) as error:
            raise SourceError(f"{path}: not a readable TIFF: {_one_line(error)}") from None
        try:
            return _open(path, tif)
        except SourceError:
            tif.close()
            raise
        except Exception as error:  # noqa: BLE001 (a damaged file fails in any way inside tifffile)
            tif.close()
            raise SourceError(f"{path}: damaged TIFF: {_one_line(error)}") from None


def _open(path: Path, tif: tifffile.TiffFile) -> Movie:
    if not len(tif.pages):
        raise SourceError(f"{path}: a TIFF without images")
    page = tif.pages.first
    check_dtype(path, np.dtype(page.dtype or "V"))
    if len(page.shape) != 2:
        raise SourceError(f"{path}: pages have shape {page.shape}, expected (height, width)")
    n_expected = _n_promised(path, tif)
    times = _times(tif, n_expected)
    if page.is_contiguous and _in_one_piece(tif, n_expected):
        byteorder = np.dtype(page.dtype).newbyteorder(tif.byteorder)
        shape = (n_expected, *page.shape)
        movie = from_memmap(path, byteorder, page.dataoffsets[0], shape)
        tif.close()
        return _timed(movie, times)
    return _timed(_paged(path, tif, n_expected), times)


def _paged(path: Path, tif: tifffile.TiffFile, n_expected: int) -> Movie:
    pages = tif.pages if len(tif.series) != 1 else tif.series[0].pages
    if len(pages) < len(tif.pages):  # a series that tifffile could not put together
        pages = tif.pages
    # Where OME promises a page that is not in the file, tifffile lists None.
    n_pages, torn = sum(page is not None for page in pages) if tif.is_ome else len(pages), ""
    if n_pages < n_expected:
        torn = f"the file is cut short: {n_pages} of {n_expected} frames are there"
    elif _chain_is_broken(tif):
        torn = f"the file is cut short after frame {n_pages - 1}: the next page is not there"
    while n_pages and not _has_pixels(tif, pages[n_pages - 1]):
        n_pages -= 1
        torn = f"the file is cut short: the pixels of frame {n_pages} are not all there"
    if not n_pages:
        raise SourceError(f"{path}: cut short: not one whole frame")

    def read(index: int) -> NDArray:
        with _quiet():
            page = pages[index]
            assert page is not None  # only whole pages are counted
            return page.asarray()

    height, width = tif.pages.first.shape
    n_expected = max(n_expected, n_pages)
    return Movie(path, (height, width), n_pages, read, tif.close, torn=torn, n_expected=n_expected)


def _n_promised(path: Path, tif: tifffile.TiffFile) -> int:
    """Return how many frames the description promises (the pages found, where it says nothing)."""
    if tif.is_imagej:
        meta = tif.imagej_metadata or {}
        sizes = {axis: int(meta.get(axis, 1)) for axis in ("channels", "slices", "frames")}
        _one_axis(path, sizes)
        return max(int(meta.get("images", 1)), len(tif.pages))
    shaped = tif.shaped_metadata
    if shaped and len(shaped) == 1 and "shape" in shaped[0]:
        shape = tuple(int(n) for n in shaped[0]["shape"])
        stack = tuple(n for n in shape[:-2] if n > 1) or (1,)
        check_stack(path, (*stack, *shape[-2:]))
        return stack[0]
    if tif.is_ome and len(tif.series) == 1:
        series = tif.series[0]
        sizes = {a: n for a, n in zip(series.axes, series.shape, strict=True) if a not in "YX"}
        _one_axis(path, sizes)
        return max(sizes.values(), default=1)
    return len(tif.pages)


def _one_axis(path: Path, sizes: dict[str, int]) -> None:
    many = [f"{axis} = {n}" for axis, n in sizes.items() if n > 1]
    if len(many) > 1:
        raise SourceError(f"{path}: has {', '.join(many)}; expected one axis of frames")


def _in_one_piece(tif: tifffile.TiffFile, n_expected: int) -> bool:
    """Tell whether the frames follow each other without a byte between."""
    page = tif.pages.first
    if n_expected > 1 and len(tif.pages) == 1:
        # ImageJ writes one page for a large stack; a torn file has lost the other pages.
        return tif.is_imagej or tif.is_shaped
    if len(tif.pages) != n_expected or not all(s.shape[-2:] == page.shape for s in tif.series):
        return False
    step = page.nbytes
    ends = (1, len(tif.pages) // 2, len(tif.pages) - 1) if n_expected > 1 else ()
    start = page.dataoffsets[0]
    return len(tif.series) == 1 and all(
        tif.pages[i].is_contiguous and tif.pages[i].dataoffsets[0] == start + i * step for i in ends
    )


def _has_pixels(tif: tifffile.TiffFile, page: Any) -> bool:
    size = tif.filehandle.size
    ends = zip(page.dataoffsets, page.databytecounts, strict=True)
    return bool(page.dataoffsets) and all(start + n <= size for start, n in ends)


def _chain_is_broken(tif: tifffile.TiffFile) -> bool:
    """Tell whether the last page found links to one more, which is then not in the file."""
    where = tif.pages.next_page_offset
    if not where:
        return False
    code, size = (tif.tiff.offsetformat, tif.tiff.offsetsize)
    with tif.filehandle.lock:
        tif.filehandle.seek(where)
        link = tif.filehandle.read(size)
    return len(link) < size or struct.unpack(code, link)[0] != 0


def _times(tif: tifffile.TiffFile, n: int) -> dict[str, Any]:
    if tif.is_ome:
        return _ome_times(tif.ome_metadata or "", n)
    meta = tif.imagej_metadata if tif.is_imagej else None
    if meta and float(meta.get("finterval", 0) or 0) > 0:
        unit = _SECONDS.get(str(meta.get("tunit", "s")), 1.0)
        return {"interval_s": float(meta["finterval"]) * unit}
    return {}


def _ome_times(xml: str, n: int) -> dict[str, Any]:
    try:
        image = tifffile.xml2dict(xml)["OME"]["Image"]
        pixels = (image[0] if isinstance(image, list) else image)["Pixels"]
        planes = pixels.get("Plane", [])
    except (KeyError, IndexError, SyntaxError, TypeError):
        return {}
    found: dict[str, Any] = {}
    if "TimeIncrement" in pixels:
        found["interval_s"] = _in_seconds(pixels, "TimeIncrement")
    planes = planes if isinstance(planes, list) else [planes]
    planes = sorted(planes, key=lambda plane: plane.get("TheT", 0) + plane.get("TheZ", 0))
    if len(planes) == n and all("DeltaT" in plane for plane in planes):
        found["t_s"] = np.array(
            [_in_seconds(plane, "DeltaT") for plane in planes], dtype=np.float64
        )
    if planes and "ExposureTime" in planes[0]:
        found["exposure_s"] = _in_seconds(planes[0], "ExposureTime")
    return found


def _in_seconds(attributes: dict[str, Any], name: str) -> float:
    return float(attributes[name]) * _SECONDS.get(str(attributes.get(f"{name}Unit", "s")), 1.0)


def _timed(movie: Movie, times: dict[str, Any]) -> Movie:
    return replace(movie, **times)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep tifffile's log lines about damage off the screen: the error itself says it."""
    log = logging.getLogger("tifffile")
    was = log.disabled
    log.disabled = True
    try:
        yield
    finally:
        log.disabled = was


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
