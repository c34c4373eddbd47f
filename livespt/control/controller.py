"""The controller: sees what the run answers, asks the law, and asks the guard for what it wishes.

It is a sink of the live loop. It writes nothing to the device: the guard's process does, within the
machine's limits. Windows, law and budget run on the loop's thread, about once a second; a thread of
its own beats towards the guard, so that a loop that hangs shows as stale data and a process that is
dead as silence. What was asked, held or refused is told as an event of kind "control".
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from livespt.control.budget import Budget
from livespt.control.errors import ControlError
from livespt.control.law import Law, Wish
from livespt.control.lit import Lit
from livespt.control.status import GuardStatus
from livespt.control.windows import Look, Windows
from livespt.types import Estimates, Event, Frame, Links, Spots

#: The guard hears of us so often.
BEAT_S = 0.05
#: No write sooner after the last than this.
PAUSE_S = 1.0
#: The target counts as reached within this relative error, in two windows in a row.
REACHED = 0.1
#: A cap that moves by less is not worth a write.
WORTH = 0.02
#: Without a frame for so many windows, data are stale.
STALE_WINDOWS = 2.0


class Port(Protocol):
    """What the controller needs of a guard's handle."""

    @property
    def status(self) -> GuardStatus:
        """How things stand, at once."""
        ...

    def arm(self) -> None:
        """Let the guard obey."""
        ...

    def ask(self, power: float, why: str) -> None:
        """Wish for a power."""
        ...

    def beat(self, newest_frame_s: float) -> None:
        """Say that analysis lives."""
        ...

    def disarm(self) -> None:
        """Go to safe power."""
        ...

    def close(self) -> None:
        """Go to safe power, and end the guard."""
        ...


class Plan(NamedTuple):
    """What a run wants of its light.

    Attributes
    ----------
    mode : {"advise", "auto"}
    goal : str
        For people: "precision", "sbr", or the name of a law.
    target : float
        In um, or as SBR; 0 where the law has none.
    unit : str
        Of the power.
    reference : float
        Power at which `Frame.excitation` is 1.
    note : str
        What is told when the run begins.
    """

    mode: str
    goal: str
    target: float
    unit: str
    reference: float
    note: str = ""


class Standing(NamedTuple):
    """How the control stands, for the wire and the eyes."""

    mode: str
    state: str
    goal: str
    target: float
    measured: float
    power: float
    unit: str
    wish: float
    why: str
    writes: int
    dose: float
    dose_left: float
    reached_s: float | None
    faults: tuple[str, ...]


