"""The guard: the one that writes the light, and that takes it down when anything is wrong.

It is a state machine without threads; clock, device and log are given to it. Analysis only asks.

    idle --arm--> armed --disarm--> idle
      ^             | any fault
      +----arm--- fault (latched)

- Between `min` and `max` a wish is granted in one write: at most a factor `step_up` up, at most
  `writes_per_s` up, and up only once the last write was read back. Down is never held back.
- What is wrong is a *fault*: it is latched, the light goes to the safe value, and is tried until
  the device reads it (or less). Only arming anew clears it.
- A value that changes although it had been read back is the hand of somebody: the light goes to the
  safe value once, if it is brighter than that, and then belongs to the hand.
- A write is logged before it is made. One rule is above this: where the log fails, that is a fault,
  and the light is taken down all the same.
- In the states idle and fault nothing is written but the safe value.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import NamedTuple

from livespt.control.actuator import Actuator
from livespt.control.errors import ControlError
from livespt.control.limits import Limits
from livespt.control.log import Log
from livespt.control.spent import Spent
from livespt.control.status import GuardStatus

#: Never raised more often than this, whatever the limits say.
RAISE_S = 1.0
#: How long a wish that came too early is kept; a law that asks once a second is always heard.
WISH_S = 1.5
#: A guard that was held up for so long has not guarded.
LATE_S = 1.0
#: Nor may many writes in a row hide for longer that none of them was read back.
UNSURE_S = 0.2
#: Waits between attempts to reach the safe value, up to an age of the first.
RETRY_S = ((2.0, 0.05), (30.0, 0.25), (math.inf, 1.0))
#: Data that came so much later than now did not.
CLOCK_S = 0.05
#: Longest text of a fault.
MAX_FAULT = 300


class _Wish(NamedTuple):
    power: float
    why: str
    t_s: float


class Guard:
    """Sole writer of one property.

    Parameters
    ----------
    actuator : Actuator
    limits : Limits
    log : Log
    clock : callable
        Seconds, never running back.

    Raises
    ------
    Exception
        On construction, whatever the device raises when it is read.
    """

    def __init__(
        self,
        actuator: Actuator,
        limits: Limits,
        log: Log,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits = limits
        self.state = "idle"
        self.faults: dict[str, str] = {}
        self.n_writes = 0
        self.spent = Spent(limits)
        self._actuator, self._log, self._clock = actuator, log, clock
        self._value = _number(actuator.read())  # as read
        self._set = self._value  # as it should read
        self._sure = True  # whether it has read so since it was set
        self._wish: _Wish | None = None
        self._fleeing = False  # the safe value is still to be reached
        self._counting = False  # light that is on was asked for by analysis
        self._why, self._flee_s, self._retry_s = "", 0.0, 0.0
        self._wrote_s = self._unsure_s = -math.inf
        now = clock()
        self._tick_s = self._counted_s = self._read_s = self._beat_s = self._newest_s = now

    # --- what analysis may say ---------------------------------------------------------------

    @property
    def status(self) -> GuardStatus:
        """How things stand."""
        power = self.limits.power(self._value)
        faults = tuple(f"{kind}: {why}"[:MAX_FAULT] for kind, why in self.faults.items())
        spent = self.spent
        return GuardStatus(
            self._tick_s, self._value, power, self.state, faults, self.n_writes, spent.dose,
            spent.left,
        )  # fmt: skip

    @property
    def busy(self) -> bool:
        """Whether the safe value is still to be reached."""
        return self._fleeing

    def arm(self) -> None:
        """Obey from now on; what faults there were are cleared.

        Raises
        ------
        ControlError
            The device does not answer, is not at its safe value after a fault, the log cannot be
            written, or no dose is left.
        """
        if self.state == "armed":
            return
        self._may_arm()
        now = self._clock()
        self.faults.clear()
        self.state, self._wish, self._counting = "armed", None, True
        self._set, self._sure = self._value, True
        self._tick_s = self._counted_s = self._beat_s = self._newest_s = now
        if self._value > self.limits.max + self._tolerance(self.limits.max):
            self._put(self.limits.max, "above its maximum when armed", {})

    def ask(self, power: float, why: str = "") -> None:
        """Wish for a power; the newest wish holds. One that is no number is a fault."""
        if not math.isfinite(power):
            self.fail("asked", f"for {power} ({why})" if why else f"for {power}")
        elif self.state == "armed":
            self._wish = _Wish(power, why, self._clock())

    def beat(self, newest_s: float) -> None:
        """Hear that analysis lives, and when its newest good data came."""
        now = self._clock()
        if not math.isfinite(newest_s) or newest_s > now + CLOCK_S:
            self.fail("stale", f"data of the time {newest_s}, at {now:.3f}")
            return
        self._beat_s = now
        self._newest_s = max(self._newest_s, min(newest_s, now))

    def disarm(self, why: str = "disarmed") -> None:
        """Obey no more, and go to the safe value."""
        if self.state == "armed":
            self.state = "idle"
            self._flee(why)

    def fail(self, kind: str, why: str) -> None:
        """Latch a fault; if armed, take the light down."""
        armed = self.state == "armed"
        fresh = kind not in self.faults
        if fresh:
            self.faults[kind] = why
        if armed or self.state == "idle":
            self.state = "fault"
        if armed:
            self._flee(f"fault: {kind}: {why}")
        if fresh:
            self._note("fault", sync=False, fault=kind, why=why)

    # --- what time brings --------------------------------------------------------------------

    def tick(self) -> None:
        """Look, judge and act; to be called every few hundredths of a second."""
        now = self._clock()
        gap = now - self._tick_s
        self._tick_s = now
        self._count(now, self._set)
        if self.state == "armed":
            self._judge(now, gap)
        if now - self._read_s >= self.limits.read_every_s or not self._sure:
            self._look()
        if self.state == "armed":
            self._serve(now)
        elif self._fleeing and now >= self._retry_s:
            self._retreat()

    def _judge(self, now: float, gap: float) -> None:
        """Find what is wrong without asking the device."""
        limits = self.limits
        if gap > LATE_S:
            self.fail("late", f"the guard was held up for {gap:.1f} s")
        elif now - self._beat_s > limits.heartbeat_s:
            self.fail("heartbeat", f"analysis was silent for {now - self._beat_s:.2f} s")
        elif now - self._newest_s > limits.stale_s:
            self.fail("stale", f"no good data for {now - self._newest_s:.2f} s")
        elif self.spent.exhausts(limits.power(self._set)):
            self.fail("dose", f"{self.spent.dose:.4g} {limits.power_unit} s are spent")
        elif self.spent.tired and limits.power(self._set) > self.spent.flow:
            self._put(limits.value(self.spent.flow), "duty", {})

    def _look(self) -> None:
        """Read the device, and hold it against what was written."""
        try:
            self._value = _number(self._actuator.read())
        except Exception as error:  # noqa: BLE001 (drivers raise anything)
            self._read_s = self._clock()
            self.fail("driver", f"read: {_line(error)}")
            return
        self._read_s = self._clock()
        off = abs(self._value - self._set) > self._tolerance(self._set)
        if self._fleeing:
            self._arrive(off)
        elif not off:
            self._sure = True
        elif self.state == "armed":
            self._differs()

    def _differs(self) -> None:
        what = f"reads {self._value:.6g} {self.limits.unit}, was set to {self._set:.6g}"
        if self._sure:
            self.fail("manual", what)
        elif (
            self._read_s - self._wrote_s >= self.limits.settle_s
            or self._read_s - self._unsure_s >= (UNSURE_S + self.limits.settle_s)
        ):
            self.fail("read-back", what)

    # --- granting a wish ---------------------------------------------------------------------

    def _serve(self, now: float) -> None:
        """Grant the newest wish, if it may be granted now."""
        wish = self._wish
        if wish is None or now - wish.t_s > WISH_S:
            self._wish = None
            return
        limits, here = self.limits, self.limits.power(self._set)
        power = min(max(wish.power, limits.min_power), limits.max_power)
        rises = power > here
        if rises and not self._may_raise(now):
            return
        self._wish = None
        if rises:
            power = min(power, max(here * limits.step_up, limits.min_power), self.spent.most())
            if power <= here or power < limits.min_power:  # no dose is left for more
                return
        value = min(max(limits.value(power), limits.min), limits.max)
        if abs(value - self._set) >= max(self._actuator.resolution, 1e-9 * limits.max):
            self._put(value, wish.why, {"asked": wish.power})

    def _may_raise(self, now: float) -> bool:
        pause = max(RAISE_S, 1 / self.limits.writes_per_s)
        return self._sure and now - self._wrote_s >= pause

    def _put(self, value: float, why: str, about: dict[str, float]) -> None:
        """Log, write, read; a failure is a fault."""
        try:
            self._say("write", value, why, about, sync=True)
        except OSError as error:
            self.fail("log", _line(error))
            return
        try:
            self._write(value)
        except Exception as error:  # noqa: BLE001 (drivers raise anything)
            self.fail("driver", f"write: {_line(error)}")
            return
        self._look()

    # --- going to the safe value -------------------------------------------------------------

    def _flee(self, why: str) -> None:
        """Begin to go to the safe value, where the light is brighter than that."""
        self._wish, self._why, self._flee_s = None, why, self._clock()
        self._fleeing = True
        manual = "manual" in self.faults
        if manual and self._value <= self.limits.safe + self._tolerance(self.limits.safe):
            self._fleeing = self._counting = False  # the hand has chosen less: it stays
            self._note("left", value=self._value, why=why)
            return
        self._retreat()

    def _retreat(self) -> None:
        """Try once to set the safe value; the log comes first, but its failure stops nothing."""
        safe, age_s = self.limits.safe, self._clock() - self._flee_s
        wait = next(wait_s for until_s, wait_s in RETRY_S if age_s <= until_s)
        try:
            self._say("safe", safe, self._why, {}, sync=False)
        except OSError as error:
            self.faults.setdefault("log", _line(error))
        try:
            self._write(safe)
        except Exception as error:  # noqa: BLE001 (drivers raise anything)
            self.faults.setdefault("driver", f"write: {_line(error)}")
            self.state = "fault"
        else:
            wait = max(wait, self.limits.settle_s)
            self._look()
        self._retry_s = self._clock() + wait
        self._sync()

    def _arrive(self, off: bool) -> None:
        """See whether the device has come to the safe value, or below."""
        if off and self._value > self.limits.safe:
            return
        self._fleeing = self._counting = False
        self._sure = True
        self._note("reached", sync=False, value=self._value)

    # --- small things ------------------------------------------------------------------------

    def _may_arm(self) -> None:
        try:
            self._value = _number(self._actuator.read())
        except Exception as error:  # noqa: BLE001 (drivers raise anything)
            raise ControlError(f"{self.limits.name}: read: {_line(error)}") from None
        if self._fleeing:
            raise ControlError(
                f"{self.limits.name}: reads {self._value:.6g} {self.limits.unit}; not armed "
                f"before it is at its safe value, {self.limits.safe:.6g}"
            )
        if self.spent.exhausts(max(self.limits.power(self._value), self.limits.min_power)):
            raise ControlError(
                f"{self.limits.name}: dose: {self.spent.left:.4g} {self.limits.power_unit} s "
                "are left; too little to arm"
            )
        try:
            self._log.note("arm", self._clock(), value=self._value)
        except OSError as error:
            raise ControlError(f"control log: {_line(error)}; not armed without it") from None

    def _write(self, value: float) -> None:
        """Tell the device; light on the way counts at the brighter of the two."""
        now = self._clock()
        self._count(now, self._set)
        if self._sure:
            self._unsure_s = now
        before, self._set, self._sure = self._set, value, False
        self.n_writes += 1
        self._set = self._actuator.write(value)
        self._wrote_s = self._clock()
        self._count(self._wrote_s, max(before, value))

    def _count(self, now: float, value: float) -> None:
        """Count the light since it was counted last, at the brightest it may have been."""
        seconds = max(0.0, now - self._counted_s)
        self._counted_s = now
        if self._counting:
            self.spent.add(self.limits.power(max(value, self._value)), seconds)
        else:
            self.spent.rest(seconds)

    def _tolerance(self, value: float) -> float:
        return self.limits.tolerance * abs(value) + self._actuator.resolution

    def _say(
        self, kind: str, value: float, why: str, about: dict[str, float], *, sync: bool
    ) -> None:
        now = self._clock()
        self._log.note(kind, now, sync=sync, value=value, was=self._value, why=why, **about)

    def _note(self, kind: str, *, sync: bool = True, **about: object) -> None:
        """Log what is no write; a failure is remembered, and changes nothing."""
        try:
            self._log.note(kind, self._clock(), sync=sync, **about)
        except OSError as error:
            self.faults.setdefault("log", _line(error))

    def _sync(self) -> None:
        try:
            self._log.sync()
        except OSError as error:
            self.faults.setdefault("log", _line(error))


def _number(value: float) -> float:
    value = float(value)
    if not math.isfinite(value):
        raise ControlError(f"reads {value}")
    return value


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
