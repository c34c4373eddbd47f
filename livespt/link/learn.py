"""What the linker learns as it goes: modes, switching, and the density of new spots.

All are recursive counts with a slow forgetting, started from weak prior counts, so that one
molecule and ten thousand need no setting (SCIENCE 7). An override fixes its figure for good.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from livespt.config import LinkConfig
from livespt.link.bank import F8, Motion

#: Modes of a molecule of which nothing is known: from stuck to a free small protein.
GENERIC_D_UM2_S = (0.005, 0.063, 0.8, 10.0)
#: Switching per frame before anything is learned; photophysics for good.
P_SWITCH, P_DETECT, P_OFF, P_ON, P_BLEACH = 0.05, 0.95, 0.02, 0.3, 0.01
#: Share of counts that a frame forgets: motion is slow to change, the density is not.
FORGET_MOTION, FORGET_DENSITY = 1 / 500, 1 / 50
#: Prior counts: steps per mode, frames of density, newborns.
PRIOR_STEPS, PRIOR_FRAMES, PRIOR_BORN = 10.0, 3.0, 10.0
#: Share of spots that are new, and share of these that are real, before anything is learned.
NEW_SHARE, REAL_SHARE = 0.1, 0.6
#: Least extent that an unknown field is taken to have.
LEAST_FIELD_UM = 10.0
#: No mode is ruled out for good.
LEAST_P = 1e-4


class Learner:
    """Running estimates behind `Motion`.

    Parameters
    ----------
    overrides : LinkConfig
        Figures that the user fixed.
    field_um : (float, float) or None
        Height and width of the field; None: the extent of the spots seen so far.
    """

    def __init__(self, overrides: LinkConfig, field_um: tuple[float, float] | None) -> None:
        self.D_um2_s: F8 = np.array(sorted(overrides.D_um2_s) or GENERIC_D_UM2_S)
        n_modes = len(self.D_um2_s)
        self._fixed_switch = overrides.p_switch is not None
        p_switch = overrides.p_switch or P_SWITCH
        self._prior = PRIOR_STEPS * even_switching(n_modes, p_switch)
        self._life = tuple(
            default if value is None else value
            for value, default in (
                (overrides.p_detect, P_DETECT),
                (overrides.p_off, P_OFF),
                (overrides.p_on, P_ON),
                (overrides.p_bleach, P_BLEACH),
            )
        )
        self._field_um = field_um
        self._corners = np.array([np.inf, np.inf, -np.inf, -np.inf])
        self.counts: F8 = np.zeros((n_modes, n_modes))
        #: Filled by the kernel in one frame: new spots, newborns looked for, newborns found.
        self.tally: F8 = np.zeros(3)
        self._sums = np.zeros(3)
        self._frames = 0.0
        self._spots = 0.0
        self._spot_frames = 0.0

    def look(self, spots: NDArray[np.float64]) -> None:
        """Take in how many spots a frame has, and how far they reach."""
        keep = 1.0 - FORGET_DENSITY
        self._spots = keep * self._spots + len(spots)
        self._spot_frames = keep * self._spot_frames + 1.0
        if self._field_um is None and len(spots):
            x, y = spots[:, 0], spots[:, 1]
            low, high = self._corners[:2], self._corners[2:]
            np.minimum(low, (y.min(), x.min()), out=low)
            np.maximum(high, (y.max(), x.max()), out=high)

    def learn(self, had_tracks: bool) -> None:
        """Take in the counts of the frame just settled, and forget a little.

        A frame before the first track tells nothing of new spots: all of its spots are new.
        """
        self.counts *= 1.0 - FORGET_MOTION
        if had_tracks:
            keep = 1.0 - FORGET_DENSITY
            self._sums[0] = keep * self._sums[0] + self.tally[0]
            self._frames = keep * self._frames + 1.0
            self._sums[1:] = (1.0 - FORGET_MOTION) * self._sums[1:] + self.tally[1:]
        self.tally[:] = 0.0

    @property
    def area_um2(self) -> float:
        """Area of the field, known or seen so far."""
        if self._field_um is not None:
            return self._field_um[0] * self._field_um[1]
        extent = np.maximum(self._corners[2:] - self._corners[:2], LEAST_FIELD_UM)
        return float(extent[0] * extent[1])

    def motion(self) -> Motion:
        """Return the present estimates, for the kernels."""
        counts = self._prior if self._fixed_switch else self._prior + self.counts
        transition = np.maximum(counts / counts.sum(axis=1, keepdims=True), LEAST_P)
        transition /= transition.sum(axis=1, keepdims=True)
        occupancy = PRIOR_STEPS / len(counts) + self.counts.sum(axis=1)
        new = NEW_SHARE * self._spots / max(self._spot_frames, 1.0) + 0.02
        per_frame = (PRIOR_FRAMES * new + self._sums[0]) / (PRIOR_FRAMES + self._frames)
        real = (PRIOR_BORN * REAL_SHARE + self._sums[2]) / (PRIOR_BORN + self._sums[1])
        return Motion(
            self.D_um2_s,
            transition,
            occupancy / occupancy.sum(),
            *self._life,
            REAL_SHARE,
            per_frame / self.area_um2,
        )


def even_switching(n_modes: int, p_switch: float) -> F8:
    """Return a transition matrix that leaves each mode with `p_switch`, evenly to the others."""
    if n_modes == 1:
        return np.ones((1, 1))
    away = p_switch / (n_modes - 1)
    return np.full((n_modes, n_modes), away) + (1.0 - p_switch - away) * np.eye(n_modes)
