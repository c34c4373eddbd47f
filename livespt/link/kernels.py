"""Kernels of the linker: predict, propose, settle. The equations stand in `livespt.link.linker`.

Symbols: modes (w, x, y, pxx, pxy, pyy) see `livespt.link.bank`; spots (x, y, vxx, vxy, vyy).
"""

import math

import numpy as np

from livespt.jit import kernel

TWO_PI = 2.0 * math.pi
#: -ln of a likelihood below which a mode cannot matter.
NEGLIGIBLE = 45.0
#: Bound on a likelihood ratio inside the marginals, so that sums keep their digits.
LARGEST_RATIO = 1e7
#: Rounds of message passing in the marginals.
ROUNDS = 4
#: A track is given up when the molecule's probability to exist falls below this.
GIVE_UP = 0.05


@kernel
def gather(x, y, var_x, var_y, cov_xy, order, spots):
    """Copy the rows `order` into `spots`; return the first bad one's place in `order`, or -1."""
    for k in range(order.shape[0]):
        j = order[k]
        spots[k, 0] = x[j]
        spots[k, 1] = y[j]
        spots[k, 2] = var_x[j]
        spots[k, 3] = cov_xy[j]
        spots[k, 4] = var_y[j]
        total = x[j] + y[j] + var_x[j] + var_y[j] + cov_xy[j]
        if not math.isfinite(total) or not (var_x[j] > 0.0 and var_y[j] > 0.0):
            return k
        if not var_x[j] * var_y[j] > cov_xy[j] * cov_xy[j]:
            return k
    return -1


@kernel
def switch(modes, transition, out):
    """One switching step of one track: moment-matched mixing of its modes (SCIENCE 7)."""
    n_modes = modes.shape[0]
    x0 = modes[0, 1]
    y0 = modes[0, 2]
    for k in range(n_modes):
        w = 0.0
        sx = 0.0
        sy = 0.0
        sxx = 0.0
        sxy = 0.0
        syy = 0.0
        for j in range(n_modes):
            a = modes[j, 0] * transition[j, k]
            dx = modes[j, 1] - x0
            dy = modes[j, 2] - y0
            w += a
            sx += a * dx
            sy += a * dy
            sxx += a * (modes[j, 3] + dx * dx)
            sxy += a * (modes[j, 4] + dx * dy)
            syy += a * (modes[j, 5] + dy * dy)
        out[k, 0] = w
        mx = sx / w
        my = sy / w
        out[k, 1] = x0 + mx
        out[k, 2] = y0 + my
        out[k, 3] = sxx / w - mx * mx
        out[k, 4] = sxy / w - mx * my
        out[k, 5] = syy / w - my * my
    for k in range(n_modes):
        for q in range(6):
            modes[k, q] = out[k, q]


@kernel
def live_on(life, motion, n_steps):
    """Blink and bleach for `n_steps` frame intervals in which nobody looked."""
    on = life[0]
    off = life[1]
    stay = 1.0 - motion.p_bleach
    for _ in range(n_steps):
        new_on = stay * (on * (1.0 - motion.p_off) + off * motion.p_on)
        off = stay * (off * (1.0 - motion.p_on) + on * motion.p_off)
        on = new_on
    life[0] = on
    life[1] = off


@kernel
def predict(bank, n_live, motion, elapsed, scratch):
    """Carry all tracks to the start of this exposure, one switching step a piece."""
    n_modes = motion.D_um2_s.shape[0]
    for i in range(n_live):
        for k in range(n_modes):
            bank.before[i, k] = bank.modes[i, k, 0]
        for _ in range(elapsed.n_walk):
            if n_modes > 1:
                switch(bank.modes[i], motion.transition, scratch)
            for k in range(n_modes):
                spread = 2.0 * motion.D_um2_s[k] * elapsed.piece_s
                bank.modes[i, k, 3] += spread
                bank.modes[i, k, 5] += spread
        live_on(bank.life[i], motion, elapsed.n_life)


