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

Symbols: F filter array (K, 6, duals), see `arrays`; w the rows.
"""

from __future__ import annotations

import math

import numpy as np

from livespt.infer import layout as at
from livespt.infer.arrays import LNW, MX, MY, PXX, PXY, PYY, Array, Motion, Scratch
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
_THIRD = 1.0 / 3.0
_TWELFTH = 1.0 / 12.0


@inlined
def start(F: Array, spot: Array, te: float, motion: Motion) -> None:
    """Begin a track at its first spot under a flat prior: m = x, P = c^2 V + 2 D te / 3."""
    n_states, _, n_duals = F.shape
    F[:] = 0.0
    for k in range(n_states):
        blur = 2.0 * motion.D[k] * te / 3.0
        F[k, MX, 0] = spot[0]
        F[k, MY, 0] = spot[1]
        F[k, PXX, 0] = motion.c2 * spot[2] + blur
        F[k, PYY, 0] = motion.c2 * spot[3] + blur
        F[k, PXY, 0] = motion.c2 * spot[4]
        for q in range(n_duals):
            F[k, LNW, q] = motion.ln_begin[k, q]
        if n_duals > 1:
            start_tangents(F, k, blur, motion.c2, spot)


@inlined
def diffuse(F: Array, dark: float, motion: Motion) -> None:
    """Let each state diffuse unseen for `dark` seconds."""
    n_states, _, n_duals = F.shape
    for k in range(n_states):
        grown = 2.0 * motion.D[k] * dark
        F[k, PXX, 0] += grown
        F[k, PYY, 0] += grown
        if n_duals > 1:
            F[k, PXX, 1 + k] += grown
            F[k, PYY, 1 + k] += grown


@lanes
def load_states(F: Array, w: Array) -> None:
    """Give each state its lane; idle lanes repeat state 0, and never weigh anything."""
    n_states = F.shape[0]
    for i in range(6):
        for j in range(at.STATES):
            w[at.BEFORE + np.uint64(at.STATES * i + j)] = F[j if j < n_states else 0, i, 0]
    for j in range(LANES):
        w[at.P + j] = 0.0


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
def observe(w: Array, spot: Array, h: float, c2: float) -> None:
    """Condition all states j on one spot, under a state k with h = 2 D_k te: fill its column."""
    x, y = spot[0], spot[1]
    vxx, vyy, vxy = c2 * spot[2], c2 * spot[3], c2 * spot[4]
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
def refine_branches(w: Array, spot: Array, h: float, c2: float) -> None:
    """Fill the column's means over the exposure: Q in the place of C, and no motion after it."""
    vxx, vyy, vxy, third = c2 * spot[2], c2 * spot[3], c2 * spot[4], _THIRD * h
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
def share_column(w: Array, k: int, ln_T: Array) -> None:
    """Turn the column's weights into p(j | k); leave the log weight of the merged state."""
    n_states, high = ln_T.shape[0], -math.inf
    for j in range(n_states):
        weight = w[at.LN_WEIGHT + np.uint64(j)] + ln_T[j, k, 0]
        w[at.LN_WEIGHT + np.uint64(j)] = weight
        high = max(high, weight)
    total = 0.0
    for j in range(n_states):
        lane = np.uint64(j)
        share = math.exp(w[at.LN_WEIGHT + lane] - high) * w[at.ROOT + lane]
        w[at.P + lane] = share
        total += share
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
    for k in range(n_states):
        share = math.exp(w[weight + np.uint64(k)] - top)
        w[at.SHARE + np.uint64(k)] = share
        total += share
    evidence, inverse = top + math.log(total), 1.0 / total
    for k in range(n_states):
        w[weight + np.uint64(k)] -= evidence
        w[at.SHARE + np.uint64(k)] *= inverse
    w[at.SCORE] = evidence


@lanes
def step_unseen(F: Array, motion: Motion, w: Array) -> None:
    """Branch and merge over an interval in which nothing was seen."""
    load_states(F, w)
    load_tangents(F, motion.ln_T, w)
    for k in range(F.shape[0]):
        pass_unseen(w)
        share_column(w, k, motion.ln_T)
        match_moments(w, k)
        carry_column(F, k, 0.0, 0.0, F[k, 0], w)
    store_states(F, w)


@lanes
def step_seen(
    F: Array, spot: Array, te: float, motion: Motion, w: Array, refine: bool
) -> float:
    """Branch and merge over an exposure that was seen as `spot`; return the least r S^-1 r.

    With `refine`, the means over the exposure are filled too.
    """
    load_states(F, w)
    load_tangents(F, motion.ln_T, w)
    nearest = math.inf
    for k in range(F.shape[0]):
        h = 2.0 * motion.D[k] * te
        observe(w, spot, h, motion.c2)
        for j in range(LANES):
            nearest = min(nearest, w[at.DISTANCE + j])
        share_column(w, k, motion.ln_T)
        match_moments(w, k)
        carry_column(F, k, h, 2.0 * motion.c2, spot, w)
        if refine:
            refine_branches(w, spot, h, motion.c2)
            match_means(w, k)
    store_states(F, w)
    return nearest


@lanes
def store_states(F: Array, w: Array) -> None:
    """Normalise the weights; write the states and the score."""
    n_states = F.shape[0]
    share_states(n_states, w)
    take_score(F, w)
    for i in range(6):
        for k in range(n_states):
            F[k, i, 0] = w[at.AFTER + np.uint64(at.STATES * i + k)]


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
    F: Array, spot: Array, times: tuple[float, float, float], n: int, motion: Motion,
    work: Scratch, refine: bool,
) -> float:  # fmt: skip
    """Take F from the end of one exposure through n intervals and the next spot.

    `times` is (elapsed, te before, te now); the n - 1 intervals between two spots switch and
    diffuse unseen. `w[SCORE]` on is the spot's score, `work.product` p(state before | state now).
    Return the least r S^-1 r.
    """
    dark = first_dark(times[0], times[1], n)
    for i in range(n - 1):
        diffuse(F, dark, motion)
        step_unseen(F, motion, work.w)
        chain_back(work, i == 0)
        dark = times[0] / n
    diffuse(F, dark, motion)
    nearest = step_seen(F, spot, times[2], motion, work.w, refine)
    chain_back(work, n == 1)
    return nearest


@lanes
def chain_back(work: Scratch, afresh: bool) -> None:
    """Multiply p(j | k) of this step onto `work.product`, or begin the product with it."""
    w, product, row = work.w, work.product, work.row
    n_states = product.shape[0]
    if afresh:
        for j in range(n_states):
            for k in range(n_states):
                product[j, k] = w[at.BACK + np.uint64(at.STATES * k + j)]
        return
    for i in range(n_states):
        for k in range(n_states):
            row[k] = 0.0
            for j in range(n_states):
                row[k] += product[i, j] * w[at.BACK + np.uint64(at.STATES * k + j)]
        for k in range(n_states):
            product[i, k] = row[k]
