"""The likelihood of many tracks, its score and information: the steps of `stepkernels` in a loop.

Per-track sums of the score (for information clustered by track) and the sum of the outer
products of the single steps' scores (martingale differences) are both kept.
"""

from __future__ import annotations

import math

from livespt.infer.arrays import LNW, MX, MY, PXX, PXY, PYY, Array, Motion, Scratch, Tracks
from livespt.infer.stepkernels import advance, n_steps, start
from livespt.jit import inlined, kernel

#: Squared Mahalanobis distance beyond which a link is taken for false (p = 3e-7 if true).
FALSE_LINK = 30.0
#: A step that begins nearer to the border of the field than so many s.d. of the fastest state's
#: step does not count: that it ended in view says that it was short, or not outward.
BORDER_STEPS = 3.0
#: ... but no more than this share of the field's shorter side is set aside on each side.
MOST_BORDER = 0.15


@inlined
def take_spot(
    F: Array,
    spot: Array,
    times: tuple[float, float, float],
    motion: Motion,
    interval: float,
    work: Scratch,
) -> bool:
    """Take the next spot of a track into F; `times` is (elapsed, te before, te now).

    Returns True if the step counts. A spot that no state can explain is a false link: the track
    starts anew there, the derivatives are void and the log-likelihood is that of a spot just at
    the bound (so that no parameters can gain by calling spots false).
    """
    nearest = advance(F, spot, times, n_steps(times[0], interval), motion, work)
    if nearest < FALSE_LINK:
        return True
    start(F, spot, times[2], motion)
    restart_output(spot, motion, work)
    at_bound = work.score[0] + 0.5 * (nearest - FALSE_LINK)
    work.score[:] = 0.0
    work.score[0] = at_bound
    return False


@inlined
def counts(F: Array, elapsed: float, field: Array) -> float:
    """Return 1.0 where a step of `elapsed` seconds from F begins well inside the field, else 0.0.

    The choice rests on where the step begins, never on where it leads: it biases nothing.
    """
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


@inlined
def restart_output(spot: Array, motion: Motion, work: Scratch) -> None:
    """Make `work` say what a first spot says: the exposure mean is the spot itself."""
    n_states = work.back.shape[0]
    for j in range(n_states):
        for k in range(n_states):
            work.refined[j, k, MX], work.refined[j, k, MY] = spot[0], spot[1]
            work.refined[j, k, PXX] = motion.c2 * spot[2]
            work.refined[j, k, PYY] = motion.c2 * spot[3]
            work.refined[j, k, PXY] = motion.c2 * spot[4]
            work.back[j, k] = 1.0 if j == k else 0.0
            work.product[j, k] = 1.0 if j == k else 0.0


@inlined
def add_outer(information: Array, score: Array, weight: float) -> None:
    """Add weight s s' to the upper triangle of `information` (score[0] is not part of s)."""
    q = information.shape[0]
    for a in range(q):
        scaled = weight * score[1 + a]
        for b in range(a, q):
            information[a, b] += scaled * score[1 + b]


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
    F : (n_tracks, K, 6, 1 + q)
        Left as each track's filter at its last spot.
    sums : (n_tracks, 1 + q)
        Log-likelihood and score of each track.
    information : (q, q)
        Sum of s s' over steps (upper triangle).
    """
    sums[:] = 0.0
    information[:] = 0.0
    counted = 0
    for i in range(tracks.first.shape[0] - 1):
        low, high = int(tracks.first[i]), int(tracks.first[i + 1])
        start(F[i], tracks.spot[low], tracks.exposure_s[low], motion)
        for n in range(low + 1, high):
            times = (
                tracks.t_s[n] - tracks.t_s[n - 1],
                tracks.exposure_s[n - 1],
                tracks.exposure_s[n],
            )
            weight = tracks.weight[n] * counts(F[i], times[0], tracks.field)
            if take_spot(F[i], tracks.spot[n], times, motion, interval, work) and weight > 0.0:
                counted += 1
            for q in range(sums.shape[1]):
                sums[i, q] += weight * work.score[q]
            add_outer(information, work.score, weight)
    return sums[:, 0].sum(), counted
