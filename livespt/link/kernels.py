"""The linker's frame in one call, `advance`, and a look ahead for the guide."""

import numpy as np
from numpy.typing import NDArray

from livespt.jit import inlined, kernel
from livespt.link.assign_kernels import choose
from livespt.link.bank import (
    F8,
    I8,
    UNKNOWN,
    Bank,
    Beside,
    Edges,
    Elapsed,
    Learned,
    Motion,
    Sheet,
    Size,
)
from livespt.link.beside_kernels import predict, update
from livespt.link.graph_kernels import lay_out, load
from livespt.link.learn_kernels import learn, learned_of, motion_of
from livespt.link.marginal_kernels import marginal_of, marginals
from livespt.link.motion_kernels import bear, believe, foresee, pass_over
from livespt.link.propose_kernels import propose
from livespt.link.room_kernels import parts_of, past_of

#: A track is given up when the molecule's probability to exist falls below this.
GIVE_UP = 0.05


@kernel
def advance(
    table: NDArray[np.void], again: bool, numbers: F8, wholes: I8, size: Size, slot: int,
    block: F8, frame: int, elapsed: Elapsed, next_id: int, track_id: I8, p_link: F8, ended: I8,
) -> tuple[int, int, int, int, int]:  # fmt: skip
    """Take one frame in: carry the tracks to it, choose the links, update, end and begin tracks.

    The tracks are those of `slot` (`livespt.link.room_kernels`), `block` is what is learned
    (`livespt.link.learn_kernels`). `track_id` and `p_link` are filled in the table's order.

    Returns
    -------
    (first bad row or -1, number of links, n_live, n_ended, next number). Where a row is bad
    nothing was changed; where the links overflow the room, enlarge it and call `again`.
    """
    bank, sheet, edges, search, parts, beside = parts_of(numbers, wholes, size, slot)
    past, learned = past_of(numbers, wholes, size), learned_of(block, size.n_modes)
    counts, when, motion = past.n[slot], past.when[slot], motion_of(learned)
    n_live = had = int(counts[0])
    n, bad = load(table, search)
    if bad >= 0:
        return bad, 0, n_live, 0, next_id
    if not again:
        if n > 0:
            lay_out(n, search, sheet)
        predict(bank, n_live, motion, elapsed, beside)
    n_edges = propose(bank, n_live, n, motion, elapsed.exposure_s, sheet, edges, beside)
    if n_edges > edges.spot.shape[0]:
        return -1, n_edges, n_live, 0, next_id
    choose(n_live, n, edges, bank.spot, bank.cost, sheet.owner, search)
    marginals(n_live, n, edges, sheet.p, parts)
    for r in range(table.shape[0]):
        track_id[r] = -1
        p_link[r] = 0.0
    n_live, n_ended = settle(
        bank, n_live, n, motion, elapsed, sheet, edges, beside, learned, next_id, track_id, p_link,
        ended,
    )  # fmt: skip
    next_id += n_live + n_ended - had
    learn(learned, sheet.frame, had > 0)
    counts[0], counts[1], counts[2], counts[3] = n_live, n, frame, next_id
    when[0], when[1], when[2] = elapsed.n_walk, elapsed.piece_s, elapsed.n_life
    when[3] = elapsed.exposure_s
    return -1, n_edges, n_live, n_ended, next_id


@kernel
def look_ahead(
    bank: Bank, n_live: int, motion: Motion, elapsed: Elapsed, beside: Beside, modes: F8, p_on: F8,
    blur: F8,
) -> None:  # fmt: skip
    """Carry a copy of the tracks to this frame and fill what they expect to be seen in it."""
    predict(bank, n_live, motion, elapsed, beside)
    foresee(bank, n_live, motion, elapsed.exposure_s, modes, p_on, blur)


