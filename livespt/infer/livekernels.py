"""A frame of the live filter in three calls: its spots taken, their steps, what is told of tracks.

Each call from Python costs 1 us and .1 us for every array, as much as most of a frame's work for a
hundred molecules; so this work is called from here. Tuples in place of NamedTuples: to name the
type of one of these takes numba another .6 us.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from livespt.infer.answerkernels import OWN, fill_model, take_rows
from livespt.infer.arrays import Array, Bank, Ints, Motion, Seen, Step
from livespt.infer.bankkernels import step_bank
from livespt.infer.framekernels import FIRST_FLOAT, absorb, fill_table, tally
from livespt.infer.historykernels import occupancy_at
from livespt.infer.motionkernels import fill_motion
from livespt.infer.ownkernels import Own, seen_at, take_own
from livespt.infer.slotkernels import find
from livespt.jit import brief_kernel, kernel, lanes
from livespt.vectors import address

#: The numbers of a frame, as floats. Told: its number and time, its exposure; the nominal interval;
#: whether the parameters are learned from frames, and from how many steps; the error scale squared,
#: with which it is filtered, and then that for the next one.
FRAME, T_S, EXPOSURE_S, INTERVAL_S, LEARNS, N_STEPS, C2 = range(7)
#: Answered: steps that counted, tracks that have their second spot; the log-likelihood; the score
#: for ln D of all states, and the information on it per step; whether the parameters have moved
#: (`MOVED`), or would have but for an information without an inverse (`STUCK`); the fastest D then;
#: D by state before.
COUNTED, SECOND, LOGLIK, SCORE, PER_STEP, ABSORBED, FASTEST, D = range(7, 15)
MOVED, STUCK = 1.0, 2.0
N_NUMBERS = D + 4
#: The fields of a NamedTuple, or some of them.
Fields: TypeAlias = tuple[Any, ...]


@brief_kernel
def take_spots(
    table: NDArray[np.void], links: tuple[Ints, Array], whole: Ints, spot: Array, weight: Array,
    known: tuple[Ints, Ints, Ints], light: tuple[NDArray[np.int32], Array],
) -> tuple[int, int]:  # fmt: skip
    """Tally the light; take the rows that belong to tracks, and find these.

    Returns what `take_rows` and `find` do.

    Parameters
    ----------
    whole : (3, n)
        Becomes the spots' rows, tracks and slots.
    known
        Names, their slots, and the stamp of `slotkernels`.
    light
        As `tally` takes them; nothing is counted where the counts have no row.
    """
    if light[0].shape[0] > 0:
        tally(table, links[0], links[1], light[0], light[1])
    n = take_rows(table, links, whole, spot, weight)
    return n, find(known[0], known[1], whole[1][:n], known[2], whole[2])


@kernel
def take_frame(
    there: Fields, spotted: Fields, numbers: Array, model: Fields,
    learned: tuple[Array, Array, Array], told: tuple[Ints, Array, Array, Array], out: Fields,
) -> None:  # fmt: skip
    """Step the bank, learn from it, and write what is published of the model.

    Parameters
    ----------
    there
        A `Bank`.
    spotted
        A `Seen` from its slots on.
    numbers : (N_NUMBERS,)
        See `FRAME`.
    model
        A `Motion` but for its last, moved on by what is learned.
    learned : (q,), (q, q), (q, q)
        theta, its information and covariance.
    told
        The lags, what ended tracks said and the occupancies of `occupancy_at`; the answer of
        `fill_model`.
    out
        Scratch of `arrays.scratch`; position, p_state, score and information of a `Step`; scratch
        (q, q), (K, K + 1) and (3, K, K).
    """
    bank = Bank(there[0], there[1], there[2], there[3], there[4], there[5], there[6])
    seen = seen_of(spotted, numbers)
    at = Motion(model[0], model[1], model[2], model[3], numbers[C2])
    step = Step(out[1], out[2], out[3], out[4])
    numbers[COUNTED] = step_bank(bank, seen, at, numbers[INTERVAL_S], out[0], step)
    note(bank.n_spots, seen.slot, at.D, out[3], learned[1], numbers)
    if numbers[COUNTED] > 0.0 and numbers[LEARNS] > 0.0:
        numbers[ABSORBED] = STUCK
        if absorb(out[3], out[4], learned[1], learned[2], learned[0], out[5]):
            numbers[ABSORBED] = MOVED
            fill_motion(learned[0], model[0], model[1], model[2], model[3], out[6])
            numbers[C2] = math.exp(2.0 * learned[0][-1])
            numbers[FASTEST] = model[0].max()
            at = Motion(model[0], model[1], model[2], model[3], numbers[C2])
    occupancy_at(bank, seen.frame, told[0], told[1], out[0], told[2])
    if numbers[ABSORBED] != STUCK:
        fill_model(at, learned[2], told[2], numbers[INTERVAL_S], told[3], out[7])


@lanes
def seen_of(spotted: Fields, numbers: Array) -> Seen:
    """Return the spots of a frame."""
    return Seen(
        int(numbers[FRAME]), numbers[T_S], numbers[EXPOSURE_S], spotted[0], spotted[1], spotted[2],
        spotted[3],
    )  # fmt: skip


@kernel
def note(
    n_spots: Ints, slot: Ints, D_um2_s: Array, score: Array, information: Array, numbers: Array
) -> None:
    """Write the numbers that a frame answers before anything is learned from it."""
    numbers[SECOND], numbers[LOGLIK], numbers[ABSORBED] = 0.0, score[0], 0.0
    numbers[SCORE], numbers[PER_STEP] = 0.0, 0.0
    for i in range(slot.shape[0]):
        numbers[SECOND] += 1.0 if n_spots[slot[i]] == 2 else 0.0
    for k in range(D_um2_s.shape[0]):
        numbers[SCORE] += score[1 + k]
        numbers[D + k] = D_um2_s[k]
        for j in range(D_um2_s.shape[0]):
            numbers[PER_STEP] += information[k, j]
    numbers[PER_STEP] /= max(numbers[N_STEPS], 1.0)


@kernel
def tell_tracks(
    own: Own, seen: Fields, pooled: tuple[float, float], whole: Ints,
    state: tuple[Array, Array, Array, Ints], longs: Ints, w: Array,
) -> None:  # fmt: skip
    """Step each track's own D; count its spots; fill the rows of `Estimates.table`.

    Parameters
    ----------
    own, pooled, w
        As in `ownkernels.step_own`.
    seen
        A `Seen`.
    whole, longs
        As in `fill_table`; `state` are its position, p_state, D and states.
    """
    n, width = longs.shape
    spots = Seen(seen[0], seen[1], seen[2], seen[3], seen[4], seen[5], seen[6])
    there = (address(own[0]), address(own[1]), address(own[2]), address(own[3]))
    told = (address(longs.view(np.float64)), width, FIRST_FLOAT + OWN)
    take_own(there, seen_at(spots), n, pooled, told, address(w))
    for i in range(n):
        own[2][spots.slot[i]] += 1
    fill_table(whole, own[2], state[0], state[1], state[2], state[3], longs)
