"""One step of the switching filter, written once: start, diffuse, branch, merge (SCIENCE 3, 4).

State: position at the END of an exposure, one Gaussian (m, P) and log weight per motion state.
During an exposure te under D the position moves by b and its mean over the exposure is off the
start by a:

    Var b = h = 2 D te,   Var a = h / 3,   Cov(a, b) = h / 2;   x = start + a + e,  Cov e = c^2 V

so, with C = P + h/2, S = P + h/3 + c^2 V, r = x - m, G = C S^-1, A = I - G:

    m' = m + G r,   P' = A P A' + h [(I - G/2) (I - G/2)' + G G' / 12] + G c^2 V G'

(sums of squares: no rounding makes P' less than positive), and the mean over the exposure has
Q = P + h/3 in the place of C (a Kalman filter with correlated noise: Berglund's likelihood
exactly). The dark rest of a frame adds 2 D dark. Branch (j -> k):

    ln W_jk = ln w_j + ln T_jk + ln N(x; m_j, S_jk)

merged over j with the between-component variance. The rows of `layout` hold all numbers of a step;
`tangentkernels` carries the derivatives through the same step.

Symbols: F the filters of all tracks, flat, one of them (K, 6, duals) from `base` on; w the rows. No
function here slices an array: counting references to the slice costs more than the step (measured).
"""

from __future__ import annotations

import math

import numpy as np

from livespt.infer import layout as at
from livespt.infer.arrays import LNW, PXX, PXY, PYY, Array, Motion, Size, Times
from livespt.infer.layout import LANES
from livespt.infer.tangentkernels import (
    carry_column,
    load_tangents,
    start_tangents,
    take_score,
)
from livespt.jit import inlined, lanes

LN_2PI = math.log(2 * math.pi)
#: Bound on the steps of a gap; longer gaps take longer steps (the chain has forgotten by then).
MAX_STEPS = 100
#: A clock's jitter may make the dark time slightly negative; below -te/4 P could lose its sign.
MIN_DARK = -0.2
_1, _2, _3, _4, _5 = (np.uint64(at.STATES * i) for i in range(1, 6))
#: Log weight of a lane without a state: its share is e^-300.
NEVER = -1e300
_LOG2E, _LN2_HIGH, _LN2_LOW = 1.4426950408889634, 6.93145751953125e-1, 1.42860682030941723212e-6
_TO_BITS = 6755399441055744.0  # 1.5 * 2^52: the sum's last bits are the integer
_THIRD = 1.0 / 3.0
_TWELFTH = 1.0 / 12.0


@lanes
def prepare(motion: Motion, w: Array) -> None:
    """Lay out the parameters for the steps to come: once for each setting."""
    n_states = motion.D.shape[0]
    w[at.SPOT + np.uint64(5)] = motion.c2
    for k in range(n_states):
        w[at.D + np.uint64(k)] = motion.D[k]
        for j in range(n_states):
            w[at.LN_T + np.uint64(at.STATES * k + j)] = motion.ln_T[j, k, 0]
            w[at.T + np.uint64(at.STATES * j + k)] = math.exp(motion.ln_T[j, k, 0])


@lanes
def load_spot(spots: Array, n: int, w: Array) -> None:
    """Lay out one spot."""
    for i in range(5):
        w[at.SPOT + np.uint64(i)] = spots[n, i]


@lanes
def start(F: Array, base: np.uint64, te: float, motion: Motion, w: Array) -> None:
    """Begin a track at its first spot under a flat prior: m = x, P = c^2 V + 2 D te / 3."""
    n_states, _, n_duals = motion.ln_T.shape
    width = np.uint64(n_duals)
    for i in range(np.uint64(6 * n_states) * width):
        F[base + i] = 0.0
    for k in range(n_states):
        blur = 2.0 * motion.D[k] * te / 3.0
        fr = base + np.uint64(6 * k) * width
        F[fr], F[fr + width] = w[at.SPOT], w[at.SPOT + np.uint64(1)]
        F[fr + np.uint64(PXX) * width] = motion.c2 * w[at.SPOT + np.uint64(2)] + blur
        F[fr + np.uint64(PYY) * width] = motion.c2 * w[at.SPOT + np.uint64(3)] + blur
        F[fr + np.uint64(PXY) * width] = motion.c2 * w[at.SPOT + np.uint64(4)]
        for q in range(n_duals):
            F[fr + np.uint64(LNW) * width + np.uint64(q)] = motion.ln_begin[k, q]
        if n_duals > 1:
            start_tangents(F, fr, k, n_states, blur, w)


@lanes
def diffuse(F: Array, base: np.uint64, size: Size, dark: float, w: Array) -> None:
    """Let each state diffuse unseen for `dark` seconds."""
    n_states, n_duals = size
    width = np.uint64(n_duals)
    for k in range(n_states):
        grown = 2.0 * w[at.D + np.uint64(k)] * dark
        xx = base + np.uint64(6 * k + PXX) * width
        yy = base + np.uint64(6 * k + PYY) * width
        F[xx] += grown
        F[yy] += grown
        if n_duals > 1:
            F[xx + np.uint64(1 + k)] += grown
            F[yy + np.uint64(1 + k)] += grown


