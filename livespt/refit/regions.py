"""Pixels of one molecule, frame by frame, or of many: what the refits from pixels take."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from livespt.camera import Camera


class Regions(NamedTuple):
    """A region of pixels around one molecule in each frame.

    Attributes
    ----------
    adu : (n, P, P) uint16
    corner_px : (n, 2) int64
        x, y of each region's first pixel in the whole frame.
    frame : (n,) int64
    t_s : (n,) float64
        Start of each exposure.
    exposure_s : float
        0 where the molecule is taken to stand still while the shutter is open.
    camera : Camera
        Of the whole frame.
    pixel_um, sigma_um : float
        Pixel size; width (s.d.) of an in-focus spot.
    photons, bg_photons : float or None
        Of the molecule in one exposure; per pixel. None: to be fitted.
    source : str
        File or origin.
    """

    adu: NDArray[np.uint16]
    corner_px: NDArray[np.int64]
    frame: NDArray[np.int64]
    t_s: NDArray[np.float64]
    exposure_s: float
    camera: Camera
    pixel_um: float
    sigma_um: float
    photons: float | None
    bg_photons: float | None
    source: str


class Molecules(NamedTuple):
    """Regions of many molecules.

    Attributes
    ----------
    regions : tuple of Regions
    track : tuple of int
        The molecules' names.
    left_out : dict of str to int
        What is not in the regions, by reason.
    source : str
        File or origin.
    """

    regions: tuple[Regions, ...]
    track: tuple[int, ...]
    left_out: dict[str, int]
    source: str
