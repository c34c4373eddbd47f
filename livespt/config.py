"""The run's configuration: typed TOML in, one frozen tree out.

Every section is a struct whose fields carry their unit in the name and their range in the type.
An unknown key, a wrong type or a value out of range raises `ConfigError`, one line that names
the file, the key and what was expected. `dump` writes back all that `load` reads, so that the
run folder holds what was really used, defaults included.
"""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import tomli_w

from livespt.camera import Camera, CameraError, Emccd, Ideal, Scmos
from livespt.camera_file import (
    ANY_REGION,
    Region,
    camera_of,
    check_binning,
    check_identity,
    place_of,
    read_camera_file,
)
from livespt.sections import CameraConfig, Config
from livespt.types import LivesptError


class ConfigError(LivesptError):
    """The configuration cannot be used; the message names the file and the key."""


def load(path: str | Path) -> Config:
    """Read and check a TOML file.

    Raises
    ------
    ConfigError
        The file is missing or torn, or a key is unknown, of the wrong type or out of range.
    """
    path = Path(path)
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such config file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    return parse(raw, str(path))


def parse(raw: dict[str, Any], origin: str = "config", kind: type = Config) -> Any:
    """Turn a plain dict into `kind` (by default a `Config`), or say which key is wrong."""
    infinite = _infinite(raw)
    if infinite:
        raise ConfigError(f"{origin}: {infinite}: not a finite number")
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{origin}: {_explain(str(error), kind)}") from None


def dump(config: Config) -> str:
    """Write `config` as TOML, defaults included."""
    return tomli_w.dumps(_without_none(msgspec.to_builtins(config)))


def _without_none(value: Any) -> Any:
    """Leave out what is not set: TOML has no word for it, and the default says the same."""
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return value


def build_camera(
    config: CameraConfig,
    shape: tuple[int, int],
    known: Camera | None = None,
    origin: str = "config",
) -> Camera:
    """Make the pixel model that `config` describes (see `choose_camera`), and that alone."""
    return choose_camera(config, shape, known, origin)[0]


def choose_camera(
    config: CameraConfig,
    shape: tuple[int, int],
    known: Camera | None = None,
    origin: str = "config",
    identity: str = "",
    region: Region = ANY_REGION,
) -> tuple[Camera, list[str]]:
    """Make the pixel model that `config` describes, for frames of `shape`.

    Parameters
    ----------
    config : CameraConfig
    shape : (int, int)
        Height and width of the frames.
    known : Camera, optional
        What the source knows of its own camera, for model "source".
    origin : str
        Where the config came from, for messages.
    identity : str
        The source's camera, which a calibration must have been made with; "" is not checked.
    region : Region
        What the source knows of its frames' place on the chip, for a calibration: its part is
        taken where `config` does not say which, and other binning is refused.

    Returns
    -------
    camera : Camera
    notes : list of str
        What somebody should know (pixels that are masked), one line each.

    Raises
    ------
    ConfigError
        The calibration file is missing, lacks a key, is of another camera, version, binning or
        shape; or the model is left to a source that knows none.
    """
    try:
        if config.calibration:
            return _calibrated(config, shape, origin, identity, region)
        return _plain_camera(config, known, origin), []
    except CameraError as error:
        raise ConfigError(f"{origin}: camera: {error}") from None


def _plain_camera(config: CameraConfig, known: Camera | None, origin: str) -> Camera:
    if config.model == "source":
        if known is None:
            raise ConfigError(
                f"{origin}: camera.model: this source does not know its camera; "
                "set it to 'ideal', 'scmos' or 'emccd'"
            )
        return known
    if config.model == "ideal":
        return Ideal()
    if config.model == "scmos":
        return Scmos(config.gain_adu_per_e, config.offset_adu, config.var_e2)
    return Emccd(config.gain_adu_per_e, config.excess, config.readout_adu, config.offset_adu)


def _calibrated(
    config: CameraConfig, shape: tuple[int, int], origin: str, identity: str, region: Region
) -> tuple[Camera, list[str]]:
    path, place = Path(config.calibration), config.calibration_origin_px
    if config.model == "ideal":
        raise ConfigError(
            f"{origin}: camera.calibration: goes with model 'scmos' or 'emccd', not 'ideal'"
        )
    if len(place) not in (0, 2):
        raise ConfigError(f"{origin}: camera.calibration_origin_px: {place}; expected [x0, y0]")
    content = read_camera_file(path)
    check_identity(content, path, identity)
    check_binning(content, path, shape, region)
    model = "" if config.model == "source" else config.model
    where, notes = (place[0], place[1]) if place else None, []
    if where is None:
        where, notes = place_of(content, path, shape, region)
    camera, found = camera_of(content, path, shape, model=model, origin_px=where)
    return camera, [*notes, *found]


def _infinite(raw: Any, where: str = "") -> str:
    """Return the first key whose value is inf or nan, "" where all are numbers that one can use."""
    if isinstance(raw, dict):
        found = (_infinite(value, f"{where}.{key}".lstrip(".")) for key, value in raw.items())
        return next(filter(None, found), "")
    return where if isinstance(raw, float) and not math.isfinite(raw) else ""


def _explain(message: str, kind: type) -> str:
    """Rewrite a validation message as `section.key: what is wrong` with the nearest known key."""
    text, _, where = message.partition(" - at `$")
    where = where.rstrip("`").lstrip(".")
    unknown = re.search(r"unknown field `(\w+)`", text)
    if not unknown:
        return f"{where or 'top level'}: {text[0].lower()}{text[1:]}"
    names = _field_names(kind, where)
    near = difflib.get_close_matches(unknown[1], names, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else f" (known: {', '.join(names)})"
    prefix = f"{where}." if where else ""
    return f"unknown key '{prefix}{unknown[1]}'{hint}"


def _field_names(kind: Any, where: str) -> list[str]:
    for part in filter(None, where.split(".")):
        kind = {f.name: f.type for f in msgspec.structs.fields(kind)}.get(part, kind)
    try:
        return [f.encode_name for f in msgspec.structs.fields(kind)]
    except TypeError:
        return []


def frames_for(seconds: float, interval_s: float) -> int:
    """Return how many frames `seconds` of a stream hold, at least one."""
    return max(1, math.ceil(seconds / interval_s))
