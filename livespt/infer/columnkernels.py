"""The column of one state k after a step: its branches from all states j, side by side.

Theory and symbols: `stepkernels`; rows: `layout`. A column is filled by `observe` or
`pass_unseen`, shared out by `share_column`, and merged by `match_moments`.
"""

from __future__ import annotations

import math

import numpy as np

from livespt.infer import layout as at
from livespt.infer.arrays import Array, Size
from livespt.infer.layout import LANES
from livespt.jit import lanes

LN_2PI = math.log(2 * math.pi)
#: Log weight of a lane without a state: its share is e^-300.
NEVER = -1e300
LEAST = -300.0
_1, _2, _3, _4, _5 = (np.uint64(at.STATES * i) for i in range(1, 6))
_LOG2E, _LN2_HIGH, _LN2_LOW = 1.4426950408889634, 6.93145751953125e-1, 1.42860682030941723212e-6
_TO_BITS = 6755399441055744.0  # 1.5 * 2^52: the sum's last bits are the integer
_THIRD = 1.0 / 3.0
_TWELFTH = 1.0 / 12.0


@lanes
def load_spot(spots: Array, n: int, w: Array) -> None:
    """Lay out one spot."""
    for i in range(5):
        w[at.SPOT + np.uint64(i)] = spots[n, i]


@lanes
def exp_row(w: Array, row: np.uint64, high: float, to: np.uint64) -> None:
    """Fill a row with e^(x - high), x <= high, but never less than e^-300: products stay normal.

    In two loops, each short enough for the compiler to see that its lanes do the same.
    """
    for j in range(LANES):
        x = max(w[row + j] - high, LEAST)
        n = x * _LOG2E + _TO_BITS
        k = n - _TO_BITS
        w[to + j] = x - k * _LN2_HIGH - k * _LN2_LOW
        w[at.SPARE + j] = n
    for j in range(LANES):
        r, n = w[to + j], w[at.SPARE + j]
        r2 = r * r
        r4 = r2 * r2
        low = (1.0 + r) + r2 * (0.5 + r * (1.0 / 6.0))
        mid = (1.0 / 24.0 + r * (1.0 / 120.0)) + r2 * (1.0 / 720.0 + r * (1.0 / 5040.0))
        high_8 = 1.0 / 40320.0 + r * (1.0 / 362880.0)
        high_10 = 1.0 / 3628800.0 + r * (1.0 / 39916800.0)
        top = high_8 + r2 * high_10 + r4 * (1.0 / 479001600.0 + r * (1.0 / 6227020800.0))
        scale = (np.float64(n).view(np.int64) + np.int64(1023)) << np.int64(52)
        w[to + j] = (low + r4 * (mid + r4 * top)) * np.int64(scale).view(np.float64)


@lanes
def load_states(F: Array, base: np.uint64, size: Size, w: Array) -> None:
    """Give each state its lane; idle lanes repeat state 0."""
    width = np.uint64(size[1])
    for j in range(at.STATES):
        fr = base + np.uint64(6 * j if j < size[0] else 0) * width
        for i in range(np.uint64(6)):
            w[at.BEFORE + LANES * i + np.uint64(j)] = F[fr + i * width]


@lanes
def pass_unseen(w: Array) -> None:
    """Fill a column over an interval in which nothing was seen."""
    for j in range(LANES):
        w[at.BRANCH + j], w[at.BRANCH + _1 + j] = w[at.BEFORE + j], w[at.BEFORE + _1 + j]
        w[at.BRANCH + _2 + j] = w[at.BEFORE + _2 + j]
        w[at.BRANCH + _3 + j] = w[at.BEFORE + _3 + j]
        w[at.BRANCH + _4 + j] = w[at.BEFORE + _4 + j]
        w[at.LN_WEIGHT + j] = w[at.BEFORE + _5 + j]
        w[at.ROOT + j], w[at.DISTANCE + j] = 1.0, 0.0
        w[at.UX + j], w[at.UY + j] = 0.0, 0.0
        w[at.IXX + j], w[at.IXY + j], w[at.IYY + j] = 0.0, 0.0, 0.0
        w[at.AXX + j], w[at.AXY + j], w[at.AYX + j], w[at.AYY + j] = 1.0, 0.0, 0.0, 1.0
        w[at.MOTION + j], w[at.MOTION + _1 + j], w[at.MOTION + _2 + j] = 0.0, 0.0, 0.0
        w[at.ERROR + j], w[at.ERROR + _1 + j], w[at.ERROR + _2 + j] = 0.0, 0.0, 0.0