@kernel
def reach_of(bank, i, motion, exposure_s, var_least, var_most):
    """Set the window outside which no spot of this frame can be linked to track i.

    A link needs sum_k A_k N_k > 1, A_k = p_D w_k / (density (1 - p_D)); so some K A_k N_k > 1.
    For a density of width between s0 and s1, N <= exp(-d2 / 2 s1) / (2 pi s0), and for any
    width at all N <= 1 / (pi e d2): the smaller of the two bounds on d2 holds.
    """
    n_modes = motion.D_um2_s.shape[0]
    p = bank.life[i, 0] * motion.p_detect
    odds = n_modes * p / ((1.0 - p) * motion.density_um2)
    x0 = np.inf
    x1 = -np.inf
    y0 = np.inf
    y1 = -np.inf
    for k in range(n_modes):
        blur = 2.0 * motion.D_um2_s[k] * exposure_s / 3.0
        half = 0.5 * (bank.modes[i, k, 3] + bank.modes[i, k, 5])
        tilt = math.sqrt(
            0.25 * (bank.modes[i, k, 3] - bank.modes[i, k, 5]) ** 2 + bank.modes[i, k, 4] ** 2
        )
        least = max(half - tilt, 0.0) + blur + var_least
        most = half + tilt + blur + var_most
        a = odds * bank.modes[i, k, 0]
        if a <= TWO_PI * least:
            continue
        d2 = min(2.0 * most * math.log(a / (TWO_PI * least)), a / (math.pi * math.e))
        d = math.sqrt(d2)
        x0 = min(x0, bank.modes[i, k, 1] - d)
        x1 = max(x1, bank.modes[i, k, 1] + d)
        y0 = min(y0, bank.modes[i, k, 2] - d)
        y1 = max(y1, bank.modes[i, k, 2] + d)
    bank.reach[i, 0] = x0
    bank.reach[i, 1] = x1
    bank.reach[i, 2] = y0
    bank.reach[i, 3] = y1


@kernel
def cost_of(modes, life_on, spot, motion, exposure_s):
    """-ln of the likelihood ratio: spot continues the track, against a miss and a new spot."""
    total = 0.0
    for k in range(modes.shape[0]):
        blur = 2.0 * motion.D_um2_s[k] * exposure_s / 3.0
        a = modes[k, 3] + blur + spot[2]
        b = modes[k, 4] + spot[3]
        c = modes[k, 5] + blur + spot[4]
        det = a * c - b * b
        dx = spot[0] - modes[k, 1]
        dy = spot[1] - modes[k, 2]
        half = 0.5 * (c * dx * dx - 2.0 * b * dx * dy + a * dy * dy) / det
        if half < NEGLIGIBLE:
            total += modes[k, 0] * math.exp(-half) / (TWO_PI * math.sqrt(det))
    p = life_on * motion.p_detect
    ratio = p * total / ((1.0 - p) * motion.density_um2)
    if ratio <= 0.0:
        return np.inf
    return -math.log(ratio)


