"""What a script hands over, held against the core."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from livespt.config import ConfigError, load, parse
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


def check_saving(config: Config, origin: str) -> None:
    """Refuse to save beside an acquisition, whose images have passed a ring when they come.

    Raises
    ------
    ConfigError
    """
    if config.raw.save:
        raise ConfigError(
            f"{origin}: raw.save: not beside an acquisition: the acquisition saves its own images"
        )


def excitation_notes(config: Config, door: Door) -> tuple[str, ...]:
    """Say whether the core has the excitation property that the config's [control] names.

    Only a note: the laser may be driven through a core of its own, which refuses for itself.
    Nothing is written here.
    """
    actuator = getattr(getattr(config, "control", None), "actuator", None)
    name = str(getattr(actuator, "property", "") or "")
    if not name:
        return ()
    try:
        value = check_property(door, name, "control.actuator.property")
    except CoreError as error:
        return (f"not in this core: {error}",)
    return (f"control.actuator.property: {name} = {value}",)


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
