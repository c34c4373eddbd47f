"""Arrays as the kernels take them: to the compiler a view is of another type than an array."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike, NDArray


def plain(array: NDArray, dtype: DTypeLike) -> NDArray:
    """Return `array` itself, or a copy where it is of other type, a view, or read-only."""
    flags = array.flags
    if array.dtype == dtype and flags.c_contiguous and flags.writeable:
        return array
    return np.array(array, dtype)
