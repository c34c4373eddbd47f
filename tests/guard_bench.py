"""A guard on the bench: a clock that is turned by hand, and a device that notes what it is told."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from livespt.control.guard import Guard
from livespt.control.limits import Limits

LIMITS = Limits(unit="V", min=0.1, max=10.0, safe=0.05, name="Laser.Voltage", origin="the bench")


class Write(NamedTuple):
    """One write as the device saw it."""

    t_s: float
    was: float
    value: float
    logged: float  # value that the log had last when it came


class Device:
    """A property that does as it is told, or not."""

    property, real, own = "Laser.Voltage", True, None
    span, resolution = (0.0, 20.0), 1e-4

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.value, self.reads, self.broken = 1.0, 1.0, False
        self.lag_s = 0.0  # until it reads what was written
        self.slow_s = 0.0  # time that each call takes
        self.dose, self._since_s = 0.0, bench.now_s
        self._old, self._turned_s = 1.0, -1e9

    def read(self) -> float:
        self.pass_time()
        settled = self.bench.now_s - self._turned_s >= self.lag_s
        return (self.value if settled else self._old) * self.reads

    def write(self, value: float) -> float:
        self.pass_time()
        bench = self.bench
        bench.writes.append(Write(bench.now_s, self.value, value, bench.logged))
        self._old, self._turned_s = self.value, bench.now_s
        self.value = value
        return value

    def close(self) -> None:
        """Nothing to let go of."""

    def pass_time(self) -> None:
        """Take the time of one call; the light goes on meanwhile."""
        self.bench.now_s += self.slow_s
        self.shine()
        if self.broken:
            raise OSError("the laser does not answer")

    def shine(self) -> None:
        """Add up the light until now."""
        self.dose += self.value * (self.bench.now_s - self._since_s)
        self._since_s = self.bench.now_s


class Bench:
    """Guard, device, log and clock."""

    def __init__(self, **limits: Any) -> None:
        self.now_s = self.last_beat_s = 1000.0
        self.writes: list[Write] = []
        self.notes: list[tuple[str, dict[str, Any]]] = []
        self.logged = -1.0
        self.disk_full = False
        self.device = Device(self)
        self.limits = msgspec.structs.replace(LIMITS, **limits)
        self.guard = Guard(self.device, self.limits, self, self.clock)

    def clock(self) -> float:
        return self.now_s

    def faults(self) -> list[str]:
        """Return the kinds of the latched faults."""
        return [fault.split(":")[0] for fault in self.guard.status.faults]

    def run(self, seconds: float, *, beats: bool = True, newest_s: float | None = None) -> None:
        """Let time pass in ticks of the guard's process."""
        end_s = self.now_s + seconds
        while self.now_s < end_s - 1e-9:
            self.now_s += 0.02
            self.device.shine()
            if beats:
                self.last_beat_s = self.now_s
                self.guard.beat(self.now_s if newest_s is None else newest_s)
            self.guard.tick()

    # the log
    def note(self, kind: str, t_s: float, *, sync: bool = True, **about: Any) -> None:
        if self.disk_full:
            raise OSError("no space left on the disk")
        self.notes.append((kind, about))
        if kind in ("write", "safe"):
            self.logged = about["value"]

    def sync(self) -> None:
        if self.disk_full:
            raise OSError("no space left on the disk")

    def close(self) -> None:
        """Nothing to let go of."""
