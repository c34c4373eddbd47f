"""The linker's frame in two calls: `front` up to the contested links, `back` once all is chosen."""

from livespt.jit import kernel
from livespt.link.bank import F8, I8, Bank, Contest, Edges, Elapsed, Motion, Sheet
from livespt.link.graph_kernels import choose, first_bad, lay_out, marginal_of, marginals, propose
from livespt.link.motion_kernels import (
    bear,
    believe,
    cost_of,
    count_switches,
    follow,
    foresee,
    miss,
    predict,
)

#: A track is given up when the molecule's probability to exist falls below this.
GIVE_UP = 0.05


@kernel
def front(
    raw: F8, n: int, bank: Bank, n_live: int, motion: Motion, elapsed: Elapsed, sheet: Sheet,
    edges: Edges, contest: Contest, scratch: F8,
) -> tuple[int, int, int, int, int]:  # fmt: skip
    """Check and lay out the spots, carry the tracks here, list the links, fix the certain ones.

    Returns
    -------
    (first bad row or -1, number of links, rows, columns, entries of the contest). Where a row is
    bad nothing was changed; where the links overflow `edges`, enlarge it and call `assign`.
    """
    bad = first_bad(raw, n)
    if bad >= 0:
        return bad, 0, 0, 0, 0
    if n > 0:
        lay_out(raw, n, sheet)
    predict(bank, n_live, motion, elapsed, scratch)
    n_edges, rows, columns, entries = assign(
        bank, n_live, n, motion, elapsed.exposure_s, sheet, edges, contest
    )
    return bad, n_edges, rows, columns, entries


@kernel
def look_ahead(
    bank: Bank, n_live: int, motion: Motion, elapsed: Elapsed, scratch: F8, modes: F8, p_on: F8,
    blur: F8,
) -> None:  # fmt: skip
    """Carry a copy of the tracks to this frame and fill what they expect to be seen in it."""
    predict(bank, n_live, motion, elapsed, scratch)
    foresee(bank, n_live, motion, elapsed.exposure_s, modes, p_on, blur)


@kernel
def assign(
    bank: Bank, n_live: int, n: int, motion: Motion, exposure_s: float, sheet: Sheet,
    edges: Edges, contest: Contest,
) -> tuple[int, int, int, int]:  # fmt: skip
    """List the links and fix the certain ones, if there is room."""
    n_edges = propose(bank, n_live, n, motion, exposure_s, sheet, edges)
    if n_edges > edges.spot.shape[0]:
        return n_edges, 0, 0, 0
    rows, columns, entries = choose(bank, n_live, n, edges, sheet, contest)
    return n_edges, rows, columns, entries


@kernel
def back(
    bank: Bank, n_live: int, n: int, motion: Motion, elapsed: Elapsed, sheet: Sheet, edges: Edges,
    scratch: F8, counts: F8, tally: F8, next_id: int, track_id: I8, p_link: F8, ended: I8,
) -> tuple[int, int]:  # fmt: skip
    """Update all tracks with the links chosen in `bank.spot`, end the dead, begin the new.

    `track_id` and `p_link` are filled in the rows' order; `tally` gains the expected number of
    spots that continue no track, `counts` the expected switches. A guided row is no witness of
    either, begins no track, and leaves some doubt whether the molecule shines.

    Returns
    -------
    (n_live, n_ended)
    """
    marginals(n_live, n, edges, sheet)
    for j in range(n):
        track_id[sheet.row[j]] = -1
        p_link[sheet.row[j]] = sheet.p[j]
        if sheet.spots[j, 5] == 0.0:
            tally[0] += sheet.p[j]
    for i in range(n_live):
        j = bank.spot[i]
        if j < 0:
            miss(bank, i, motion, elapsed.exposure_s)
            continue
        p = marginal_of(edges, i, j)
        track_id[sheet.row[j]] = bank.track_id[i]
        p_link[sheet.row[j]] = p
        if sheet.spots[j, 5] > 0.0:
            p_seen = bank.life[i, 0] * motion.p_detect
            cost = cost_of(bank.modes, i, p_seen, sheet.spots, j, motion, elapsed.exposure_s)
            believe(bank, i, cost)
            on, off = bank.life[i, 0], bank.life[i, 1]
            follow(bank, i, sheet.spots, j, motion, elapsed, scratch)
            bank.life[i, 0], bank.life[i, 1] = on, off
            continue
        follow(bank, i, sheet.spots, j, motion, elapsed, scratch)
        if elapsed.n_walk == 1:
            count_switches(bank, i, scratch, motion.transition, p, counts)
    n_kept, n_ended = bury(bank, n_live, ended)
    for j in range(n):
        if track_id[sheet.row[j]] < 0 and sheet.spots[j, 5] == 0.0:
            bear(bank, n_kept, sheet.spots, j, next_id, motion, elapsed.exposure_s)
            track_id[sheet.row[j]] = next_id
            next_id += 1
            n_kept += 1
    return n_kept, n_ended


@kernel
def bury(bank: Bank, n_live: int, ended: I8) -> tuple[int, int]:
    """Drop the tracks that hardly exist any more, keeping the order of the rest."""
    n_kept = 0
    n_ended = 0
    for i in range(n_live):
        if bank.life[i, 0] + bank.life[i, 1] < GIVE_UP:
            ended[n_ended] = bank.track_id[i]
            n_ended += 1
            continue
        if n_kept < i:
            bank.track_id[n_kept] = bank.track_id[i]
            bank.n_spots[n_kept] = bank.n_spots[i]
            bank.life[n_kept, 0] = bank.life[i, 0]
            bank.life[n_kept, 1] = bank.life[i, 1]
            for k in range(bank.modes.shape[1]):
                for f in range(6):
                    bank.modes[n_kept, k, f] = bank.modes[i, k, f]
        n_kept += 1
    return n_kept, n_ended
