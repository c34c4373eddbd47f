"""Configs that a command line builds by itself: the demo, and a movie to replay."""

from __future__ import annotations

import math
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from livespt.config import ConfigError, frames_for, load, parse
from livespt.sections import (
    Config,
    InferConfig,
    JournalConfig,
    OpticsConfig,
    RawConfig,
    SourceConfig,
    WireConfig,
)

#: Frame time of the simulated scene "demo".
DEMO_INTERVAL_S = 0.02


def demo_config(
    *, seed: int, seconds: float, camera: str = "scmos", folder: str = "runs"
) -> Config:
    """Return the config of ``livespt demo``: the simulated microscope, two states, real time.

    The model is not told the truth: it knows the camera and the optics, as a user would, and
    neither the diffusion coefficients nor the rates.
    """
    if not 0 < seconds < math.inf:
        raise ConfigError(f"--seconds: {seconds:g}; expected a time > 0")
    options: dict[str, Any] = {
        "scene": "demo",
        "seed": seed,
        "n_frames": frames_for(seconds, DEMO_INTERVAL_S),
        "interval_s": DEMO_INTERVAL_S,
        "camera": {"model": camera},
    }
    return Config(
        source=SourceConfig(kind="simulated", options=options),
        infer=InferConfig(n_states=2),
        journal=JournalConfig(folder=folder, name="demo"),
        wire=_free_wire(),
    )


def replay_config(
    movie: Path,
    config: Path | None = None,
    *,
    pixel_um: float | None = None,
    frame_ms: float | None = None,
    exposure_ms: float | None = None,
    fps: float | None = None,
) -> Config:
    """Return `config` (or the defaults) with `movie` as its source, which is not saved again."""
    base = load(config) if config else Config()
    given = {
        "interval_s": frame_ms and frame_ms / 1e3,
        "times": frame_ms and "interval",  # what the user says goes before what the file says
        "exposure_s": exposure_ms and exposure_ms / 1e3,
        "fps": fps,
    }
    kept = dict(base.source.options) if base.source.kind == "replay" else {}
    options = kept | {"path": str(movie)} | {k: v for k, v in given.items() if v is not None}
    optics: OpticsConfig = base.optics
    if pixel_um is not None:
        optics = msgspec.structs.replace(optics, pixel_um=pixel_um)
    source = msgspec.structs.replace(base.source, kind="replay", options=options)
    return msgspec.structs.replace(base, source=source, optics=optics, raw=RawConfig())


def follow_config(
    data_set: Path,
    config: Path | None = None,
    *,
    pixel_um: float | None = None,
    from_now: bool = False,
    axes: Mapping[str, int | str] | None = None,
) -> Config:
    """Return `config` (or the defaults) with the growing `data_set` as its source.

    Its images are in files already and not saved again.
    """
    base = load(config) if config else Config()
    given = {"from": "now" if from_now else None, "axes": dict(axes) if axes else None}
    kept = dict(base.source.options) if base.source.kind == "follow" else {}
    options = kept | {"path": str(data_set)} | {k: v for k, v in given.items() if v is not None}
    optics: OpticsConfig = base.optics
    if pixel_um is not None:
        optics = msgspec.structs.replace(optics, pixel_um=pixel_um)
    source = msgspec.structs.replace(base.source, kind="follow", options=options)
    return msgspec.structs.replace(base, source=source, optics=optics, raw=RawConfig())


def localize_config(
    movie: Path,
    config: Path | None,
    given: Mapping[str, Mapping[str, Any]],
    frame_ms: float | None,
    exposure_ms: float | None = None,
) -> Config:
    """Return `config` (or the defaults) for ``livespt localize``.

    Parameters
    ----------
    movie : Path
    config : Path, optional
    given : mapping
        Section -> key -> what the command line says; None says nothing.
    frame_ms, exposure_ms : float, optional
        Time between frames; how much of it the shutter is open.
    """
    built = replay_config(movie, config, frame_ms=frame_ms, exposure_ms=exposure_ms)
    raw = msgspec.to_builtins(built)
    for section, values in given.items():
        raw[section] |= {key: value for key, value in values.items() if value is not None}
    raw["source"]["options"] |= {"paced": False}
    raw["source"]["options"].pop("fps", None)
    return parse(raw, "command line")


def _free_wire() -> WireConfig:
    """Return the usual ports where they are free, any others where not: a demo never clashes."""
    usual = WireConfig()
    for address in (usual.publish, usual.command):
        host, _, port = address.removeprefix("tcp://").rpartition(":")
        with socket.socket() as probe:
            if probe.connect_ex((host, int(port))) == 0:
                anywhere = f"tcp://{host}:*"
                return WireConfig(publish=anywhere, command=anywhere)
    return usual
