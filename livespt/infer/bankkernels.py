"""One frame of the bank of live tracks, and occupancy at a fixed lag.

Fixed-lag smoothing runs the chain backward: with B_n[j, k] = p(s_n-1 = j | s_n = k, data to n),
which the merge of each step leaves behind, p(s_n-L | data to n) = B_n-L+1 ... B_n w_n (Kim's
smoother for the discrete state, over L spots of the track).
"""

from __future__ import annotations

import math

import numpy as np

from livespt.infer import layout as at
from livespt.infer.arrays import (
    LNW,
    MX,
    MY,
    PXX,
    PXY,
    PYY,
    Array,
    Bank,
    Ints,
    Motion,
    Seen,
    Step,
)
from livespt.infer.batchkernels import (
    add_outer,
    clear_outer,
    counts,
    restart_output,
    take_outer,
    take_spot,
)
from livespt.infer.columnkernels import load_spot
from livespt.infer.stepkernels import prepare, start
from livespt.jit import inlined, kernel, lanes

_1, _2, _3, _4 = (np.uint64(at.STATES * i) for i in range(1, 5))


@kernel
def step_bank(bank: Bank, seen: Seen, motion: Motion, interval: float, w: Array, step: Step) -> int:
    """Take the spots of one frame into their tracks; return how many steps counted."""
    step.score[:] = 0.0
    prepare(motion, w)
    clear_outer(w)
    spot, field, n_spots, t_s = seen.spot, seen.field, bank.n_spots, bank.t_s
    size = (motion.ln_T.shape[0], motion.ln_T.shape[2])
    F, length = bank.F.reshape(bank.F.size), 6 * size[0] * size[1]
    counted = 0
    for i in range(seen.slot.shape[0]):
        slot = int(seen.slot[i])
        base = np.uint64(slot * length)
        load_spot(spot, i, w)
        if n_spots[slot] == 0:
            start(F, base, seen.exposure_s, motion, w)
            restart_output(F, base, size, w)
        else:
            times = (seen.t_s - t_s[slot], bank.exposure_s[slot], seen.exposure_s)
            weight = seen.weight[i] * counts(F, base, size, times[0], field)
            if take_spot(F, base, times, motion, interval, w, True) and weight > 0.0:
                counted += 1
            for q in range(step.score.shape[0]):
                step.score[q] += weight * w[at.SCORE + np.uint64(q)]
            add_outer(step.information.shape[0], weight, w)
        remember(bank, slot, seen, w)
        refine(step, i, w)
    take_outer(w, step.information)
    return counted


@inlined
def remember(bank: Bank, slot: int, seen: Seen, w: Array) -> None:
    """Note this spot in the track's history, with p(state before | state now)."""
    _, depth, n_states, _ = bank.past_back.shape
    age = bank.n_spots[slot] % depth
    bank.past_frame[slot, age] = seen.frame
    for i in range(n_states):
        for k in range(n_states):
            bank.past_back[slot, age, i, k] = w[at.PRODUCT + np.uint64(at.STATES * i + k)]
    bank.t_s[slot] = seen.t_s
    bank.exposure_s[slot] = seen.exposure_s
    bank.n_spots[slot] += 1
    bank.n_kept[slot] = min(bank.n_kept[slot] + 1, depth)


@lanes
def refine(step: Step, i: int, w: Array) -> None:
    """Write the states' shares; the mean over the exposure and its covariance, merged over all."""
    n_states, out = step.p_state.shape[1], step.position
    mx, my, pxx, pxy, pyy = 0.0, 0.0, 0.0, 0.0, 0.0
    for k in range(n_states):
        p, fr = w[at.SHARE + np.uint64(k)], at.MEAN + np.uint64(k)
        step.p_state[i, k] = p
        mx += p * w[fr]
        my += p * w[fr + _1]
    for k in range(n_states):
        p, fr = w[at.SHARE + np.uint64(k)], at.MEAN + np.uint64(k)
        x, y = w[fr] - mx, w[fr + _1] - my
        pxx += p * (w[fr + _2] + x * x)
        pxy += p * (w[fr + _3] + x * y)
        pyy += p * (w[fr + _4] + y * y)
    out[i, MX], out[i, MY] = mx, my
    out[i, PXX], out[i, PXY], out[i, PYY] = pxx, pxy, pyy


@lanes
def add_past(bank: Bank, slot: int, frames: Ints, p: Array, sums: Array) -> None:
    """Add the smoothed p_state of one track at each of `frames` to `sums` (n, K + 1).

    `frames` descends; the last column counts the tracks. `p` is (2, K) scratch. Only spots of the
    history count: a frame in which the track was not seen adds nothing.
    """
    F, past_frame, past_back = bank.F, bank.past_frame, bank.past_back
    n_states, depth, n = p.shape[1], past_frame.shape[1], frames.shape[0]
    for k in range(n_states):
        p[0, k] = math.exp(F[slot, k, LNW, 0])
    target, oldest = 0, frames[n - 1]
    row = bank.n_spots[slot] % depth
    for _ in range(bank.n_kept[slot]):
        row = (row if row > 0 else depth) - 1
        frame = past_frame[slot, row]
        while target < n and frames[target] > frame:
            target += 1
        if target == n:
            return
        if frames[target] == frame:
            for k in range(n_states):
                sums[target, k] += p[0, k]
            sums[target, n_states] += 1.0
        if frame <= oldest:
            return
        for j in range(n_states):
            total = 0.0
            for k in range(n_states):
                total += past_back[slot, row, j, k] * p[0, k]
            p[1, j] = total
        for j in range(n_states):
            p[0, j] = p[1, j]


@kernel
def occupancy_at(bank: Bank, frames: Ints, p: Array, sums: Array) -> None:
    """Sum `add_past` over all live tracks."""
    for slot in range(bank.n_spots.shape[0]):
        if bank.n_spots[slot] > 0:
            add_past(bank, slot, frames, p, sums)


@kernel
def retire(bank: Bank, slots: Ints, frames: Ints, p: Array, sums: Array) -> None:
    """Free `slots`, their last words on the occupancy of `frames` added to `sums`."""
    for i in range(slots.shape[0]):
        add_past(bank, slots[i], frames, p, sums)
        bank.n_spots[slots[i]] = 0
        bank.n_kept[slots[i]] = 0
