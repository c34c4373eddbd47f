"""Any numeric property of a Micro-Manager device as the actuator.

Two ways in. `micromanager` loads a core of its own in the guard's process, from a configuration
that holds the laser alone: nothing that happens to analysis or to another core can then hold up a
write. A serial port cannot be open twice, so that no other core may hold the same laser. `running`
goes over the bridge of a Micro-Manager that runs, and depends on it.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import msgspec

from livespt.control.checked import convert
from livespt.control.errors import ControlError
from livespt.control.limits import Entry
from livespt.core import BridgeDoor, CoreError, Door, ask, load_core
from livespt.core.bridge import CALL_S
from livespt.sections import Section

#: Values of MM::PropertyType.
_FLOAT, _INTEGER = 2, 3
#: Decimals of the text that a core makes of a number.
_DECIMALS = 4


class OwnOptions(Section, frozen=True):
    """Micro-Manager's configuration that loads the laser, and where the adapters lie."""

    config: str
    adapters: str = "auto"


class RunningOptions(Section, frozen=True):
    """Port of Micro-Manager's server, and how long it may take for an answer."""

    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 4827
    timeout_s: Annotated[float, msgspec.Meta(ge=0.02, le=2)] = CALL_S


class CoreProperty:
    """One property of a device of a core.

    Parameters
    ----------
    door : Door
    name : str
        "Device.Property".

    Raises
    ------
    CoreError
        There is no such device or property, or none that takes any number.
    """

    real = True
    own: Entry | None = None

    def __init__(self, door: Door, name: str) -> None:
        self.property = name
        self._door = door
        self._device, _, self._key = name.partition(".")
        _find(door, self._device, self._key)
        where = (self._device, self._key)
        self._whole = int(self._ask("getPropertyType", *where)) == _INTEGER
        self.resolution = 10.0**-_DECIMALS if self._whole else 1.0
        self.read()
        self.span = (-math.inf, math.inf)
        if self._ask("hasPropertyLimits", *where):
            low, high = (self._ask(f"getProperty{end}Limit", *where) for end in ("Lower", "Upper"))
            self.span = (float(low), float(high))

    def read(self) -> float:
        """Ask the device for its value."""
        text = str(self._ask("getProperty", self._device, self._key))
        try:
            value = float(text)
        except ValueError:
            raise ControlError(f"{self.property}: reads '{text}'; expected a number") from None
        self.resolution = min(self.resolution, _last_digit(text))
        return value

    def write(self, value: float) -> float:
        """Set the value, cut to the decimals that a core writes; a whole number has none."""
        scale = 1.0 if self._whole else 10.0**_DECIMALS
        value = math.floor(value * scale + 1e-6) / scale
        text = str(int(value)) if self._whole else f"{value:.{_DECIMALS}f}"
        self._ask("setProperty", self._device, self._key, text)
        return value

    def close(self) -> None:
        """Leave the core, which unloads its devices if it was the guard's own."""
        self._door.close()

    def _ask(self, method: str, *arguments: Any) -> Any:
        return ask(self._door, self.property, method, *arguments)


def open_own(name: str, options: dict[str, Any]) -> CoreProperty:
    """Load a core inside this process and find the property in it.

    Raises
    ------
    ControlError, CoreError
    """
    chosen: OwnOptions = convert(options, OwnOptions, "options")
    return _in(load_core(chosen.config, chosen.adapters), name)


def open_running(name: str, options: dict[str, Any]) -> CoreProperty:
    """Find the property in a Micro-Manager that runs with its server switched on.

    Raises
    ------
    ControlError, CoreError
    """
    chosen: RunningOptions = convert(options, RunningOptions, "options")
    return _in(BridgeDoor(chosen.port, chosen.timeout_s), name)


def _in(door: Door, name: str) -> CoreProperty:
    try:
        return CoreProperty(door, name)
    except BaseException:
        door.close()
        raise


def _find(door: Door, device: str, key: str) -> None:
    """Refuse what is not there, or takes no number."""
    name = f"{device}.{key}"
    loaded = list(ask(door, "core", "getLoadedDevices"))
    if not key or device not in loaded:
        raise CoreError(f"property: '{name}': no device '{device}' (loaded: {', '.join(loaded)})")
    if not ask(door, name, "hasProperty", device, key):
        known = ", ".join(ask(door, name, "getDevicePropertyNames", device))
        raise CoreError(f"property: '{name}': device '{device}' has no '{key}' (it has: {known})")
    if ask(door, name, "isPropertyReadOnly", device, key):
        raise CoreError(f"property: '{name}' can be read only")
    if int(ask(door, name, "getPropertyType", device, key)) not in (_FLOAT, _INTEGER):
        raise CoreError(f"property: '{name}' holds text; expected a number")


def _last_digit(text: str) -> float:
    """Return the worth of the last decimal of a number as it was written: 0.01 for "1.25"."""
    _, point, decimals = text.strip().partition(".")
    return 10.0 ** -(len(decimals) if point and decimals.isdigit() else _DECIMALS)
