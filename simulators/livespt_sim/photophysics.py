"""When a molecule shines: blinking, bleaching, brightness.

Model: on and off alternate with exponential dwell times (rates `off_per_s` of leaving the on
state, `on_per_s` of coming back), in light and dark alike. A molecule that is on bleaches, for
good, at `bleach_per_s` times the excitation while the light is on, which is during the exposure.
While on, it emits `photons` per exposure times its own brightness times the excitation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from livespt_sim import photophysicskernels as kernels
from livespt_sim.options import Options

Array = NDArray[np.float64]


class Photophysics:
    """The rates of one kind of molecule."""

    def __init__(self, options: Options) -> None:
        self._off, self._on = options.off_per_s, options.on_per_s
        self._bleach = options.bleach_per_s
        self._cv = options.brightness_cv

    @property
    def p_on(self) -> float:
        """Stationary probability of a living molecule to be on."""
        return self._on / (self._on + self._off) if self._off > 0 else 1.0

    def draw_on(self, n: int, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Draw whether new molecules are on."""
        return rng.random(n) < self.p_on

    def draw_brightness(self, n: int, rng: np.random.Generator) -> Array:
        """Draw relative brightnesses of mean 1."""
        if self._cv == 0:
            return np.ones(n)
        return rng.gamma(self._cv**-2, self._cv**2, n)

    def shine(
        self,
        on: NDArray[np.bool_],
        alive: NDArray[np.bool_],
        steps_s: tuple[Array, Array],
        excitation: float,
        rng: NDArray[np.uint64],
    ) -> Array:
        """Move on and alive through one frame; return the on part of each light step, (n, S)."""
        light, dark = steps_s
        durations = np.concatenate([light, [dark.sum()]])
        lit = np.arange(len(durations)) < len(light)
        fraction = np.zeros((len(on), len(durations)))
        rates = (self._off, self._on, self._bleach * excitation)
        kernels.emit(on, alive, durations, lit, rates, rng, fraction)
        return fraction[:, :-1]
