"""How molecules move: K states of diffusion, continuous-time switching, a field or a cylinder.

Model: a molecule in state k diffuses with D_k and leaves it for state l at the rate k_kl per
second, whatever the frame time. Over an interval h,

    r(t+h) = r(t) + N(0, lam),   lam = 2 int D(s(t')) dt',

with the switching times drawn exactly. The mean position over h, given both ends, is their
midpoint plus N(0, lam/12) (a Brownian bridge's average), so the mean over an exposure has
Berglund's blur exactly (SCIENCE 3: R = te / 6 dt), whatever the number of sub-steps.

A field is larger than the camera's view by a margin, so that molecules enter and leave; its border,
out of sight, mirrors them or (periodic) lets them in on the other side. In a cylinder along x
both wall and ends reflect, at every sub-step.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from livespt_sim import motionkernels as kernels

Array = NDArray[np.float64]


class Switching(NamedTuple):
    """A continuous-time Markov chain of diffusive states.

    Attributes
    ----------
    D_um2_s : (K,) float64
    rate_per_s : (K, K) float64
        Off-diagonal switching rates; rows sum to 0.
    occupancy : (K,) float64
        Stationary distribution.
    """

    D_um2_s: Array
    rate_per_s: Array
    occupancy: Array

    @property
    def tables(self) -> tuple[Array, Array, Array]:
        """D, the rate of leaving each state, and the cumulative chances of where to."""
        exit_rate = -np.diagonal(self.rate_per_s).copy()
        jump = np.where(np.eye(len(exit_rate), dtype=bool), 0.0, self.rate_per_s)
        jump = jump / np.where(exit_rate > 0, exit_rate, 1.0)[:, None]
        return self.D_um2_s, exit_rate, np.cumsum(jump, axis=1)


def switching(D_um2_s: list[float], rates_per_s: list[list[float]]) -> Switching:
    """Make the chain from D per state and a matrix of rates, whose diagonal is ignored.

    A chain that never switches starts with all states alike.
    """
    D = np.array(D_um2_s, np.float64)
    rates = np.array(rates_per_s, np.float64).reshape(len(D), len(D))
    np.fill_diagonal(rates, 0.0)
    np.fill_diagonal(rates, -rates.sum(axis=1))
    return Switching(D, rates, _stationary(rates))


def _stationary(rates: Array) -> Array:
    n = len(rates)
    if not np.any(rates):
        return np.full(n, 1.0 / n)
    system = np.vstack([rates.T, np.ones(n)])
    target = np.append(np.zeros(n), 1.0)
    solution = np.linalg.lstsq(system, target, rcond=None)[0]
    return np.clip(solution, 0.0, None) / np.clip(solution, 0.0, None).sum()


class Field(NamedTuple):
    """A rectangle (x, y) that holds the view and a margin around it."""

    low_um: Array
    high_um: Array
    periodic: bool

    walls = (0.0, 0.0)  # none that the path meets within a frame

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        """Draw `n` positions (n, 3), uniform."""
        out = np.zeros((n, 3))
        out[:, :2] = rng.uniform(self.low_um, self.high_um, (n, 2))
        return out

    def close(self, pos: Array) -> NDArray[np.bool_]:
        """Bring back, at a frame's end, who left; say who came in on the other side."""
        crossed = kernels.fold(pos, self.low_um, self.high_um, self.periodic)
        return crossed & self.periodic

    def max_step_s(self, D_um2_s: float) -> float:
        """No wall: any step is exact."""
        return np.inf


class Cylinder(NamedTuple):
    """A closed tube along x about the middle of the view; positions are relative to it."""

    half_length_um: float
    radius_um: float

    @property
    def walls(self) -> tuple[float, float]:
        """What `motionkernels.advance` calls walls."""
        return self.half_length_um, self.radius_um

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        """Draw `n` positions (n, 3), uniform in the volume."""
        r, angle = self.radius_um * np.sqrt(rng.random(n)), rng.uniform(0, 2 * np.pi, n)
        x = rng.uniform(-self.half_length_um, self.half_length_um, n)
        return np.stack([x, r * np.cos(angle), r * np.sin(angle)], axis=1)

    def close(self, pos: Array) -> NDArray[np.bool_]:
        """Nothing to do: the walls act within the frame."""
        return np.zeros(len(pos), bool)

    def max_step_s(self, D_um2_s: float) -> float:
        """Keep a step's s.d. below a tenth of the radius, where mirror images are accurate."""
        return (0.1 * self.radius_um) ** 2 / (2 * D_um2_s)


class Path(NamedTuple):
    """Where molecules were during one frame.

    Attributes
    ----------
    mid_um : (n, S, 2) float64
        Mean position over each sub-step of the exposure.
    lam_um2 : (n, S) float64
        2 integral D dt of each sub-step.
    end_um : (n, 2) float64
        Position at the end of the exposure.
    time_in_s : (n, K) float64
        Time in each state over the whole interval.
    """

    mid_um: Array
    lam_um2: Array
    end_um: Array
    time_in_s: Array


def travel(
    pos: Array,
    state: NDArray[np.int64],
    alive: NDArray[np.bool_],
    steps_s: tuple[Array, Array],
    chain: Switching,
    room: Field | Cylinder,
    rng: NDArray[np.uint64],
) -> Path:
    """Move all molecules through one frame: the exposure's sub-steps, then those in the dark."""
    n, light, dark = len(pos), *steps_s
    mid, lam = np.zeros((n, len(light), 2)), np.zeros((n, len(light)))
    time_in = np.zeros((n, len(chain.D_um2_s)))
    kernels.advance(pos, state, alive, light, chain.tables, room.walls, rng, mid, lam, time_in)
    end = pos[:, :2].copy()
    if len(dark):
        unseen, unused = np.zeros((n, len(dark), 2)), np.zeros((n, len(dark)))
        kernels.advance(
            pos, state, alive, dark, chain.tables, room.walls, rng, unseen, unused, time_in
        )
    return Path(mid, lam, end, time_in)


def substeps(exposure_s: float, interval_s: float, n: int, longest_s: float) -> tuple[Array, Array]:
    """Cut one frame into sub-steps of the exposure (at least `n`) and of the dark time after it."""
    n_light = max(n, int(np.ceil(exposure_s / longest_s)))
    dark_s = interval_s - exposure_s
    n_dark = int(np.ceil(dark_s / longest_s)) if np.isfinite(longest_s) else 1
    light = np.full(n_light, exposure_s / n_light)
    if dark_s <= 1e-12 * interval_s:
        return light, np.zeros(0)
    return light, np.full(n_dark, dark_s / n_dark)
