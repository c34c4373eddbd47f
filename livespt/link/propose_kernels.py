"""Kernels that propose links: which spots each track can reach, and how likely each pair is.

Tracks and pairs are taken eight at a time, as in `livespt.link.beside_kernels`, whose symbols these
are.
"""

from __future__ import annotations

import math

import numpy as np

from livespt.element_kernels import exp_each, log_each
from livespt.jit import kernel_of_lanes, lanes
from livespt.link.bank import CHUNK, F8, I8, Bank, Beside, Edges, Motion, Sheet
from livespt.link.beside_kernels import (
    FIELDS,
    ROW,
    ROW_2,
    ROW_3,
    ROW_4,
    ROW_5,
    boxes_of,
    greater,
    lesser,
    place_rows,
    take_rows,
)
from livespt.link.graph_kernels import LARGEST_RATIO
from livespt.link.motion_kernels import MOST_ON, TWO_PI
from livespt.vector_places import gather, scatter, turn
from livespt.vectors import (
    WIDTH,
    Vector,
    address,
    load,
    pick,
    root,
    spread,
    store,
)


@lanes
def half_and_tilt(w: F8, at: np.uint64) -> tuple[Vector, Vector]:
    """Return bounds of the variance in any direction: half - tilt and half + tilt."""
    pxx, pyy = load(w, at + ROW_3), load(w, at + ROW_5)
    pxy, apart = load(w, at + ROW_4), pxx - pyy
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
        at = np.uint64(k * FIELDS) * ROW
        half, tilt = half_and_tilt(w, at)
        more = 2.0 * D_um2_s[k] * exposure_s / 3.0 + frame[8]
        least = TWO_PI * (greater(half - tilt, spread(0.0)) + more)
        most = greater(most, odds * load(w, at) / least)
    ln = log_each(greater(most, spread(1.0)))  # of the likeliest mode: one logarithm for all
    x0 = x1 = load(w, ROW)
    y0 = y1 = load(w, ROW_2)
    farthest = spread(-1.0)
    for k in range(n_modes):
        at = np.uint64(k * FIELDS) * ROW
        half, tilt = half_and_tilt(w, at)
        blur = 2.0 * D_um2_s[k] * exposure_s / 3.0
        least = TWO_PI * (greater(half - tilt, spread(0.0)) + (blur + frame[8]))
        gain = odds * load(w, at)
        near = 2.0 * (half + tilt + (blur + frame[9])) * ln
        near = lesser(near, gain * (1.0 / (math.pi * math.e)))
        farthest = greater(farthest, pick(least, gain, near, spread(-1.0)))
        x, y = load(w, at + ROW), load(w, at + ROW_2)
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
    s = np.uint64(2 * n_modes * FIELDS) * ROW
    turn(spots, places, q + CHUNK, 0, w, s)
    x, y, vxx = load(w, s), load(w, s + ROW), load(w, s + ROW_2)
    vxy, vyy, false = load(w, s + ROW_3), load(w, s + ROW_4), load(w, s + ROW_5)
    total = spread(0.0)
    for k in range(n_modes):
        at = np.uint64(k * FIELDS) * ROW
        blur = 2.0 * D_um2_s[k] * exposure_s / 3.0
        dx, dy = x - load(w, at + ROW), y - load(w, at + ROW_2)
        a, b, c = (
            load(w, at + ROW_3) + blur + vxx,
            load(w, at + ROW_4) + vxy,
            load(w, at + ROW_5) + blur + vyy,
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
    store(w, at + ROW, x1)
    store(w, at + ROW_2, y0)
    store(w, at + ROW_3, y1)


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
