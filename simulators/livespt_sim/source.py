"""The simulated microscope as a source of frames, beside the real cameras.

It registers itself under the entry-point group `livespt.sources` as `simulated`, the same door a
third party's camera uses. Paced, it is a camera on its own clock: frame i is due `i * interval_s`
after the first, and if rendering or its consumer is late, the stream says so with an event and
catches up; it never drifts and never drops.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from livespt.camera import Camera
from livespt.types import Event, Frame, SourceInfo, StreamItem
from livespt_sim.laser import PowerCell
from livespt_sim.options import Options, resolve
from livespt_sim.scenes import SCENES
from livespt_sim.scoring import Optics, score
from livespt_sim.truth import Recorder, Truth
from livespt_sim.world import World

LATE_S = 0.05  # a delay that a person would call late, if it is two frames as well


def open_source(options: dict[str, Any]) -> SimulatedMicroscope:
    """Make a simulated microscope from plain options (`livespt_sim.options.Options`).

    Raises
    ------
    ConfigError
        An unknown scene or key, a value out of range, or values that do not fit each other.
    """
    return SimulatedMicroscope(resolve(options, SCENES))


class SimulatedMicroscope:
    """A `Source` of simulated frames that knows the truth about them.

    Attributes
    ----------
    info : SourceInfo
    camera : Camera
        The pixel model that the counts are drawn from.
    options : Options
    """

    #: Each frame is drawn into an array of its own, which is never written again.
    hands_over = True

    def __init__(self, options: Options) -> None:
        self.options = options
        self._world = World(options)
        self._recorder = Recorder(options.truth_rows)
        self._stop = threading.Event()
        self._memory: list[Frame] = []
        self._warm = False
        self._laser = PowerCell(options.laser) if options.laser else None
        if self._laser is not None:
            self._laser.power = options.excitation
        self.camera: Camera = self._world.camera
        self.info = SourceInfo(
            name=f"simulated microscope ({options.scene}, seed {options.seed})",
            shape=options.shape,
            interval_s=options.interval_s,
            exposure_s=options.exposure_s,
            n_frames=options.n_frames,
            paced=options.paced,
            identity=f"simulated:{options.camera.model}",
        )

    @property
    def pixel_um(self) -> float:
        """Pixel size in the sample."""
        return self.options.pixel_um

    @property
    def sigma_um(self) -> float:
        """Width of the PSF."""
        return self.options.sigma_um

    @property
    def excitation(self) -> float:
        """Relative excitation of the next frame."""
        return self._world.excitation

    def set_excitation(self, value: float) -> None:
        """Set the relative excitation from the next frame on (any thread may call this).

        Brightness, background and the rate of bleaching are proportional to it. Frames rendered
        before the start (`prerender`) are not changed.
        """
        if not (np.isfinite(value) and value >= 0):
            raise ValueError(f"excitation: {value!r}; expected a finite number >= 0")
        self._world.excitation = float(value)

    def warm_up(self) -> None:
        """Compile the kernels and render what `prerender` asks for; done once, by `frames` at last.

        Call it before arming a clock: compilation takes seconds on a fresh machine.
        """
        if self._warm:
            return
        small = msgspec.structs.replace(self.options, height_px=16, width_px=16, molecules=1.0)
        World(small).step()
        self._warm = True
        n = min(self.options.prerender, self.options.n_frames or self.options.prerender)
        self._memory = [self._render(i) for i in range(n)]

    @property
    def memory(self) -> list[Frame]:
        """The frames that were rendered before the start (see `warm_up`)."""
        return self._memory

    def frames(self) -> Iterator[StreamItem]:
        """Yield frames in order, events in line with them; call once."""
        self.warm_up()
        yield from self._paced() if self.options.paced else self._unpaced()
        if not self._stop.is_set():
            n = self._count
            yield Event("ended", self._t_s(n), n, 0, f"simulation ended after {n} frames")

    def close(self) -> None:
        """End the stream, also while it waits for the clock; further calls do nothing."""
        self._stop.set()

    def truth(self) -> Truth:
        """Return what really happened up to the last frame rendered."""
        world, recorder = self._world, self._recorder
        return Truth(
            recorder.table(), world.chain.D_um2_s, world.occupancy, world.chain.rate_per_s,
            options=msgspec.to_builtins(self.options), complete=recorder.complete,
        )  # fmt: skip

    def truth_summary(self) -> dict[str, list[float]]:
        """Return the true `D_um2_s` and stationary `occupancy`, ordered by D."""
        chain = self._world.chain
        order = np.argsort(chain.D_um2_s)
        return {
            "D_um2_s": chain.D_um2_s[order].tolist(),
            "occupancy": self._world.occupancy[order].tolist(),
        }

    def score_localization(
        self, spots: NDArray[np.void], frames: NDArray[np.integer] | None = None
    ) -> dict[str, Any]:
        """Score localizations against the truth (see `livespt_sim.scoring.score`).

        Parameters
        ----------
        spots : (n,) structured
            With `frame`, `x_um`, `y_um`, `var_x_um2`, `var_y_um2`, `status`.
        frames : (m,) int, optional
            Frames that were analysed, those without a spot too; by default all handed out.
            A shed frame's molecules were not missed. Of a loop only the first time through counts.
        """
        o = self.options
        frames = np.arange(self._count) if frames is None else frames
        if o.loop:
            frames = frames[frames < len(self._memory)]
        truth = self._recorder.table()
        if o.loop or not self._recorder.complete:  # later frames have no truth to be scored with
            frames = frames[frames <= (truth["frame"].max() if len(truth) else -1)]
        optics = Optics(self.camera, o.shape, o.pixel_um, o.sigma_um)
        if "frame" in (spots.dtype.names or ()):
            spots = spots[np.isin(spots["frame"], frames)]
        return score(spots, truth[np.isin(truth["frame"], frames)], optics)

    _count = 0  # frames handed out

    def _unpaced(self) -> Iterator[StreamItem]:
        for index in self._indices():
            yield self._emit(index)

    def _paced(self) -> Iterator[StreamItem]:
        interval = self.options.interval_s
        tolerance = max(2 * interval, LATE_S)
        behind = False
        start = None
        for index in self._indices():
            began = time.monotonic()
            frame = self._emit(index)
            rendered = time.monotonic()
            start = rendered if start is None else start
            due = start + index * interval
            if self._stop.wait(max(0.0, due - rendered)):
                self._count -= 1
                return
            late = time.monotonic() - due
            if late > tolerance and not behind:
                behind = True
                yield self._late(index, late, rendered - began)
            elif late < interval and behind:
                behind = False
                message = "simulated camera is back on schedule"
                yield Event("resumed", self._t_s(index), index, 0, message)
            yield frame._replace(arrived_s=time.perf_counter())

    def _late(self, index: int, late_s: float, render_s: float) -> Event:
        interval_ms = 1e3 * self.options.interval_s
        message = (
            f"simulated camera is {1e3 * late_s:.0f} ms behind its schedule (last frame took "
            f"{1e3 * render_s:.1f} ms to render, interval {interval_ms:.1f} ms); it will catch up, "
            "no frame is dropped"
        )
        return Event("stalled", self._t_s(index), index, 0, message)

    def _indices(self) -> Iterator[int]:
        index = 0
        while not self._stop.is_set() and index != self.options.n_frames:
            yield index
            index += 1

    def _emit(self, index: int) -> Frame:
        frame = self._played(index) or self._render(index)
        self._count = index + 1
        return frame._replace(arrived_s=time.perf_counter())

    def _played(self, index: int) -> Frame | None:
        """Return a frame from memory, if it is there."""
        at = there_and_back(index, len(self._memory)) if self.options.loop else index
        if at >= len(self._memory):
            return None
        return self._memory[at]._replace(index=index, t_s=self._t_s(index))

    def _render(self, index: int) -> Frame:
        if self._laser is not None:
            self.set_excitation(self._laser.power)
        exposure = self._world.step()
        self._recorder.add(exposure.truth)
        return Frame(
            index=index,
            t_s=self._t_s(index),
            adu=exposure.adu,
            exposure_s=self.options.exposure_s,
            excitation=exposure.excitation,
        )

    def _t_s(self, index: int) -> float:
        return index * self.options.interval_s


def there_and_back(index: int, n: int) -> int:
    """Return which of `n` frames comes as number `index`: 0 1 2 1 0 1 2 ..."""
    turn = max(2 * (n - 1), 1)
    at = index % turn
    return min(at, turn - at)


__all__ = ["SimulatedMicroscope", "open_source", "there_and_back"]
