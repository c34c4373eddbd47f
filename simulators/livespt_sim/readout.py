"""From photo-electrons to counts: the chains of `livespt.camera`, drawn fast.

`livespt.camera` defines what a count is. Here its chain is drawn in one of two ways:

- A pixel whose electrons are known (photons of molecules, counted one by one, plus background)
  goes through the second half of `camera.sample`, by the same distributions.
- Most pixels hold background alone. Where all pixels are alike and the background is constant,
  their counts come straight from the distribution exp(camera.loglik) at the background's rate,
  tabulated once: one draw a pixel instead of two to five.

Both are held against `camera.loglik` by chi-square in the tests.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from livespt.camera import MAX_ADU, Camera, Emccd, Ideal, Scmos
from livespt_sim import opticskernels
from livespt_sim import readoutkernels as kernels
from livespt_sim.optics import inverse_table, poisson_cdf

State = NDArray[np.uint64]
_SPAN = 12.0  # standard deviations of the counts that a table reaches up to, at least


class _ScmosMaps(NamedTuple):
    gain: NDArray[np.float32]
    offset: NDArray[np.float32]
    read_adu: NDArray[np.float32]


class _Table(NamedTuple):
    """The inverse of a distribution, and the background it belongs to."""

    rate_e: float
    cdf: NDArray[np.float64]
    guide: NDArray[np.int32]


class Readout:
    """Draw the counts of one camera.

    Parameters
    ----------
    camera : Ideal | Scmos | Emccd
    shape : (int, int)
        Height and width of a frame.
    tabulate : bool
        Draw pixels of background alone from a table. Where the background changes with each
        frame the table would cost more than it saves.
    background_map : (H, W) float64, optional
        What the background is multiplied with.
    """

    def __init__(
        self,
        camera: Camera,
        shape: tuple[int, int],
        tabulate: bool,
        background_map: NDArray[np.float64] | None = None,
    ) -> None:
        camera.check(shape)
        self._uneven = None if background_map is None else background_map.ravel()
        self._camera, self._shape = camera, shape
        self._maps = _maps(camera, shape) if isinstance(camera, Scmos) else None
        self._tabulate = tabulate and camera.shape is None and background_map is None
        self._electrons = _Table(-1.0, np.zeros(0), np.zeros(0, np.int32))
        self._counts = self._electrons

    def __call__(
        self, photons: NDArray[np.int32], lit: NDArray[np.int64], background_e: float, rng: State
    ) -> NDArray[np.uint16]:
        """Return read-only counts (H, W) for counted photons (H, W) on a background.

        `lit` holds the flat indices of all pixels with photons.
        """
        even_e = background_e if self._uneven is None else 0.0
        if even_e != self._electrons.rate_e:
            cdf = poisson_cdf(even_e)
            self._electrons = _Table(even_e, cdf, inverse_table(cdf))
        adu = np.empty(self._shape, np.uint16)
        flat = adu.reshape(-1)
        if self._tabulate and self._ready(background_e):
            opticskernels.fill(flat, self._counts.guide, self._counts.cdf, rng)
            flat[lit] = self._read(photons.reshape(-1)[lit], lit, rng)
        else:
            photons = photons.reshape(-1)
            if self._uneven is not None:  # its electrons are counted like a molecule's
                extra = np.empty(photons.size, np.int32)
                opticskernels.fill_uneven(extra, background_e * self._uneven, rng)
                photons = photons + extra
            flat[:] = self._read(photons, slice(None), rng)
        adu.setflags(write=False)
        return adu

    def _ready(self, background_e: float) -> bool:
        """Make the table of counts for this background, unless that would hold the stream up.

        An EMCCD's takes up to a second: only the first background gets one.
        """
        fresh = self._counts.rate_e < 0
        if self._counts.rate_e != background_e and (fresh or not isinstance(self._camera, Emccd)):
            cdf = count_cdf(self._camera, background_e)
            self._counts = _Table(background_e, cdf, inverse_table(cdf))
        return self._counts.rate_e == background_e

    def _read(
        self, photons: NDArray[np.int32], where: NDArray[np.int64] | slice, rng: State
    ) -> NDArray[np.uint16]:
        """Add background electrons to `photons` (m,) of the pixels `where`, and read them out."""
        n, out = np.empty(len(photons), np.int32), np.empty(len(photons), np.uint16)
        opticskernels.fill(n, self._electrons.guide, self._electrons.cdf, rng)
        n += photons
        camera = self._camera
        if isinstance(camera, Emccd):
            gain, excess = camera.gain_adu_per_e, camera.excess
            kernels.read_emccd(n, gain, excess, camera.readout_adu, camera.offset_adu, rng, out)
        elif self._maps is not None:
            gain, offset, read_adu = (m[where] for m in self._maps)
            kernels.read_scmos(n, gain, offset, read_adu, rng, out)
        else:
            out[:] = np.minimum(n, MAX_ADU)
        return out


def count_cdf(camera: Camera, rate_e: float) -> NDArray[np.float64]:
    """Return P(count <= k) of a camera without maps, from its own likelihood; the last is 1."""
    counts = np.arange(_highest(camera, rate_e) + 1)
    cdf = np.cumsum(np.exp(camera.loglik(counts, np.full(len(counts), rate_e))))
    if abs(cdf[-1] - 1.0) > 1e-6:
        raise RuntimeError(f"{camera}: its likelihood at {rate_e:g} e sums to {cdf[-1]:.8f}, not 1")
    cdf /= cdf[-1]
    cdf[-1] = 1.0
    return cdf


def _highest(camera: Camera, rate_e: float) -> int:
    """Return a count that is practically never exceeded."""
    if isinstance(camera, Ideal):
        return min(MAX_ADU, len(poisson_cdf(rate_e)))
    if isinstance(camera, Emccd):
        gain, read = camera.gain_adu_per_e, camera.readout_adu
        spread = np.sqrt(camera.excess * rate_e) * gain
        top = rate_e * gain + _SPAN * (spread + read) + 30.0 * gain  # exponential tail
    else:
        gain = float(camera.gain_adu_per_e)
        spread = gain * np.sqrt(rate_e + float(camera.var_e2))
        top = gain * (rate_e + 20.0) + _SPAN * spread
    return int(np.clip(top + float(camera.offset_adu), 1, MAX_ADU))


def _maps(camera: Scmos, shape: tuple[int, int]) -> _ScmosMaps:
    read_adu = np.sqrt(camera.var_e2) * camera.gain_adu_per_e
    values = (camera.gain_adu_per_e, camera.offset_adu, read_adu)
    return _ScmosMaps(*(np.broadcast_to(v, shape).astype(np.float32).ravel() for v in values))
