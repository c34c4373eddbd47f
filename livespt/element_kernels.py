"""Exponential and logarithm in plain arithmetic, of one number or of eight side by side.

The library's own are calls, which the compiler cannot make side by side: in a loop over a row these
can be. Both are good to 4e-16 of what they return (the logarithm near 1: of 1).
"""

from __future__ import annotations

import numpy as np

from livespt.jit import lanes
from livespt.vectors import Array, Vector, exponent, mantissa, pick, power_of_two, spread

#: Below, the exponential is that of this: products of two stay normal numbers.
LEAST = -300.0
_LOG2E, _LN2_HIGH, _LN2_LOW = 1.4426950408889634, 6.93145751953125e-1, 1.42860682030941723212e-6
_TO_BITS = 6755399441055744.0  # 1.5 * 2^52: the sum's last bits are the integer
_MANTISSA, _HALF = np.int64(0x000FFFFFFFFFFFFF), np.int64(0x3FE0000000000000)
_ROOT_HALF, _TWO_52 = 0.7071067811865476, 4503599627370496.0
_EXPONENT = np.int64(0x4330000000000000)  # 2^52, whose last bits take an integer
#: Numbers that `exp_row` takes at once, and where it keeps as many of its own.
ROW = 4
_ROW = np.uint64(ROW)


@lanes
def exp_of(x: float) -> float:
    """Return e^x for x <= 700, but never less than e^-300."""
    x = max(x, LEAST)
    n = x * _LOG2E + _TO_BITS
    k = n - _TO_BITS
    scale = (np.float64(n).view(np.int64) + np.int64(1023)) << np.int64(52)
    return _exp_series(x - k * _LN2_HIGH - k * _LN2_LOW) * np.int64(scale).view(np.float64)


@lanes
def exp_each(x: Vector) -> Vector:
    """Return `exp_of` of each."""
    x = pick(x, spread(LEAST), spread(LEAST), x)
    k = x * _LOG2E + _TO_BITS - _TO_BITS
    return _exp_series(x - k * _LN2_HIGH - k * _LN2_LOW) * power_of_two(k)


@lanes
def _exp_series(r):  # noqa: ANN001, ANN202 (of one number or of eight)
    """Return e^r for |r| <= ln 2 / 2."""
    r2 = r * r
    r4 = r2 * r2
    low = (1.0 + r) + r2 * (0.5 + r * (1.0 / 6.0))
    mid = (1.0 / 24.0 + r * (1.0 / 120.0)) + r2 * (1.0 / 720.0 + r * (1.0 / 5040.0))
    high_8 = 1.0 / 40320.0 + r * (1.0 / 362880.0)
    high_10 = 1.0 / 3628800.0 + r * (1.0 / 39916800.0)
    top = high_8 + r2 * high_10 + r4 * (1.0 / 479001600.0 + r * (1.0 / 6227020800.0))
    return low + r4 * (mid + r4 * top)


@lanes
def log_of(x: float) -> float:
    """Return ln x of a positive normal number: its exponent, and a series in (m - 1) / (m + 1)."""
    bits = np.float64(x).view(np.int64)
    m = np.int64((bits & _MANTISSA) | _HALF).view(np.float64)  # in [1/2, 1)
    n = np.int64((bits >> np.int64(52)) | _EXPONENT).view(np.float64) - _TWO_52
    small = m < _ROOT_HALF
    m = m + m if small else m
    n = n - 1023.0 if small else n - 1022.0
    return _log_series((m - 1.0) / (m + 1.0), n)


@lanes
def log_each(x: Vector) -> Vector:
    """Return `log_of` of each."""
    m, n, half = mantissa(x), exponent(x), spread(_ROOT_HALF)
    n = pick(m, half, n - 1.0, n)
    m = pick(m, half, m + m, m)
    return _log_series((m - 1.0) / (m + 1.0), n)


@lanes
def inverse_and_log(v: Vector) -> tuple[Vector, Vector]:
    """Return 1 / v and `log_each(v)`, with one division for both."""
    m, n, half = mantissa(v), exponent(v), spread(_ROOT_HALF)
    n = pick(m, half, n - 1.0, n)
    m = pick(m, half, m + m, m)
    both = 1.0 / (v * (m + 1.0))
    return both * (m + 1.0), _log_series((m - 1.0) * (both * v), n)


@lanes
def _log_series(f, n):  # noqa: ANN001, ANN202 (of one number or of eight)
    """Return ln of 2^n (1 + f) / (1 - f) for |f| <= 0.172."""
    z = f * f
    tail = 1.0 / 15.0 + z * (1.0 / 17.0 + z * (1.0 / 19.0 + z * (1.0 / 21.0)))
    tail = 1.0 / 9.0 + z * (1.0 / 11.0 + z * (1.0 / 13.0 + z * tail))
    tail = 1.0 / 3.0 + z * (1.0 / 5.0 + z * (1.0 / 7.0 + z * tail))
    return (n * _LN2_LOW + 2.0 * (f * z) * tail) + 2.0 * f + n * _LN2_HIGH


@lanes
def exp_row(w: Array, row: np.uint64, high: float, to: np.uint64) -> None:
    """Fill a row of `ROW` numbers with e^(x - high), x <= high, but never less than e^-300.

    In two loops, each short enough for the compiler to see that its lanes do the same. The first
    `ROW` numbers of `w` are its own.
    """
    for j in range(_ROW):
        x = max(w[row + j] - high, LEAST)
        n = x * _LOG2E + _TO_BITS
        k = n - _TO_BITS
        w[to + j] = x - k * _LN2_HIGH - k * _LN2_LOW
        w[j] = n
    for j in range(_ROW):
        scale = (np.float64(w[j]).view(np.int64) + np.int64(1023)) << np.int64(52)
        w[to + j] = _exp_series(w[to + j]) * np.int64(scale).view(np.float64)
