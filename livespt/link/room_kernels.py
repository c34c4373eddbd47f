"""One block of numbers and one of whole numbers hold all that the linker works on.

A kernel that is handed forty arrays spends more time taking them out of Python than a hundred
molecules need (11 of 60 us). So it is handed two, and cuts the tuples of `livespt.link.bank` from
them itself. `past_of` comes first in both blocks, then `parts_of`.
"""

from livespt.jit import inlined
from livespt.link.bank import (
    CHUNK,
    F8,
    I8,
    MOST_BITS,
    MOST_TRACKS,
    Bank,
    Beside,
    Edges,
    Parts,
    Past,
    Search,
    Sheet,
    Size,
)

#: What the kernels may read beyond the last row of a table.
_BEYOND = 16


@inlined
def n_past(size: Size) -> tuple[int, int]:
    """Return how many numbers, and whole numbers, the past takes."""
    n = size.n_slots * size.n_most
    numbers = n * (6 * size.n_modes + 10) + 15 * size.n_slots
    return numbers, 4 * n + 5 * size.n_slots


@inlined
def n_all(size: Size) -> tuple[int, int]:
    """Return how many numbers, and whole numbers, there are in all."""
    numbers, wholes = n_past(size)
    m, k = size.n_most, size.n_modes
    numbers += m * (k + 13) + 4 * size.n_edges + 8 * (12 * k + k * k + 12) + 2 * CHUNK + _BEYOND
    numbers += (MOST_TRACKS + 3) << MOST_BITS
    return numbers, wholes + 12 * m + 2 + 2 * size.n_edges + 5 * CHUNK + MOST_TRACKS


@inlined
def past_of(numbers: F8, wholes: I8, size: Size) -> Past:
    """Cut out the last frames and their tracks."""
    s, k = size.n_slots, size.n_modes
    n = s * size.n_most
    a = n * 6 * k
    b = a + 3 * n
    c = b + 6 * n
    d = c + n
    e = d + 11 * s
    return Past(
        track_id=wholes[:n],
        modes=numbers[:a].reshape((n, k, 6)),
        life=numbers[a:b].reshape((n, 3)),
        spots=numbers[b:c].reshape((n, 6)),
        number=wholes[n : 2 * n],
        row=wholes[2 * n : 3 * n],
        cell=wholes[3 * n : 4 * n + s],
        p_link=numbers[c:d],
        sheet=numbers[d:e].reshape((s, 11)),
        n=wholes[4 * n + s : 4 * n + 5 * s].reshape((s, 4)),
        when=numbers[e : e + 4 * s].reshape((s, 4)),
    )


@inlined
def parts_of(
    numbers: F8, wholes: I8, size: Size, slot: int
) -> tuple[Bank, Sheet, Edges, Search, Parts, Beside]:
    """Cut out what one frame works on: a slot of the past, and scratch."""
    past = past_of(numbers, wholes, size)
    m, k, e = size.n_most, size.n_modes, size.n_edges
    f, w = n_past(size)
    first, last = slot * m, slot * m + m
    x, y = numbers[f:], wholes[w:]
    bank = Bank(
        track_id=past.track_id[first:last],
        modes=past.modes[first:last],
        before=x[: m * k].reshape((m, k)),
        life=past.life[first:last],
        spot=y[:m],
        cost=x[m * k : m * (k + 1)],
    )
    sheet = Sheet(
        spots=past.spots[first:last],
        row=past.row[first:last],
        start=past.cell[slot * (m + 1) : (slot + 1) * (m + 1)],
        owner=y[m : 2 * m],
        p=x[m * (k + 1) : m * (k + 2)],
        number=past.number[first:last],
        p_link=past.p_link[first:last],
        frame=past.sheet[slot],
    )
    x, y = x[m * (k + 2) :], y[2 * m :]
    search = Search(
        raw=x[: 6 * m].reshape((6, m)),
        row=y[:m],
        cell=y[m : 2 * m],
        price=x[6 * m : 7 * m],
        distance=x[7 * m : 8 * m],
        length=x[8 * m : 9 * m],
        via=y[2 * m : 3 * m],
        seen=y[3 * m : 4 * m],
    )
    x, y = x[9 * m :], y[4 * m :]
    edges = Edges(
        start=y[: m + 1],
        spot=y[m + 1 : m + 1 + e],
        cost=x[:e],
        ratio=x[e : 2 * e],
        p=x[2 * e : 3 * e],
        to_track=x[3 * e : 4 * e],
    )
    x, y, v = x[4 * e :], y[m + 1 + e :], 8 * (12 * k + k * k + 12)
    beside = Beside(
        v=x[:v],
        place=y[: 3 * CHUNK],
        pair=y[3 * CHUNK : 5 * CHUNK],
        ratio=x[v : v + 2 * CHUNK],
        odds=x[v + 2 * CHUNK : v + 2 * CHUNK + 2 * m].reshape((m, 2)),
    )
    x, y, s = x[v + 2 * CHUNK + 2 * m :], y[5 * CHUNK :], 1 << MOST_BITS
    parts = Parts(
        first=y[: m + 1],
        track=y[m + 1 : m + 1 + e],
        left=y[m + 1 + e : 2 * m + 1 + e],
        bit=y[2 * m + 1 + e : 3 * m + 1 + e],
        queue=y[3 * m + 1 + e : 4 * m + 1 + e],
        done=y[4 * m + 1 + e : 5 * m + 1 + e],
        size=y[5 * m + 1 + e : 5 * m + 1 + e + MOST_TRACKS],
        forward=x[: (MOST_TRACKS + 1) * s].reshape((MOST_TRACKS + 1, s)),
        later=x[(MOST_TRACKS + 1) * s : (MOST_TRACKS + 2) * s],
        then=x[(MOST_TRACKS + 2) * s : (MOST_TRACKS + 3) * s],
    )
    return bank, sheet, edges, search, parts, beside
