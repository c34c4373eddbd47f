# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""Sixty-four spots side by side in float32: profiles, slopes, normal equations, likelihood.

Theory: `livespt.localize.fit`. What `column_kernels` and `fit_kernels` do for one spot in float64,
these steps do for `LANES` spots at once: a *row* is one number of each spot, and every inner loop
runs over the spots of a row, in vector registers.

All rows lie in ONE flat array at offsets the compiler knows. A loop that reads and writes rows at
known distances needs no test for overlap; with more than a few unknown distances the compiler
gives the test up and the loop runs one spot at a time, ten times slower (measured). So a line of
the region is first copied to a fixed place (`stage`), and then summed by a loop whose columns are
written out (`lane_row_kernels`), its sums in registers.

Symbols: x0, x1, x2 and y0, y1, y2 share of light along an axis and its derivatives in centre and
width; d datum, mu its mean, E rate.
"""

from __future__ import annotations

import math

import numpy as np

from livespt.jit import lanes

LANES = 64
SIDE = 15  # largest region


def rows(start, n):
    """Return the offset of `n` rows from row `start` on, and the row after them."""
    return np.uint64(start * LANES), start + n


X, Y, N, B, S = (np.uint64(k * LANES) for k in range(5))  # the parameters of each spot
LOW_X, _at = rows(5, 1)
HIGH_X, _at = rows(_at, 1)
LOW_Y, _at = rows(_at, 1)
HIGH_Y, _at = rows(_at, 1)
DECREMENT, _at = rows(_at, 1)  # g^T J^-1 g: squared distance to the optimum, in s.d.
FOLLOWED, _at = rows(_at, 1)  # with a table: the decrement where it was read
PIVOT, _at = rows(_at, 1)  # least pivot over its diagonal: 0 where parameters are not told apart
LOGLIK, _at = rows(_at, 1)
COVARIANCE, _at = rows(_at, 15)  # lower triangle, line by line
SUMS, _at = rows(_at, 20)
INVERSE, _at = rows(_at, 1)  # 1/sigma
ADDED, _at = rows(_at, 1)  # background plus what all pixels have in common
ALONG_X, _at = rows(_at, 3 * SIDE)  # x0, then x1, then x2
LINE_Y, _at = rows(_at, 3)  # y0, y1, y2 of a line of the region
LINE, _at = rows(_at, 2 * SIDE)  # its data d, then known rates: read variance, neighbours' light
LINE_MU, _at = rows(_at, SIDE)
TERM, _at = rows(_at, SIDE)
PRODUCT, _at = rows(_at, 1)
POWER, _at = rows(_at, 1)
T, _at = rows(_at, SIDE + 1)  # edges between pixels, in widths from the centre
ERF, _at = rows(_at, SIDE + 1)
PHI, _at = rows(_at, SIDE + 1)
T_PHI, _at = rows(_at, SIDE + 1)
ALONG_Y, _at = rows(_at, 3 * SIDE)  # y0, y1, y2 of the first line, then of the next
PIXELS, _at = rows(_at, 2 * SIDE * SIDE)  # as LINE, one line of the region after the other
PLACE, _at = rows(_at, SIDE * SIDE)  # of the count on the table's first axis
SINGLE, _at = rows(_at, 2 * SIDE * SIDE // LANES + 1)  # one spot's region, before it is dealt
LOWEST, _at = rows(_at, 1)  # count of the region, and its highest
HIGHEST, _at = rows(_at, 1)
STATE, _at = rows(_at, 1)  # what is to be said of the fit
COUNTS, N_ROWS = rows(_at, SIDE * SIDE // 2 + 1)  # as PIXELS, in uint16
AXIS = np.uint64(SIDE * LANES)  # from x0 to x1
ROW = np.uint64(LANES)
WIDTH = np.uint64(LANES)

_F = np.float32
ZERO, HALF, ONE, TWO = _F(0.0), _F(0.5), _F(1.0), _F(2.0)
_P = _F(0.3275911 * math.sqrt(0.5))
_A1, _A2, _A3 = _F(0.254829592), _F(-0.284496736), _F(1.421413741)
_A4, _A5 = _F(-1.453152027), _F(1.061405429)
_PHI0 = _F(1.0 / math.sqrt(2.0 * math.pi))
_FAR = _F(60.0)
_LOG2E, _LN2_HIGH, _LN2_LOW = _F(1.44269504), _F(0.693359375), _F(-2.12194440e-4)
_E5, _E4, _E3 = _F(1.0 / 120.0), _F(1.0 / 24.0), _F(1.0 / 6.0)
_E6 = _F(1.0 / 720.0)
_BIAS, _SHIFT = np.int32(127), np.int32(23)
_LOW_BITS, _BITS_OF_ONE = np.int32(0x007FFFFF), np.int32(0x3F800000)
_LN2 = _F(math.log(2.0))
_SQRT2 = _F(math.sqrt(2.0))
# ln(1 + r) = r - r^2/2 + r^3 (L0 + L1 r + ...), least squares over sqrt(1/2) to sqrt(2): 2e-9
_L0, _L1, _L2, _L3 = _F(0.33333329), _F(-0.25000846), _F(0.20001412), _F(-0.16622752)
_L4, _L5, _L6, _L7 = _F(0.14197877), _F(-0.13161606), _F(0.12786331), _F(-0.07660819)
_TWO_PI = _F(2.0 * math.pi)
_WIDEST = _F(1e12)  # of a pixel's spread: the product of three stays finite
_R0, _R1, _R2, _R3, _THIRD = _F(1.05), _F(0.09), _F(0.14), _F(12.0), _F(1 / 3)


@lanes
def exp_minus(y):
    """Return e^-y for 0 <= y <= 60."""
    n = np.int32(y * _LOG2E + HALF)
    k = np.float32(n)
    r = k * _LN2_HIGH - y + k * _LN2_LOW
    e = ONE + r * (ONE + r * (HALF + r * (_E3 + r * (_E4 + r * (_E5 + r * _E6)))))
    return e * np.int32((_BIAS - n) << _SHIFT).view(np.float32)


@lanes
def log(value):
    """Return ln of a positive, normal number."""
    bits = np.float32(value).view(np.int32)
    n = (bits >> _SHIFT) - _BIAS
    m = np.int32((bits & _LOW_BITS) | _BITS_OF_ONE).view(np.float32)
    above = m > _SQRT2
    m = m * HALF if above else m
    k = np.float32(n) + (ONE if above else ZERO)
    r = m - ONE
    high = _L4 + r * (_L5 + r * (_L6 + r * _L7))
    series = r + r * r * (r * (_L0 + r * (_L1 + r * (_L2 + r * (_L3 + r * high)))) - HALF)
    return k * _LN2_HIGH + (series + k * _LN2_LOW)


@lanes
def fill_edges(w, centre, side):
    """Fill error function and Gaussian at the edges between pixels along one axis.

    The error function is Abramowitz and Stegun 7.1.26, from the exponential that the Gaussian
    needs anyway. The Gaussian lacks its factor 1/sigma: `lane_solve_kernels.information` has it.
    """
    for j in range(side + 1):
        edge, at = np.float32(j) - HALF, T + np.uint64(j * LANES)
        for k in range(WIDTH):
            w[at + k] = (edge - w[centre + k]) * w[INVERSE + k]
    for q in range(np.uint64((side + 1) * LANES)):
        t = w[T + q]
        e = exp_minus(min(HALF * t * t, _FAR))
        u = ONE / (ONE + _P * abs(t))
        half = HALF - HALF * u * (_A1 + u * (_A2 + u * (_A3 + u * (_A4 + u * _A5)))) * e
        density = _PHI0 * e
        w[ERF + q] = half if t >= ZERO else -half
        w[PHI + q] = density
        w[T_PHI + q] = t * density


@lanes
def fill_profiles(w, side):
    """Fill share of light and its derivatives in centre and width, along both axes.

    As `psf_kernels.profile`, the derivatives times sigma.
    """
    fill_edges(w, X, side)
    for q in range(np.uint64(side * LANES)):
        w[ALONG_X + q] = w[ERF + ROW + q] - w[ERF + q]
        w[ALONG_X + AXIS + q] = w[PHI + q] - w[PHI + ROW + q]
        w[ALONG_X + AXIS + AXIS + q] = w[T_PHI + q] - w[T_PHI + ROW + q]
    fill_edges(w, Y, side)
    for i in range(side):
        at, to = np.uint64(i * LANES), ALONG_Y + np.uint64(3 * i * LANES)
        after = at + ROW
        for k in range(WIDTH):
            w[to + k] = w[ERF + after + k] - w[ERF + at + k]
        for k in range(WIDTH):
            w[to + ROW + k] = w[PHI + at + k] - w[PHI + after + k]
        for k in range(WIDTH):
            w[to + ROW + ROW + k] = w[T_PHI + at + k] - w[T_PHI + after + k]


@lanes
def begin_slopes(w, side, common):
    """Fill both profiles, clear the sums, and add `common` to the background."""
    for k in range(WIDTH):
        w[INVERSE + k] = ONE / w[S + k]
        w[ADDED + k] = w[B + k] + common
    fill_profiles(w, side)
    for q in range(np.uint64(20 * LANES)):
        w[SUMS + q] = ZERO


@lanes
def stage(w, i, side):
    """Copy what line `i` of the region needs to its fixed place."""
    shares, pixels = ALONG_Y + np.uint64(3 * i * LANES), PIXELS + np.uint64(2 * i * side * LANES)
    for q in range(np.uint64(3 * LANES)):
        w[LINE_Y + q] = w[shares + q]
    for q in range(np.uint64(2 * side * LANES)):
        w[LINE + q] = w[pixels + q]


@lanes
def term_and_spread(d, mu):
    """Return -mu + d ln mu less its value at mu = d, and the spread 2 pi d + r of a pixel."""
    rest = _R0 + _R1 * max(ONE - _THIRD * d, ZERO) - _R2 * max(ONE - _R3 * d, ZERO)
    return d * log(mu / d) + (d - mu), min(_TWO_PI * d + rest, _WIDEST)


@lanes
def gather(w, k, term, spread):
    """Add a term to those of spot `k`, and a spread to their product, kept as mantissa and power.

    Of three pixels at a time: as many as cannot overflow.
    """
    bits = np.float32(w[PRODUCT + k] * spread).view(np.int32)
    w[POWER + k] += np.float32((bits >> _SHIFT) - _BIAS)
    w[PRODUCT + k] = np.int32((bits & _LOW_BITS) | _BITS_OF_ONE).view(np.float32)
    w[LOGLIK + k] += term


@lanes
def add_shifted_poisson(w, side):
    """Add the log-likelihood of a summed line: d ln mu - mu - ln d! (d need not be an integer).

    Written as what mu = d would give, less the deviance, so that nothing large cancels. The first
    part is -ln(2 pi d + r)/2, with r = 1 at d = 0, 1.1 near 1 and pi/3 far above (as Stirling has
    it), drawn by straight lines: good to 0.01 for d < 1 and to 0.0005 above.
    Its logarithms are left to the product of all pixels (`end_shifted_poisson`).
    """
    for j in range(0, side - 2, 3):
        d, mu = LINE + np.uint64(j * LANES), LINE_MU + np.uint64(j * LANES)
        for k in range(WIDTH):
            t0, s0 = term_and_spread(w[d + k], w[mu + k])
            t1, s1 = term_and_spread(w[d + ROW + k], w[mu + ROW + k])
            t2, s2 = term_and_spread(w[d + ROW + ROW + k], w[mu + ROW + ROW + k])
            gather(w, k, t0 + t1 + t2, s0 * s1 * s2)
    for j in range(side - side % 3, side):
        d, mu = LINE + np.uint64(j * LANES), LINE_MU + np.uint64(j * LANES)
        for k in range(WIDTH):
            t0, s0 = term_and_spread(w[d + k], w[mu + k])
            gather(w, k, t0, s0)


@lanes
def begin_shifted_poisson(w):
    """Clear what `add_shifted_poisson` gathers."""
    for k in range(WIDTH):
        w[LOGLIK + k] = ZERO
        w[POWER + k] = ZERO
        w[PRODUCT + k] = ONE


@lanes
def end_shifted_poisson(w):
    """Add the logarithms of what was gathered."""
    for k in range(WIDTH):
        w[LOGLIK + k] -= HALF * (w[POWER + k] * _LN2 + log(w[PRODUCT + k]))
