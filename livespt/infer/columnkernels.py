"""The column of one state k after a step: its branches from all states j.

Theory and symbols: `stepkernels`; rows: `layout`; each number is that of `WIDTH` tracks side by
side. A column is filled by `observe`, shared out by `share_column`, and merged by `match_moments`.
"""

from __future__ import annotations

import math

import numpy as np

from livespt.element_kernels import exp_each, log_each
from livespt.infer import layout as at
from livespt.infer.arrays import Array
from livespt.jit import lanes
from livespt.vectors import Vector, load, pick, root, spread, store

LN_2PI = math.log(2 * math.pi)
_1, _2, _3, _4, _5 = (at.ROW * np.uint64(i) for i in range(1, 6))
_THIRD = 1.0 / 3.0
_TWELFTH = 1.0 / 12.0


@lanes
def branch(k: int, j: int) -> np.uint64:
    """Return where the branch (j -> k) lies."""
    return at.BRANCH + np.uint64(k) * at.COLUMN_SIZE + np.uint64(j) * at.BRANCH_SIZE


@lanes
def observe(F: Array, fr: np.uint64, h: Vector, w: Array, b: np.uint64) -> None:
    """Fill the branch at `b`: the state that lies at `fr`, conditioned on the spot, h = 2 D_k te.

    Where nothing was seen, S is infinite: nothing is learned, nothing moves.
    """
    c2, seen = w[at.C2], load(w, at.SEEN)
    vxx, vyy = c2 * load(w, at.SPOT + _2), c2 * load(w, at.SPOT + _3)
    vxy = c2 * load(w, at.SPOT + _4)
    mx, my = load(F, fr), load(F, fr + _1)
    pxx, pxy, pyy = load(F, fr + _2), load(F, fr + _3), load(F, fr + _4)
    half, third, twelfth = 0.5 * h, _THIRD * h, _TWELFTH * h
    sxx, sxy, syy = pxx + third + vxx, pxy + vxy, pyy + third + vyy
    inverse = 1.0 / (sxx * syy - sxy * sxy)
    root_det = root(inverse)  # the way to the next numbers is shorter without it
    inverse *= seen
    ixx, ixy, iyy = syy * inverse, -sxy * inverse, sxx * inverse
    rx, ry = load(w, at.SPOT) - mx, load(w, at.SPOT + _1) - my
    ux, uy = ixx * rx + ixy * ry, ixy * rx + iyy * ry
    distance, nearest = rx * ux + ry * uy, load(w, at.NEAREST)
    store(w, at.NEAREST, pick(distance, nearest, distance, nearest))
    store(w, b + at.P, load(F, fr + _5) - 0.5 * distance - LN_2PI * seen)
    store(w, b + at.ROOT, pick(spread(0.0), seen, root_det, spread(1.0)))
    cxx, cyy = pxx + half, pyy + half
    gxx, gxy = cxx * ixx + pxy * ixy, cxx * ixy + pxy * iyy
    gyx, gyy = pxy * ixx + cyy * ixy, pxy * ixy + cyy * iyy
    axx, axy, ayx, ayy = 1.0 - gxx, -gxy, -gyx, 1.0 - gyy
    store(w, b + at.U, ux)
    store(w, b + at.U + _1, uy)
    store_three(w, b + at.Z, ixx, ixy, iyy)
    store(w, b + at.A, axx)
    store_three(w, b + at.A + _1, axy, ayx, ayy)
    kxx, kxy, kyx, kyy = 1.0 - 0.5 * gxx, -0.5 * gxy, -0.5 * gyx, 1.0 - 0.5 * gyy
    nxx = h * (kxx * kxx + kxy * kxy) + twelfth * (gxx * gxx + gxy * gxy)
    nxy = h * (kxx * kyx + kxy * kyy) + twelfth * (gxx * gyx + gxy * gyy)
    nyy = h * (kyx * kyx + kyy * kyy) + twelfth * (gyx * gyx + gyy * gyy)
    exx, exy = gxx * vxx + gxy * vxy, gxx * vxy + gxy * vyy  # G V
    eyx, eyy = gyx * vxx + gyy * vxy, gyx * vxy + gyy * vyy
    fxx, fxy, fyy = exx * gxx + exy * gxy, exx * gyx + exy * gyy, eyx * gyx + eyy * gyy
    txx, txy = axx * pxx + axy * pxy, axx * pxy + axy * pyy  # A P
    tyx, tyy = ayx * pxx + ayy * pxy, ayx * pxy + ayy * pyy
    store_three(w, b + at.MOTION, nxx, nxy, nyy)
    store_three(w, b + at.ERROR, fxx, fxy, fyy)
    store(w, b + at.OFF, mx + cxx * ux + pxy * uy)
    store(w, b + at.OFF + _1, my + pxy * ux + cyy * uy)
    pxx, pxy = txx * axx + txy * axy + nxx + fxx, txx * ayx + txy * ayy + nxy + fxy
    store_three(w, b + at.OFF + _2, pxx, pxy, tyx * ayx + tyy * ayy + nyy + fyy)


