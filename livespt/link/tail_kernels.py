"""Kernels of the fixed lag: the links into one past frame, judged by all that was seen since.

The spots of the last frames are cut from the tracks as these stood before the window began. What
is cut off are tails; what they were cut from are heads. Each head may take any tail that it can
reach, or none; each tail may be a new track. With h a head, b a tail that begins at spot y, and
all probabilities by the filter of `livespt.link.linker`,

    c_hb = -ln [ p(b | h) p(h unseen until y) / (density p(rest of b | new at y) p(h unseen)) ],

where p(b | h) walks h through the whole of b, misses included. For a tail of one spot in the
newest frame that is the cost of a link at once.

Symbols: tails are numbered like the heads they had, then as they were born.
"""

import math

from livespt.jit import inlined, kernel
from livespt.link.bank import F8, I8, UNKNOWN, Edges, Motion, Past, Tails
from livespt.link.graph_kernels import LARGEST_RATIO, near_any, reach_of, window_of
from livespt.link.motion_kernels import (
    TWO_PI,
    bear,
    condition,
    live_on,
    miss,
    odds_of,
    ratio_of,
    spread,
    switch,
)  # fmt: skip

#: No place in an array, also after an offset was taken off.
NOWHERE = -1
#: A link of this probability, or a new track's, is not judged again.
SURE = 0.999
#: A log-likelihood that cannot be told from impossible.
LEAST_LN = -700.0


@inlined
def carry(
    modes: F8, life: F8, i: int, D_um2_s: F8, transition: F8, p_off: float, p_on: float,
    p_bleach: float, when: F8, s: int, scratch: F8,
) -> None:  # fmt: skip
    """Carry one track to the start of the exposure of slot s."""
    for _ in range(int(when[s, 0])):
        if D_um2_s.shape[0] > 1:
            switch(modes, i, transition, scratch)
        spread(modes, i, D_um2_s, when[s, 1])
    live_on(life, i, p_off, p_on, p_bleach, int(when[s, 2]))


@inlined
def see(
    modes: F8, life: F8, i: int, spots: F8, j: int, D_um2_s: F8, p_detect: float, exposure_s: float
) -> float:
    """Update track i with what one frame showed (spot j, or nothing: -1); return ln p of that."""
    on = life[i, 0]
    if j < 0:
        miss(modes, life, i, D_um2_s, p_detect, exposure_s)
        if life[i, 2] >= 0.0:
            life[i, 2] += 1.0
        return math.log(1.0 - on * p_detect)
    density = condition(modes, i, spots, j, D_um2_s, exposure_s) / TWO_PI
    life[i, 0] = 1.0
    life[i, 1] = 0.0
    life[i, 2] = 0.0
    likely = on * p_detect * density
    return math.log(likely) if likely > 0.0 else LEAST_LN


@inlined
def copy_track(modes: F8, life: F8, i: int, to_modes: F8, to_life: F8, to: int) -> None:
    """Copy the state of one track."""
    for k in range(modes.shape[1]):
        for f in range(6):
            to_modes[to, k, f] = modes[i, k, f]
    to_life[to, 0] = life[i, 0]
    to_life[to, 1] = life[i, 1]
    to_life[to, 2] = life[i, 2]


@inlined
def find(numbers: I8, first: int, n: int, number: int) -> int:
    """Return where `number` stands in ``numbers[first : first + n]``, ascending, or `NOWHERE`."""
    low = first
    high = first + n
    while low < high:
        middle = (low + high) // 2
        if numbers[middle] < number:
            low = middle + 1
        else:
            high = middle
    return low if low < first + n and numbers[low] == number else NOWHERE


@kernel
def gather(past: Past, slots: I8, base: int, n_tails: int, tails: Tails) -> None:
    """Cut the tails off, and find the heads that are not to be asked.

    These are the tracks that have ended, whose end is known to all, those whose tail begins
    where they were looked for, and those whose link was sure.
    """
    track_id, number, spots, n = past.track_id, past.number, past.spots, past.n
    p_link = past.p_link
    n_slots = n.shape[0]
    n_tracks, n_spots = track_id.shape[0] // n_slots, number.shape[0] // n_slots
    spot, first, fixed = tails.spot, tails.first, tails.fixed
    n_frames = slots.shape[0] - 1
    heads, now = slots[0] * n_tracks, slots[n_frames] * n_tracks
    n_heads = n[slots[0], 0]
    for b in range(n_tails):
        first[b] = n_frames
        for w in range(n_frames):
            spot[b, w] = -1
    for w in range(n_frames - 1, -1, -1):
        s = slots[w + 1]
        for j in range(s * n_spots, s * n_spots + n[s, 1]):
            if number[j] < 0:
                continue
            b = -1
            if n_heads > 0 and number[j] <= track_id[heads + n_heads - 1]:
                b = find(track_id, heads, n_heads, number[j]) - heads
            if b < 0:
                b = n_heads + number[j] - base
            spot[b, w] = j
            first[b] = w
    for h in range(n_heads):
        fixed[h] = 0
        at = find(track_id, now, int(n[slots[n_frames], 0]), int(track_id[heads + h]))
        settled = at < 0 or past.life[heads + h, 0] <= 0.0
        if first[h] < n_frames:
            j = spot[h, first[h]]
            settled = settled or spots[j, 5] > 0.0 or (first[h] == 0 and p_link[j] > SURE)
        if settled:
            fixed[h] = 1
            first[h] = n_frames
    for b in range(n_heads, n_tails):
        if first[b] < n_frames and p_link[spot[b, first[b]]] > SURE:
            first[b] = n_frames