@kernel
def fill_grid(spots, grid):
    """Sort spots into square cells, about one each; return x0, y0, cells per um, and counts."""
    n = spots.shape[0]
    x0 = spots[0, 0]
    x1 = x0
    y0 = spots[0, 1]
    y1 = y0
    for j in range(n):
        x0 = min(x0, spots[j, 0])
        x1 = max(x1, spots[j, 0])
        y0 = min(y0, spots[j, 1])
        y1 = max(y1, spots[j, 1])
    width = max(x1 - x0, 1e-6)
    height = max(y1 - y0, 1e-6)
    nx = int(min(max(math.sqrt(n * width / height), 1.0), n))
    ny = max(n // nx, 1)
    fx = nx / width
    fy = ny / height
    for c in range(nx * ny + 1):
        grid.start[c] = 0
    for j in range(n):
        cx = min(int((spots[j, 0] - x0) * fx), nx - 1)
        cy = min(int((spots[j, 1] - y0) * fy), ny - 1)
        grid.cell[j] = cy * nx + cx
        grid.start[grid.cell[j] + 1] += 1
    for c in range(nx * ny):
        grid.start[c + 1] += grid.start[c]
    for j in range(n - 1, -1, -1):
        grid.start[grid.cell[j] + 1] -= 1
        grid.order[grid.start[grid.cell[j] + 1]] = j
    # start[c + 1] now holds the beginning of cell c: shift it back into place
    for c in range(nx * ny):
        grid.start[c] = grid.start[c + 1]
    grid.start[nx * ny] = n
    return x0, y0, fx, fy, nx, ny


@kernel
def propose(bank, n_live, spots, motion, exposure_s, grid, edges):
    """List every link with a cost below 0, by track; return how many there are.

    Where `edges` is too small the count is still right: enlarge it and call again.
    """
    n_edges = 0
    room = edges.spot.shape[0]
    edges.start[0] = 0
    n = spots.shape[0]
    if n == 0:
        for i in range(n_live):
            edges.start[i + 1] = 0
        return 0
    x0, y0, fx, fy, nx, ny = fill_grid(spots, grid)
    var_least = np.inf
    var_most = 0.0
    for j in range(n):
        half = 0.5 * (spots[j, 2] + spots[j, 4])
        tilt = math.sqrt(0.25 * (spots[j, 2] - spots[j, 4]) ** 2 + spots[j, 3] ** 2)
        var_least = min(var_least, max(half - tilt, 0.0))
        var_most = max(var_most, half + tilt)
    for i in range(n_live):
        reach_of(bank, i, motion, exposure_s, var_least, var_most)
        r = bank.reach[i]
        edges.start[i + 1] = n_edges
        if r[0] > r[1]:
            continue
        # in cells, clipped before they become integers: the window may be huge
        cx0 = int(min(max((r[0] - x0) * fx, 0.0), nx - 1.0))
        cx1 = int(min(max((r[1] - x0) * fx, 0.0), nx - 1.0))
        cy0 = int(min(max((r[2] - y0) * fy, 0.0), ny - 1.0))
        cy1 = int(min(max((r[3] - y0) * fy, 0.0), ny - 1.0))
        for cy in range(cy0, cy1 + 1):
            # cells of one row lie side by side: one run of spots
            for q in range(grid.start[cy * nx + cx0], grid.start[cy * nx + cx1 + 1]):
                j = grid.order[q]
                s = spots[j]
                if s[0] < r[0] or s[0] > r[1] or s[1] < r[2] or s[1] > r[3]:
                    continue
                cost = cost_of(bank.modes[i], bank.life[i, 0], s, motion, exposure_s)
                if cost < 0.0:
                    if n_edges < room:
                        edges.spot[n_edges] = j
                        edges.cost[n_edges] = cost
                    n_edges += 1
        edges.start[i + 1] = n_edges
    return n_edges


@kernel
def choose(bank, n_live, n_spots, edges, grid, contest):
    """Settle what needs no solver, and hand on the rest.

    A track whose spots nobody else wants takes the cheapest; a spot whose tracks want nothing
    else goes to the cheapest. All other tracks enter `contest`, each with a dummy column of its
    own at cost 0 (all weights shifted alike, since a sparse weight of 0 means no edge).

    Returns (rows, columns, entries) of the contest.
    """
    for j in range(n_spots):
        grid.n_rivals[j] = 0
        grid.n_single[j] = 0
        grid.best[j] = -1
        grid.column[j] = -1
    lowest = 0.0
    for i in range(n_live):
        bank.spot[i] = -1
        single = edges.start[i + 1] - edges.start[i] == 1
        for e in range(edges.start[i], edges.start[i + 1]):
            grid.n_rivals[edges.spot[e]] += 1
            if single:
                grid.n_single[edges.spot[e]] += 1
            lowest = min(lowest, edges.cost[e])
    rows = 0
    columns = 0
    entries = 0
    for i in range(n_live):
        first = edges.start[i]
        last = edges.start[i + 1]
        if first == last:
            continue
        alone = True
        cheapest = first
        for e in range(first, last):
            if grid.n_rivals[edges.spot[e]] > 1:
                alone = False
            if edges.cost[e] < edges.cost[cheapest]:
                cheapest = e
        j = edges.spot[cheapest]
        if alone:
            bank.spot[i] = j
        elif last - first == 1 and grid.n_single[j] == grid.n_rivals[j]:
            if grid.best[j] < 0 or edges.cost[first] < grid.total[j]:
                if grid.best[j] >= 0:
                    bank.spot[grid.best[j]] = -1
                grid.best[j] = i
                grid.total[j] = edges.cost[first]
                bank.spot[i] = j
        else:
            contest.row[rows] = i
            contest.start[rows] = entries
            for e in range(first, last):
                if grid.column[edges.spot[e]] < 0:
                    grid.column[edges.spot[e]] = columns
                    contest.spot[columns] = edges.spot[e]
                    columns += 1
                contest.column[entries] = grid.column[edges.spot[e]]
                contest.weight[entries] = edges.cost[e] - lowest + 1.0
                entries += 1
            contest.weight[entries] = 1.0 - lowest
            entries += 1
            rows += 1
    contest.start[rows] = entries
    for r in range(rows):
        contest.column[contest.start[r + 1] - 1] = columns + r
    return rows, columns + rows, entries


@kernel
def marginals(n_live, n_spots, edges, grid):
    """Approximate marginals of the association by message passing (Williams & Lau 2014, eq. 30).

    With L the likelihood ratio of a link: to_spot = L / (1 + sum of other L to_track) and
    to_track = 1 / (1 + sum of other to_spot). Exact where the graph of links is a tree.
    On return `edges.to_track` is what each track needs and ``1 / (1 + grid.total[j])`` is the
    probability that spot j continues no track.
    """
    n_edges = edges.start[n_live]
    for e in range(n_edges):
        edges.to_track[e] = 1.0
    for _ in range(ROUNDS):
        for j in range(n_spots):
            grid.total[j] = 0.0
        for i in range(n_live):
            total = 1.0
            for e in range(edges.start[i], edges.start[i + 1]):
                ratio = min(math.exp(min(-edges.cost[e], 40.0)), LARGEST_RATIO)
                edges.to_spot[e] = ratio
                total += ratio * edges.to_track[e]
            for e in range(edges.start[i], edges.start[i + 1]):
                ratio = edges.to_spot[e]
                edges.to_spot[e] = ratio / max(total - ratio * edges.to_track[e], 1.0)
                grid.total[edges.spot[e]] += edges.to_spot[e]
        for e in range(n_edges):
            rest = grid.total[edges.spot[e]] - edges.to_spot[e]
            edges.to_track[e] = 1.0 / (1.0 + max(rest, 0.0))


@kernel
def marginal_of(edges, i, j):
    """Return the probability that track i continues at spot j; j = -1: at none."""
    total = 1.0
    mine = 1.0
    for e in range(edges.start[i], edges.start[i + 1]):
        term = min(math.exp(min(-edges.cost[e], 40.0)), LARGEST_RATIO) * edges.to_track[e]
        total += term
        if edges.spot[e] == j:
            mine = term
    return mine / total


@kernel
def condition(modes, spot, D_um2_s, exposure_s):
    """Kalman update of one track's modes with a blurred position (SCIENCE 7).

    y = x + a + e, x' = x + b over the exposure t: Var a = 2Dt/3, Cov(a, b) = Dt, Var b = 2Dt.
    """
    total = 0.0
    for k in range(modes.shape[0]):
        t = 2.0 * D_um2_s[k] * exposure_s
        sxx = modes[k, 3] + t / 3.0 + spot[2]
        sxy = modes[k, 4] + spot[3]
        syy = modes[k, 5] + t / 3.0 + spot[4]
        det = sxx * syy - sxy * sxy
        ixx = syy / det
        ixy = -sxy / det
        iyy = sxx / det
        dx = spot[0] - modes[k, 1]
        dy = spot[1] - modes[k, 2]
        half = 0.5 * (ixx * dx * dx + 2.0 * ixy * dx * dy + iyy * dy * dy)
        cxx = modes[k, 3] + 0.5 * t
        cxy = modes[k, 4]
        cyy = modes[k, 5] + 0.5 * t
        gxx = cxx * ixx + cxy * ixy
        gxy = cxx * ixy + cxy * iyy
        gyx = cxy * ixx + cyy * ixy
        gyy = cxy * ixy + cyy * iyy
        modes[k, 0] *= math.exp(-min(half, 700.0)) / (TWO_PI * math.sqrt(det))
        modes[k, 1] += gxx * dx + gxy * dy
        modes[k, 2] += gyx * dx + gyy * dy
        modes[k, 3] += t - (gxx * cxx + gxy * cxy)
        modes[k, 4] -= gxx * cxy + gxy * cyy
        modes[k, 5] += t - (gyx * cxy + gyy * cyy)
        total += modes[k, 0]
    for k in range(modes.shape[0]):
        modes[k, 0] = modes[k, 0] / total


@kernel
def count_switches(bank, i, prior, motion, p_link, counts):
    """Add the track's expected switches of this step to `counts`, weighted by its link."""
    n_modes = motion.D_um2_s.shape[0]
    for k in range(n_modes):
        share = p_link * bank.modes[i, k, 0] / prior[k]
        for j in range(n_modes):
            counts[j, k] += share * bank.before[i, j] * motion.transition[j, k]


@kernel
def follow(bank, i, spots, motion, elapsed, p_link, scratch, counts):
    """Update track i with its spot."""
    n_modes = motion.D_um2_s.shape[0]
    for k in range(n_modes):
        scratch[k, 0] = bank.modes[i, k, 0]
    condition(bank.modes[i], spots[bank.spot[i]], motion.D_um2_s, elapsed.exposure_s)
    if elapsed.n_walk == 1:
        count_switches(bank, i, scratch[:, 0], motion, p_link, counts)
    for k in range(n_modes):  # no mode dies for good
        bank.modes[i, k, 0] = max(bank.modes[i, k, 0], 1e-12)
    bank.life[i, 0] = 1.0
    bank.life[i, 1] = 0.0
    bank.n_spots[i] += 1


@kernel
def miss(bank, i, motion, exposure_s):
    """Track i was looked for and not found."""
    for k in range(motion.D_um2_s.shape[0]):
        spread = 2.0 * motion.D_um2_s[k] * exposure_s
        bank.modes[i, k, 3] += spread
        bank.modes[i, k, 5] += spread
    on = bank.life[i, 0]
    seen = 1.0 - on * motion.p_detect
    bank.life[i, 0] = on * (1.0 - motion.p_detect) / seen
    bank.life[i, 1] = bank.life[i, 1] / seen


@kernel
def settle(bank, n_live, spots, motion, elapsed, edges, grid, scratch, counts, tally):
    """Update all tracks with the links chosen in `bank.spot`.

    `grid.best[j]` becomes the track (row of the bank) of spot j, or -1; `grid.total[j]` the
    probability of that choice. `tally` gains: expected new spots, newborns looked for, newborns
    found again.
    """
    n = spots.shape[0]
    marginals(n_live, n, edges, grid)
    for j in range(n):
        grid.best[j] = -1
        grid.total[j] = 1.0 / (1.0 + grid.total[j]) if n_live > 0 else 1.0
        tally[0] += grid.total[j]
    for i in range(n_live):
        j = bank.spot[i]
        if bank.n_spots[i] == 1:
            tally[1] += bank.life[i, 0] + bank.life[i, 1]
        if j < 0:
            miss(bank, i, motion, elapsed.exposure_s)
            continue
        p_link = marginal_of(edges, i, j)
        if bank.n_spots[i] == 1:
            tally[2] += p_link
        grid.best[j] = i
        grid.total[j] = p_link
        follow(bank, i, spots, motion, elapsed, p_link, scratch, counts)


@kernel
def bear(bank, i, spot, track_id, motion, exposure_s):
    """Begin track i at a spot; given the blurred mean, the exposure's end has variance 2Dt/3."""
    for k in range(motion.D_um2_s.shape[0]):
        spread = 2.0 * motion.D_um2_s[k] * exposure_s / 3.0
        bank.modes[i, k, 0] = motion.occupancy[k]
        bank.modes[i, k, 1] = spot[0]
        bank.modes[i, k, 2] = spot[1]
        bank.modes[i, k, 3] = spot[2] + spread
        bank.modes[i, k, 4] = spot[3]
        bank.modes[i, k, 5] = spot[4] + spread
    bank.track_id[i] = track_id
    bank.n_spots[i] = 1
    bank.life[i, 0] = motion.p_real
    bank.life[i, 1] = 0.0


@kernel
def renew(bank, n_live, spots, motion, exposure_s, next_id, grid, track_of_spot, ended):
    """Drop dead tracks, keeping the order, and begin one at each unclaimed spot.

    Fills `track_of_spot` (identities) and `ended`; returns (n_live, n_ended).
    """
    for j in range(spots.shape[0]):
        if grid.best[j] >= 0:
            track_of_spot[j] = bank.track_id[grid.best[j]]
        else:
            track_of_spot[j] = -1
    kept = 0
    n_ended = 0
    for i in range(n_live):
        if bank.life[i, 0] + bank.life[i, 1] < GIVE_UP:
            ended[n_ended] = bank.track_id[i]
            n_ended += 1
            continue
        if kept < i:
            bank.track_id[kept] = bank.track_id[i]
            bank.n_spots[kept] = bank.n_spots[i]
            bank.modes[kept] = bank.modes[i]
            bank.life[kept] = bank.life[i]
        kept += 1
    for j in range(spots.shape[0]):
        if track_of_spot[j] < 0:
            bear(bank, kept, spots[j], next_id, motion, exposure_s)
            track_of_spot[j] = next_id
            next_id += 1
            kept += 1
    return kept, n_ended
