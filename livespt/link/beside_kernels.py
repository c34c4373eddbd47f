"""Kernels that take eight tracks, or eight possible links, side by side (`livespt.vectors`).

Each is the step of one in `livespt.link.motion_kernels`, and of the same symbols. Tracks and spots
lie in rows; a `place` says where a row begins. Where fewer than eight are left the last is taken
several times over, which gives it the same numbers each time.

Rows of eight in `Beside.v`: the modes of eight tracks, `FIELDS` rows a mode, then as many again,
the spots, sums over pairs of modes, and the boxes of `look_out`.
"""

from __future__ import annotations

import numpy as np

from livespt.element_kernels import exp_each
from livespt.jit import kernel_of_lanes, lanes
from livespt.link.bank import CHUNK, F8, I8, Bank, Beside, Elapsed, Motion
from livespt.link.motion_kernels import LEAST_WEIGHT
from livespt.vector_places import gather, scatter, turn, turn_back
from livespt.vectors import (
    WIDTH,
    Vector,
    add_up,
    address,
    load,
    pick,
    root,
    spread,
    store,
)

#: Numbers of a mode, and of a spot.
FIELDS = 6
ROW = np.uint64(WIDTH)
ROW_2, ROW_3, ROW_4, ROW_5 = (np.uint64(i) * ROW for i in range(2, 6))


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
        turn(modes, places, at, f, w, np.uint64(f) * ROW)


@lanes
def put_rows(w: F8, width: int, modes: F8, places: I8, at: int) -> None:
    """Put back what `take_rows` took."""
    whole = width // WIDTH * WIDTH
    for f in range(0, whole, WIDTH):
        turn_back(w, np.uint64(f) * ROW, modes, places, at, f)
    for f in range(whole, width):
        scatter(modes, places, at, f, load(w, np.uint64(f) * ROW))


@lanes
def mix(w: F8, transition: F8, n_modes: int) -> None:
    """One switching step, as `motion_kernels.switch`: moments matched, the spread of means too."""
    half = np.uint64(n_modes * FIELDS) * ROW
    x0, y0 = load(w, ROW), load(w, ROW_2)
    for j in range(n_modes):
        at = np.uint64(j * FIELDS) * ROW
        dx, dy = load(w, at + ROW) - x0, load(w, at + ROW_2) - y0
        store(w, half + at, load(w, at))
        store(w, half + at + ROW, dx)
        store(w, half + at + ROW_2, dy)
        store(w, half + at + ROW_3, load(w, at + ROW_3) + dx * dx)
        store(w, half + at + ROW_4, load(w, at + ROW_4) + dx * dy)
        store(w, half + at + ROW_5, load(w, at + ROW_5) + dy * dy)
    for k in range(n_modes):
        weight, x, y = spread(0.0), spread(0.0), spread(0.0)
        xx, xy, yy = spread(0.0), spread(0.0), spread(0.0)
        for j in range(n_modes):
            at = half + np.uint64(j * FIELDS) * ROW
            a = load(w, at) * transition[j * n_modes + k]
            weight += a
            x += a * load(w, at + ROW)
            y += a * load(w, at + ROW_2)
            xx += a * load(w, at + ROW_3)
            xy += a * load(w, at + ROW_4)
            yy += a * load(w, at + ROW_5)
        scale = 1.0 / weight
        x *= scale
        y *= scale
        at = np.uint64(k * FIELDS) * ROW
        store(w, at, weight)
        store(w, at + ROW, x0 + x)
        store(w, at + ROW_2, y0 + y)
        store(w, at + ROW_3, xx * scale - x * x)
        store(w, at + ROW_4, xy * scale - x * y)
        store(w, at + ROW_5, yy * scale - y * y)


@lanes
def diffuse(w: F8, D_um2_s: F8, n_modes: int, time_s: float) -> None:
    """Let eight tracks diffuse unseen for `time_s`: P + 2 D t."""
    for k in range(n_modes):
        at = np.uint64(k * FIELDS) * ROW
        more = 2.0 * D_um2_s[k] * time_s
        store(w, at + ROW_3, load(w, at + ROW_3) + more)
        store(w, at + ROW_5, load(w, at + ROW_5) + more)


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
            scatter(before, places, WIDTH, k, load(w, np.uint64(k * FIELDS) * ROW))
        for _ in range(elapsed.n_walk):
            if n_modes > 1:
                mix(w, transition, n_modes)
            diffuse(w, D_um2_s, n_modes, elapsed.piece_s)
        put_rows(w, width, modes, places, 0)
        blink(life, places, 2 * WIDTH, motion, elapsed.n_life)


