"""What the lanes' start (`lane_start_kernels`) must know of a spot of the width expected."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from livespt import psf
from livespt.localize.lane_start_kernels import Start

#: How much of the width that the moments show is believed: least error for 300 to 5000 photons.
_BELIEVED = 0.7
_STEP, _SHIFT_PX = 0.02, 0.5  # of the width, and along x, for the slopes


@functools.lru_cache(maxsize=64)
def make_start(sigma_px: float, side: int, free_width: bool) -> Start:
    """Return the start's window and the moments under it, by trial spots of one photon."""
    middle = 0.5 * (side - 1)
    apart = np.arange(side) - middle
    window = np.exp(-0.25 * (apart / sigma_px) ** 2)
    along = np.stack([window, window * apart, window * apart**2])
    step = _STEP * sigma_px
    light, spread, stray, _ = _moments(along, sigma_px, 0.0)
    wide = _moments(along, sigma_px + step, 0.0)
    narrow = _moments(along, sigma_px - step, 0.0)
    shift = min(_SHIFT_PX, 0.5 * sigma_px)
    aside = _moments(along, sigma_px, shift)
    slope = (wide[1] - narrow[1]) / (2 * step)
    centroid = aside[3]
    # a window that hardly tells widths apart is not believed
    least_slope = 0.25 * 16 / 9 * sigma_px
    per_spread = _BELIEVED * max(slope, 0.0) / max(slope, least_slope) ** 2 * free_width
    numbers = (
        sigma_px,
        along[0].sum() ** 2,
        2 * along[0].sum() * along[2].sum(),
        light,
        spread,
        stray,
        per_spread,
        np.clip(np.log(wide[0] / narrow[0]) / (2 * step), -1.5 / sigma_px, 0.0),
        (wide[2] - narrow[2]) / (2 * step),
        np.clip(shift / centroid, 0.75, 2.0),
        np.clip(np.log(aside[0] / light) / centroid**2, -0.75 / (sigma_px**2 + 1 / 12), 0.0),
        np.clip((aside[1] - spread) / centroid**2, 0.0, 1.0),
        (aside[2] - stray) / centroid**2,
    )
    single: list[Any] = [np.float32(number) for number in numbers]
    return Start(along.astype(np.float32).ravel(), *single)


def _moments(
    along: NDArray[Any], sigma_px: float, x_px: float
) -> tuple[float, float, float, float]:
    """Return light, mean squared distance, the border's light a pixel, and the centroid's x."""
    side = along.shape[1]
    middle = 0.5 * (side - 1)
    spot = psf.spot_image(middle + x_px, middle, 1.0, sigma_px, (side, side))
    border = (spot.sum() - spot[1:-1, 1:-1].sum()) / (4 * side - 4)
    seen = spot - border
    w, first, second = along
    light = max(float(w @ seen @ w), 0.25 * float(w @ spot @ w))
    return (
        light,
        float(w @ seen @ second + second @ seen @ w) / light,
        border,
        w @ seen @ first / light,
    )
