"""Sixteen places of eight numbers, read into eight values of sixteen or written from them.

A table holds what belongs together side by side, and so does a result; sixteen spots side by side
(`livespt.vectors`) want the first number of each, then the second. Between the two lies a matrix
turned on its side, which is done in registers: number by number it took longer than a fit's
arithmetic.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.typing.templates import AbstractTemplate, signature
from numba.extending import lower_builtin
from numpy.typing import NDArray

from livespt.vectors import (
    _INDEX,
    _PLACED,
    SINGLES,
    SIXTEEN,
    Array,
    Place,
    Vector,
    _call,
    _data,
    _lowers,
    _typed,
    _VectorType,
)

#: Numbers that lie together at a place.
TOGETHER = 8


def look_up(w: Array, at: Vector) -> Vector:
    """Return the numbers that lie in `w` at these whole places."""
    return w[at.astype(np.int64)]


def gather_rows(w: Array, at: Vector) -> tuple[Vector, ...]:
    """Return the eight numbers that lie at each of sixteen whole places, as eight values."""
    return tuple(w[at.astype(np.int64) + j] for j in range(TOGETHER))


def write_rows(
    w: NDArray[np.float64], which: NDArray[np.int64], first: int, column: int, v: tuple[Vector, ...]
) -> None:
    """Put eight values into sixteen lines of `w`, beside each other from `column` on.

    The lines are those that `which` names from `first` on; where it ends, its last again.
    """
    for lane in range(SINGLES):
        row = which[min(first + lane, len(which) - 1)]
        w[row, column : column + TOGETHER] = [values[lane] for values in v]


def load_counts(counts: NDArray[np.uint16], at: Place) -> Vector:
    """Return the sixteen counts that lie in `counts` from `at` on."""
    return counts[int(at) : int(at) + SINGLES].astype(np.float32)


def deal_counts(
    lines: NDArray[np.uint16],
    which: NDArray[np.int64],
    first: int,
    column: int,
    to: NDArray[np.uint16],
    places: tuple[Place, Place],
) -> None:
    """Put sixteen counts of sixteen lines into sixteen rows: the first of each line, and so on.

    `column` is that of the first count; the lines are as in `write_rows`; `places` are where the
    first row lies in `to`, and how far it is to the next.
    """
    for j in range(SINGLES):
        row = int(places[0]) + j * int(places[1])
        for lane in range(SINGLES):
            to[row + lane] = lines[which[min(first + lane, len(which) - 1)], column + j]


def fetch_line(w: NDArray[np.float64], row: int) -> None:
    """Have a line of `w` brought near, for it will be written: the processor need not wait then."""


# What follows tells numba the same.

_LONG = ir.IntType(64)
_ROW = ir.VectorType(ir.FloatType(), TOGETHER)
_ROW_64 = ir.VectorType(ir.DoubleType(), TOGETHER)
_VALUES = types.UniTuple(SIXTEEN, TOGETHER)


def _shuffle(builder: Any, a: Any, b: Any, which: Any) -> Any:
    places = list(which)
    mask = ir.Constant(ir.VectorType(_INDEX, len(places)), places)
    return builder.shuffle_vector(a, b, mask)


def _turn(builder: Any, rows: list[Any]) -> list[Any]:
    """Turn two matrices of 8 x 8, side by side in eight vectors of 16, in blocks of 1, 2, 4."""
    rows = list(rows)
    for apart in (1, 2, 4):
        for i in range(TOGETHER):
            if not i & apart:
                a, b = rows[i], rows[i + apart]
                first = [c if not c & apart else SINGLES + c - apart for c in range(SINGLES)]
                second = [c + apart if not c & apart else SINGLES + c for c in range(SINGLES)]
                rows[i] = _shuffle(builder, a, b, first)
                rows[i + apart] = _shuffle(builder, a, b, second)
    return rows


@_lowers(look_up, _PLACED[0], _VectorType)
def _look_up(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    kind = sig.args[1]
    data = _data(context, builder, sig, args)
    bits = builder.fptosi(args[1], ir.VectorType(_INDEX, kind.count))
    found = ir.Constant(kind.values, ir.Undefined)
    for i in range(kind.count):
        lane = ir.Constant(_INDEX, i)
        number = builder.load(builder.gep(data, [builder.extract_element(bits, lane)]))
        found = builder.insert_element(found, number, lane)
    return found


class _GatherRows(AbstractTemplate):
    key = gather_rows

    def generic(self, args: Any, kws: Any) -> Any:
        fits = len(args) == 2 and isinstance(args[0], _PLACED[0]) and args[1] == SIXTEEN
        return signature(_VALUES, *args) if fits else None


_typed(gather_rows)(_GatherRows)


@lower_builtin(gather_rows, types.Array, SIXTEEN)
@lower_builtin(gather_rows, types.CPointer, SIXTEEN)
def _gather_rows(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    data, rows = _data(context, builder, sig, args), []
    places = builder.fptosi(args[1], SIXTEEN.bits)
    for lane in range(SINGLES):
        place = builder.extract_element(places, ir.Constant(_INDEX, lane))
        at = builder.gep(data, [builder.zext(place, _LONG)])
        rows.append(builder.load(builder.bitcast(at, _ROW.as_pointer()), align=4))
    both = [_shuffle(builder, rows[i], rows[i + TOGETHER], range(SINGLES)) for i in range(TOGETHER)]
    return context.make_tuple(builder, sig.return_type, _turn(builder, both))


_COUNTS = ir.VectorType(ir.IntType(16), SINGLES)


def _line_of(builder: Any, which: Any, first: Any, lane: int) -> Any:
    """Return the line that a lane has."""
    last = builder.sub(builder.extract_value(which.shape, 0), ir.Constant(_LONG, 1))
    at = builder.add(first, ir.Constant(_LONG, lane))
    at = builder.select(builder.icmp_signed("<", at, last), at, last)
    return builder.load(builder.gep(which.data, [at]))


@_lowers(load_counts, types.Array, types.Integer, returned=SIXTEEN)
def _load_counts(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    place = builder.gep(_data(context, builder, sig, args), [args[1]])
    counts = builder.load(builder.bitcast(place, _COUNTS.as_pointer()), align=2)
    return builder.uitofp(counts, SIXTEEN.values)


_DEAL = (types.Array, types.Array, types.Integer, types.Integer, types.Array, types.BaseTuple)


@_lowers(deal_counts, *_DEAL, returned=types.none)
def _deal_counts(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    lines, which, to = (
        context.make_array(sig.args[k])(context, builder, args[k]) for k in (0, 1, 4)
    )
    first, column = (context.cast(builder, args[k], sig.args[k], types.int64) for k in (2, 3))
    per_line, rows = builder.extract_value(lines.shape, 1), []
    for lane in range(SINGLES):
        start = builder.mul(_line_of(builder, which, first, lane), per_line)
        place = builder.gep(lines.data, [builder.add(start, column)])
        rows.append(builder.load(builder.bitcast(place, _COUNTS.as_pointer()), align=2))
    for apart in (8, 4, 2, 1):  # turned, in blocks
        for i in range(SINGLES):
            if not i & apart:
                a, b = rows[i], rows[i + apart]
                low = [c if not c & apart else SINGLES + c - apart for c in range(SINGLES)]
                high = [c + apart if not c & apart else SINGLES + c for c in range(SINGLES)]
                rows[i], rows[i + apart] = (
                    _shuffle(builder, a, b, low),
                    _shuffle(builder, a, b, high),
                )
    at, step = (builder.extract_value(args[5], k) for k in (0, 1))
    for row in rows:
        place = builder.gep(to.data, [at])
        builder.store(row, builder.bitcast(place, _COUNTS.as_pointer()), align=2)
        at = builder.add(at, step)
    return context.get_dummy_value()


class _WriteRows(AbstractTemplate):
    key = write_rows

    def generic(self, args: Any, kws: Any) -> Any:
        kinds = (types.Array, types.Array, types.Integer, types.Integer)
        fits = len(args) == 5 and all(map(isinstance, args, kinds)) and args[4] == _VALUES
        return signature(types.none, *args) if fits else None


_typed(write_rows)(_WriteRows)


@lower_builtin(write_rows, types.Array, types.Array, types.Integer, types.Integer, _VALUES)
def _write_rows(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    lines = context.make_array(sig.args[0])(context, builder, args[0])
    which = context.make_array(sig.args[1])(context, builder, args[1])
    first, column = (context.cast(builder, args[k], sig.args[k], types.int64) for k in (2, 3))
    per_line = builder.extract_value(lines.shape, 1)
    turned = _turn(builder, [builder.extract_value(args[4], j) for j in range(TOGETHER)])
    for lane in range(SINGLES):
        line = _line_of(builder, which, first, lane)
        place = builder.gep(lines.data, [builder.add(builder.mul(line, per_line), column)])
        from_ = lane - lane % TOGETHER
        half = turned[lane % TOGETHER]
        row = _shuffle(builder, half, half, range(from_, from_ + TOGETHER))
        row = builder.fpext(row, _ROW_64)
        builder.store(row, builder.bitcast(place, _ROW_64.as_pointer()), align=8)
    return context.get_dummy_value()


class _FetchLine(AbstractTemplate):
    key = fetch_line

    def generic(self, args: Any, kws: Any) -> Any:
        fits = len(args) == 2 and all(map(isinstance, args, (types.Array, types.Integer)))
        return signature(types.none, *args) if fits else None


_typed(fetch_line)(_FetchLine)


@lower_builtin(fetch_line, types.Array, types.Integer)
def _fetch_line(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    lines = context.make_array(sig.args[0])(context, builder, args[0])
    start = builder.mul(args[1], builder.extract_value(lines.shape, 1))
    end = builder.add(start, builder.extract_value(lines.shape, 1))
    byte = ir.IntType(8).as_pointer()
    to_write, keep, data = (ir.Constant(_INDEX, k) for k in (1, 3, 1))
    with cgutils.for_range_slice(builder, start, end, ir.Constant(_LONG, TOGETHER)) as (at, _):
        place = builder.bitcast(builder.gep(lines.data, [at]), byte)
        _call(builder, "llvm.prefetch.p0", ir.VoidType(), place, to_write, keep, data)
    return context.get_dummy_value()
