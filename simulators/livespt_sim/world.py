"""The specimen under the microscope: moves and lights molecules frame by frame, and draws images.

`World.step` is one frame: motion and photophysics through the exposure and the dark time after
it, photons onto pixels, counts out of the camera, truth beside. It knows no clock and no stream.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from livespt.camera import Camera
from livespt.config import ConfigError
from livespt_sim import motion, optics, opticskernels
from livespt_sim.options import Options, build_camera
from livespt_sim.photophysics import Photophysics
from livespt_sim.readout import Readout
from livespt_sim.truth import TRUTH_DTYPE

Array = NDArray[np.float64]


class Molecules(NamedTuple):
    """All molecules that are in the room, dark ones included; one row each."""

    pos_um: Array  # (n, 3), in the room's frame
    state: NDArray[np.int64]
    light: NDArray[np.int64]
    alive: NDArray[np.bool_]
    brightness: Array
    identity: NDArray[np.int64]


class Exposure(NamedTuple):
    """One frame and the truth about it."""

    adu: NDArray[np.uint16]
    truth: NDArray[np.void]
    excitation: float


class World:
    """A specimen, its optics and its camera.

    Parameters
    ----------
    options : Options
        As checked by `livespt_sim.options.resolve`.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.camera: Camera = build_camera(options.camera, options.shape)
        self.chain = motion.switching(
            options.D_um2_s, options.rate_matrix, options.zone_rates_per_s
        )
        self.excitation = options.excitation
        self._photophysics = Photophysics(options)
        constant = options.background_tau_s == 0
        background_map = _background_map(options)
        self._readout = Readout(self.camera, options.shape, constant, background_map)
        self._room, self._origin_um = _room(options)
        self._steps_s = _steps(options, self._room)
        self._optics = _optics(options, self._room)
        seeds = np.random.SeedSequence(options.seed).spawn(5)
        self._rng = np.random.default_rng(seeds[0])
        states = [s.generate_state(1, np.uint64).astype(np.uint64) for s in seeds[1:]]
        self._motion_rng, self._light_rng, self._photon_rng, self._read_rng = states
        self._electrons = np.zeros(options.shape, np.int32)
        self._lit = np.zeros(self._electrons.size, np.int64)
        self._next_identity = 0
        self._frame = 0
        self._time_in_s = np.zeros(len(self.chain.D_um2_s))
        self._molecules = self._new(_how_many(options, self._room))

    def step(self) -> Exposure:
        """Expose and read out the next frame."""
        excitation = self.excitation
        background = self._background_e(excitation)
        with np.errstate(over="ignore"):  # kernels run as Python: their counters wrap on purpose
            effect = self._effect(excitation)
            path, fraction = self._live(effect)
            photons = self._photons(fraction, effect)
            adu, landed = self._image(path, photons, background)
        truth = self._truth(path, fraction, photons, landed, background)
        self._settle()
        return Exposure(adu, truth, excitation)

    @property
    def occupancy(self) -> Array:
        """Share of time in each state: stationary; with a zone, of all that was simulated."""
        total = self._time_in_s.sum()
        if self.options.zone == 0 or total == 0:
            return self.chain.occupancy
        return self._time_in_s / total

    def _effect(self, excitation: float) -> float:
        """Return what the excitation does to a molecule, which may saturate."""
        saturation = self.options.saturation
        return excitation / (1 + excitation / saturation) if saturation else excitation

    def _live(self, excitation: float) -> tuple[motion.Path, Array]:
        m = self._molecules
        path = motion.travel(
            m.pos_um, m.state, m.alive, self._steps_s, self.chain, self._room, self._motion_rng
        )
        self._time_in_s += path.time_in_s.sum(axis=0)
        fraction = self._photophysics.shine(
            m.light, m.alive, self._steps_s, excitation, self._light_rng
        )
        return path, fraction

    def _image(
        self, path: motion.Path, photons: Array, background: float
    ) -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
        """Return the counts, and how many photons of each molecule hit the sensor."""
        mid = path.mid_um + np.append(self._origin_um, -self._focus_um())
        landed = np.zeros(len(mid), np.int64)
        n_lit = opticskernels.add_photons(
            self._electrons, mid, path.lam_um2, photons, self._optics,
            self._photon_rng, landed, self._lit,
        )  # fmt: skip
        lit = self._lit[:n_lit]
        adu = self._readout(self._electrons, lit, background, self._read_rng)
        self._electrons.reshape(-1)[lit] = 0
        return adu, landed

    def _background_e(self, excitation: float) -> float:
        o = self.options
        t_s = self._frame * o.interval_s
        return excitation * optics.decaying(
            o.background_e, o.background_floor_e, o.background_tau_s, t_s
        )

    def _focus_um(self) -> float:
        """Return the height of the focal plane in this frame."""
        o = self.options
        return o.focus_um + o.focus_drift_um_s * self._frame * o.interval_s

    def _brightness(self) -> float:
        """Return the photons of a molecule per exposure at excitation 1, by now."""
        o = self.options
        t_s = self._frame * o.interval_s
        return optics.decaying(o.photons, o.photons_floor, o.photons_tau_s, t_s)

    def _photons(self, fraction: Array, excitation: float) -> Array:
        """Return the expected photons of each molecule and sub-step."""
        per_step = self._brightness() * excitation / fraction.shape[1]
        return per_step * self._molecules.brightness[:, None] * fraction

    def _truth(
        self,
        path: motion.Path,
        fraction: Array,
        photons: Array,
        landed: NDArray[np.int64],
        background: float,
    ) -> NDArray[np.void]:
        """Describe the molecules that sent light to the sensor or close by."""
        o, m = self.options, self._molecules
        expected = photons.sum(axis=1)
        weight = photons / np.where(expected > 0, expected, 1.0)[:, None]
        mid = path.mid_um[:, :, :2]
        mean = np.einsum("ns,nsd->nd", weight, mid)
        spread = (mid - mean[:, None]) ** 2 + path.lam_um2[:, :, None] / 6.0
        path_var = np.einsum("ns,nsd->nd", weight, spread)
        mean = mean + self._origin_um
        edge = (np.array(o.shape[::-1]) - 0.5) * o.pixel_um
        reach = 4.0 * o.sigma_um
        near = np.all((mean > -0.5 * o.pixel_um - reach) & (mean < edge + reach), axis=1)
        rows = np.flatnonzero(near & (expected > 0))
        out = np.zeros(len(rows), TRUTH_DTYPE)
        out["frame"], out["t_s"] = self._frame, self._frame * o.interval_s
        out["molecule"], out["background_e"] = m.identity[rows], background
        end = path.end_um[rows] + self._origin_um
        for axis, name in enumerate("xy"):
            out[f"{name}_um"] = mean[rows, axis]
            out[f"{name}_end_um"] = end[:, axis]
            out[f"path_var_{name}_um2"] = path_var[rows, axis]
        out["expected_photons"], out["actual_photons"] = expected[rows], landed[rows]
        depth = np.einsum("ns,ns->n", weight, path.mid_um[:, :, 2]) - self._focus_um()
        out["z_um"] = depth[rows]
        out["on_fraction"] = fraction[rows].mean(axis=1)
        out["D_um2_s"] = path.time_in_s[rows] @ self.chain.D_um2_s / o.interval_s
        out["state"] = path.time_in_s[rows].argmax(axis=1)
        inside = (mean[rows] >= -0.5 * o.pixel_um) & (mean[rows] < edge)
        out["in_view"] = inside.all(axis=1)
        return out

    def _settle(self) -> None:
        """End the frame: replace or drop the bleached, bring back who left the field."""
        self._frame += 1
        m = self._molecules
        dead = np.flatnonzero(~m.alive)
        if len(dead) and self.options.replace:
            for old, new in zip(m, self._new(len(dead)), strict=True):
                old[dead] = new
        elif len(dead):
            self._molecules = m = _only(m, m.alive)
        came_in = np.flatnonzero(self._room.close(m.pos_um))
        m.identity[came_in] = self._identities(len(came_in))

    def _new(self, n: int) -> Molecules:
        rng = self._rng
        pos = self._room.draw(n, rng)
        state = rng.choice(len(self.chain.occupancy), n, p=self.chain.occupancy).astype(np.int64)
        if self.options.zone > 0:
            motion.settle(pos, state, self.chain, self._room, self._motion_rng)
        return Molecules(
            pos,
            state,
            self._photophysics.draw_light(n, rng),
            np.ones(n, bool),
            self._photophysics.draw_brightness(n, rng),
            self._identities(n),
        )

    def _identities(self, n: int) -> NDArray[np.int64]:
        first = self._next_identity
        self._next_identity += n
        return np.arange(first, first + n)