@lanes
def exp(x: float) -> float:
    """Return e^x for x <= 0, never less than e^-300, whose products stay normal: runs in lanes."""
    x = x if x > -300.0 else -300.0
    n = x * _LOG2E + _TO_BITS
    k = n - _TO_BITS
    r = x - k * _LN2_HIGH - k * _LN2_LOW
    e = 1.0 / 479001600.0 + r * (1.0 / 6227020800.0)
    e = 1.0 / 3628800.0 + r * (1.0 / 39916800.0 + r * e)
    e = 1.0 / 40320.0 + r * (1.0 / 362880.0 + r * e)
    e = 1.0 / 720.0 + r * (1.0 / 5040.0 + r * e)
    e = 1.0 / 24.0 + r * (1.0 / 120.0 + r * e)
    e = 1.0 + r * (1.0 + r * (0.5 + r * (1.0 / 6.0 + r * e)))
    scale = np.int64((np.float64(n).view(np.int64) + np.int64(1023)) << np.int64(52))
    return e * scale.view(np.float64)


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
    for j in range(LANES):
        w[at.P + j] = exp(w[at.LN_WEIGHT + j] - high) * w[at.ROOT + j]
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


@lanes
def share_states(n_states: int, w: Array) -> None:
    """Normalise the merged states; w[SCORE] becomes the log-likelihood of the step."""
    weight, top, total = at.AFTER + _5, -math.inf, 0.0
    for k in range(n_states):
        top = max(top, w[weight + np.uint64(k)])
    for k in range(n_states, at.STATES):
        w[weight + np.uint64(k)] = NEVER
    for k in range(LANES):
        w[at.SHARE + k] = exp(w[weight + k] - top)
    for k in range(n_states):
        total += w[at.SHARE + np.uint64(k)]
    evidence, inverse = top + math.log(total), 1.0 / total
    for k in range(LANES):
        w[weight + k] -= evidence
        w[at.SHARE + k] *= inverse
    w[at.SCORE] = evidence


@lanes
def step_unseen(F: Array, base: np.uint64, size: Size, w: Array) -> None:
    """Branch and merge over an interval in which nothing was seen."""
    load_states(F, base, size, w)
    load_tangents(F, base, size, w)
    for k in range(size[0]):
        pass_unseen(w)
        share_column(w, k, size[0])
        match_moments(w, k)
        carry_column(F, base, size, k, 0.0, w)
    store_states(F, base, size, w)


@lanes
def step_seen(F: Array, base: np.uint64, size: Size, te: float, w: Array, refine: bool) -> float:
    """Branch and merge over an exposure that was seen as the spot; return the least r S^-1 r.

    With `refine`, the means over the exposure are filled too.
    """
    load_states(F, base, size, w)
    load_tangents(F, base, size, w)
    nearest = math.inf
    for k in range(size[0]):
        h = 2.0 * w[at.D + np.uint64(k)] * te
        observe(w, h)
        for j in range(LANES):
            nearest = min(nearest, w[at.DISTANCE + j])
        share_column(w, k, size[0])
        match_moments(w, k)
        carry_column(F, base, size, k, h, w)
        if refine:
            refine_branches(w, h)
            match_means(w, k)
    store_states(F, base, size, w)
    return nearest


@lanes
def store_states(F: Array, base: np.uint64, size: Size, w: Array) -> None:
    """Normalise the weights; write the states and the score."""
    share_states(size[0], w)
    take_score(F, base, size, w)
    width = np.uint64(size[1])
    for k in range(size[0]):
        to = base + np.uint64(6 * k) * width
        for i in range(np.uint64(6)):
            F[to + i * width] = w[at.AFTER + LANES * i + np.uint64(k)]


@inlined
def n_steps(elapsed: float, interval: float) -> int:
    """Return how many nominal intervals `elapsed` seconds hold, at least one."""
    return int(min(max(1.0, math.floor(elapsed / interval + 0.5)), MAX_STEPS))


@inlined
def first_dark(elapsed: float, te: float, n: int) -> float:
    """Return the dark rest of an observed frame when the next spot comes n intervals later."""
    return max(elapsed / n - te, MIN_DARK * te)


@lanes
def advance(
    F: Array, base: np.uint64, size: Size, times: Times, n: int, w: Array, refine: bool
) -> float:
    """Take a filter from the end of one exposure through n intervals and the next spot.

    `times` is (elapsed, te before, te now); the n - 1 intervals between two spots switch and
    diffuse unseen. w[SCORE] on is the spot's score, w[PRODUCT] on p(state before | state now).
    Return the least r S^-1 r.
    """
    dark = first_dark(times[0], times[1], n)
    for i in range(n - 1):
        diffuse(F, base, size, dark, w)
        step_unseen(F, base, size, w)
        chain_back(w, size[0], i == 0)
        dark = times[0] / n
    diffuse(F, base, size, dark, w)
    nearest = step_seen(F, base, size, times[2], w, refine)
    chain_back(w, size[0], n == 1)
    return nearest


@lanes
def chain_back(w: Array, n_states: int, afresh: bool) -> None:
    """Multiply p(j | k) of this step onto the product, or begin the product with it.

    Row i of the product is p(state i at the spot before | each state now).
    """
    spare = at.PRODUCT + np.uint64(at.STATES * at.STATES)
    for i in range(n_states):
        row = at.PRODUCT + np.uint64(at.STATES * i)
        for k in range(n_states):
            total = 0.0
            for j in range(n_states):
                before = w[row + np.uint64(j)]
                if afresh:
                    before = 1.0 if i == j else 0.0
                total += before * w[at.BACK + np.uint64(at.STATES * k + j)]
            w[spare + np.uint64(k)] = total
        for k in range(n_states):
            w[row + np.uint64(k)] = w[spare + np.uint64(k)]
