"""What a script hands over, held against the core."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from livespt.config import load, parse
from livespt.core import CoreError, Door, check_property
from livespt.sections import Config

#: A TOML file, its content, or the config itself.
AnyConfig: TypeAlias = "Config | str | Path | Mapping[str, Any]"


def read_config(config: AnyConfig) -> tuple[Config, str]:
    """Return the config and its name for messages.

    Raises
    ------
    ConfigError
        Naming the file and the key at fault.
    """
    if isinstance(config, Config):
        return config, "config"
    if isinstance(config, Mapping):
        return parse(dict(config)), "config"
    return load(config), str(config)


def named_run(config: Config, name: str, *, anyway: bool = False) -> Config:
    """Return the config with a name for its run folder, where it has none or `anyway`."""
    if config.journal.name and not anyway:
        return config
    journal = msgspec.structs.replace(config.journal, name=name)
    return msgspec.structs.replace(config, journal=journal)


def check_excitation(config: Config, door: Door, origin: str) -> None:
    """Refuse a config whose excitation property the core does not have.

    An actuator with a core of its own is checked there; nothing is written here.

    Raises
    ------
    CoreError
        Naming `control.actuator.property`.
    """
    control = getattr(config, "control", None)
    actuator = getattr(control, "actuator", None)
    name = str(getattr(actuator, "property", "") or "")
    if name and getattr(control, "mode", "off") != "off":
        check_property(door, name, f"{origin}: control.actuator.property")


def check_idle(door: Door) -> None:
    """Refuse a core whose camera runs already: its images are somebody else's.

    Raises
    ------
    CoreError
    """
    if door.call("isSequenceRunning"):
        raise CoreError(
            "core: its camera runs already (live view or an acquisition): stop it first, or ride "
            "along in the acquisition (livespt.micromanager.ride_along)"
        )
