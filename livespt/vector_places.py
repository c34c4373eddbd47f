"""Eight numbers that lie apart, as of eight rows of a table, as one value.

As `livespt.vectors`, of float64; and eight rows turned, so that they lie side by side.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.typing.templates import signature
from numpy.typing import NDArray

from livespt.vectors import (
    _INDEX,
    _PLACED,
    EIGHT,
    WIDTH,
    Array,
    Place,
    Vector,
    _lowers,
    _VectorType,
)


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
    v: Any = ir.Constant(EIGHT.values, ir.Undefined)
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
    return builder.bitcast(pointer, EIGHT.values.as_pointer())


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
