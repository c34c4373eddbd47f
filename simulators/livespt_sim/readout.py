"""From photo-electrons to counts: the chains of `livespt.camera`, drawn fast.

`livespt.camera` defines what a count is; its `sample` draws electrons and reads them out. Here the
electrons are already drawn (photon by photon), so only the second half is done, by the same
distributions. The tests hold the result against `camera.loglik` by chi-square.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from livespt.camera import Camera, Emccd, Ideal, Scmos
from numpy.typing import NDArray

from livespt_sim import readoutkernels as kernels


class _ScmosMaps(NamedTuple):
    gain: NDArray[np.float32]
    offset: NDArray[np.float32]
    read_adu: NDArray[np.float32]


class Readout:
    """Read electrons out as one camera does.

    Parameters
    ----------
    camera : Ideal | Scmos | Emccd
    shape : (int, int)
        Height and width of a frame.
    """

    def __init__(self, camera: Camera, shape: tuple[int, int]) -> None:
        camera.check(shape)
        self.camera = camera
        self._maps = _maps(camera, shape) if isinstance(camera, Scmos) else None

    def __call__(self, electrons: NDArray[np.int32], rng: NDArray[np.uint64]) -> NDArray[np.uint16]:
        """Return read-only counts for `electrons` (H, W)."""
        adu = np.empty(electrons.shape, np.uint16)
        camera = self.camera
        if isinstance(camera, Ideal):
            kernels.read_ideal(electrons, adu)
        elif isinstance(camera, Emccd):
            gain, excess = camera.gain_adu_per_e, camera.excess
            noise, offset = camera.readout_adu, camera.offset_adu
            kernels.read_emccd(electrons, gain, excess, noise, offset, rng, adu)
        elif self._maps is not None:
            kernels.read_scmos(electrons, *self._maps, rng, adu)
        adu.setflags(write=False)
        return adu


def _maps(camera: Scmos, shape: tuple[int, int]) -> _ScmosMaps:
    read_adu = np.sqrt(camera.var_e2) * camera.gain_adu_per_e
    values = (camera.gain_adu_per_e, camera.offset_adu, read_adu)
    return _ScmosMaps(*(np.broadcast_to(v, shape).astype(np.float32) for v in values))
