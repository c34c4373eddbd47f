"""Replay a movie as though a camera were making it.

TIFF, OME-TIFF, NDTiff and numpy stacks, at the movie's own pace, at a chosen rate, or as fast as
the analysis asks. Frame times are the movie's (from its metadata, or index times interval), never
the replay's: playing slower does not make molecules slower.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from livespt.config import parse
from livespt.sections import Positive, Section
from livespt.sources.base import SourceError
from livespt.sources.gaps import GapDetector
from livespt.sources.movies import Movie, open_npy, open_npz
from livespt.sources.ndtiff import INDEX, open_ndtiff
from livespt.sources.ring import shape_event
from livespt.sources.tiff import open_tiff
from livespt.types import Event, Frame, SourceInfo, StreamItem

_OPENERS = {".npy": open_npy, ".npz": open_npz, ".tif": open_tiff, ".tiff": open_tiff}


class ReplayOptions(Section, frozen=True):
    """Options of the source "replay".

    Attributes
    ----------
    path : str
        A .tif, .tiff, .npy or .npz file, or an NDTiff folder.
    interval_s : float, optional
        Time between frames; needed where the file does not know it.
    exposure_s : float, optional
        Light of each frame; from the file, or else the interval.
    times : {"file", "interval"}
        Whether the file's own frame times count where it has them.
    paced : bool
        Keep the movie's pace (frames that analysis cannot follow are shed by the ring).
    fps : float, optional
        Play at this rate; implies `paced`.
    start, stop : int
        Frames to play, as in a slice; `stop` none is to the end.
    key : str
        Array in an .npz; `frames`, or else the only 3-D one, if empty.
    """

    path: str
    interval_s: Positive | None = None
    exposure_s: Positive | None = None
    times: Literal["file", "interval"] = "file"
    paced: bool = False
    fps: Positive | None = None
    start: Annotated[int, msgspec.Meta(ge=0)] = 0
    stop: Annotated[int, msgspec.Meta(ge=1)] | None = None
    key: str = ""


def open_source(options: dict[str, Any]) -> Replay:
    """Open the movie that `options` name (see `ReplayOptions`).

    Raises
    ------
    SourceError
        The file is missing, damaged, empty, or of the wrong type or shape.
    ConfigError
        An option is unknown or out of range.
    """
    return Replay(parse(options, "source.options", ReplayOptions))


def open_movie(path: str | Path, key: str = "") -> Movie:
    """Open a movie file or folder by its kind.

    Raises
    ------
    SourceError
        One line that names the file and what is wrong with it.
    """
    path = Path(path)
    if path.is_dir():
        if not (path / INDEX).is_file():
            raise SourceError(f"{path}: a folder without {INDEX}, so no NDTiff dataset")
        return open_ndtiff(path, key)
    if not path.exists():
        raise SourceError(f"{path}: no such movie")
    opener = _OPENERS.get(path.suffix.lower())
    if opener is None:
        raise SourceError(
            f"{path}: '{path.suffix}' is no movie (known: {', '.join(_OPENERS)}, NDTiff)"
        )
    if path.stat().st_size == 0:
        raise SourceError(f"{path}: the file is empty")
    return opener(path, key)


class Replay:
    """A movie as a `Source`."""

    def __init__(self, options: ReplayOptions) -> None:
        self.movie = open_movie(options.path, options.key)
        self._closing = threading.Event()
        try:
            self._options = options
            self._start, self._stop = _span(options, self.movie)
            self._index = _indices(self.movie)
            self._interval_s = _interval(options, self.movie)
            self._t_s = _times(options, self.movie, self._index, self._interval_s)
            self._exposure_s = _exposure(options, self.movie, self._interval_s)
        except SourceError:
            self.movie.close()
            raise
        self.info = SourceInfo(
            name=Path(options.path).name,
            shape=self.movie.shape,
            interval_s=self._interval_s,
            exposure_s=self._exposure_s,
            n_frames=self._stop - self._start,
            paced=options.paced or options.fps is not None,
        )

    def frames(self) -> Iterator[StreamItem]:
        """Yield the movie's frames and its gaps.

        Raises
        ------
        SourceError
            The movie is damaged; after the frames before the damage and an `Event("failed")`.
        """
        gaps = GapDetector(self._interval_s)
        began_s = time.perf_counter()
        for i in range(self._start, self._stop):
            if self.info.paced and self._closing.wait(
                self._due_s(i) - (time.perf_counter() - began_s)
            ):
                return
            if self._closing.is_set():
                return
            frame = self._frame(i)
            if self._closing.is_set():  # perhaps the file was closed while it was read
                return
            if isinstance(frame, SourceError):
                yield Event("failed", self._time(i), self._number(i), self._stop - i, str(frame))
                raise frame
            if frame.adu.shape != self.info.shape:
                yield shape_event(frame, self.info.shape)
                return
            t_s, events = gaps.see(frame.index, frame.t_s, self._time(i))
            yield from events
            yield frame._replace(t_s=t_s, arrived_s=time.perf_counter())

    def close(self) -> None:
        """Stop, and let go of the file."""
        self._closing.set()
        self.movie.close()

    def _frame(self, i: int) -> Frame | SourceError:
        if i >= self.movie.n_frames:
            return SourceError(f"{self.movie.path}: frame {i}: {self.movie.torn}")
        try:
            adu = _as_uint16(self.movie.read(i))
        except SourceError as error:
            return error
        except Exception as error:  # noqa: BLE001 (a damaged page fails in any way in a decoder)
            text = " ".join(str(error).split()) or type(error).__name__
            return SourceError(f"{self.movie.path}: frame {i} cannot be read: {text}")
        if adu is None:
            return SourceError(f"{self.movie.path}: frame {i} is not uint8 or uint16")
        frame = Frame(self._number(i), self._time(i), adu, self._exposure_s)
        return self._as_saved(frame, i)

    def _as_saved(self, frame: Frame, i: int) -> Frame:
        """Give a frame its own exposure and light, where the file has them."""
        exposures_s, excitation = self.movie.exposures_s, self.movie.excitation
        if exposures_s is not None and self._options.exposure_s is None:
            frame = frame._replace(exposure_s=float(exposures_s[i]))
        if excitation is not None:
            frame = frame._replace(excitation=float(excitation[i]))
        return frame

    def _due_s(self, i: int) -> float:
        n = i - self._start
        if self._options.fps is not None:
            return n / self._options.fps
        return self._time(i) - self._time(self._start)

    def _number(self, i: int) -> int:
        return int(self._index[i]) if i < len(self._index) else int(self._index[-1]) + 1

    def _time(self, i: int) -> float:
        if i < len(self._t_s):
            return float(self._t_s[i])
        return float(self._t_s[-1]) + (i - len(self._t_s) + 1) * self._interval_s


def _span(options: ReplayOptions, movie: Movie) -> tuple[int, int]:
    """Return the first frame and the one after the last; the torn part counts as one frame."""
    n = movie.n_frames
    if movie.torn:
        n = max(movie.n_expected, movie.n_frames + 1)
    stop = n if options.stop is None else min(options.stop, n)
    if options.start >= stop:
        raise SourceError(
            f"{movie.path}: nothing between start {options.start} and stop {stop} of {n}"
        )
    return options.start, stop


def _indices(movie: Movie) -> NDArray[np.int64]:
    return movie.index if movie.index is not None else np.arange(movie.n_frames, dtype=np.int64)


def _interval(options: ReplayOptions, movie: Movie) -> float:
    if options.times == "file" and movie.nominal_s > 0:
        return movie.nominal_s
    if options.times == "file" and movie.t_s is not None and len(movie.t_s) > 1:
        steps = np.diff(movie.t_s) / np.diff(_indices(movie)[: len(movie.t_s)])
        if (median_s := float(np.median(steps))) > 0:
            return median_s
    if options.times == "file" and movie.interval_s > 0:
        return movie.interval_s
    if options.interval_s is None:
        raise SourceError(
            f"{movie.path}: the file does not tell the time between its frames: "
            "give interval_s (--frame-ms)"
        )
    return options.interval_s


def _times(
    options: ReplayOptions, movie: Movie, index: NDArray[np.int64], interval_s: float
) -> NDArray[np.float64]:
    if options.times == "file" and movie.t_s is not None:
        return movie.t_s
    return index.astype(np.float64) * interval_s


def _exposure(options: ReplayOptions, movie: Movie, interval_s: float) -> float:
    exposure_s = options.exposure_s
    if exposure_s is None:
        return min(movie.exposure_s or interval_s, interval_s)
    if exposure_s > interval_s * (1 + 1e-9):
        raise SourceError(
            f"{movie.path}: exposure_s {exposure_s:g} is longer than the {interval_s:g} s interval"
        )
    return min(exposure_s, interval_s)


def _as_uint16(adu: NDArray) -> NDArray[np.uint16] | None:
    """Return the counts as read-only native uint16, or None if they are none."""
    if adu.dtype.kind != "u" or adu.dtype.itemsize > 2:
        return None
    adu = np.ascontiguousarray(adu, dtype=np.uint16)
    adu = adu.view(np.ndarray)
    adu.flags.writeable = False
    return adu
