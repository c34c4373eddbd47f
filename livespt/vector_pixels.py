"""Sixteen pixels side by side as one value: what a pass over a line of a frame takes at once.

As `livespt.vectors`, in float32. Loads and stores may begin anywhere, so that a neighbour is a load
one element further on. Comparisons come as bits, the first pixel's lowest. A product and the sum
that it goes into may be rounded once instead of twice.

Only inside kernels: a `Pixels` is never an element of an array, and outlives no kernel.
"""

from __future__ import annotations

import operator
from typing import Any, TypeAlias

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import models, register_model
from numpy.typing import NDArray

from livespt.vectors import _PLACED, Place, _lowers

#: Pixels side by side.
WIDTH = 16
Lines: TypeAlias = NDArray[np.float32]
#: The bits of 1 in float32.
ONE = np.int32(0x3F800000)
#: To Python and to type checkers, an array of `WIDTH`.
Pixels: TypeAlias = NDArray[Any]


def load(lines: Lines, at: Place) -> Pixels:
    """Return the sixteen numbers that lie in a flat `lines` from `at` on."""
    return lines[int(at) : int(at) + WIDTH].copy()


def store(lines: Lines, at: Place, v: Pixels) -> None:
    """Put sixteen numbers into `lines`."""
    lines[int(at) : int(at) + WIDTH] = v


def load_counts(counts: NDArray[np.uint16], at: Place) -> Pixels:
    """Return sixteen counts as numbers."""
    return counts[int(at) : int(at) + WIDTH].astype(np.float32)


def load_words(words: NDArray[np.int32], at: Place) -> Pixels:
    """Return sixteen words as numbers."""
    return words[int(at) : int(at) + WIDTH].astype(np.float32)


def load_low(words: NDArray[np.int32], at: Place) -> Pixels:
    """Return 1 + h / 2^23 with h the lower halves of sixteen words: h are bits of a number then."""
    return ((words[int(at) : int(at) + WIDTH] & 0xFFFF) | ONE).view(np.float32)


def fetch(numbers: NDArray[Any], at: Place) -> None:
    """Ask for what lies at a place to be brought nearer, if anything does; no number changes."""


def one_before(before: Pixels, v: Pixels) -> Pixels:
    """Return what stands one place before each of `v`: the last of `before`, then `v`."""
    return np.concatenate([before[-1:], v[:-1]])


def two_before(before: Pixels, v: Pixels) -> Pixels:
    """Return what stands two places before each of `v`: the last two of `before`, then `v`."""
    return np.concatenate([before[-2:], v[:-2]])


def one_after(v: Pixels, after: Pixels) -> Pixels:
    """Return what stands one place after each of `v`, at last the first of `after`."""
    return np.concatenate([v[1:], after[:1]])


def spread(x: float | np.floating[Any]) -> Pixels:
    """Return sixteen times one number."""
    return np.full(WIDTH, x, np.float32)


def count_up() -> Pixels:
    """Return 0 to 15."""
    return np.arange(WIDTH, dtype=np.float32)


def least(a: Pixels, b: Pixels) -> Pixels:
    """Return the lesser of each two."""
    return np.where(a < b, a, b)


def most(a: Pixels, b: Pixels) -> Pixels:
    """Return the greater of each two."""
    return np.where(a > b, a, b)


def keep_below(v: Pixels, bound: Pixels, otherwise: Pixels) -> Pixels:
    """Return `otherwise` for those that are not below a bound."""
    return np.where(v < bound, v, otherwise)


def above(a: Pixels, b: Pixels) -> int:
    """Return bits: which of a are above b."""
    return _bits(a > b)


def not_below(a: Pixels, b: Pixels) -> int:
    """Return bits: which of a are above b or equal to it."""
    return _bits(a >= b)


def add_up(v: Pixels) -> np.float32:
    """Return the sum of the sixteen: of those half the width apart first."""
    while v.size > 1:
        v = v[: v.size // 2] + v[v.size // 2 :]
    return np.float32(v[0])


def first_of(bits: int) -> int:
    """Return the place of the lowest bit that is set, of bits that are not all zero."""
    return (int(bits) & -int(bits)).bit_length() - 1


def count_of(bits: int) -> int:
    """Return how many bits are set."""
    return int(bits).bit_count()


def _bits(which: NDArray[np.bool_]) -> int:
    return int(np.sum(which.astype(np.int64) << np.arange(WIDTH)))


# What follows tells numba the same.

_FLOATS, _INTS = ir.VectorType(ir.FloatType(), WIDTH), ir.VectorType(ir.IntType(32), WIDTH)
_SHORTS = ir.VectorType(ir.IntType(16), WIDTH)
_INT, _WORD = ir.IntType(32), ir.IntType(64)
_FUSED = ("contract",)


class _PixelsType(types.Type):
    """What numba calls `Pixels`."""

    def __init__(self) -> None:
        super().__init__(name="Pixels")


@register_model(_PixelsType)
class _PixelsModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _FLOATS)


_PIXELS = _PixelsType()


def _spread(builder: Any, value: Any) -> Any:
    one = builder.insert_element(ir.Constant(_FLOATS, ir.Undefined), value, ir.Constant(_INT, 0))
    return builder.shuffle_vector(one, one, ir.Constant(_INTS, [0] * WIDTH))


