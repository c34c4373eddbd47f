"""Eight numbers side by side as one value: what a recursion takes when it runs on eight tracks.

A step written with these reads like the step of one track, and is one: `load` takes the eight
numbers that lie at a place of a flat float64 array, arithmetic works on each of the eight by
itself, `store` puts them back. Compiled, a value is one vector of the processor's widest registers
(or a few narrower ones); without numba it is an array of eight. No loop over tracks is left for the
compiler to make out, nor any question whether its arrays overlap. Of a float32 array a value is
sixteen numbers, and all else is the same.

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

#: Numbers side by side: float64, and float32.
WIDTH, SINGLES = 8, 16
Array: TypeAlias = NDArray[np.float64] | NDArray[np.float32]
Number = TypeVar("Number", np.float64, np.float32, np.int64)
#: Where numbers lie; in numba always unsigned, which needs no test for a count from the end.
Place: TypeAlias = np.uint64 | int
#: To Python and to type checkers, an array of `WIDTH` or `SINGLES`.
Vector: TypeAlias = NDArray[Any]


def _width(numbers: NDArray[Any]) -> int:
    return SINGLES if numbers.dtype == np.float32 else WIDTH


def address(array: NDArray[Number]) -> NDArray[Number]:
    """Return an array, flat, as what the steps hand on: to numba, the address of its first number.

    A step that is handed an array counts references to it, which costs more than the step does
    (measured: 200 of 500 ns a track and frame). Whoever takes the address must hold the array.
    """
    return array.reshape(-1)


def load(w: Array, at: Place) -> Vector:
    """Return the eight (sixteen) numbers that lie in `w` from `at` on."""
    return w[int(at) : int(at) + _width(w)].copy()


def store(w: Array, at: Place, v: Vector) -> None:
    """Put eight (sixteen) numbers into `w`."""
    w[int(at) : int(at) + len(v)] = v


def store_some(w: Array, at: Place, v: Vector, some: Vector) -> None:
    """Put those of the numbers into `w` for which `some` is positive; leave the rest there."""
    w[int(at) : int(at) + len(v)][some > 0.0] = v[some > 0.0]


def any_below(v: Vector, limit: float | np.floating[Any]) -> bool:
    """Say whether any of the numbers is below a limit."""
    return bool(np.any(v < limit))


def spread(x: float | np.floating[Any]) -> Vector:
    """Return eight times one number, or sixteen times one float32."""
    return np.full(SINGLES if getattr(x, "dtype", None) == np.float32 else WIDTH, x)


def root(v: Vector) -> Vector:
    """Return square roots."""
    return np.sqrt(v)


def pick(low: Vector, high: Vector, a: Vector, b: Vector) -> Vector:
    """Return `a` where low < high, else `b`."""
    return np.where(low < high, a, b)


def least(a: Vector, b: Vector) -> Vector:
    """Return the lesser of both."""
    return np.where(a < b, a, b)


def most(a: Vector, b: Vector) -> Vector:
    """Return the greater of both."""
    return np.where(a > b, a, b)


def size(v: Vector) -> Vector:
    """Return |v|."""
    return np.abs(v)


def whole(v: Vector) -> Vector:
    """Return numbers below 2^31 without what stands behind the point."""
    return np.trunc(v)


def add_up(v: Vector) -> float:
    """Return the sum of the eight: neighbours first, then pairs, then fours."""
    while len(v) > 1:
        v = v[0::2] + v[1::2]
    return float(v[0])


def power_of_two(n: Vector) -> Vector:
    """Return 2^n for whole numbers from -1022 to 1023 (float32: -126 to 127)."""
    return np.ldexp(n.dtype.type(1.0), n.astype(np.int64))


def exponent(v: Vector) -> Vector:
    """Return the whole n of v = m 2^n with m in [1/2, 1), for positive normal numbers."""
    return np.frexp(v)[1].astype(v.dtype)


def mantissa(v: Vector) -> Vector:
    """Return that m."""
    return np.frexp(v)[0]


def fetch(w: Array, at: Place) -> None:
    """Ask for the eight numbers at a place to be brought nearer, if there are any."""


def highest(v: Vector) -> float:
    """Return the greatest of the eight."""
    return float(v.max())


def lowest(v: Vector) -> float:
    """Return the least of the eight."""
    return float(v.min())


# What follows tells numba the same.

_INDEX = ir.IntType(32)


class _VectorType(types.Type):
    """What numba calls a `Vector` of these numbers; how its bits lie."""

    def __init__(self, number: Any, native: Any, count: int, bits: int, mantissa_bits: int) -> None:
        self.number, self.count, self.mantissa_bits = number, count, mantissa_bits
        self.bias = (1 << (bits - 2 - mantissa_bits)) - 1
        self.values = ir.VectorType(native, count)
        self.bits = ir.VectorType(ir.IntType(bits), count)
        self.suffix = f"v{count}f{bits}"
        super().__init__(name=f"Vector({number})")

    def constant(self, number: float) -> Any:
        """Return a number, as often as there are lanes."""
        return ir.Constant(self.values, [number] * self.count)

    def whole(self, number: int) -> Any:
        """Return bits, as often as there are lanes."""
        return ir.Constant(self.bits, [number] * self.count)


@register_model(_VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, kind.values)


EIGHT = _VectorType(types.float64, ir.DoubleType(), WIDTH, 64, 52)
SIXTEEN = _VectorType(types.float32, ir.FloatType(), SINGLES, 32, 23)
_typed: Any = builtin_registry.register_global
_PLACED = ((types.Array, types.CPointer), types.Integer)


def _kind_of(args: Any) -> Any:
    """Return what kind of vector these arguments are, or lead to."""
    for given in args:
        if isinstance(given, _VectorType):
            return given
    number = args[0].dtype if isinstance(args[0], _PLACED[0]) else args[0]
    return SIXTEEN if number == types.float32 else EIGHT


def _lowers(
    function: Any, *kinds: Any, returned: Any = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let numba call `function` on arguments of these kinds, by the code that this decorates.

    It returns a vector like those it is given, if nothing else is said.
    """

    class Template(AbstractTemplate):
        key = function

        def generic(self, args: Any, kws: Any) -> Any:
            if len(args) != len(kinds) or not all(map(isinstance, args, kinds)):
                return None
            vectors = [given for given in args if isinstance(given, _VectorType)]
            if any(given != vectors[0] for given in vectors):
                return None
            return signature(_kind_of(args) if returned is None else returned, *args)

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