@kernel
def weigh(
    past: Past, slots: I8, motion: Motion, n_tails: int, tails: Tails, start_of: I8, edges: Edges,
    modes: F8, life: F8, scratch: F8, reach: F8,
) -> int:  # fmt: skip
    """List every tail that a head may take at a cost below 0; return how many there are.

    ``start_of[j]`` becomes the tail that begins at spot j, -1 for none; `modes` and `life` are
    room for two tracks. Where `edges` is too small the count is still right.
    """
    spots, when, n, sheet, cell = past.spots, past.when, past.n, past.sheet, past.cell
    D_um2_s, transition, occupancy = motion.D_um2_s, motion.transition, motion.occupancy
    p_off, p_on, p_bleach, p_detect = motion.p_off, motion.p_on, motion.p_bleach, motion.p_detect
    spot, first, alone, fixed = tails.spot, tails.first, tails.alone, tails.fixed
    begin, to, cost, ratios = edges.start, edges.spot, edges.cost, edges.ratio
    n_slots = n.shape[0]
    n_spots, n_tracks = spots.shape[0] // n_slots, past.track_id.shape[0] // n_slots
    n_frames = slots.shape[0] - 1
    heads = slots[0] * n_tracks
    for w in range(n_frames):
        s = slots[w + 1]
        for j in range(s * n_spots, s * n_spots + n[s, 1]):
            start_of[j] = -1
    for b in range(n_tails):
        if first[b] == n_frames:
            continue
        j = spot[b, first[b]]
        start_of[j] = b
        bear(modes, 0, spots, j, D_um2_s, occupancy, float(when[slots[first[b] + 1], 3]))
        life[0, 0] = motion.p_real
        life[0, 1] = 0.0
        life[0, 2] = UNKNOWN
        alone[b] = 0.0
        for w in range(first[b] + 1, n_frames):
            s = slots[w + 1]
            carry(modes, life, 0, D_um2_s, transition, p_off, p_on, p_bleach, when, s, scratch)
            alone[b] += see(modes, life, 0, spots, spot[b, w], D_um2_s, p_detect, when[s, 3])
    n_edges = 0
    room = to.shape[0]
    begin[0] = 0
    for h in range(n[slots[0], 0]):
        begin[h + 1] = n_edges
        if fixed[h] == 1:
            continue
        copy_track(past.modes, past.life, heads + h, modes, life, 0)
        unseen = 0.0
        for w in range(n_frames):
            s = slots[w + 1]
            exposure_s = when[s, 3]
            carry(modes, life, 0, D_um2_s, transition, p_off, p_on, p_bleach, when, s, scratch)
            on = life[0, 0]
            if n[s, 1] > 0 and on > 0.0:
                odds, lit = odds_of(on, p_detect)
                odds /= motion.density_um2
                frame = sheet[s]
                farthest = reach_of(modes, 0, D_um2_s, exposure_s, odds, frame, reach)
                cx0, cx1, cy0, cy1 = window_of(modes, 0, farthest, frame)
                nx = int(frame[6])
                at = s * (n_spots + 1)
                for cy in range(cy0, cy1 + 1):
                    if cx0 < 0:
                        break
                    for q in range(cell[at + cy * nx + cx0], cell[at + cy * nx + cx1 + 1]):
                        j = s * n_spots + q
                        b = start_of[j]
                        if b < 0 or not near_any(modes, 0, spots[j, 0], spots[j, 1], reach):
                            continue
                        ratio = ratio_of(modes, 0, spots, j, D_um2_s, exposure_s, odds, lit, reach)
                        if ratio <= 1.0:
                            continue
                        if n_edges < room:
                            to[n_edges] = b
                            gain = math.log(ratio * (1.0 - on * p_detect)) - alone[b]
                            copy_track(modes, life, 0, modes, life, 1)
                            see(modes, life, 1, spots, j, D_um2_s, p_detect, exposure_s)
                            for v in range(w + 1, n_frames):
                                r = slots[v + 1]
                                carry(
                                    modes, life, 1, D_um2_s, transition, p_off, p_on, p_bleach,
                                    when, r, scratch,
                                )  # fmt: skip
                                gain += see(
                                    modes,
                                    life,
                                    1,
                                    spots,
                                    int(spot[b, v]),
                                    D_um2_s,
                                    p_detect,
                                    when[r, 3],
                                )
                            cost[n_edges] = -gain - unseen
                        n_edges += 1
            unseen += see(modes, life, 0, spots, -1, D_um2_s, p_detect, exposure_s)
        if n_edges > room:
            begin[h + 1] = n_edges
            continue
        kept = begin[h]
        for e in range(begin[h], n_edges):
            c = cost[e] + unseen
            if c < 0.0:
                to[kept] = to[e]
                cost[kept] = c
                ratios[kept] = min(math.exp(min(-c, 40.0)), LARGEST_RATIO)
                kept += 1
        n_edges = kept
        begin[h + 1] = n_edges
    return n_edges
