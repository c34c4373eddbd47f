"""What can be set on the simulated microscope: one struct, each name with its unit.

A scene (`livespt_sim.scenes`) gives every field a value; options override it field by field.
"""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from livespt.camera import Camera, CameraError, Emccd, Ideal, Scmos
from livespt.config import ConfigError, NonNegative, Positive, Section, parse

Count = Annotated[int, msgspec.Meta(ge=0)]
Pixels = Annotated[int, msgspec.Meta(ge=16, le=8192)]


MAX_PRERENDER_MB = 4000

#: An EMCCD at moderate gain, as in Linden 2017.
EMCCD: dict[str, Any] = {
    "model": "emccd",
    "gain_adu_per_e": 50.0,
    "readout_adu": 10.0,
    "offset_adu": 200.0,
}


class CameraOptions(Section, frozen=True):
    """The camera whose counts are drawn.

    With `maps` (sCMOS only) each pixel has its own values, drawn with `map_seed`: gain normal,
    offset normal, read variance log-normal with a few hot pixels of ten times the variance.
    """

    model: Literal["ideal", "scmos", "emccd"] = "scmos"
    gain_adu_per_e: Positive = 2.2
    offset_adu: float = 100.0
    var_e2: NonNegative = 1.2
    readout_adu: NonNegative = 0.0
    excess: Annotated[float, msgspec.Meta(gt=1, le=2)] = 2.0
    maps: bool = False
    gain_spread: NonNegative = 0.03
    offset_spread_adu: NonNegative = 1.0
    var_log_spread: NonNegative = 0.5
    hot_fraction: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.01
    map_seed: Count = 7


class Options(Section, frozen=True):
    """Everything about one simulated experiment.

    Attributes
    ----------
    scene : str
        Where unset fields come from.
    seed : int
        The same seed and options give the same frames.
    height_px, width_px, pixel_um, sigma_um
        The view and the width of the symmetric Gaussian PSF.
    interval_s, exposure_s : float
        Frame time, and how long from its start the light is on; motion goes on in the dark.
    n_frames : int or None
        Length of the stream; None never ends.
    substeps : int
        Sub-steps of one exposure.
    geometry : {"field", "cylinder"}
    margin_um : float
        By how much the field is larger than the view on each side.
    edges : {"reflecting", "periodic"}
        What happens at the field's border.
    cylinder_length_um, cylinder_diameter_um : float
    molecules : float
        Mean number of living molecules in view (field), or their number (cylinder).
    D_um2_s : list of float
        Diffusion coefficient of each state.
    rates_per_s : list of list of float
        Switching rates, row = from; the diagonal is ignored. Empty: no switching.
    photons : float
        Mean photons of a molecule per exposure at excitation 1.
    brightness_cv : float
        Spread of the brightness between molecules (gamma distributed), relative.
    off_per_s, on_per_s : float
        Blinking, thermal: rate of going dark and of coming back; 0 and 0 never blink.
    bleach_per_s : float
        Bleaching per second OF LIGHT for a molecule that is on, at excitation 1; scales with it.
    replace : bool
        A bleached molecule is replaced by a new one elsewhere, so that the density holds.
    background_e : float
        Background per pixel and exposure at excitation 1 (start value if it decays).
    background_floor_e, background_tau_s : float
        Where and how fast it decays; tau 0 is a constant background.
    excitation : float
        Excitation at the start; brightness, background and bleaching are proportional to it.
    paced : bool
        Frames come on the clock, one each `interval_s`; else as fast as asked.
    prerender : int
        Render so many frames before the stream starts and play them from memory; they do not
        follow a later change of the excitation.
    truth_rows : int
        How many rows of truth are kept at most (about 100 bytes each); 0 keeps none.
    """

    scene: str = "demo"
    seed: Count = 1
    height_px: Pixels = 256
    width_px: Pixels = 256
    pixel_um: Positive = 0.1
    sigma_um: Positive = 0.1
    interval_s: Positive = 0.02
    exposure_s: Positive = 0.01
    n_frames: Annotated[int, msgspec.Meta(ge=1)] | None = None
    substeps: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 10
    geometry: Literal["field", "cylinder"] = "field"
    margin_um: Annotated[float, msgspec.Meta(ge=0.5)] = 2.0
    edges: Literal["reflecting", "periodic"] = "reflecting"
    cylinder_length_um: Positive = 20.0
    cylinder_diameter_um: Positive = 0.8
    molecules: Positive = 40.0
    D_um2_s: Annotated[list[NonNegative], msgspec.Meta(min_length=1)] = msgspec.field(
        default_factory=lambda: [1.0]
    )
    rates_per_s: list[list[NonNegative]] = msgspec.field(default_factory=list)
    photons: Positive = 500.0
    brightness_cv: NonNegative = 0.0
    off_per_s: NonNegative = 0.0
    on_per_s: NonNegative = 0.0
    bleach_per_s: NonNegative = 0.0
    replace: bool = True
    background_e: NonNegative = 3.0
    background_floor_e: NonNegative = 0.0
    background_tau_s: NonNegative = 0.0
    excitation: NonNegative = 1.0
    paced: bool = True
    prerender: Count = 0
    truth_rows: Count = 5_000_000
    camera: CameraOptions = CameraOptions()

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of a frame."""
        return self.height_px, self.width_px

    @property
    def rate_matrix(self) -> list[list[float]]:
        """`rates_per_s`, with zeros where none were given."""
        n = len(self.D_um2_s)
        return self.rates_per_s or [[0.0] * n for _ in range(n)]


def resolve(given: dict[str, Any], scenes: dict[str, dict[str, Any]]) -> Options:
    """Lay `given` over the scene it names, and check the whole.

    Raises
    ------
    ConfigError
        An unknown scene or key, a value out of range, or values that do not fit each other.
    """
    name = given.get("scene", "demo")
    if name not in scenes:
        near = difflib.get_close_matches(str(name), scenes, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise ConfigError(
            f"source.options: scene: no scene {name!r} (known: {', '.join(scenes)}){hint}"
        )
    options: Options = parse(_overlay(scenes[name], given), "source.options", Options)
    _fit_together(options)
    return options


def _overlay(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = {**base, **over}
    camera = over.get("camera")
    if isinstance(camera, dict):
        merged["camera"] = {**_camera_base(base.get("camera", {}), camera), **camera}
    D = over.get("D_um2_s")
    if isinstance(D, list) and len(D) == 1 and "rates_per_s" not in over:
        merged["rates_per_s"] = []  # one state cannot switch
    return merged


def _camera_base(scene: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Return what `given` is laid over: another model does not inherit the scene's numbers."""
    model = given.get("model", scene.get("model"))
    if model == scene.get("model"):
        return scene
    return EMCCD if model == "emccd" else {}


