# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""Random numbers for the simulator's kernels, from a state that the caller owns.

The state `s` is one uint64, a SplitMix64 counter (Steele, Lea & Flood 2014). It is passed by value
and returned first, so that it lives in a register: a state in an array costs a reference count
per call, four times the draw itself. Callers keep it in a (1,) array between kernels. Normals
come from the ziggurat of Doornik (2005), Poisson numbers by inversion below a mean of 10 and by
Hoermann's PTRS (1993) above, gamma numbers by Marsaglia & Tsang (2000): all exact.

Integers of numba and numpy only mix as unsigned where both are; hence the constants below.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from livespt.jit import kernel

STEP = np.uint64(0x9E3779B97F4A7C15)
MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
MIX_2 = np.uint64(0x94D049BB133111EB)
SHIFT_30, SHIFT_27, SHIFT_31 = np.uint64(30), np.uint64(27), np.uint64(31)
SHIFT_11 = np.uint64(11)
SIGNED_SHIFT = np.int64(11)
LAYER_MASK = np.uint64(255)
TO_UNIT = 2.0**-53
TO_SIGNED_UNIT = 2.0**-52

TAIL = 3.6541528853610088  # where the ziggurat's lowest of 256 layers ends
LAYER_AREA = 0.00492867323399


def _layers() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the edges of the ziggurat's layers and the ratio of each to the one below."""
    edge = np.zeros(257)
    edge[0] = LAYER_AREA / math.exp(-0.5 * TAIL**2)
    edge[1] = TAIL
    for i in range(2, 256):
        height = LAYER_AREA / edge[i - 1] + math.exp(-0.5 * edge[i - 1] ** 2)
        edge[i] = math.sqrt(-2.0 * math.log(height))
    return edge, edge[1:] / edge[:-1]


EDGE, RATIO = _layers()


@kernel
def bits(s):
    """Draw 64 random bits."""
    s = s + STEP
    z = (s ^ (s >> SHIFT_30)) * MIX_1
    z = (z ^ (z >> SHIFT_27)) * MIX_2
    return s, z ^ (z >> SHIFT_31)


@kernel
def unit(z):
    """Turn 64 bits into a number of [0, 1)."""
    return float(z >> SHIFT_11) * TO_UNIT


@kernel
def signed_unit(z):
    """Turn 64 bits into a number of [-1, 1)."""
    return float(np.int64(z) >> SIGNED_SHIFT) * TO_SIGNED_UNIT


@kernel
def uniform(s):
    """Draw from [0, 1)."""
    s, z = bits(s)
    return s, unit(z)


@kernel
def exponential(s):
    """Draw a waiting time of mean 1."""
    s, u = uniform(s)
    return s, -math.log(1.0 - u)


@kernel
def normal(s):
    """Draw a standard normal number."""
    s, z = bits(s)
    layer = z & LAYER_MASK
    u = signed_unit(z)
    if abs(u) < RATIO[layer]:
        return s, u * EDGE[layer]
    return normal_rare(s, layer, u)


@kernel
def normal_rare(s, layer, u):
    """Finish a normal draw that fell outside the core of its layer."""
    while True:
        x = u * EDGE[layer]
        if abs(u) < RATIO[layer]:
            return s, x
        if layer == 0:
            return normal_tail(s, u < 0)
        low = math.exp(-0.5 * (EDGE[layer] ** 2 - x * x))
        high = math.exp(-0.5 * (EDGE[int(layer) + 1] ** 2 - x * x))
        s, v = uniform(s)
        if high + v * (low - high) < 1.0:
            return s, x
        s, z = bits(s)
        layer = z & LAYER_MASK
        u = signed_unit(z)


@kernel
def normal_tail(s, negative):
    """Draw a normal number beyond `TAIL` (Marsaglia 1964)."""
    while True:
        s, x = exponential(s)
        s, y = exponential(s)
        x /= TAIL
        if 2.0 * y > x * x:
            return s, -(TAIL + x) if negative else TAIL + x


@kernel
def poisson(s, mean):
    """Draw a Poisson number of the given mean."""
    if mean >= 10.0:
        return poisson_large(s, mean)
    limit = math.exp(-mean)
    n = -1
    product = 1.0
    while n < 0 or product > limit:
        s, u = uniform(s)
        product *= u
        n += 1
    return s, n


@kernel
def poisson_large(s, mean):
    """Draw by transformed rejection (Hoermann's PTRS), mean >= 10."""
    b = 0.931 + 2.53 * math.sqrt(mean)
    a = -0.059 + 0.02483 * b
    inverse_alpha = 1.1239 + 1.1328 / (b - 3.4)
    v_r = 0.9277 - 3.6224 / (b - 2.0)
    while True:
        s, u = uniform(s)
        s, v = uniform(s)
        u, v = u - 0.5, 1.0 - v
        us = 0.5 - abs(u)
        n = math.floor((2.0 * a / us + b) * u + mean + 0.43)
        if us >= 0.07 and v <= v_r:
            return s, n
        if n < 0 or (us < 0.013 and v > us):
            continue
        accept = n * math.log(mean) - mean - math.lgamma(n + 1.0)
        if math.log(v) + math.log(inverse_alpha) - math.log(a / (us * us) + b) <= accept:
            return s, n


@kernel
def gamma(s, shape):
    """Draw a gamma number of unit scale; `shape` >= 1."""
    if shape <= 8.0 and shape == math.floor(shape):
        product = 1.0
        for _ in range(int(shape)):
            s, u = uniform(s)
            product *= 1.0 - u
        return s, -math.log(product)
    d = shape - 1.0 / 3.0
    c = 1.0 / math.sqrt(9.0 * d)
    while True:
        s, x = normal(s)
        v = 1.0 + c * x
        if v <= 0.0:
            continue
        v = v * v * v
        s, u = uniform(s)
        if math.log(1.0 - u) < 0.5 * x * x + d - d * v + d * math.log(v):
            return s, d * v
