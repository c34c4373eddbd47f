"""A molecule's photons and its background, from regions of pixels around a place foretold.

Fits of spots found blind give too many photons where light is dim: only the brighter frames are
found. Here light is weighed by the share of it that each pixel should have, s, at a place that owes
nothing to the frame, with a width that holds what is not known of it. The weighted least squares

    electrons = excitation (N s + b) + noise,   variance (b + read variance),

summed over frames with the older ones forgotten, then have no such bias; a frame whose place is not
well known counts little by itself.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from livespt.infer.arrays import Array

#: Frames that a mean remembers, and how many it takes to be believed.
MEMORY, ENOUGH = 50, 10


class Light:
    """Running photons of a molecule and background per pixel, at excitation 1."""

    def __init__(self) -> None:
        self._fits = np.zeros(2)
        self._n_fits = 0
        self._gram, self._seen = np.zeros((2, 2)), np.zeros(2)
        self._n = 0

    @property
    def now(self) -> tuple[float, float]:
        """Photons and background: of the regions, or of the fits while those are few."""
        photons, bg = self._fits.tolist()
        if self._n >= ENOUGH:
            found, per_px = np.linalg.solve(self._gram, self._seen).tolist()
            if found > 0 and per_px > 0:
                photons, bg = found, per_px
        return photons, bg

    def see_fit(self, photons: float, bg_photons: float) -> None:
        """Take in one fit."""
        self._n_fits = min(self._n_fits + 1, MEMORY)
        self._fits += (np.array([photons, bg_photons]) - self._fits) / self._n_fits

    def see_region(
        self, electrons: Array, read_e2: Array, places: tuple[Array, Array], excitation: float
    ) -> None:
        """Take in one region.

        Parameters
        ----------
        electrons : (P, P) float64
        read_e2 : (P, P) or (1, 1) float64
            Read variance.
        places : (2,), (2,) float64
            x and y from the region's first pixel, and the variances of the spot's width and place
            together, in pixels.
        excitation : float
        """
        side = electrons.shape[0]
        edges = np.arange(side + 1) - 0.5
        along = [np.diff(ndtr((edges - m) / np.sqrt(v))) for m, v in zip(*places, strict=True)]
        share = excitation * np.outer(along[1], along[0])
        design = np.stack([share.ravel(), np.full(side * side, excitation)])
        weight = 1.0 / (
            max(self._fits[1], 0.1) * excitation + np.broadcast_to(read_e2, share.shape)
        )
        weighted = design * weight.ravel()
        keep = 1.0 - 1.0 / MEMORY
        self._gram = keep * self._gram + weighted @ design.T
        self._seen = keep * self._seen + weighted @ electrons.ravel()
        self._n += 1
