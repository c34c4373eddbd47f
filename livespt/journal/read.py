"""Reading a run folder: finished, cut off, or still being written.

Each segment is read up to its last whole message; what could not be read is named in `problems`
and never passed over in silence. Streams are read when they are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from livespt.journal import streams
from livespt.journal.columns import concatenate, rows_of
from livespt.journal.folder import CONFIG_FILE, JournalError, read_run_file, reason
from livespt.journal.segment import Scan, read_batches, scan_file
from livespt.types import SPOT_DTYPE, Event, Links, Model, Spots

_EMPTY = {
    "spots": streams.SPOTS,
    "links": streams.LINKS,
    "ended": streams.ENDED,
    "revised": streams.REVISED,
    "frames": streams.FRAMES,
    "events": streams.EVENTS,
    "counters": streams.COUNTERS,
    "estimates": streams.estimates_dtype(1),
    "models": streams.models_dtype(1, 1),
}


def read_run(folder: str | Path) -> Run:
    """Open a run folder for reading.

    Raises
    ------
    JournalError
        It is no run folder, or one of a later version.
    """
    return Run(Path(folder))


def segments(folder: Path, stream: str) -> list[Path]:
    """Return the files of one stream in order."""
    return sorted(folder.glob(f"{stream}-[0-9][0-9][0-9][0-9]*.arrows"))


class Run:
    """What a run folder holds; each stream a structured array (see `livespt.journal.streams`).

    Attributes
    ----------
    folder : Path
    about : dict
        What ``run.json`` says.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.about: dict[str, Any] = read_run_file(folder)

    @property
    def status(self) -> str:
        """One of "running" (also after a kill), "finished", "stopped" and "recovered"."""
        return str(self.about["status"])

    @cached_property
    def config(self) -> str:
        """The config of the run, as TOML."""
        try:
            return (self.folder / CONFIG_FILE).read_text(encoding="utf-8")
        except OSError as error:
            raise JournalError(f"{self.folder / CONFIG_FILE}: {reason(error)}") from None

    @cached_property
    def spots(self) -> NDArray[np.void]:
        """All fits: `frame`, `t_s` and the fields of `SPOT_DTYPE`."""
        return self.rows("spots")

    @cached_property
    def links(self) -> NDArray[np.void]:
        """The track of each fit as it was first told; row by row beside `spots`.

        `linked` has the tracks as they were revised later.
        """
        return self.rows("links")

    @cached_property
    def revised(self) -> NDArray[np.void]:
        """Fits that were given to another track in a later frame, in order of telling."""
        return self.rows("revised")

    @cached_property
    def ended(self) -> NDArray[np.void]:
        """The tracks given up, and when."""
        return self.rows("ended")

    @cached_property
    def estimates(self) -> NDArray[np.void]:
        """The filtered state of each track in each frame."""
        return self.rows("estimates")

    @cached_property
    def models(self) -> NDArray[np.void]:
        """The pooled answer after each frame."""
        return self.rows("models")

    @cached_property
    def frames(self) -> NDArray[np.void]:
        """All frames that were analysed, also those without spots."""
        return self.rows("frames")

    @cached_property
    def counters(self) -> NDArray[np.void]:
        """Counters by moment and name."""
        return self.rows("counters")

    @cached_property
    def events(self) -> list[Event]:
        """All events in order."""
        return [Event(*row) for row in self.rows("events").tolist()]

    def model(self, row: int = -1) -> Model:
        """Return the pooled answer of one row of `models`, the last unless told."""
        if not len(self.models):
            raise JournalError(f"{self.folder}: holds no model")
        return streams.model_of(self.models[row])

    def batches(self, stream: str) -> Iterator[pa.RecordBatch]:
        """Yield a stream's record batches, one in memory at a time."""
        if stream not in streams.NAMES:
            raise JournalError(f"no stream '{stream}' (known: {', '.join(streams.NAMES)})")
        for path in segments(self.folder, stream):
            yield from read_batches(path)

    def rows(self, stream: str) -> NDArray[np.void]:
        """Return a stream as one structured array."""
        return concatenate(list(self.tables(stream)), _EMPTY[stream])

    def tables(self, stream: str) -> Iterator[NDArray[np.void]]:
        """Yield a stream's rows, one batch in memory at a time."""
        for batch in self.batches(stream):
            rows = rows_of(batch)
            yield streams.completed(stream, rows)

    def scan(self) -> dict[str, list[tuple[Path, Scan]]]:
        """Walk every segment and say what is in it."""
        return {
            stream: [(path, scan_file(path)) for path in segments(self.folder, stream)]
            for stream in streams.NAMES
        }

    def problems(self) -> list[str]:
        """Say in one line each what could not be read; empty for a run in good order.

        The open ends of a run that is still being written are none.
        """
        found = []
        scans_by_stream = self.scan()
        for scans in scans_by_stream.values():
            for number, (path, scan) in enumerate(scans):
                found += _problems(path, scan, number, live=self.status == "running")
            found += _gaps(scans)
        return found + self._missing_rows(scans_by_stream)

    def _missing_rows(self, scans: dict[str, list[tuple[Path, Scan]]]) -> list[str]:
        """Hold what can be read against what `run.json` says was written."""
        found = []
        for stream, expected in self.about.get("rows", {}).items():
            rows = sum(scan.rows for _, scan in scans.get(stream, []))
            if rows != expected:
                found.append(f"{self.folder}: {stream}: {rows} of {expected} rows can be read")
        return found

    def linked(self) -> tuple[NDArray[np.void], NDArray[np.void]]:
        """Return `spots` and `links`, revised, row by row beside each other, whole frames only.

        The streams themselves need not be of one length in a damaged folder: where a batch of
        one is lost, its frames are left out of both here.
        """
        numbers, expected = self.frames["frame"], self.frames["n_spots"]
        whole = numbers
        for stream in (self.spots, self.links):
            found, counts = np.unique(stream["frame"], return_counts=True)
            here = np.zeros(len(numbers), np.int64)
            _, left, right = np.intersect1d(numbers, found, return_indices=True)
            here[left] = counts[right]
            whole = np.intersect1d(whole, numbers[here == expected])
        spots, links = (rows[np.isin(rows["frame"], whole)] for rows in (self.spots, self.links))
        return spots, _revise(links, self.revised)

    def iter_spots(self) -> Iterator[tuple[Spots, Links]]:
        """Yield each frame as the linker and the filter had it, for exact replays.

        Ends with the last frame of which every row can be read.
        """
        names = ("spots", "links", "ended", "revised")
        spots, links, ended, revised = (_Cursor(self, name) for name in names)
        for batch in self.tables("frames"):
            for row in batch:
                frame, n = int(row["frame"]), int(row["n_spots"])
                found, linked = spots.take(frame), links.take(frame)
                if len(found) != n or len(linked) != n:
                    return
                yield (
                    _spots(row, found),
                    _links(frame, linked, ended.take(frame), revised.take(frame)),
                )


