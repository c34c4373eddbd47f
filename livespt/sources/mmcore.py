"""Micro-Manager's core through pymmcore-plus: the second door, without pycromanager.

The same tap as `livespt.sources.micromanager`, for whoever already drives the microscope with
`CMMCorePlus`, or has a camera written in Python (`UniMMCore`): `tap` takes such a core as it is.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from livespt.config import parse
from livespt.sources.base import SourceError, need
from livespt.sources.coresetup import SETTLE_S, CameraOptions, one_line
from livespt.sources.coretap import CoreTap
from livespt.sources.micromanager import EXTRA, adapter_folder, config_file


class PlusDoor:
    """pymmcore-plus' spelling of the core: the C++ names.

    Parameters
    ----------
    core : CMMCorePlus
    owned : bool
        Whether closing this door unloads the devices.
    """

    def __init__(self, core: Any, *, owned: bool = False) -> None:
        self.core, self.owned = core, owned

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method by its C++ name."""
        return getattr(self.core, method)(*arguments)

    def pop(self) -> tuple[NDArray, Mapping[str, Any]]:
        """Take the oldest image and its tags."""
        return self.core.popNextImageAndMD()

    def close(self) -> None:
        """Unload the devices, if this door loaded them."""
        if self.owned:
            self.owned = False
            time.sleep(SETTLE_S)
            self.core.unloadAllDevices()


def open_source(options: dict[str, Any]) -> CoreTap:
    """Open a camera through pymmcore-plus (see `CameraOptions`).

    Raises
    ------
    SourceError
        pymmcore-plus is not installed, or the core, its files or its camera refuse.
    ConfigError
        An option is unknown or out of range.
    """
    chosen = parse(options, "source.options", CameraOptions)
    plus = need("pymmcore_plus", EXTRA)
    folder = adapter_folder(chosen.adapters)
    config = config_file(chosen.config, folder)
    core = plus.CMMCorePlus(mm_path=str(folder), adapter_paths=[str(folder)])
    try:
        core.loadSystemConfiguration(str(config))
    except Exception as error:  # noqa: BLE001 (OSError, RuntimeError, ... from the core)
        raise SourceError(f"config: {config}: {one_line(error)}") from None
    return CoreTap(PlusDoor(core, owned=True), chosen)


def tap(core: Any, options: CameraOptions | None = None) -> CoreTap:
    """Tap a `CMMCorePlus` or `UniMMCore` that is already set up; it stays open afterwards."""
    return CoreTap(PlusDoor(core), options or CameraOptions())
