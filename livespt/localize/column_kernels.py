# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""Gradient and information of one spot, all columns of its region side by side.

Theory: `livespt.localize.fit`. A region of up to 15 x 15 pixels lies in rows of `WIDE` elements,
and so does all work space, in one flat buffer: with literal strides the compiler sees that rows
do not overlap and runs the loops over columns in vector registers. Columns beyond the region
hold no light and no weight.

The error function is Abramowitz and Stegun 7.1.26, good to 1.5e-7 of the spot's photons, from
the exponential that the Gaussian needs anyway.
"""

from __future__ import annotations

import math

import numpy as np

from livespt.jit import inlined, kernel
from livespt.localize import table_kernels as tables

WIDE = 16
X, Y, N, B, S = 0, 1, 2, 3, 4  # where each parameter stands in theta
# rows of the buffer
ALONG_X, ALONG_Y = 0, 3  # share of light, its derivatives in centre and width
EDGE = 6  # erf, phi, t phi at the edges between pixels
INSIDE = 9  # 1 within the region, else 0
SCORE, WEIGHT = 10, 11
SUMS = 12  # (14,)
N_ROWS = 26
_P = 0.3275911 * math.sqrt(0.5)
_A1, _A2, _A3, _A4, _A5 = 0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429
_PHI0 = 1.0 / math.sqrt(2.0 * math.pi)
_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


@inlined
def row(index):
    """Return where a row starts."""
    return np.uint64(index * WIDE)


@inlined
def copy(source, target):
    """Copy a 1-D array (numba takes seconds to compile the slice's form)."""
    for k in range(source.size):
        target[k] = source[k]


@inlined
def set_all(target, value):
    """Set all of a 1-D array."""
    for k in range(target.size):
        target[k] = value


@kernel
def spot_profile(centre, sigma, side, w, first):
    """Fill three rows with the share of light along one axis and its derivatives.

    As `livespt.psf_kernels.profile`; each edge is worked out once.
    """
    erf, phi, t_phi, one = row(EDGE), row(EDGE + 1), row(EDGE + 2), np.uint64(1)
    inverse = 1.0 / sigma
    for j in range(np.uint64(WIDE)):
        t = (float(j) - 0.5 - centre) * inverse
        # e^-y as (e^(-y/256))^256: arithmetic alone, good to 1e-9
        y = min(0.5 * t * t, 60.0) * (-1.0 / 256.0)
        e = 1.0 + y / 5.0 * (1.0 + y / 6.0 * (1.0 + y / 7.0))
        e = 1.0 + y * (1.0 + y / 2.0 * (1.0 + y / 3.0 * (1.0 + y / 4.0 * e)))
        e *= e
        e *= e
        e *= e
        e *= e
        e *= e
        e *= e
        e *= e
        e *= e
        u = 1.0 / (1.0 + _P * abs(t))
        half = 0.5 - 0.5 * u * (_A1 + u * (_A2 + u * (_A3 + u * (_A4 + u * _A5)))) * e
        density = _PHI0 * inverse * e
        w[erf + j] = half if t >= 0.0 else -half
        w[phi + j] = density
        w[t_phi + j] = t * density
    value, d_centre, d_sigma, inside = row(first), row(first + 1), row(first + 2), row(INSIDE)
    for j in range(np.uint64(WIDE - 1)):
        here = w[inside + j]
        w[value + j] = here * (w[erf + j + one] - w[erf + j])
        w[d_centre + j] = here * (w[phi + j] - w[phi + j + one])
        w[d_sigma + j] = here * (w[t_phi + j] - w[t_phi + j + one])


@kernel
def profiles(theta, side, w):
    """Fill both axes' profiles of the spot `theta`."""
    inside = row(INSIDE)
    for j in range(np.uint64(WIDE)):
        w[inside + j] = 1.0 if j < side else 0.0
    spot_profile(theta[X], theta[S], side, w, ALONG_X)
    spot_profile(theta[Y], theta[S], side, w, ALONG_Y)


@inlined
def score_poisson(w, i, light, background, data, var, extra):
    """Fill score and information of line `i` for shifted Poisson data."""
    x0, inside, score, weight, at = row(ALONG_X), row(INSIDE), row(SCORE), row(WEIGHT), row(i)
    for j in range(np.uint64(WIDE)):
        rate = background + extra[at + j] + light * w[x0 + j]
        info = w[inside + j] / (rate + var[at + j])
        w[weight + j] = info
        w[score + j] = data[at + j] * info - w[inside + j]


@inlined
def score_table(w, i, light, background, data, extra, side, table):
    """Fill score and information of line `i` for a camera with a table."""
    x0, score, weight, at = row(ALONG_X), row(SCORE), row(WEIGHT), row(i)
    for j in range(np.uint64(WIDE)):
        w[score + j] = 0.0
        w[weight + j] = 0.0
    for j in range(np.uint64(side)):
        rate = background + extra[at + j] + light * w[x0 + j]
        w[score + j], w[weight + j] = tables.look_up(data[at + j], rate, table)


@inlined
def add_line(w, y0, y1, y2):
    """Add a line's score and information, times its profile, to the columns' sums."""
    score, weight, s, one = row(SCORE), row(WEIGHT), row(SUMS), np.uint64(WIDE)
    for j in range(np.uint64(WIDE)):
        g, i, a = w[score + j], w[weight + j], s + j
        w[a] += g * y0
        w[a + one] += g * y1
        w[a + one * 2] += g * y2
        w[a + one * 3] += g
        i0, i1, i2 = i * y0, i * y1, i * y2
        w[a + one * 4] += i0 * y0
        w[a + one * 5] += i0 * y1
        w[a + one * 6] += i0 * y2
        w[a + one * 7] += i0
        w[a + one * 8] += i1 * y1
        w[a + one * 9] += i1 * y2
        w[a + one * 10] += i1
        w[a + one * 11] += i2 * y2
        w[a + one * 12] += i2
        w[a + one * 13] += i


@kernel
def sum_columns(photons, side, w, g, J):
    """Fill gradient and information from the columns' sums.

    dE/dx = N x1 y0, dE/dy = N x0 y1, dE/dN = x0 y0, dE/db = 1, dE/dsigma = N (x2 y0 + x0 y2),
    with x0, x1, x2 and y0, y1, y2 the rows of the two profiles.
    """
    along, s, one = row(ALONG_X), row(SUMS), np.uint64(WIDE)
    for b in range(5):
        g[b] = 0.0
        for c in range(5):
            J[b, c] = 0.0
    for j in range(np.uint64(side)):
        x0, x1, x2 = w[along + j], w[along + one + j], w[along + one * 2 + j]
        a = s + j
        s0, s1, s2 = w[a], w[a + one], w[a + one * 2]
        w00, w01, w02, w0 = w[a + one * 4], w[a + one * 5], w[a + one * 6], w[a + one * 7]
        w11, w12, w1 = w[a + one * 8], w[a + one * 9], w[a + one * 10]
        w22, w2 = w[a + one * 11], w[a + one * 12]
        mixed = x2 * w00 + x0 * w02
        g[X] += x1 * s0
        g[Y] += x0 * s1
        g[N] += x0 * s0
        g[B] += w[a + one * 3]
        g[S] += x2 * s0 + x0 * s2
        J[X, X] += x1 * x1 * w00
        J[X, Y] += x1 * x0 * w01
        J[X, N] += x1 * x0 * w00
        J[X, B] += x1 * w0
        J[X, S] += x1 * mixed
        J[Y, Y] += x0 * x0 * w11
        J[Y, N] += x0 * x0 * w01
        J[Y, B] += x0 * w1
        J[Y, S] += x0 * (x2 * w01 + x0 * w12)
        J[N, N] += x0 * x0 * w00
        J[N, B] += x0 * w0
        J[N, S] += x0 * mixed
        J[B, B] += w[a + one * 13]
        J[B, S] += x2 * w0 + x0 * w2
        J[S, S] += x2 * mixed + x0 * (x2 * w02 + x0 * w22)
    for a in (X, Y, S):
        g[a] *= photons
        for b in range(5):  # the diagonal takes both factors
            J[a, b] *= photons
            J[b, a] *= photons
    for a in range(5):
        for b in range(a):
            J[a, b] = J[b, a]


@kernel
def slopes(theta, side, region, table, w, g, J):
    """Fill gradient and expected information of ln L at `theta`."""
    profiles(theta, side, w)
    sums = row(SUMS)
    for k in range(np.uint64(14 * WIDE)):
        w[sums + k] = 0.0
    for i in range(side):
        y0 = w[row(ALONG_Y) + np.uint64(i)]
        light = theta[N] * y0
        if table.size:
            score_table(w, i, light, theta[B], region.data, region.extra, side, table)
        else:
            score_poisson(w, i, light, theta[B], region.data, region.var, region.extra)
        add_line(w, y0, w[row(ALONG_Y + 1) + np.uint64(i)], w[row(ALONG_Y + 2) + np.uint64(i)])
    sum_columns(theta[N], side, w, g, J)


@inlined
def log_poisson(d, mu):
    """Return ln of the shifted Poisson in two parts: (a, b) with ln q = a + ln(b)/2.

    Stirling's series for ln d!, from z = d + 8 where d is small; what it takes of ln z beyond
    d ln z is left to the product b, so that a pixel costs one logarithm.
    """
    z, b = d, 1.0 / d
    if d < 10.0:
        z = d + 8.0
        low = (d + 1.0) * (d + 2.0) * (d + 3.0) * (d + 4.0)
        low *= (d + 5.0) * (d + 6.0) * (d + 7.0) * z
        fourth = (z * z) * (z * z)
        low /= fourth * fourth
        b = low * low / z
    u = 1.0 / z
    series = u * (1.0 / 12.0 - u * u * (1.0 / 360.0 - u * u * (1.0 / 1260.0)))
    return d * math.log(mu * u) + z - mu - _HALF_LOG_2PI - series, b


@kernel
def loglik(theta, side, region, table, w):
    """Return ln L at `theta`."""
    profiles(theta, side, w)
    total = 0.0
    for i in range(side):
        product = 1.0
        light = theta[N] * w[row(ALONG_Y) + np.uint64(i)]
        for j in range(side):
            at = i * WIDE + j
            rate = theta[B] + region.extra[at] + light * w[row(ALONG_X) + np.uint64(j)]
            if table.size:
                total += tables.look_up_loglik(region.data[at], region.signal[at], rate, table)
            else:
                part, factor = log_poisson(region.data[at], rate + region.var[at])
                total += part
                product *= factor
        total += 0.5 * math.log(product)
    return total
