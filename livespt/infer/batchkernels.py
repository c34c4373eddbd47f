"""The likelihood of many tracks, its score and information: the steps of `stepkernels` in a loop.

Per-track sums of the score (for information clustered by track) and the sum of the outer
products of the single steps' scores (martingale differences) are both kept.
"""

from __future__ import annotations

import math

import numpy as np

from livespt.infer import layout as at
from livespt.infer.arrays import LNW, Array, Motion, Size, Times, Tracks
from livespt.infer.columnkernels import load_spot
from livespt.infer.layout import HALF
from livespt.infer.stepkernels import advance, n_steps, prepare, start
from livespt.jit import kernel, lanes

_1, _2, _3, _4 = (np.uint64(at.STATES * i) for i in range(1, 5))
#: Squared Mahalanobis distance beyond which a link is taken for false (p = 3e-7 if true).
FALSE_LINK = 30.0
#: A step that begins nearer to the border of the field than so many s.d. of the fastest state's
#: step does not count: that it ended in view says that it was short, or not outward.
BORDER_STEPS = 3.0
#: ... but no more than this share of the field's shorter side is set aside on each side.
MOST_BORDER = 0.15


@lanes
def take_spot(
    F: Array, base: np.uint64, times: Times, motion: Motion, interval: float, w: Array, refine: bool
) -> bool:
    """Take the next spot of a track into its filter; `times` is (elapsed, te before, te now).

    Returns True if the step counts. A spot that no state can explain is a false link: the track
    starts anew there, the derivatives are void and the log-likelihood is that of a spot just at
    the bound (so that no parameters can gain by calling spots false).
    """
    size = (motion.ln_T.shape[0], motion.ln_T.shape[2])
    nearest = advance(F, base, size, times, n_steps(times[0], interval), w, refine)
    if nearest < FALSE_LINK:
        return True
    start(F, base, times[2], motion, w)
    restart_output(F, base, size, w)
    at_bound = w[at.SCORE] + 0.5 * (nearest - FALSE_LINK)
    for q in range(at.WIDTH):
        w[at.SCORE + q] = 0.0
    w[at.SCORE] = at_bound
    return False


@lanes
def counts(F: Array, base: np.uint64, size: Size, elapsed: float, field: Array) -> float:
    """Return 1.0 where a step of `elapsed` seconds begins well inside the field, else 0.0.

    The choice rests on where the step begins, never on where it leads: it biases nothing.
    """
    if math.isinf(field[2] - field[0]):
        return 1.0
    x, y, width = 0.0, 0.0, np.uint64(size[1])
    for k in range(size[0]):
        fr = base + np.uint64(6 * k) * width
        share = math.exp(F[fr + np.uint64(LNW) * width])
        x += share * F[fr]
        y += share * F[fr + width]
    side = min(field[2] - field[0], field[3] - field[1])
    reach = min(BORDER_STEPS * math.sqrt(2.0 * field[4] * elapsed), MOST_BORDER * side)
    if x - field[0] < reach or field[2] - x < reach:
        return 0.0
    if y - field[1] < reach or field[3] - y < reach:
        return 0.0
    return 1.0


@lanes
def restart_output(F: Array, base: np.uint64, size: Size, w: Array) -> None:
    """Make the rows say what a first spot says: the exposure mean is the spot itself."""
    n_states, c2 = size[0], w[at.SPOT + np.uint64(5)]
    for k in range(n_states):
        to = at.MEAN + np.uint64(k)
        ln_weight = base + np.uint64((6 * k + LNW) * size[1])
        w[at.SHARE + np.uint64(k)] = math.exp(F[ln_weight])
        w[to], w[to + _1] = w[at.SPOT], w[at.SPOT + np.uint64(1)]
        w[to + _2], w[to + _4] = c2 * w[at.SPOT + np.uint64(2)], c2 * w[at.SPOT + np.uint64(3)]
        w[to + _3] = c2 * w[at.SPOT + np.uint64(4)]
        for j in range(n_states):
            w[at.PRODUCT + np.uint64(at.STATES * j + k)] = 1.0 if j == k else 0.0


@lanes
def clear_outer(w: Array) -> None:
    """Begin the sum of outer products."""
    for i in range(np.uint64(at.MOST * at.MOST)):
        w[at.OUTER + i] = 0.0


@lanes
def add_outer(n_parameters: int, weight: float, w: Array) -> None:
    """Add weight s s' to the sum of outer products, s the score in w."""
    n = np.uint64(1 + n_parameters)
    for a in range(np.uint64(1), n):
        scaled, row = weight * w[at.SCORE + a], at.OUTER + at.WIDTH * a
        for half in range(2):
            to, fr = row + np.uint64(half) * HALF, at.SCORE + np.uint64(half) * HALF
            for b in range(HALF):
                w[to + b] += scaled * w[fr + b]
        if n > at.DUALS:
            for b in range(at.DUALS, n):
                w[row + b] += scaled * w[at.SCORE + b]


@lanes
def take_outer(w: Array, information: Array) -> None:
    """Write the sum of outer products (upper triangle)."""
    q = information.shape[0]
    for a in range(q):
        for b in range(q):
            at_ab = np.uint64(at.MOST * (a + 1) + b + 1)
            information[a, b] = w[at.OUTER + at_ab] if b >= a else 0.0


@kernel
def run_tracks(
    tracks: Tracks,
    motion: Motion,
    interval: float,
    filters: Array,
    sums: Array,
    information: Array,
    w: Array,
) -> tuple[float, int]:
    """Filter all tracks; return the log-likelihood and the number of steps that counted.

    Parameters
    ----------
    filters : (n_tracks or 1, K, 6, duals)
        Left as each track's filter at its last spot, where there is room for all.
    sums : (n_tracks, 1 + q)
        Log-likelihood and score of each track.
    information : (q, q)
        Sum of s s' over steps (upper triangle).
    """
    sums[:] = 0.0
    prepare(motion, w)
    clear_outer(w)
    t_s, exposure_s, spot, field = tracks.t_s, tracks.exposure_s, tracks.spot, tracks.field
    size = (motion.ln_T.shape[0], motion.ln_T.shape[2])
    F, last, length = filters.reshape(filters.size), filters.shape[0] - 1, 6 * size[0] * size[1]
    counted = 0
    for i in range(tracks.first.shape[0] - 1):
        low, high = int(tracks.first[i]), int(tracks.first[i + 1])
        base = np.uint64(min(i, last) * length)
        load_spot(spot, low, w)
        start(F, base, exposure_s[low], motion, w)
        for n in range(low + 1, high):
            times = (t_s[n] - t_s[n - 1], exposure_s[n - 1], exposure_s[n])
            weight = tracks.weight[n] * counts(F, base, size, times[0], field)
            load_spot(spot, n, w)
            if take_spot(F, base, times, motion, interval, w, False) and weight > 0.0:
                counted += 1
            for q in range(sums.shape[1]):
                sums[i, q] += weight * w[at.SCORE + np.uint64(q)]
            if sums.shape[1] > 1:
                add_outer(information.shape[0], weight, w)
    take_outer(w, information)
    return sums[:, 0].sum(), counted
