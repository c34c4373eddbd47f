"""Numbers side by side by their parts: sign, power of two, and what is left of them.

To `livespt.vectors`; what exponentials and logarithms of float32 are made of.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from livespt.vectors import (
    SINGLES,
    Vector,
    _call,
    _lowers,
    _VectorType,
    exponent,
    mantissa,
    power_of_two,
)

#: sqrt(1/2) as each size of number (in bytes) has it.
_LOWEST = {4: np.float32(0.5**0.5), 8: np.float64(0.5**0.5)}


def doubled(v: Vector, n: Vector) -> Vector:
    """Return v 2^n for whole n, where neither that nor v is below the least normal number."""
    return np.ldexp(v, n.astype(np.int64))


def signed(v: Vector, like: Vector) -> Vector:
    """Return numbers of the size of `v` and the sign of others."""
    return np.copysign(v, like)


def octave(v: Vector) -> Vector:
    """Return the whole n of v = m 2^n with m from sqrt(1/2) to sqrt(2), positive and normal."""
    return exponent(v) - (mantissa(v) < _LOWEST[v.dtype.itemsize])


def in_octave(v: Vector) -> Vector:
    """Return that m."""
    return v * power_of_two(-octave(v))


# What follows tells numba the same.


@_lowers(doubled, _VectorType, _VectorType)
def _doubled(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    kind = sig.return_type
    more = builder.shl(builder.fptosi(args[1], kind.bits), kind.whole(kind.mantissa_bits))
    return builder.bitcast(builder.add(builder.bitcast(args[0], kind.bits), more), kind.values)


@_lowers(signed, _VectorType, _VectorType)
def _signed(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    kind = sig.return_type
    return _call(builder, f"llvm.copysign.{kind.suffix}", kind.values, *args)


def _octaves(builder: Any, kind: Any, value: Any) -> tuple[Any, Any]:
    """Return bits and octave: how often sqrt(1/2) must be doubled, by its bits."""
    number = _LOWEST[kind.number.bitwidth // 8]
    lowest = int(number.view(np.int32 if kind.count == SINGLES else np.int64))
    bits = builder.bitcast(value, kind.bits)
    above = builder.sub(bits, kind.whole(lowest))
    return bits, builder.ashr(above, kind.whole(kind.mantissa_bits))


@_lowers(octave, _VectorType)
def _octave(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    kind = sig.return_type
    return builder.sitofp(_octaves(builder, kind, args[0])[1], kind.values)


@_lowers(in_octave, _VectorType)
def _in_octave(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    kind = sig.return_type
    bits, n = _octaves(builder, kind, args[0])
    less = builder.shl(n, kind.whole(kind.mantissa_bits))
    return builder.bitcast(builder.sub(bits, less), kind.values)
