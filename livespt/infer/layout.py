"""Where the numbers of one step lie: rows of ONE flat float64 array, at offsets the compiler knows.

Inner loops run over the `STATES` lanes of a row (the states j before the step) or over the
derivatives of a number, in vector registers. A loop that reads and writes rows at known distances
needs no test for overlap; with more than a few unknown distances the compiler gives the test up
and the loop runs one number at a time (measured). So a step treats one state k after it at a
time, always in the same rows: lane j of the *column* of k is the branch (j -> k). Lanes without a
state repeat state 0 with weight 0.
"""

from __future__ import annotations

import numpy as np

#: Most states: lanes of a row. Duals are padded to whole blocks, two at most.
STATES, BLOCK, MOST = 4, 16, 32
LANES, DUALS, WIDTH = np.uint64(STATES), np.uint64(BLOCK), np.uint64(MOST)
HALF = np.uint64(BLOCK // 2)  # loops of 8 are unrolled and then packed; longer ones often are not


def rows(start: int, n: int, width: int) -> tuple[np.uint64, int]:
    """Return the offset of `n` rows of `width` from `start` on, and where the next begin."""
    return np.uint64(start), start + n * width


#: The spot: x, y, var_x, var_y, cov_xy; then c^2. D by state.
SPOT, _at = rows(0, 1, 8)
D, _at = rows(_at, 1, STATES)
#: ln T_jk for k = 0, then for k = 1 ...; T_jm for j = 0, then for j = 1 ...
LN_T, _at = rows(_at, STATES, STATES)
T, _at = rows(_at, STATES, STATES)
#: Before the step: one row for each of `arrays.MX` ... `arrays.LNW`.
BEFORE, _at = rows(_at, 6, STATES)
#: After it, lane k for state k; and the share of each state.
AFTER, _at = rows(_at, 6, STATES)
SHARE, _at = rows(_at, 1, STATES)
#: p(j | k) for k = 0, then for k = 1 ...; the same over all intervals since the last spot (and
#: a spare row); the mean over the exposure and its covariance, by k.
BACK, _at = rows(_at, STATES, STATES)
PRODUCT, _at = rows(_at, STATES + 1, STATES)
MEAN, _at = rows(_at, 5, STATES)
SPARE, _at = rows(_at, 1, STATES)
#: The column: ln w + ln T + ln N but for the root of 1 / det S; that root; r S^-1 r; p(j | k).
LN_WEIGHT, _at = rows(_at, 1, STATES)
ROOT, _at = rows(_at, 1, STATES)
DISTANCE, _at = rows(_at, 1, STATES)
P, _at = rows(_at, 1, STATES)
#: The branch's Gaussian, as the filter's.
BRANCH, _at = rows(_at, 5, STATES)
#: u = S^-1 r; S^-1 (xx, xy, yy); A = I - G (xx, xy, yx, yy).
UX, _at = rows(_at, 1, STATES)
UY, _at = rows(_at, 1, STATES)
IXX, _at = rows(_at, 1, STATES)
IXY, _at = rows(_at, 1, STATES)
IYY, _at = rows(_at, 1, STATES)
AXX, _at = rows(_at, 1, STATES)
AXY, _at = rows(_at, 1, STATES)
AYX, _at = rows(_at, 1, STATES)
AYY, _at = rows(_at, 1, STATES)
#: What motion, and what the spot's error, add to the branch's covariance (xx, xy, yy).
MOTION, _at = rows(_at, 3, STATES)
ERROR, _at = rows(_at, 3, STATES)
#: The branch's mean (x, y) and second moments (xx, xy, yy) off those of the merged state.
OFF, _at = rows(_at, 5, STATES)
#: The branch's mean over the exposure, and its covariance.
REFINED, _at = rows(_at, 5, STATES)
#: Terms of a sum over j: what ln D_k, then what ln c does in this step itself.
TERMS, _at = rows(_at, 12, STATES)
#: Derivatives of all states before the step, one block and then the other; of one state after it.
TANGENT, _at = rows(_at, 2 * 6 * STATES, BLOCK)
CARRIED, _at = rows(_at, 2 * 6, BLOCK)
#: Derivatives of the weights after it, without the norm: one block and then the other.
WEIGHTS, _at = rows(_at, 2 * STATES, BLOCK)
#: Score of the step (its log-likelihood in front) and the sum of the scores' outer products.
SCORE, _at = rows(_at, 1, MOST)
OUTER, SIZE = rows(_at, MOST, MOST)


def n_parameters(n_states: int) -> int:
    """Return q, the length of the parameter vector."""
    return n_states * n_states + n_states + 1


def n_duals(n_states: int) -> int:
    """Return the length of a dual: 1 + q, padded with zeros to whole blocks."""
    return -(-(1 + n_parameters(n_states)) // BLOCK) * BLOCK
