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
from livespt.infer.columnkernels import (
    NEVER,
    exp_row,
    load_states,
    match_means,
    match_moments,
    observe,
    pass_unseen,
    refine_branches,
    share_column,
)
from livespt.infer.layout import LANES
from livespt.infer.tangentkernels import (
    UNSEEN,
    carry_column,
    load_tangents,
    start_tangents,
    take_score,
)
from livespt.jit import inlined, lanes

#: Bound on the steps of a gap; longer gaps take longer steps (the chain has forgotten by then).
MAX_STEPS = 100
#: A clock's jitter may make the dark time slightly negative; below -te/4 P could lose its sign.
MIN_DARK = -0.2
_1, _2, _3, _4, _5 = (np.uint64(at.STATES * i) for i in range(1, 6))


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
def share_states(n_states: int, w: Array) -> None:
    """Normalise the merged states; w[SCORE] becomes the log-likelihood of the step."""
    weight, top, total = at.AFTER + _5, -math.inf, 0.0
    for k in range(n_states):
        top = max(top, w[weight + np.uint64(k)])
    for k in range(n_states, at.STATES):
        w[weight + np.uint64(k)] = NEVER
    exp_row(w, weight, top, at.SHARE)
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
        carry_column(F, base, size, k, UNSEEN, w)
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
