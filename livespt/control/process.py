"""The guard's process: ``python -m livespt.control.process``, started by a `GuardHandle`.

It hears analysis on its standard input and answers on its standard output. The end of its input is
the end of analysis, whatever ended it: then the light goes to its safe value and the process ends.
It reads the machine's limits itself, so that nothing that analysis says can widen them.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import sys
import time
from pathlib import Path
from typing import Any

from livespt.control.actuator import Actuator, open_actuator
from livespt.control.channel import Channel
from livespt.control.errors import ControlError
from livespt.control.guard import Guard
from livespt.control.limits import (
    Limits,
    check_range,
    check_unit,
    machine_limits,
    own_limits,
    tighten,
)
from livespt.control.log import FileLog, Log, NoLog
from livespt.control.messages import (
    Arm,
    Ask,
    Beat,
    Close,
    Disarm,
    Done,
    Message,
    Open,
    Opened,
    Status,
    ToGuard,
)
from livespt.pipes import own_pipes
from livespt.types import LivesptError

#: The guard looks so often at what it was told, at its clock and at the device.
TICK_S = 0.02
#: And says so often how things stand, changed or not.
STATUS_S = 0.1
#: How long an orphan goes on trying to reach the safe value.
ORPHAN_S = 60.0
_HIGH_PRIORITY_CLASS = 0x80


class _Hangup(Message, frozen=True, tag="hangup"):
    """Nothing more will be heard, and why."""

    why: str


class _Service:
    """One conversation: from `Open` to `Close`, or to the end of the input."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self.inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.channel = Channel(
            read_fd,
            write_fd,
            ToGuard,
            self.inbox.put,
            lambda why: self.inbox.put(_Hangup(why)),
        )
        self._ending = ""  # why
        self._asked = False  # whether somebody waits for the end
        self._until_s = 0.0

    def serve(self) -> None:
        """Open the device, obey, and leave the light safe."""
        first = self.inbox.get()
        if not isinstance(first, Open):
            return
        try:
            actuator, guard, log, answer = _open(first)
        except LivesptError as error:
            self.channel.send(Done(str(error)))
            return
        self.channel.send(Status(guard.status))
        self.channel.send(answer)
        try:
            self._obey(guard)
        finally:
            if guard.state == "armed":  # an error of our own: no time to ask where from
                guard.fail("guard", "an error of its own")
            actuator.close()
            log.close()

    def _obey(self, guard: Guard) -> None:
        said, said_s = guard.status, time.monotonic()
        while not self._ended(guard):
            self._hear(guard)
            guard.tick()
            now = guard.status
            if now.t_s - said_s >= STATUS_S or now[1:6] != said[1:6]:
                said, said_s = now, now.t_s
                self.channel.send(Status(now), newest=True)
        self.channel.send(Status(guard.status._replace(state="ended")), newest=True)
        if self._asked:
            self.channel.send(Done("; ".join(guard.status.faults) if guard.busy else ""))

    def _hear(self, guard: Guard) -> None:
        """Take what has come in; wait a tick for it where nothing has."""
        try:
            self._take(guard, self.inbox.get(timeout=TICK_S))
            for _ in range(self.inbox.qsize()):  # no more: the clock must have its turn
                self._take(guard, self.inbox.get_nowait())
        except queue.Empty:
            return

    def _take(self, guard: Guard, message: Message) -> None:
        match message:
            case Ask(power, why):
                guard.ask(power, why)
            case Beat(newest_s):
                guard.beat(newest_s)
            case Arm():
                self._answer(guard, guard.arm)
            case Disarm():
                self._answer(guard, guard.disarm)
            case Close():
                self._asked = True
                self._end(guard, "closed")
            case _Hangup(why):
                if guard.state == "armed":
                    guard.fail("analysis", why)
                self._end(guard, why)
            case _:
                guard.fail("message", f"'{type(message).__name__}' is not expected here")

    def _answer(self, guard: Guard, action: Any) -> None:
        try:
            action()
            why = ""
        except ControlError as error:
            why = str(error)
        self.channel.send(Status(guard.status), newest=True)
        self.channel.send(Done(why))

    def _end(self, guard: Guard, why: str) -> None:
        guard.disarm(why)
        if not self._ending:
            self._ending, self._until_s = why, time.monotonic() + ORPHAN_S

    def _ended(self, guard: Guard) -> bool:
        if not self._ending:
            return False
        return not guard.busy or time.monotonic() > self._until_s


def _open(first: Open) -> tuple[Actuator, Guard, Log, Opened]:
    """Open device, limits and log; write nothing."""
    actuator = open_actuator(first.actuator)
    try:
        limits = _limits(actuator, first)
        log = _open_log(actuator, first.folder)
        try:
            guard = Guard(actuator, limits, log)
        except Exception as error:  # noqa: BLE001 (drivers raise anything)
            raise ControlError(f"{actuator.property}: read: {error}") from None
        log.note("open", time.monotonic(), property=actuator.property, limits=limits)
    except BaseException:
        actuator.close()
        raise
    return actuator, guard, log, Opened(limits, actuator.real)


def _limits(actuator: Actuator, first: Open) -> Limits:
    own = actuator.own
    if own is None:
        limits = machine_limits(actuator.property)
    else:
        limits = own_limits(actuator.property, own, f"actuator '{first.actuator.kind}'")
    check_range(limits, *actuator.span)
    check_unit(limits, first.actuator.unit)
    return tighten(limits, first.tighten)


def _open_log(actuator: Actuator, folder: str) -> Log:
    if not folder:
        if actuator.real:
            raise ControlError(
                f"{actuator.property}: no run folder: what a real actuator writes must be logged"
            )
        return NoLog()
    try:
        return FileLog(Path(folder))
    except OSError as error:
        raise ControlError(f"{folder}: the control log cannot be opened: {error}") from None


def _go_first() -> None:
    """Be served before analysis on a busy machine, where the system allows it."""
    if sys.platform == "win32":
        import ctypes

        kernel = ctypes.windll.kernel32
        kernel.SetPriorityClass(kernel.GetCurrentProcess(), _HIGH_PRIORITY_CLASS)
    else:
        with contextlib.suppress(OSError):  # only the administrator may
            os.nice(-10)


def main() -> None:
    """Serve one analysis, and end with it."""
    _go_first()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for analysis, which then closes us
    service = _Service(*own_pipes())
    for name in ("SIGTERM", "SIGHUP", "SIGBREAK"):
        if number := getattr(signal, name, None):
            signal.signal(
                number, lambda *_: service.inbox.put(_Hangup("told to end by the system"))
            )
    service.serve()
    service.channel.close()


if __name__ == "__main__":
    main()