@lanes
def sums_of(n_modes: int) -> np.uint64:
    """Return where the sums over pairs of modes stand in `Beside.v`."""
    return np.uint64(2 * n_modes * FIELDS + WIDTH) * ROW


@lanes
def boxes_of(n_modes: int) -> np.uint64:
    """Return where the boxes stand in `Beside.v`."""
    return sums_of(n_modes) + np.uint64(n_modes * n_modes) * ROW


@lanes
def condition(
    modes: F8, n_modes: int, spots: F8, places: I8, q: int, D_um2_s: F8, exposure_s: float, w: F8
) -> None:
    """Kalman update of eight tracks with a spot each, as `motion_kernels.condition`.

    `places` has the tracks' rows from `q` on, the spots' rows after `CHUNK`. The modes are left in
    `w`, and what their weights were after them.
    """
    take_rows(modes, places, q, n_modes * FIELDS, w)
    old, s = np.uint64(n_modes * FIELDS) * ROW, np.uint64(2 * n_modes * FIELDS) * ROW
    turn(spots, places, q + CHUNK, 0, w, s)
    x, y, vxx = load(w, s), load(w, s + ROW), load(w, s + ROW_2)
    vxy, vyy, total = load(w, s + ROW_3), load(w, s + ROW_4), spread(0.0)
    for k in range(n_modes):
        at = np.uint64(k * FIELDS) * ROW
        t = 2.0 * D_um2_s[k] * exposure_s
        pxx, pxy, pyy = load(w, at + ROW_3), load(w, at + ROW_4), load(w, at + ROW_5)
        sxx, sxy, syy = pxx + t / 3.0 + vxx, pxy + vxy, pyy + t / 3.0 + vyy
        inverse = 1.0 / (sxx * syy - sxy * sxy)
        ixx, ixy, iyy = syy * inverse, -sxy * inverse, sxx * inverse
        mx, my = load(w, at + ROW), load(w, at + ROW_2)
        dx, dy = x - mx, y - my
        half = 0.5 * (ixx * dx * dx + 2.0 * ixy * dx * dy + iyy * dy * dy)
        cxx, cyy = pxx + 0.5 * t, pyy + 0.5 * t
        gxx, gxy = cxx * ixx + pxy * ixy, cxx * ixy + pxy * iyy
        gyx, gyy = pxy * ixx + cyy * ixy, pxy * ixy + cyy * iyy
        before = load(w, at)
        weight = before * exp_each(-half) * root(inverse)
        total += weight
        store(w, old + np.uint64(k) * ROW, before)
        store(w, at, weight)
        store(w, at + ROW, mx + (gxx * dx + gxy * dy))
        store(w, at + ROW_2, my + (gyx * dx + gyy * dy))
        store(w, at + ROW_3, pxx + t - (gxx * cxx + gxy * pxy))
        store(w, at + ROW_4, pxy - (gxx * pxy + gxy * cyy))
        store(w, at + ROW_5, pyy + t - (gyx * pxy + gyy * cyy))
    for k in range(n_modes):
        at = np.uint64(k * FIELDS) * ROW
        store(w, at, greater(load(w, at) / total, spread(LEAST_WEIGHT)))
    put_rows(w, n_modes * FIELDS, modes, places, q)


@lanes
def count_each(before: F8, n_modes: int, places: I8, q: int, share: Vector, w: F8) -> None:
    """Add eight tracks' expected switches, without the transition's own part."""
    old = np.uint64(n_modes * FIELDS) * ROW
    for k in range(n_modes):
        part = share * load(w, np.uint64(k * FIELDS) * ROW) / load(w, old + np.uint64(k) * ROW)
        for j in range(n_modes):
            at = sums_of(n_modes) + np.uint64(j * n_modes + k) * ROW
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
        store(w, first + np.uint64(c) * ROW, spread(0.0))
    for q in range(0, n_pairs, WIDTH):
        condition(modes, n_modes, spots, places, q, D_um2_s, exposure_s, w)
        count_each(before, n_modes, places, q, load(shares, q), w)
    for c in range(n_modes * n_modes):
        sums[c] += transition[c] * add_up(load(w, first + np.uint64(c) * ROW))


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
