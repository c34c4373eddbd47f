"""Micro-Manager through pycromanager.

Two backends. "python" starts the real core inside this process from Micro-Manager's device adapters
(no Java; full camera rate). "running" taps a Micro-Manager that already runs with its server
switched on, over a bridge that carries about 100 MB/s: enough for a small region of interest.

To ride along in a pycromanager `Acquisition` of your own, see `livespt.sources.ridealong`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from livespt.config import parse
from livespt.core import Door, connect, start_core
from livespt.sources.camera_setup import CameraOptions
from livespt.sources.coretap import CoreTap


class MicroManagerOptions(CameraOptions, frozen=True):
    """Options of the source "micromanager": those of `CameraOptions`, and the backend.

    Attributes
    ----------
    backend : {"python", "running"}
    port : int
        Of the running Micro-Manager's server.
    """

    backend: Literal["python", "running"] = "python"
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 4827


def open_source(options: dict[str, Any]) -> CoreTap:
    """Open a camera through pycromanager (see `MicroManagerOptions`).

    Raises
    ------
    CoreError
        pycromanager is not installed, or the core, its files or its camera refuse.
    ConfigError
        An option is unknown or out of range.
    """
    chosen = parse(options, "source.options", MicroManagerOptions)
    door = _open(chosen)
    return CoreTap(door, chosen)


def _open(chosen: MicroManagerOptions) -> Door:
    if chosen.backend == "running":
        return connect(chosen.port)
    return start_core(chosen.config, chosen.adapters)