def _fit_together(options: Options) -> None:
    n = len(options.D_um2_s)
    rows = [len(row) for row in options.rates_per_s]
    if options.rates_per_s and rows != [n] * n:
        raise ConfigError(
            f"source.options: rates_per_s: rows of {rows} for {n} states in D_um2_s; "
            f"expected {n} x {n} (the diagonal is ignored)"
        )
    if options.exposure_s > options.interval_s:
        raise ConfigError(
            f"source.options: exposure_s: {options.exposure_s:g} s is longer than "
            f"interval_s = {options.interval_s:g} s"
        )
    megabytes = options.prerender * options.height_px * options.width_px * 2 / 1e6
    if megabytes > MAX_PRERENDER_MB:
        raise ConfigError(
            f"source.options: prerender: {options.prerender} frames take {megabytes:.0f} MB; "
            f"expected at most {MAX_PRERENDER_MB} MB"
        )
    if options.off_per_s > 0 and options.on_per_s == 0:
        raise ConfigError(
            "source.options: on_per_s: 0 with off_per_s > 0 leaves every molecule dark; "
            "for a one-way loss use bleach_per_s"
        )
    if options.geometry == "cylinder" and options.molecules != round(options.molecules):
        raise ConfigError(
            f"source.options: molecules: {options.molecules:g} in a cylinder; "
            "expected a whole number"
        )


def build_camera(options: CameraOptions, shape: tuple[int, int]) -> Camera:
    """Make the camera that `options` describe, drawing its maps if asked.

    Raises
    ------
    ConfigError
        A value that no camera has.
    """
    try:
        if options.model == "ideal":
            return Ideal()
        if options.model == "emccd":
            return Emccd(
                options.gain_adu_per_e, options.excess, options.readout_adu, options.offset_adu
            )
        if options.maps:
            return _mapped(options, shape)
        return Scmos(options.gain_adu_per_e, options.offset_adu, options.var_e2)
    except CameraError as error:
        raise ConfigError(f"source.options: camera: {error}") from None


def _mapped(options: CameraOptions, shape: tuple[int, int]) -> Scmos:
    rng = np.random.default_rng(options.map_seed)
    gain = options.gain_adu_per_e * (1 + options.gain_spread * rng.standard_normal(shape))
    offset = options.offset_adu + options.offset_spread_adu * rng.standard_normal(shape)
    var = options.var_e2 * np.exp(options.var_log_spread * rng.standard_normal(shape))
    var *= np.where(rng.random(shape) < options.hot_fraction, 10.0, 1.0)
    return Scmos(np.maximum(gain, 0.2 * options.gain_adu_per_e), offset, var)
