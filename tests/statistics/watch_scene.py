"""A sample that comes, blinks, bleaches and flickers: spots and true links, frame after frame.

Counts and brightness are correlated in time as in life: a molecule keeps its brightness, shines
for some time, goes dark and comes back, and is replaced when it has bleached.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from livespt.types import SPOT_DTYPE, Links, Spots

DT_S = 0.02


class Scene(NamedTuple):
    """How the sample is at one moment."""

    n: float = 30.0  # molecules that shine, on average
    D_um2_s: tuple[float, ...] = (0.05, 1.0)
    photons: float = 300.0
    background: float = 2.0
    sd_factor: float = 1.0
    width_um: float = 0.12  # of a spot of usual brightness; dimmer molecules are out of focus
    p_switch: float = 0.02
    p_bleach: float = 1 / 250
    p_dark: float = 1 / 50
    p_back: float = 1 / 10
    brightness_sd: float = 0.4  # of its logarithm, between molecules
    flicker: float = 0.01  # of the lamp, over about a second


def stream(
    scene: Callable[[int], Scene], n_frames: int, seed: int
) -> Iterator[tuple[Spots, Links]]:
    """Yield spots and links of `n_frames` frames; `scene(frame)` says how the sample is."""
    rng, of_width = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    molecules = _Molecules(rng, scene(0))
    lamp = 0.0
    for frame in range(n_frames):
        now = scene(frame)
        lamp = 0.98 * lamp + now.flicker * np.sqrt(1 - 0.98**2) * rng.normal()
        ended = molecules.live(rng, now)
        ids, xy, brightness = molecules.shining()
        table = np.zeros(len(ids), SPOT_DTYPE)
        photons = now.photons * brightness * np.exp(lamp)
        photons = np.maximum(rng.poisson(photons) + rng.normal(0, 10, len(ids)), 20)
        noise = of_width.normal(size=len(ids)) / np.sqrt(photons)
        table["sigma_um"] = now.width_um * brightness**-0.1 * np.exp(noise)
        sd_um = now.sd_factor * 0.13 / np.sqrt(photons) * 2
        table["photons"], table["bg_photons"] = photons, 0.0
        table["bg_photons"] = now.background * np.exp(lamp) + rng.normal(0, 0.15, len(ids))
        table["var_x_um2"] = table["var_y_um2"] = sd_um**2
        table["x_um"], table["y_um"] = (xy + sd_um[:, None] * rng.normal(size=xy.shape)).T
        spots = Spots(frame, frame * DT_S, 1e-6, 1.0, table)
        yield spots, Links(frame, ids, np.ones(len(ids)), ended)


class _Molecules:
    def __init__(self, rng: np.random.Generator, scene: Scene) -> None:
        self.next = 0
        self.id = np.empty(0, np.int64)
        self.xy, self.on = np.empty((0, 2)), np.empty(0, bool)
        self.state, self.brightness = np.empty(0, int), np.empty(0)
        self._add(rng, scene, rng.poisson(scene.n / _share_on(scene)), _share_on(scene))

    def live(self, rng: np.random.Generator, scene: Scene) -> np.ndarray:
        """Move all by one frame; return those that have bleached."""
        n = len(self.id)
        away = rng.random(n) < scene.p_switch
        leap = rng.integers(1, max(2, len(scene.D_um2_s)), n)
        self.state = np.where(away, (self.state + leap) % len(scene.D_um2_s), self.state)
        sd_um = np.sqrt(2 * np.array(scene.D_um2_s)[self.state] * DT_S)
        self.xy = self.xy + sd_um[:, None] * rng.normal(size=(n, 2))
        flips = rng.random(n) < np.where(self.on, scene.p_dark, scene.p_back)
        self.on = self.on ^ flips
        gone = rng.random(n) < scene.p_bleach
        ended = self.id[gone]
        for name in ("id", "xy", "on", "state", "brightness"):
            setattr(self, name, getattr(self, name)[~gone])
        births = rng.poisson(scene.p_bleach * scene.n / _share_on(scene))
        self._add(rng, scene, births, _share_on(scene))
        return ended

    def shining(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.id[self.on], self.xy[self.on], self.brightness[self.on]

    def _add(self, rng: np.random.Generator, scene: Scene, n: int, share: float) -> None:
        self.id = np.append(self.id, np.arange(self.next, self.next + n))
        self.next += n
        self.xy = np.concatenate([self.xy, rng.uniform(0, 20, (n, 2))])
        self.on = np.append(self.on, rng.random(n) < share)
        self.state = np.append(self.state, rng.integers(0, len(scene.D_um2_s), n))
        self.brightness = np.append(self.brightness, np.exp(rng.normal(0, scene.brightness_sd, n)))


def _share_on(scene: Scene) -> float:
    return scene.p_back / (scene.p_back + scene.p_dark)
