# ruff: noqa: ANN001, ANN202 (numba infers the types of kernels)
"""1/x and 1/sqrt(x) of float32 numbers in vector registers, without the divider.

A processor divides 16 floats in 16 cycles and takes their roots in 19, with one unit, where it adds
or multiplies 32 a cycle. It also has a table of first guesses, good to 14 bits (12 without
AVX-512), that one Newton step brings to a unit or so in the last place. LLVM takes that way by
itself where it is told that nothing is infinite: said here of single operations, for a whole kernel
would lose its tests for numbers that are none.

The argument must be positive and normal; 0 gives a number that is none, and not infinity.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.core import config as settings
from numba.extending import intrinsic

_ALLOWED = ("arcp", "contract", "ninf", "afn", "nsz")


@intrinsic
def _inverse(_: Any, value: Any) -> Any:
    def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:
        return builder.fdiv(args[0].type(1.0), args[0], flags=_ALLOWED)

    return (value(value), generate) if value == types.float32 else None


@intrinsic
def _inverse_root(_: Any, value: Any) -> Any:
    def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:
        of = args[0].type
        sqrt = builder.module.declare_intrinsic("llvm.sqrt", [of])
        root = builder.call(sqrt, args, fastmath=_ALLOWED)
        return builder.fdiv(of(1.0), root, flags=_ALLOWED)

    return (value(value), generate) if value == types.float32 else None


def _plain_inverse(value):
    return np.float32(1.0) / value


def _plain_inverse_root(value):
    return np.float32(1.0) / np.sqrt(value)


_PLAIN = bool(getattr(settings, "DISABLE_JIT", False))
#: 1/x and 1/sqrt(x), to be called in kernels; as numpy has them where nothing is compiled.
inverse: Any = _plain_inverse if _PLAIN else _inverse
inverse_root: Any = _plain_inverse_root if _PLAIN else _inverse_root
