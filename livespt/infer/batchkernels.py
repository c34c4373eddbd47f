"""The likelihood of many tracks, its score and information: the steps of `stepkernels` in a loop.

Per-track sums of the score (for information clustered by track) and the sum of the outer
products of the single steps' scores (martingale differences) are both kept.
"""

from __future__ import annotations

import math

import numpy as np

from livespt.infer import layout as at
from livespt.infer.arrays import LNW, MX, MY, Array, Motion, Scratch, Tracks
from livespt.infer.stepkernels import advance, n_steps, start
from livespt.jit import inlined, kernel, lanes

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
    F: Array,
    spot: Array,
    times: tuple[float, float, float],
    motion: Motion,
    interval: float,
    work: Scratch,
    refine: bool,
) -> bool:
    """Take the next spot of a track into F; `times` is (elapsed, te before, te now).

    Returns True if the step counts. A spot that no state can explain is a false link: the track
    starts anew there, the derivatives are void and the log-likelihood is that of a spot just at
    the bound (so that no parameters can gain by calling spots false).
    """
    nearest = advance(F, spot, times, n_steps(times[0], interval), motion, work, refine)
    if nearest < FALSE_LINK:
        return True
    start(F, spot, times[2], motion)
    restart_output(F, spot, motion, work)
    w = work.w
    at_bound = w[at.SCORE] + 0.5 * (nearest - FALSE_LINK)
    for q in range(at.MOST):
        w[at.SCORE + np.uint64(q)] = 0.0
    w[at.SCORE] = at_bound
    return False


@inlined
def counts(F: Array, elapsed: float, field: Array) -> float:
    """Return 1.0 where a step of `elapsed` seconds from F begins well inside the field, else 0.0.

    The choice rests on where the step begins, never on where it leads: it biases nothing.
    """
    if math.isinf(field[2] - field[0]):
        return 1.0
    n_states = F.shape[0]
    x, y = 0.0, 0.0
    for k in range(n_states):
        share = math.exp(F[k, LNW, 0])
        x += share * F[k, MX, 0]
        y += share * F[k, MY, 0]
    side = min(field[2] - field[0], field[3] - field[1])
    reach = min(BORDER_STEPS * math.sqrt(2.0 * field[4] * elapsed), MOST_BORDER * side)
    if x - field[0] < reach or field[2] - x < reach:
        return 0.0
    if y - field[1] < reach or field[3] - y < reach:
        return 0.0
    return 1.0


@lanes
def restart_output(F: Array, spot: Array, motion: Motion, work: Scratch) -> None:
    """Make `work` say what a first spot says: the exposure mean is the spot itself."""
    w, n_states = work.w, F.shape[0]
    for k in range(n_states):
        to = at.MEAN + np.uint64(k)
        w[at.SHARE + np.uint64(k)] = math.exp(F[k, LNW, 0])
        w[to], w[to + _1] = spot[0], spot[1]
        w[to + _2], w[to + _4] = motion.c2 * spot[2], motion.c2 * spot[3]
        w[to + _3] = motion.c2 * spot[4]
        for j in range(n_states):
            work.product[j, k] = 1.0 if j == k else 0.0


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
        scaled = weight * w[at.SCORE + a]
        row = at.OUTER + at.DUALS * a
        for b in range(at.DUALS):
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
    F: Array,
    sums: Array,
    information: Array,
    work: Scratch,
) -> tuple[float, int]:
    """Filter all tracks; return the log-likelihood and the number of steps that counted.

    Parameters
    ----------
    F : (n_tracks or 1, K, 6, duals)
        Left as each track's filter at its last spot, where there is room for all.
    sums : (n_tracks, 1 + q)
        Log-likelihood and score of each track.
    information : (q, q)
        Sum of s s' over steps (upper triangle).
    """
    sums[:] = 0.0
    counted, last = 0, F.shape[0] - 1
    w = work.w
    clear_outer(w)
    for track in range(tracks.first.shape[0] - 1):
        low, high = int(tracks.first[track]), int(tracks.first[track + 1])
        i = min(track, last)
        start(F[i], tracks.spot[low], tracks.exposure_s[low], motion)
        for n in range(low + 1, high):
            times = (
                tracks.t_s[n] - tracks.t_s[n - 1],
                tracks.exposure_s[n - 1],
                tracks.exposure_s[n],
            )
            weight = tracks.weight[n] * counts(F[i], times[0], tracks.field)
            taken = take_spot(F[i], tracks.spot[n], times, motion, interval, work, False)
            if taken and weight > 0.0:
                counted += 1
            for q in range(sums.shape[1]):
                sums[track, q] += weight * w[at.SCORE + np.uint64(q)]
            if sums.shape[1] > 1:
                add_outer(information.shape[0], weight, w)
    take_outer(w, information)
    return sums[:, 0].sum(), counted