class Controller:
    """A sink that steers the light.

    Parameters
    ----------
    guard : GuardHandle
    law : Law
    windows : Windows
    plan : Plan
    budget : Budget, optional
    tell : callable
        Takes the events of what was done.
    show : callable
        Takes a `Standing` about twice a second, and at the end.
    clock : callable
        The guard's clock.
    beat_s : float
        Time between two beats; 0: one with each frame, and no thread.
    """

    def __init__(
        self,
        guard: Port,
        law: Law,
        windows: Windows,
        plan: Plan,
        *,
        budget: Budget | None = None,
        tell: Callable[[Event], object] = lambda event: None,
        show: Callable[[Standing], object] = lambda standing: None,
        clock: Callable[[], float] = time.monotonic,
        beat_s: float = BEAT_S,
    ) -> None:
        self.plan, self.lit = plan, Lit(guard.status.power)
        self.tell, self.show = tell, show
        self._guard, self._law, self._windows = guard, law, windows
        self._clock, self._beat_s = clock, beat_s
        self._budget = budget or Budget()
        self._begun = self._over = self._broken = False
        self._t_s = self._first_s = 0.0
        self._frame = -1
        self._newest_s = self._stale_s = self._asked_s = -math.inf
        self._ceiling = math.inf  # what somebody said over the wire
        self._wish, self._why, self._measured = math.nan, "", 0.0
        self._faults: tuple[str, ...] = ()
        self._good = 0  # windows in a row on target
        self._maybe_s = 0.0
        self.reached_s: float | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="livespt-beat", daemon=True)

    @property
    def armed(self) -> bool:
        """Whether the guard obeys."""
        return self._guard.status.state == "armed"

    def excitation(self, since_s: float, until_s: float) -> float:
        """Return the mean excitation between two times, relative to the reference; any thread."""
        self.lit.note(self._guard.status)
        return self.lit.mean(since_s, until_s) / self.plan.reference

    # --- the sink ----------------------------------------------------------------------------

    def send(self, frame: Frame, spots: Spots, links: Links, estimates: Estimates) -> None:
        """Take one frame's answer; decide where it completes a window."""
        now = self._clock()
        late_s = max(time.perf_counter() - frame.arrived_s, 0.0) if frame.arrived_s else 0.0
        self._newest_s = max(self._newest_s, now - late_s)
        self._t_s, self._frame = spots.t_s, spots.frame
        if not self._begun:
            self._begin()
        if not self._beat_s and not self._over:
            self._guard.beat(self._newest_s)
        look = self._windows.see(spots, estimates, frame.excitation * self.plan.reference)
        if look is not None:
            self._stale_s = now
            self._decide(look)

    def event(self, event: Event) -> None:
        """Count lost frames."""
        self._windows.event(event)

    def tick(self, counters: Any) -> None:
        """Notice a camera that is silent, and faults; called about twice a second."""
        self._see_faults()
        now = self._clock()
        silent_s = now - max(self._newest_s, self._stale_s)
        if self._begun and not self._over and silent_s > STALE_WINDOWS:
            self._stale_s = now
            self._decide(self._windows.stale(self._t_s, silent_s))
        self.show(self.standing)

    # --- begin and end -----------------------------------------------------------------------

    def _begin(self) -> None:
        """Arm with the first frame: a camera may take longer to start than the guard waits."""
        self._begun = True
        self._first_s = self._t_s
        self.lit.note(self._guard.status)
        if self.plan.note:
            self._say(self.plan.note)
        if self.plan.mode == "auto" and not self._over:
            try:
                self._guard.arm()
            except ControlError as error:
                self._broken = True
                self._say(f"not armed: {error}")
            else:
                self._say(f"armed at {self._power(self._guard.status.power)}")
        if self._beat_s:
            self._thread.start()

    def end(self, why: str = "the stream has ended") -> None:
        """Go to safe power and ask for nothing more; further calls do nothing."""
        if self._over:
            return
        self._over = True
        self._see_faults()
        if self.plan.mode == "auto" and self._begun and self.armed:
            self._guard.disarm()
            self._say(f"disarmed, safe power: {why}")
        self.show(self.standing)

    def close(self) -> None:
        """Let go of the guard, which goes to safe power if it did not yet."""
        self._over = True
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._guard.close()

    def _beat(self) -> None:
        while not self._stop.wait(self._beat_s):
            self.lit.note(self._guard.status)
            if not self._over:
                self._guard.beat(self._newest_s)

    # --- what may be said from elsewhere -----------------------------------------------------

    def lower(self, factor: float) -> None:
        """Hold the power to `factor` (below 1) of what it is, from now on."""
        power = self._guard.status.power * factor
        self._ceiling = min(self._ceiling, power)
        self._say(f"at most {self._power(self._ceiling)} from now on: asked for over the wire")
        if self._may_ask():
            self._ask(self._ceiling, "asked for over the wire")

    def off(self, why: str = "asked for over the wire") -> None:
        """Go to safe power for the rest of the run."""
        self.end(why)

    # --- deciding ----------------------------------------------------------------------------

    def _decide(self, look: Look) -> None:
        status = self._guard.status
        if self._over:
            return
        self._see_faults()
        left = self._budget.left(status.dose, status.dose_left)
        try:
            wish = self._law.decide(look, status._replace(dose_left=left))
        except Exception as error:  # noqa: BLE001 (anybody's law)
            self._break(f"the law failed: {type(error).__name__}: {error}")
            return
        self._note_quality(look)
        wish = self._bounded(wish, status.power, left)
        self._act(wish, status)

    def _bounded(self, wish: Wish, power: float, left: float) -> Wish:
        """Hold a wish to the budget and to what was said over the wire; NaN stays what it is."""
        cap = self._budget.cap(left, self._t_s - self._first_s)
        if self._ceiling < cap:
            cap, name = self._ceiling, "held down over the wire"
        else:
            name = "spread over the run, the dose bears no more"
        wanted = power if wish.power is None else wish.power
        if not wanted > cap * (1 + (WORTH if wish.power is None else 0)):
            return wish
        return Wish(cap, f"{wish.why}; at most {self._power(cap)}: {name}")

    def _act(self, wish: Wish, status: GuardStatus) -> None:
        same = wish.power is None or abs(wish.power - status.power) < 5e-3 * status.power
        changed = _reason(wish.why) != _reason(self._why)
        self._why = wish.why
        self._wish = status.power if same or wish.power is None else wish.power
        if same or wish.power is None:
            if changed:
                self._say(wish.why)
            return
        if self._clock() - self._asked_s < PAUSE_S:
            return
        if self._may_ask():
            self._ask(wish.power, wish.why)
            verb = "asked for"
        else:
            self._asked_s = self._clock()
            verb = "would ask for"
        self._say(f"{verb} {self._power(wish.power)}, was {self._power(status.power)}: {wish.why}")

    def _may_ask(self) -> bool:
        return self.plan.mode == "auto" and self.armed and not (self._over or self._broken)

    def _ask(self, power: float, why: str) -> None:
        self._asked_s = self._clock()
        self._guard.ask(power, why)

    def _break(self, why: str) -> None:
        """Give up the control, not the run."""
        self._broken = True
        self._faults = (*self._faults, why)
        self._say(why)
        self.end("fault")

    def _note_quality(self, look: Look) -> None:
        measured = getattr(self._law, "measured", None)
        if measured is None or look.trouble:
            self._good = 0
            return
        self._measured = measured(look)
        on_target = abs(self._measured / self.plan.target - 1) <= REACHED
        self._good = self._good + 1 if on_target else 0
        if self._good == 1:
            self._maybe_s = look.t_s - self._first_s
        if self._good == 2 and self.reached_s is None:
            self.reached_s = self._maybe_s
            self._say(f"target reached after {self.reached_s:.1f} s")

    # --- telling -----------------------------------------------------------------------------

    @property
    def standing(self) -> Standing:
        """How things stand."""
        status, plan = self._guard.status, self.plan
        state = "fault" if self._broken and status.state != "ended" else status.state
        wish = status.power if math.isnan(self._wish) else self._wish
        return Standing(
            plan.mode, state, plan.goal, plan.target, self._measured, status.power, plan.unit,
            wish, self._why, status.n_writes, status.dose,
            self._budget.left(status.dose, status.dose_left), self.reached_s, self._faults,
        )  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        """Return what a run's summary says of its light."""
        now = self.standing._asdict()
        left = now["dose_left"]
        chosen = ("mode", "goal", "target", "measured", "reached_s", "writes", "power", "unit")
        return {
            **{key: now[key] for key in chosen},
            "reference_power": self.plan.reference,
            "dose": now["dose"],
            "dose_left": left if math.isfinite(left) else None,
            "faults": list(now["faults"]),
        }

    def _see_faults(self) -> None:
        """Tell a fault once, when it is first seen."""
        for fault in self._guard.status.faults:
            kind = fault.partition(":")[0]
            if kind not in (known.partition(":")[0] for known in self._faults):
                self._faults = (*self._faults, fault)
                self._say(f"fault: {fault}; safe power, no more writes in this run")

    def _say(self, message: str) -> None:
        self.tell(Event("control", self._t_s, self._frame, 0, message))

    def _power(self, power: float) -> str:
        return f"{power:.3g} {self.plan.unit}".replace(" x", " x reference")


def _reason(why: str) -> str:
    """Return what a reason comes to: what stands behind its numbers."""
    return why.rpartition(": ")[2]
