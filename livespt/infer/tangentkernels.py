"""The derivatives of one step in all parameters, carried along with it.

At the gain G the covariance P' of a branch is at its least, so that dG drops out of it; with
A = I - G, u = S^-1 r and Z = (u u' - S^-1) / 2 the derivatives of branch (j -> k) are

    dm' = A (dm + dP u) + dh (u/2 - G u/3) - G dV u
    dP' = A dP A' + (dh / h) [motion's share of P'] + G dV G'
    d ln W = d ln w_j + d ln T_jk + u' dm + tr Z (dP + dh/3 + dV)

where dh is there for ln D_k alone and dV = 2 c^2 V for ln c alone; of d ln T_jk, for the logits
l_jm of row j, - T_jm belongs to j and + 1 (m = k) to the pair. What is left is the same for every
parameter. With x the branch's mean and E its second moment off those of the merged state,

    dm_k = sum_j p_jk (dm' + d ln W x),   dP_k = sum_j p_jk (dP' + d ln W E + x dm'' + dm' x')

Each number is that of `WIDTH` tracks side by side. What a parameter does in this step itself goes
into the rows CARRIED first; then the derivatives of the states before are carried through the
branches onto it, and take their own place in F.

Symbols: F, base, w as in `stepkernels`; b where a branch lies; p = p(j | k).
"""

from __future__ import annotations

import numpy as np

from livespt.infer import layout as at
from livespt.infer.arrays import PXX, PXY, PYY, Array, Size
from livespt.infer.columnkernels import branch, store_three
from livespt.jit import inlined, lanes
from livespt.vectors import Vector, fetch, load, spread, store, store_some

_1, _2, _3, _4, _5 = (at.ROW * np.uint64(i) for i in range(1, 6))
_THIRD = 1.0 / 3.0


@inlined
def index_of_c(n_states: int) -> int:
    """Return the place of ln c in a dual."""
    return n_states * n_states + n_states + 1


@inlined
def place(base: np.uint64, n_states: int, q: int, k: int) -> np.uint64:
    """Return where the derivatives of state k in parameter q lie in a block (q = 0: values)."""
    return base + np.uint64(q * n_states + k) * at.STATE


@lanes
def start_tangents(F: Array, base: np.uint64, lane: int, k: int, n_states: int, blur: float,
                   w: Array) -> None:  # fmt: skip
    """Differentiate the first covariance c^2 V + 2 D te / 3 of state k of one track."""
    own, last = np.uint64(lane), index_of_c(n_states)
    fr = place(base, n_states, 1 + k, k) + own
    F[fr + at.ROW * np.uint64(PXX)] += blur
    F[fr + at.ROW * np.uint64(PYY)] += blur
    c2, fr = 2.0 * w[at.C2], place(base, n_states, last, k) + own
    F[fr + at.ROW * np.uint64(PXX)] += c2 * w[at.SPOT + _2 + own]
    F[fr + at.ROW * np.uint64(PYY)] += c2 * w[at.SPOT + _3 + own]
    F[fr + at.ROW * np.uint64(PXY)] += c2 * w[at.SPOT + _4 + own]


