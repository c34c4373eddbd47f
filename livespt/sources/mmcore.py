"""Micro-Manager's core through pymmcore-plus: the second door, without pycromanager.

The same tap as `livespt.sources.micromanager`, for whoever already drives the microscope with
`CMMCorePlus`, or has a camera written in Python (`UniMMCore`): `tap` takes such a core as it is.
"""

from __future__ import annotations

from typing import Any

from livespt.config import parse
from livespt.core import PlusDoor, load_core
from livespt.sources.camera_setup import CameraOptions
from livespt.sources.coretap import CoreTap


def open_source(options: dict[str, Any]) -> CoreTap:
    """Open a camera through pymmcore-plus (see `CameraOptions`).

    Raises
    ------
    CoreError
        pymmcore-plus is not installed, or the core, its files or its camera refuse.
    ConfigError
        An option is unknown or out of range.
    """
    chosen = parse(options, "source.options", CameraOptions)
    return CoreTap(load_core(chosen.config, chosen.adapters), chosen)


def tap(core: Any, options: CameraOptions | None = None) -> CoreTap:
    """Tap a `CMMCorePlus` or `UniMMCore` that is already set up; it stays open afterwards."""
    return CoreTap(PlusDoor(core), options or CameraOptions())
