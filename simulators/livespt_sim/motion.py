"""How molecules move: K states of diffusion, continuous-time switching, a field or a cell.

Model: a molecule in state k diffuses with D_k and leaves it for state l at the rate k_kl per
second, whatever the frame time. Over an interval h,

    r(t+h) = r(t) + N(0, lam),   lam = 2 int D(s(t')) dt',

with the switching times drawn exactly. The mean position over h, given both ends, is their
midpoint plus N(0, lam/12) (a Brownian bridge's average), so the mean over an exposure has
Berglund's blur exactly (SCIENCE 3: R = te / 6 dt), whatever the number of sub-steps.

A field is larger than the camera's view by a margin, so that molecules enter and leave; its border,
out of sight, mirrors them or (periodic) lets them in on the other side. It is a plane, or a slab
between two mirrors. In a closed room (a tube or a rod along x, an ellipsoid) the walls act at every
sub-step. In a zone, the room's own shape made smaller, molecules may switch at other rates: where
they bind.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

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
        Stationary distribution, outside a zone of other rates.
    zone_rate_per_s : (K, K) float64
        Rates inside the zone.
    """

    D_um2_s: Array
    rate_per_s: Array
    occupancy: Array
    zone_rate_per_s: Array

    @property
    def tables(self) -> tuple[Array, Array, Array]:
        """D; outside and inside the zone, the rates of leaving and the chances of where to."""
        places = [_jumps(self.rate_per_s), _jumps(self.zone_rate_per_s)]
        exits, jumps = (np.ascontiguousarray(both) for both in zip(*places, strict=True))
        return self.D_um2_s, exits, jumps

    @property
    def slowest_per_s(self) -> float:
        """The smallest rate that is not 0, in or out of the zone; 0 where none switches."""
        rates = np.concatenate([self.tables[1].ravel(), [np.inf]])
        least = rates[rates > 0].min()
        return float(least) if np.isfinite(least) else 0.0


def _jumps(rates: Array) -> tuple[Array, Array]:
    exit_rate = -np.diagonal(rates).copy()
    jump = np.where(np.eye(len(exit_rate), dtype=bool), 0.0, rates)
    jump = jump / np.where(exit_rate > 0, exit_rate, 1.0)[:, None]
    return exit_rate, np.cumsum(jump, axis=1)


def switching(
    D_um2_s: list[float],
    rates_per_s: list[list[float]],
    zone_rates_per_s: list[list[float]] | None = None,
) -> Switching:
    """Make the chain from D per state and matrices of rates, whose diagonals are ignored.

    A chain that never switches starts with all states alike.
    """
    rates = generator(rates_per_s, len(D_um2_s))
    zone = generator(zone_rates_per_s, len(D_um2_s)) if zone_rates_per_s else rates
    return Switching(np.array(D_um2_s, np.float64), rates, stationary(rates), zone)


def generator(rates_per_s: list[list[float]], n: int) -> Array:
    """Return rates (n, n) whose rows sum to 0."""
    rates = np.array(rates_per_s or np.zeros((n, n)), np.float64).reshape(n, n)
    np.fill_diagonal(rates, 0.0)
    np.fill_diagonal(rates, -rates.sum(axis=1))
    return rates


def stationary(rates: Array) -> Array:
    """Return the distribution that rates (rows sum to 0) keep; even where none switches."""
    n = len(rates)
    if not np.any(rates):
        return np.full(n, 1.0 / n)
    system = np.vstack([rates.T, np.ones(n)])
    target = np.append(np.zeros(n), 1.0)
    solution = np.linalg.lstsq(system, target, rcond=None)[0]
    return np.clip(solution, 0.0, None) / np.clip(solution, 0.0, None).sum()


#: As the kernels want a room: shape, three sizes, scale of the zone.
Shape: TypeAlias = tuple[int, float, float, float, float]