class _Cursor:
    """Walks a stream in step with the frames."""

    def __init__(self, run: Run, stream: str) -> None:
        self._batches = run.tables(stream)
        self._turn_to(np.empty(0, _EMPTY[stream]))

    def _turn_to(self, rows: NDArray[np.void]) -> None:
        self._rows, self._at = rows, 0
        self._frames: NDArray[np.int64] = rows["frame"]

    def take(self, frame: int) -> NDArray[np.void]:
        """Return the rows of `frame` at the current place (none if another frame is next)."""
        parts = []
        while True:
            n = _leading(self._frames[self._at :], frame)
            parts.append(self._rows[self._at : self._at + n])
            self._at += n
            if self._at < len(self._rows) or not self._next():
                return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _next(self) -> bool:
        batch = next(self._batches, None)
        if batch is None:
            return False
        self._turn_to(batch)
        return True


def _leading(frames: NDArray[np.int64], frame: int) -> int:
    """Return how many of the (ascending) values at the front equal `frame`."""
    if not len(frames) or frames[0] != frame:
        return 0
    return int(np.searchsorted(frames, frame, side="right"))


def _spots(row: np.void, found: NDArray[np.void]) -> Spots:
    table = np.empty(len(found), SPOT_DTYPE)
    for name in SPOT_DTYPE.names or ():
        table[name] = found[name]
    exposure_s, excitation = float(row["exposure_s"]), float(row["excitation"])
    return Spots(int(row["frame"]), float(row["t_s"]), exposure_s, excitation, table)


def _links(
    frame: int, linked: NDArray[np.void], ended: NDArray[np.void], revised: NDArray[np.void]
) -> Links:
    track_id, p_link = linked["track_id"].copy(), linked["p_link"].copy()
    return Links(frame, track_id, p_link, ended["track_id"].copy(), streams.revisions_of(revised))


def _revise(links: NDArray[np.void], revised: NDArray[np.void]) -> NDArray[np.void]:
    """Return `links` with the later word on each fit; of several the last one holds."""
    first = np.searchsorted(links["frame"], revised["of_frame"])
    at = first + revised["row"]
    known = at < len(links)
    known[known] = links["frame"][at[known]] == revised["of_frame"][known]
    at, revised = at[known], revised[known]
    links = links.copy()
    _, last = np.unique(at[::-1], return_index=True)
    for name in ("track_id", "p_link"):
        links[name][at[::-1][last]] = revised[name][::-1][last]
    return links


def _problems(path: Path, scan: Scan, number: int, *, live: bool) -> list[str]:
    found = []
    if f"-{number:04d}.arrows" not in path.name:
        found.append(f"{path}: expected segment {number:04d} here; one is missing")
    if scan.torn_bytes:
        rows = f" ({scan.torn_rows} rows)" if scan.torn_rows else ""
        found.append(f"{path}: unreadable after byte {scan.good_bytes}{rows}")
    elif not scan.closed and not live:
        found.append(f"{path}: ends without its end mark; batches may be missing")
    return found


def _gaps(scans: list[tuple[Path, Scan]]) -> list[str]:
    """Find batches that are missing between segments by their running number."""
    found = []
    expected = 0
    for path, scan in scans:
        if not scan.batches:
            continue
        if scan.batches[0].number != expected + 1:
            missing = scan.batches[0].number - expected - 1
            found.append(f"{path}: {missing} messages are missing before it")
        expected = scan.batches[-1].number + 1
    return found
