"""What the linker learns as it goes: modes, switching, and the density of new spots.

All are recursive counts, started from weak prior counts, that forget as news comes in: one
molecule and ten thousand, a crowd and a sparse field need no setting (SCIENCE 7). An override
fixes its figure for good.

The switching found here serves the links only: counts that are never revised by later frames
run high, by about 2 where switching is rare. Rates to believe come from `livespt.infer`.
"""

from __future__ import annotations

import math

import numpy as np

from livespt.link import learn_kernels as at
from livespt.link.bank import F8, Motion
from livespt.link.learn_kernels import PRIOR_STEPS, learned_of, motion_of, n_learned, refresh
from livespt.link.life_kernels import LEAST, MOST, relearn
from livespt.sections import LinkConfig

#: Modes of a molecule of which nothing is known: from stuck to a free small protein.
GENERIC_D_UM2_S = (0.005, 0.063, 0.8, 10.0)
#: Switching and photophysics per frame before anything is learned.
P_SWITCH, P_DETECT, P_OFF, P_ON, P_BLEACH = 0.05, 0.95, 0.02, 0.3, 0.01
#: Prior events of the photophysics, in the order p_detect, p_off, p_on, p_bleach: frames in which a
#: molecule was on, on, dark, and there at all.
PRIOR_EVENTS = (200.0, 200.0, 10.0, 200.0)


class Learner:
    """Running estimates behind `Motion`; the kernels bring them up to date.

    Parameters
    ----------
    overrides : LinkConfig
        Figures that the user fixed.
    field_um : (float, float) or None
        Height and width of the field; None: the extent of the spots seen so far.

    Attributes
    ----------
    block : (n,) float64
        All that is learned, in one piece.
    """

    def __init__(self, overrides: LinkConfig, field_um: tuple[float, float] | None) -> None:
        modes = sorted(overrides.D_um2_s) or GENERIC_D_UM2_S
        self.block: F8 = np.zeros(n_learned(len(modes)))
        self.learned = learned_of(self.block, len(modes))
        learned, figures = self.learned, self.learned.figures
        learned.D_um2_s[:] = modes
        learned.prior[:] = PRIOR_STEPS * even_switching(len(modes), overrides.p_switch or P_SWITCH)
        fixed = (overrides.p_detect, overrides.p_off, overrides.p_on, overrides.p_bleach)
        assumed = (P_DETECT, P_OFF, P_ON, P_BLEACH)
        given = np.array([f is not None for f in fixed])
        values = np.array([a if f is None else f for f, a in zip(fixed, assumed, strict=True)])
        learned.life_prior[:] = np.where(given, values, np.clip(values, LEAST, MOST))
        learned.life_events[:] = np.where(given, math.inf, PRIOR_EVENTS)
        learned.life[:] = learned.life_prior
        figures[at.LEARNS] = overrides.p_switch is None and len(modes) > 1
        figures[at.AREA] = field_um[0] * field_um[1] if field_um else 0.0
        figures[[at.X0, at.Y0]], figures[[at.X1, at.Y1]] = math.inf, -math.inf
        refresh(learned)

    def motion(self) -> Motion:
        """Return the present estimates."""
        now = motion_of(self.learned)
        return now._replace(transition=now.transition.copy(), occupancy=now.occupancy.copy())

    def warm_up(self) -> None:
        """Compile what runs only once there is news of gaps."""
        learned = self.learned
        relearn(learned.gaps, learned.life_prior, learned.life_events, 1, learned.life.copy())


def even_switching(n_modes: int, p_switch: float) -> F8:
    """Return a transition matrix that leaves each mode with `p_switch`, evenly to the others."""
    if n_modes == 1:
        return np.ones((1, 1))
    away = p_switch / (n_modes - 1)
    return np.full((n_modes, n_modes), away) + (1.0 - p_switch - away) * np.eye(n_modes)