class Field(NamedTuple):
    """A rectangle (x, y) that holds the view and a margin around it.

    Attributes
    ----------
    low_um, high_um : (2,) float64
    periodic : bool
    thickness_um : float
        0 is a plane; else the distance of two mirrors, at equal depth below and above it.
    """

    low_um: Array
    high_um: Array
    periodic: bool
    thickness_um: float = 0.0

    @property
    def shape(self) -> Shape:
        """What the kernels call a room; its sides act at a frame's end only."""
        half = self.thickness_um / 2
        return (kernels.SLAB if half > 0 else kernels.FREE, 0.0, 0.0, half, 0.0)

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        """Draw `n` positions (n, 3), uniform."""
        out = np.zeros((n, 3))
        out[:, :2] = rng.uniform(self.low_um, self.high_um, (n, 2))
        if self.thickness_um > 0:
            out[:, 2] = rng.uniform(-self.thickness_um / 2, self.thickness_um / 2, n)
        return out

    def close(self, pos: Array) -> NDArray[np.bool_]:
        """Bring back, at a frame's end, who left; say who came in on the other side."""
        crossed = kernels.fold(pos, self.low_um, self.high_um, self.periodic)
        return crossed & self.periodic

    def max_step_s(self, D_um2_s: float) -> float:
        """Flat walls: any step is exact, but for its mean near a slab's."""
        return (0.1 * self.thickness_um) ** 2 / (2 * D_um2_s) if self.thickness_um else np.inf


class Cell(NamedTuple):
    """A closed room about the middle of the view; positions are relative to it.

    Attributes
    ----------
    kind : {"cylinder", "capsule", "ellipsoid"}
        Tube with flat ends; rod with round ends, which count in its length; both along x.
    half_um : (3,) tuple
        Half the extent along x, y and z.
    zone : float
        Scale of the shape inside which other rates hold; 0: nowhere.
    """

    kind: str
    half_um: tuple[float, float, float]
    zone: float = 0.0

    @property
    def shape(self) -> Shape:
        """What the kernels call a room."""
        code = {
            "cylinder": kernels.CYLINDER,
            "capsule": kernels.CAPSULE,
            "ellipsoid": kernels.ELLIPSOID,
        }[self.kind]
        return (code, *self.half_um, self.zone)

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        """Draw `n` positions (n, 3), uniform in the volume."""
        out, have = np.zeros((n, 3)), 0
        code, a, b, c, _ = self.shape
        while have < n:
            for point in rng.uniform(-1, 1, (n, 3)) * self.half_um:
                if have < n and kernels.is_inside(code, a, b, c, *point):
                    out[have] = point
                    have += 1
        return out

    def close(self, pos: Array) -> NDArray[np.bool_]:
        """Nothing to do: the walls act within the frame."""
        return np.zeros(len(pos), bool)

    def max_step_s(self, D_um2_s: float) -> float:
        """Keep a step's s.d. far below the least radius, where what the walls do is accurate."""
        part = 0.1 if self.kind == "cylinder" else 0.05
        return (part * min(self.half_um)) ** 2 / (2 * D_um2_s)


Room: TypeAlias = Field | Cell


class Path(NamedTuple):
    """Where molecules were during one frame.

    Attributes
    ----------
    mid_um : (n, S, 3) float64
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
    room: Room,
    rng: NDArray[np.uint64],
) -> Path:
    """Move all molecules through one frame: the exposure's sub-steps, then those in the dark."""
    n, light, dark = len(pos), *steps_s
    mid, lam = np.zeros((n, len(light), 3)), np.zeros((n, len(light)))
    time_in = np.zeros((n, len(chain.D_um2_s)))
    kernels.advance(pos, state, alive, light, chain.tables, room.shape, rng, mid, lam, time_in)
    end = pos[:, :2].copy()
    if len(dark):
        unseen, unused = np.zeros((n, len(dark), 3)), np.zeros((n, len(dark)))
        kernels.advance(
            pos, state, alive, dark, chain.tables, room.shape, rng, unseen, unused, time_in
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


def settle(pos: Array, state: NDArray[np.int64], chain: Switching, room: Room,
           rng: NDArray[np.uint64]) -> None:  # fmt: skip
    """Let molecules move until their states have forgotten the start (5 slowest lifetimes)."""
    if not chain.slowest_per_s:
        return
    step_s = room.max_step_s(float(chain.D_um2_s.max()))
    n_steps = int(np.ceil(5.0 / chain.slowest_per_s / step_s))
    alive = np.ones(len(pos), bool)
    for first in range(0, n_steps, 1000):
        steps = np.full(min(1000, n_steps - first), step_s)
        travel(pos, state, alive, (steps, np.zeros(0)), chain, room, rng)
