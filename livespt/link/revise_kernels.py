"""Kernels of the fixed lag: the cheapest set of heads and tails, and what it changes.

The costs are those of `livespt.link.tail_kernels`, the solver that of a frame's links. Where a tail
changes hands, the states of both tracks are walked anew through the window, and every spot of the
tail gets its new number.
"""

from livespt.jit import inlined, kernel
from livespt.link.assign_kernels import choose
from livespt.link.bank import F8, I8, UNKNOWN, Edges, Motion, Parts, Past, Search, Tails
from livespt.link.kernels import bury
from livespt.link.marginal_kernels import marginal_of, marginals
from livespt.link.motion_kernels import bear
from livespt.link.tail_kernels import carry, copy_track, find, gather, see, weigh

#: Takes the place of `on` where a track turned out never to have been.
NEVER = -1.0


@inlined
def write_path(
    past: Past, slots: I8, motion: Motion, tails: Tails, b: int, number: int, modes: F8,
    life: F8, scratch: F8,
) -> None:  # fmt: skip
    """Walk the track in ``modes[0]`` through tail b (-1: none); note its states."""
    n = past.n
    n_tracks = past.track_id.shape[0] // n.shape[0]
    for w in range(slots.shape[0] - 1):
        s = slots[w + 1]
        j = tails.spot[b, w] if b >= 0 else -1
        carry(
            modes, life, 0, motion.D_um2_s, motion.transition, motion.p_off, motion.p_on,
            motion.p_bleach, past.when, s, scratch,
        )  # fmt: skip
        see(modes, life, 0, past.spots, j, motion.D_um2_s, motion.p_detect, past.when[s, 3])
        at = find(past.track_id, s * n_tracks, n[s, 0], number)
        if at >= 0:
            copy_track(modes, life, 0, past.modes, past.life, at)


@inlined
def append_path(
    past: Past, slots: I8, motion: Motion, tails: Tails, b: int, number: int, modes: F8,
    life: F8, scratch: F8,
) -> None:  # fmt: skip
    """Begin a track with tail b and note its states; it is the last of its slots."""
    n = past.n
    n_tracks = past.track_id.shape[0] // n.shape[0]
    for w in range(tails.first[b], slots.shape[0] - 1):
        s = slots[w + 1]
        j = tails.spot[b, w]
        if w == tails.first[b]:
            bear(modes, 0, past.spots, j, motion.D_um2_s, motion.occupancy, past.when[s, 3])
            life[0, 0] = motion.p_real
            life[0, 1] = 0.0
            life[0, 2] = UNKNOWN
        else:
            carry(
                modes, life, 0, motion.D_um2_s, motion.transition, motion.p_off, motion.p_on,
                motion.p_bleach, past.when, s, scratch,
            )  # fmt: skip
            see(modes, life, 0, past.spots, j, motion.D_um2_s, motion.p_detect, past.when[s, 3])
        at = s * n_tracks + n[s, 0]
        past.track_id[at] = number
        copy_track(modes, life, 0, past.modes, past.life, at)
        n[s, 0] += 1


@inlined
def blot_out(past: Past, slots: I8, number: int) -> bool:
    """Mark a track that never was in all slots; say whether it was still alive in the newest."""
    n = past.n
    n_tracks = past.track_id.shape[0] // n.shape[0]
    alive = False
    for w in range(slots.shape[0] - 1):
        s = slots[w + 1]
        at = find(past.track_id, s * n_tracks, n[s, 0], number)
        alive = at >= 0
        if alive:
            past.life[at, 0] = NEVER
            past.life[at, 1] = 0.0
    return alive


