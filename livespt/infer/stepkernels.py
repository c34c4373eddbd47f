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

merged over j with the between-component variance. Where nothing is seen te is 0 and S infinite.
`tangentkernels` carries the derivatives through the same step.

Each number is that of `WIDTH` tracks side by side, which may be anywhere in their own stories: the
rows of `layout` say of each what it does next, and hold all numbers of a step.

Symbols: F filters, flat, a block of them from `base` on; w the rows.
"""

from __future__ import annotations

import math

import numpy as np

from livespt.element_kernels import exp_each, log_each
from livespt.infer import layout as at
from livespt.infer.arrays import LNW, PXX, PXY, PYY, Array, Motion, Size
from livespt.infer.columnkernels import branch, match_moments, observe, refine_branch, share_column
from livespt.infer.tangentkernels import (
    carry_tangents,
    place,
    prepare_column,
    start_tangents,
)
from livespt.jit import inlined, kernel_of_lanes, lanes
from livespt.vectors import WIDTH, Vector, load, pick, spread, store, store_some

#: Bound on the steps of a gap; longer gaps take longer steps (the chain has forgotten by then).
MAX_STEPS = 100
#: A clock's jitter may make the dark time slightly negative; below -te/4 P could lose its sign.
MIN_DARK = -0.2
_1, _2, _3, _4, _5 = (at.ROW * np.uint64(i) for i in range(1, 6))
_XX, _XY, _YY, _LNW = (at.ROW * np.uint64(i) for i in (PXX, PXY, PYY, LNW))


@lanes
def prepare(motion: Motion, w: Array) -> None:
    """Lay out the parameters for the steps to come, once for each setting; all tracks idle."""
    n_states = motion.D.shape[0]
    w[at.C2] = motion.c2
    for k in range(n_states):
        w[at.D + np.uint64(k)] = motion.D[k]
        for j in range(n_states):
            w[at.LN_T + np.uint64(at.STATES * k + j)] = motion.ln_T[j, k, 0]
            w[at.T + np.uint64(at.STATES * j + k)] = math.exp(motion.ln_T[j, k, 0])
        for q in range(motion.ln_begin.shape[1]):
            w[at.LN_BEGIN + np.uint64(at.DUALS * k + q)] = motion.ln_begin[k, q]
    for lane in range(WIDTH):
        idle(w, lane)


@lanes
def idle(w: Array, lane: int) -> None:
    """Let one track do nothing: an interval of no length, unseen, that is not even noted."""
    own = np.uint64(lane)
    for i in range(np.uint64(5)):
        w[at.SPOT + i * at.ROW + own] = 0.0
    w[at.SPOT + _2 + own], w[at.SPOT + _3 + own] = 1.0, 1.0
    w[at.DARK + own], w[at.TE + own], w[at.SEEN + own], w[at.SOME + own] = 0.0, 0.0, 0.0, 0.0
    w[at.WEIGHT + own] = 0.0


@lanes
def pass_unseen(w: Array, lane: int, dark: float) -> None:
    """Let one track spend an interval of which nothing is seen."""
    idle(w, lane)
    own = np.uint64(lane)
    w[at.DARK + own], w[at.SOME + own] = dark, 1.0


@lanes
def see(w: Array, lane: int, dark: float, te: float) -> None:
    """Let one track spend `dark` seconds unseen, then be seen as the spot that was loaded."""
    own = np.uint64(lane)
    w[at.DARK + own], w[at.TE + own], w[at.SEEN + own], w[at.SOME + own] = dark, te, 1.0, 1.0


@lanes
def load_spot(w: Array, lane: int, spots: Array, n: int) -> None:
    """Lay out the spot of one track; `spots` (n, 5) is flat."""
    for i in range(5):
        w[at.SPOT + np.uint64(i) * at.ROW + np.uint64(lane)] = spots[np.uint64(5 * n + i)]


@lanes
def start(F: Array, base: np.uint64, size: Size, lane: int, te: float, w: Array) -> None:
    """Begin one track at its first spot under a flat prior: m = x, P = c^2 V + 2 D te / 3."""
    n_states, n_duals = size
    own, c2 = np.uint64(lane), w[at.C2]
    for i in range(np.uint64(6 * n_states * n_duals)):
        F[base + i * at.ROW + own] = 0.0
    for k in range(n_states):
        blur = 2.0 * w[at.D + np.uint64(k)] * te / 3.0
        fr = place(base, n_states, 0, k) + own
        F[fr], F[fr + _1] = w[at.SPOT + own], w[at.SPOT + _1 + own]
        F[fr + _XX] = c2 * w[at.SPOT + _2 + own] + blur
        F[fr + _YY] = c2 * w[at.SPOT + _3 + own] + blur
        F[fr + _XY] = c2 * w[at.SPOT + _4 + own]
        for q in range(n_duals):
            to = place(base, n_states, q, k) + _LNW + own
            F[to] = w[at.LN_BEGIN + np.uint64(at.DUALS * k + q)]
        if n_duals > 1:
            start_tangents(F, base, lane, k, n_states, blur, w)


@lanes
def diffuse(F: Array, base: np.uint64, size: Size, w: Array) -> None:
    """Let each state diffuse unseen for the dark time."""
    n_states, n_duals = size
    for k in range(n_states):
        grown = 2.0 * w[at.D + np.uint64(k)] * load(w, at.DARK)
        grow(F, place(base, n_states, 0, k), grown)
        if n_duals > 1:
            grow(F, place(base, n_states, 1 + k, k), grown)


@lanes
def grow(F: Array, fr: np.uint64, grown: Vector) -> None:
    """Add to a covariance, or to its derivative, what the motion adds."""
    store(F, fr + _XX, load(F, fr + _XX) + grown)
    store(F, fr + _YY, load(F, fr + _YY) + grown)


@kernel_of_lanes
def step(F: Array, base: np.uint64, size: Size, w: Array, refine: bool) -> None:
    """Let all tracks do what the rows say of them.

    Their score is left in SCORE, p(state before | state now) in BACK, the least r S^-1 r in
    NEAREST; with `refine` the means over the exposure are filled too.
    """
    n_states, n_duals = size
    diffuse(F, base, size, w)
    store(w, at.NEAREST, spread(math.inf))
    for k in range(n_states):
        h = 2.0 * w[at.D + np.uint64(k)] * load(w, at.TE)
        for j in range(n_states):
            observe(F, place(base, n_states, 0, j), h, w, branch(k, j))
            if refine:
                refine_branch(F, place(base, n_states, 0, j), h, w, branch(k, j))
        share_column(w, k, n_states)
        match_moments(w, k, n_states, at.OFF, at.AFTER + np.uint64(k) * at.STATE)
        if n_duals > 1:
            prepare_column(w, k, n_states, h)
        if refine:
            match_moments(w, k, n_states, at.REFINED, at.MEAN + np.uint64(k) * _5)
    share_states(n_states, w)
    carry_tangents(F, base, size, w)
    some = load(w, at.SOME)
    for i in range(np.uint64(6 * n_states)):
        store_some(F, base + i * at.ROW, load(w, at.AFTER + i * at.ROW), some)


@lanes
def share_states(n_states: int, w: Array) -> None:
    """Normalise the merged states; the score begins with the log-likelihood of the step."""
    high, total = spread(-math.inf), spread(0.0)
    for k in range(n_states):
        weight = load(w, at.AFTER + np.uint64(k) * at.STATE + _5)
        high = pick(high, weight, weight, high)
    for k in range(n_states):
        p = exp_each(load(w, at.AFTER + np.uint64(k) * at.STATE + _5) - high)
        store(w, at.SHARE + np.uint64(k) * at.ROW, p)
        total += p
    evidence, inverse = high + log_each(total), 1.0 / total
    for k in range(n_states):
        fr, to = at.SHARE + np.uint64(k) * at.ROW, at.AFTER + np.uint64(k) * at.STATE + _5
        store(w, fr, load(w, fr) * inverse)
        store(w, to, load(w, to) - evidence)
    store(w, at.SCORE, evidence)


@inlined
def n_steps(elapsed: float, interval: float) -> int:
    """Return how many nominal intervals `elapsed` seconds hold, at least one."""
    return int(min(max(1.0, math.floor(elapsed / interval + 0.5)), MAX_STEPS))


@inlined
def first_dark(elapsed: float, te: float, n: int) -> float:
    """Return the dark rest of an observed frame when the next spot comes n intervals later."""
    return max(elapsed / n - te, MIN_DARK * te)


@lanes
def begin_back(w: Array, n_states: int) -> None:
    """Begin the product of p(j | k) over the intervals since the last spot."""
    for j in range(n_states):
        for k in range(n_states):
            to = at.PRODUCT + np.uint64(at.STATES * j + k) * at.ROW
            store(w, to, spread(1.0 if j == k else 0.0))


@lanes
def chain_back(w: Array, n_states: int) -> None:
    """Multiply p(j | k) of this step onto the product.

    Line i of the product is p(state i at the spot before | each state now).
    """
    spare, some = at.PRODUCT + np.uint64(at.STATES * at.STATES) * at.ROW, load(w, at.SOME)
    for i in range(n_states):
        line = at.PRODUCT + np.uint64(at.STATES * i) * at.ROW
        for k in range(n_states):
            total = spread(0.0)
            for j in range(n_states):
                p = load(w, at.BACK + np.uint64(at.STATES * k + j) * at.ROW)
                total += load(w, line + np.uint64(j) * at.ROW) * p
            store(w, spare + np.uint64(k) * at.ROW, total)
        for k in range(np.uint64(n_states)):
            store_some(w, line + k * at.ROW, load(w, spare + k * at.ROW), some)
