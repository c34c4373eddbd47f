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

Symbols: F filter array (K, 6, duals), w the rows of `layout`, p = p(j | k).
"""

from __future__ import annotations

import numpy as np

from livespt.infer import layout as at
from livespt.infer.arrays import LNW, PXX, PXY, PYY, Array
from livespt.infer.layout import LANES
from livespt.jit import inlined, lanes

_1, _2, _3, _4, _5 = (np.uint64(at.STATES * i) for i in range(1, 6))
_T1, _T2, _T3, _T4, _T5, _T6 = (np.uint64(at.MOST * i) for i in range(1, 7))
_THIRD = 1.0 / 3.0


@inlined
def index_of_c(n_states: int) -> int:
    """Return the place of ln c in a dual."""
    return n_states * n_states + n_states + 1


@inlined
def start_tangents(F: Array, k: int, blur: float, c2: float, spot: Array) -> None:
    """Differentiate the first covariance c^2 V + 2 D te / 3."""
    last = index_of_c(F.shape[0])
    F[k, PXX, 1 + k] += blur
    F[k, PYY, 1 + k] += blur
    F[k, PXX, last] += 2.0 * c2 * spot[2]
    F[k, PYY, last] += 2.0 * c2 * spot[3]
    F[k, PXY, last] += 2.0 * c2 * spot[4]


@lanes
def load_tangents(F: Array, ln_T: Array, w: Array) -> None:
    """Lay out the derivatives of all states, with what the logits of row j do to state j."""
    n_states, _, n_duals = F.shape
    if n_duals == 1:
        return
    for j in range(n_states):
        for i in range(6):
            row = at.TANGENT + np.uint64(at.MOST * (6 * j + i))
            for q in range(np.uint64(n_duals)):
                w[row + q] = F[j, i, q]
        row = at.TANGENT + np.uint64(at.MOST * (6 * j + LNW))
        first = 1 + n_states + j * (n_states - 1)
        for q in range(first, first + n_states - 1):
            w[row + np.uint64(q)] += ln_T[j, j, q]


@lanes
def carry_column(F: Array, k: int, h: float, dc2: float, spot: Array, w: Array) -> None:
    """Write the derivatives of state k, whose column lies in w; those of its weight lack the norm.

    h = 2 D_k te and dc2 = d c^2 / d ln c, both 0 where nothing was seen.
    """
    n_states, _, n_duals = F.shape
    if n_duals == 1:
        return
    n = np.uint64(n_duals)
    for i in range(np.uint64(6 * at.MOST)):
        w[at.CARRIED + i] = 0.0
    carry_branch(w, np.uint64(0), at.TANGENT, n)
    if n_states > 1:  # written out: the compiler must know where each state's rows lie
        carry_branch(w, np.uint64(1), at.TANGENT + _T6, n)
    if n_states > 2:
        carry_branch(w, np.uint64(2), at.TANGENT + _T6 + _T6, n)
    if n_states > 3:
        carry_branch(w, np.uint64(3), at.TANGENT + _T6 + _T6 + _T6, n)
    add_switching(w, k, n_states)
    if h > 0.0:
        fill_terms(w, spot, h, dc2)
        for i in range(6):
            row = at.CARRIED + np.uint64(at.MOST * i)
            w[row + np.uint64(1 + k)] += sum_lanes(w, i)
            w[row + np.uint64(index_of_c(n_states))] += sum_lanes(w, 6 + i)
    for i in range(6):
        row = at.CARRIED + np.uint64(at.MOST * i)
        for q in range(n):
            F[k, i, q] = w[row + q]


@lanes
def carry_branch(w: Array, j: np.uint64, fr: np.uint64, n: np.uint64) -> None:
    """Add branch j to the column's derivatives, but for what the step's own parameters do."""
    p, ux, uy = w[at.P + j], w[at.UX + j], w[at.UY + j]
    zxx, zyy = 0.5 * (ux * ux - w[at.IXX + j]), 0.5 * (uy * uy - w[at.IYY + j])
    zxy = ux * uy - w[at.IXY + j]
    axx, axy, ayx, ayy = w[at.AXX + j], w[at.AXY + j], w[at.AYX + j], w[at.AYY + j]
    x, y = w[at.OFF + j], w[at.OFF + _1 + j]
    exx, exy, eyy = w[at.OFF + _2 + j], w[at.OFF + _3 + j], w[at.OFF + _4 + j]
    for q in range(n):
        mx, my = w[fr + q], w[fr + _T1 + q]
        pxx, pxy, pyy = w[fr + _T2 + q], w[fr + _T3 + q], w[fr + _T4 + q]
        weight = w[fr + _T5 + q] + ux * mx + uy * my
        weight = p * (weight + zxx * pxx + zxy * pxy + zyy * pyy)
        tx, ty = mx + pxx * ux + pxy * uy, my + pxy * ux + pyy * uy
        nx, ny = p * (axx * tx + axy * ty), p * (ayx * tx + ayy * ty)
        bxx, bxy = axx * pxx + axy * pxy, axx * pxy + axy * pyy  # A dP
        byx, byy = ayx * pxx + ayy * pxy, ayx * pxy + ayy * pyy
        w[at.CARRIED + q] += nx + weight * x
        w[at.CARRIED + _T1 + q] += ny + weight * y
        w[at.CARRIED + _T2 + q] += p * (bxx * axx + bxy * axy) + weight * exx + 2.0 * x * nx
        w[at.CARRIED + _T3 + q] += p * (bxx * ayx + bxy * ayy) + weight * exy + x * ny + y * nx
        w[at.CARRIED + _T4 + q] += p * (byx * ayx + byy * ayy) + weight * eyy + 2.0 * y * ny
        w[at.CARRIED + _T5 + q] += weight


@lanes
def add_switching(w: Array, k: int, n_states: int) -> None:
    """Add what the logit of (j -> k) does to the weight of that branch alone."""
    for j in range(n_states):
        if j != k:
            q = 1 + n_states + j * (n_states - 1) + k - (1 if k > j else 0)
            lane, to = np.uint64(j), at.CARRIED + np.uint64(q)
            p = w[at.P + lane]
            w[to] += p * w[at.OFF + lane]
            w[to + _T1] += p * w[at.OFF + _1 + lane]
            w[to + _T2] += p * w[at.OFF + _2 + lane]
            w[to + _T3] += p * w[at.OFF + _3 + lane]
            w[to + _T4] += p * w[at.OFF + _4 + lane]
            w[to + _T5] += p


@lanes
def fill_terms(w: Array, spot: Array, h: float, dc2: float) -> None:
    """Fill what ln D_k and ln c do to each branch in this step itself."""
    vxx, vyy, vxy = dc2 * spot[2], dc2 * spot[3], dc2 * spot[4]
    half, third, t, u = 0.5 * h, _THIRD * h, at.TERMS, at.TERMS + _3 + _3
    for j in range(LANES):
        p, ux, uy = w[at.P + j], w[at.UX + j], w[at.UY + j]
        zxx, zyy = 0.5 * (ux * ux - w[at.IXX + j]), 0.5 * (uy * uy - w[at.IYY + j])
        zxy = ux * uy - w[at.IXY + j]
        gxx, gxy, gyx, gyy = 1.0 - w[at.AXX + j], -w[at.AXY + j], -w[at.AYX + j], 1.0 - w[at.AYY + j]
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
def sum_lanes(w: Array, term: int) -> float:
    """Return the sum of a row of terms."""
    row = at.TERMS + np.uint64(at.STATES * term)
    total = w[row]
    for j in range(1, at.STATES):
        total += w[row + np.uint64(j)]
    return total


@lanes
def take_score(F: Array, w: Array) -> None:
    """Fill the score, and take it off the weights' derivatives (the weights are normalised)."""
    n_states, _, n_duals = F.shape
    if n_duals == 1:
        return
    evidence, n = w[at.SCORE], np.uint64(n_duals)
    for q in range(n):
        w[at.SCORE + q] = 0.0
    for k in range(n_states):
        share = w[at.SHARE + np.uint64(k)]
        for q in range(n):
            w[at.SCORE + q] += share * F[k, LNW, q]
    for k in range(n_states):
        for q in range(n):
            F[k, LNW, q] -= w[at.SCORE + q]
    w[at.SCORE] = evidence
