"""A data set that Micro-Manager or pycromanager is still writing: its images, in their order.

A data set is one file, or one that goes on in others when it is full (`NDTiffStack.tif`,
`NDTiffStack_1.tif`, ...; `x_MMStack_Pos0.ome.tif`, `x_MMStack_Pos0_1.ome.tif`, ...), or several
such series side by side, one for each position.

Where an image belongs (channel, position, time) is in its own metadata or, where Micro-Manager's
window writes NDTiff, only in `NDTiff.index`. The index is read as far as it goes. ndstorage's
writer is up to 8 KiB, a hundred images, late with it, which is why the images are found by the
files' own chain of pages and not through the index.
"""

from __future__ import annotations

import json
import math
import os
import struct
import time
from pathlib import Path
from typing import Any, NamedTuple

from livespt.raw import FILE as RAW_FILE
from livespt.sources.base import SourceError
from livespt.sources.growing import GrowingTiff, Page
from livespt.sources.ndtiff import INDEX

Axes = dict[str, "int | str"]

#: A finished file is the last one if no other follows it for so long.
GRACE_S = 1.0
#: How often a folder is looked through for more series.
_LOOK_S = 0.5
#: No true record of an index is longer.
_MOST_BYTES = 1 << 16
#: Micro-Manager's own names of the axes.
_AXES = {
    "time": "FrameIndex",
    "channel": "ChannelIndex",
    "z": "SliceIndex",
    "position": "PositionIndex",
}


class Image(NamedTuple):
    """One image of a data set, its pixels still in the file."""

    file: GrowingTiff
    page: Page
    tags: dict[str, Any]
    axes: Axes


def tag(tags: dict[str, Any], name: str) -> Any:
    """Return a value from an image's metadata, wherever a version of Micro-Manager keeps it."""
    found = tags.get(name)
    if found is None and isinstance(tags.get("UserData"), dict):
        found = tags["UserData"].get(name)
    if isinstance(found, dict):
        found = found.get("scalar", found.get("PropVal"))
    return found


class GrowingIndex:
    """`NDTiff.index`, read as far as it is written.

    Raises
    ------
    SourceError
        From `find`: what stands there is no index.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._at = 0
        self._axes: dict[tuple[str, int], Axes] = {}

    def find(self, name: str, offset: int) -> Axes | None:
        """Return the axes of the image at `offset` in file `name`, once; None if not yet there."""
        if (name, offset) not in self._axes:
            self._read()
        return self._axes.pop((name, offset), None)

    def _read(self) -> None:
        try:
            with self.path.open("rb") as file:
                file.seek(self._at)
                data = file.read(1 << 20)
        except FileNotFoundError:
            return
        at = 0
        while (record := self._record(data, at)) is not None:
            key, axes, at = record
            self._axes[key] = axes
        self._at += at

    def _record(self, data: bytes, at: int) -> tuple[tuple[str, int], Axes, int] | None:
        """Return one record and where the next begins; None where it is not all there.

        What is not written yet is missing or zero, as the writer has it.
        """
        text, at = self._text(data, at)
        name, at = self._text(data, at)
        if not text or not name or at + 32 > len(data):
            return None
        numbers = struct.unpack_from("=8I", data, at)
        if not (numbers[0] and numbers[6]):  # place of the pixels; length of the metadata
            return None
        try:
            return (name.decode(), numbers[0]), json.loads(text), at + 32
        except ValueError:
            raise SourceError(f"{self.path}: damaged at byte {self._at + at}") from None

    def _text(self, data: bytes, at: int) -> tuple[bytes, int]:
        if at + 4 > len(data):
            return b"", at
        n_bytes = struct.unpack_from("=I", data, at)[0]
        if n_bytes > _MOST_BYTES:
            raise SourceError(f"{self.path}: damaged at byte {self._at + at}")
        text = data[at + 4 : at + 4 + n_bytes]
        return (text if len(text) == n_bytes else b""), at + 4 + n_bytes


class Series:
    """A file, and those in which it goes on."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.file: GrowingTiff | None = None
        self._n_files = 0

    @property
    def finished(self) -> bool:
        """The last file that is there says that it is finished."""
        return self.file is not None and self.file.finished and not self._path().exists()

    def next_page(self) -> tuple[GrowingTiff, Page] | None:
        """Return the next page and its file; None while it is not all there.

        Raises
        ------
        SourceError
            The file cannot be used.
        """
        if self.file is None and not self._open():
            return None
        assert self.file is not None
        page = self.file.next_page()
        if page is None and self.file.finished:
            done = self.file
            if not self._open():
                return None
            done.close()
            page = self.file.next_page()
        return None if page is None else (self.file, page)

    def check(self) -> None:
        """Make sure that the file is still what it was; SourceError where not."""
        if self.file is not None:
            self.file.check()

    def close(self) -> None:
        """Let go of the file."""
        if self.file is not None:
            self.file.close()

    def _path(self) -> Path:
        """Return the name of the file that would be next."""
        if not self._n_files:
            return self.base
        stem, suffix = _split(self.base.name)
        return self.base.with_name(f"{stem}_{self._n_files}{suffix}")

    def _open(self) -> bool:
        try:
            self.file = GrowingTiff(self._path())
        except (FileNotFoundError, PermissionError):  # not yet, or its writer keeps it to itself
            return False
        except OSError as error:
            raise SourceError(f"{self._path()}: cannot be read: {error.strerror}") from None
        self._n_files += 1
        return True


