"""Light that was spent: the dose of a run, and the duty over a while.

The dose is the integral of power over time since the guard was first armed. The duty is kept by a
bucket: it holds `duty * max_power * duty_s`, fills at `duty * max_power` and is emptied by the
power that is on; where it is empty, no more than what flows in may be on.
"""

from __future__ import annotations

import math

from livespt.control.limits import Limits

#: Light is lowered so long before a budget is spent: longer than the guard ever takes to do it.
RESERVE_S = 0.5


class Spent:
    """Running sums of the light, and the power that they still allow.

    Attributes
    ----------
    dose : float
        Power times seconds, in the unit of the limits' power.
    """

    def __init__(self, limits: Limits) -> None:
        self.dose = 0.0
        self._budget = math.inf if limits.dose is None else limits.dose
        self._flow = limits.duty * limits.max_power
        self._full = self._bucket = self._flow * limits.duty_s
        self._limited = limits.duty < 1

    @property
    def left(self) -> float:
        """Dose that is left; infinite without a budget."""
        return max(0.0, self._budget - self.dose)

    def add(self, power: float, seconds: float) -> None:
        """Count a power that was on for a while."""
        self.dose += power * seconds
        self._bucket = min(self._full, self._bucket + (self._flow - power) * seconds)

    def rest(self, seconds: float) -> None:
        """Count a while without light that was asked for."""
        self._bucket = min(self._full, self._bucket + self._flow * seconds)

    def exhausts(self, power: float) -> bool:
        """Return whether a power would spend the dose within the reserve."""
        return power * RESERVE_S >= self._budget - self.dose

    def most(self) -> float:
        """Return the highest power that duty and dose allow to be raised to now."""
        most = (self._budget - self.dose) / (4 * RESERVE_S)
        return min(most, self._flow) if self.tired else most

    @property
    def tired(self) -> bool:
        """Whether the duty is used up."""
        return self._limited and self._bucket <= self._flow * RESERVE_S

    @property
    def flow(self) -> float:
        """Power that the duty allows for ever."""
        return self._flow
