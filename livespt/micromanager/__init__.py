"""livespt inside your own Micro-Manager script, in one line.

- `attach`: a core whose camera nobody runs; livespt runs it.
- `ride_along`: your own pycromanager `Acquisition`.
- `follow_mda`: your own pymmcore-plus acquisition.

The last two have their analysis in a process of its own, so that the acquisition keeps its pace.

Each is a context. What is wrong is said when it is made, before the camera runs; camera, pixel
size, exposure, binning, region and bit depth are read from the core and held against the config and
its calibration. How-to: docs/how-to/micro-manager.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Any

from livespt.config import parse
from livespt.core import CameraFacts, door_of, read_camera
from livespt.micromanager.apart import RideApart
from livespt.micromanager.checks import (
    AnyConfig,
    check_idle,
    check_saving,
    excitation_notes,
    named_run,
    read_config,
)
from livespt.micromanager.live import Live
from livespt.micromanager.ride import Ride
from livespt.session import Session
from livespt.sources.base import SourceError
from livespt.sources.camera_setup import CameraOptions
from livespt.sources.coretap import CoreTap
from livespt.sources.ridealong import RideAlong
from livespt.types import LivesptError

__all__ = [
    "CameraFacts",
    "Live",
    "Ride",
    "RideApart",
    "attach",
    "describe",
    "follow_mda",
    "ride_along",
]


def attach(core: Any, config: AnyConfig, **options: Any) -> Live:
    """Run the core's camera and analyse what it gives; the core stays open afterwards.

    Parameters
    ----------
    core : object
        pycromanager's `Core()`, `Core(port=...)` of a Micro-Manager that runs, a `CMMCorePlus` or
        a `UniMMCore`.
    config : Config, path or mapping
        A run's config; its `[source]` is not used but for the ring.
    **options
        As `livespt.sources.camera_setup.CameraOptions`: `exposure_ms`, `interval_ms`, `n_frames`,
        `buffer_mb`, ... What is left out stays as the core has it.

    Raises
    ------
    LivesptError
        The camera runs already, or config, calibration and core do not fit; one line names why.
    """
    chosen, origin = read_config(config)
    door = door_of(core)
    try:
        check_idle(door)
        settings = parse(options, "attach", CameraOptions)
    except LivesptError:
        door.close()
        raise
    tap = CoreTap(door, settings)
    tap.notes = excitation_notes(chosen, door)
    return Live(Session(named_run(chosen, tap.label), source=tap, origin=origin))


def ride_along(
    config: AnyConfig,
    core: Any,
    *,
    per: str | Sequence[str] = (),
    interval_s: float | None = None,
    apart: bool = True,
    **options: Any,
) -> Ride | RideApart:
    """Ride along in a pycromanager `Acquisition` of your own.

    Give the acquisition `image_process_fn` of what is returned; or, where images shall not take
    that way, `notification_callback_fn`, and the acquisition to `read_from`.

    Parameters
    ----------
    config : Config, path or mapping
        A run's config; its `[source]` is not used.
    core : object
        The core that acquires: its camera is read, and left alone.
    per : str or sequence of str
        Axes, as "position", each value of which gets a run of its own.
    interval_s : float, optional
        Time between frames of one place; the exposure where left out.
    apart : bool
        Analyse in a process of its own, so that the acquisition keeps its pace; otherwise in this
        one.
    **options
        `axes` (the values that are wanted, as ``{"channel": "GFP"}``), `ring_frames`.

    Raises
    ------
    LivesptError
        Config, calibration and core do not fit; one line names why.
    """
    chosen, origin = read_config(config)
    check_saving(chosen, origin)
    places = (per,) if isinstance(per, str) else tuple(per)
    with closing(door_of(core)) as door:
        notes = excitation_notes(chosen, door)
        facts = read_camera(door)
    if apart:
        interval_s = facts.exposure_s if interval_s is None else interval_s
        return RideApart(
            chosen, origin, facts, interval_s=interval_s, per=places, options=options, notes=notes
        )
    try:
        along = RideAlong.beside(core, per=places, interval_s=interval_s, **options)
    except TypeError as error:
        raise SourceError(f"ride_along: {error}") from None
    along.notes = notes
    return Ride(along, chosen, origin, split=bool(per))


def follow_mda(
    core: Any, config: AnyConfig, *, per: str | Sequence[str] = (), **options: Any
) -> Ride | RideApart:
    """Follow the next acquisition of a pymmcore-plus core, `core.run_mda` or `core.mda.run`.

    Parameters
    ----------
    core : CMMCorePlus
    config, per, **options
        As for `ride_along`.

    Raises
    ------
    LivesptError
        As for `ride_along`.
    """
    ride = ride_along(config, core, per=per, **options)
    ride.connect(core.mda)
    return ride


def describe(core: Any) -> CameraFacts:
    """Return what the core says of its camera: label, identity, pixel size, region, binning...

    Raises
    ------
    CoreError
        It is no core, or has no camera.
    """
    with closing(door_of(core)) as door:
        return read_camera(door)
