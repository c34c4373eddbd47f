"""When a molecule shines: a chain of light states, bleaching, brightness.

Model: a molecule is in one of P light states, each with a relative brightness (0: dark). It leaves
them at rates that hold always (thermal), plus rates that hold while the light is on, which is
during the exposure; these grow with the excitation. So does bleaching, from each
state at its own rate and for good. In a state of brightness 1 it emits `photons` per exposure times
its own brightness times the excitation. The common case is two
states, on and off (`off_per_s`, `on_per_s`, `bleach_per_s`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from livespt_sim import photophysicskernels as kernels
from livespt_sim.motion import generator, stationary
from livespt_sim.options import Options

Array = NDArray[np.float64]


class LightChain(NamedTuple):
    """Light states.

    Attributes
    ----------
    brightness : (P,) float64
        Relative; 0 is dark.
    thermal_per_s, driven_per_s : (P, P) float64
        Rates always; and, on top, with light at excitation 1. Rows sum to 0.
    bleach_per_s : (P,) float64
        With light at excitation 1.
    """

    brightness: Array
    thermal_per_s: Array
    driven_per_s: Array
    bleach_per_s: Array


def light_chain(options: Options) -> LightChain:
    """Return the chain that `options` describe: their own, or on and off."""
    o = options
    if not o.light_brightness:
        blinking = generator([[0.0, o.off_per_s], [o.on_per_s, 0.0]], 2)
        return LightChain(
            np.array([1.0, 0.0]), blinking, np.zeros((2, 2)), np.array([o.bleach_per_s, 0.0])
        )
    n = len(o.light_brightness)
    none = [[0.0] * n for _ in range(n)]
    return LightChain(
        np.array(o.light_brightness, np.float64),
        generator(o.light_rates_per_s or none, n),
        generator(o.light_driven_per_s or none, n),
        np.array(o.light_bleach_per_s or [0.0] * n, np.float64),
    )


class Photophysics:
    """The rates of one kind of molecule."""

    def __init__(self, options: Options) -> None:
        self._chain = light_chain(options)
        self._cv = options.brightness_cv
        duty = options.exposure_s / options.interval_s
        rates = self._chain.thermal_per_s + duty * options.excitation * self._chain.driven_per_s
        #: share of new molecules in each light state: the chain's own, bleaching left aside
        self.occupancy = stationary(rates) if rates.any() else np.eye(len(rates))[0]

    def draw_light(self, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw the light states of new molecules."""
        return rng.choice(len(self.occupancy), n, p=self.occupancy).astype(np.int64)

    def draw_brightness(self, n: int, rng: np.random.Generator) -> Array:
        """Draw relative brightnesses of mean 1."""
        if self._cv == 0:
            return np.ones(n)
        return rng.gamma(self._cv**-2, self._cv**2, n)

    def shine(
        self,
        light: NDArray[np.int64],
        alive: NDArray[np.bool_],
        steps_s: tuple[Array, Array],
        excitation: float,
        rng: NDArray[np.uint64],
    ) -> Array:
        """Move light states through one frame; return the brightness of each light step, (n, S)."""
        bright, dark = steps_s
        durations = np.concatenate([bright, [dark.sum()]])
        lit = np.arange(len(durations)) < len(bright)
        fraction = np.zeros((len(light), len(durations)))
        kernels.emit(light, alive, durations, lit, self._tables(excitation), rng, fraction)
        return fraction[:, :-1]

    def _tables(self, excitation: float) -> tuple[Array, Array, Array]:
        """Brightness; in the dark and in light, the rates of leaving and chances of where to."""
        chain = self._chain
        leave = np.zeros((2, len(chain.brightness), len(chain.brightness) + 1))
        leave[:, :, :-1] = chain.thermal_per_s
        leave[1, :, :-1] += excitation * chain.driven_per_s
        leave[1, :, -1] = excitation * chain.bleach_per_s
        states = np.arange(len(chain.brightness))
        leave[:, states, states] = 0.0
        exit_rate = leave.sum(axis=2)
        chances = leave / np.where(exit_rate > 0, exit_rate, 1.0)[:, :, None]
        return chain.brightness, exit_rate, np.cumsum(chances, axis=2)
