"""Raw frames in parts: begun when needed, ended when full, stopped before the disk is."""

from __future__ import annotations

import errno
import shutil
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import livespt
from livespt.raw import ome
from livespt.raw.pages import FILE, Page, PageForm, header
from livespt.raw.part import MOST_PAGES, Part
from livespt.types import SourceInfo

#: Of more frames the OME-XML names no single times, for its size; each page still does.
MOST_TIMES = 100_000
#: How often the disk is asked for its room.
_LOOK_S = 0.2


class RawWriter:
    """Writes frames to `folder`/raw.ome.tif, raw_1.ome.tif, ...; one thread's at a time.

    Parameters
    ----------
    folder : Path
    info : SourceInfo
    pixel_um : float
    part_gb : float
        Size at which a part is ended and the next begun, 1e9 bytes.
    keep_free_gb : float
        Saving ends before the disk has less.

    Raises
    ------
    RawError
        A frame is too large.
    """

    def __init__(
        self, folder: Path, info: SourceInfo, pixel_um: float, part_gb: float, keep_free_gb: float
    ) -> None:
        self.folder = folder
        self._info, self._pixel_um = info, pixel_um
        self.form = PageForm(info.shape, pixel_um)
        self._part_bytes = int(1e9 * part_gb)
        self._keep_bytes = int(1e9 * keep_free_gb)
        self._looked_s = -_LOOK_S
        self._part: Part | None = None
        self._first: Part | None = None
        self._parts: list[tuple[str, str, int]] = []
        self._times: list[tuple[float, float]] = []
        self.n_frames = self.n_bytes = 0

    @property
    def n_parts(self) -> int:
        """Files that were begun."""
        return len(self._parts)

    @property
    def path(self) -> Path:
        """The first part."""
        return self.folder / FILE

    def free_bytes(self) -> int:
        """Return what the disk has room for beyond what is to stay free.

        Raises
        ------
        OSError
        """
        return shutil.disk_usage(self.folder).free - self._keep_bytes

    def write(self, pages: Sequence[Page]) -> None:
        """Write pages of `form`.

        Raises
        ------
        OSError
            The disk refuses, or has no more room; what `n_frames` says is in the files and whole.
        """
        done = 0
        while done < len(pages):
            part, room = self._with_room()
            some = pages[done : done + min(room, MOST_PAGES)]
            self._check_room(len(some))
            n, error = part.append(some)
            self._count(some[:n])
            done += n
            if error is not None:
                raise error

    def finish(self) -> None:
        """Describe all parts in the first, and let go of the files.

        Raises
        ------
        OSError
            The disk refuses the last bytes; the frames are there all the same.
        """
        part, first = self._part, self._first
        self._part = self._first = None
        if part is None or first is None:
            return
        try:
            if not part.n_pages:
                self._parts.pop()
                part.discard()
            if first.n_pages:
                self._describe(first)
                first.finish()
                if part.n_pages:
                    part.finish()
        finally:
            part.close()
            first.close()

    def _with_room(self) -> tuple[Part, int]:
        """Return the part that is written to, and how many frames it still takes."""
        part = self._part or self._begin()
        room = (self._part_bytes - part.end) // self.form.n_bytes
        if room < 1 and part.n_pages:
            following = self._begin()
            part.finish()  # only now: who follows it finds the next one there
            if part is not self._first:
                part.close()
            part = following
            room = (self._part_bytes - part.end) // self.form.n_bytes
        return part, max(room, 1)

    def _begin(self) -> Part:
        name = FILE if not self._parts else FILE.replace(".", f"_{len(self._parts)}.", 1)
        own = str(uuid.uuid4())
        text = ome.pointer(FILE, self._parts[0][1], own) if self._parts else b""
        head, at = header(self.form, self._summary(), text)
        part = Part(self.folder / name, self.form, head, (len(text), at))
        self._parts.append((name, own, 0))
        self._part, self._first = part, self._first or part
        return part

    def _summary(self) -> dict[str, object]:
        info = self._info
        return {
            "livespt": livespt.__version__,
            "source": info.name,
            "Camera": info.identity,
            "Interval_ms": 1e3 * info.interval_s,
            "PixelSize_um": self._pixel_um,
            "interval_s": info.interval_s,
            "exposure_s": info.exposure_s,
            "part": len(self._parts),
        }

    def _check_room(self, n_frames: int) -> None:
        now_s = time.perf_counter()
        if now_s - self._looked_s < _LOOK_S:
            return
        self._looked_s = now_s
        if self.free_bytes() < n_frames * self.form.n_bytes:
            free = (self.free_bytes() + self._keep_bytes) / 1e9
            kept = self._keep_bytes / 1e9
            raise OSError(errno.ENOSPC, f"{free:.2f} GB are left, {kept:g} are kept free")

    def _count(self, pages: Sequence[Page]) -> None:
        name, own, n = self._parts[-1]
        self._parts[-1] = (name, own, n + len(pages))
        self.n_frames += len(pages)
        self.n_bytes += len(pages) * self.form.n_bytes
        if self.n_frames <= MOST_TIMES:
            self._times += ((float(f.t_s), float(f.exposure_s)) for f, _ in pages)
        else:
            self._times.clear()

    def _describe(self, first: Part) -> None:
        info = self._info
        stack = ome.Stack(
            info.name, f"livespt {livespt.__version__}", info.shape, self._pixel_um,
            info.interval_s, self._parts, self._times,
        )  # fmt: skip
        first.describe(ome.whole(stack))
