"""Kernels that take eight tracks, or eight possible links, side by side (`livespt.vectors`).

Each is the step of one in `livespt.link.motion_kernels`, and of the same symbols. Tracks and spots
lie in rows; a `place` says where a row begins. Where fewer than eight are left the last is taken
several times over, which gives it the same numbers each time.

Rows of eight in `Beside.v`: the modes of eight tracks, `FIELDS` rows a mode, then as many again,
the spots, sums over pairs of modes, and the boxes of `look_out`.
"""

from __future__ import annotations

import math

import numpy as np

from livespt.element_kernels import exp_each, log_each
from livespt.jit import kernel_of_lanes, lanes
from livespt.link.bank import CHUNK, F8, I8, Bank, Beside, Edges, Elapsed, Motion, Sheet
from livespt.link.graph_kernels import LARGEST_RATIO
from livespt.link.motion_kernels import LEAST_WEIGHT, MOST_ON, TWO_PI
from livespt.vectors import (
    WIDTH,
    Vector,
    add_up,
    address,
    gather,
    load,
    pick,
    root,
    scatter,
    spread,
    store,
    turn,
    turn_back,
)

#: Numbers of a mode, and of a spot.
FIELDS = 6
_ROW = np.uint64(WIDTH)
_2, _3, _4, _5 = (np.uint64(i) * _ROW for i in range(2, 6))


@lanes
def lesser(a: Vector, b: Vector) -> Vector:
    """Return the smaller of each two."""
    return pick(a, b, a, b)


@lanes
def greater(a: Vector, b: Vector) -> Vector:
    """Return the greater of each two."""
    return pick(a, b, b, a)


@lanes
def place_rows(places: I8, to: int, first: int, n: int, width: int) -> None:
    """Note where eight rows of a table begin, from row `first` on; the table has `n`."""
    for lane in range(WIDTH):
        places[to + lane] = min(first + lane, n - 1) * width


@lanes
def take_rows(modes: F8, places: I8, at: int, width: int, w: F8) -> None:
    """Lay eight rows of a table side by side; it goes on for eight numbers after its last."""
    for f in range(0, width, WIDTH):
        turn(modes, places, at, f, w, np.uint64(f) * _ROW)


@lanes
def put_rows(w: F8, width: int, modes: F8, places: I8, at: int) -> None:
    """Put back what `take_rows` took."""
    whole = width // WIDTH * WIDTH
    for f in range(0, whole, WIDTH):
        turn_back(w, np.uint64(f) * _ROW, modes, places, at, f)
    for f in range(whole, width):
        scatter(modes, places, at, f, load(w, np.uint64(f) * _ROW))


@lanes
def mix(w: F8, transition: F8, n_modes: int) -> None:
    """One switching step, as `motion_kernels.switch`: moments matched, the spread of means too."""
    half = np.uint64(n_modes * FIELDS) * _ROW
    x0, y0 = load(w, _ROW), load(w, _2)
    for j in range(n_modes):
        at = np.uint64(j * FIELDS) * _ROW
        dx, dy = load(w, at + _ROW) - x0, load(w, at + _2) - y0
        store(w, half + at, load(w, at))
        store(w, half + at + _ROW, dx)
        store(w, half + at + _2, dy)
        store(w, half + at + _3, load(w, at + _3) + dx * dx)
        store(w, half + at + _4, load(w, at + _4) + dx * dy)
        store(w, half + at + _5, load(w, at + _5) + dy * dy)
    for k in range(n_modes):
        weight, x, y = spread(0.0), spread(0.0), spread(0.0)
        xx, xy, yy = spread(0.0), spread(0.0), spread(0.0)
        for j in range(n_modes):
            at = half + np.uint64(j * FIELDS) * _ROW
            a = load(w, at) * transition[j * n_modes + k]
            weight += a
            x += a * load(w, at + _ROW)
            y += a * load(w, at + _2)
            xx += a * load(w, at + _3)
            xy += a * load(w, at + _4)
            yy += a * load(w, at + _5)
        scale = 1.0 / weight
        x *= scale
        y *= scale
        at = np.uint64(k * FIELDS) * _ROW
        store(w, at, weight)
        store(w, at + _ROW, x0 + x)
        store(w, at + _2, y0 + y)
        store(w, at + _3, xx * scale - x * x)
        store(w, at + _4, xy * scale - x * y)
        store(w, at + _5, yy * scale - y * y)