def _define(function: Any, instruction: str) -> None:
    """Define one operator: pixels and pixels, pixels and number, number and pixels."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        both = [
            value
            if isinstance(kind, _PixelsType)
            else _spread(builder, context.cast(builder, value, kind, types.float32))
            for value, kind in zip(args, sig.args, strict=True)
        ]
        return getattr(builder, instruction)(*both, flags=_FUSED)

    for kinds in (
        (_PixelsType, _PixelsType), (_PixelsType, types.Number), (types.Number, _PixelsType),
    ):  # fmt: skip
        _lowers(function, *kinds, returned=_PIXELS)(lower)


for _function, _instruction in (
    (operator.add, "fadd"), (operator.iadd, "fadd"), (operator.sub, "fsub"),
    (operator.isub, "fsub"), (operator.mul, "fmul"), (operator.imul, "fmul"),
):  # fmt: skip
    _define(_function, _instruction)


def _place(context: Any, builder: Any, sig: Any, args: Any, kind: Any) -> Any:
    data = args[0]
    if isinstance(sig.args[0], types.Array):
        data = context.make_array(sig.args[0])(context, builder, data).data
    return builder.bitcast(builder.gep(data, [args[1]]), kind.as_pointer())


@_lowers(load, *_PLACED, returned=_PIXELS)
def _load(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.load(_place(context, builder, sig, args, _FLOATS), align=4)


@_lowers(store, *_PLACED, _PixelsType, returned=types.none)
def _store(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    builder.store(args[2], _place(context, builder, sig, args, _FLOATS), align=4)
    return context.get_dummy_value()


@_lowers(load_counts, *_PLACED, returned=_PIXELS)
def _load_counts(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    counts = builder.load(_place(context, builder, sig, args, _SHORTS), align=2)
    return builder.sitofp(builder.zext(counts, _INTS), _FLOATS)


@_lowers(load_low, *_PLACED, returned=_PIXELS)
def _load_low(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    words = builder.load(_place(context, builder, sig, args, _INTS), align=4)
    low = builder.and_(words, ir.Constant(_INTS, [0xFFFF] * WIDTH))
    return builder.bitcast(builder.or_(low, ir.Constant(_INTS, [int(ONE)] * WIDTH)), _FLOATS)


@_lowers(load_words, *_PLACED, returned=_PIXELS)
def _load_words(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    words = builder.load(_place(context, builder, sig, args, _INTS), align=4)
    return builder.sitofp(words, _FLOATS)


@_lowers(fetch, *_PLACED, returned=types.none)
def _fetch(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    place = _place(context, builder, sig, args, ir.IntType(8))
    to_read, near, data = (ir.Constant(_INT, i) for i in (0, 3, 1))
    kind = ir.FunctionType(ir.VoidType(), [place.type, _INT, _INT, _INT])
    prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(prefetch, [place, to_read, near, data])
    return context.get_dummy_value()


@_lowers(one_before, _PixelsType, _PixelsType, returned=_PIXELS)
def _one_before(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.shuffle_vector(*args, ir.Constant(_INTS, list(range(WIDTH - 1, 2 * WIDTH - 1))))


@_lowers(two_before, _PixelsType, _PixelsType, returned=_PIXELS)
def _two_before(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.shuffle_vector(*args, ir.Constant(_INTS, list(range(WIDTH - 2, 2 * WIDTH - 2))))


@_lowers(one_after, _PixelsType, _PixelsType, returned=_PIXELS)
def _one_after(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.shuffle_vector(*args, ir.Constant(_INTS, list(range(1, WIDTH + 1))))


@_lowers(spread, types.Number, returned=_PIXELS)
def _spread_number(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return _spread(builder, context.cast(builder, args[0], sig.args[0], types.float32))


@_lowers(count_up, returned=_PIXELS)
def _count_up(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return ir.Constant(_FLOATS, [float(k) for k in range(WIDTH)])


@_lowers(least, _PixelsType, _PixelsType, returned=_PIXELS)
def _least(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.select(builder.fcmp_ordered("<", *args), *args)


@_lowers(most, _PixelsType, _PixelsType, returned=_PIXELS)
def _most(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", *args), *args)


@_lowers(keep_below, _PixelsType, _PixelsType, _PixelsType, returned=_PIXELS)
def _keep_below(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.select(builder.fcmp_ordered("<", args[0], args[1]), args[0], args[2])


def _as_bits(builder: Any, which: Any) -> Any:
    return builder.zext(builder.bitcast(which, ir.IntType(WIDTH)), _WORD)


@_lowers(above, _PixelsType, _PixelsType, returned=types.int64)
def _above(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return _as_bits(builder, builder.fcmp_ordered(">", *args))


@_lowers(not_below, _PixelsType, _PixelsType, returned=types.int64)
def _not_below(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return _as_bits(builder, builder.fcmp_ordered(">=", *args))


@_lowers(add_up, _PixelsType, returned=types.float32)
def _add_up(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    v, n = args[0], WIDTH
    while n > 1:
        n //= 2
        halves = [list(range(n)), list(range(n, 2 * n))]
        kind = ir.VectorType(_INT, n)
        low, high = (builder.shuffle_vector(v, v, ir.Constant(kind, half)) for half in halves)
        v = builder.fadd(low, high)
    return builder.extract_element(v, ir.Constant(_INT, 0))


@_lowers(first_of, types.Integer, returned=types.int64)
def _first_of(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    word = context.cast(builder, args[0], sig.args[0], types.int64)
    return builder.cttz(word, ir.Constant(ir.IntType(1), 1))


@_lowers(count_of, types.Integer, returned=types.int64)
def _count_of(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.ctpop(context.cast(builder, args[0], sig.args[0], types.int64))
