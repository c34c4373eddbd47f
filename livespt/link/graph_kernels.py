"""Kernels of the association: which links are possible, which are chosen, how sure they are.

Symbols: ``spots[j] = (x, y, vxx, vxy, vyy, false)``, in the order of the grid; ``false`` is the
density of false spots of a guided row, 0 for one that was found blind.
"""

import math

import numpy as np

from livespt.jit import kernel
from livespt.link.bank import F8, I8, Bank, Contest, Edges, Motion, Sheet
from livespt.link.motion_kernels import MOST_ON, TWO_PI, cost_of

#: Bound on a likelihood ratio inside the marginals, so that differences of sums keep digits.
LARGEST_RATIO = 1e7
#: Certain links are looked for again while one track in so many gained one.
SOME = 50
#: Rounds of message passing in the marginals.
ROUNDS = 4


@kernel
def first_bad(raw: F8, n: int) -> int:
    """Return the first row that is not finite or has no positive definite covariance, or -1."""
    for j in range(n):
        vxx = raw[2, j]
        vxy = raw[3, j]
        vyy = raw[4, j]
        if not math.isfinite(raw[0, j] + raw[1, j] + vxx + vxy + vyy):
            return j
        if not (vxx > 0.0 and vyy > 0.0 and vxx * vyy > vxy * vxy):
            return j
        if not 0.0 <= raw[5, j] < math.inf:
            return j
    return -1


@kernel
def sort_cell(raw: F8, order: I8, first: int, last: int) -> None:
    """Sort the spots of one cell by x, then y, so that the order of the rows is forgotten."""
    for a in range(first + 1, last):
        j = order[a]
        b = a
        while b > first:
            i = order[b - 1]
            if raw[0, i] < raw[0, j] or (raw[0, i] == raw[0, j] and raw[1, i] <= raw[1, j]):
                break
            order[b] = i
            b -= 1
        order[b] = j


