"""The derivatives of one step in all parameters, carried along with it, side by side.

At the gain G the covariance P' of a branch is at its least, so that dG drops out of it; with
A = I - G, u = S^-1 r and Z = (u u' - S^-1) / 2 the derivatives of branch (j -> k) are

    dm' = A (dm + dP u) + dh (u/2 - G u/3) - G dV u
    dP' = A dP A' + (dh / h) [motion's share of P'] + G dV G'
    d ln W = d ln w_j + d ln T_jk + u' dm + tr Z (dP + dh/3 + dV)

where dh is there for ln D_k alone and dV = 2 c^2 V for ln c alone; of d ln T_jk, for the logits
l_jm of row j, - T_jm belongs to j and + 1 (m = k) to the pair. What is left is the same for every
parameter. With x the branch's mean and E its second moment off those of the merged state,

    dm_k = sum_j p_jk (dm' + d ln W x),   dP_k = sum_j p_jk (dP' + d ln W E + x dm'' + dm' x')

Symbols: F, base, w as in `stepkernels`; p = p(j | k).
"""

from __future__ import annotations

import numpy as np

from livespt.infer import layout as at
from livespt.infer.arrays import LNW, PXX, PXY, PYY, Array, Size
from livespt.infer.layout import DUALS, HALF, LANES
from livespt.jit import inlined, lanes

_1, _2, _3, _4, _5 = (np.uint64(at.STATES * i) for i in range(1, 6))
_T1, _T2, _T3, _T4, _T5, _T6 = (np.uint64(at.BLOCK * i) for i in range(1, 7))
_STATES = np.uint64(6 * at.STATES * at.BLOCK)  # from one block of all states to the next
_ONE, _TWO, _THREE, _FOUR = (np.uint64(i) for i in range(1, 5))
_LNW = np.uint64(LNW)
_THIRD = 1.0 / 3.0
#: In the place of h, for an interval in which nothing was seen: an exposure may be 0.
UNSEEN = -1.0


@inlined
def index_of_c(n_states: int) -> int:
    """Return the place of ln c in a dual."""
    return n_states * n_states + n_states + 1


@lanes
def start_tangents(F: Array, fr: np.uint64, k: int, n_states: int, blur: float, w: Array) -> None:
    """Differentiate the first covariance c^2 V + 2 D te / 3 of state k, which lies at `fr`."""
    last = index_of_c(n_states)
    width = np.uint64(at.BLOCK if last < at.BLOCK else at.MOST)
    xx, yy = fr + np.uint64(PXX) * width, fr + np.uint64(PYY) * width
    F[xx + np.uint64(1 + k)] += blur
    F[yy + np.uint64(1 + k)] += blur
    c2 = 2.0 * w[at.SPOT + np.uint64(5)]
    F[xx + np.uint64(last)] += c2 * w[at.SPOT + np.uint64(2)]
    F[yy + np.uint64(last)] += c2 * w[at.SPOT + np.uint64(3)]
    F[fr + np.uint64(PXY) * width + np.uint64(last)] += c2 * w[at.SPOT + np.uint64(4)]


@lanes
def load_tangents(F: Array, base: np.uint64, size: Size, w: Array) -> None:
    """Lay out the derivatives of all states, with what the logits of row j do to state j."""
    n_states, n_duals = size
    if n_duals == 1:
        return
    width = np.uint64(n_duals)
    for r in range(np.uint64(6 * n_states)):
        copy_block(F, base + r * width, w, at.TANGENT + r * DUALS)
        if n_duals > at.BLOCK:
            copy_block(F, base + r * width + DUALS, w, at.TANGENT + _STATES + r * DUALS)
    for j in range(n_states):
        q = 1 + n_states + j * (n_states - 1)
        for m in range(n_states):
            if m != j:
                to = place(at.TANGENT, _STATES, np.uint64(6 * j + LNW), q)
                w[to] -= w[at.T + np.uint64(at.STATES * j + m)]
                q += 1


