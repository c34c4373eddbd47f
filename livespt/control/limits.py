"""What the excitation may be: the machine's limits, which a run can only tighten.

They stand in a TOML file of the machine, found in this order:

1. the file that ``LIVESPT_LIMITS`` names;
2. ``livespt/limits.toml`` in the site's configuration folder (set by who runs the microscope);
3. ``livespt/limits.toml`` in the user's.

One table for each property that may be controlled. `min`, `max` and `safe` are values of the
property in its own `unit`; the factor of a step, the duty and the dose are of the *power*, which is
mW at the sample where a calibration is named, and the property's value where none is.
"""

from __future__ import annotations

import math
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import platformdirs

from livespt.control.checked import convert
from livespt.control.errors import ControlError
from livespt.control.power import PowerCalibration, read_calibration
from livespt.sections import NonNegative, Positive, Section, TightenConfig

ENVIRONMENT = "LIVESPT_LIMITS"
FILE_NAME = "limits.toml"
VERSION = 1

Unit = Literal["%", "mW", "W", "V", "mA", "A", "x"]
Step = Annotated[float, msgspec.Meta(gt=1, le=10)]
Fraction = Annotated[float, msgspec.Meta(gt=0, le=1)]
#: Timeouts of one second and more would leave the light on too long to be worth their name.
Timeout = Annotated[float, msgspec.Meta(ge=0.02, le=5)]


class Entry(Section, frozen=True, kw_only=True):
    """The limits of one property, as the machine's file has them.

    Attributes
    ----------
    unit : str
        Of the property's value; "x" is a multiple of some reference.
    min, max, safe : float
        Lowest and highest value that may be asked for, and the value to fall back on.
    step_up : float
        Greatest factor by which one write may raise the power.
    writes_per_s : float
        Writes that raise, at most one a second; lowering is never held back.
    duty : float
        Mean power over `duty_s`, as a fraction of the highest.
    dose : float or None
        Power times seconds that one run may spend; None: not limited.
    calibration : str
        File of the power at the sample, beside the limits file; "": none.
    tolerance : float
        By how much of the value a read-back may differ, beside the property's resolution.
    settle_s : float
        How long a device may take until it reads what was written.
    read_every_s : float
        How often it is read.
    heartbeat_s, stale_s : float
        How long analysis may be silent, and how old its newest data may be.
    """

    unit: Unit
    min: Positive
    max: Positive
    safe: NonNegative
    step_up: Step = 2.0
    writes_per_s: Fraction = 1.0
    duty: Fraction = 1.0
    duty_s: Annotated[float, msgspec.Meta(ge=1, le=3600)] = 60.0
    dose: Positive | None = None
    calibration: str = ""
    tolerance: Annotated[float, msgspec.Meta(gt=0, le=0.2)] = 0.01
    settle_s: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.1
    read_every_s: Annotated[float, msgspec.Meta(ge=0.01, le=1)] = 0.05
    heartbeat_s: Timeout = 0.3
    stale_s: Timeout = 0.3


class Limits(Entry, frozen=True, kw_only=True):
    """The limits in force for one property, with their calibration.

    Attributes
    ----------
    name : str
        Of the property: "Device.Property".
    origin : str
        Where they came from, for messages.
    table : PowerCalibration or None
    """

    name: str
    origin: str
    table: PowerCalibration | None = None

    @property
    def power_unit(self) -> str:
        """Unit of the powers that are asked for."""
        return "mW" if self.table else self.unit

    def power(self, value: float) -> float:
        """Return the power at a value of the property."""
        return self.table.power(value) if self.table else value

    def value(self, power: float) -> float:
        """Return the value of the property that gives a power."""
        return self.table.setting(power) if self.table else power

    @property
    def min_power(self) -> float:
        """Lowest power that may be asked for."""
        return self.power(self.min)

    @property
    def max_power(self) -> float:
        """Highest power that may be asked for."""
        return self.power(self.max)

    @property
    def safe_power(self) -> float:
        """Power to fall back on."""
        return self.power(self.safe)


class _File(Section, frozen=True):
    version: Literal[1] = VERSION
    property: dict[str, Any] = msgspec.field(default_factory=dict)


def limits_path() -> Path:
    """Return where the machine's limits lie, or would lie: the first of the three that exists."""
    if named := os.environ.get(ENVIRONMENT):
        return Path(named)
    site = platformdirs.site_config_path("livespt", appauthor=False) / FILE_NAME
    user = platformdirs.user_config_path("livespt", appauthor=False) / FILE_NAME
    return user if user.exists() and not site.exists() else site


