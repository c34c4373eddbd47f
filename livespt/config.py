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
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import tomli_w

from livespt.camera import Camera, CameraError, Emccd, Ideal, Scmos
from livespt.camera_file import camera_of, check_identity, read_camera_file
from livespt.types import LivesptError

Positive = Annotated[float, msgspec.Meta(gt=0)]
NonNegative = Annotated[float, msgspec.Meta(ge=0)]
Probability = Annotated[float, msgspec.Meta(gt=0, lt=1)]


class ConfigError(LivesptError):
    """The configuration cannot be used; the message names the file and the key."""


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all sections: frozen, keyword-only, unknown keys refused."""


class SourceConfig(Section, frozen=True):
    """Where frames come from: an entry point of the group ``livespt.sources`` and its options.

    `options` are checked by the source itself, which knows them.
    """

    kind: str = "simulated"
    options: dict[str, Any] = {}
    ring_frames: Annotated[int, msgspec.Meta(ge=2)] = 256
    when_full: Literal["oldest", "raise"] = "oldest"


class CameraConfig(Section, frozen=True):
    """The pixel model. Gains are counts per electron (ADU/e-), never electrons per count.

    Model "source" takes what the source itself knows of its camera (the simulated one does) and
    is an error where it knows nothing: a camera is never guessed. `calibration` names a file of
    `livespt calibrate`, or an .npz made by hand (`livespt.camera_file`); it takes the place of the
    scalars here, and with model "source" of the model too. `calibration_origin_px` is [x0, y0] of
    the frames on the calibrated chip, where they show a part of it.
    """

    model: Literal["source", "ideal", "scmos", "emccd"] = "source"
    gain_adu_per_e: Positive = 1.0
    offset_adu: float = 0.0
    saturation_adu: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 65535
    var_e2: NonNegative = 0.0
    readout_adu: NonNegative = 0.0
    excess: Annotated[float, msgspec.Meta(gt=1, le=2)] = 2.0
    calibration: str = ""
    calibration_origin_px: list[Annotated[int, msgspec.Meta(ge=0)]] = []


class OpticsConfig(Section, frozen=True):
    """Pixel size in the sample and the width of an in-focus spot (or what it follows from).

    Zero means "not given here": then the source must know it. Every D scales with the square of
    the pixel size, so it has no default.
    """

    pixel_um: NonNegative = 0.0
    sigma_um: NonNegative = 0.0
    wavelength_um: NonNegative = 0.0
    numerical_aperture: NonNegative = 0.0

    @property
    def psf_sigma_um(self) -> float:
        """Width of an in-focus spot: given, or 0.21 wavelength / NA (SCIENCE 1); else 0."""
        if self.sigma_um or not self.numerical_aperture:
            return self.sigma_um
        return 0.21 * self.wavelength_um / self.numerical_aperture


class LocalizeConfig(Section, frozen=True):
    """Detection by false-alarm rate; fit region, model and method; predicted places; threads.

    With `joint`, a molecule that a track predicts and that was not found blind is looked for where
    it should be; `guided_false` is the false-alarm probability of each such place.
    """

    false_per_frame: Positive = 0.1
    roi_px: Literal[5, 7, 9, 11, 13, 15] = 9
    model: Literal["symmetric", "asymmetric", "auto"] = "symmetric"
    method: Literal["mle", "map"] = "mle"
    overlap: Literal["single", "pair"] = "single"
    crowding: Literal["widen", "ignore"] = "widen"
    joint: bool = False
    guided_false: Probability = 0.02
    workers: Annotated[int, msgspec.Meta(ge=1, le=64)] = 2


class LinkConfig(Section, frozen=True):
    """Overrides of what the linker works out for itself; leave all out.

    `lag` is how many frames later an identity may still be revised.
    """

    lag: Annotated[int, msgspec.Meta(ge=0, le=3)] = 0
    D_um2_s: list[Positive] = []
    p_switch: Probability | None = None
    p_detect: Probability | None = None
    p_off: Probability | None = None
    p_on: Probability | None = None
    p_bleach: Probability | None = None


class InferConfig(Section, frozen=True):
    """The motion model: number of states, and a first guess that may be badly wrong.

    With "auto" the number of states is found from the data, 1 to 4, beginning with two. With
    `filter` "ukf" or "unscented" each track's own position and D come from its pixels.
    """

    #: States that "auto" begins with, and the most that it may come to.
    BEGIN_WITH: ClassVar[int] = 2
    MOST: ClassVar[int] = 4

    n_states: Annotated[int, msgspec.Meta(ge=1, le=4)] | Literal["auto"] = 2
    D_um2_s: list[Positive] = []
    p_switch: Probability = 0.05
    filter: Literal["tracks", "ukf", "unscented"] = "tracks"
    lags: list[Annotated[int, msgspec.Meta(ge=0, le=50)]] = msgspec.field(
        default_factory=lambda: [0, 3, 7]
    )

    @property
    def first_n_states(self) -> int:
        """States in use when the run begins."""
        return self.BEGIN_WITH if self.n_states == "auto" else self.n_states

    @property
    def most_states(self) -> int:
        """The most states that the run may come to use."""
        return self.MOST if self.n_states == "auto" else self.n_states


class WatchConfig(Section, frozen=True):
    """Alarms where D, density, precision, photons or background change; 0 an hour raises none.

    With `forget`, an alarm of D makes the running fit begin anew.
    """

    false_alarms_per_hour: NonNegative = 0.1
    forget: bool = False


class WireConfig(Section, frozen=True):
    """Where answers are published, on this machine only; port ``*`` takes any free one."""

    publish: str = "tcp://127.0.0.1:5570"
    command: str = "tcp://127.0.0.1:5571"
    image_every_s: NonNegative = 0.1
    enabled: bool = True


class JournalConfig(Section, frozen=True):
    """Where the run folder is made."""

    folder: str = "runs"
    name: str = ""
    rotate_mb: Positive = 256.0
    enabled: bool = True


class Config(Section, frozen=True):
    """One run, from camera to folder."""

    source: SourceConfig = SourceConfig()
    camera: CameraConfig = CameraConfig()
    optics: OpticsConfig = OpticsConfig()
    localize: LocalizeConfig = LocalizeConfig()
    link: LinkConfig = LinkConfig()
    infer: InferConfig = InferConfig()
    watch: WatchConfig = WatchConfig()
    wire: WireConfig = WireConfig()
    journal: JournalConfig = JournalConfig()
    stop_after_s: Positive | None = None
    stop_after_frames: Annotated[int, msgspec.Meta(ge=1)] | None = None


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

    Returns
    -------
    camera : Camera
    notes : list of str
        What somebody should know (pixels that are masked), one line each.

    Raises
    ------
    ConfigError
        The calibration file is missing, lacks a key, is of another camera, version or shape; or
        the model is left to a source that knows none.
    """
    try:
        if config.calibration:
            return _calibrated(config, shape, origin, identity)
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
    config: CameraConfig, shape: tuple[int, int], origin: str, identity: str
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
    model = "" if config.model == "source" else config.model
    where = (place[0], place[1]) if place else None
    return camera_of(content, path, shape, model=model, origin_px=where)


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
        return [f.name for f in msgspec.structs.fields(kind)]
    except TypeError:
        return []


def frames_for(seconds: float, interval_s: float) -> int:
    """Return how many frames `seconds` of a stream hold, at least one."""
    return max(1, math.ceil(seconds / interval_s))
