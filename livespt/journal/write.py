"""The journal: everything a run answers, on disk within 50 ms, whatever happens afterwards.

`append` copies one frame's rows into memory and returns. A thread seals and writes all that has
gathered every `TICK_S`; where that thread is late, `append` itself writes as soon as a row is
`MAX_AGE_S` old. So a killed process loses at most what it appended in its last 50 ms, and every
row before that is whole in a file, checked by its seal. A second thread asks the system once a
second to bring the files to the disk proper (`fdatasync`), which guards against a power cut.

The journal never drops. While the disk refuses, rows wait in memory and the write is tried again;
beyond `BACKLOG_BYTES` the next `append` raises, and the run can end in good order.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from livespt.camera import Camera
from livespt.journal import streams
from livespt.journal.appender import Appender
from livespt.journal.folder import (
    CONFIG_FILE,
    RUN_FILE,
    JournalError,
    Lock,
    describe_run,
    make_folder,
    now,
    reason,
    write_json,
    write_whole,
)
from livespt.types import Estimates, Event, Links, SourceInfo, Spots

SUMMARY_FILE = "summary.json"
TICK_S = 0.015
MAX_AGE_S = 0.04
SYNC_S = 1.0
RETRY_S = 0.25
BACKLOG_BYTES = 128 << 20
_NEVER = float("inf")


class Journal:
    """Write one run into a folder of its own; a context manager.

    Parameters
    ----------
    folder : path
        Where run folders are made.
    config_toml : str
        The config as it was used, kept as ``config.toml``.
    info : SourceInfo
    name : str
        Part of the folder's name; the source's name if empty.
    camera : Camera, optional
        Its kind, scalars and a hash of its values go into ``run.json``.
    rotate_mb : float
        A stream goes on in another file beyond this size.
    n_states : int
        Columns for so many motion states, where their number may change during the run; 0: it
        stays as in the first frame.

    Attributes
    ----------
    folder : Path
        The run folder.
    trouble : str
        Why the disk does not take the rows at the moment; "" while it does.

    Raises
    ------
    JournalError
        The folder cannot be made or written; nothing is left behind then.
    """

    def __init__(
        self,
        folder: str | Path,
        config_toml: str,
        info: SourceInfo,
        *,
        name: str = "",
        camera: Camera | None = None,
        rotate_mb: float = 256.0,
        n_states: int = 0,
    ) -> None:
        self._n_states = n_states
        self.folder = make_folder(Path(folder), name or info.name)
        self.trouble = ""
        self._about = describe_run(name or info.name, info, camera)
        self._rotate_bytes = rotate_mb * 1e6
        self._rows: dict[str, list[NDArray[np.void]]] = defaultdict(list)
        self._answers: list[streams.Answer] = []
        self._rows_lock = threading.Lock()  # held for microseconds
        self._disk_lock = threading.Lock()  # held while encoding and writing
        self._oldest_s = self._writing_s = _NEVER  # of the rows gathered, and being written
        self._retry_s = 0.0
        self._broken: BaseException | None = None
        self._appenders: dict[str, Appender] = {}
        self._closing = threading.Event()
        self._lock = self._begin(config_toml)
        for stream, dtype in streams.known_dtypes(n_states).items():
            self._appender(stream, dtype)  # now: it takes as long as some frames do
        self._threads = [
            threading.Thread(target=self._every, args=job, name="journal", daemon=True)
            for job in ((TICK_S, self._tick), (SYNC_S, self._sync))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def n_bytes(self) -> int:
        """Bytes of rows that the disk has taken."""
        return sum(appender.n_bytes for appender in list(self._appenders.values()))

    @property
    def n_rows(self) -> dict[str, int]:
        """Rows that the disk has taken, by stream."""
        written = sorted(self._appenders.items())
        return {name: appender.n_rows for name, appender in written if appender.n_rows}

    def append(
        self, spots: Spots, links: Links, estimates: Estimates, latency_ms: float = 0.0
    ) -> None:
        """Write down one frame's answer.

        Raises
        ------
        JournalError
            The three do not belong together, the journal is closed, or the disk has refused
            for so long that `BACKLOG_BYTES` wait.
        """
        began_s = time.monotonic()
        if not spots.frame == links.frame == estimates.frame:
            frames = f"{spots.frame}, {links.frame}, {estimates.frame}"
            raise JournalError(f"{self.folder}: spots, links, estimates of frames {frames}")
        if len(links.track_id) != len(spots.table):
            n, m = len(spots.table), len(links.track_id)
            raise JournalError(f"{self.folder}: frame {spots.frame}: {n} spots and {m} links")
        answer = streams.answer_of(spots, links, estimates, latency_ms, self._n_states)
        self._check()
        with self._rows_lock:
            self._answers.append(answer)
        self._hold(began_s)

    def event(self, event: Event) -> None:
        """Write down one event."""
        self._add({"events": streams.event_row(event)}, time.monotonic())

    def counters(self, *, t_s: float, **values: float) -> None:
        """Write down counters by name."""
        self._add({"counters": streams.counter_rows(t_s, values)}, time.monotonic())

    def commit(self) -> None:
        """Bring all rows to the disk before returning.

        Raises
        ------
        JournalError
            The disk refuses; the rows still wait, and a later commit may succeed.
        """
        self._check()
        self._flush(force=True)
        if self.trouble:
            raise JournalError(f"{self.folder}: cannot be written: {self.trouble}")
        try:
            self._sync()
        except OSError as error:
            raise JournalError(f"{self.folder}: cannot be written: {reason(error)}") from None

    def close(self, summary: Mapping[str, Any] | None = None) -> None:
        """Commit, end every segment, and say in `run.json` that the run is over.

        Without a `summary` its status is "stopped" instead of "finished". A second call does
        nothing.

        Raises
        ------
        JournalError
            The disk refuses, or rows could not be written earlier; the folder is left for
            `recover`.
        """
        if self._closing.is_set():
            return
        self._closing.set()
        for thread in self._threads:
            thread.join()
        try:
            self._finish(summary)  # raises what the disk refuses
        except OSError as error:
            raise JournalError(f"{self.folder}: cannot be written: {reason(error)}") from None
        finally:
            for appender in self._appenders.values():
                appender.close()
            self._lock.release()

    def discard(self) -> None:
        """Close, and remove the folder: nothing came of the run that it was made for."""
        with contextlib.suppress(JournalError):
            self.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
            return
        with contextlib.suppress(JournalError):  # what went wrong first says more
            self.close()

    def _begin(self, config_toml: str) -> Lock:
        """Write the first files; the lock comes first, so that nobody recovers a live run."""
        lock = None
        try:
            lock = Lock(self.folder)
            write_whole(self.folder / CONFIG_FILE, config_toml.encode())
            write_json(self.folder / RUN_FILE, self._about)
        except OSError as error:
            if lock is not None:
                lock.release()
            shutil.rmtree(self.folder, ignore_errors=True)
            raise JournalError(f"journal.folder: {self.folder}: {reason(error)}") from None
        return lock

    def _finish(self, summary: Mapping[str, Any] | None) -> None:
        try:
            self._flush(force=True)
        except JournalError as error:
            self._broken = self._broken or error
        with self._disk_lock:
            for appender in self._appenders.values():
                appender.end_segment()
                appender.drain()
        self._sync()
        self._tell_broken()  # rows were lost: the folder is not called finished
        if summary is not None:
            write_json(self.folder / SUMMARY_FILE, summary)
        status = "stopped" if summary is None else "finished"
        about = {**self._about, "status": status, "ended": now(), "rows": self.n_rows}
        write_json(self.folder / RUN_FILE, about)

    def _add(self, rows: dict[str, NDArray[np.void]], began_s: float) -> None:
        """Gather rows handed over at `began_s`; return only when none waits for too long."""
        self._check()
        with self._rows_lock:
            for name, table in rows.items():
                if len(table):
                    self._rows[name].append(table)
        self._hold(began_s)

    def _hold(self, began_s: float) -> None:
        """Note that something waits since `began_s`; return only when nothing waits too long."""
        with self._rows_lock:
            self._oldest_s = min(self._oldest_s, began_s)
            oldest_s = min(self._oldest_s, self._writing_s)
        if time.monotonic() - oldest_s > MAX_AGE_S:
            with self._disk_lock:
                pass  # the thread's write, if that is what takes so long
            if time.monotonic() - self._oldest_s > MAX_AGE_S:
                self._flush()

    def _check(self) -> None:
        if self._closing.is_set():
            raise JournalError(f"{self.folder}: the journal is closed")
        self._tell_broken()
        waiting = sum(appender.waiting_bytes for appender in list(self._appenders.values()))
        if waiting > BACKLOG_BYTES:
            mb = waiting / 1e6
            raise JournalError(f"{self.folder}: {self.trouble}; {mb:.0f} MB wait to be written")

    def _tell_broken(self) -> None:
        if isinstance(self._broken, JournalError):
            raise self._broken
        if self._broken is not None:
            raise JournalError(f"{self.folder}: writing failed: {self._broken!r}")

    def _flush(self, *, force: bool = False) -> None:
        """Encode all that has gathered, and write it unless the disk has just refused."""
        with self._disk_lock:
            with self._rows_lock:
                rows, self._rows = self._rows, defaultdict(list)
                answers, self._answers = self._answers, []
                self._writing_s, self._oldest_s = self._oldest_s, _NEVER
            rows |= streams.answer_rows(answers)
            refused = None
            for name in streams.NAMES:
                try:
                    if tables := rows.get(name):
                        self._encode(name, tables)
                except JournalError as error:  # the other streams' rows are not lost with it
                    refused = refused or error
            if force or time.monotonic() >= self._retry_s:
                self._drain()
            self._writing_s = _NEVER
            if refused is not None:
                raise refused

    def _encode(self, name: str, tables: list[NDArray[np.void]]) -> None:
        appender = self._appender(name, tables[0].dtype)
        if any(table.dtype != appender.dtype for table in tables):
            raise JournalError(f"{self.folder}: {name}: the columns changed during the run")
        appender.encode(tables[0] if len(tables) == 1 else np.concatenate(tables))

    def _appender(self, name: str, dtype: np.dtype) -> Appender:
        """Return what appends to a stream; its file begins with its first rows."""
        appender = self._appenders.get(name)
        if appender is None:
            appender = Appender(self.folder, name, dtype, self._rotate_bytes)
            self._appenders[name] = appender
        return appender

    def _drain(self) -> None:
        try:
            for name in streams.NAMES:
                if name in self._appenders:
                    self._appenders[name].drain()
        except OSError as error:
            self.trouble = reason(error)
            self._retry_s = time.monotonic() + RETRY_S
        else:
            self.trouble = ""
            self._retry_s = 0.0

    def _every(self, interval_s: float, job: Any) -> None:
        while not self._closing.wait(interval_s):
            try:
                job()
            except BaseException as error:  # noqa: BLE001 (told by the next append)
                self._broken = error
                return

    def _tick(self) -> None:
        if self._oldest_s < _NEVER or self.trouble:
            self._flush()

    def _sync(self) -> None:
        """Bring the files to the disk proper; the handles are copies, nobody waits for them."""
        with self._disk_lock:
            appenders = list(self._appenders.values())
            handles = [os.dup(a.handle) for a in appenders if a.handle is not None]
            for appender in appenders:
                handles += appender.retired
                appender.retired = []
        failed = None
        for handle in handles:
            try:
                sync_data(handle)
            except OSError as error:
                failed = error
            os.close(handle)
        if failed is not None:
            raise failed


def sync_data(handle: int) -> None:
    """Bring one file's data to the disk (Windows has only the stronger call)."""
    getattr(os, "fdatasync", os.fsync)(handle)
