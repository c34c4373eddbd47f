"""The cheapest set of links, by shortest augmenting paths on the sparse graph (SCIENCE 7).

Each track may also stay alone, at cost 0: a column of its own that no other track can take. So
every search ends, most after one look: at a free spot, or at a track that had better stay alone.
scipy's solvers do the same and are the oracle; a call of theirs costs more than these searches,
which seldom reach more than a few spots.

Symbols (Jonker & Volgenant 1987): ``price[j]`` v_j; ``distance[j]`` d_j, the length of the
shortest path to spot j in reduced costs c_ij - v_j - h_i, where h_i makes the link that track i
has now cost nothing.
"""

import math

from livespt.jit import inlined, kernel
from livespt.link.bank import F8, I8, Edges, Search


@inlined
def reach_out(
    i: int, gone: float, start: I8, spot: I8, cost: F8, price: F8, distance: F8, via: I8, seen: I8,
    n_seen: int,
) -> int:  # fmt: skip
    """Shorten the paths that go on from track i, `gone` from the start; return the spots seen."""
    for e in range(start[i], start[i + 1]):
        j = spot[e]
        d = gone + (cost[e] - price[j])
        if d < distance[j]:
            if distance[j] == math.inf:
                seen[n_seen] = j
                n_seen += 1
            distance[j] = d
            via[j] = i
    return n_seen


@inlined
def nearest(distance: F8, seen: I8, n_done: int, n_seen: int) -> int:
    """Bring the nearest spot that is not done to the place `n_done`, and return it."""
    at = n_done
    for q in range(n_done + 1, n_seen):
        if distance[seen[q]] < distance[seen[at]]:
            at = q
    j = seen[at]
    seen[at] = seen[n_done]
    seen[n_done] = j
    return j


@inlined
def hand_over(
    j: int, first: int, start: I8, spot: I8, cost: F8, chosen: I8, paid: F8, owner: I8, via: I8
) -> None:
    """Give spot j to the track before it on the path, whose own goes to the one before that."""
    while True:
        i = int(via[j])
        old = int(chosen[i])
        chosen[i] = j
        owner[j] = i
        for e in range(start[i], start[i + 1]):
            if spot[e] == j:
                paid[i] = cost[e]
        if i == first:
            return
        j = old


@kernel
def choose(
    n_live: int, n: int, edges: Edges, chosen: I8, paid: F8, owner: I8, search: Search
) -> None:
    """Choose the cheapest set of links: the spot of each track and what it costs, and back.

    Tracks are taken in one by one; each looks for the cheapest way to rearrange the others.
    """
    # out of the tuples once: numba counts a reference each time that one is taken out
    start, spot, cost = edges.start, edges.spot, edges.cost
    price, distance, length = search.price, search.distance, search.length
    via, seen = search.via, search.seen
    for j in range(n):
        owner[j] = -1
        price[j] = 0.0
    for i in range(n_live):
        chosen[i] = -1
        paid[i] = 0.0
    for first in range(n_live):
        if start[first] == start[first + 1]:
            continue
        i, alone, goal = first, first, -1
        alone_at, gone = 0.0, 0.0
        n_seen, n_done = 0, 0
        while True:
            n_seen = reach_out(i, gone, start, spot, cost, price, distance, via, seen, n_seen)
            if n_done == n_seen:
                break
            j = nearest(distance, seen, n_done, n_seen)
            if distance[j] >= alone_at:
                break
            if owner[j] < 0:
                goal = j
                break
            i = owner[j]
            gone = distance[j] - (paid[i] - price[j])
            length[n_done] = distance[j]
            distance[j] = -math.inf  # done: rounding must not find a shorter way and close a ring
            n_done += 1
            if gone < alone_at:  # track i had better stay alone, at cost 0
                alone_at, alone = gone, i
        end = distance[goal] if goal >= 0 else alone_at
        for q in range(n_done):
            price[seen[q]] += length[q] - end
        if goal < 0 and alone != first:
            goal = chosen[alone]
            chosen[alone] = -1
        if goal >= 0:
            hand_over(goal, first, start, spot, cost, chosen, paid, owner, via)
        for q in range(n_seen):
            distance[seen[q]] = math.inf