class DataSet:
    """All that is being written under one name.

    Parameters
    ----------
    path : Path
        A TIFF file or a folder, which need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._series: list[Series] = []
        self._indices: dict[Path, GrowingIndex] = {}
        self._held: tuple[GrowingTiff, Page] | None = None
        self._turn = 0
        self._looked_s = -_LOOK_S
        self._quiet_since_s = time.perf_counter()
        self._finished_s = math.inf  # when it was first seen to be so

    def next_image(self) -> Image | None:
        """Return the next image; None while none is all there.

        Raises
        ------
        SourceError
            A file is no TIFF, damaged, or its pixels are not plain counts.
        """
        self._look()
        found = self._held or self._next_page()
        if found is None:
            return None
        file, page = found
        axes = self._axes(file, page)
        self._held = found if axes is None else None
        if axes is None:
            return None
        self.listen()
        return Image(file, page, page.tags or {}, axes)

    @property
    def summary(self) -> dict[str, Any]:
        """Micro-Manager's metadata of the whole; empty where there are none (yet)."""
        files = (series.file for series in self._series)
        return next((file.summary for file in files if file and file.summary), {})

    def listen(self) -> None:
        """Count silence from now on."""
        self._quiet_since_s = time.perf_counter()
        self._finished_s = math.inf

    @property
    def quiet_s(self) -> float:
        """Time since the last image."""
        return time.perf_counter() - self._quiet_since_s

    @property
    def finished(self) -> bool:
        """Its writer has marked every file as finished, and no further one is there."""
        whole = self._held is None and all(series.finished for series in self._series)
        return whole and bool(self._series)

    def has_ended(self) -> bool:
        """Tell whether it has been finished for a while: asked again and again, it sees how long.

        Between two files of a series, too, all that are there are finished.
        """
        now_s = time.perf_counter()
        self._finished_s = min(self._finished_s, now_s) if self.finished else math.inf
        return now_s - self._finished_s > GRACE_S

    def check(self) -> None:
        """Make sure that no file was deleted, replaced or cut short; SourceError where one was."""
        for series in self._series:
            series.check()

    def close(self) -> None:
        """Let go of all files."""
        for series in self._series:
            series.close()

    def _look(self) -> None:
        """Look for series that are not followed yet: positions may begin one after another."""
        now_s = time.perf_counter()
        if now_s - self._looked_s < _LOOK_S:
            return
        self._looked_s = now_s
        known = {series.base for series in self._series}
        self._series += [Series(base) for base in _bases(self.path) if base not in known]

    def _next_page(self) -> tuple[GrowingTiff, Page] | None:
        for _ in range(len(self._series)):
            series = self._series[self._turn % len(self._series)]
            found = series.next_page()
            while found is not None and found[1].tags is None:  # filled in, no image
                found = series.next_page()
            if found is not None:
                return found  # and go on with this one: its images are together in the file
            self._turn += 1
        return None

    def _axes(self, file: GrowingTiff, page: Page) -> Axes | None:
        tags = page.tags or {}
        if isinstance(tags.get("Axes"), dict):
            return tags["Axes"]
        named = {
            axis: tags[name] for axis, name in _AXES.items() if isinstance(tags.get(name), int)
        }
        if named or not file.marks_its_end:
            return named
        folder = file.path.parent
        if folder not in self._indices:
            if not (folder / INDEX).exists() and "NDTiff" not in file.path.name:
                return {}
            self._indices[folder] = GrowingIndex(folder / INDEX)
        return self._indices[folder].find(file.path.name, page.strips[0][0])


def _split(name: str) -> tuple[str, str]:
    for suffix in (".ome.tif", ".ome.tiff", ".tif", ".tiff"):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)], name[-len(suffix) :]
    return name, ""


def _bases(path: Path) -> list[Path]:
    """Return the first file of each series under `path`; none while nothing is there."""
    if _split(path.name)[1]:
        return [path] if path.is_file() else []
    if (path / "Full resolution").is_dir():
        path /= "Full resolution"
    try:
        names = {name for name in os.listdir(path) if _split(name)[1]}
    except (FileNotFoundError, NotADirectoryError):
        return []
    stems = {_split(name)[0]: name for name in names if _is_stack(name)}
    return [path / name for stem, name in sorted(stems.items()) if not _goes_on(stem, stems)]


def _is_stack(name: str) -> bool:
    return name == RAW_FILE or "NDTiffStack" in name or "MMStack" in name


def _goes_on(stem: str, stems: dict[str, str]) -> bool:
    """Tell whether a file continues another, as `Pos0_1` does `Pos0`."""
    before, _, number = stem.rpartition("_")
    return before in stems and number.isdigit() and not number.startswith("0")
