"""What analysis holds of the guard: it asks and beats, and never waits for the device."""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from livespt.control.channel import Channel
from livespt.control.errors import ControlError
from livespt.control.limits import Limits
from livespt.control.messages import (
    MAX_WHY,
    Arm,
    Ask,
    Beat,
    Close,
    Disarm,
    Done,
    FromGuard,
    Message,
    Open,
    Opened,
    Status,
)
from livespt.control.status import GuardStatus
from livespt.sections import ActuatorConfig, TightenConfig

#: Loading a core takes seconds on a slow disk.
OPEN_S = 60.0
ANSWER_S = 2.0
#: A guard that has said nothing for so long is not to be relied on.
SILENT_S = 1.0

_NOTHING = GuardStatus(0.0, 0.0, 0.0, "idle", (), 0, 0.0, 0.0)


class GuardHandle:
    """The guard's process, and what it last said.

    Opening starts the process, which opens the device and reads it; nothing is written before
    `arm`. Whatever ends this process, or this object, takes the light to its safe value.

    Parameters
    ----------
    actuator : ActuatorConfig
    tighten : TightenConfig, optional
        A run's own limits, narrower than the machine's.
    folder : Path, optional
        Where `control.jsonl` is written; a real actuator needs it.

    Attributes
    ----------
    limits : Limits
        Those in force.
    real : bool
        Whether light comes out.

    Raises
    ------
    ControlError
        No such actuator, device or property, no or bad limits, the wrong unit; the message names
        the key.
    """

    limits: Limits
    real: bool

    def __init__(
        self,
        actuator: ActuatorConfig,
        *,
        tighten: TightenConfig | None = None,
        folder: Path | None = None,
    ) -> None:
        self._status = _NOTHING
        self._heard_s = time.monotonic()
        self._gone = ""  # why the guard is no more
        self._closed = False
        self._lock = threading.Lock()
        self._answers: queue.SimpleQueue[Opened | Done] = queue.SimpleQueue()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)
        self._process = _start(self._errors)
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        ends = os.dup(stdout.fileno()), os.dup(stdin.fileno())  # the channel's own, to close
        stdin.close()
        stdout.close()
        self._channel = Channel(*ends, FromGuard, self._hear, self._lost)
        try:
            where = "" if folder is None else str(Path(folder).resolve())
            opened = self._call(Open(actuator, tighten or TightenConfig(), where), OPEN_S)
            assert isinstance(opened, Opened)
            self.limits, self.real = opened.limits, opened.real
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def status(self) -> GuardStatus:
        """How things stand, as the guard last said it; at once."""
        status = self._status
        if self._gone:
            faults = status.faults if self._closed else (*status.faults, f"guard: {self._gone}")
            return status._replace(state="ended", faults=faults)
        silent_s = time.monotonic() - self._heard_s
        if silent_s > SILENT_S:
            why = f"guard: silent for {silent_s:.1f} s"
            return status._replace(state="fault", faults=(*status.faults, why))
        return status

    @property
    def pid(self) -> int:
        """The guard's process."""
        return self._process.pid

    def arm(self) -> None:
        """Let the guard obey from now on; clears its faults.

        Raises
        ------
        ControlError
            It refuses, and says why; or it is no more.
        """
        self._call(Arm(), ANSWER_S)

    def ask(self, power: float, why: str) -> None:
        """Wish for a power, in `limits.power_unit`; the newest wish holds."""
        self._channel.send(Ask(float(power), why[:MAX_WHY]), newest=True)

    def beat(self, newest_frame_s: float) -> None:
        """Say that analysis lives, and when its newest good data came (`time.monotonic`)."""
        self._channel.send(Beat(float(newest_frame_s)), newest=True)

    def disarm(self) -> None:
        """Let the light go to its safe value, and the guard obey no more.

        Raises
        ------
        ControlError
            The guard is no more.
        """
        self._call(Disarm(), ANSWER_S)

    def close(self) -> None:
        """Let the light go to its safe value, and end the guard; further calls do nothing."""
        if self._closed:
            return
        self._closed = not self._gone
        with contextlib.suppress(ControlError):
            if not self._gone:
                self._call(Close(), ANSWER_S)
        self._channel.close()
        if self._channel.join(ANSWER_S):
            with contextlib.suppress(subprocess.TimeoutExpired):  # it ends when it has
                self._process.wait(ANSWER_S)
        self._errors.close()

    # --- the conversation --------------------------------------------------------------------

    def _call(self, message: Message, timeout_s: float) -> Opened | Done:
        """Send, and wait for the answer."""
        with self._lock:
            while not self._answers.empty():  # an answer that came too late
                self._answers.get()
            if self._gone:
                raise ControlError(f"guard: {self._gone}")
            self._channel.send(message)
            try:
                answer = self._answers.get(timeout=timeout_s)
            except queue.Empty:
                raise ControlError(f"guard: no answer within {timeout_s:g} s") from None
        if isinstance(answer, Done) and answer.why:
            raise ControlError(answer.why)
        return answer

    def _hear(self, message: Any) -> None:
        self._heard_s = time.monotonic()
        if isinstance(message, Status):
            self._status = message.now
        else:
            self._answers.put(message)

    def _lost(self, why: str) -> None:
        """Note that the guard has ended, and wake who waits for it."""
        self._gone = f"its process has ended ({why}){self._last_words()}"
        self._answers.put(Done(f"guard: {self._gone}"))

    def _last_words(self) -> str:
        """Return the last line that the process printed."""
        with contextlib.suppress(OSError, ValueError):
            self._errors.seek(0)
            lines = self._errors.read().decode(errors="replace").strip().splitlines()
            return f": {lines[-1][:200]}" if lines else ""
        return ""


def _start(errors: Any) -> subprocess.Popen[bytes]:
    """Start the process in a group of its own, so that Ctrl-C does not end it."""
    command = [sys.executable, "-P", "-m", "livespt.control.process"]
    flags = 0
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
    return subprocess.Popen(
        command,
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        creationflags=flags,
        start_new_session=sys.platform != "win32",
    )
