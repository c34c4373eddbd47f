"""What sets the light: one number that can be written and read back.

An actuator knows one property of one device. It does as it is told and judges nothing: the guard is
the only one that calls it. Actuators are found by name in the entry-point group
``livespt.actuators``, where a third party's registers beside ours.
"""

from __future__ import annotations

import importlib.metadata
from typing import Protocol

from livespt.control.errors import ControlError
from livespt.control.limits import Entry
from livespt.sections import ActuatorConfig
from livespt.types import LivesptError

GROUP = "livespt.actuators"


class Actuator(Protocol):
    """One property of one device.

    Attributes
    ----------
    property : str
        "Device.Property", the name of its table in the machine's limits.
    real : bool
        Whether light comes out: such a one needs limits of the machine, a log, and arming.
    own : Entry or None
        Limits that it brings along, for what is not real; None: the machine's.
    span : (float, float)
        Lowest and highest value that the device takes; infinite where it does not say.
    resolution : float
        By how much a reading may differ from what was set, for want of digits.
    """

    property: str
    real: bool
    own: Entry | None
    span: tuple[float, float]
    resolution: float

    def read(self) -> float:
        """Ask the device for its value; whatever is raised is a fault."""
        ...

    def write(self, value: float) -> float:
        """Set the value, or the nearest below; return what was set. What is raised is a fault."""
        ...

    def close(self) -> None:
        """Let go of the device, and leave its value as it is."""
        ...


def known_actuators() -> list[str]:
    """Return the names that `open_actuator` accepts, sorted."""
    return sorted({entry.name for entry in importlib.metadata.entry_points(group=GROUP)})


def open_actuator(config: ActuatorConfig) -> Actuator:
    """Open the actuator that `config` names; nothing is written.

    Raises
    ------
    ControlError
        No such actuator, device or property, a package that it needs is not installed, or an
        option is wrong.
    """
    found = list(importlib.metadata.entry_points(group=GROUP, name=config.kind))
    if not found:
        raise ControlError(
            f"control.actuator.kind: no actuator '{config.kind}' "
            f"(known: {', '.join(known_actuators())})"
        )
    try:
        return found[0].load()(config.property, config.options)
    except ImportError as error:
        raise ControlError(
            f"control.actuator.kind: '{config.kind}' cannot be loaded: {error}"
        ) from None
    except LivesptError as error:
        raise ControlError(f"control.actuator: {error}") from None
