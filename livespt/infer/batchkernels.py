"""The likelihood of many tracks, its score and information: the steps of `stepkernels` in a loop.

`WIDTH` tracks are filtered side by side, and when one of them ends the next takes its place. Sums
of the score for each track (for information clustered by track) and the sum of the outer products
of the single steps' scores (martingale differences) are both kept.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np

from livespt.element_kernels import exp_each
from livespt.infer import layout as at
from livespt.infer.arrays import LNW, Array, Batch, Motion, Size, Tracks
from livespt.infer.stepkernels import (
    first_dark,
    idle,
    load_spot,
    n_steps,
    pass_unseen,
    prepare,
    see,
    start,
    step,
)
from livespt.infer.tangentkernels import place
from livespt.jit import kernel, kernel_of_lanes, lanes
from livespt.vectors import WIDTH, add_up, address, load, pick, root, spread, store

_1, _2, _3, _4 = (at.ROW * np.uint64(i) for i in range(1, 5))
_LNW = at.ROW * np.uint64(LNW)
#: Squared Mahalanobis distance beyond which a link is taken for false (p = 3e-7 if true).
FALSE_LINK = 30.0
#: A step that begins nearer to the border of the field than so many s.d. of the fastest state's
#: step does not count: that it ended in view says that it was short, or not outward.
BORDER_STEPS = 3.0
#: ... but no more than this share of the field's shorter side is set aside on each side.
MOST_BORDER = 0.15
#: Tracks, and how many filters are kept.
Counts: TypeAlias = tuple[int, int]


@lanes
def weigh_border(F: Array, base: np.uint64, n_states: int, field: Array, w: Array) -> None:
    """Let steps not count that do not begin well inside the field.

    The choice rests on where the step begins, never on where it leads: it biases nothing.
    """
    if math.isinf(field[2] - field[0]):
        return
    x, y = spread(0.0), spread(0.0)
    for k in range(n_states):
        fr = place(base, n_states, 0, k)
        share = exp_each(load(F, fr + _LNW))
        x += share * load(F, fr)
        y += share * load(F, fr + _1)
    most = spread(MOST_BORDER * min(field[2] - field[0], field[3] - field[1]))
    reach = BORDER_STEPS * root(2.0 * field[4] * load(w, at.ELAPSED))
    reach = pick(reach, most, reach, most)
    counts = load(w, at.WEIGHT)
    for inside in (x - field[0], field[2] - x, y - field[1], field[3] - y):
        counts = pick(inside, reach, spread(0.0), counts)
    store(w, at.WEIGHT, counts)


@lanes
def clear_sums(w: Array, n_duals: int) -> None:
    """Begin the sums of scores and of their outer products."""
    for a in range(np.uint64(n_duals)):
        store(w, at.SUMS + a * at.ROW, spread(0.0))
        for b in range(np.uint64(n_duals)):
            store(w, at.OUTER + (a * np.uint64(at.DUALS) + b) * at.ROW, spread(0.0))


@kernel_of_lanes
def add_scores(w: Array, n_duals: int) -> None:
    """Add the scores s and the products s s' of a step, as far as it counts."""
    n, weight = np.uint64(n_duals), load(w, at.WEIGHT)
    store(w, at.SUMS, load(w, at.SUMS) + weight * load(w, at.SCORE))
    for a in range(np.uint64(1), n):
        scaled, to = weight * load(w, at.SCORE + a * at.ROW), at.SUMS + a * at.ROW
        store(w, to, load(w, to) + scaled)
        line = at.OUTER + a * np.uint64(at.DUALS) * at.ROW
        for b in range(a, n):
            to = line + b * at.ROW
            store(w, to, load(w, to) + scaled * load(w, at.SCORE + b * at.ROW))


@lanes
def take_outer(w: Array, information: Array) -> None:
    """Write the sum of outer products (upper triangle)."""
    q = information.shape[0]
    for a in range(q):
        for b in range(q):
            at_ab = at.OUTER + np.uint64(at.DUALS * (a + 1) + b + 1) * at.ROW
            information[a, b] = add_up(load(w, at_ab)) if b >= a else 0.0


@lanes
def restart_false(F: Array, base: np.uint64, size: Size, lane: int, w: Array) -> bool:
    """Begin a track anew at a spot that no state can explain: a false link; return if it was one.

    The derivatives are void, and the log-likelihood is that of a spot just at the bound (so that
    no parameters can gain by calling spots false).
    """
    own = np.uint64(lane)
    if w[at.NEAREST + own] < FALSE_LINK:
        return False
    start(F, base, size, lane, w[at.TE + own], w)
    for q in range(np.uint64(1), np.uint64(at.DUALS)):
        w[at.SCORE + q * at.ROW + own] = 0.0
    w[at.SCORE + own] += 0.5 * (w[at.NEAREST + own] - FALSE_LINK)
    return True


@lanes
def lay_gap(batch: Batch, n: int, w: Array, lane: int) -> None:
    """Lay out the way of one track to its spot n."""
    own, elapsed = np.uint64(lane), batch.tracks.t_s[n] - batch.tracks.t_s[n - 1]
    steps = n_steps(elapsed, batch.interval_s)
    w[at.ELAPSED + own], w[at.LEFT + own] = elapsed, steps
    w[at.REST + own] = first_dark(elapsed, batch.tracks.exposure_s[n - 1], steps)
    w[at.LENGTH + own] = elapsed / steps


