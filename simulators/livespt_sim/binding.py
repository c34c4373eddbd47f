"""Four binding events in and out of focus, at table level: Linden 2017, figure 6.

No pixels are drawn: positions are exact exposure means plus Gaussian errors of
11 nm (1 + 3.5 (z / 400 nm)^2), and the errors told scatter by 15 % about the true ones. Free
molecules (D 1) wander over |z| < 400 nm; of the four binding events (D .1) the first and the third
are 400 nm out of focus. The paper does not tell its errors; these are assumed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from livespt.refit import TrackTable, make_tracks

#: Frames free, bound, free ...
FRAMES = (56, 12, 19, 28, 22, 9, 47, 7, 21)
FREE = np.repeat(np.arange(9) % 2 == 0, FRAMES).astype(np.int64)
FOCUS_UM = {1: -0.4, 3: 0.0, 5: 0.4, 7: 0.0}
DT_S, DEPTH_UM, D_FREE, D_BOUND = 0.005, 0.4, 1.0, 0.1

Floats = NDArray[np.float64]


class Replicate(NamedTuple):
    """One molecule: positions (n, 2), the errors told (n,), and the means without errors (n, 2)."""

    x_um: Floats
    sd_um: Floats
    true_um: Floats


def depth(rng: np.random.Generator) -> Floats:
    """Return z of each frame: a reflected walk while free, drawn to the next event in 6 frames."""
    at, parts = rng.uniform(-DEPTH_UM, DEPTH_UM), []
    for event, n in enumerate(FRAMES):
        if event in FOCUS_UM:
            part = FOCUS_UM[event] + rng.normal(0, 0.03, n)
        else:
            walk = at + np.cumsum(rng.normal(0, np.sqrt(2 * D_FREE * DT_S), n))
            part = np.abs((walk + DEPTH_UM) % (4 * DEPTH_UM) - 2 * DEPTH_UM) - DEPTH_UM
            if event + 1 in FOCUS_UM:
                near = np.clip((np.arange(n) - n + 6) / 6, 0, 1)
                part = (1 - near) * part + near * FOCUS_UM[event + 1]
        parts.append(part)
        at = part[-1]
    return np.concatenate(parts)


def replicate(rng: np.random.Generator, squash: float) -> Replicate:
    """Draw a molecule; `squash` scales its depth (1: figure 6c, 1/5: figure 6g)."""
    sd = 0.011 * (1 + 3.5 * (squash * depth(rng) / DEPTH_UM) ** 2)
    D = np.where(FREE == 1, D_FREE, D_BOUND)[:, None]
    noise = rng.normal(size=(3, FREE.size, 2))
    step = np.sqrt(2 * D * DT_S) * noise[0]
    true = np.cumsum(step, axis=0) - step / 2 + np.sqrt(D * DT_S / 6) * noise[1]
    told = sd * np.exp(rng.normal(0, 0.15, sd.size))
    return Replicate(true + sd[:, None] * noise[2], told, true)


def as_table(replicates: list[Replicate]) -> TrackTable:
    """Lay replicates out as tracks of one table."""
    n = len(replicates)
    return make_tracks(
        np.repeat(np.arange(n), FREE.size),
        np.tile(np.arange(FREE.size), n),
        np.concatenate([one.x_um for one in replicates]),
        np.repeat(np.concatenate([one.sd_um for one in replicates])[:, None], 2, axis=1),
        interval_s=DT_S,
    )
