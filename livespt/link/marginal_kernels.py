"""How sure each link is: the share of all sets of links, weighted by their likelihoods, with it.

The graph of possible links falls into parts that share neither track nor spot. In each part the
sum over all sets is carried from track to track, the tracks in the order in which the part is
walked: what matters of a set so far is which of the spots are taken that a track still to come
could take. With f_t that sum before track t, as a function of those spots, b_t the sum over what
comes from t on, and L the likelihood ratio of a link against a miss and a new spot,

    p(t takes s) = sum_m f_t(m) L_ts b_t+1(m + s) / sum_m f_t(m) b_t(m).

Where more than `MOST_BITS` spots wait at once, or a part has more than `MOST_TRACKS`, messages are
passed instead (Williams & Lau 2014): exact on a tree, too sure of itself where links form loops.
"""

from livespt.jit import inlined, kernel, lanes
from livespt.link.bank import F8, I8, MOST_BITS, MOST_TRACKS, Edges, Parts
from livespt.vectors import address

#: Sets that a row of `forward` has room for.
ROW = 1 << MOST_BITS
#: Rounds of message passing.
ROUNDS = 4
#: Of a track: in no part yet; in one that is solved; in one that messages are passed in.
NEW, SOLVED, LOOPED = 0, 1, 2


@lanes
def group_by_spot(n_live: int, n: int, start: I8, spot: I8, parts: Parts) -> None:
    """List the tracks of each spot: those of spot j are ``track[first[j] : first[j + 1]]``."""
    first, track = parts.first, parts.track
    for j in range(n + 1):
        first[j] = 0
    for e in range(start[n_live]):
        first[spot[e]] += 1
    for j in range(1, n + 1):
        first[j] += first[j - 1]
    for i in range(n_live - 1, -1, -1):  # backward: the end of each becomes its beginning
        for e in range(start[i + 1] - 1, start[i] - 1, -1):
            first[spot[e]] -= 1
            track[first[spot[e]]] = i
    for j in range(n):
        parts.bit[j] = -1
        parts.left[j] = first[j + 1] - first[j]
    for i in range(n_live):
        parts.done[i] = NEW


@lanes
def walk_part(i: int, start: I8, spot: I8, parts: Parts) -> int:
    """List the tracks of the part that track i is in, in the order of the walk; return how many."""
    queue, done, first, track = parts.queue, parts.done, parts.first, parts.track
    queue[0] = i
    done[i] = SOLVED
    n, head = 1, 0
    while head < n:
        for e in range(start[queue[head]], start[queue[head] + 1]):
            for q in range(first[spot[e]], first[spot[e] + 1]):
                if done[track[q]] == NEW:
                    done[track[q]] = SOLVED
                    queue[n] = track[q]
                    n += 1
        head += 1
    return n


@lanes
def wait_for(a: int, b: int, used: int, spot: I8, bit: I8) -> int:
    """Give a bit to each spot of a track that has none; return all in use, -1 if none is left."""
    for e in range(a, b):
        if bit[spot[e]] < 0:
            free = 0
            while used >> free & 1:
                free += 1
            if free == MOST_BITS:
                return -1
            bit[spot[e]] = free
            used |= 1 << free
    return used


@lanes
def sum_forward(n: int, start: I8, spot: I8, ratio: F8, parts: Parts) -> bool:
    """Fill `forward`, a row before each track; False where too many spots wait at once."""
    queue, bit, left, size = parts.queue, parts.bit, parts.left, parts.size
    f, used, before = parts.forward, 0, 1
    f[0] = 1.0
    for t in range(n):
        a, b = int(start[queue[t]]), int(start[queue[t] + 1])
        used = wait_for(a, b, used, spot, bit)
        if used < 0:
            return False
        row, now = t * ROW, 1
        while now <= used:
            now *= 2
        for m in range(before, now):
            f[row + m] = 0.0
        for m in range(now):
            f[row + ROW + m] = f[row + m]
        for e in range(a, b):
            one, likely = 1 << int(bit[spot[e]]), ratio[e]
            for high in range(row, row + now, 2 * one):
                for m in range(high, high + one):
                    f[ROW + m + one] += f[m] * likely
        for e in range(a, b):
            left[spot[e]] -= 1
            if left[spot[e]] == 0:  # nobody else can take it: whether it is taken is forgotten
                one = 1 << int(bit[spot[e]])
                used &= ~one
                for high in range(row + ROW, row + ROW + now, 2 * one):
                    for m in range(high, high + one):
                        f[m] += f[m + one]
                        f[m + one] = 0.0
        total = 0.0
        for m in range(row + ROW, row + ROW + now):
            total += f[m]
        total = 1.0 / total
        for m in range(row + ROW, row + ROW + now):
            f[m] *= total
        size[t], before = now, now
        while before > 2 * used and before > 1:
            before //= 2
    return True