@lanes
def prepare_column(w: Array, k: int, n_states: int, h: Vector) -> None:
    """Fill Z, p A and E of a merged column, and what ln D_k and ln c do to it; h = 2 D_k te."""
    dc2 = 2.0 * w[at.C2]
    vxx, vyy = dc2 * load(w, at.SPOT + _2), dc2 * load(w, at.SPOT + _3)
    vxy = dc2 * load(w, at.SPOT + _4)
    half, third = 0.5 * h, _THIRD * h
    to, to_c = at.D_TERMS + np.uint64(k) * at.STATE, at.C_TERMS + np.uint64(k) * at.STATE
    merged = at.AFTER + np.uint64(k) * at.STATE
    pxx, pxy, pyy = load(w, merged + _2), load(w, merged + _3), load(w, merged + _4)
    for i in range(np.uint64(6)):
        store(w, to + i * at.ROW, spread(0.0))
        store(w, to_c + i * at.ROW, spread(0.0))
    for j in range(n_states):
        b = branch(k, j)
        p, ux, uy = load(w, b), load(w, b + at.U), load(w, b + at.U + _1)
        zxx, zyy = 0.5 * (ux * ux - load(w, b + at.Z)), 0.5 * (uy * uy - load(w, b + at.Z + _2))
        zxy = ux * uy - load(w, b + at.Z + _1)
        store_three(w, b + at.Z, zxx, zxy, zyy)
        xx, xy = load(w, b + at.OFF + _2) - pxx, load(w, b + at.OFF + _3) - pxy
        store_three(w, b + at.OFF + _2, xx, xy, load(w, b + at.OFF + _4) - pyy)
        axx, axy = load(w, b + at.A), load(w, b + at.A + _1)
        ayx, ayy = load(w, b + at.A + _2), load(w, b + at.A + _3)
        store(w, b + at.TWICE, 2.0 * load(w, b + at.OFF))
        store(w, b + at.TWICE + _1, 2.0 * load(w, b + at.OFF + _1))
        store_three(w, b + at.PA, p * axx, p * axy, p * ayx)
        store(w, b + at.PA + _3, p * ayy)
        gxx, gxy, gyx, gyy = 1.0 - axx, -axy, -ayx, 1.0 - ayy
        nx = p * (half * ux - third * (gxx * ux + gxy * uy))
        ny = p * (half * uy - third * (gyx * ux + gyy * uy))
        add_term(w, to, b, at.MOTION, p, nx, ny, p * third * (zxx + zyy))
        vx, vy = vxx * ux + vxy * uy, vxy * ux + vyy * uy  # dV u
        nx, ny = -p * (gxx * vx + gxy * vy), -p * (gyx * vx + gyy * vy)
        weight = p * (zxx * vxx + zxy * vxy + zyy * vyy)
        add_term(w, to_c, b, at.ERROR, 2.0 * p, nx, ny, weight)


@lanes
def add_term(w: Array, to: np.uint64, b: np.uint64, share: np.uint64, p: Vector, nx: Vector,
             ny: Vector, weight: Vector) -> None:  # fmt: skip
    """Add what a parameter does to a branch: its means by n, its weight, its covariance by share.

    All but the share are already weighted by p.
    """
    x, y = load(w, b + at.OFF), load(w, b + at.OFF + _1)
    xx = p * load(w, b + share) + weight * load(w, b + at.OFF + _2) + 2.0 * x * nx
    xy = p * load(w, b + share + _1) + weight * load(w, b + at.OFF + _3) + x * ny + y * nx
    yy = p * load(w, b + share + _2) + weight * load(w, b + at.OFF + _4) + 2.0 * y * ny
    store(w, to, load(w, to) + nx + weight * x)
    store(w, to + _1, load(w, to + _1) + ny + weight * y)
    store(w, to + _2, load(w, to + _2) + xx)
    xy, yy = load(w, to + _3) + xy, load(w, to + _4) + yy
    store_three(w, to + _3, xy, yy, load(w, to + _5) + weight)


@lanes
def carry_tangents(F: Array, base: np.uint64, size: Size, w: Array) -> None:
    """Take the derivatives of all states in all parameters through the step; fill the score."""
    n_states, n_duals = size
    if n_duals == 1:
        return
    for k in range(n_states):
        clear(w, n_states)
        copy_terms(w, at.D_TERMS, k)
        carry(F, base, n_states, 1 + k, w)
    q = 1 + n_states
    for j in range(n_states):
        for m in range(n_states):
            if m != j:
                for k in range(n_states):
                    add_switching(w, j, k, (1.0 if k == m else 0.0) - of_T(w, j, m))
                carry(F, base, n_states, q, w)
                q += 1
    for _ in range(n_states - 1):
        clear(w, n_states)
        carry(F, base, n_states, q, w)
        q += 1
    balance(F, base, n_states, q, w)
    q += 1
    for k in range(n_states):
        copy_terms(w, at.C_TERMS, k)
    carry(F, base, n_states, q, w)


@lanes
def balance(F: Array, base: np.uint64, n_states: int, last: int, w: Array) -> None:
    """Fill the derivatives in the last logit of the first weights: all of these sum to 0.

    (Raising all of them by the same changes nothing.)
    """
    some, score = load(w, at.SOME), spread(0.0)
    for q in range(last - n_states + 1, last):
        score -= load(w, at.SCORE + np.uint64(q) * at.ROW)
    store(w, at.SCORE + np.uint64(last) * at.ROW, score)
    for i in range(np.uint64(6 * n_states)):
        rest = spread(0.0)
        for q in range(last - n_states + 1, last):
            rest -= load(F, place(base, n_states, q, 0) + i * at.ROW)
        store_some(F, place(base, n_states, last, 0) + i * at.ROW, rest, some)


@lanes
def of_T(w: Array, j: int, m: int) -> float:
    """Return T_jm."""
    return w[at.T + np.uint64(at.STATES * j + m)]


