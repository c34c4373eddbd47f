"""A Brownian walk that no one here simulated: Micro-Manager's XY stage under DemoCamera's beads.

DemoCamera in the mode "Fluorescent Beads" draws Gaussian beads that lie still in the sample; moving
the stage by +1 um moves their images by -1 px, to a fraction of a pixel. A stage that takes steps
of N(0, 2 D dt) between snaps is then a hardware ground truth for D. All beads move as one, so that
many beads know the walk no better than one does: hold an estimate from all of them against
`realised_D_um2_s`, and only that of a single bead against `D_um2_s`.

The beads come without background and without noise, in whole counts. `background_e` adds both as a
camera with one count per photo-electron would: Poisson counts of bead plus background.

One core per process: use it in a process of its own (`mm_scenarios.py` does).
"""

from __future__ import annotations

import time

import numpy as np

from livespt.types import Frame, SourceInfo

#: Stage um per image px, by DemoCamera's own making.
UM_PER_PX = 1.0


class StageWalk:
    """Snaps of DemoCamera's beads, the stage taking one Brownian step before each.

    Parameters
    ----------
    core : object
        pycromanager's `Core()` over the demonstration's devices.
    D_um2_s : float
        In the units of `pixel_um`, as the analysis will see it.
    interval_s : float
        Time between frames that the steps are made for (snapping takes its own, about 12 ms).
    pixel_um : float
        What the analysis shall take a pixel for.
    n_frames, seed : int
    background_e : float
        Background per pixel, with shot noise on all; 0 gives the raw noiseless images.
    roi : list of int
        x, y, width, height in px; empty for the whole chip.
    """

    def __init__(
        self,
        core,
        *,
        D_um2_s=0.5,
        interval_s=0.02,
        pixel_um=0.1,
        n_frames=500,
        seed=1,
        background_e=5.0,
        roi=(),
    ):
        self._core, self._rng = core, np.random.default_rng(seed)
        self.D_um2_s, self._interval_s, self._pixel_um = D_um2_s, interval_s, pixel_um
        self._background_e = background_e
        self._open = True
        #: Stage positions at each frame, um of the stage (= px), as read back.
        self.stage_um: list[tuple[float, float]] = []
        self._set_up(roi)
        shape = (int(core.get_image_height()), int(core.get_image_width()))
        # The stage stands still while the shutter is open: no blur, whatever the exposure.
        exposure_s = 1e-3 * interval_s
        self.info = SourceInfo("stage walk", shape, interval_s, exposure_s, n_frames, False)

    def _set_up(self, roi):
        core = self._core
        core.set_property("Camera", "Mode", "Fluorescent Beads")
        core.set_property("Camera", "BeadSize", "1.0")
        core.set_exposure(1.0)
        if roi:
            core.set_roi(*roi)
        core.set_xy_position(0.0, 0.0)
        core.wait_for_device("XY")

    @property
    def realised_D_um2_s(self) -> float:
        """D of the walk as it happened: mean squared step / (4 dt)."""
        steps = np.diff(np.array(self.stage_um), axis=0) / UM_PER_PX * self._pixel_um
        return float((steps**2).sum(1).mean() / (4 * self._interval_s))

    def frames(self):
        """Step, wait for the stage, snap; yield the frame."""
        step_um = np.sqrt(2 * self.D_um2_s * self._interval_s) / self._pixel_um * UM_PER_PX
        at_um = np.zeros(2)
        for i in range(self.info.n_frames):
            if not self._open:
                return
            self._core.set_xy_position(*map(float, at_um))
            self._core.wait_for_device("XY")
            self._core.snap_image()
            beads = self._core.get_image()
            self.stage_um.append((self._core.get_x_position(), self._core.get_y_position()))
            adu = self._expose(beads)
            adu.flags.writeable = False
            t_s = i * self._interval_s
            yield Frame(i, t_s, adu, self.info.exposure_s, arrived_s=time.perf_counter())
            at_um = at_um + self._rng.normal(0.0, step_um, 2)

    def _expose(self, beads):
        if not self._background_e:
            return beads
        return self._rng.poisson(beads + self._background_e).astype(np.uint16)

    def close(self):
        """Take no further step."""
        self._open = False
