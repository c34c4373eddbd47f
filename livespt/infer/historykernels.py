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
from livespt.jit import brief_kernel, kernel_of_lanes, lanes
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
def measures(bank: Bank, frames: Ints, sums: Array) -> tuple[Size, tuple[int, int]]:
    """Return states and duals; the newest frame of the history, and how many frames it holds."""
    capacity, n_states = bank.n_spots.shape[0], sums.shape[1] - 1
    depth = bank.past_frame.shape[0] // capacity
    oldest = int(frames[frames.shape[0] - 1])
    return (n_states, bank.F.shape[0] // (6 * n_states * capacity)), (oldest + depth - 1, depth)


@brief_kernel
def occupancy_at(bank: Bank, frames: Ints, w: Array, sums: Array) -> None:
    """Add the smoothed p_state of all live tracks at each of `frames` to `sums` (n, K + 1).

    `frames` descends to the oldest of the history; the last column counts the tracks.
    """
    size, span = measures(bank, frames, sums)
    rows = address(w)
    clear_history(rows, span[1] * (size[0] + 1))
    add_live(addresses(bank), bank.n_spots.shape[0] // WIDTH, size, span, rows)
    take_history(rows, frames, span[0], sums)


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
def take_history(w: Array, frames: Ints, newest: int, sums: Array) -> None:
    """Add the sums over the history at each of `frames` to `sums`."""
    n = sums.shape[1]
    for i in range(frames.shape[0]):
        for k in range(n):
            row = np.uint64((newest - frames[i]) * n + k)
            sums[i, k] += add_up(load(w, at.HISTORY + row * at.ROW))


@brief_kernel
def retire(bank: Bank, slots: Ints, frames: Ints, w: Array, sums: Array) -> None:
    """Free `slots`, their last words on the occupancy of `frames` added to `sums`."""
    size, span = measures(bank, frames, sums)
    rows, there = address(w), addresses(bank)
    clear_history(rows, span[1] * (size[0] + 1))
    for i in range(slots.shape[0]):
        slot = int(slots[i])
        own = np.uint64(slot % WIDTH)
        store(rows, at.WEIGHT, spread(0.0))
        rows[at.WEIGHT + own] = 1.0
        add_past(there, slot // WIDTH, size, span, rows)
        bank.n_spots[slot] = 0
        for age in range(span[1]):
            bank.past_frame[past_of(slot // WIDTH, span[1], age) + own] = 0.0
    take_history(rows, frames, span[0], sums)