@inlined
def place(start: np.uint64, block: np.uint64, row: np.uint64, q: int) -> np.uint64:
    """Return where derivative q of a row lies, blocks being `block` apart."""
    return start + np.uint64(q // at.BLOCK) * block + row * DUALS + np.uint64(q % at.BLOCK)


@lanes
def carry_column(F: Array, base: np.uint64, size: Size, k: int, h: float, w: Array) -> None:
    """Write the derivatives of state k, whose column lies in w, but for those of its weight.

    h = 2 D_k te, or `UNSEEN`.
    """
    n_states, n_duals = size
    if n_duals == 1:
        return
    carry_branches(w, n_states, at.TANGENT, at.CARRIED)
    if n_duals > at.BLOCK:
        carry_branches(w, n_states, at.TANGENT + _STATES, at.CARRIED + _T6)
    to = base + np.uint64(6 * k * n_duals)
    store_column(F, to, n_duals, k, w)
    # One by one only now: numbers just written singly are slow to read side by side.
    add_switching(F, to, size, k, w)
    if h >= 0.0:
        fill_terms(w, h)
        add_terms(F, to, size, k, 1 + k, at.TERMS, w)
        add_terms(F, to, size, k, index_of_c(n_states), at.TERMS + _3 + _3, w)


@lanes
def store_column(F: Array, to: np.uint64, n_duals: int, k: int, w: Array) -> None:
    """Copy the derivatives of state k to where they stay."""
    width, weight = np.uint64(n_duals), at.WEIGHTS + np.uint64(k) * DUALS
    for i in range(np.uint64(5)):
        copy_block(w, at.CARRIED + i * DUALS, F, to + i * width)
        if n_duals > at.BLOCK:
            copy_block(w, at.CARRIED + _T6 + i * DUALS, F, to + i * width + DUALS)
    copy_block(w, at.CARRIED + _T5, w, weight)
    if n_duals > at.BLOCK:
        copy_block(w, at.CARRIED + _T6 + _T5, w, weight + _T4)


@lanes
def copy_block(source: Array, fr: np.uint64, target: Array, to: np.uint64) -> None:
    """Copy a block, read before it is written: only so are the copies packed."""
    for half in range(2):
        i, o = fr + np.uint64(half) * HALF, to + np.uint64(half) * HALF
        a, b, c, d = source[i], source[i + _ONE], source[i + _TWO], source[i + _THREE]
        i += _FOUR
        e, f, g, h = source[i], source[i + _ONE], source[i + _TWO], source[i + _THREE]
        target[o], target[o + _ONE], target[o + _TWO], target[o + _THREE] = a, b, c, d
        o += _FOUR
        target[o], target[o + _ONE], target[o + _TWO], target[o + _THREE] = e, f, g, h


@lanes
def carry_branches(w: Array, n_states: int, fr: np.uint64, to: np.uint64) -> None:
    """Fill one block of a column's derivatives, but for what the step's own parameters do."""
    for i in range(_T6):
        w[to + i] = 0.0
    halves = 2 if n_states > 2 else 1  # two states need no more than half a block
    carry_branch(w, np.uint64(0), fr, to, halves)
    if n_states > 1:  # written out: the compiler must know where each state's rows lie
        carry_branch(w, np.uint64(1), fr + _T6, to, halves)
    if n_states > 2:
        carry_branch(w, np.uint64(2), fr + _T6 + _T6, to, halves)
    if n_states > 3:
        carry_branch(w, np.uint64(3), fr + _T6 + _T6 + _T6, to, halves)


@lanes
def carry_branch(w: Array, j: np.uint64, fr: np.uint64, to: np.uint64, halves: int) -> None:
    """Add branch j to a block of the column's derivatives."""
    p, ux, uy = w[at.P + j], w[at.UX + j], w[at.UY + j]
    zxx, zyy = 0.5 * (ux * ux - w[at.IXX + j]), 0.5 * (uy * uy - w[at.IYY + j])
    zxy = ux * uy - w[at.IXY + j]
    axx, axy, ayx, ayy = w[at.AXX + j], w[at.AXY + j], w[at.AYX + j], w[at.AYY + j]
    x, y = w[at.OFF + j], w[at.OFF + _1 + j]
    exx, exy, eyy = w[at.OFF + _2 + j], w[at.OFF + _3 + j], w[at.OFF + _4 + j]
    for half in range(halves):
        f, t = fr + np.uint64(half) * HALF, to + np.uint64(half) * HALF
        for q in range(HALF):
            mx, my = w[f + q], w[f + _T1 + q]
            pxx, pxy, pyy = w[f + _T2 + q], w[f + _T3 + q], w[f + _T4 + q]
            weight = w[f + _T5 + q] + ux * mx + uy * my
            weight = p * (weight + zxx * pxx + zxy * pxy + zyy * pyy)
            tx, ty = mx + pxx * ux + pxy * uy, my + pxy * ux + pyy * uy
            nx, ny = p * (axx * tx + axy * ty), p * (ayx * tx + ayy * ty)
            bxx, bxy = axx * pxx + axy * pxy, axx * pxy + axy * pyy  # A dP
            byx, byy = ayx * pxx + ayy * pxy, ayx * pxy + ayy * pyy
            w[t + q] += nx + weight * x
            w[t + _T1 + q] += ny + weight * y
            w[t + _T2 + q] += p * (bxx * axx + bxy * axy) + weight * exx + 2.0 * x * nx
            w[t + _T3 + q] += p * (bxx * ayx + bxy * ayy) + weight * exy + x * ny + y * nx
            w[t + _T4 + q] += p * (byx * ayx + byy * ayy) + weight * eyy + 2.0 * y * ny
            w[t + _T5 + q] += weight


@lanes
def add_switching(F: Array, to: np.uint64, size: Size, k: int, w: Array) -> None:
    """Add what the logit of (j -> k) does to the weight of that branch alone."""
    n_states, width = size[0], np.uint64(size[1])
    for j in range(n_states):
        if j != k:
            q = 1 + n_states + j * (n_states - 1) + k - (1 if k > j else 0)
            lane, row = np.uint64(j), to + np.uint64(q)
            p = w[at.P + lane]
            for i in range(np.uint64(5)):
                F[row + i * width] += p * w[at.OFF + LANES * i + lane]
            w[place(at.WEIGHTS, _T4, np.uint64(k), q)] += p


@lanes
def add_terms(
    F: Array, to: np.uint64, size: Size, k: int, q: int, terms: np.uint64, w: Array
) -> None:
    """Add up a parameter's own terms over the branches."""
    width, row = np.uint64(size[1]), to + np.uint64(q)
    for i in range(np.uint64(5)):
        F[row + i * width] += sum_lanes(w, terms + LANES * i)
    w[place(at.WEIGHTS, _T4, np.uint64(k), q)] += sum_lanes(w, terms + _5)


@lanes
def fill_terms(w: Array, h: float) -> None:
    """Fill what ln D_k and ln c do to each branch in this step itself."""
    dc2 = 2.0 * w[at.SPOT + np.uint64(5)]
    vxx, vyy = dc2 * w[at.SPOT + np.uint64(2)], dc2 * w[at.SPOT + np.uint64(3)]
    vxy = dc2 * w[at.SPOT + np.uint64(4)]
    half, third, t, u = 0.5 * h, _THIRD * h, at.TERMS, at.TERMS + _3 + _3
    for j in range(LANES):
        p, ux, uy = w[at.P + j], w[at.UX + j], w[at.UY + j]
        zxx, zyy = 0.5 * (ux * ux - w[at.IXX + j]), 0.5 * (uy * uy - w[at.IYY + j])
        zxy = ux * uy - w[at.IXY + j]
        gxx, gxy = 1.0 - w[at.AXX + j], -w[at.AXY + j]
        gyx, gyy = -w[at.AYX + j], 1.0 - w[at.AYY + j]
        x, y = w[at.OFF + j], w[at.OFF + _1 + j]
        exx, exy, eyy = w[at.OFF + _2 + j], w[at.OFF + _3 + j], w[at.OFF + _4 + j]
        nx = p * (half * ux - third * (gxx * ux + gxy * uy))
        ny = p * (half * uy - third * (gyx * ux + gyy * uy))
        weight = p * third * (zxx + zyy)
        w[t + j], w[t + _1 + j] = nx + weight * x, ny + weight * y
        w[t + _2 + j] = p * w[at.MOTION + j] + weight * exx + 2.0 * x * nx
        w[t + _3 + j] = p * w[at.MOTION + _1 + j] + weight * exy + x * ny + y * nx
        w[t + _4 + j] = p * w[at.MOTION + _2 + j] + weight * eyy + 2.0 * y * ny
        w[t + _5 + j] = weight
        vx, vy = vxx * ux + vxy * uy, vxy * ux + vyy * uy  # dV u
        nx, ny = -p * (gxx * vx + gxy * vy), -p * (gyx * vx + gyy * vy)
        weight = p * (zxx * vxx + zxy * vxy + zyy * vyy)
        w[u + j], w[u + _1 + j] = nx + weight * x, ny + weight * y
        w[u + _2 + j] = 2.0 * p * w[at.ERROR + j] + weight * exx + 2.0 * x * nx
        w[u + _3 + j] = 2.0 * p * w[at.ERROR + _1 + j] + weight * exy + x * ny + y * nx
        w[u + _4 + j] = 2.0 * p * w[at.ERROR + _2 + j] + weight * eyy + 2.0 * y * ny
        w[u + _5 + j] = weight


@lanes
def sum_lanes(w: Array, row: np.uint64) -> float:
    """Return the sum of a row."""
    total = w[row]
    for j in range(1, at.STATES):
        total += w[row + np.uint64(j)]
    return total


@lanes
def take_score(F: Array, base: np.uint64, size: Size, w: Array) -> None:
    """Fill the score, and take it off the weights' derivatives (the weights are normalised)."""
    n_states, n_duals = size
    if n_duals == 1:
        return
    evidence, width = w[at.SCORE], np.uint64(n_duals)
    score_block(w, at.WEIGHTS, at.SCORE)
    if n_duals > at.BLOCK:
        score_block(w, at.WEIGHTS + _T4, at.SCORE + DUALS)
    for k in range(np.uint64(n_states)):
        to, fr = base + (np.uint64(6) * k + _LNW) * width, at.WEIGHTS + k * DUALS
        copy_block(w, fr, F, to)
        if n_duals > at.BLOCK:
            copy_block(w, fr + _T4, F, to + DUALS)
    w[at.SCORE] = evidence


@lanes
def score_block(w: Array, fr: np.uint64, to: np.uint64) -> None:
    """Fill one block of the score, all four states written out; idle ones weigh nothing."""
    a, b = w[at.SHARE], w[at.SHARE + np.uint64(1)]
    c, d = w[at.SHARE + np.uint64(2)], w[at.SHARE + np.uint64(3)]
    for half in range(2):
        f, t = fr + np.uint64(half) * HALF, to + np.uint64(half) * HALF
        for q in range(HALF):
            mean = a * w[f + q] + b * w[f + _T1 + q] + c * w[f + _T2 + q] + d * w[f + _T3 + q]
            w[t + q] = mean
            w[f + q] -= mean
            w[f + _T1 + q] -= mean
            w[f + _T2 + q] -= mean
            w[f + _T3 + q] -= mean
