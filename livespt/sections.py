"""The sections of a run's configuration: their fields, units and ranges.

Each is a frozen struct whose fields carry their unit in the name and their range in the type.
`livespt.config` reads and writes them.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec

Positive = Annotated[float, msgspec.Meta(gt=0)]
NonNegative = Annotated[float, msgspec.Meta(ge=0)]
Probability = Annotated[float, msgspec.Meta(gt=0, lt=1)]
Share = Annotated[float, msgspec.Meta(ge=0, lt=1)]


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
    """Alarms where D, density, precision, photons, background or width change, and marks.

    0 false alarms an hour raises none. With `forget`, an alarm of D makes the running fit begin
    anew. A mark is told once when it is passed; 0 sets none: spots left as a share of those at the
    start, expected share of wrong links, relative rise of the spots' width, median s.d.
    """

    false_alarms_per_hour: NonNegative = 0.1
    forget: bool = False
    bleached_to: Share = 0.0
    dense_above: Share = 0.02
    focus_lost: NonNegative = 0.0
    imprecise_above_um: NonNegative = 0.0


class WireConfig(Section, frozen=True):
    """Where answers are published, on this machine only; port ``*`` takes any free one.

    `estimate_every_s` is the least time between two estimates; 0 sends that of each frame.
    """

    publish: str = "tcp://127.0.0.1:5570"
    command: str = "tcp://127.0.0.1:5571"
    image_every_s: NonNegative = 0.1
    estimate_every_s: NonNegative = 0.0
    enabled: bool = True


class JournalConfig(Section, frozen=True):
    """Where the run folder is made."""

    folder: str = "runs"
    name: str = ""
    rotate_mb: Positive = 256.0
    enabled: bool = True


class RawConfig(Section, frozen=True):
    """Raw saving: every frame that the source hands over, also those that analysis sheds.

    Sizes are in units of 1e6 and 1e9 bytes. `buffer_mb` is the memory for frames that wait for the
    disk; saving ends before the disk has less than `keep_free_gb`, which the journal needs.
    """

    save: bool = False
    folder: str = ""
    buffer_mb: Positive = 512.0
    part_gb: Annotated[float, msgspec.Meta(gt=0, le=4.2)] = 4.0
    keep_free_gb: NonNegative = 2.0


class ActuatorConfig(Section, frozen=True):
    """What sets the excitation: an entry point of the group ``livespt.actuators`` and its options.

    `property` is "Device.Property"; `unit` is that of the powers that are asked for, "" for
    whichever the machine's limits speak: with a power calibration mW, else the property's own.
    `options` are checked by the actuator itself, which knows them.
    """

    kind: str = "simulated"
    property: str = ""
    unit: str = ""
    options: dict[str, Any] = {}


class TightenConfig(Section, frozen=True):
    """A run's own limits of the excitation; each can only be narrower than the machine's.

    `min` and `max` are values of the property in its own unit; the dose is power times seconds.
    """

    min: float | None = None
    max: float | None = None
    step_up: Annotated[float, msgspec.Meta(gt=1)] | None = None
    writes_per_s: Positive | None = None
    duty: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    dose: Positive | None = None
    heartbeat_s: Positive | None = None
    stale_s: Positive | None = None


class ControlConfig(Section, frozen=True):
    """The excitation: off, only advised, or adjusted within limits that the machine has set.

    `goal` "precision" brings the median localization precision of followed molecules to
    `target_sd_um`, "sbr" their signal to background to `target_sbr`. The dose that this may cost
    is that of `limits`, or what bleaches the share `bleach_budget` of the molecules at
    `bleach_per_dose`; it is spread over `planned_s` (0: over `stop_after_s`).

    Powers are in the unit of the machine's limits; `Frame.excitation` is the power over
    `reference_power` (0: over what stands when the run begins).
    """

    mode: Literal["off", "advise", "auto"] = "off"
    goal: Literal["precision", "sbr"] = "precision"
    target_sd_um: NonNegative = 0.0
    target_sbr: NonNegative = 0.0
    deadband: Annotated[float, msgspec.Meta(gt=0, le=0.5)] = 0.05
    window_s: Annotated[float, msgspec.Meta(ge=1, le=60)] = 1.0
    min_spots: Annotated[int, msgspec.Meta(ge=30)] = 30
    bleach_budget: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0
    bleach_per_dose: NonNegative = 0.0
    planned_s: NonNegative = 0.0
    reference_power: NonNegative = 0.0
    law: str = ""
    law_options: dict[str, Any] = {}
    actuator: ActuatorConfig = ActuatorConfig()
    limits: TightenConfig = TightenConfig()


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
    raw: RawConfig = RawConfig()
    control: ControlConfig = ControlConfig()
    stop_after_s: Positive | None = None
    stop_after_frames: Annotated[int, msgspec.Meta(ge=1)] | None = None