@lanes
def diffuse(w: F8, D_um2_s: F8, n_modes: int, time_s: float) -> None:
    """Let eight tracks diffuse unseen for `time_s`: P + 2 D t."""
    for k in range(n_modes):
        at = np.uint64(k * FIELDS) * _ROW
        more = 2.0 * D_um2_s[k] * time_s
        store(w, at + _3, load(w, at + _3) + more)
        store(w, at + _5, load(w, at + _5) + more)


@lanes
def blink(life: F8, places: I8, at: int, motion: Motion, n_steps: int) -> None:
    """Blink and bleach for `n_steps` frame intervals in which nobody looked."""
    on, off = gather(life, places, at, 0), gather(life, places, at, 1)
    stay = 1.0 - motion.p_bleach
    for _ in range(n_steps):
        lit = stay * (on * (1.0 - motion.p_off) + off * motion.p_on)
        off = stay * (off * (1.0 - motion.p_on) + on * motion.p_off)
        on = lit
    scatter(life, places, at, 0, on)
    scatter(life, places, at, 1, off)


@kernel_of_lanes
def predict(bank: Bank, n_live: int, motion: Motion, elapsed: Elapsed, beside: Beside) -> None:
    """Carry all tracks to the start of this exposure, one switching step a piece."""
    n_modes = motion.D_um2_s.shape[0]
    w, places = address(beside.v), address(beside.place)
    modes, before, life = address(bank.modes), address(bank.before), address(bank.life)
    D_um2_s, transition = address(motion.D_um2_s), address(motion.transition)
    width = n_modes * FIELDS
    for first in range(0, n_live, WIDTH):
        place_rows(places, 0, first, n_live, width)
        place_rows(places, WIDTH, first, n_live, n_modes)
        place_rows(places, 2 * WIDTH, first, n_live, 3)
        take_rows(modes, places, 0, width, w)
        for k in range(n_modes):
            scatter(before, places, WIDTH, k, load(w, np.uint64(k * FIELDS) * _ROW))
        for _ in range(elapsed.n_walk):
            if n_modes > 1:
                mix(w, transition, n_modes)
            diffuse(w, D_um2_s, n_modes, elapsed.piece_s)
        put_rows(w, width, modes, places, 0)
        blink(life, places, 2 * WIDTH, motion, elapsed.n_life)


@lanes
def half_and_tilt(w: F8, at: np.uint64) -> tuple[Vector, Vector]:
    """Return bounds of the variance in any direction: half - tilt and half + tilt."""
    pxx, pyy = load(w, at + _3), load(w, at + _5)
    pxy, apart = load(w, at + _4), pxx - pyy
    return 0.5 * (pxx + pyy), 0.5 * greater(apart, -apart) + greater(pxy, -pxy)


