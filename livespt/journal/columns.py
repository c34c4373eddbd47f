"""Between numpy's structured arrays and Arrow's columns, byte for byte.

A stream is described by one numpy dtype. Numbers become plain columns, sub-arrays fixed-size
lists (their shape is kept in the field's metadata), object fields UTF-8 text. Arrays are built
from buffers and read from buffers: `pa.array` imports pandas on its first call and stalls the
stream for a second, and it would look at every value. Nothing is ever null.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_TEXT = np.dtype(object)
_ARROW = {
    np.dtype(np.float64): pa.float64(),
    np.dtype(np.float32): pa.float32(),
    np.dtype(np.int64): pa.int64(),
    np.dtype(np.int32): pa.int32(),
    np.dtype(np.int16): pa.int16(),
    np.dtype(np.uint8): pa.uint8(),
    np.dtype(np.uint16): pa.uint16(),
}
_NUMPY = {arrow: plain for plain, arrow in _ARROW.items()}


def schema_of(dtype: np.dtype, metadata: Mapping[str, str] | None = None) -> pa.Schema:
    """Return the Arrow schema that holds rows of `dtype`."""
    return pa.schema([_field(dtype, name) for name in dtype.names or ()], metadata=metadata)


def dtype_of(schema: pa.Schema) -> np.dtype:
    """Return the dtype whose `schema_of` is `schema`."""
    return np.dtype([(field.name, *_numpy_type(field)) for field in schema])


def batch_of(table: NDArray[np.void], schema: pa.Schema) -> pa.RecordBatch:
    """Turn rows into a record batch."""
    arrays = [_to_arrow(table[field.name], field.type) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def rows_of(batch: pa.RecordBatch) -> NDArray[np.void]:
    """Turn a record batch back into rows, bit for bit."""
    table = np.empty(batch.num_rows, dtype_of(batch.schema))
    for field, column in zip(batch.schema, batch.columns, strict=True):
        table[field.name] = _to_numpy(column, table.dtype[field.name])
    return table


def to_arrow_table(table: NDArray[np.void]) -> pa.Table:
    """Turn a structured array into an Arrow table (for Parquet, polars, pandas)."""
    return pa.Table.from_batches([batch_of(table, schema_of(table.dtype))])


def from_columns(dtype: np.dtype, n: int, columns: Mapping[str, object]) -> NDArray[np.void]:
    """Gather columns (or scalars) by name into `n` rows of `dtype`."""
    table = np.empty(n, dtype)
    for name in dtype.names or ():
        table[name] = columns[name]
    return table


def concatenate(tables: Sequence[NDArray[np.void]], dtype: np.dtype) -> NDArray[np.void]:
    """Join tables; none gives an empty table of `dtype`."""
    return np.concatenate(tables) if tables else np.empty(0, dtype)


def _field(dtype: np.dtype, name: str) -> pa.Field:
    base, shape = dtype[name].base, dtype[name].shape
    if base == _TEXT:
        return pa.field(name, pa.utf8(), nullable=False)
    plain = _ARROW[base]
    if not shape:
        return pa.field(name, plain, nullable=False)
    size = int(np.prod(shape))
    inner = pa.field("item", plain, nullable=False)
    about = {"shape": json.dumps(list(shape))}
    return pa.field(name, pa.list_(inner, size), nullable=False, metadata=about)


def _numpy_type(field: pa.Field) -> tuple[np.dtype] | tuple[np.dtype, tuple[int, ...]]:
    if pa.types.is_string(field.type):
        return (_TEXT,)
    if pa.types.is_fixed_size_list(field.type):
        shape = json.loads((field.metadata or {}).get(b"shape", b"[]")) or [field.type.list_size]
        return _NUMPY[field.type.value_type], tuple(shape)
    return (_NUMPY[field.type],)


def _to_arrow(column: NDArray, kind: pa.DataType) -> pa.Array:
    n = len(column)
    if pa.types.is_string(kind):
        texts = [str(text).encode("utf-8", "replace") for text in column]
        ends = np.cumsum([0, *map(len, texts)], dtype=np.int32)
        return pa.Array.from_buffers(
            kind, n, [None, pa.py_buffer(ends), pa.py_buffer(b"".join(texts))]
        )
    values = np.ascontiguousarray(column)
    if not pa.types.is_fixed_size_list(kind):
        return pa.Array.from_buffers(kind, n, [None, pa.py_buffer(values)])
    inner = pa.Array.from_buffers(kind.value_type, values.size, [None, pa.py_buffer(values)])
    return pa.Array.from_buffers(kind, n, [None], children=[inner])


def _to_numpy(column: pa.Array, dtype: np.dtype) -> NDArray:
    n, start = len(column), column.offset
    if dtype.base == _TEXT:
        _, ends, data = column.buffers()
        edges = np.frombuffer(ends, np.int32, n + 1, offset=4 * start)
        text = data.to_pybytes() if data is not None else b""
        values = [text[a:b].decode() for a, b in itertools.pairwise(edges)]
        return np.array([*values, None], dtype=object)[:-1]
    size = int(np.prod(dtype.shape))
    buffer = column.buffers()[-1]
    flat = np.frombuffer(buffer, dtype.base, n * size, offset=start * size * dtype.base.itemsize)
    return flat.reshape(n, *dtype.shape)