@lanes
def store_three(w: Array, to: np.uint64, a: Vector, b: Vector, c: Vector) -> None:
    """Store three rows."""
    store(w, to, a)
    store(w, to + _1, b)
    store(w, to + _2, c)


@lanes
def refine_branch(F: Array, fr: np.uint64, h: Vector, w: Array, b: np.uint64) -> None:
    """Fill the branch's mean over the exposure: Q in the place of C, and no motion after it."""
    c2, third = w[at.C2], _THIRD * h
    vxx, vyy = c2 * load(w, at.SPOT + _2), c2 * load(w, at.SPOT + _3)
    vxy, qxy = c2 * load(w, at.SPOT + _4), load(F, fr + _3)
    qxx, qyy = load(F, fr + _2) + third, load(F, fr + _4) + third
    ux, uy = load(w, b + at.U), load(w, b + at.U + _1)
    ixx, ixy, iyy = load(w, b + at.Z), load(w, b + at.Z + _1), load(w, b + at.Z + _2)
    gxx, gxy = qxx * ixx + qxy * ixy, qxx * ixy + qxy * iyy
    gyx, gyy = qxy * ixx + qyy * ixy, qxy * ixy + qyy * iyy
    axx, axy, ayx, ayy = 1.0 - gxx, -gxy, -gyx, 1.0 - gyy
    txx, txy = axx * qxx + axy * qxy, axx * qxy + axy * qyy
    tyx, tyy = ayx * qxx + ayy * qxy, ayx * qxy + ayy * qyy
    exx, exy = gxx * vxx + gxy * vxy, gxx * vxy + gxy * vyy
    eyx, eyy = gyx * vxx + gyy * vxy, gyx * vxy + gyy * vyy
    to = b + at.REFINED
    store(w, to, load(F, fr) + qxx * ux + qxy * uy)
    store(w, to + _1, load(F, fr + _1) + qxy * ux + qyy * uy)
    xx, xy = txx * axx + txy * axy + exx * gxx + exy * gxy, txx * ayx + txy * ayy
    yy = tyx * ayx + tyy * ayy + eyx * gyx + eyy * gyy
    store_three(w, to + _2, xx, xy + exx * gyx + exy * gyy, yy)


@lanes
def share_column(w: Array, k: int, n_states: int) -> None:
    """Turn the column's weights into p(j | k); leave the log weight of the merged state."""
    high = spread(-math.inf)
    for j in range(n_states):
        b = branch(k, j)
        weight = load(w, b) + w[at.LN_T + np.uint64(at.STATES * k + j)]
        store(w, b, weight)
        high = pick(high, weight, weight, high)
    total = spread(0.0)
    for j in range(n_states):
        b = branch(k, j)
        p = exp_each(load(w, b) - high) * load(w, b + at.ROOT)
        store(w, b, p)
        total += p
    inverse = 1.0 / total
    for j in range(n_states):
        b = branch(k, j)
        p = load(w, b) * inverse
        store(w, b, p)
        store(w, at.BACK + np.uint64(at.STATES * k + j) * at.ROW, p)
    store(w, at.AFTER + np.uint64(k) * at.STATE + _5, high + log_each(total))


@lanes
def mean_of(w: Array, k: int, n_states: int, row: np.uint64) -> tuple[Vector, Vector]:
    """Return the mean over the branches of two numbers from `row` on."""
    x, y = spread(0.0), spread(0.0)
    for j in range(n_states):
        b = branch(k, j)
        p = load(w, b)
        x += p * load(w, b + row)
        y += p * load(w, b + row + _1)
    return x, y


@lanes
def match_moments(w: Array, k: int, n_states: int, row: np.uint64, to: np.uint64) -> None:
    """Match the moments of the column's Gaussians, which lie at `row` of each branch.

    Their means and second moments about the merged mean take their place.
    """
    mx, my = mean_of(w, k, n_states, row)
    pxx, pxy, pyy = spread(0.0), spread(0.0), spread(0.0)
    for j in range(n_states):
        b = branch(k, j)
        p = load(w, b)
        b += row
        x, y = load(w, b) - mx, load(w, b + _1) - my
        xx, xy, yy = load(w, b + _2) + x * x, load(w, b + _3) + x * y, load(w, b + _4) + y * y
        store(w, b, x)
        store_three(w, b + _1, y, xx, xy)
        store(w, b + _4, yy)
        pxx += p * xx
        pxy += p * xy
        pyy += p * yy
    store(w, to, mx)
    store(w, to + _1, my)
    store_three(w, to + _2, pxx, pxy, pyy)