@kernel
def lay_out(raw: F8, n: int, sheet: Sheet) -> None:
    """Sort spots into square cells, about one each, and copy them in that order.

    `sheet.frame` becomes (x0, y0, x1, y1, cells per um in x and y, columns, rows, least and
    greatest variance in any direction, least density of false guided spots or 0).
    """
    frame = sheet.frame
    x0 = raw[0, 0]
    x1 = x0
    y0 = raw[1, 0]
    y1 = y0
    least = np.inf
    most = 0.0
    rarest = np.inf
    for j in range(n):
        if raw[5, j] > 0.0:
            rarest = min(rarest, raw[5, j])
        x0 = min(x0, raw[0, j])
        x1 = max(x1, raw[0, j])
        y0 = min(y0, raw[1, j])
        y1 = max(y1, raw[1, j])
        half = 0.5 * (raw[2, j] + raw[4, j])
        tilt = math.sqrt(0.25 * (raw[2, j] - raw[4, j]) ** 2 + raw[3, j] ** 2)
        least = min(least, half - tilt)
        most = max(most, half + tilt)
    width = max(x1 - x0, 1e-6)
    height = max(y1 - y0, 1e-6)
    nx = int(min(max(math.sqrt(n * width / height), 1.0), n))
    ny = max(n // nx, 1)
    fx = nx / width
    fy = ny / height
    frame[0], frame[1], frame[2], frame[3] = x0, y0, x1, y1
    frame[4], frame[5], frame[6], frame[7] = fx, fy, nx, ny
    frame[8], frame[9] = max(least, 0.0), most
    frame[10] = rarest if rarest < np.inf else 0.0
    start = sheet.start
    for c in range(nx * ny + 1):
        start[c] = 0
    for j in range(n):
        cx = min(int((raw[0, j] - x0) * fx), nx - 1)
        cy = min(int((raw[1, j] - y0) * fy), ny - 1)
        sheet.cell[j] = cy * nx + cx
        start[sheet.cell[j]] += 1
    total = 0
    for c in range(nx * ny):
        total += start[c]
        start[c] = total  # the end of each cell; filling it backward makes it the beginning
    start[nx * ny] = n
    for j in range(n - 1, -1, -1):
        start[sheet.cell[j]] -= 1
        sheet.row[start[sheet.cell[j]]] = j
    for c in range(nx * ny):
        sort_cell(raw, sheet.row, start[c], start[c + 1])
    for q in range(n):
        for f in range(6):
            sheet.spots[q, f] = raw[f, sheet.row[q]]


@kernel
def reach_of(
    modes: F8, i: int, p_seen: float, motion: Motion, exposure_s: float, frame: F8, reach: F8
) -> None:
    """Set the window (x0, x1, y0, y1) outside which no spot can be linked to track i.

    A link needs sum_k A_k N_k > 1, A_k = p_D w_k / (density (1 - p_D)); so some K A_k N_k > 1.
    Where there are guided rows, the greater of their odds and these is taken.
    For a density of width between s0 and s1, N <= exp(-d2 / 2 s1) / (2 pi s0), and for any
    width at all N <= 1 / (pi e d2): the smaller of the two bounds on d2 holds.
    """
    n_modes = modes.shape[1]
    odds = n_modes * p_seen / ((1.0 - p_seen) * motion.density_um2)
    if frame[10] > 0.0:
        p_on = min(p_seen / motion.p_detect, MOST_ON)
        odds = max(odds, n_modes * p_on / ((1.0 - p_on) * frame[10]))
    x0 = np.inf
    x1 = -np.inf
    y0 = np.inf
    y1 = -np.inf
    farthest = 0.0
    for k in range(n_modes):
        blur = 2.0 * motion.D_um2_s[k] * exposure_s / 3.0
        pxx = modes[i, k, 3]
        pyy = modes[i, k, 5]
        half = 0.5 * (pxx + pyy)
        tilt = 0.5 * abs(pxx - pyy) + abs(modes[i, k, 4])  # bounds that of the eigenvalues
        a = odds * modes[i, k, 0]
        least = TWO_PI * (max(half - tilt, 0.0) + blur + frame[8])
        if a <= least:
            continue
        d2 = 2.0 * (half + tilt + blur + frame[9]) * math.log(a / least)
        farthest = max(farthest, min(d2, a / (math.pi * math.e)))
        x0 = min(x0, modes[i, k, 1])
        x1 = max(x1, modes[i, k, 1])
        y0 = min(y0, modes[i, k, 2])
        y1 = max(y1, modes[i, k, 2])
    d = math.sqrt(farthest)
    reach[0] = x0 - d
    reach[1] = x1 + d
    reach[2] = y0 - d
    reach[3] = y1 + d


@kernel
def propose(
    bank: Bank, n_live: int, n: int, motion: Motion, exposure_s: float, sheet: Sheet, edges: Edges
) -> int:
    """List every link with a cost below 0, by track; return how many there are.

    Where `edges` is too small the count is still right: enlarge it and call again.
    """
    n_edges = 0
    room = edges.spot.shape[0]
    frame = sheet.frame
    reach = sheet.reach
    nx = int(frame[6])
    edges.start[0] = 0
    for i in range(n_live):
        edges.start[i + 1] = n_edges
        p_seen = bank.life[i, 0] * motion.p_detect
        if n == 0 or p_seen <= 0.0:
            continue
        reach_of(bank.modes, i, p_seen, motion, exposure_s, frame, reach)
        if reach[0] > frame[2] or reach[1] < frame[0]:
            continue
        if reach[2] > frame[3] or reach[3] < frame[1]:
            continue
        # in cells, clipped before they become integers: the window may be huge
        cx0 = int(min(max((reach[0] - frame[0]) * frame[4], 0.0), frame[6] - 1.0))
        cx1 = int(min(max((reach[1] - frame[0]) * frame[4], 0.0), frame[6] - 1.0))
        cy0 = int(min(max((reach[2] - frame[1]) * frame[5], 0.0), frame[7] - 1.0))
        cy1 = int(min(max((reach[3] - frame[1]) * frame[5], 0.0), frame[7] - 1.0))
        for cy in range(cy0, cy1 + 1):
            # cells of one row lie side by side: one run of spots
            for j in range(sheet.start[cy * nx + cx0], sheet.start[cy * nx + cx1 + 1]):
                x = sheet.spots[j, 0]
                y = sheet.spots[j, 1]
                if x < reach[0] or x > reach[1] or y < reach[2] or y > reach[3]:
                    continue
                cost = cost_of(bank.modes, i, p_seen, sheet.spots, j, motion, exposure_s)
                if cost < 0.0:
                    if n_edges < room:
                        edges.spot[n_edges] = j
                        edges.cost[n_edges] = cost
                    n_edges += 1
        edges.start[i + 1] = n_edges
    return n_edges


@kernel
def survey(bank: Bank, n_live: int, n: int, edges: Edges, sheet: Sheet) -> None:
    """Find each open spot's cheapest open link and the cost of the next (0: none)."""
    for j in range(n):
        sheet.cheapest[j] = 0.0
        sheet.next[j] = 0.0
    for i in range(n_live):
        if bank.spot[i] >= 0:
            continue
        for e in range(edges.start[i], edges.start[i + 1]):
            j = edges.spot[e]
            if sheet.owner[j] >= 0:
                continue
            if edges.cost[e] < sheet.cheapest[j]:
                sheet.next[j] = sheet.cheapest[j]
                sheet.cheapest[j] = edges.cost[e]
            elif edges.cost[e] < sheet.next[j]:
                sheet.next[j] = edges.cost[e]


@kernel
def fix_certain(bank: Bank, n_live: int, n: int, edges: Edges, sheet: Sheet) -> int:
    """Fix each link that some cheapest assignment must hold; return how many were fixed.

    Link (i, j) is one if c_ij <= m_i + m_j, where m_i and m_j are the cheapest alternatives of
    track i and of spot j (at most 0: to stay alone). For whatever i and j do in an assignment
    without it costs at least m_i + m_j; breaking that up for (i, j) is never dearer.
    """
    survey(bank, n_live, n, edges, sheet)
    fixed = 0
    for i in range(n_live):
        if bank.spot[i] >= 0:
            continue
        best = -1
        cheapest = 0.0
        runner_up = 0.0
        for e in range(edges.start[i], edges.start[i + 1]):
            if sheet.owner[edges.spot[e]] >= 0:
                continue
            if edges.cost[e] < cheapest:
                runner_up = cheapest
                cheapest = edges.cost[e]
                best = edges.spot[e]
            elif edges.cost[e] < runner_up:
                runner_up = edges.cost[e]
        if best < 0 or cheapest > sheet.cheapest[best]:
            continue
        if cheapest <= runner_up + sheet.next[best]:
            bank.spot[i] = best
            sheet.owner[best] = i
            fixed += 1
    return fixed


@kernel
def choose(
    bank: Bank, n_live: int, n: int, edges: Edges, sheet: Sheet, contest: Contest
) -> tuple[int, int, int]:
    """Fix all links that are certain, and hand the rest on as a sparse assignment problem.

    Every track in the contest has a dummy column of its own, at cost 0. All weights are shifted
    alike, since a sparse weight of 0 would mean that there is no link.

    Returns
    -------
    (rows, columns, entries) of the contest.
    """
    for j in range(n):
        sheet.owner[j] = -1
        sheet.column[j] = -1
    for i in range(n_live):
        bank.spot[i] = -1
    while SOME * fix_certain(bank, n_live, n, edges, sheet) > n_live:
        pass  # each link fixed may make others certain
    lowest = 0.0
    for e in range(edges.start[n_live]):
        lowest = min(lowest, edges.cost[e])
    rows = 0
    columns = 0
    entries = 0
    for i in range(n_live):
        if bank.spot[i] >= 0:
            continue
        contest.start[rows] = entries
        first = entries
        for e in range(edges.start[i], edges.start[i + 1]):
            j = edges.spot[e]
            if sheet.owner[j] >= 0:
                continue
            if sheet.column[j] < 0:
                sheet.column[j] = columns
                contest.spot[columns] = j
                columns += 1
            contest.column[entries] = sheet.column[j]
            contest.weight[entries] = edges.cost[e] - lowest + 1.0
            entries += 1
        if entries > first:
            contest.row[rows] = i
            contest.weight[entries] = 1.0 - lowest
            entries += 1
            rows += 1
    contest.start[rows] = entries
    for r in range(rows):
        contest.column[contest.start[r + 1] - 1] = columns + r
    return rows, columns + rows, entries


@kernel
def marginals(n_live: int, n: int, edges: Edges, sheet: Sheet) -> None:
    """Approximate marginals of the association by message passing (Williams & Lau 2014).

    With L the likelihood ratio of a link: to_spot = L / (1 + sum of the other L to_track) and
    to_track = 1 / (1 + sum of the other to_spot). Exact where the graph of links is a tree.
    On return the probability that spot j continues no track is in ``sheet.p[j]``.
    """
    n_edges = edges.start[n_live]
    for e in range(n_edges):
        edges.ratio[e] = min(math.exp(min(-edges.cost[e], 40.0)), LARGEST_RATIO)
        edges.to_track[e] = 1.0
    for _ in range(ROUNDS):
        for j in range(n):
            sheet.p[j] = 1.0
        for i in range(n_live):
            total = 1.0
            for e in range(edges.start[i], edges.start[i + 1]):
                total += edges.ratio[e] * edges.to_track[e]
            for e in range(edges.start[i], edges.start[i + 1]):
                rest = max(total - edges.ratio[e] * edges.to_track[e], 1.0)
                edges.to_spot[e] = edges.ratio[e] / rest
                sheet.p[edges.spot[e]] += edges.to_spot[e]
        for e in range(n_edges):
            edges.to_track[e] = 1.0 / max(sheet.p[edges.spot[e]] - edges.to_spot[e], 1.0)
    for j in range(n):
        sheet.p[j] = 1.0 / sheet.p[j] if n_live > 0 else 1.0


@kernel
def marginal_of(edges: Edges, i: int, j: int) -> float:
    """Return the probability that track i continues at spot j; j = -1: at none."""
    total = 1.0
    mine = 1.0
    for e in range(edges.start[i], edges.start[i + 1]):
        term = edges.ratio[e] * edges.to_track[e]
        total += term
        if edges.spot[e] == j:
            mine = term
    return mine / total
