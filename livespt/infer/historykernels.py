"""Occupancy at a fixed lag, from what the steps of the live tracks have left behind.

Fixed-lag smoothing runs the chain backward: with B_n[j, k] = p(s_n-1 = j | s_n = k, data to n),
which the merge of each step leaves behind, p(s_n-L | data to n) = B_n-L+1 ... B_n w_n (Kim's
smoother for the discrete state, over L spots of the track).
"""

from __future__ import annotations

import numpy as np

from livespt.element_kernels import exp_each
from livespt.infer import layout as at
from livespt.infer.arrays import LNW, Array, Bank, Ints, Size
from livespt.infer.bankkernels import addresses, first_of, past_of
from livespt.infer.tangentkernels import place
from livespt.jit import brief_kernel, kernel, kernel_of_lanes, lanes
from livespt.vectors import WIDTH, Vector, add_up, address, load, pick, spread, store, store_some

_LNW = at.ROW * np.uint64(LNW)


@kernel_of_lanes
def add_past(bank: Bank, block: int, size: Size, span: tuple[int, int], w: Array) -> None:
    """Add the smoothed shares of a block's tracks at each frame of the history to SUMS in w.

    The frames descend from `span[0]`, of which there are `span[1]`; each has K + 1 rows, the last
    counts the tracks. Of each track as much is added as its WEIGHT in w. A frame in which a track
    was not seen adds nothing.
    """
    (n_states, _), (newest, depth) = size, span
    base, weight = first_of(block, size), load(w, at.WEIGHT)
    for k in range(n_states):
        p = exp_each(load(bank.F, place(base, n_states, 0, k) + _LNW))
        store(w, at.SHARE + np.uint64(k) * at.ROW, p)
    for age in range(min(depth, newest + 1)):
        past = past_of(block, depth, newest - age)
        was = load(bank.past_frame, past)
        was = pick(spread(newest - age + 0.5), was, weight, spread(0.0))
        to = at.HISTORY + np.uint64(age * (n_states + 1)) * at.ROW
        for k in range(n_states):
            store(w, to, load(w, to) + was * load(w, at.SHARE + np.uint64(k) * at.ROW))
            to += at.ROW
        store(w, to, load(w, to) + was)
        if age + 1 < depth:
            go_back(bank, past * np.uint64(n_states * n_states), n_states, was, w)


@lanes
def go_back(bank: Bank, past: np.uint64, n_states: int, was: Vector, w: Array) -> None:
    """Turn SHARE at a frame into that at the spot before, where a track was seen in the frame."""
    for j in range(n_states):
        total = spread(0.0)
        for k in range(n_states):
            B = load(bank.past_back, past + np.uint64(n_states * j + k) * at.ROW)
            total += B * load(w, at.SHARE + np.uint64(k) * at.ROW)
        store(w, at.AFTER + np.uint64(j) * at.ROW, total)
    for j in range(np.uint64(n_states)):
        store_some(w, at.SHARE + j * at.ROW, load(w, at.AFTER + j * at.ROW), was)


@lanes
def measures(bank: Bank, n_states: int) -> tuple[Size, int]:
    """Return states and duals; how many frames the history holds."""
    capacity = bank.n_spots.shape[0]
    size = (n_states, bank.F.shape[0] // (6 * n_states * capacity))
    return size, bank.past_frame.shape[0] // capacity


@kernel
def occupancy_at(
    bank: Bank, frame: int, lags: Ints, departed: Array, w: Array, occupancy: Array
) -> None:
    """Write the share of each state in the molecules seen `lags` frames before `frame`.

    A frame of which no track knows leaves what stands there: at the first lag; further on the lag
    before is repeated.

    Parameters
    ----------
    lags : (L,)
        Ascending, the last being the history's depth - 1.
    departed : (depth, 2 + K)
        What tracks that have ended said: frame + 1; sums over the shares, their number.
    occupancy : (L, K)
    """
    n_states = occupancy.shape[1]
    size, depth = measures(bank, n_states)
    rows = address(w)
    clear_history(rows, depth * (n_states + 1))
    add_live(addresses(bank), bank.n_spots.shape[0] // WIDTH, size, (frame, depth), rows)
    for i in range(lags.shape[0]):
        there = departed[(frame - lags[i]) % depth]
        known = there[0] == frame - lags[i] + 1
        total = past_sum(rows, lags[i], n_states, n_states)
        total += there[1 + n_states] if known else 0.0
        for k in range(n_states):
            if total > 0.0:
                said = past_sum(rows, lags[i], n_states, k)
                occupancy[i, k] = (said + (there[1 + k] if known else 0.0)) / total
            elif i > 0:
                occupancy[i, k] = occupancy[i - 1, k]


@kernel_of_lanes
def add_live(bank: Bank, n_blocks: int, size: Size, span: tuple[int, int], w: Array) -> None:
    """Run `add_past` over all blocks with live tracks."""
    for block in range(n_blocks):
        live = 0
        for lane in range(WIDTH):
            is_live = int(bank.n_spots[block * WIDTH + lane] > 0)
            w[at.WEIGHT + np.uint64(lane)] = is_live
            live += is_live
        if live > 0:
            add_past(bank, block, size, span, w)


@lanes
def clear_history(w: Array, n: int) -> None:
    """Begin the sums over the history."""
    for i in range(np.uint64(n)):
        store(w, at.HISTORY + i * at.ROW, spread(0.0))


@lanes
def past_sum(w: Array, age: int, n_states: int, k: int) -> float:
    """Return the sum over the history `age` frames ago: of state k, or of all tracks (k = K)."""
    row = np.uint64(age * (n_states + 1) + k)
    return add_up(load(w, at.HISTORY + row * at.ROW))


@brief_kernel
def retire(bank: Bank, slots: Ints, frame: int, w: Array, departed: Array) -> None:
    """Free `slots`, their last words on the occupancy up to `frame` added to `departed`."""
    n_states = departed.shape[1] - 2
    size, depth = measures(bank, n_states)
    rows, there = address(w), addresses(bank)
    clear_history(rows, depth * (n_states + 1))
    for i in range(slots.shape[0]):
        slot = int(slots[i])
        own = np.uint64(slot % WIDTH)
        store(rows, at.WEIGHT, spread(0.0))
        rows[at.WEIGHT + own] = 1.0
        add_past(there, slot // WIDTH, size, (frame, depth), rows)
        bank.n_spots[slot] = 0
        for age in range(depth):
            bank.past_frame[past_of(slot // WIDTH, depth, age) + own] = 0.0
    for age in range(min(depth, frame + 1)):
        if past_sum(rows, age, n_states, n_states) > 0.0:
            said = departed[(frame - age) % depth]
            if said[0] != frame - age + 1:
                said[:] = 0.0
                said[0] = frame - age + 1
            for k in range(n_states + 1):
                said[1 + k] += past_sum(rows, age, n_states, k)
