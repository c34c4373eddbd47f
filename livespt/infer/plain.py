"""Arrays as the kernels take them: to the compiler a view is of another type than an array."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike, NDArray

#: To compare with these is quicker than with the classes.
LONG, DOUBLE = np.dtype(np.int64), np.dtype(np.float64)


def plain(array: NDArray, dtype: DTypeLike) -> NDArray:
    """Return `array` itself, or a copy where it is of other type, a view, or read-only."""
    if array.flags.carray and array.dtype == dtype:
        return array
    return np.array(array, dtype)
