"""Eight numbers side by side as one value: what a recursion takes when it runs on eight tracks.

A step written with these reads like the step of one track, and is one: `load` takes the eight
numbers that lie at a place of a flat float64 array, arithmetic works on each of the eight by
itself, `store` puts them back. Compiled, a value is one vector of the processor's widest registers
(or a few narrower ones); without numba it is an array of eight. No loop over tracks is left for the
compiler to make out, nor any question whether its arrays overlap.

Only inside kernels: a `Vector` is never an element of an array, and outlives no kernel.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.typing.templates import AbstractTemplate, builtin_registry, signature
from numba.extending import lower_builtin, models, register_model
from numpy.typing import NDArray

#: Numbers side by side.
WIDTH = 8
Array: TypeAlias = NDArray[np.float64]
Number = TypeVar("Number", np.float64, np.int64)
#: Where numbers lie; in numba always unsigned, which needs no test for a count from the end.
Place: TypeAlias = np.uint64 | int
#: To Python and to type checkers, an array of `WIDTH`.
Vector: TypeAlias = NDArray[np.float64]


def address(array: NDArray[Number]) -> NDArray[Number]:
    """Return an array, flat, as what the steps hand on: to numba, the address of its first number.

    A step that is handed an array counts references to it, which costs more than the step does
    (measured: 200 of 500 ns a track and frame). Whoever takes the address must hold the array.
    """
    return array.reshape(-1)


def load(w: Array, at: Place) -> Vector:
    """Return the eight numbers that lie in `w` from `at` on."""
    return w[int(at) : int(at) + WIDTH].copy()


def store(w: Array, at: Place, v: Vector) -> None:
    """Put eight numbers into `w`."""
    w[int(at) : int(at) + WIDTH] = v


def store_some(w: Array, at: Place, v: Vector, some: Vector) -> None:
    """Put those of eight numbers into `w` for which `some` is positive; leave the rest there."""
    w[int(at) : int(at) + WIDTH][some > 0.0] = v[some > 0.0]


def spread(x: float) -> Vector:
    """Return eight times one number."""
    return np.full(WIDTH, x)


def root(v: Vector) -> Vector:
    """Return square roots."""
    return np.sqrt(v)


def pick(low: Vector, high: Vector, a: Vector, b: Vector) -> Vector:
    """Return `a` where low < high, else `b`."""
    return np.where(low < high, a, b)


def add_up(v: Vector) -> float:
    """Return the sum of the eight: neighbours first, then pairs, then fours."""
    pairs = v[0::2] + v[1::2]
    return float((pairs[0] + pairs[1]) + (pairs[2] + pairs[3]))


def power_of_two(n: Vector) -> Vector:
    """Return 2^n for whole numbers from -1022 to 1023."""
    return np.ldexp(1.0, n.astype(np.int64))


def exponent(v: Vector) -> Vector:
    """Return the whole n of v = m 2^n with m in [1/2, 1), for positive normal numbers."""
    return np.frexp(v)[1].astype(np.float64)


def mantissa(v: Vector) -> Vector:
    """Return that m."""
    return np.frexp(v)[0]


# What follows tells numba the same.

_DOUBLES = ir.VectorType(ir.DoubleType(), WIDTH)
_BITS = ir.VectorType(ir.IntType(64), WIDTH)
_INDEX = ir.IntType(32)
_BIAS, _MANTISSA_BITS, _ONE_HALF = 1023, 52, 0x3FE0000000000000


class _VectorType(types.Type):
    """What numba calls a `Vector`."""

    def __init__(self) -> None:
        super().__init__(name="Vector")


@register_model(_VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _DOUBLES)


_VECTOR = _VectorType()
_typed: Any = builtin_registry.register_global
_PLACED = ((types.Array, types.CPointer), types.Integer)


def _lowers(
    function: Any, *kinds: Any, returned: Any = _VECTOR
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let numba call `function` on arguments of these kinds, by the code that this decorates."""

    class Template(AbstractTemplate):
        key = function

        def generic(self, args: Any, kws: Any) -> Any:
            fits = len(args) == len(kinds) and all(map(isinstance, args, kinds))
            return signature(returned, *args) if fits else None

    _typed(function)(Template)

    def lower(code: Callable[..., Any]) -> Callable[..., Any]:
        for each in itertools.product(*(k if isinstance(k, tuple) else (k,) for k in kinds)):
            lower_builtin(function, *each)(code)
        return code

    return lower


class _Address(AbstractTemplate):
    key = address

    def generic(self, args: Any, kws: Any) -> Any:
        if len(args) == 1 and isinstance(args[0], types.Array) and args[0].layout == "C":
            return signature(types.CPointer(args[0].dtype), *args)
        return None


_typed(address)(_Address)