@lanes
def box_each(
    w: F8, n_modes: int, D_um2_s: F8, exposure_s: float, odds: Vector, frame: F8
) -> tuple[Vector, Vector, Vector, Vector]:
    """Return the boxes (x0, x1, y0, y1) in which spots can matter to eight tracks.

    The bounds are those of `graph_kernels.reach_of`; where nothing can matter the box is empty.
    """
    odds = odds * n_modes
    most = spread(0.0)
    for k in range(n_modes):
        at = np.uint64(k * FIELDS) * _ROW
        half, tilt = half_and_tilt(w, at)
        more = 2.0 * D_um2_s[k] * exposure_s / 3.0 + frame[8]
        least = TWO_PI * (greater(half - tilt, spread(0.0)) + more)
        most = greater(most, odds * load(w, at) / least)
    ln = log_each(greater(most, spread(1.0)))  # of the likeliest mode: one logarithm for all
    x0 = x1 = load(w, _ROW)
    y0 = y1 = load(w, _2)
    farthest = spread(-1.0)
    for k in range(n_modes):
        at = np.uint64(k * FIELDS) * _ROW
        half, tilt = half_and_tilt(w, at)
        blur = 2.0 * D_um2_s[k] * exposure_s / 3.0
        least = TWO_PI * (greater(half - tilt, spread(0.0)) + (blur + frame[8]))
        gain = odds * load(w, at)
        near = 2.0 * (half + tilt + (blur + frame[9])) * ln
        near = lesser(near, gain * (1.0 / (math.pi * math.e)))
        farthest = greater(farthest, pick(least, gain, near, spread(-1.0)))
        x, y = load(w, at + _ROW), load(w, at + _2)
        x0, x1, y0, y1 = lesser(x0, x), greater(x1, x), lesser(y0, y), greater(y1, y)
    d = pick(farthest, spread(0.0), spread(-math.inf), root(greater(farthest, spread(0.0))))
    return x0 - d, x1 + d, y0 - d, y1 + d


@lanes
def ratio_each(
    modes: F8, n_modes: int, spots: F8, odds: F8, places: I8, q: int, D_um2_s: F8,
    exposure_s: float, w: F8,
) -> Vector:  # fmt: skip
    """Return likelihood ratios of eight possible links, as `motion_kernels.ratio_of`.

    From `q` on `places` has their tracks' rows, then spots' rows, then tracks, `CHUNK` of each.
    """
    take_rows(modes, places, q, n_modes * FIELDS, w)
    s = np.uint64(2 * n_modes * FIELDS) * _ROW
    turn(spots, places, q + CHUNK, 0, w, s)
    x, y, vxx = load(w, s), load(w, s + _ROW), load(w, s + _2)
    vxy, vyy, false = load(w, s + _3), load(w, s + _4), load(w, s + _5)
    total = spread(0.0)
    for k in range(n_modes):
        at = np.uint64(k * FIELDS) * _ROW
        blur = 2.0 * D_um2_s[k] * exposure_s / 3.0
        dx, dy = x - load(w, at + _ROW), y - load(w, at + _2)
        a, b, c = (
            load(w, at + _3) + blur + vxx,
            load(w, at + _4) + vxy,
            load(w, at + _5) + blur + vyy,
        )
        inverse = 1.0 / (a * c - b * b)
        square = (c * dx * dx - 2.0 * b * dx * dy + a * dy * dy) * inverse
        total += load(w, at) * exp_each(-0.5 * square) * root(inverse)
    blind, lit = gather(odds, places, q + 2 * CHUNK, 0), gather(odds, places, q + 2 * CHUNK, 1)
    guided = lit / pick(spread(0.0), false, false, spread(1.0))
    return pick(spread(0.0), false, guided, blind) * total * (1.0 / TWO_PI)