@lanes
def sum_backward(n: int, start: I8, spot: I8, ratio: F8, parts: Parts, p_edge: F8) -> None:
    """Fill the probability of each link of the part."""
    queue, bit, left, size = parts.queue, parts.bit, parts.left, parts.size
    f, later, then = parts.forward, parts.later, parts.then
    later[0], known = 1.0, 1
    for t in range(n - 1, -1, -1):
        row, a, b, now, gone = t * ROW, start[queue[t]], start[queue[t] + 1], size[t], 0
        for e in range(a, b):
            if left[spot[e]] == 0:
                gone |= 1 << int(bit[spot[e]])
            left[spot[e]] += 1
        total = 0.0
        for m in range(now):
            at = m & ~gone
            then[m] = later[at] if at < known else 0.0
            total += f[row + m] * then[m]
        for m in range(now):
            later[m] = then[m]
        for e in range(a, b):
            one, likely, taken = 1 << int(bit[spot[e]]), ratio[e], 0.0
            for high in range(0, now, 2 * one):
                for m in range(high, high + one):
                    more = likely * then[m + one]
                    taken += f[row + m] * more
                    later[m] += more
            p_edge[e] = taken
            total += taken
        most = 0.0
        for m in range(now):
            most = max(most, later[m])
        total, most, known = 1.0 / total, 1.0 / most, now
        for e in range(a, b):
            p_edge[e] *= total
        for m in range(now):
            later[m] *= most


@lanes
def pass_messages(n_live: int, n: int, edges: Edges, done: I8, p: F8) -> None:
    """Fill the probabilities of the links in parts that are not solved.

    To a spot go L / (1 + sum of the other L to_track), to a track 1 / (1 + sum of the other
    to_spot).
    """
    start, spot, ratio = edges.start, edges.spot, edges.ratio
    to_spot, to_track = edges.p, edges.to_track
    for e in range(start[n_live]):
        to_track[e] = 1.0
    for _ in range(ROUNDS):
        for j in range(n):
            p[j] = 1.0
        for i in range(n_live):
            if done[i] != LOOPED:
                continue
            total = 1.0
            for e in range(start[i], start[i + 1]):
                total += ratio[e] * to_track[e]
            for e in range(start[i], start[i + 1]):
                to_spot[e] = ratio[e] / max(total - ratio[e] * to_track[e], 1.0)
                p[spot[e]] += to_spot[e]
        for i in range(n_live):
            if done[i] == LOOPED:
                for e in range(start[i], start[i + 1]):
                    to_track[e] = 1.0 / max(p[spot[e]] - to_spot[e], 1.0)
    for i in range(n_live):
        if done[i] == LOOPED:
            total = 1.0
            for e in range(start[i], start[i + 1]):
                total += ratio[e] * to_track[e]
            for e in range(start[i], start[i + 1]):
                to_spot[e] = ratio[e] * to_track[e] / total


@lanes
def by_address(edges: Edges) -> Edges:
    """Return the links with addresses in the place of arrays."""
    return Edges(
        address(edges.start), address(edges.spot), address(edges.cost), address(edges.ratio),
        address(edges.p), address(edges.to_track),
    )  # fmt: skip


@lanes
def addresses(parts: Parts) -> Parts:
    """Return the scratch with addresses in the place of arrays."""
    return Parts(
        address(parts.first), address(parts.track), address(parts.left), address(parts.bit),
        address(parts.queue), address(parts.done), address(parts.size), address(parts.forward),
        address(parts.later), address(parts.then),
    )  # fmt: skip


@lanes
def sum_parts(n_live: int, n: int, edges: Edges, p: F8, parts: Parts) -> None:
    """Do what `marginals` says, on addresses."""
    start, spot, ratio, p_edge = edges.start, edges.spot, edges.ratio, edges.p
    group_by_spot(n_live, n, start, spot, parts)
    looped = False
    for i in range(n_live):
        a, b = start[i], start[i + 1]
        if a == b or parts.done[i] != NEW:
            continue
        if b - a == 1 and parts.left[spot[a]] == 1:  # one track and one spot
            parts.done[i] = SOLVED
            p_edge[a] = ratio[a] / (1.0 + ratio[a])
            continue
        n_part = walk_part(i, start, spot, parts)
        if n_part <= MOST_TRACKS and sum_forward(n_part, start, spot, ratio, parts):
            sum_backward(n_part, start, spot, ratio, parts, p_edge)
            continue
        looped = True
        for t in range(n_part):
            parts.done[parts.queue[t]] = LOOPED
    if looped:
        pass_messages(n_live, n, edges, parts.done, p)
    for j in range(n):
        p[j] = 1.0
    for e in range(start[n_live]):
        p[spot[e]] = max(p[spot[e]] - p_edge[e], 0.0)


@kernel
def marginals(n_live: int, n: int, edges: Edges, p: F8, parts: Parts) -> None:
    """Fill ``edges.p``, the probability of each link, and ``p[j]``, that spot j continues no track.

    The rows of `edges` are those of `n_live` tracks, its spots are `n`.
    """
    sum_parts(n_live, n, by_address(edges), address(p), addresses(parts))


@inlined
def marginal_of(start: I8, spot: I8, p_edge: F8, i: int, j: int) -> float:
    """Return the probability that track i continues at spot j."""
    for e in range(start[i], start[i + 1]):
        if spot[e] == j:
            return p_edge[e]
    return 0.0
