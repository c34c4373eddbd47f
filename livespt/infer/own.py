"""Each live track's own D, whatever the pooled model believes of it."""

from __future__ import annotations

import numpy as np

from livespt.infer.arrays import Array, Ints, Seen, roomy, wider
from livespt.infer.ownkernels import N_GRID, N_ROWS, SCRATCH, step_own

#: The grid of D: from a motion of 1 nm to one of 1 um per axis and nominal interval (rms).
LEAST_STEP_UM, MOST_STEP_UM = 1e-3, 1.0


class OwnD:
    """A bank of one-state filters over ln D for every live track (see `ownkernels`).

    Parameters
    ----------
    interval_s : float
        Nominal time between frames.
    capacity : int
        Slots, as many as the bank of live tracks has.
    """

    def __init__(self, interval_s: float, capacity: int) -> None:
        ends = np.log(np.array([LEAST_STEP_UM, MOST_STEP_UM]) ** 2 / (2 * interval_s))
        self.grid = np.exp(np.linspace(ends[0], ends[1], N_GRID))
        self._own = roomy(capacity * N_ROWS * N_GRID).reshape(capacity, -1)
        self._last = np.zeros((capacity, 3))
        self.work = np.zeros(SCRATCH)

    def grow(self) -> None:
        """Double the number of slots."""
        n = 2 * len(self._own)
        self._own = wider(self._own.ravel(), n * N_ROWS * N_GRID).reshape(n, -1)
        self._last = np.concatenate([self._last, np.zeros_like(self._last)])

    @property
    def banks(self) -> tuple[Array, Array]:
        """What the kernels keep of each track (see `ownkernels.Own`)."""
        return self._own, self._last

    def step(self, seen: Seen, n_spots: Ints, error_scale2: float, fastest_um2_s: float) -> Array:
        """Take one frame; return D of each spot's track and its 95 % interval.

        Parameters
        ----------
        seen : Seen
            Spots of the frame, each with its track's slot.
        n_spots : (capacity,) int64
            Spots of each track before this frame.
        error_scale2 : float
            Square of the factor on the reported errors.
        fastest_um2_s : float
            D of the fastest state, beyond which a step may be a false link; infinite if unknown.

        Returns
        -------
        (n, 3) float64
            Mean (of ln D, as D), 2.5 % and 97.5 % points, in um2/s.
        """
        out = np.empty((seen.slot.size, 3))
        banks = self._own, self._last, n_spots, self.grid
        step_own(banks, seen, (error_scale2, fastest_um2_s), out, self.work)
        return out