@kernel
def rewrite(
    past: Past, slots: I8, motion: Motion, base: int, first_id: int, next_id: int, n_tails: int,
    tails: Tails, edges: Edges, modes: F8, life: F8, scratch: F8, revised: I8, revised_p: F8,
    ended: I8,
) -> tuple[int, int, int]:  # fmt: skip
    """Give the tails to the heads chosen: states, numbers, and what has to be told.

    ``revised[q] = (frame, row, track_id)`` with the probability of the choice beside it; numbers
    from `first_id` on were not yet told to anybody.

    Returns
    -------
    (next_id, n_revised, n_ended)
    """
    n, number, row, p_link = past.n, past.number, past.row, past.p_link
    n_slots = n.shape[0]
    n_tracks = past.track_id.shape[0] // n_slots
    n_frames = slots.shape[0] - 1
    heads, n_heads = slots[0] * n_tracks, n[slots[0], 0]
    for h in range(n_heads):
        had = h if tails.first[h] < n_frames else -1
        if tails.fixed[h] == 1 or tails.head[h] == had:
            continue
        copy_track(past.modes, past.life, heads + h, modes, life, 0)
        write_path(
            past, slots, motion, tails, tails.head[h], int(past.track_id[heads + h]), modes, life,
            scratch,
        )  # fmt: skip
    n_revised = 0
    n_ended = 0
    for b in range(n_tails):
        h = tails.owner[b]
        if tails.first[b] == n_frames or h == b or (h < 0 and b >= n_heads):
            continue
        j = tails.spot[b, tails.first[b]]
        p = tails.p[b]
        if h >= 0:
            to = past.track_id[heads + h]
            p = marginal_of(edges.start, edges.spot, edges.p, h, b)
        else:
            to = next_id
            next_id += 1
            append_path(past, slots, motion, tails, b, to, modes, life, scratch)
        if b >= n_heads:
            was = base + b - n_heads
            if blot_out(past, slots, was) and was < first_id:
                ended[n_ended] = was
                n_ended += 1
        p_link[j] = p
        for w in range(tails.first[b], n_frames):
            j = tails.spot[b, w]
            if j < 0:
                continue
            s = slots[w + 1]
            number[j] = to
            if w < n_frames - 1:
                revised[n_revised, 0] = n[s, 2]
                revised[n_revised, 1] = row[j]
                revised[n_revised, 2] = to
                revised_p[n_revised] = p_link[j]
                n_revised += 1
    return next_id, n_revised, n_ended


@kernel
def reconsider(
    past: Past, slots: I8, motion: Motion, base: int, first_id: int, next_id: int, tails: Tails,
    start_of: I8, edges: Edges, search: Search, parts: Parts, modes: F8, life: F8, scratch: F8,
    reach: F8, revised: I8, revised_p: F8, ended: I8, track_id: I8, p_link: F8,
) -> tuple[int, int, int, int]:  # fmt: skip
    """Judge the links of the window's first frame anew; ``slots`` are the heads' and the window's.

    Returns
    -------
    (number of possible links, next_id, n_revised, n_ended). Where the links overflow `edges`
    nothing was changed: enlarge it and call again.
    """
    n_heads = past.n[slots[0], 0]
    n_tails = n_heads + next_id - base
    gather(past, slots, base, n_tails, tails)
    n_edges = weigh(
        past, slots, motion, n_tails, tails, start_of, edges, modes, life, scratch, reach
    )
    if n_edges > edges.spot.shape[0]:
        return n_edges, next_id, 0, 0
    choose(n_heads, n_tails, edges, tails.head, tails.cost, tails.owner, search)
    marginals(n_heads, n_tails, edges, tails.p, parts)
    next_id, n_revised, n_ended = rewrite(
        past, slots, motion, base, first_id, next_id, n_tails, tails, edges, modes, life, scratch,
        revised, revised_p, ended,
    )  # fmt: skip
    s = slots[slots.shape[0] - 1]
    at = s * (past.number.shape[0] // past.n.shape[0])
    for j in range(at, at + past.n[s, 1]):
        track_id[past.row[j]] = past.number[j]
        p_link[past.row[j]] = past.p_link[j]
    at = s * (past.track_id.shape[0] // past.n.shape[0])
    now = slice(at, at + past.n[s, 0])
    n_kept, n_gone = bury(
        past.modes[now], past.life[now], past.track_id[now], int(past.n[s, 0]), ended[n_ended:]
    )
    past.n[s, 0] = n_kept
    return n_edges, next_id, n_revised, n_ended + n_gone