@lanes
def judge(
    n_pairs: int, n_edges: int, modes: F8, n_modes: int, spots: F8, motion: Motion,
    exposure_s: float, edges: Edges, beside: Beside,
) -> int:  # fmt: skip
    """Weigh the pairs that were noted and list those whose cost is below 0; return how many are.

    `beside.pair` has their tracks and spots; `edges.start` gains how many each track has.
    """
    pair, places, ratios = address(beside.pair), address(beside.place), address(beside.ratio)
    start, spot, cost = address(edges.start), address(edges.spot), address(edges.cost)
    kept, odds = address(edges.ratio), address(beside.odds)
    D_um2_s, w, room = address(motion.D_um2_s), address(beside.v), edges.spot.shape[0]
    for q in range((n_pairs + WIDTH - 1) // WIDTH * WIDTH):
        p = min(q, n_pairs - 1)
        places[q] = pair[p] * (n_modes * FIELDS)
        places[CHUNK + q] = pair[CHUNK + p] * FIELDS
        places[2 * CHUNK + q] = pair[p] * 2
    for q in range(0, n_pairs, WIDTH):
        ratio = ratio_each(modes, n_modes, spots, odds, places, q, D_um2_s, exposure_s, w)
        store(ratios, q, ratio)
        store(ratios, CHUNK + q, -log_each(greater(ratio, spread(1.0))))
    for q in range(n_pairs):
        if ratios[q] > 1.0:
            if n_edges < room:
                spot[n_edges] = pair[CHUNK + q]
                cost[n_edges] = ratios[CHUNK + q]
                kept[n_edges] = min(ratios[q], LARGEST_RATIO)
            start[pair[q] + 1] += 1
            n_edges += 1
    return n_edges


@lanes
def sums_of(n_modes: int) -> np.uint64:
    """Return where the sums over pairs of modes stand in `Beside.v`."""
    return np.uint64(2 * n_modes * FIELDS + WIDTH) * _ROW


@lanes
def boxes_of(n_modes: int) -> np.uint64:
    """Return where the boxes stand in `Beside.v`."""
    return sums_of(n_modes) + np.uint64(n_modes * n_modes) * _ROW


@lanes
def look_out(
    bank: Bank, first: int, n_live: int, motion: Motion, exposure_s: float, frame: F8,
    beside: Beside,
) -> None:  # fmt: skip
    """Work out the odds of eight tracks, and the boxes they can reach, which follow their modes."""
    n_modes = motion.D_um2_s.shape[0]
    width = n_modes * FIELDS
    w, places, odds = address(beside.v), address(beside.place), address(beside.odds)
    modes, life = address(bank.modes), address(bank.life)
    place_rows(places, 0, first, n_live, width)
    place_rows(places, WIDTH, first, n_live, 3)
    place_rows(places, 2 * WIDTH, first, n_live, 2)
    take_rows(modes, places, 0, width, w)
    on = gather(life, places, WIDTH, 0)
    seen, lit = on * motion.p_detect, lesser(on, spread(MOST_ON))
    seen, lit = seen / ((1.0 - seen) * motion.density_um2), lit / (1.0 - lit)
    scatter(odds, places, 2 * WIDTH, 0, seen)
    scatter(odds, places, 2 * WIDTH, 1, lit)
    if frame[10] > 0.0:
        seen = greater(seen, lit / frame[10])
    x0, x1, y0, y1 = box_each(w, n_modes, address(motion.D_um2_s), exposure_s, seen, frame)
    at = boxes_of(n_modes)
    store(w, at, x0)
    store(w, at + _ROW, x1)
    store(w, at + _2, y0)
    store(w, at + _3, y1)


@lanes
def cell_of(x: float, x0: float, per_um: float, n: float) -> int:
    """Return the column or row of the cell at x, clipped before it becomes an integer."""
    return int(min(max((x - x0) * per_um, 0.0), n - 1.0))


@kernel_of_lanes
def propose(
    bank: Bank, n_live: int, n: int, motion: Motion, exposure_s: float, sheet: Sheet,
    edges: Edges, beside: Beside,
) -> int:  # fmt: skip
    """List every link with a cost below 0, by track; return how many there are.

    Where `edges` is too small the count is still right: enlarge it and call again.
    """
    start, cells, frame = address(edges.start), address(sheet.start), address(sheet.frame)
    modes, spots = address(bank.modes), address(sheet.spots)
    w, pair, n_modes = address(beside.v), address(beside.pair), motion.D_um2_s.shape[0]
    nx, n_edges, n_pairs = int(frame[6]), 0, 0
    for i in range(n_live + 1):
        start[i] = 0
    for first in range(0, n_live if n > 0 else 0, WIDTH):
        look_out(bank, first, n_live, motion, exposure_s, frame, beside)
        for i in range(first, min(first + WIDTH, n_live)):
            at = int(boxes_of(n_modes)) + i - first
            x0, x1, y0, y1 = w[at], w[at + WIDTH], w[at + 2 * WIDTH], w[at + 3 * WIDTH]
            empty = x0 > min(x1, frame[2]) or y0 > min(y1, frame[3])
            if empty or x1 < frame[0] or y1 < frame[1]:
                continue
            cx0 = cell_of(x0, frame[0], frame[4], frame[6])
            cx1 = cell_of(x1, frame[0], frame[4], frame[6])
            cy0 = cell_of(y0, frame[1], frame[5], frame[7])
            for cy in range(cy0, cell_of(y1, frame[1], frame[5], frame[7]) + 1):
                # cells of one row lie side by side: one run of spots
                for j in range(cells[cy * nx + cx0], cells[cy * nx + cx1 + 1]):
                    x, y = spots[j * FIELDS], spots[j * FIELDS + 1]
                    pair[n_pairs] = i
                    pair[CHUNK + n_pairs] = j
                    n_pairs += int((x >= x0) & (x <= x1) & (y >= y0) & (y <= y1))
                    if n_pairs == CHUNK:
                        n_edges = judge(
                            n_pairs, n_edges, modes, n_modes, spots, motion, exposure_s, edges,
                            beside,
                        )  # fmt: skip
                        n_pairs = 0
    n_edges = judge(
        n_pairs, n_edges, modes, n_modes, spots, motion, exposure_s, edges, beside
    )  # fmt: skip
    for i in range(n_live):
        start[i + 1] += start[i]
    return n_edges


@lanes
def condition(
    modes: F8, n_modes: int, spots: F8, places: I8, q: int, D_um2_s: F8, exposure_s: float, w: F8
) -> None:
    """Kalman update of eight tracks with a spot each, as `motion_kernels.condition`.

    `places` has the tracks' rows from `q` on, the spots' rows after `CHUNK`. The modes are left in
    `w`, and what their weights were after them.
    """
    take_rows(modes, places, q, n_modes * FIELDS, w)
    old, s = np.uint64(n_modes * FIELDS) * _ROW, np.uint64(2 * n_modes * FIELDS) * _ROW
    turn(spots, places, q + CHUNK, 0, w, s)
    x, y, vxx = load(w, s), load(w, s + _ROW), load(w, s + _2)
    vxy, vyy, total = load(w, s + _3), load(w, s + _4), spread(0.0)
    for k in range(n_modes):
        at = np.uint64(k * FIELDS) * _ROW
        t = 2.0 * D_um2_s[k] * exposure_s
        pxx, pxy, pyy = load(w, at + _3), load(w, at + _4), load(w, at + _5)
        sxx, sxy, syy = pxx + t / 3.0 + vxx, pxy + vxy, pyy + t / 3.0 + vyy
        inverse = 1.0 / (sxx * syy - sxy * sxy)
        ixx, ixy, iyy = syy * inverse, -sxy * inverse, sxx * inverse
        mx, my = load(w, at + _ROW), load(w, at + _2)
        dx, dy = x - mx, y - my
        half = 0.5 * (ixx * dx * dx + 2.0 * ixy * dx * dy + iyy * dy * dy)
        cxx, cyy = pxx + 0.5 * t, pyy + 0.5 * t
        gxx, gxy = cxx * ixx + pxy * ixy, cxx * ixy + pxy * iyy
        gyx, gyy = pxy * ixx + cyy * ixy, pxy * ixy + cyy * iyy
        before = load(w, at)
        weight = before * exp_each(-half) * root(inverse)
        total += weight
        store(w, old + np.uint64(k) * _ROW, before)
        store(w, at, weight)
        store(w, at + _ROW, mx + (gxx * dx + gxy * dy))
        store(w, at + _2, my + (gyx * dx + gyy * dy))
        store(w, at + _3, pxx + t - (gxx * cxx + gxy * pxy))
        store(w, at + _4, pxy - (gxx * pxy + gxy * cyy))
        store(w, at + _5, pyy + t - (gyx * pxy + gyy * cyy))
    for k in range(n_modes):
        at = np.uint64(k * FIELDS) * _ROW
        store(w, at, greater(load(w, at) / total, spread(LEAST_WEIGHT)))
    put_rows(w, n_modes * FIELDS, modes, places, q)


@lanes
def count_each(before: F8, n_modes: int, places: I8, q: int, share: Vector, w: F8) -> None:
    """Add eight tracks' expected switches, without the transition's own part."""
    old = np.uint64(n_modes * FIELDS) * _ROW
    for k in range(n_modes):
        part = share * load(w, np.uint64(k * FIELDS) * _ROW) / load(w, old + np.uint64(k) * _ROW)
        for j in range(n_modes):
            at = sums_of(n_modes) + np.uint64(j * n_modes + k) * _ROW
            store(w, at, load(w, at) + part * gather(before, places, q + 2 * CHUNK, j))


@lanes
def take_in(
    n_pairs: int, bank: Bank, spots: F8, motion: Motion, exposure_s: float, counts: F8,
    beside: Beside,
) -> None:  # fmt: skip
    """Update the tracks of `beside.pair` with their spots, and count their switches.

    ``beside.ratio[q]`` is the probability of the link, 0 where it is no witness of switches.
    P(j then k | y) = w_j T_jk w'_k / w_k, with w_k predicted and w'_k updated.
    """
    n_modes = motion.D_um2_s.shape[0]
    pair, places, shares = address(beside.pair), address(beside.place), address(beside.ratio)
    modes, before, w = address(bank.modes), address(bank.before), address(beside.v)
    D_um2_s, transition = address(motion.D_um2_s), address(motion.transition)
    first, sums = sums_of(n_modes), address(counts)
    for q in range((n_pairs + WIDTH - 1) // WIDTH * WIDTH):
        p = min(q, n_pairs - 1)
        places[q] = pair[p] * (n_modes * FIELDS)
        places[CHUNK + q] = pair[CHUNK + p] * FIELDS
        places[2 * CHUNK + q] = pair[p] * n_modes
        if q >= n_pairs:
            shares[q] = 0.0
    for c in range(n_modes * n_modes):
        store(w, first + np.uint64(c) * _ROW, spread(0.0))
    for q in range(0, n_pairs, WIDTH):
        condition(modes, n_modes, spots, places, q, D_um2_s, exposure_s, w)
        count_each(before, n_modes, places, q, load(shares, q), w)
    for c in range(n_modes * n_modes):
        sums[c] += transition[c] * add_up(load(w, first + np.uint64(c) * _ROW))


@kernel_of_lanes
def update(
    bank: Bank, n_live: int, motion: Motion, elapsed: Elapsed, spots: F8, p_chosen: F8, counts: F8,
    beside: Beside,
) -> None:  # fmt: skip
    """Update every track with the spot chosen for it; the rest diffuse unseen.

    A guided row is no witness of switches, nor is a step over more than one interval.
    """
    pair, shares, n_pairs = address(beside.pair), address(beside.ratio), 0
    chosen, rows = address(bank.spot), address(spots)
    for i in range(n_live):
        j = chosen[i]
        if j < 0:
            for k in range(motion.D_um2_s.shape[0]):
                more = 2.0 * motion.D_um2_s[k] * elapsed.exposure_s
                bank.modes[i, k, 3] += more
                bank.modes[i, k, 5] += more
            continue
        pair[n_pairs] = i
        pair[CHUNK + n_pairs] = j
        witness = elapsed.n_walk == 1 and rows[j * FIELDS + 5] == 0.0
        shares[n_pairs] = p_chosen[j] if witness else 0.0
        n_pairs += 1
        if n_pairs == CHUNK:
            take_in(n_pairs, bank, rows, motion, elapsed.exposure_s, counts, beside)
            n_pairs = 0
    if n_pairs > 0:
        take_in(n_pairs, bank, rows, motion, elapsed.exposure_s, counts, beside)