def _only(m: Molecules, rows: NDArray[np.bool_]) -> Molecules:
    columns: list[Any] = [column[rows] for column in m]
    return Molecules(*columns)


def _room(options: Options) -> tuple[motion.Room, Array]:
    """Return the room and where its origin lies in the view (x, y)."""
    o = options
    size = np.array([o.width_px, o.height_px]) * o.pixel_um
    half_pixel = 0.5 * o.pixel_um
    if o.geometry == "field":
        low = np.full(2, -o.margin_um - half_pixel)
        high = size - half_pixel + o.margin_um
        return motion.Field(low, high, o.edges == "periodic", o.thickness_um), np.zeros(2)
    radius = o.cylinder_diameter_um / 2
    half = (o.cylinder_length_um / 2, radius, radius)
    if o.geometry == "ellipsoid":
        half = (o.ellipsoid_um[0] / 2, o.ellipsoid_um[1] / 2, o.ellipsoid_um[2] / 2)
    return motion.Cell(o.geometry, half, o.zone), size / 2 - half_pixel


def _optics(options: Options, room: motion.Room) -> optics.Optics:
    o = options
    if o.psf == "gaussian":
        return optics.gaussian(o.pixel_um, o.sigma_um, o.depth_um)
    half = room.half_um[2] if isinstance(room, motion.Cell) else o.thickness_um / 2
    last_um = o.focus_um + o.focus_drift_um_s * o.interval_s * (o.n_frames or 0)
    deepest = half + max(abs(o.focus_um), abs(last_um))
    return optics.vectorial(o.pixel_um, o.wavelength_um, o.numerical_aperture, deepest)


def _background_map(options: Options) -> Array | None:
    """Read the map that the background is multiplied with."""
    if not options.background_map:
        return None
    path = options.background_map
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ConfigError(f"source.options: background_map: {path}: {error}") from None
    if values.shape != options.shape or values.dtype.kind not in "fiu":
        raise ConfigError(
            f"source.options: background_map: {path} holds {values.dtype} {values.shape}; expected "
            f"numbers of shape {options.shape}"
        )
    if not (np.isfinite(values) & (values >= 0)).all():
        raise ConfigError(f"source.options: background_map: {path}: expected numbers >= 0")
    return values.astype(np.float64)


def _steps(options: Options, room: motion.Room) -> tuple[Array, Array]:
    fastest = max(max(options.D_um2_s), 1e-12)
    longest = room.max_step_s(fastest)
    return motion.substeps(options.exposure_s, options.interval_s, options.substeps, longest)


def _how_many(options: Options, room: motion.Room) -> int:
    if isinstance(room, motion.Cell):
        return round(options.molecules)
    height, width = options.shape
    view = height * width * options.pixel_um**2
    return max(1, round(options.molecules * np.prod(room.high_um - room.low_um) / view))