def _spread(builder: Any, value: Any, kind: Any) -> Any:
    undefined = ir.Constant(kind.values, ir.Undefined)
    one = builder.insert_element(undefined, value, ir.Constant(_INDEX, 0))
    zeros = ir.Constant(ir.VectorType(_INDEX, kind.count), [0] * kind.count)
    return builder.shuffle_vector(one, one, zeros)


def _define(function: Any, instruction: str) -> None:
    """Define one operator: vector and vector, vector and number, number and vector."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        both, to = [], sig.return_type
        for value, kind in zip(args, sig.args, strict=True):
            number = not isinstance(kind, _VectorType)
            both.append(
                _spread(builder, context.cast(builder, value, kind, to.number), to)
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


def _data(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    """Return the address of an array's first number."""
    if isinstance(sig.args[0], types.Array):
        return context.make_array(sig.args[0])(context, builder, args[0]).data
    return args[0]


def _place(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    """Return the address of the numbers."""
    at = builder.gep(_data(context, builder, sig, args), [args[1]])
    return builder.bitcast(at, _kind_of(sig.args).values.as_pointer())


def _align(sig: Any) -> int:
    """Return how the numbers are aligned, in bytes."""
    return _kind_of(sig.args).number.bitwidth // 8


@_lowers(load, *_PLACED)
def _load(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.load(_place(context, builder, sig, args), align=_align(sig))


@_lowers(store, *_PLACED, _VectorType, returned=types.none)
def _store(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    builder.store(args[2], _place(context, builder, sig, args), align=_align(sig))
    return context.get_dummy_value()


def _call(builder: Any, name: str, returned: Any, *args: Any) -> Any:
    """Call a function of LLVM's own."""
    kind = ir.FunctionType(returned, [a.type for a in args])
    found = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    return builder.call(found, args)


@_lowers(store_some, *_PLACED, _VectorType, _VectorType, returned=types.none)
def _store_some(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    kind = sig.args[2]
    some = builder.fcmp_ordered(">", args[3], kind.constant(0.0))
    place, aligned = _place(context, builder, sig, args), ir.Constant(_INDEX, _align(sig))
    name = f"llvm.masked.store.{kind.suffix}.p0"
    _call(builder, name, ir.VoidType(), args[2], place, aligned, some)
    return context.get_dummy_value()


@_lowers(any_below, _VectorType, types.Number, returned=types.boolean)
def _any_below(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    kind = sig.args[0]
    limit = _spread(builder, context.cast(builder, args[1], sig.args[1], kind.number), kind)
    below = builder.fcmp_ordered("<", args[0], limit)
    bits = builder.bitcast(below, ir.IntType(kind.count))
    return builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))


@_lowers(spread, types.Number)
def _spread_number(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    kind = sig.return_type
    return _spread(builder, context.cast(builder, args[0], sig.args[0], kind.number), kind)


@_lowers(root, _VectorType)
def _root(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    kind = sig.return_type
    return _call(builder, f"llvm.sqrt.{kind.suffix}", kind.values, args[0])


@_lowers(size, _VectorType)
def _size(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    kind = sig.return_type
    return _call(builder, f"llvm.fabs.{kind.suffix}", kind.values, args[0])


@_lowers(whole, _VectorType)
def _whole(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    kind = sig.return_type
    return builder.sitofp(builder.fptosi(args[0], ir.VectorType(_INDEX, kind.count)), kind.values)


@_lowers(pick, _VectorType, _VectorType, _VectorType, _VectorType)
def _pick(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.select(builder.fcmp_ordered("<", args[0], args[1]), args[2], args[3])


@_lowers(least, _VectorType, _VectorType)
def _least(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.select(builder.fcmp_ordered("<", *args), *args)


@_lowers(most, _VectorType, _VectorType)
def _most(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", *args), *args)


@_lowers(add_up, _VectorType, returned=types.float64)
def _add_up(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    kind = sig.args[0]
    parts = [builder.extract_element(args[0], ir.Constant(_INDEX, i)) for i in range(kind.count)]
    while len(parts) > 1:
        parts = [builder.fadd(a, b) for a, b in zip(parts[::2], parts[1::2], strict=True)]
    return context.cast(builder, parts[0], kind.number, types.float64)


@_lowers(power_of_two, _VectorType)
def _power_of_two(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    kind = sig.return_type
    bits = builder.add(builder.fptosi(args[0], kind.bits), kind.whole(kind.bias))
    return builder.bitcast(builder.shl(bits, kind.whole(kind.mantissa_bits)), kind.values)


@_lowers(exponent, _VectorType)
def _exponent(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    kind = sig.return_type
    bits = builder.lshr(builder.bitcast(args[0], kind.bits), kind.whole(kind.mantissa_bits))
    return builder.sitofp(builder.sub(bits, kind.whole(kind.bias - 1)), kind.values)


@_lowers(mantissa, _VectorType)
def _mantissa(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    kind = sig.return_type
    rest = kind.whole((1 << kind.mantissa_bits) - 1)
    bits = builder.and_(builder.bitcast(args[0], kind.bits), rest)
    one_half = kind.whole((kind.bias - 1) << kind.mantissa_bits)
    return builder.bitcast(builder.or_(bits, one_half), kind.values)


def _define_extreme(function: Any, sign: str) -> None:
    """Define what is left of a vector where of each two numbers one is kept."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind, v = sig.args[0], args[0]
        n = kind.count
        while n > 1:
            n //= 2
            lanes = [(i + n) % kind.count for i in range(kind.count)]
            far = ir.Constant(ir.VectorType(_INDEX, kind.count), lanes)
            other = builder.shuffle_vector(v, v, far)
            v = builder.select(builder.fcmp_ordered(sign, v, other), v, other)
        first = builder.extract_element(v, ir.Constant(_INDEX, 0))
        return context.cast(builder, first, kind.number, types.float64)

    _lowers(function, _VectorType, returned=types.float64)(lower)


_define_extreme(highest, ">")
_define_extreme(lowest, "<")


@_lowers(fetch, *_PLACED, returned=types.none)
def _fetch(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    place = builder.bitcast(_place(context, builder, sig, args), ir.IntType(8).as_pointer())
    to_write, near, data = (ir.Constant(_INDEX, i) for i in (1, 3, 1))
    _call(builder, "llvm.prefetch.p0", ir.VoidType(), place, to_write, near, data)
    return context.get_dummy_value()