@lanes
def clear(w: Array, n_states: int) -> None:
    """Note that a parameter does nothing in this step itself."""
    for i in range(np.uint64(6 * n_states)):
        store(w, at.CARRIED + i * at.ROW, spread(0.0))


@lanes
def copy_terms(w: Array, terms: np.uint64, k: int) -> None:
    """Note what a parameter does to state k in this step itself."""
    first = np.uint64(k) * at.STATE
    for i in range(np.uint64(6)):
        store(w, at.CARRIED + first + i * at.ROW, load(w, terms + first + i * at.ROW))


@lanes
def add_switching(w: Array, j: int, k: int, slope: float) -> None:
    """Note what a logit does to state k that raises ln T_jk by `slope` for one j."""
    b, to = branch(k, j), at.CARRIED + np.uint64(k) * at.STATE
    weight = slope * load(w, b)
    for i in range(np.uint64(5)):
        store(w, to + i * at.ROW, weight * load(w, b + at.OFF + i * at.ROW))
    store(w, to + _5, weight)


@lanes
def carry(F: Array, base: np.uint64, n_states: int, q: int, w: Array) -> None:
    """Carry the derivatives in parameter q onto CARRIED; write them and the score.

    The weights are normalised, so the score is taken off their derivatives.
    """
    first, score = place(base, n_states, q, 0), spread(0.0)
    ahead = first + np.uint64(n_states * (n_states * n_states + n_states + 2)) * at.STATE
    for i in range(np.uint64(6 * n_states)):
        fetch(F, ahead + i * at.ROW)
    for k in range(n_states):
        to = at.CARRIED + np.uint64(k) * at.STATE
        sx, sy, sxx = load(w, to), load(w, to + _1), load(w, to + _2)
        sxy, syy, sw = load(w, to + _3), load(w, to + _4), load(w, to + _5)
        for j in range(n_states):
            b, fr = branch(k, j), first + np.uint64(j) * at.STATE
            mx, my = load(F, fr), load(F, fr + _1)
            pxx, pxy, pyy = load(F, fr + _2), load(F, fr + _3), load(F, fr + _4)
            ux, uy = load(w, b + at.U), load(w, b + at.U + _1)
            weight = load(F, fr + _5) + ux * mx + uy * my + load(w, b + at.Z) * pxx
            weight = weight + load(w, b + at.Z + _1) * pxy
            weight = load(w, b) * (weight + load(w, b + at.Z + _2) * pyy)
            x, y = load(w, b + at.OFF), load(w, b + at.OFF + _1)
            axx, axy = load(w, b + at.A), load(w, b + at.A + _1)
            ayx, ayy = load(w, b + at.A + _2), load(w, b + at.A + _3)
            cxx, cxy = load(w, b + at.PA), load(w, b + at.PA + _1)
            cyx, cyy = load(w, b + at.PA + _2), load(w, b + at.PA + _3)
            tx, ty = mx + pxx * ux + pxy * uy, my + pxy * ux + pyy * uy
            nx, ny = cxx * tx + cxy * ty, cyx * tx + cyy * ty
            bxx, bxy = axx * pxx + axy * pxy, axx * pxy + axy * pyy  # A dP
            byx, byy = ayx * pxx + ayy * pxy, ayx * pxy + ayy * pyy
            # from left to right: each product goes into its sum at once
            sx = sx + nx + weight * x
            sy = sy + ny + weight * y
            sxx = sxx + bxx * cxx + bxy * cxy + weight * load(w, b + at.OFF + _2)
            sxy = sxy + bxx * cyx + bxy * cyy + weight * load(w, b + at.OFF + _3)
            syy = syy + byx * cyx + byy * cyy + weight * load(w, b + at.OFF + _4)
            sxx = sxx + load(w, b + at.TWICE) * nx
            sxy = sxy + x * ny + y * nx
            syy = syy + load(w, b + at.TWICE + _1) * ny
            sw += weight
        score += load(w, at.SHARE + np.uint64(k) * at.ROW) * sw
        store_three(w, to, sx, sy, sxx)
        store_three(w, to + _3, sxy, syy, sw)
    store(w, at.SCORE + np.uint64(q) * at.ROW, score)
    some = load(w, at.SOME)
    for k in range(n_states):
        fr, to = at.CARRIED + np.uint64(k) * at.STATE, first + np.uint64(k) * at.STATE
        for i in range(np.uint64(5)):
            store_some(F, to + i * at.ROW, load(w, fr + i * at.ROW), some)
        store_some(F, to + _5, load(w, fr + _5) - score, some)