@lanes
def observe(w: Array, h: float) -> None:
    """Condition all states j on one spot, under a state k with h = 2 D_k te: fill its column."""
    x, y, c2 = w[at.SPOT], w[at.SPOT + np.uint64(1)], w[at.SPOT + np.uint64(5)]
    vxx, vyy = c2 * w[at.SPOT + np.uint64(2)], c2 * w[at.SPOT + np.uint64(3)]
    vxy = c2 * w[at.SPOT + np.uint64(4)]
    half, third, twelfth = 0.5 * h, _THIRD * h, _TWELFTH * h
    for j in range(LANES):
        mx, my = w[at.BEFORE + j], w[at.BEFORE + _1 + j]
        pxx, pxy, pyy = w[at.BEFORE + _2 + j], w[at.BEFORE + _3 + j], w[at.BEFORE + _4 + j]
        sxx, sxy, syy = pxx + third + vxx, pxy + vxy, pyy + third + vyy
        root = 1.0 / np.sqrt(sxx * syy - sxy * sxy)
        inverse = root * root
        ixx, ixy, iyy = syy * inverse, -sxy * inverse, sxx * inverse
        rx, ry = x - mx, y - my
        ux, uy = ixx * rx + ixy * ry, ixy * rx + iyy * ry
        distance = rx * ux + ry * uy
        cxx, cyy = pxx + half, pyy + half
        gxx, gxy = cxx * ixx + pxy * ixy, cxx * ixy + pxy * iyy
        gyx, gyy = pxy * ixx + cyy * ixy, pxy * ixy + cyy * iyy
        axx, axy, ayx, ayy = 1.0 - gxx, -gxy, -gyx, 1.0 - gyy
        w[at.ROOT + j], w[at.DISTANCE + j] = root, distance
        w[at.LN_WEIGHT + j] = w[at.BEFORE + _5 + j] - 0.5 * distance - LN_2PI
        w[at.UX + j], w[at.UY + j] = ux, uy
        w[at.IXX + j], w[at.IXY + j], w[at.IYY + j] = ixx, ixy, iyy
        w[at.AXX + j], w[at.AXY + j], w[at.AYX + j], w[at.AYY + j] = axx, axy, ayx, ayy
        kxx, kxy, kyx, kyy = 1.0 - 0.5 * gxx, -0.5 * gxy, -0.5 * gyx, 1.0 - 0.5 * gyy
        nxx = h * (kxx * kxx + kxy * kxy) + twelfth * (gxx * gxx + gxy * gxy)
        nxy = h * (kxx * kyx + kxy * kyy) + twelfth * (gxx * gyx + gxy * gyy)
        nyy = h * (kyx * kyx + kyy * kyy) + twelfth * (gyx * gyx + gyy * gyy)
        exx, exy = gxx * vxx + gxy * vxy, gxx * vxy + gxy * vyy  # G V
        eyx, eyy = gyx * vxx + gyy * vxy, gyx * vxy + gyy * vyy
        fxx, fxy, fyy = exx * gxx + exy * gxy, exx * gyx + exy * gyy, eyx * gyx + eyy * gyy
        txx, txy = axx * pxx + axy * pxy, axx * pxy + axy * pyy  # A P
        tyx, tyy = ayx * pxx + ayy * pxy, ayx * pxy + ayy * pyy
        w[at.MOTION + j], w[at.MOTION + _1 + j], w[at.MOTION + _2 + j] = nxx, nxy, nyy
        w[at.ERROR + j], w[at.ERROR + _1 + j], w[at.ERROR + _2 + j] = fxx, fxy, fyy
        w[at.BRANCH + j] = mx + cxx * ux + pxy * uy
        w[at.BRANCH + _1 + j] = my + pxy * ux + cyy * uy
        w[at.BRANCH + _2 + j] = txx * axx + txy * axy + nxx + fxx
        w[at.BRANCH + _3 + j] = txx * ayx + txy * ayy + nxy + fxy
        w[at.BRANCH + _4 + j] = tyx * ayx + tyy * ayy + nyy + fyy


