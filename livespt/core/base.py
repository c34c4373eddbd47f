"""A way to a Micro-Manager core, whoever runs it.

A `Door` spells the core's methods and nothing more; cameras and lasers are reached through the same
doors. Every refusal of the core becomes one line that names the device, property or option.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

from livespt.types import LivesptError

#: The extra that brings all that a core needs.
EXTRA = "micromanager"
#: A camera says that it has stopped a little before its thread has; unloading it in between ends
#: the whole process (seen with DemoCamera in 1 of 5 runs), so that a door waits before it does.
SETTLE_S = 0.1


class CoreError(LivesptError):
    """A core, or a package that leads to one, is not there or refuses."""


class Door(Protocol):
    """A way to a core: methods by their C++ names, and one image at a time."""

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the core, by the name it has in C++ (`setExposure`)."""
        ...

    def pop(self) -> tuple[NDArray, Mapping[str, Any]]:
        """Take the oldest image and its tags; raises where there is none."""
        ...

    def close(self) -> None:
        """Let go of the core, if this door opened it."""
        ...


def ask(door: Door, what: str, method: str, *arguments: Any) -> Any:
    """Call the core; a refusal becomes one line that begins with `what`.

    Raises
    ------
    CoreError
    """
    try:
        return door.call(method, *arguments)
    except Exception as error:  # noqa: BLE001 (the bindings raise several kinds, remote ones any)
        raise CoreError(f"{what}: {one_line(error)}") from None


def one_line(error: BaseException) -> str:
    """Return the error's text on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def set_property(door: Door, name: str, value: str | float) -> None:
    """Set "Device.Property", or say in one line why it cannot be.

    Raises
    ------
    CoreError
        No such device or property, or a value that the device refuses.
    """
    label, _, key = name.partition(".")
    loaded = list(ask(door, "core", "getLoadedDevices"))
    if label not in loaded:
        raise CoreError(f"properties: {name}: no device '{label}' (loaded: {', '.join(loaded)})")
    if not ask(door, label, "hasProperty", label, key):
        raise CoreError(f"properties: {name}: device '{label}' has no property '{key}'")
    text = str(int(value)) if isinstance(value, bool) else str(value)
    allowed = list(ask(door, label, "getAllowedPropertyValues", label, key))
    if allowed and text not in allowed:
        raise CoreError(f"properties: {name}: '{text}' (allowed: {', '.join(allowed)})")
    ask(door, f"properties: {name} = {text}", "setProperty", label, key, text)


def need(module: str, extra: str) -> Any:
    """Import an optional package, or say in one line which extra brings it.

    Raises
    ------
    CoreError
        The package, or one that it needs, is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        missing = error.name or module
        raise CoreError(
            f"'{missing}' is not installed: pip install 'livespt[{extra}]' brings it"
        ) from None
