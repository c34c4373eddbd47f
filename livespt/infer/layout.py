"""Where the numbers of one step lie: rows of ONE flat float64 array.

A step is taken by `WIDTH` tracks side by side (`livespt.vectors`): a *row* is one number of each of
them. Filters lie in *blocks* of as many tracks. A block has a row for each dual, state and element,
in this order: row ((q K) + k) 6 + i is element i (`arrays.MX` ...) of state k, its value (q = 0) or
its derivative in parameter q. With no derivatives it ends after the values.
"""

from __future__ import annotations

import numpy as np

from livespt.vectors import WIDTH

#: Most states; most duals.
STATES, DUALS = 4, 22
#: From one row to the next; from one state to the next.
ROW, STATE = np.uint64(WIDTH), np.uint64(6 * WIDTH)

#: The parameters, the same for all tracks: c^2; D by state; ln T_jk for k = 0, then for k = 1 ...;
#: T_jm for j = 0, then for j = 1 ...; the dual of ln begin for k = 0, then for k = 1 ...
C2, D, LN_T, T = np.uint64(0), np.uint64(1), np.uint64(1 + STATES), np.uint64(1 + 5 * STATES)
LN_BEGIN = np.uint64(1 + 9 * STATES)
#: The nominal interval; how many frames a track's history holds.
INTERVAL = np.uint64(1 + (9 + DUALS) * STATES)
DEPTH = np.uint64(2 + (9 + DUALS) * STATES)


def rows(start: int, n: int) -> tuple[np.uint64, int]:
    """Return the offset of `n` rows from row `start` on, and the row after them."""
    return np.uint64(start * WIDTH), start + n


#: What a track does next: spends DARK unseen; then, if SEEN is 1, an exposure of TE s is seen as
#: the spot x, y, var_x, var_y, cov_xy. Where SOME is 0 nothing is done at all.
SPOT, _at = rows(-(-(3 + (9 + DUALS) * STATES) // WIDTH), 5)
DARK, _at = rows(_at, 1)
TE, _at = rows(_at, 1)
SEEN, _at = rows(_at, 1)
SOME, _at = rows(_at, 1)
#: 1 where a track of the bank was seen in this frame, be it for the first time; its slot.
TAKEN, _at = rows(_at, 1)
SLOT, _at = rows(_at, 1)
#: On its way to the next spot: time since the last one; intervals left, and their length; the part
#: of the next one that comes before an exposure.
ELAPSED, _at = rows(_at, 1)
LEFT, _at = rows(_at, 1)
LENGTH, _at = rows(_at, 1)
REST, _at = rows(_at, 1)
#: The states after the step, their shares, the least r S^-1 r.
AFTER, _at = rows(_at, 6 * STATES)
SHARE, _at = rows(_at, STATES)
NEAREST, _at = rows(_at, 1)
#: p(j | k) for k = 0, then for k = 1 ...; the same over all intervals since the last spot, for
#: j = 0, then for j = 1 ... (and a spare line).
BACK, _at = rows(_at, STATES * STATES)
PRODUCT, _at = rows(_at, (STATES + 1) * STATES)
#: The mean over the exposure and its covariance, by state, and merged over all.
MEAN, _at = rows(_at, 5 * STATES)
POSITION, _at = rows(_at, 5)
#: Branches (j -> k), for k = 0, then for k = 1 ...; each has the 33 rows P ... REFINED.
BRANCH, _at = rows(_at, 33 * STATES * STATES)
BRANCH_SIZE, COLUMN_SIZE = np.uint64(33 * WIDTH), np.uint64(33 * STATES * WIDTH)
#: p(j | k), at first ln w + ln T + ln N but for the root of 1 / det S; that root.
P, _in = rows(0, 1)
ROOT, _in = rows(_in, 1)
#: u = S^-1 r; S^-1, later (u u' - S^-1) / 2 (xx, twice xy, yy); A = I - G (xx, xy, yx, yy); p A.
U, _in = rows(_in, 2)
Z, _in = rows(_in, 3)
A, _in = rows(_in, 4)
PA, _in = rows(_in, 4)
#: The branch's Gaussian, later its mean and second moments off those of the merged state.
OFF, _in = rows(_in, 5)
TWICE, _in = rows(_in, 2)  # the means of OFF
#: What motion, and what the spot's error, add to its covariance (xx, xy, yy).
MOTION, _in = rows(_in, 3)
ERROR, _in = rows(_in, 3)
#: Its mean over the exposure, and that mean's covariance.
REFINED, _in = rows(_in, 5)
#: What ln D_k, and what ln c, do to state k in this step itself.
D_TERMS, _at = rows(_at, 6 * STATES)
C_TERMS, _at = rows(_at, 6 * STATES)
#: Derivatives of all states in one parameter.
CARRIED, _at = rows(_at, 6 * STATES)
#: Score of the step (its log-likelihood in front); how far the step counts; weighted sums of the
#: scores, and of their outer products.
SCORE, _at = rows(_at, DUALS)
WEIGHT, _at = rows(_at, 1)
SUMS, _at = rows(_at, DUALS)
OUTER, _at = rows(_at, DUALS * DUALS)
#: Sums over the frames of the tracks' histories, 51 at most: shares by state, number of tracks.
MOST_PAST = 51
HISTORY, _at = rows(_at, MOST_PAST * (STATES + 1))
#: A block of filters.
FILTER, _at = rows(_at, 6 * STATES * DUALS)
SIZE = _at * WIDTH


def n_parameters(n_states: int) -> int:
    """Return q, the length of the parameter vector."""
    return n_states * n_states + n_states + 1


def n_duals(n_states: int) -> int:
    """Return the length of a dual."""
    return 1 + n_parameters(n_states)
