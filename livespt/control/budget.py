"""The bleaching budget: how much light there may be in all, and how it is spread over the run.

Dose is power times time (unit s). Bleaching goes with it: of molecules that bleach with probability
k per unit of dose, a share 1 - exp(-k dose) is lost. The cap on the power is what is left over the
time that is left, so that a run whose target asks for more comes down instead of going dark.
"""

from __future__ import annotations

import math

#: Horizon of a run of unknown length, and the least one: the cap then falls with what is left.
OPEN_S, LEAST_S = 60.0, 2.0


def dose_for(bleached: float, bleach_per_dose: float) -> float:
    """Return the dose after which the share `bleached` is gone."""
    return -math.log1p(-bleached) / bleach_per_dose


class Budget:
    """Spread a dose over a run.

    Parameters
    ----------
    dose : float
        In all, in the power's unit times seconds; inf: no budget.
    planned_s : float
        How long the run is to last; inf: unknown, the dose then lasts for ever, ever dimmer.
    """

    def __init__(self, dose: float = math.inf, planned_s: float = math.inf) -> None:
        self.dose, self.planned_s = dose, planned_s

    def left(self, dose: float, guards_left: float = math.inf) -> float:
        """Return what may still be spent, having spent `dose`."""
        return max(min(self.dose - dose, guards_left), 0.0)

    def cap(self, left: float, elapsed_s: float) -> float:
        """Return the highest power that the budget bears now; inf without one."""
        if math.isinf(left):
            return math.inf
        to_go_s = OPEN_S if math.isinf(self.planned_s) else self.planned_s - elapsed_s
        return left / max(to_go_s, LEAST_S)
