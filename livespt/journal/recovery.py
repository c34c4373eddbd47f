"""Bring the folder of a run that was cut off back into good order.

Every segment keeps its whole messages and gets its end mark; what follows them is moved to a file
``<segment>.torn`` beside it, never thrown away. A folder in good order is left untouched, so that
`recover` may be run at any time, and again after it was itself interrupted.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from livespt.journal import streams
from livespt.journal.folder import (
    RUN_FILE,
    JournalError,
    Lock,
    now,
    read_run_file,
    reason,
    write_json,
    write_whole,
)
from livespt.journal.read import segments
from livespt.journal.segment import END, Scan, scan_file


class StreamReport(NamedTuple):
    """What became of one stream.

    Attributes
    ----------
    rows_kept : int
    rows_lost : int
        Rows that the torn part says it held, as far as it can be understood.
    torn_bytes : int
        Bytes set aside.
    torn_files : tuple of str
        Where they lie now, within the run folder.
    """

    rows_kept: int
    rows_lost: int
    torn_bytes: int
    torn_files: tuple[str, ...]


class RecoverReport(NamedTuple):
    """What `recover` found and did.

    Attributes
    ----------
    folder : Path
    was : str
        The run's status before.
    changed : bool
        False for a folder that was in good order.
    streams : dict of StreamReport
    """

    folder: Path
    was: str
    changed: bool
    streams: dict[str, StreamReport]

    def as_json(self) -> dict[str, Any]:
        """Return plain dicts and lists."""
        reports = {name: report._asdict() for name, report in self.streams.items()}
        return {**self._asdict(), "folder": str(self.folder), "streams": reports}


def recover(folder: str | Path) -> RecoverReport:
    """Make the run folder of a killed process readable to the last whole message.

    Raises
    ------
    JournalError
        It is no run folder, a live process still writes it, or the disk refuses (then what was
        not yet mended is as it was).
    """
    folder = Path(folder)
    about = read_run_file(folder)
    try:
        lock = Lock(folder)
        try:
            return _recover(folder, about)
        finally:
            lock.release()
    except OSError as error:
        raise JournalError(f"{folder}: cannot be recovered: {reason(error)}") from None


def _recover(folder: Path, about: dict[str, Any]) -> RecoverReport:
    was = str(about["status"])
    reports: dict[str, StreamReport] = {}
    changed = was == "running"
    for stream in streams.NAMES:
        scans = [(path, scan_file(path)) for path in segments(folder, stream)]
        if not scans:
            continue
        changed |= not all(scan.closed for _, scan in scans)
        torn = [_mend(path, scan) for path, scan in scans]
        reports[stream] = StreamReport(
            rows_kept=sum(scan.rows for _, scan in scans),
            rows_lost=sum(scan.torn_rows for _, scan in scans),
            torn_bytes=sum(scan.torn_bytes for _, scan in scans),
            torn_files=tuple(path.name for path in torn if path is not None),
        )
    report = RecoverReport(folder, was, changed, reports)
    if changed:
        write_json(folder / RUN_FILE, _noted(about, report))
    return report


def _noted(about: dict[str, Any], report: RecoverReport) -> dict[str, Any]:
    note = {"at": now(), "was": report.was, "streams": report.as_json()["streams"]}
    rows = {name: found.rows_kept for name, found in report.streams.items()}
    recoveries = [*about.get("recoveries", []), note]
    return {**about, "status": "recovered", "rows": rows, "recoveries": recoveries}


def _mend(path: Path, scan: Scan) -> Path | None:
    """Set a segment's torn end aside and give it its end mark; return where the torn end lies."""
    if scan.closed:
        return None
    aside = None
    if scan.torn_bytes:
        aside = _free_name(path)
        with path.open("rb") as file:
            file.seek(scan.good_bytes)
            write_whole(aside, file.read())
    if scan.schema is None:
        path.unlink()  # nothing in it could be read: all of it lies aside now
        return aside
    with path.open("r+b") as file:
        file.truncate(scan.good_bytes)
        file.seek(scan.good_bytes)
        file.write(END)
        file.flush()
        os.fsync(file.fileno())
    return aside


def _free_name(path: Path) -> Path:
    name = path.with_name(path.name + ".torn")
    n = 2
    while name.exists():
        name = path.with_name(f"{path.name}.torn{n}")
        n += 1
    return name
