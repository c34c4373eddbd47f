"""The simulated microscope's frames from a camera inside a real Micro-Manager core.

Registered as `simulated-core`. Frames are rendered before the start and played there and back by a
camera device (`livespt_sim.player`) that pymmcore-plus' `UniMMCore` drives: its sequence thread,
its circular buffer, its image numbers and time stamps. The tap on the core is the one that real
cameras have. That is what a full-rate test of the whole path needs and a file of frames is not.

The buffer of a Python camera is pymmcore-plus' own, in Python; C++ cameras have MMCore's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
from numpy.typing import NDArray

from livespt.camera import Camera
from livespt.config import ConfigError, parse
from livespt.core import CoreError, PlusDoor, need
from livespt.core.base import EXTRA
from livespt.sections import Section
from livespt.sources.camera_setup import CameraOptions
from livespt.sources.coretap import CoreTap
from livespt.types import Event, Frame, SourceInfo, StreamItem
from livespt_sim.options import Options, resolve
from livespt_sim.scenes import SCENES
from livespt_sim.source import LATE_S, SimulatedMicroscope

LABEL = "Camera"
#: Rendered where `prerender` is left out: a second at 64 frames/s, 512 MiB of a full chip.
PRERENDER = 64


class BufferOptions(Section, frozen=True):
    """What this source takes beside the scene: the core's circular buffer.

    Attributes
    ----------
    buffer_mb : int
    stop_on_overflow : bool
        See `livespt.sources.camera_setup.CameraOptions`.
    """

    buffer_mb: Annotated[int, msgspec.Meta(ge=1, le=65536)] = 512
    stop_on_overflow: bool = True


def open_source(options: dict[str, Any]) -> SimulatedCore:
    """Make the core and its camera from plain options: a scene's, and those of `BufferOptions`.

    Raises
    ------
    CoreError
        pymmcore-plus is not installed, or the core refuses.
    ConfigError
        An option is unknown, out of range, or does not go with a camera that plays a loop.
    """
    names = BufferOptions.__struct_fields__
    ours = {key: value for key, value in options.items() if key in names}
    scene = {key: value for key, value in options.items() if key not in names}
    buffer = parse(ours, "source.options", BufferOptions)
    resolved = resolve({"prerender": PRERENDER, "loop": True, **scene}, SCENES)
    if not (resolved.loop and resolved.paced):
        raise ConfigError("source.options: loop, paced: a camera in a core plays a loop on a clock")
    return SimulatedCore(resolved, buffer)


class SimulatedCore:
    """A `Source`: the tap on a core of its own, and what is known of the scene that it shows."""

    hands_over = True

    def __init__(self, options: Options, buffer: BufferOptions) -> None:
        self._scene = SimulatedMicroscope(options)
        unicore = need("pymmcore_plus.experimental.unicore", EXTRA)
        from livespt_sim.player import Player  # needs what was just found

        self._player = Player(options.shape, options.interval_s, options.exposure_s)
        core = unicore.UniMMCore()
        try:
            core.loadPyDevice(LABEL, self._player)
            core.initializeDevice(LABEL)
            core.setCameraDevice(LABEL)
        except Exception as error:  # noqa: BLE001 (several kinds, see `livespt.core.ask`)
            raise CoreError(f"simulated camera: {error}") from None
        chosen = CameraOptions(
            interval_ms=1e3 * options.interval_s,
            n_frames=options.n_frames,
            buffer_mb=buffer.buffer_mb,
            stop_on_overflow=buffer.stop_on_overflow,
        )
        scene = f"simulated microscope in a core ({options.scene}, seed {options.seed})"
        self._tap = CoreTap(PlusDoor(core, owned=True), chosen, scene)
        self._tolerance_s = max(2 * options.interval_s, LATE_S)
        self.info: SourceInfo = self._tap.info
        self.camera: Camera = self._scene.camera
        self.pixel_um: float = options.pixel_um
        self.sigma_um: float = options.sigma_um

    def warm_up(self) -> None:
        """Render the frames that the camera will play."""
        self._scene.warm_up()
        self._player.frames = [frame.adu for frame in self._scene.memory]

    def frames(self) -> Iterator[StreamItem]:
        """Start the camera and yield what comes out of the core.

        The core stamps a frame when it comes. Where this camera is behind its own schedule these
        times are not those of the scene, and an event says so.
        """
        self.warm_up()
        behind = False
        for item in self._tap.frames():
            late_s = self._player.late_s
            if isinstance(item, Frame) and behind != (late_s > self._tolerance_s):
                behind = not behind
                yield _schedule(item, late_s, behind)
            yield item

    def close(self) -> None:
        """Stop the camera and unload it."""
        self._tap.close()

    def truth_summary(self) -> dict[str, list[float]]:
        """Return the true `D_um2_s` and stationary `occupancy`, ordered by D."""
        return self._scene.truth_summary()

    def score_localization(self, spots: NDArray, frames: NDArray | None = None) -> dict[str, Any]:
        """Score the localizations of the loop's first time through against the truth."""
        return self._scene.score_localization(spots, frames)


def _schedule(frame: Frame, late_s: float, behind: bool) -> Event:
    kind, why = "resumed", "simulated camera is back on schedule"
    if behind:
        kind = "stalled"
        why = f"simulated camera is {1e3 * late_s:.0f} ms late, and so are its time stamps"
    return Event(kind, frame.t_s, frame.index, 0, why)
