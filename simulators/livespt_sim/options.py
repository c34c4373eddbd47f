"""What can be set on the simulated microscope: one struct, each name with its unit.

A scene (`livespt_sim.scenes`) gives every field a value; options override it field by field.
"""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from livespt.camera import Camera, CameraError, Emccd, Ideal, Scmos
from livespt.config import ConfigError, parse
from livespt.sections import NonNegative, Positive, Section

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
        The view and the width of the Gaussian PSF.
    psf : {"gaussian", "vectorial"}
        The vectorial one follows from `wavelength_um` and `numerical_aperture` instead (psfmodels).
    depth_um : float
        Distance from focus at which the Gaussian's width has grown by sqrt 2; 0: it does not grow.
    focus_um : float
        Height of the focal plane above the middle of the room.
    focus_drift_um_s : float
        How fast it rises; it stands still within a frame.
    interval_s, exposure_s : float
        Frame time, and how long from its start the light is on; motion goes on in the dark.
    n_frames : int or None
        Length of the stream; None never ends.
    substeps : int
        Sub-steps of one exposure.
    geometry : {"field", "cylinder", "capsule", "ellipsoid"}
        Molecules come and go, or live in a closed cell: a tube, a rod with round ends (length along
        x), a nucleus.
    thickness_um : float
        Depth of the field; 0 is a plane.
    margin_um : float
        By how much the field is larger than the view on each side.
    edges : {"reflecting", "periodic"}
        What happens at the field's border.
    cylinder_length_um, cylinder_diameter_um : float
        Of the cylinder and the capsule.
    ellipsoid_um : list of float
        Its diameters along x, y and z.
    molecules : float
        Mean number of living molecules in view (field), or their number (cell).
    D_um2_s : list of float
        Diffusion coefficient of each state.
    rates_per_s : list of list of float
        Switching rates, row = from; the diagonal is ignored. Empty: no switching.
    zone : float
        In a cell: scale (0 to 1) of its own shape inside which `zone_rates_per_s` hold instead.
    zone_rates_per_s : list of list of float
    photons : float
        Mean photons of a molecule per exposure at excitation 1.
    photons_floor, photons_tau_s : float
        Where and how fast that brightness decays (the light or the buffer ages); tau 0: it stays.
    saturation : float
        Excitation at which a molecule gives half of the light that strict proportion would give:
        its light, its driven rates and its bleaching then grow as x / (1 + x / saturation), the
        background goes on as x. 0: none saturates.
    brightness_cv : float
        Spread of the brightness between molecules (gamma distributed), relative.
    off_per_s, on_per_s : float
        Blinking, thermal: rate of going dark and of coming back; 0 and 0 never blink.
    bleach_per_s : float
        Bleaching per second OF LIGHT for a molecule that is on, at excitation 1; scales with it.
    light_brightness : list of float
        Light states instead of on and off: relative brightness of each. Then the next three hold
        instead of the rates above.
    light_rates_per_s, light_driven_per_s : list of list of float
        Rates between light states, row = from: always; and, on top, per second of light at
        excitation 1. Empty: none.
    light_bleach_per_s : list of float
        Bleaching from each light state, per second of light at excitation 1. Empty: none.
    replace : bool
        A bleached molecule is replaced by a new one elsewhere, so that the density holds.
    background_e : float
        Background per pixel and exposure at excitation 1 (start value if it decays).
    background_floor_e, background_tau_s : float
        Where and how fast it decays; tau 0 is a constant background.
    background_map : str
        A .npy file (height, width) that the background is multiplied with; "": even.
    excitation : float
        Excitation at the start; brightness, background and bleaching are proportional to it (but
        see `saturation`).
    laser : str
        File of a power cell (`livespt_sim.laser`) that holds the excitation: set to `excitation`
        when the microscope is opened, read at each frame. Empty: none, the excitation stays.
    paced : bool
        Frames come on the clock, one each `interval_s`; else as fast as asked.
    prerender : int
        Render so many frames before the stream starts and play them from memory; they do not
        follow a later change of the excitation.
    loop : bool
        Play the prerendered frames forward and backward for ever instead of rendering on: a camera
        that costs no time. Diffusion looks the same either way; the truth is of the first pass.
    truth_rows : int
        How many rows of truth are kept at most (about 100 bytes each); 0 keeps none.
    """

    scene: str = "demo"
    seed: Count = 1
    height_px: Pixels = 256
    width_px: Pixels = 256
    pixel_um: Positive = 0.1
    sigma_um: Positive = 0.1
    psf: Literal["gaussian", "vectorial"] = "gaussian"
    wavelength_um: Positive = 0.639
    numerical_aperture: Positive = 1.4
    depth_um: NonNegative = 0.0
    focus_um: float = 0.0
    focus_drift_um_s: float = 0.0
    interval_s: Positive = 0.02
    exposure_s: Positive = 0.01
    n_frames: Annotated[int, msgspec.Meta(ge=1)] | None = None
    substeps: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 10
    geometry: Literal["field", "cylinder", "capsule", "ellipsoid"] = "field"
    thickness_um: NonNegative = 0.0
    margin_um: Annotated[float, msgspec.Meta(ge=0.5)] = 2.0
    edges: Literal["reflecting", "periodic"] = "reflecting"
    cylinder_length_um: Positive = 20.0
    cylinder_diameter_um: Positive = 0.8
    ellipsoid_um: Annotated[list[Positive], msgspec.Meta(min_length=3, max_length=3)] = (
        msgspec.field(default_factory=lambda: [10.0, 8.0, 5.0])
    )
    molecules: Positive = 40.0
    D_um2_s: Annotated[list[NonNegative], msgspec.Meta(min_length=1)] = msgspec.field(
        default_factory=lambda: [1.0]
    )
    rates_per_s: list[list[NonNegative]] = msgspec.field(default_factory=list)
    zone: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    zone_rates_per_s: list[list[NonNegative]] = msgspec.field(default_factory=list)
    photons: Positive = 500.0
    photons_floor: NonNegative = 0.0
    photons_tau_s: NonNegative = 0.0
    saturation: NonNegative = 0.0
    brightness_cv: NonNegative = 0.0
    off_per_s: NonNegative = 0.0
    on_per_s: NonNegative = 0.0
    bleach_per_s: NonNegative = 0.0
    light_brightness: list[NonNegative] = msgspec.field(default_factory=list)
    light_rates_per_s: list[list[NonNegative]] = msgspec.field(default_factory=list)
    light_driven_per_s: list[list[NonNegative]] = msgspec.field(default_factory=list)
    light_bleach_per_s: list[NonNegative] = msgspec.field(default_factory=list)
    replace: bool = True
    background_e: NonNegative = 3.0
    background_floor_e: NonNegative = 0.0
    background_tau_s: NonNegative = 0.0
    background_map: str = ""
    excitation: NonNegative = 1.0
    laser: str = ""
    paced: bool = True
    prerender: Count = 0
    loop: bool = False
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
    n, n_light = len(options.D_um2_s), len(options.light_brightness)
    _square(options.rates_per_s, n, "rates_per_s", "D_um2_s")
    _square(options.zone_rates_per_s, n, "zone_rates_per_s", "D_um2_s")
    _square(options.light_rates_per_s, n_light, "light_rates_per_s", "light_brightness")
    _square(options.light_driven_per_s, n_light, "light_driven_per_s", "light_brightness")
    for wrong, message in _contradictions(options):
        if wrong:
            raise ConfigError(f"source.options: {message}")


def _square(rates: list[list[float]], n: int, key: str, states: str) -> None:
    rows = [len(row) for row in rates]
    if rates and rows != [n] * n:
        raise ConfigError(
            f"source.options: {key}: rows of {rows} for {n} states in {states}; "
            f"expected {n} x {n} (the diagonal is ignored)"
        )


def _contradictions(o: Options) -> list[tuple[bool, str]]:
    """Return what values must not be together, and how to say it."""
    megabytes = o.prerender * o.height_px * o.width_px * 2 / 1e6
    closed, n_light = o.geometry != "field", len(o.light_brightness)
    too_short = o.geometry == "capsule" and o.cylinder_length_um < o.cylinder_diameter_um
    return [
        (
            o.focus_drift_um_s != 0 and o.psf == "vectorial" and o.n_frames is None,
            "focus_drift_um_s: with psf 'vectorial' goes with n_frames (its tables have an end)",
        ),
        (
            o.exposure_s > o.interval_s,
            f"exposure_s: {o.exposure_s:g} s is longer than interval_s = {o.interval_s:g} s",
        ),
        (
            megabytes > MAX_PRERENDER_MB,
            f"prerender: {o.prerender} frames take {megabytes:.0f} MB; "
            f"expected at most {MAX_PRERENDER_MB} MB",
        ),
        (
            o.loop and o.prerender < 2,
            f"loop: true with prerender = {o.prerender}; expected at least 2 frames to play",
        ),
        (
            o.off_per_s > 0 and o.on_per_s == 0,
            "on_per_s: 0 with off_per_s > 0 leaves every molecule dark; "
            "for a one-way loss use bleach_per_s",
        ),
        (
            closed and o.molecules != round(o.molecules),
            f"molecules: {o.molecules:g} in a {o.geometry}; expected a whole number",
        ),
        (
            too_short,
            f"cylinder_length_um: {o.cylinder_length_um:g}; a capsule is at least as long as its "
            f"diameter, {o.cylinder_diameter_um:g}",
        ),
        (o.zone > 0 and not closed, "zone: a field has none; expected 0, or another geometry"),
        (
            bool(o.zone_rates_per_s) != (o.zone > 0),
            "zone_rates_per_s: goes with a zone > 0, and a zone with it",
        ),
        (
            bool(o.light_brightness) and not any(o.light_brightness),
            "light_brightness: all 0; expected a state that shines",
        ),
        (
            len(o.light_bleach_per_s) not in (0, n_light),
            f"light_bleach_per_s: {len(o.light_bleach_per_s)} rates for {n_light} states in "
            "light_brightness",
        ),
    ]


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