@inlined
def settle(
    bank: Bank, n_live: int, n: int, motion: Motion, elapsed: Elapsed, sheet: Sheet, edges: Edges,
    beside: Beside, learned: Learned, next_id: int, track_id: I8, p_link: F8, ended: I8,
) -> tuple[int, int]:  # fmt: skip
    """Update all tracks with the links chosen in `bank.spot`, end the dead, begin the new.

    A guided row is no witness of switches or of new spots, begins no track, and leaves some
    doubt whether the molecule shines. Returns (n_live, n_ended).
    """
    modes, life, chosen = bank.modes, bank.life, bank.spot
    spots, row, owner, p_new = sheet.spots, sheet.row, sheet.owner, sheet.p
    number, p_chosen = sheet.number, sheet.p_link
    start, spot, p_edge = edges.start, edges.spot, edges.p
    D_um2_s, numbers = motion.D_um2_s, bank.track_id
    tally, gaps = learned.tally, learned.gaps
    exposure_s = elapsed.exposure_s
    for j in range(n):
        number[j] = -1
        p_chosen[j] = p_new[j]
        if spots[j, 5] == 0.0:
            tally[0] += p_new[j]
            tally[1] += 1.0
    for i in range(n_live):
        j = chosen[i]
        if j < 0:
            pass_over(life, i, motion.p_detect)
            count_miss(life, i, elapsed.n_life, gaps)
            continue
        p = marginal_of(start, spot, p_edge, i, j)
        number[j] = numbers[i]
        p_chosen[j] = p
        if spots[j, 5] > 0.0:
            believe(life, i, bank.cost[i])
            life[i, 2] = UNKNOWN
            continue
        count_link(life, i, p, elapsed.n_life, gaps)
        life[i, 0] = 1.0
        life[i, 1] = 0.0
    update(bank, n_live, motion, elapsed, spots, p_chosen, learned.counts, beside)
    n_kept, n_ended = bury(modes, life, numbers, n_live, ended)
    for j in range(n):
        if owner[j] < 0 and spots[j, 5] == 0.0:
            bear(modes, n_kept, spots, j, D_um2_s, motion.occupancy, exposure_s)
            numbers[n_kept] = next_id
            life[n_kept, 0] = motion.p_real
            life[n_kept, 1] = 0.0
            life[n_kept, 2] = UNKNOWN
            number[j] = next_id
            next_id += 1
            n_kept += 1
    for j in range(n):
        track_id[row[j]] = number[j]
        p_link[row[j]] = p_chosen[j]
    return n_kept, n_ended


@inlined
def count_miss(life: F8, i: int, n_life: int, gaps: F8) -> None:
    """Track i was not found: its gap grows, and is counted where the track is given up."""
    if life[i, 2] < 0.0:
        return
    life[i, 2] = life[i, 2] + 1.0 if n_life == 1 else UNKNOWN
    gap = int(life[i, 2])
    if 0 <= gap < gaps.shape[1] and life[i, 0] + life[i, 1] < GIVE_UP:
        gaps[1, gap] += 1.0


@inlined
def count_link(life: F8, i: int, p_link: float, n_life: int, gaps: F8) -> None:
    """Track i was found: count the gap before, and begin the next."""
    gap = int(life[i, 2])
    if n_life == 1 and 0 <= gap < gaps.shape[1]:
        gaps[0, gap] += p_link
    life[i, 2] = 0.0


@kernel
def bury(modes: F8, life: F8, numbers: I8, n_live: int, ended: I8) -> tuple[int, int]:
    """Drop the tracks that hardly exist any more, keeping the order of the rest."""
    n_kept = 0
    n_ended = 0
    for i in range(n_live):
        if life[i, 0] + life[i, 1] < GIVE_UP:
            if life[i, 0] >= 0.0:  # one that never was is not told of
                ended[n_ended] = numbers[i]
                n_ended += 1
            continue
        if n_kept < i:
            numbers[n_kept] = numbers[i]
            life[n_kept, 0] = life[i, 0]
            life[n_kept, 1] = life[i, 1]
            life[n_kept, 2] = life[i, 2]
            for k in range(modes.shape[1]):
                for f in range(6):
                    modes[n_kept, k, f] = modes[i, k, f]
        n_kept += 1
    return n_kept, n_ended
