"""Two emitters where one was fitted: spots that overlap so much that they were found as one.

A row is looked at again where its width stands out above that of an in-focus spot, or its fit did
not settle. Three models then compete for its region, each at its maximum of likelihood L:

- one round spot of free width (the fit there is),
- one oval: an elliptic Gaussian with any covariance C, sampled at the pixel's centre with the
  pixel's own variance, 1/12, added to C,
- two round spots of the in-focus width sigma0: (x1, y1, N1, x2, y2, N2, b),

oval and pair by damped Fisher scoring with seven parameters each, the pair from four starts: along
the oval's long axis with shares 1:1, 7:3 and 3:7 that keep its centroid and its second moment, and
the single fit with the highest peak that it left over. Two spots are taken where

    ln L(pair) - max(ln L(round), ln L(oval)) > GAIN + GAIN_PER_PHOTON (N1 + N2) / F,

F the camera's excess noise factor (1 without multiplication), both shine (N above 3 of its s.d.)
and they lie further apart than sigma0.

Why not the plain likelihood ratio: a molecule that moves while the shutter is open leaves an
elongated spot that two round ones fit better than one. The oval takes its second moment; what is
left grows in proportion to the photons. Simulated (sCMOS and EMCCD, b = 3, N = 300 to 5000; see
`tests/statistics/test_pair.py`), the thresholds split fewer than 2 in 1000 motionless spots and
about 1 in 100 at a blur ratio sqrt(D tE/3)/sigma0 of 0.5 (at 0.7 up to 6 in 100). Nearer than
about two widths a pair is not told from an oval, and stays one spot that is too wide.

The covariance is the inverse of the pair's full information: what the other spot costs is in it.
The width is held, so its s.d. is 0.

Symbols: sigma0 = sigma_px; N, b = photons, bg_photons.
"""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from livespt.localize import fit as fitting
from livespt.localize import pair_kernels as kernels
from livespt.localize.column_kernels import N_ROWS, WIDE
from livespt.localize.fit_kernels import CONVERGED, Region, Scratch
from livespt.localize.frame_kernels import Fits
from livespt.localize.seven_kernels import Work
from livespt.localize.table import PER_Z
from livespt.localize.table_kernels import Table

GAIN = 6.5  # nats: motionless singles pass one in a thousand times
GAIN_PER_PHOTON = 0.0065  # singles at blur ratio 0.5 pass one in a hundred times
LEAST_SDS = 3.0
WIDE_SDS = 3.0  # widths this many of their s.d. above that in focus are looked at
_ONE = np.array([0, 1, 2, 6])  # x, y, N, b of either spot among the pair's parameters
_OTHER = np.array([3, 4, 5, 6])


class PairFinder:
    """Splits the fits of a frame where two spots explain the pixels better than one.

    Parameters
    ----------
    sigma_px : float
        Width of an in-focus spot.
    side : int
        Side of the fitted region.

    Notes
    -----
    Calls are pure and may run on several threads at once.
    """

    def __init__(self, sigma_px: float, side: int) -> None:
        self._sigma_px, self._side = float(sigma_px), int(side)
        self._bounds = fitting.bounds_of(sigma_px, side, fix_sigma=True)
        self._local = threading.local()

    def __call__(
        self,
        adu: NDArray[np.uint16],
        fits: Fits,
        maps: tuple[NDArray[np.float64], ...],
        table: Table,
    ) -> Fits:
        """Return the fits with rows split where that is better; the second spots come last.

        Parameters
        ----------
        adu : (H, W) uint16, read-only
        fits : Fits
            All fits of the frame. Rows that are split are replaced.
        maps : three (H, W) or (1, 1) float64
            Gain, offset and read variance.
        table : Table
            Of an EMCCD, or its stand-in.
        """
        which = self._suspects(fits)
        theta, covariance = np.zeros((which.size, 7)), np.zeros((which.size, 7, 7))
        loglik, split = np.zeros(which.size), np.zeros(which.size, np.bool_)
        excess = table.excess if table.size else 1.0
        rule = (self._sigma_px, GAIN, GAIN_PER_PHOTON / excess, LEAST_SDS)
        kernels.split_spots(
            adu,
            which,
            fits,
            maps,
            table,
            PER_Z,
            self._bounds,
            self._side,
            rule,
            self._spaces(),
            (theta, covariance, loglik, split),
        )
        if not split.any():
            return fits
        return self._merged(fits, which[split], theta[split], covariance[split], loglik[split])

    def _suspects(self, fits: Fits) -> NDArray[np.int64]:
        """Return the rows to look at again."""
        sd = np.sqrt(np.maximum(fits.covariance[:, 4, 4], 0.0))
        wide = fits.theta[:, 4] - self._sigma_px > WIDE_SDS * sd
        return np.flatnonzero((wide | (fits.code != CONVERGED)) & ~fits.bad)

    def _merged(
        self, fits: Fits, rows: NDArray, theta: NDArray, covariance: NDArray, loglik: NDArray
    ) -> Fits:
        """Put the first spot of each pair in its row and the second at the end."""
        n = len(fits.code)
        merged = Fits(*(np.concatenate([column, column[rows]]) for column in fits))
        ends = np.arange(n, n + rows.size)
        for at, of in ((rows, _ONE), (ends, _OTHER)):
            merged.theta[at, :4], merged.theta[at, 4] = theta[:, of], self._sigma_px
            merged.covariance[at] = 0.0
            merged.covariance[at, :4, :4] = covariance[:, of[:, None], of]
            merged.loglik[at], merged.code[at] = loglik, CONVERGED
        return merged

    def _spaces(self) -> tuple[Region, Scratch, Work]:
        """Return this thread's work space."""
        if not hasattr(self._local, "spaces"):
            region, scratch = fitting.make_region(self._side), fitting.make_scratch()
            self._local.spaces = (region, scratch, make_work(self._side))
        return self._local.spaces


def make_work(side: int) -> Work:
    """Return the pair's part of a thread's work space."""
    rows = np.zeros((8, side * WIDE))
    rows[0] = 1.0  # beyond the region: nothing there divides by zero
    return Work(
        columns=np.zeros(N_ROWS * WIDE),
        rows=rows,
        spot=np.zeros(5),
        grad=np.zeros(7),
        info=np.zeros((7, 7)),
        factor=np.zeros((7, 7)),
        vectors=np.zeros((8, 7)),
        free=np.zeros(7, np.uint8),
        limits=np.zeros((2, 5)),
        single=np.zeros(5),
    )
