"""The second look at a frame: every spot again, under priors, its neighbours' light known.

A run finds and fits its spots by maximum likelihood first (`livespt.localize.localizer`). From
those fits each spot's own posterior is climbed (`livespt.localize.posterior`): the others stand in
it as known light, the detector's local background is the centre of the background's prior, and
where the model is "auto" the frame's own widths say whether motion blurs it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from livespt.camera import Camera
from livespt.localize import posterior, prior_kernels
from livespt.localize.posterior import Array, Posterior, Workspace

_REACH, _STRAY = 4.0, 2.0  # widths: where a spot's light ends; how far a second fit may move


class Refit:
    """Second look at a frame's spots, from their maximum-likelihood fits: priors, shape, precision.

    Parameters
    ----------
    camera : Camera
    maps : tuple of arrays
        Gain, offset and read variance, (H, W) or (1, 1).
    sigma_px : float
    side : int
    model, method : str
        Of `MODELS` and `METHODS`.

    Notes
    -----
    The answer depends on the frame alone: "auto" chooses by this frame's own widths.
    """

    def __init__(
        self, camera: Camera, maps: tuple, sigma_px: float, side: int, model: str, method: str
    ) -> None:
        self._camera, self._maps, self._sigma_px, self._side = camera, maps, sigma_px, side
        self._model, self._method = model, method

    def __call__(
        self,
        adu: NDArray[np.uint16],
        theta: Array,
        origin: NDArray[np.int64],
        ok: NDArray[np.bool_],
        b0: Array,
        work: Workspace,
    ) -> Posterior:
        """Fit every spot of a frame anew, the light of its neighbours known.

        Parameters
        ----------
        adu : (H, W) uint16
        theta : (n, 5) float64
            x, y, N, b, width of the first fits, pixels of the frame; in reading order.
        origin : (n, 2) int64
            First line and column of each region.
        ok : (n,) bool
            First fits to trust: these tell the blur, and light up their neighbours.
        b0 : (n,) float64
            Local background, the centre of its prior, photons per pixel.
        work : Workspace

        Returns
        -------
        Posterior
            In pixels of the frame.
        """
        n, side = theta.shape[0], self._side
        model = (
            self._model if self._model != "auto" else posterior.choose(theta[ok, 4], self._sigma_px)
        )
        known = posterior.model_of(side, self._sigma_px, model, self._method, fix_sigma=False)
        regions, bounds = posterior.make_regions(n, side), posterior.bounds_for(n, side)
        starts = np.empty((n, 5))
        space = (regions, starts, bounds, np.empty((6, side)))
        lost = (~ok).astype(np.uint8)
        prior_kernels.prepare_frame(
            adu,
            self._maps,
            posterior.moments_for(self._camera),
            theta,
            origin,
            lost,
            side,
            _REACH,
            _STRAY,
            space,
        )
        fits = posterior.fit_regions(regions, starts, bounds, b0, self._camera, known, work)
        fits.theta[:, :2] += origin[:, ::-1]
        return fits
