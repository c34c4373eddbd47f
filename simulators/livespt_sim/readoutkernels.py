# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""From photo-electrons to counts, by the chains of `livespt.camera`."""

from __future__ import annotations

import numpy as np

from livespt.jit import kernel
from livespt_sim.randomkernels import gamma, normal

MAX_ADU = 65535.0


@kernel
def to_adu(value):
    """Round to even, as numpy does, and clip to 16 bits."""
    return np.uint16(min(max(np.rint(value), 0.0), MAX_ADU))


@kernel
def read_scmos(n, gain, offset, read_adu, rng, out):
    """Read `n` (m,) electrons, each with its own gain, offset and read noise (s.d. in counts)."""
    r = rng[0]
    for i in range(n.shape[0]):
        r, noise = normal(r)
        out[i] = to_adu(gain[i] * n[i] + offset[i] + read_adu[i] * noise)
    rng[0] = r


@kernel
def read_emccd(n, gain, excess, readout_adu, offset, rng, out):
    """Read `n` (m,) electrons: gamma-distributed multiplication, then Gaussian readout."""
    spread = excess - 1.0
    scale = gain * spread
    r = rng[0]
    for i in range(n.shape[0]):
        r, noise = normal(r)
        level = offset + readout_adu * noise
        if n[i] > 0:
            r, charge = gamma(r, n[i] / spread)
            level += scale * charge
        out[i] = to_adu(level)
    rng[0] = r
