"""The live tracks: one step of each per frame (`stepkernels`).

A block of `WIDTH` tracks takes a frame's step side by side; where one of them was not seen nothing
is written. A track that comes back after a gap is first lifted out of its block, and crosses the
unseen intervals beside others of the same frame.
"""

from __future__ import annotations

import math

import numpy as np

from livespt.infer import layout as at
from livespt.infer.arrays import LNW, Array, Bank, Motion, Seen, Size, Step
from livespt.infer.batchkernels import (
    add_scores,
    clear_sums,
    restart_false,
    take_outer,
    weigh_border,
)
from livespt.infer.stepkernels import (
    begin_back,
    chain_back,
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
from livespt.jit import kernel, kernel_of_lanes, lanes
from livespt.vectors import WIDTH, add_up, address, load, pick, spread, store, store_some

_1, _2, _3, _4, _5 = (at.ROW * np.uint64(i) for i in range(1, 6))
_LNW = at.ROW * np.uint64(LNW)


@lanes
def addresses(bank: Bank) -> Bank:
    """Return the bank with addresses in the place of arrays."""
    return Bank(
        address(bank.F), address(bank.t_s), address(bank.exposure_s), address(bank.n_spots),
        address(bank.row), address(bank.past_frame), address(bank.past_back),
    )  # fmt: skip


@kernel
def step_bank(bank: Bank, seen: Seen, motion: Motion, interval: float, w: Array, out: Step) -> int:
    """Take the spots of one frame into their tracks; return how many steps counted."""
    size = (motion.ln_T.shape[0], motion.ln_T.shape[2])
    counts = (seen.slot.shape[0], bank.n_spots.shape[0] // WIDTH)
    rows, depth = address(w), bank.past_frame.shape[0] // bank.n_spots.shape[0]
    spots = Seen(
        seen.frame, seen.t_s, seen.exposure_s, address(seen.slot), address(seen.spot),
        address(seen.weight), address(seen.field),
    )  # fmt: skip
    answers = Step(
        address(out.position), address(out.p_state), address(out.score), address(out.information)
    )
    prepare(motion, rows)
    clear_sums(rows, size[1])
    rows[at.INTERVAL], rows[at.DEPTH] = interval, depth
    counted = step_blocks(addresses(bank), spots, size, counts, rows, answers)
    for q in range(out.score.shape[0]):
        out.score[q] = add_up(load(rows, at.SUMS + np.uint64(q) * at.ROW))
    take_outer(rows, out.information)
    return counted


@kernel_of_lanes
def step_blocks(
    bank: Bank, seen: Seen, size: Size, counts: tuple[int, int], w: Array, out: Step
) -> int:
    """Take a frame's spots into all blocks; `counts` are spots and blocks, arrays are addresses."""
    cross_gaps(bank, seen, size, counts[0], w)
    for i in range(counts[0]):
        bank.row[seen.slot[i]] = i + 1
    counted = 0
    for block in range(counts[1]):
        n, n_old = lay_block(bank, seen, block, w)
        if n == 0:
            continue
        begin_back(w, size[0])
        if n_old > 0:
            step_old(bank, seen, block, size, w)
        counted += settle(bank, seen, block, size, w)
        if n_old > 0:
            add_scores(w, size[1])
        refine(size[0], w)
        write(bank, block, size[0], w, out)
        remember(bank, seen, block, size[0], w)
    return counted


@lanes
def first_of(block: int, size: Size) -> np.uint64:
    """Return where the filters of a block begin."""
    return np.uint64(block * size[0] * size[1]) * at.STATE


@lanes
def past_of(block: int, depth: int, frame: int) -> np.uint64:
    """Return where a frame's row lies in `past_frame`; `past_back` has K^2 for each."""
    return np.uint64(block * depth + frame % depth) * at.ROW


@lanes
def lay_block(bank: Bank, seen: Seen, block: int, w: Array) -> tuple[int, int]:
    """Lay out what a block's tracks do; return how many were seen, and seen before too."""
    n, n_old = 0, 0
    for lane in range(WIDTH):
        slot, own = block * WIDTH + lane, np.uint64(lane)
        i = bank.row[slot] - 1
        idle(w, lane)
        w[at.TAKEN + own] = 0.0
        if i < 0:
            continue
        n += 1
        w[at.TAKEN + own] = 1.0
        load_spot(w, lane, seen.spot, i)
        if bank.n_spots[slot] > 0:
            n_old += 1
            elapsed = seen.t_s - bank.t_s[slot]
            steps = n_steps(elapsed, w[at.INTERVAL])
            dark = elapsed / steps
            if steps == 1:
                dark = first_dark(elapsed, bank.exposure_s[slot], 1)
            see(w, lane, dark, seen.exposure_s)
            w[at.ELAPSED + own], w[at.WEIGHT + own] = elapsed, seen.weight[i]
    return n, n_old


@lanes
def step_old(bank: Bank, seen: Seen, block: int, size: Size, w: Array) -> None:
    """Take a block's spots into those tracks that had spots before."""
    base = first_of(block, size)
    weigh_border(bank.F, base, size[0], seen.field, w)
    past = past_of(block, int(w[at.DEPTH]), seen.frame)
    one, none = spread(1.0), spread(0.0)
    crossed = pick(spread(seen.frame + 0.5), load(bank.past_frame, past), one, none)
    past *= np.uint64(size[0] * size[0])
    for j in range(size[0]):
        for k in range(size[0]):
            to = at.PRODUCT + np.uint64(at.STATES * j + k) * at.ROW
            store_some(w, to, load(bank.past_back, past), crossed)
            past += at.ROW
    step(bank.F, base, size, w, True)
    chain_back(w, size[0])


@lanes
def settle(bank: Bank, seen: Seen, block: int, size: Size, w: Array) -> int:
    """Begin new tracks, and those of false links anew; return how many steps counted."""
    base, counted = first_of(block, size), 0
    for lane in range(WIDTH):
        own = np.uint64(lane)
        if w[at.TAKEN + own] == 0.0:
            continue
        if w[at.SOME + own] == 0.0:
            start(bank.F, base, size, lane, seen.exposure_s, w)
            restart_output(size[0], lane, w)
        elif restart_false(bank.F, base, size, lane, w):
            restart_output(size[0], lane, w)
        elif w[at.WEIGHT + own] > 0.0:
            counted += 1
    return counted


@lanes
def restart_output(n_states: int, lane: int, w: Array) -> None:
    """Make the rows say what a first spot says: the exposure mean is the spot itself."""
    own, c2 = np.uint64(lane), w[at.C2]
    for k in range(n_states):
        to = at.MEAN + np.uint64(k) * _5 + own
        ln_share = w[at.LN_BEGIN + np.uint64(at.DUALS * k)]
        w[at.SHARE + np.uint64(k) * at.ROW + own] = math.exp(ln_share)
        w[to], w[to + _1] = w[at.SPOT + own], w[at.SPOT + _1 + own]
        w[to + _2], w[to + _4] = c2 * w[at.SPOT + _2 + own], c2 * w[at.SPOT + _3 + own]
        w[to + _3] = c2 * w[at.SPOT + _4 + own]
        for j in range(n_states):
            at_jk = at.PRODUCT + np.uint64(at.STATES * j + k) * at.ROW + own
            w[at_jk] = 1.0 if j == k else 0.0


@lanes
def refine(n_states: int, w: Array) -> None:
    """Merge the means over the exposure and their covariances over all states."""
    mx, my = spread(0.0), spread(0.0)
    pxx, pxy, pyy = spread(0.0), spread(0.0), spread(0.0)
    for k in range(n_states):
        p, fr = load(w, at.SHARE + np.uint64(k) * at.ROW), at.MEAN + np.uint64(k) * _5
        mx += p * load(w, fr)
        my += p * load(w, fr + _1)
    for k in range(n_states):
        p, fr = load(w, at.SHARE + np.uint64(k) * at.ROW), at.MEAN + np.uint64(k) * _5
        x, y = load(w, fr) - mx, load(w, fr + _1) - my
        pxx += p * (load(w, fr + _2) + x * x)
        pxy += p * (load(w, fr + _3) + x * y)
        pyy += p * (load(w, fr + _4) + y * y)
    store(w, at.POSITION, mx)
    store(w, at.POSITION + _1, my)
    store(w, at.POSITION + _2, pxx)
    store(w, at.POSITION + _3, pxy)
    store(w, at.POSITION + _4, pyy)


@lanes
def write(bank: Bank, block: int, n_states: int, w: Array, out: Step) -> None:
    """Write the states' shares and the positions to the spots' rows."""
    for lane in range(WIDTH):
        own, i = np.uint64(lane), bank.row[block * WIDTH + lane] - 1
        if i < 0:
            continue
        for k in range(n_states):
            out.p_state[i * n_states + k] = w[at.SHARE + np.uint64(k) * at.ROW + own]
        for element in range(5):
            position = w[at.POSITION + np.uint64(element) * at.ROW + own]
            out.position[i * 5 + element] = position


@lanes
def remember(bank: Bank, seen: Seen, block: int, n_states: int, w: Array) -> None:
    """Note the spots in the tracks' histories, with p(state before | state now)."""
    taken, first = load(w, at.TAKEN), np.uint64(block * WIDTH)
    store_some(bank.t_s, first, spread(seen.t_s), taken)
    store_some(bank.exposure_s, first, spread(seen.exposure_s), taken)
    past = past_of(block, int(w[at.DEPTH]), seen.frame)
    store_some(bank.past_frame, past, spread(seen.frame + 1.0), taken)
    past *= np.uint64(n_states * n_states)
    for j in range(n_states):
        for k in range(n_states):
            p = load(w, at.PRODUCT + np.uint64(at.STATES * j + k) * at.ROW)
            store_some(bank.past_back, past, p, taken)
            past += at.ROW
    for slot in range(block * WIDTH, (block + 1) * WIDTH):
        if bank.row[slot] > 0:
            bank.row[slot] = 0
            bank.n_spots[slot] += 1


@kernel_of_lanes
def cross_gaps(bank: Bank, seen: Seen, size: Size, n_spots: int, w: Array) -> None:
    """Take the tracks that were not seen for some intervals to the last one, `WIDTH` at a time."""
    lane = 0
    for i in range(n_spots):
        slot = int(seen.slot[i])
        elapsed = seen.t_s - bank.t_s[slot]
        steps = n_steps(elapsed, w[at.INTERVAL]) if bank.n_spots[slot] > 0 else 1
        if steps == 1:
            continue
        own = np.uint64(lane)
        w[at.SLOT + own], w[at.LEFT + own], w[at.LENGTH + own] = slot, steps - 1, elapsed / steps
        w[at.REST + own] = first_dark(elapsed, bank.exposure_s[slot], steps)
        lane += 1
        if lane == WIDTH:
            cross(bank, seen.frame, lane, size, w)
            lane = 0
    if lane > 0:
        cross(bank, seen.frame, lane, size, w)


@kernel_of_lanes
def cross(bank: Bank, frame: int, n: int, size: Size, w: Array) -> None:
    """Let the tracks of the first n lanes spend the intervals that are LEFT.

    Their p(state at the last spot | state now) is left where this frame's will stand.
    """
    most = 0
    for lane in range(n):
        slot = int(w[at.SLOT + np.uint64(lane)])
        fr = first_of(slot // WIDTH, size) + np.uint64(slot % WIDTH)
        copy_lane(bank.F, fr, w, at.FILTER + np.uint64(lane), size)
        most = max(most, int(w[at.LEFT + np.uint64(lane)]))
    begin_back(w, size[0])
    for i in range(most):
        for lane in range(WIDTH):
            idle(w, lane)
            if lane < n and i < w[at.LEFT + np.uint64(lane)]:
                rest = at.REST if i == 0 else at.LENGTH
                pass_unseen(w, lane, w[rest + np.uint64(lane)])
        step(w, at.FILTER, size, w, False)
        chain_back(w, size[0])
    for lane in range(n):
        slot, own = int(w[at.SLOT + np.uint64(lane)]), np.uint64(lane)
        to = first_of(slot // WIDTH, size) + np.uint64(slot % WIDTH)
        copy_lane(w, at.FILTER + own, bank.F, to, size)
        past = past_of(slot // WIDTH, int(w[at.DEPTH]), frame)
        bank.past_frame[past + np.uint64(slot % WIDTH)] = frame + 1.0
        past = past * np.uint64(size[0] * size[0]) + np.uint64(slot % WIDTH)
        for j in range(size[0]):
            for k in range(size[0]):
                at_jk = at.PRODUCT + np.uint64(at.STATES * j + k) * at.ROW
                bank.past_back[past] = w[at_jk + own]
                past += at.ROW


@lanes
def copy_lane(source: Array, fr: np.uint64, target: Array, to: np.uint64, size: Size) -> None:
    """Copy the filter of one track."""
    for i in range(np.uint64(6 * size[0] * size[1])):
        target[to + i * at.ROW] = source[fr + i * at.ROW]