def read_limits(path: Path) -> dict[str, Limits]:
    """Read the machine's file: the limits of each property.

    Raises
    ------
    ControlError
        It is missing or torn, a key is unknown or out of range, or values do not fit each other.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ControlError(
            f"{path}: no such file: the machine's limits of the excitation must stand there"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ControlError(f"{path}: cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ControlError(f"{path}: not valid TOML: {error}") from None
    found = convert(raw, _File, str(path))
    return {name: _entry(path, name, table) for name, table in found.property.items()}


def machine_limits(name: str) -> Limits:
    """Return the machine's limits of the property `name`.

    Raises
    ------
    ControlError
        There are none, or their file is not good.
    """
    path = limits_path()
    known = read_limits(path)
    if name not in known:
        listed = f" (there: {', '.join(known)})" if known else ""
        raise ControlError(f'{path}: no table [property."{name}"]{listed}')
    return known[name]


def own_limits(name: str, entry: Entry, origin: str) -> Limits:
    """Return limits that an actuator brings along (a simulated one does).

    Raises
    ------
    ControlError
        Values do not fit each other.
    """
    return _checked(Limits(**_fields(entry), name=name, origin=origin))


def tighten(limits: Limits, run: TightenConfig) -> Limits:
    """Return the limits narrowed to those of a run.

    Raises
    ------
    ControlError
        A run's limit is wider than the machine's; the message names the key.
    """
    chosen: dict[str, Any] = {
        key: value for key in run.__struct_fields__ if (value := getattr(run, key)) is not None
    }
    for key, value in chosen.items():
        of_machine = getattr(limits, key)
        wider = (
            value < of_machine if key == "min" else of_machine is not None and value > of_machine
        )
        if wider or not math.isfinite(value):
            raise ControlError(
                f"control.limits.{key}: {value:g} is wider than the machine's {of_machine:g} "
                f"({limits.origin})"
            )
    return _checked(msgspec.structs.replace(limits, **chosen), "control.limits")


def check_unit(limits: Limits, unit: str) -> None:
    """Refuse powers in a unit that the limits cannot be held against; "" takes theirs.

    Raises
    ------
    ControlError
    """
    if unit in ("", limits.power_unit):
        return
    where = f'{limits.origin}: property."{limits.name}"'
    if unit == "mW":
        raise ControlError(
            f"control.actuator.unit: 'mW', but {where}.calibration names no power calibration "
            f"and its unit is '{limits.unit}'"
        )
    raise ControlError(
        f"control.actuator.unit: '{unit}', but powers are in '{limits.power_unit}' by {where}"
    )


def check_range(limits: Limits, low: float, high: float) -> None:
    """Refuse limits that the device itself does not reach.

    Raises
    ------
    ControlError
    """
    for key in ("min", "max", "safe"):
        value = getattr(limits, key)
        if not low <= value <= high:
            raise ControlError(
                f'{limits.origin}: property."{limits.name}".{key}: {value:g} {limits.unit}; '
                f"the device takes {low:g} to {high:g}"
            )


def _entry(path: Path, name: str, table: Any) -> Limits:
    where = f'{path}: property."{name}"'
    entry = convert(table, Entry, where)
    calibration = None
    if entry.calibration:
        calibration = read_calibration(path.parent / Path(entry.calibration).expanduser())
    return _checked(Limits(**_fields(entry), name=name, origin=str(path), table=calibration), where)


def _fields(entry: Entry) -> dict[str, Any]:
    return {key: getattr(entry, key) for key in entry.__struct_fields__}


def _checked(limits: Limits, where: str = "") -> Limits:
    """Refuse values that do not fit each other."""
    where = where or f'{limits.origin}: property."{limits.name}"'
    if not limits.min < limits.max:
        raise ControlError(f"{where}.min: {limits.min:g}; expected less than max = {limits.max:g}")
    if limits.safe > limits.max:
        raise ControlError(f"{where}.safe: {limits.safe:g}; expected at most max = {limits.max:g}")
    if limits.table:
        _covered(limits, limits.table, where)
    if limits.min_power <= 0:
        raise ControlError(f"{where}.min: gives no light; expected some (safe may be dark)")
    if limits.duty * limits.max_power < limits.min_power:
        raise ControlError(
            f"{where}.duty: {limits.duty:g} of the highest power is less than the lowest"
        )
    return limits


def _covered(limits: Limits, table: PowerCalibration, where: str) -> None:
    low, high = table.value[0], table.value[-1]
    if limits.unit == "mW":
        raise ControlError(f"{where}.calibration: the property's unit is mW already")
    if not (low <= limits.min and limits.max <= high):
        raise ControlError(
            f"{where}.calibration: {limits.calibration} covers {low:g} to {high:g} {limits.unit}; "
            f"expected min = {limits.min:g} to max = {limits.max:g}"
        )