@lanes
def lay_interval(tracks: Tracks, n: int, w: Array, lane: int) -> None:
    """Lay out the next interval of one track on its way to spot n."""
    own = np.uint64(lane)
    rest = w[at.REST + own]
    w[at.LEFT + own] -= 1.0
    w[at.REST + own] = w[at.LENGTH + own]
    if w[at.LEFT + own] > 0.0:
        pass_unseen(w, lane, rest)
        return
    load_spot(w, lane, tracks.spot, n)
    see(w, lane, rest, tracks.exposure_s[n])
    w[at.WEIGHT + own] = tracks.weight[n]


@lanes
def keep_filter(batch: Batch, size: Size, n_kept: int, i: int, w: Array, lane: int) -> None:
    """Write the filter of track i as (K, 6, duals), if it is one of those kept."""
    if i >= n_kept:
        return
    n_states, n_duals = size
    for k in range(n_states):
        for q in range(n_duals):
            fr = place(at.FILTER, n_states, q, k) + np.uint64(lane)
            for element in range(6):
                to = ((i * n_states + k) * 6 + element) * n_duals + q
                batch.filters[to] = w[fr + np.uint64(element) * at.ROW]


@lanes
def deal_next(batch: Batch, size: Size, counts: Counts, i: int, w: Array, lane: int) -> int:
    """Begin the next track, from track i on, that has a second spot; return the one after it."""
    tracks, dealt = batch.tracks, batch.dealt
    dealt[lane] = -1
    while i < counts[0]:
        low, high = int(tracks.first[i]), int(tracks.first[i + 1])
        load_spot(w, lane, tracks.spot, low)
        start(w, at.FILTER, size, lane, tracks.exposure_s[low], w)
        if high > low + 1:
            dealt[lane], dealt[WIDTH + lane] = i, low + 1
            lay_gap(batch, low + 1, w, lane)
            return i + 1
        keep_filter(batch, size, counts[1], i, w, lane)
        i += 1
    idle(w, lane)
    return i


@lanes
def go_on(batch: Batch, size: Size, counts: Counts, following: int, w: Array, lane: int) -> int:
    """Lay out the way to the next spot of a track, or begin another; return the one after that."""
    i, n = int(batch.dealt[lane]), int(batch.dealt[WIDTH + lane]) + 1
    if n < batch.tracks.first[i + 1]:
        batch.dealt[WIDTH + lane] = n
        lay_gap(batch, n, w, lane)
        return following
    keep_filter(batch, size, counts[1], i, w, lane)
    return deal_next(batch, size, counts, following, w, lane)


@kernel_of_lanes
def run_lanes(batch: Batch, size: Size, counts: Counts, w: Array) -> int:
    """Filter all tracks of a batch, its arrays addresses; return how many steps counted."""
    tracks, dealt = batch.tracks, batch.dealt
    following, counted, busy = 0, 0, 0
    for lane in range(WIDTH):
        following = deal_next(batch, size, counts, following, w, lane)
        busy += int(dealt[lane] >= 0)
    while busy > 0:
        for lane in range(WIDTH):
            if dealt[lane] >= 0:
                lay_interval(tracks, int(dealt[WIDTH + lane]), w, lane)
        weigh_border(w, at.FILTER, size[0], tracks.field, w)
        step(w, at.FILTER, size, w, False)
        counted += settle(size, w)
        if size[1] > 1:
            add_scores(w, size[1])
        for lane in range(WIDTH):
            if w[at.SEEN + np.uint64(lane)] > 0.0:
                add_track_score(batch.sums, size[1], int(dealt[lane]), w, lane)
                following = go_on(batch, size, counts, following, w, lane)
                busy -= int(dealt[lane] < 0)
    return counted


@lanes
def settle(size: Size, w: Array) -> int:
    """Begin the tracks of false links anew; return how many steps counted."""
    counted = 0
    for lane in range(WIDTH):
        own = np.uint64(lane)
        if w[at.SEEN + own] > 0.0:
            false = restart_false(w, at.FILTER, size, lane, w)
            counted += int(w[at.WEIGHT + own] > 0.0 and not false)
    return counted


@lanes
def add_track_score(sums: Array, n_duals: int, i: int, w: Array, lane: int) -> None:
    """Add log-likelihood and score of a step to those of its track."""
    weight = w[at.WEIGHT + np.uint64(lane)]
    for q in range(n_duals):
        sums[i * n_duals + q] += weight * w[at.SCORE + np.uint64(q) * at.ROW + np.uint64(lane)]


@kernel
def run_tracks(batch: Batch, motion: Motion, information: Array, w: Array) -> tuple[float, int]:
    """Filter all tracks; return the log-likelihood and the number of steps that counted.

    Parameters
    ----------
    batch : Batch
        `filters` and `sums` are filled.
    information : (q, q)
        Sum of s s' over steps (upper triangle).
    w : (SIZE,)
        Scratch, as `arrays.scratch`.
    """
    size = (motion.ln_T.shape[0], motion.ln_T.shape[2])
    counts = (batch.tracks.first.shape[0] - 1, batch.filters.shape[0])
    rows, tracks = address(w), batch.tracks
    there = Tracks(
        address(tracks.first), address(tracks.t_s), address(tracks.exposure_s),
        address(tracks.spot), address(tracks.weight), address(tracks.field),
    )  # fmt: skip
    filters, sums, dealt = address(batch.filters), address(batch.sums), address(batch.dealt)
    batch.sums[:] = 0.0
    prepare(motion, rows)
    clear_sums(rows, size[1])
    counted = run_lanes(Batch(there, batch.interval_s, filters, sums, dealt), size, counts, rows)
    take_outer(rows, information)
    return batch.sums[:, 0].sum(), counted
