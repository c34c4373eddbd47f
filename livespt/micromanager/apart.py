"""A ride-along whose analysis runs in a process of its own.

Python runs one thread of a process at a time. Analysis in the process of a fast acquisition takes
from it what its engine needs, however many cores there are (decision 52). Here the acquisition's
process only copies each image into shared memory; everything else happens in the other one
(`livespt.micromanager.process`), and what comes of it is reported back.
"""

from __future__ import annotations

import io
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from livespt.core import CameraFacts
from livespt.micromanager import messages
from livespt.micromanager.lane import make_lane
from livespt.micromanager.riding import Riding
from livespt.micromanager.sender import Sender
from livespt.pipeline import Counters
from livespt.results import RunResult
from livespt.sections import Config
from livespt.sources.base import SourceError
from livespt.types import Estimates, LivesptError

#: Bytes of a pixel in the lane; smaller ones fit as well.
_PIXEL = 2


class RunApart:
    """One run of a `RideApart`, as it was last reported.

    Parameters
    ----------
    name : str
        Of its place.
    order : callable
        Sends an order to the process.
    """

    def __init__(self, name: str, order: Callable[[str, str], None]) -> None:
        self._name, self._order = name, order
        self._now = messages.Run(name, "", True, (0, 0, 0, 0, 0, 0, 0, 0.0), b"")
        self._end: messages.Finished | None = None
        self._ended = threading.Event()

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path(self._now.folder)

    @property
    def estimates(self) -> Estimates | None:
        """The newest answer that was reported; None before the first."""
        return messages.unpack_estimates(self._now.estimates)

    @property
    def counters(self) -> Counters:
        """What was counted so far: frames in, processed, shed, missing; spots and tracks."""
        return Counters(*self._now.counters)

    @property
    def running(self) -> bool:
        """Whether the run, its final pass included, still goes on."""
        return not self._ended.is_set()

    def stop(self) -> None:
        """End the stream in good order; the final pass still runs. Any thread may call."""
        self._order("stop", self._name)

    def result(self, timeout_s: float | None = None) -> RunResult:
        """Wait for the run's end and return its answer.

        Raises
        ------
        TimeoutError
            It still goes on after `timeout_s`.
        LivesptError
            It failed as a whole, or its process has ended.
        """
        if not self._ended.wait(timeout_s):
            raise TimeoutError(f"{self.folder}: the run still goes on after {timeout_s:g} s")
        end = self._end
        assert end is not None
        if end.result is None:
            raise LivesptError(end.why)
        return end.result

    def close(self) -> None:
        """Stop, and wait for the final pass."""
        self.stop()
        self._ended.wait()

    def hear(self, report: messages.Run | messages.Finished) -> None:
        """Take what was reported of it."""
        if isinstance(report, messages.Run):
            self._now = report
        elif self._end is None:
            self._end = report
            self._ended.set()


