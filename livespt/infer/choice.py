"""How many states: by what each number of them foretells of steps not yet seen.

The candidates run side by side on the same links. Each frame is foretold by parameters that knew
the frames before it alone, so that a state too many gains nothing: its log-likelihood needs no
penalty. Their differences add up from frame to frame, with a standard error of their own.

In use is the smallest number that no larger one beats by more than `SURE` nats and `ERRORS`
standard errors; it is given up for the next smaller one where that falls behind by less than
`LITTLE`. Running are the number in use and its neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from livespt.sections import InferConfig

#: Log-likelihood (nats) and standard errors by which a larger number of states must be better ...
SURE, ERRORS = 10.0, 3.0
#: ... and nats by which the number in use must be better than the next smaller one to stay.
LITTLE = 3.0
#: A comparison begins when both have counted so many steps per state: until then they still leap.
STEPS = 500
#: Frames for which a comparison runs before it may decide.
FRAMES = 25


class Lead:
    """By how much one candidate foretold better than the next smaller one."""

    def __init__(self) -> None:
        self.n, self.total, self.squares = 0, 0.0, 0.0

    def add(self, difference: float) -> None:
        """Add one frame."""
        self.n += 1
        self.total += difference
        self.squares += difference**2

    @property
    def error(self) -> float:
        """Standard error of the total."""
        return math.sqrt(max(self.squares - self.total**2 / max(self.n, 1), 0.0))


class Choice:
    """The number of states in use, and why.

    Parameters
    ----------
    n_states : int
        To begin with.
    """

    def __init__(self, n_states: int) -> None:
        self.n_states = n_states
        self._leads: dict[int, Lead] = {}

    @property
    def wanted(self) -> list[int]:
        """Numbers of states that should be running."""
        near = range(self.n_states - 1, self.n_states + 2)
        return [k for k in near if 1 <= k <= InferConfig.MOST]

    def step(self, loglik: Mapping[int, float], n_steps: Mapping[int, int]) -> str:
        """Take one frame; return why the number in use has changed, "" where it has not.

        Parameters
        ----------
        loglik : mapping
            Predictive log-likelihood of the frame under each running number of states.
        n_steps : mapping
            Steps that each had learned from before the frame.
        """
        ready = [k for k in sorted(loglik) if n_steps[k] >= STEPS * k]
        for k in ready:
            if k - 1 in ready:
                self._leads.setdefault(k, Lead()).add(loglik[k] - loglik[k - 1])
        return self._decide()

    def forget(self) -> None:
        """Compare anew: the candidates have forgotten what they had learned."""
        self._leads.clear()

    def _decide(self) -> str:
        now = self.n_states
        above, below = self._leads.get(now + 1), self._leads.get(now)
        if above and above.n >= FRAMES and above.total > max(SURE, ERRORS * above.error):
            return self._change(now + 1, above.total)
        if below and below.n >= FRAMES and below.total < LITTLE:
            return self._change(now - 1, -below.total)
        return ""

    def _change(self, to: int, nats: float) -> str:
        before, self.n_states = self.n_states, to
        self._leads = {k: lead for k, lead in self._leads.items() if {k, k - 1} <= {*self.wanted}}
        if to > before:
            return (
                f"{to} states in use: better than {before} at foretelling steps ({nats:.0f} nats)"
            )
        return f"{to} state{'s' if to > 1 else ''} in use: {before} foretell the steps no better"
