"""Control of the excitation: a law that asks, and a guard that alone writes."""

from livespt.control.actuator import Actuator, known_actuators, open_actuator
from livespt.control.errors import ControlError
from livespt.control.handle import GuardHandle
from livespt.control.limits import Entry, Limits, limits_path, machine_limits, read_limits
from livespt.control.log import LOG_FILE, read_log
from livespt.control.status import GuardStatus

__all__ = [
    "LOG_FILE",
    "Actuator",
    "ControlError",
    "Entry",
    "GuardHandle",
    "GuardStatus",
    "Limits",
    "known_actuators",
    "limits_path",
    "machine_limits",
    "open_actuator",
    "read_limits",
    "read_log",
]
