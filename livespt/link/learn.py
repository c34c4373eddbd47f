"""What the linker learns as it goes: modes, switching, and the density of new spots.

All are recursive counts, started from weak prior counts, that forget as news comes in: one
molecule and ten thousand, a crowd and a sparse field need no setting (SCIENCE 7). An override
fixes its figure for good.

The switching found here serves the links only: counts that are never revised by later frames
run high, by about 2 where switching is rare. Rates to believe come from `livespt.infer`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from livespt.link.bank import F8, Motion
from livespt.link.life_kernels import LEAST, MOST, relearn
from livespt.sections import LinkConfig

#: Modes of a molecule of which nothing is known: from stuck to a free small protein.
GENERIC_D_UM2_S = (0.005, 0.063, 0.8, 10.0)
#: Switching and photophysics per frame before anything is learned.
P_SWITCH, P_DETECT, P_OFF, P_ON, P_BLEACH = 0.05, 0.95, 0.02, 0.3, 0.01
#: Prior events of the photophysics, in the order p_detect, p_off, p_on, p_bleach: frames in which a
#: molecule was on, on, dark, and there at all.
PRIOR_EVENTS = (200.0, 200.0, 10.0, 200.0)
#: Longest gap that is counted; gaps kept before half of them is forgotten; news that are worth
#: another look, as a share of what was known; rounds of one look.
MOST_GAP, MOST_GAPS, LIFE_NEWS, LIFE_ROUNDS = 31, 1e5, 0.25, 10
#: Most and least share that one frame forgets of the density of new spots.
FORGET_DENSITY = (1 / 50, 1 / 500)
#: Most share that one frame forgets of the switching: it is slow to change.
FORGET_MOTION = 1 / 500
#: So much news has to come in before the old may be forgotten: switching steps, new spots.
MEMORY_STEPS, MEMORY_NEW = 5000.0, 20.0
#: Prior counts: steps per mode, frames of density.
PRIOR_STEPS, PRIOR_FRAMES = 10.0, 3.0
#: Share of spots that are new before anything is learned, and share of these that are real: low
#: enough that a stray is given up after one frame without it.
NEW_SHARE, REAL_SHARE = 0.1, 0.4
#: Least share of the spots that is taken to be new, whatever the counts say.
LEAST_SHARE = 0.01
#: Least extent that an unknown field is taken to have.
LEAST_FIELD_UM = 10.0
#: No mode is ruled out for good.
LEAST_P = 1e-4
#: Least number of new spots a frame that is expected of an empty field.
LEAST_NEW = 0.02
#: Frames between two looks at the switching counts.
REFRESH = 8


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
        self._learns_switching = overrides.p_switch is None and n_modes > 1
        self._prior = PRIOR_STEPS * even_switching(n_modes, overrides.p_switch or P_SWITCH)
        fixed = (overrides.p_detect, overrides.p_off, overrides.p_on, overrides.p_bleach)
        assumed = (P_DETECT, P_OFF, P_ON, P_BLEACH)
        given = np.array([f is not None for f in fixed])
        values = np.array([a if f is None else f for f, a in zip(fixed, assumed, strict=True)])
        self._life_prior = np.where(given, values, np.clip(values, LEAST, MOST))
        self._life_events = np.where(given, math.inf, PRIOR_EVENTS)
        self._life = self._life_prior.copy()
        self._n_gaps = 0.0
        self._field_um = field_um
        self._corners_um = (math.inf, math.inf, -math.inf, -math.inf)
        #: Filled by the kernel: gaps; expected switches; expected new spots, and spots.
        self.gaps: F8 = np.zeros((2, MOST_GAP + 1))
        self.counts: F8 = np.zeros((n_modes, n_modes))
        self.tally: F8 = np.zeros(2)
        self._n_new, self._n_new_frames = 0.0, 0.0
        self._n_spots, self._n_frames = 0.0, 0.0
        self._n_steps, self._seen = 0.0, 0
        self._refresh()

    def learn(self, corners_um: Sequence[float], had_tracks: bool) -> None:
        """Take in the counts of the frame just settled, and forget a little.

        Parameters
        ----------
        corners_um : (x0, y0, x1, y1)
            Extent of this frame's spots; not used where there is none.
        had_tracks : bool
            Without tracks, a frame tells nothing of new spots: all of its spots are new.
        """
        new, n_spots = self.tally.tolist()
        keep = 1.0 - FORGET_DENSITY[0]
        self._n_spots = keep * self._n_spots + n_spots
        self._n_frames = keep * self._n_frames + 1.0
        if n_spots and self._field_um is None:
            x0, y0, x1, y1 = corners_um
            a0, b0, a1, b1 = self._corners_um
            self._corners_um = (min(a0, x0), min(b0, y0), max(a1, x1), max(b1, y1))
        if had_tracks:
            most, least = FORGET_DENSITY
            keep = 1.0 - min(max(new / MEMORY_NEW, least), most)
            self._n_new = keep * self._n_new + new
            self._n_new_frames = keep * self._n_new_frames + 1.0
        self.tally[:] = 0.0
        self._seen += 1
        if self._seen % REFRESH == 0:
            self._refresh()

    @property
    def area_um2(self) -> float:
        """Area of the field, known or seen so far."""
        if self._field_um is not None:
            return self._field_um[0] * self._field_um[1]
        x0, y0, x1, y1 = self._corners_um
        return max(x1 - x0, LEAST_FIELD_UM) * max(y1 - y0, LEAST_FIELD_UM)

    def motion(self) -> Motion:
        """Return the present estimates, for the kernels."""
        n_spots = self._n_spots / max(self._n_frames, 1.0)
        expected = PRIOR_FRAMES * (NEW_SHARE * n_spots + LEAST_NEW)
        new = (expected + self._n_new) / (PRIOR_FRAMES + self._n_new_frames)
        p_detect, p_off, p_on, p_bleach = self._life.tolist()
        return Motion(
            self.D_um2_s,
            self._transition,
            self._occupancy,
            p_detect,
            p_off,
            p_on,
            p_bleach,
            REAL_SHARE,
            max(new, LEAST_SHARE * n_spots) / self.area_um2,
        )

    def _refresh(self) -> None:
        """Work out the transition matrix and the occupancy from the counts."""
        total = float(self.counts.sum())
        news = max(total - self._n_steps, 0.0)
        self.counts *= 1.0 - min(REFRESH * FORGET_MOTION, news / MEMORY_STEPS)
        self._n_steps = float(self.counts.sum())
        counts = self._prior + self.counts if self._learns_switching else self._prior
        transition = np.maximum(counts / counts.sum(axis=1, keepdims=True), LEAST_P)
        self._transition: F8 = transition / transition.sum(axis=1, keepdims=True)
        occupancy = PRIOR_STEPS + self.counts.sum(axis=1)
        self._occupancy: F8 = occupancy / occupancy.sum()
        self._relearn_life()

    def warm_up(self) -> None:
        """Compile what runs only once there is news of gaps."""
        relearn(self.gaps, self._life_prior, self._life_events, 1, self._life.copy())

    def _relearn_life(self) -> None:
        """Work out the photophysics from the gaps, where there is news enough."""
        n_gaps = float(self.gaps.sum())
        if n_gaps <= (1 + LIFE_NEWS) * self._n_gaps or not np.isfinite(self._life_events).any():
            return
        relearn(self.gaps, self._life_prior, self._life_events, LIFE_ROUNDS, self._life)
        self.gaps *= 0.5 if n_gaps > MOST_GAPS else 1.0
        self._n_gaps = float(self.gaps.sum())


def even_switching(n_modes: int, p_switch: float) -> F8:
    """Return a transition matrix that leaves each mode with `p_switch`, evenly to the others."""
    if n_modes == 1:
        return np.ones((1, 1))
    away = p_switch / (n_modes - 1)
    return np.full((n_modes, n_modes), away) + (1.0 - p_switch - away) * np.eye(n_modes)