@lower_builtin(address, types.Array)
def _address(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return context.make_array(sig.args[0])(context, builder, args[0]).data


def _spread(builder: Any, value: Any) -> Any:
    one = builder.insert_element(ir.Constant(_DOUBLES, ir.Undefined), value, ir.Constant(_INDEX, 0))
    zeros = ir.Constant(ir.VectorType(_INDEX, WIDTH), [0] * WIDTH)
    return builder.shuffle_vector(one, one, zeros)


def _define(function: Any, instruction: str) -> None:
    """Define one operator: vector and vector, vector and number, number and vector."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        both = []
        for value, kind in zip(args, sig.args, strict=True):
            number = not isinstance(kind, _VectorType)
            both.append(
                _spread(builder, context.cast(builder, value, kind, types.float64))
                if number
                else value
            )
        return getattr(builder, instruction)(*both)

    for kinds in (
        (_VectorType, _VectorType), (_VectorType, types.Number), (types.Number, _VectorType),
    ):  # fmt: skip
        _lowers(function, *kinds)(lower)


for _function, _instruction in (
    (operator.add, "fadd"), (operator.iadd, "fadd"), (operator.sub, "fsub"),
    (operator.isub, "fsub"), (operator.mul, "fmul"), (operator.imul, "fmul"),
    (operator.truediv, "fdiv"),
):  # fmt: skip
    _define(_function, _instruction)


@_lowers(operator.neg, _VectorType)
def _neg(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.fneg(args[0])


def _place(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    """Return the address of the eight numbers."""
    data, kind = args[0], sig.args[0]
    if isinstance(kind, types.Array):
        data = context.make_array(kind)(context, builder, data).data
    return builder.bitcast(builder.gep(data, [args[1]]), _DOUBLES.as_pointer())


@_lowers(load, *_PLACED)
def _load(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.load(_place(context, builder, sig, args), align=8)


@_lowers(store, *_PLACED, _VectorType, returned=types.none)
def _store(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    builder.store(args[2], _place(context, builder, sig, args), align=8)
    return context.get_dummy_value()


def _constant(number: float) -> Any:
    return ir.Constant(_DOUBLES, [number] * WIDTH)


def _whole(number: int) -> Any:
    return ir.Constant(_BITS, [number] * WIDTH)


def _call(builder: Any, name: str, returned: Any, *args: Any) -> Any:
    """Call a function of LLVM's own."""
    kind = ir.FunctionType(returned, [a.type for a in args])
    found = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    return builder.call(found, args)


@_lowers(store_some, *_PLACED, _VectorType, _VectorType, returned=types.none)
def _store_some(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    some = builder.fcmp_ordered(">", args[3], _constant(0.0))
    place = _place(context, builder, sig, args)
    align = ir.Constant(_INDEX, 8)
    name = f"llvm.masked.store.v{WIDTH}f64.p0"
    _call(builder, name, ir.VoidType(), args[2], place, align, some)
    return context.get_dummy_value()


@_lowers(spread, types.Number)
def _spread_number(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return _spread(builder, context.cast(builder, args[0], sig.args[0], types.float64))


@_lowers(root, _VectorType)
def _root(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return _call(builder, f"llvm.sqrt.v{WIDTH}f64", _DOUBLES, args[0])


@_lowers(pick, _VectorType, _VectorType, _VectorType, _VectorType)
def _pick(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.select(builder.fcmp_ordered("<", args[0], args[1]), args[2], args[3])


@_lowers(add_up, _VectorType, returned=types.float64)
def _add_up(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    parts = [builder.extract_element(args[0], ir.Constant(_INDEX, i)) for i in range(WIDTH)]
    while len(parts) > 1:
        parts = [builder.fadd(a, b) for a, b in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


@_lowers(power_of_two, _VectorType)
def _power_of_two(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    bits = builder.add(builder.fptosi(args[0], _BITS), _whole(_BIAS))
    return builder.bitcast(builder.shl(bits, _whole(_MANTISSA_BITS)), _DOUBLES)


@_lowers(exponent, _VectorType)
def _exponent(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    bits = builder.lshr(builder.bitcast(args[0], _BITS), _whole(_MANTISSA_BITS))
    return builder.sitofp(builder.sub(bits, _whole(_BIAS - 1)), _DOUBLES)


@_lowers(mantissa, _VectorType)
def _mantissa(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    bits = builder.and_(builder.bitcast(args[0], _BITS), _whole((1 << _MANTISSA_BITS) - 1))
    return builder.bitcast(builder.or_(bits, _whole(_ONE_HALF)), _DOUBLES)


# Eight numbers that lie apart, as of eight rows of a table.


def gather(w: Array, places: NDArray[np.int64], at: Place, offset: Place) -> Vector:
    """Return the numbers of `w` at the eight `places` that lie from `at` on, each plus `offset`."""
    return w[places[int(at) : int(at) + WIDTH] + int(offset)]


def scatter(w: Array, places: NDArray[np.int64], at: Place, offset: Place, v: Vector) -> None:
    """Put eight numbers where `gather` takes them; a place may be named twice for equal numbers."""
    w[places[int(at) : int(at) + WIDTH] + int(offset)] = v


def _pointers(context: Any, builder: Any, sig: Any, args: Any) -> list[Any]:
    """Return the addresses of eight numbers that lie apart."""
    found = []
    for data, kind in zip(args[:2], sig.args[:2], strict=True):
        array = isinstance(kind, types.Array)
        found.append(context.make_array(kind)(context, builder, data).data if array else data)
    numbers, places = builder.gep(found[0], [args[3]]), builder.gep(found[1], [args[2]])
    lanes = [builder.gep(places, [ir.Constant(_INDEX, i)]) for i in range(WIDTH)]
    return [builder.gep(numbers, [builder.load(lane)]) for lane in lanes]


@_lowers(gather, *_PLACED[:1], *_PLACED, types.Integer)
def _gather(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    v: Any = ir.Constant(_DOUBLES, ir.Undefined)
    for i, pointer in enumerate(_pointers(context, builder, sig, args)):
        v = builder.insert_element(v, builder.load(pointer), ir.Constant(_INDEX, i))
    return v


@_lowers(scatter, *_PLACED[:1], *_PLACED, types.Integer, _VectorType, returned=types.none)
def _scatter(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    for i, pointer in enumerate(_pointers(context, builder, sig, args)):
        builder.store(builder.extract_element(args[4], ir.Constant(_INDEX, i)), pointer)
    return context.get_dummy_value()


def turn(
    w: Array, places: NDArray[np.int64], at: Place, offset: Place, to: Array, row: Place
) -> None:
    """Lay eight rows side by side: eight numbers from each of the `places`, plus `offset`.

    What stands first in the rows comes to `to` from `row` on, then what stands second, and so on.
    """
    columns = np.add.outer(np.arange(WIDTH), places[int(at) : int(at) + WIDTH] + int(offset))
    to[int(row) : int(row) + WIDTH * WIDTH] = w[columns].reshape(-1)


def turn_back(
    w: Array, row: Place, to: Array, places: NDArray[np.int64], at: Place, offset: Place
) -> None:
    """Put back what `turn` has laid side by side."""
    columns = np.add.outer(np.arange(WIDTH), places[int(at) : int(at) + WIDTH] + int(offset))
    to[columns] = w[int(row) : int(row) + WIDTH * WIDTH].reshape(WIDTH, WIDTH)


def _shuffle(builder: Any, a: Any, b: Any, order: list[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_INDEX, WIDTH), order))


def _transposed(builder: Any, rows: list[Any]) -> list[Any]:
    """Swap rows and columns of eight times eight: neighbours, pairs, then fours."""
    for step in (1, 2, 4):
        low = [i + WIDTH * (i // step % 2) - step * (i // step % 2) for i in range(WIDTH)]
        done: list[Any] = [None] * WIDTH
        for i in range(WIDTH):
            if i // step % 2 == 0:
                pair = rows[i], rows[i + step]
                done[i] = _shuffle(builder, *pair, low)
                done[i + step] = _shuffle(builder, *pair, [q + step for q in low])
        rows = done
    return rows


def _eight(builder: Any, pointer: Any) -> Any:
    return builder.bitcast(pointer, _DOUBLES.as_pointer())


def _turn_rows(context: Any, builder: Any, sig: Any, args: Any) -> list[Any]:
    """Return the addresses of eight rows of a turned block, from (array, place)."""
    data, kind = args[0], sig.args[0]
    if isinstance(kind, types.Array):
        data = context.make_array(kind)(context, builder, data).data
    first = builder.gep(data, [args[1]])
    return [builder.gep(first, [ir.Constant(_INDEX, WIDTH * i)]) for i in range(WIDTH)]


@_lowers(turn, *_PLACED[:1], *_PLACED, types.Integer, *_PLACED, returned=types.none)
def _turn(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    rows = [
        builder.load(_eight(builder, pointer), align=8)
        for pointer in _pointers(context, builder, sig, args)
    ]
    to = _turn_rows(context, builder, signature(types.none, *sig.args[4:]), args[4:])
    for pointer, column in zip(to, _transposed(builder, rows), strict=True):
        builder.store(column, _eight(builder, pointer), align=8)
    return context.get_dummy_value()


@_lowers(turn_back, *_PLACED, *_PLACED[:1], *_PLACED, types.Integer, returned=types.none)
def _turn_back(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    source = _turn_rows(context, builder, sig, args)
    columns = [builder.load(_eight(builder, pointer), align=8) for pointer in source]
    to = _pointers(context, builder, signature(types.none, *sig.args[2:]), args[2:])
    for pointer, row in zip(to, _transposed(builder, columns), strict=True):
        builder.store(row, _eight(builder, pointer), align=8)
    return context.get_dummy_value()
