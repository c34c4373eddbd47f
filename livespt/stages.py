"""From a config to the stages of a run: built, checked against each other, nothing started."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from livespt import config as configuration
from livespt.camera import Camera
from livespt.camera_file import Region
from livespt.config import ConfigError
from livespt.infer import Follower, OnlineFilter, PixelFilterError
from livespt.link import Linker
from livespt.localize import Guide, Localizer
from livespt.pipeline import Chain
from livespt.sections import CameraConfig, Config
from livespt.sources import Source, open_source
from livespt.sources.movies import Movie
from livespt.types import SourceInfo

#: `camera.saturation_adu` where nobody gave one.
TOP = CameraConfig().saturation_adu


class Stages(NamedTuple):
    """The stages of one run, built and checked, nothing started.

    `config` is what was asked for, with what the source knew filled in; `notes` what somebody
    should know about the camera, one line each.
    """

    config: Config
    source: Source
    camera: Camera
    localizer: Localizer
    guide: Guide | None
    linker: Linker
    online: OnlineFilter
    follow: Follower | None = None
    notes: tuple[str, ...] = ()

    @property
    def chain(self) -> Chain:
        """The stages as the live loop wants them."""
        return self._chain(_Behind(self.guide, self.linker, self.online, self.follow))

    def another_chain(self) -> Chain:
        """Return a chain that has seen nothing: the localizer, and all behind it made anew."""
        return self._chain(_behind_localizer(self.config, self.source.info, self.camera, "config"))

    def _chain(self, behind: _Behind) -> Chain:
        lag = self.config.link.lag
        return Chain(self.localizer, behind.linker, behind.online, behind.guide, behind.follow, lag)


def open_stages(config: Config, origin: str = "config", source: Source | None = None) -> Stages:
    """Build every stage that `config` names, and check that they fit together.

    A `source` that is given takes the place of the one that `config` names.

    Raises
    ------
    LivesptError
        One line that names the file or key at fault. The source is closed again.
    """
    if source is None:
        source = open_source(config.source.kind, dict(config.source.options), origin=origin)
    try:
        return _stages(config, source, origin)
    except BaseException:
        source.close()
        raise


def _stages(config: Config, source: Source, origin: str) -> Stages:
    info = source.info
    region = Region(getattr(source, "binning", 0), getattr(source, "origin_px", None))
    camera, notes = configuration.choose_camera(
        config.camera, info.shape, getattr(source, "camera", None), origin, info.identity, region
    )
    camera.check(info.shape)
    config, said = _saturation(config, source)
    pixel_um = _known(config.optics.pixel_um, source, "pixel_um", origin)
    notes += [*said, *_pixel_sizes(pixel_um, source, origin), *getattr(source, "notes", ())]
    sigma_um = _known(config.optics.psf_sigma_um, source, "sigma_um", origin)
    localizer = Localizer(
        camera,
        pixel_um,
        sigma_um,
        info.shape,
        false_per_frame=config.localize.false_per_frame,
        roi_px=config.localize.roi_px,
        overlap=config.localize.overlap,
        crowding=config.localize.crowding,
        saturation_adu=config.camera.saturation_adu,
        model=config.localize.model,
        method=config.localize.method,
    )
    optics = msgspec.structs.replace(config.optics, pixel_um=pixel_um, sigma_um=sigma_um)
    resolved = msgspec.structs.replace(config, optics=optics)
    behind = _behind_localizer(resolved, info, camera, origin)
    return Stages(resolved, source, camera, localizer, *behind, tuple(notes))


class _Behind(NamedTuple):
    """The stages that remember what came before, in the order of `Stages`."""

    guide: Guide | None
    linker: Linker
    online: OnlineFilter
    follow: Follower | None


def _behind_localizer(config: Config, info: SourceInfo, camera: Camera, origin: str) -> _Behind:
    """Make them anew; `config` knows the optics."""
    pixel_um, sigma_um = config.optics.pixel_um, config.optics.sigma_um
    guide = None
    if config.localize.joint:
        chosen = config.localize
        guide = Guide(
            camera,
            pixel_um,
            sigma_um,
            info.shape,
            roi_px=chosen.roi_px,
            alarm=chosen.guided_false,
        )
    field_um = (info.shape[0] * pixel_um, info.shape[1] * pixel_um)
    linker = Linker(info.interval_s, field_um=field_um, overrides=config.link)
    online = OnlineFilter(
        config.infer.n_states,
        info.interval_s,
        field_um=field_um,
        config=config.infer,
        watch=config.watch,
    )
    return _Behind(
        guide, linker, online, _follower(config, camera, (pixel_um, sigma_um), info.shape, origin)
    )


def _follower(
    config: Config,
    camera: Camera,
    optics_um: tuple[float, float],
    shape: tuple[int, int],
    origin: str,
) -> Follower | None:
    """Return what follows tracks in their pixels, where that was asked for."""
    method = config.infer.filter
    if method == "tracks":
        return None
    try:
        return Follower(camera, *optics_um, shape, method=method)
    except PixelFilterError as error:
        raise ConfigError(f"{origin}: infer.filter: '{method}': {error}") from None


def note_on_first_frames(stages: Stages) -> str:
    """Say where a movie's noise contradicts its camera; "" where not, or where the source is live.

    A camera is not started for this.
    """
    movie = getattr(stages.source, "movie", None)
    if not isinstance(movie, Movie):
        return ""
    from livespt.calibration.direction import N_FRAMES, note_on_gain  # no run needs its packages

    n = min(movie.n_frames, N_FRAMES)
    return note_on_gain((movie.read(i) for i in range(n)), stages.camera)


#: Pixel sizes of the config and of the source that differ by more are told.
PIXEL_TOLERANCE = 0.01


def _pixel_sizes(pixel_um: float, source: Source, origin: str) -> list[str]:
    """Say where the config's pixel size is not the source's: D is wrong by the square of it.

    The config is believed: many microscopes are set up without a true pixel size.
    """
    known_um = float(getattr(source, "pixel_um", 0.0) or 0.0)
    if not known_um or abs(pixel_um / known_um - 1) <= PIXEL_TOLERANCE:
        return []
    return [
        f"{origin}: optics.pixel_um = {pixel_um:g} is used, and {source.info.name} says "
        f"{known_um:g}: were that right, D would be {(known_um / pixel_um) ** 2:.3g} times as large"
    ]


def _saturation(config: Config, source: Source) -> tuple[Config, list[str]]:
    """Take the highest count from the source's bit depth, where the config leaves it at the top."""
    known = int(getattr(source, "saturation_adu", 0) or 0)
    if not known or known >= config.camera.saturation_adu or config.camera.saturation_adu != TOP:
        return config, []
    camera = msgspec.structs.replace(config.camera, saturation_adu=known)
    note = f"camera.saturation_adu = {known}, from the bit depth of {source.info.name}"
    return msgspec.structs.replace(config, camera=camera), [note]


def _known(given: float, source: Source, name: str, origin: str) -> float:
    value = given or float(getattr(source, name, 0.0) or 0.0)
    if value <= 0:
        hint = "" if name == "pixel_um" else " (or optics.wavelength_um and numerical_aperture)"
        raise ConfigError(
            f"{origin}: optics.{name}: not given, and the source does not know it{hint}"
        )
    return value


def describe(config: Config, origin: str = "config") -> dict[str, Any]:
    """Open and check all that `config` names, close it again, and say what it is."""
    stages = open_stages(config, origin)
    try:
        info = stages.source.info
        notes = [*stages.notes, note_on_first_frames(stages)]
        return {
            "source": info.name,
            "identity": info.identity,
            "shape": list(info.shape),
            "interval_s": info.interval_s,
            "exposure_s": info.exposure_s,
            "n_frames": info.n_frames,
            "paced": info.paced,
            "camera": type(stages.camera).__name__.lower(),
            "pixel_um": stages.config.optics.pixel_um,
            "n_states": config.infer.n_states,
            "notes": [note for note in notes if note],
        }
    finally:
        stages.source.close()
