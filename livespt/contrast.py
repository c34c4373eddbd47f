"""How a spot stands out from what lies under it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Least background (photons per pixel) that the SBR divides by, so that a dark field stays finite.
MIN_BG_PHOTONS = 0.01


def signal_to_background(table: NDArray[np.void], pixel_um: float) -> NDArray[np.float64]:
    """Return photons over the background under the spot, 4 pi sigma^2 b with sigma in pixels.

    4 pi sigma^2 is the area over which a Gaussian spot of width sigma is spread (the inverse of
    the integral of its square); b is the background per pixel, at least `MIN_BG_PHOTONS`.
    """
    area_px = 4 * np.pi * (table["sigma_um"] / pixel_um) ** 2
    return table["photons"] / (area_px * np.maximum(table["bg_photons"], MIN_BG_PHOTONS))
