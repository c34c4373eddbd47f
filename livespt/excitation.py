"""From a config to the control of a run's light: checked, opened, nothing written to the device."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import msgspec

from livespt.config import ConfigError
from livespt.control import ControlError, GuardHandle, GuardStatus
from livespt.control.budget import Budget, dose_for
from livespt.control.controller import Controller, Plan
from livespt.control.law import Bounds, Law, TargetLaw, open_law
from livespt.control.windows import Windows
from livespt.sections import Config, ControlConfig
from livespt.sources import Source
from livespt.types import Event

#: File of the simulated laser's power cell.
CELL_FILE = "laser.cell"


def check_control(config: Config, origin: str = "config", law: Law | None = None) -> None:
    """Refuse a [control] whose keys do not fit each other.

    Raises
    ------
    ConfigError
    """
    chosen = config.control
    if chosen.mode == "off":
        return
    key = "target_sd_um" if chosen.goal == "precision" else "target_sbr"
    if law is None and not chosen.law and not getattr(chosen, key):
        raise ConfigError(f"{origin}: control.{key}: not given; goal '{chosen.goal}' needs it")
    if chosen.bleach_budget and not chosen.bleach_per_dose:
        raise ConfigError(
            f"{origin}: control.bleach_per_dose: not given; bleach_budget needs it (probability "
            "of bleaching per unit of power and second)"
        )


def with_cell(config: Config, folder: Path) -> Config:
    """Wire the simulated laser to the simulated microscope: both get one power cell.

    A real actuator, or a laser that has its cell already, is left as it is.
    """
    chosen = config.control
    actuator = chosen.actuator
    if chosen.mode == "off" or actuator.kind != "simulated" or "cell" in actuator.options:
        return config
    cell, source = str(folder / CELL_FILE), config.source
    actuator = msgspec.structs.replace(actuator, options={**actuator.options, "cell": cell})
    if source.kind == "simulated":
        source = msgspec.structs.replace(source, options={**source.options, "laser": cell})
    control = msgspec.structs.replace(chosen, actuator=actuator)
    return msgspec.structs.replace(config, source=source, control=control)


def open_control(
    config: Config,
    source: Source,
    folder: Path,
    *,
    arm: bool = False,
    law: Law | None = None,
    origin: str = "config",
    tell: Callable[[Event], object] = lambda event: None,
) -> Controller:
    """Start the guard, read the device, make the law; nothing is written before the first frame.

    Parameters
    ----------
    config : Config
        With `optics.pixel_um` filled in.
    source : Source
    folder : Path
        The run folder; the guard logs there.
    arm : bool
        Whether a real device may be written to. Without it "auto" only advises, and says so.
    law : Law, optional
        The caller's own.
    tell : callable
        Takes the events of what is done.

    Raises
    ------
    LivesptError
        One line that names the key.
    """
    chosen, info = config.control, source.info
    planned_s = _planned_s(config, info.n_frames, info.interval_s)
    dose = dose_of(chosen)
    tighten = chosen.limits
    if math.isfinite(dose):
        tighten = msgspec.structs.replace(tighten, dose=dose)
    guard = GuardHandle(chosen.actuator, tighten=tighten, folder=folder)
    try:
        bounds = _bounds(guard)
        law = law or _law(chosen, bounds, origin)
        reference = _reference(chosen, guard, origin)
        if chosen.mode == "auto":
            _check_pace(guard, info.interval_s * (2 + config.link.lag))
    except BaseException:
        guard.close()
        raise
    mode, note = chosen.mode, ""
    if mode == "auto" and guard.real and not arm:
        mode, note = "advise", "not armed (--arm): what would be asked for is only told"
    target, unit = getattr(law, "target", 0.0), guard.limits.power_unit
    plan = Plan(mode, _goal(chosen, law), target, unit, reference, note)
    windows = Windows(
        config.optics.pixel_um, info.interval_s, span_s=chosen.window_s, min_spots=chosen.min_spots
    )
    return Controller(guard, law, windows, plan, budget=Budget(dose, planned_s), tell=tell)


def _planned_s(config: Config, n_frames: int | None, interval_s: float) -> float:
    """Return how long the budget is to last; inf where nothing says."""
    if config.control.planned_s:
        return config.control.planned_s
    frames = [n * interval_s for n in (n_frames, config.stop_after_frames) if n]
    times = [config.stop_after_s] if config.stop_after_s else []
    return min([*frames, *times], default=math.inf)


def dose_of(chosen: ControlConfig) -> float:
    """Return the dose that a run may spend; inf without a budget."""
    dose = math.inf if chosen.limits.dose is None else chosen.limits.dose
    if chosen.bleach_budget:
        dose = min(dose, dose_for(chosen.bleach_budget, chosen.bleach_per_dose))
    return dose


def _bounds(guard: GuardHandle) -> Bounds:
    limits = guard.limits
    return Bounds(limits.min_power, limits.max_power, limits.safe_power, limits.step_up)


def _law(chosen: ControlConfig, bounds: Bounds, origin: str) -> Law:
    if chosen.law:
        return open_law(chosen.law, dict(chosen.law_options), bounds, origin=origin)
    target = chosen.target_sd_um if chosen.goal == "precision" else chosen.target_sbr
    return TargetLaw(target, bounds, goal=chosen.goal, deadband=chosen.deadband)


def _check_pace(guard: GuardHandle, late_s: float) -> None:
    """Refuse a camera whose newest data are always older than the guard allows."""
    stale_s = guard.limits.stale_s
    if late_s >= stale_s:
        raise ControlError(
            f'{guard.limits.origin}: property."{guard.limits.name}".stale_s: {stale_s:g} s, '
            f"but the newest data may be {late_s:.3g} s old at this camera's pace: the guard would "
            "take the light down at once"
        )


def _goal(chosen: ControlConfig, law: Law) -> str:
    return law.goal if isinstance(law, TargetLaw) else chosen.law or type(law).__name__


def _reference(chosen: ControlConfig, guard: GuardHandle, origin: str) -> float:
    """Return the power at which a frame's excitation is 1."""
    if chosen.reference_power:
        return chosen.reference_power
    if not guard.real:
        return 1.0
    status: GuardStatus = guard.status
    if status.power <= 0:
        raise ControlError(
            f"{origin}: control.reference_power: the device reads {status.power:g} now; switch it "
            "on, or say at which power Frame.excitation is 1"
        )
    return status.power


__all__ = ["check_control", "dose_of", "open_control", "with_cell"]
