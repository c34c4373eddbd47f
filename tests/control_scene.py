"""A closed loop without waiting: world, stages, controller and the guard's own state machine.

All of it is the real thing but the process border: the clock is the camera's, so that a minute of
light takes some seconds.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from livespt.control.budget import Budget
from livespt.control.controller import Controller, Plan
from livespt.control.guard import Guard
from livespt.control.law import Bounds, Law, TargetLaw
from livespt.control.limits import Entry, own_limits
from livespt.control.log import NoLog
from livespt.control.status import GuardStatus
from livespt.control.windows import Windows
from livespt.infer import OnlineFilter
from livespt.link import Linker
from livespt.localize import Localizer
from livespt.types import Event, Frame, Model
from livespt_sim.options import resolve
from livespt_sim.scenes import SCENES
from livespt_sim.world import World

#: Frames until a write shows in the light: the device's and the pipes' delay.
DELAY_FRAMES = 2
BOUNDS = Bounds(min=0.02, max=20.0, safe=0.0, step_up=2.0)


class Lamp:
    """An actuator that lights a world."""

    property, real, own = "Laser.Power", False, None
    span, resolution = (0.0, math.inf), 1e-6

    def __init__(self, power: float) -> None:
        self.power = power

    def read(self) -> float:
        return self.power

    def write(self, value: float) -> float:
        self.power = value
        return value

    def close(self) -> None:
        pass


class Door:
    """The guard in this process, behind the methods of its handle."""

    def __init__(self, lamp: Lamp, dose: float | None, now: list[float]) -> None:
        entry = Entry(unit="x", min=BOUNDS.min, max=BOUNDS.max, safe=BOUNDS.safe, dose=dose)
        self.limits = own_limits("Laser.Power", entry, "a test")
        self.guard = Guard(lamp, self.limits, NoLog(), lambda: now[0])
        self.arm, self.ask, self.beat = self.guard.arm, self.guard.ask, self.guard.beat
        self.disarm = self.guard.disarm

    @property
    def status(self) -> GuardStatus:
        return self.guard.status

    def close(self) -> None:
        self.guard.disarm()


class Row(NamedTuple):
    """One frame: time, power, precision of the window that it closed (else NaN)."""

    t_s: float
    power: float
    sd_um: float
    sbr: float


class Loop:
    """Run a scene under control.

    Parameters
    ----------
    options : dict
        Of the simulated microscope.
    law : Law, optional
        None: the power stays, for comparison.
    dose, planned_s : float
        The budget.
    """

    def __init__(
        self,
        options: dict[str, Any],
        law: Law | None,
        *,
        dose: float | None = None,
        planned_s: float = math.inf,
        n_states: int = 1,
    ) -> None:
        self.options = o = resolve({**options, "paced": False, "truth_rows": 0}, SCENES)
        self.world = World(o)
        self.lamp = Lamp(o.excitation)
        self._now = [0.0]
        self.door = Door(self.lamp, dose, self._now)
        self.localizer = Localizer(self.world.camera, o.pixel_um, o.sigma_um, o.shape)
        field_um = (o.height_px * o.pixel_um, o.width_px * o.pixel_um)
        self.linker = Linker(o.interval_s, field_um=field_um)
        self.online = OnlineFilter(n_states, o.interval_s, field_um=field_um)
        self.windows = Windows(o.pixel_um, o.interval_s)
        self.events: list[Event] = []
        self.rows: list[Row] = []
        self.dose = 0.0
        self.model: Model | None = None
        self._law = law
        target = getattr(law, "target", 0.0)
        self.controller = Controller(
            self.door,
            self,
            Windows(o.pixel_um, o.interval_s),
            Plan("auto" if law else "advise", "", target, "x", 1.0),
            budget=Budget(math.inf if dose is None else dose, planned_s),
            tell=self.events.append,
            clock=lambda: self._now[0],
            beat_s=0.0,
        )

    def decide(self, look, status):
        """Stand between controller and law, to see what the law is shown."""
        self.rows.append(Row(look.t_s, look.power, look.sd_um, look.sbr))
        assert self._law is not None
        return self._law.decide(look, status)

    def measured(self, look):
        return self._law.measured(look) if isinstance(self._law, TargetLaw) else look.sd_um

    def run(self, seconds: float) -> Loop:
        """Go on for so long."""
        o = self.options
        waiting = [self.lamp.power] * DELAY_FRAMES
        first = round(self._now[0] / o.interval_s)
        for index in range(first, first + round(seconds / o.interval_s)):
            self._now[0] = index * o.interval_s
            self.door.guard.tick()
            waiting.append(self.lamp.power)
            self._frame(index, waiting.pop(0))
            self.dose += self.lamp.power * o.interval_s  # at the device, from arming on
        return self

    def _frame(self, index: int, power: float) -> None:
        o = self.options
        self.world.excitation = power
        exposed = self.world.step()
        frame = Frame(index, self._now[0], exposed.adu, o.exposure_s, exposed.excitation)
        spots = self.localizer(frame)
        links = self.linker.step(spots)
        estimates = self.online.step(spots, links)
        self.model = estimates.model
        if self._law is not None:
            self.controller.send(frame, spots, links, estimates)
            return
        look = self.windows.see(spots, estimates, power)
        if look is not None:
            self.rows.append(Row(look.t_s, look.power, look.sd_um, look.sbr))

    @property
    def table(self) -> np.ndarray:
        """The windows: columns t_s, power, sd_um, sbr."""
        return np.array(self.rows)