@lanes
def refine_branches(w: Array, h: float) -> None:
    """Fill the column's means over the exposure: Q in the place of C, and no motion after it."""
    c2, third = w[at.SPOT + np.uint64(5)], _THIRD * h
    vxx, vyy = c2 * w[at.SPOT + np.uint64(2)], c2 * w[at.SPOT + np.uint64(3)]
    vxy = c2 * w[at.SPOT + np.uint64(4)]
    for j in range(LANES):
        qxy = w[at.BEFORE + _3 + j]
        qxx, qyy = w[at.BEFORE + _2 + j] + third, w[at.BEFORE + _4 + j] + third
        ux, uy = w[at.UX + j], w[at.UY + j]
        ixx, ixy, iyy = w[at.IXX + j], w[at.IXY + j], w[at.IYY + j]
        gxx, gxy = qxx * ixx + qxy * ixy, qxx * ixy + qxy * iyy
        gyx, gyy = qxy * ixx + qyy * ixy, qxy * ixy + qyy * iyy
        axx, axy, ayx, ayy = 1.0 - gxx, -gxy, -gyx, 1.0 - gyy
        txx, txy = axx * qxx + axy * qxy, axx * qxy + axy * qyy
        tyx, tyy = ayx * qxx + ayy * qxy, ayx * qxy + ayy * qyy
        exx, exy = gxx * vxx + gxy * vxy, gxx * vxy + gxy * vyy
        eyx, eyy = gyx * vxx + gyy * vxy, gyx * vxy + gyy * vyy
        w[at.REFINED + j] = w[at.BEFORE + j] + qxx * ux + qxy * uy
        w[at.REFINED + _1 + j] = w[at.BEFORE + _1 + j] + qxy * ux + qyy * uy
        w[at.REFINED + _2 + j] = txx * axx + txy * axy + exx * gxx + exy * gxy
        w[at.REFINED + _3 + j] = txx * ayx + txy * ayy + exx * gyx + exy * gyy
        w[at.REFINED + _4 + j] = tyx * ayx + tyy * ayy + eyx * gyx + eyy * gyy


@lanes
def share_column(w: Array, k: int, n_states: int) -> None:
    """Turn the column's weights into p(j | k); leave the log weight of the merged state."""
    high = -math.inf
    for j in range(n_states):
        weight = w[at.LN_WEIGHT + np.uint64(j)] + w[at.LN_T + np.uint64(at.STATES * k + j)]
        w[at.LN_WEIGHT + np.uint64(j)] = weight
        high = max(high, weight)
    for j in range(n_states, at.STATES):
        w[at.LN_WEIGHT + np.uint64(j)] = NEVER
    exp_row(w, at.LN_WEIGHT, high, at.P)
    for j in range(LANES):
        w[at.P + j] *= w[at.ROOT + j]
    total = w[at.P] + w[at.P + np.uint64(1)] + w[at.P + np.uint64(2)] + w[at.P + np.uint64(3)]
    inverse = 1.0 / total
    for j in range(LANES):
        w[at.P + j] *= inverse
    for j in range(n_states):
        w[at.BACK + np.uint64(at.STATES * k + j)] = w[at.P + np.uint64(j)]
    w[at.AFTER + _5 + np.uint64(k)] = high + math.log(total)


@lanes
def weigh(w: Array, row: np.uint64) -> float:
    """Return the mean of a row over the branches."""
    total = w[at.P] * w[row]
    for j in range(1, at.STATES):
        total += w[at.P + np.uint64(j)] * w[row + np.uint64(j)]
    return total


@lanes
def match_moments(w: Array, k: int) -> None:
    """Match the column's moments into state k, and say how far each branch is off."""
    mx, my = weigh(w, at.BRANCH), weigh(w, at.BRANCH + _1)
    for j in range(LANES):
        x, y = w[at.BRANCH + j] - mx, w[at.BRANCH + _1 + j] - my
        w[at.OFF + j], w[at.OFF + _1 + j] = x, y
        w[at.OFF + _2 + j] = w[at.BRANCH + _2 + j] + x * x
        w[at.OFF + _3 + j] = w[at.BRANCH + _3 + j] + x * y
        w[at.OFF + _4 + j] = w[at.BRANCH + _4 + j] + y * y
    pxx, pxy, pyy = weigh(w, at.OFF + _2), weigh(w, at.OFF + _3), weigh(w, at.OFF + _4)
    for j in range(LANES):
        w[at.OFF + _2 + j] -= pxx
        w[at.OFF + _3 + j] -= pxy
        w[at.OFF + _4 + j] -= pyy
    to = at.AFTER + np.uint64(k)
    w[to], w[to + _1], w[to + _2], w[to + _3], w[to + _4] = mx, my, pxx, pxy, pyy


@lanes
def match_means(w: Array, k: int) -> None:
    """Match the moments of the column's means over the exposure."""
    mx, my = weigh(w, at.REFINED), weigh(w, at.REFINED + _1)
    for j in range(LANES):
        x, y = w[at.REFINED + j] - mx, w[at.REFINED + _1 + j] - my
        w[at.REFINED + _2 + j] += x * x
        w[at.REFINED + _3 + j] += x * y
        w[at.REFINED + _4 + j] += y * y
    to = at.MEAN + np.uint64(k)
    w[to], w[to + _1] = mx, my
    w[to + _2], w[to + _3] = weigh(w, at.REFINED + _2), weigh(w, at.REFINED + _3)
    w[to + _4] = weigh(w, at.REFINED + _4)