class RideApart(Riding[RunApart]):
    """Runs in a process of their own, and the hooks that feed them; else as `Ride`.

    Parameters
    ----------
    config : Config
    origin : str
        Where the config came from, for messages.
    facts : CameraFacts
    interval_s : float
        Time between frames of one place.
    per : tuple of str
        Axes, each value of which gets a run of its own.
    options : mapping
        Of `RideAlong`: `axes`, `ring_frames`.
    notes : tuple of str
        What somebody should know; told when a run begins.

    Raises
    ------
    LivesptError
        The config and the camera do not fit, or the process could not be started.
    """

    def __init__(
        self,
        config: Config,
        origin: str,
        facts: CameraFacts,
        *,
        interval_s: float,
        per: tuple[str, ...],
        options: Mapping[str, Any],
        notes: tuple[str, ...],
    ) -> None:
        self._runs: dict[str, RunApart] = {}
        self._split = bool(per)
        self._taken = messages.Ride(0, 0)
        self._over, self._why = threading.Event(), ""
        self._first: queue.SimpleQueue[messages.Report | None] = queue.SimpleQueue()
        lane, keep = make_lane(facts.shape[0] * facts.shape[1] * _PIXEL)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)
        self._process = _start(keep, self._errors)
        self._sender = Sender(lane, self._process.stdin)
        super().__init__(self._sender)
        if not per:
            self._runs[""] = RunApart("", self._sender.order)
        self._sender.open(
            messages.Open(config, origin, lane.spec, facts, interval_s, per, dict(options), notes)
        )
        self._reader = threading.Thread(target=self._read, name="livespt-reports", daemon=True)
        self._reader.start()
        try:
            self._await_ready()
        except BaseException:
            self.close()
            raise

    # --- what comes of it --------------------------------------------------------------------

    @property
    def runs(self) -> dict[str, RunApart]:
        """The runs by the names of their places; one run without a split has the name ""."""
        return dict(self._runs)

    @property
    def n_shed(self) -> int:
        """Images that analysis skipped, of all places."""
        return self._taken.n_shed + self._sender.n_skipped

    @property
    def n_passed(self) -> int:
        """Images of other channels or places, which passed by."""
        return self._taken.n_passed

    def results(self, timeout_s: float | None = None) -> dict[str, RunResult]:
        """Wait for all runs and return their answers, by the names of their places.

        Raises
        ------
        TimeoutError
            One goes on after `timeout_s`, or the acquisition is not over.
        LivesptError
            A run failed as a whole, or could not be opened; or the process has ended.
        """
        if self._split and not self._over.wait(timeout_s):
            raise TimeoutError(f"the acquisition still goes on after {timeout_s:g} s")
        if self._why:
            raise LivesptError(self._why)
        return {name: run.result(timeout_s) for name, run in self.runs.items()}

    def stop(self) -> None:
        """Take no more images; all runs end in good order. The acquisition goes on."""
        self._sender.order("stop")

    def end(self) -> None:
        """Say that the acquisition is over: what waits is still analysed, then the runs end."""
        self._saved.end()
        self._sender.end()

    def close(self) -> None:
        """`end`, wait for the final passes, and let go of everything."""
        self._disconnect()
        self.end()
        self._reader.join()
        self._process.wait()
        for file in (self._process.stdin, self._errors):
            assert file is not None
            file.close()

    # --- the other process -------------------------------------------------------------------

    def _await_ready(self) -> None:
        first = self._first.get()
        if isinstance(first, messages.Refused):
            raise _kinds().get(first.kind, LivesptError)(first.why)
        if first is None:
            raise LivesptError(self._why)

    def _read(self) -> None:
        """Hear the process to its end; each report on this thread."""
        with io.BufferedReader(self._process.stdout) as stream:  # type: ignore[arg-type]
            while (report := messages.read_report(stream)) is not None:
                self._hear(report)
        if not self._over.is_set():
            self._why = f"the process of the analysis has ended{self._last_words()}"
            for run in self._runs.values():
                run.hear(messages.Finished("", None, self._why))
        self._over.set()
        self._first.put(None)

    def _hear(self, report: messages.Report) -> None:
        if isinstance(report, messages.Run | messages.Finished):
            if report.name not in self._runs:
                self._runs[report.name] = RunApart(report.name, self._sender.order)
            self._runs[report.name].hear(report)
        elif isinstance(report, messages.Ride):
            self._taken = report
        elif isinstance(report, messages.Ended):
            self._why = report.why
            self._over.set()
        else:
            self._first.put(report)

    def _last_words(self) -> str:
        """Return how it ended, and the last line that it printed."""
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return f" ({code})" + (f": {lines[-1][:200]}" if lines else "")


def _start(keep: tuple[int, ...], errors: Any) -> subprocess.Popen[bytes]:
    """Start the process in a group of its own, so that Ctrl-C does not end it."""
    command = [sys.executable, "-P", "-m", "livespt.micromanager.process"]
    flags = 0
    if sys.platform == "win32":
        flags = (
            subprocess.CREATE_NEW_PROCESS_GROUP
            | subprocess.CREATE_NO_WINDOW
            | subprocess.BELOW_NORMAL_PRIORITY_CLASS
        )
    try:
        return subprocess.Popen(
            command,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            pass_fds=keep,
            creationflags=flags,
            start_new_session=sys.platform != "win32",
        )
    except (OSError, TypeError) as error:  # no Python to be found, where one is built in
        raise SourceError(
            f"ride-along: no process for the analysis ({error}): apart = False does without"
        ) from None
    finally:
        for fd in keep:
            os.close(fd)


def _kinds() -> dict[str, type[LivesptError]]:
    """Return the errors of livespt by their names."""

    def below(kind: type[LivesptError]) -> Iterator[type[LivesptError]]:
        yield kind
        for one in kind.__subclasses__():
            yield from below(one)

    return {kind.__name__: kind for kind in below(LivesptError)}
