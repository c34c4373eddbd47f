"""Each track's own D: the exact one-state filter of `stepkernels`, for every D of a grid at once.

For a molecule that keeps its D this is Berglund's likelihood itself, at N_GRID values of ln D; the
pooled model of K states plays no part but for its error scale. Under a prior flat in ln D the
likelihoods are the posterior. Its grid is coarse, since likelihoods are smooth in ln D: a posterior
wider than the grid's step is summed over the grid, a narrower one is a polynomial through the five
values around its summit; summits are described eight tracks at a time.

Symbols: F the tracks' flat arrays, one of them from `base` on, N_GRID values of each row below; w
the scratch, whose rows follow; f = ln weight, u = ln D in units of the grid's step.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np

from livespt.element_kernels import exp_each, inverse_and_log
from livespt.infer.arrays import Array, Ints, Seen
from livespt.infer.batchkernels import FALSE_LINK
from livespt.infer.stepkernels import first_dark
from livespt.jit import kernel, kernel_of_lanes, lanes
from livespt.vectors import (
    WIDTH,
    Vector,
    add_up,
    address,
    highest,
    load,
    lowest,
    pick,
    root,
    spread,
    store,
)

#: Values of D in the grid: a whole number of vector registers.
N_GRID = 32
#: Values that are taken side by side.
_WIDTH, _GRID = np.uint64(WIDTH), np.uint64(N_GRID)
#: Rows of a track's array: mean, covariance, ln weight.
MX, MY, PXX, PXY, PYY, LNW = map(np.uint64, range(0, 6 * N_GRID, N_GRID))
N_ROWS = 6
#: Rows of the scratch: r S^-1 r and ln det S of the spot just taken; weights, and their sums up to
#: each value.
NEAR, LN_DET, WEIGHTS, CELLS = map(np.uint64, range(0, 4 * N_GRID, N_GRID))
#: ... the numbers 0 to 7; then of each of eight tracks: five values of f around its summit, where
#: that is, mean and interval; the rows of their spots.
EIGHT, AROUND, SUMMIT, SAID, SPOT_ROW = (
    np.uint64(4 * N_GRID + WIDTH * i) for i in (0, 1, 6, 7, 10)
)
SCRATCH = 4 * N_GRID + 11 * WIDTH
#: A posterior with a smaller s.d. (in steps of the grid) is described by its summit.
NARROW = 0.7
#: ... as it surely is where three values from the top are below this: a normal one of s.d. 0.7.
STEEP = -9.2
#: ln weight below the top where nothing is left to be summed.
NOTHING = -40.0
#: A link is false where it is beyond `FALSE_LINK` for D so many grid steps above the fastest state,
#: and from this number of spots on above what the track itself has made likely.
MARGIN = 2
OWN_WORD = 8
Z95 = 1.959963984540054
#: Flat: `own` and `last` as in `step_own`, number of spots by slot, the grid.
Own: TypeAlias = tuple[Array, Array, Ints, Array]
#: Where answers go: rows, flat; how long one is, and where its three numbers begin.
Told: TypeAlias = tuple[Array, int, int]


@kernel
def step_own(own: Own, seen: Seen, pooled: tuple[float, float], out: Array, w: Array) -> None:
    """Take one frame's spots into their tracks' banks; write what each now says of its D.

    Parameters
    ----------
    own : (capacity, N_ROWS N_GRID), (capacity, 3), (capacity,), (N_GRID,)
        The banks; time and exposure of each track's last spot, and the highest value of the grid
        (its index) that was likely then; spots of each track before this frame, 0 begins it anew;
        values of D, evenly spaced in ln D.
    pooled : (float, float)
        Error scale squared; D of the fastest state (infinite while unknown).
    out : (n, 3)
        Mean (of ln D, as D) and 95 % interval.
    w : (SCRATCH,)
    """
    there = (address(own[0]), address(own[1]), address(own[2]), address(own[3]))
    take_own(there, seen_at(seen), seen.slot.shape[0], pooled, (address(out), 3, 0), address(w))


@lanes
def seen_at(seen: Seen) -> Seen:
    """Return a frame's spots with addresses in the place of arrays."""
    return Seen(
        seen.frame, seen.t_s, seen.exposure_s, address(seen.slot), address(seen.spot),
        address(seen.weight), address(seen.field),
    )  # fmt: skip


@kernel_of_lanes
def take_own(own: Own, seen: Seen, n: int, pooled: tuple[float, float], told: Told,
             w: Array) -> None:  # fmt: skip
    """Take n spots, all arrays being addresses."""
    F, last, n_spots, D = own
    first, step = math.log(D[0]), math.log(D[1] / D[0])
    fastest = N_GRID - 1
    if pooled[1] < D[N_GRID - 1]:
        fastest = min(N_GRID - 1, max(0, int((math.log(pooled[1]) - first) / step) + 1 + MARGIN))
    for i in range(_WIDTH):
        w[EIGHT + i] = float(i)
    lane = 0
    for i in range(n):
        slot, spot = int(seen.slot[i]), np.uint64(5 * i)
        base, before = np.uint64(slot) * np.uint64(N_ROWS * N_GRID), np.uint64(3 * slot)
        if n_spots[slot] == 0:
            clear(F, base)
            begin(F, base, seen, spot, D, pooled[0])
        else:
            dark = first_dark(seen.t_s - last[before], last[before + np.uint64(1)], 1)
            observe(F, base, seen, spot, dark, D, pooled[0], w)
            far = fastest
            if n_spots[slot] >= OWN_WORD:
                far = max(fastest, int(last[before + np.uint64(2)]))
            if w[NEAR + np.uint64(far)] > FALSE_LINK:
                begin(F, base, seen, spot, D, pooled[0])
            elif seen.weight[i] > 0.0:
                weigh(F, base, w)
        last[before], last[before + np.uint64(1)] = seen.t_s, seen.exposure_s
        describe(F, base, lane, w)
        w[SPOT_ROW + np.uint64(lane)] = i
        lane += 1
        if lane == WIDTH:
            tell(seen.slot, last, lane, (first, step), told, w)
            lane = 0
    tell(seen.slot, last, lane, (first, step), told, w)


@lanes
def clear(F: Array, base: np.uint64) -> None:
    """Begin a track anew, every D as probable as any other."""
    for i in range(base, base + np.uint64(N_ROWS) * _GRID, _WIDTH):
        store(F, i, spread(0.0))


@lanes
def begin(F: Array, base: np.uint64, seen: Seen, spot: np.uint64, grid: Array,
          c2: float) -> None:  # fmt: skip
    """Put a track at a spot under a flat prior, as `stepkernels.start`; its weights stay."""
    spots, te = seen.spot, seen.exposure_s
    x, y, vxx = spots[spot], spots[spot + np.uint64(1)], c2 * spots[spot + np.uint64(2)]
    vyy, vxy = c2 * spots[spot + np.uint64(3)], c2 * spots[spot + np.uint64(4)]
    for g in range(np.uint64(0), _GRID, _WIDTH):
        at, blur = base + g, 2.0 * load(grid, g) * te / 3.0
        store(F, at + MX, spread(x))
        store(F, at + MY, spread(y))
        store(F, at + PXX, vxx + blur)
        store(F, at + PXY, spread(vxy))
        store(F, at + PYY, vyy + blur)


@lanes
def observe(F: Array, base: np.uint64, seen: Seen, spot: np.uint64, dark: float, grid: Array,
            c2: float, w: Array) -> None:  # fmt: skip
    """Diffuse in the dark, then condition on one spot, as `stepkernels`; leave NEAR and LN_DET."""
    spots, two_dark, two_te = seen.spot, 2.0 * dark, 2.0 * seen.exposure_s
    x, y, vxx = spots[spot], spots[spot + np.uint64(1)], c2 * spots[spot + np.uint64(2)]
    vyy, vxy = c2 * spots[spot + np.uint64(3)], c2 * spots[spot + np.uint64(4)]
    for g in range(np.uint64(0), _GRID, _WIDTH):
        at, D = base + g, load(grid, g)
        h, grown = D * two_te, D * two_dark
        mx, my = load(F, at + MX), load(F, at + MY)
        pxx, pyy = load(F, at + PXX) + grown, load(F, at + PYY) + grown
        pxy = load(F, at + PXY)
        cxx, cyy = pxx + 0.5 * h, pyy + 0.5 * h
        sxx, syy, sxy = pxx + (1.0 / 3.0) * h + vxx, pyy + (1.0 / 3.0) * h + vyy, pxy + vxy
        det = sxx * syy - sxy * sxy
        inverse, ln_det = inverse_and_log(det)
        ixx, ixy, iyy = syy * inverse, -sxy * inverse, sxx * inverse
        rx, ry = x - mx, y - my
        ux, uy = ixx * rx + ixy * ry, ixy * rx + iyy * ry
        gxx, gxy = cxx * ixx + pxy * ixy, cxx * ixy + pxy * iyy
        gyx, gyy = pxy * ixx + cyy * ixy, pxy * ixy + cyy * iyy
        store(F, at + MX, mx + cxx * ux + pxy * uy)
        store(F, at + MY, my + pxy * ux + cyy * uy)
        store(F, at + PXX, pxx + h - (gxx * cxx + gxy * pxy))
        store(F, at + PXY, pxy - (gxx * pxy + gxy * cyy))
        store(F, at + PYY, pyy + h - (gyx * pxy + gyy * cyy))
        store(w, g + NEAR, rx * ux + ry * uy)
        store(w, g + LN_DET, ln_det)


@lanes
def weigh(F: Array, base: np.uint64, w: Array) -> None:
    """Take the likelihood of the spot just observed into the ln weights."""
    for g in range(np.uint64(0), _GRID, _WIDTH):
        distance = load(w, g + NEAR) + load(w, g + LN_DET)
        at = base + LNW + g
        store(F, at, load(F, at) - 0.5 * distance)


@lanes
def find_top(F: Array, base: np.uint64, w: Array) -> tuple[int, float]:
    """Return the first summit of the ln weights, and its height."""
    count = load(w, EIGHT)
    tops, where = load(F, base + LNW), count
    for g in range(_WIDTH, _GRID, _WIDTH):
        f = load(F, base + LNW + g)
        count += float(WIDTH)
        where = pick(tops, f, count, where)
        tops = pick(tops, f, f, tops)
    top = highest(tops)
    return int(lowest(pick(tops, spread(top), spread(N_GRID), where))), top


@lanes
def describe(F: Array, base: np.uint64, lane: int, w: Array) -> None:
    """Subtract the top from the ln weights; note what describes the summit, or the whole."""
    at, top = find_top(F, base, w)
    for g in range(base + LNW, base + LNW + _GRID, _WIDTH):
        store(F, g, load(F, g) - top)
    own = np.uint64(lane)
    w[SAID + own] = -1.0  # to be read off the summit
    if not is_steep(F, base, at):
        describe_wide(F, base, at, lane, w)
    at = min(max(at, 2), N_GRID - 3)
    w[SUMMIT + own] = at
    f = base + LNW + np.uint64(at - 2)
    for i in range(np.uint64(5)):
        w[AROUND + i * _WIDTH + own] = F[f + i]


@lanes
def is_steep(F: Array, base: np.uint64, at: int) -> bool:
    """Return whether so little is left three values from the top that its s.d. is surely small."""
    if at < 3 or at > N_GRID - 4:
        return False
    f = base + LNW + np.uint64(at)
    return max(F[f - np.uint64(3)], F[f + np.uint64(3)]) < STEEP


@kernel_of_lanes
def describe_wide(F: Array, base: np.uint64, at: int, lane: int, w: Array) -> None:
    """Describe a posterior whose sums over the grid must say how wide it is, if it is wide."""
    for g in range(np.uint64(0), _GRID, _WIDTH):
        f = load(F, base + LNW + g)
        store(w, WEIGHTS + g, pick(spread(NOTHING), f, exp_each(f), spread(0.0)))
    mean, variance = moments(at, w)
    if variance < NARROW * NARROW:
        return
    said = SAID + np.uint64(lane)
    w[said] = max(at + mean, 0.0)
    w[said + _WIDTH], w[said + np.uint64(2) * _WIDTH] = describe_tails(F, base, w)


@lanes
def moments(at: int, w: Array) -> tuple[float, float]:
    """Return mean and variance of the weights over g - at."""
    total, first, second = spread(0.0), spread(0.0), spread(0.0)
    away = load(w, EIGHT) - float(at)
    for g in range(np.uint64(0), _GRID, _WIDTH):
        weight = load(w, WEIGHTS + g)
        total += weight
        first += weight * away
        second += weight * away * away
        away += float(WIDTH)
    whole = add_up(total)
    mean = add_up(first) / whole
    return mean, add_up(second) / whole - mean * mean


@lanes
def within(v: Vector, low: float, high: float) -> Vector:
    """Return each number, or the bound that it is beyond."""
    v = pick(v, spread(low), spread(low), v)
    return pick(spread(high), v, spread(high), v)


@lanes
def tell(slots: Ints, last: Array, n: int, scale: tuple[float, float], told: Told,
         w: Array) -> None:  # fmt: skip
    """Write what the tracks in the first n lanes say: mean and 95 % interval of ln D, as D."""
    describe_summits(w)
    first, step = scale
    for c in range(np.uint64(3)):
        at = SAID + c * _WIDTH
        u = within(load(w, at), 0.0, N_GRID - 1.0)
        store(w, at, exp_each(first + step * u))
        if c == np.uint64(2):
            store(w, SUMMIT, u)
    for lane in range(np.uint64(n)):
        i = int(w[SPOT_ROW + lane])
        last[np.uint64(3 * int(slots[i]) + 2)] = math.ceil(w[SUMMIT + lane])
        to = np.uint64(i * told[1] + told[2])
        for c in range(np.uint64(3)):
            told[0][to + c] = w[SAID + c * _WIDTH + lane]


@lanes
def describe_summits(w: Array) -> None:
    """Mean and interval of narrow posteriors: the summit, curvature and skewness of each."""
    two = np.uint64(2) * _WIDTH
    a, b, c = load(w, AROUND), load(w, AROUND + _WIDTH), load(w, AROUND + two)
    d, e = load(w, AROUND + _WIDTH + two), load(w, AROUND + two + two)
    d1 = (a - 8.0 * b + 8.0 * d - e) * (1.0 / 12.0)
    d2 = (16.0 * (b + d) - a - 30.0 * c - e) * (1.0 / 12.0)
    d3 = 0.5 * (2.0 * b - a - 2.0 * d + e)
    d4 = a - 4.0 * b + 6.0 * c - 4.0 * d + e
    u, flat = spread(0.0), spread(-1e-3)
    for _ in range(6):
        slope = d1 + u * (d2 + u * (0.5 * d3 + u * d4 * (1.0 / 6.0)))
        bend = d2 + u * (d3 + 0.5 * u * d4)
        u = within(u - slope / pick(bend, flat, bend, flat), -2.0, 2.0)
    bend = d2 + u * (d3 + 0.5 * u * d4)
    variance = -1.0 / pick(bend, flat, bend, flat)
    sd, third = root(variance), d3 + u * d4
    mean = load(w, SUMMIT) + u + 0.5 * third * variance * variance
    lean = third * variance * sd * ((Z95 * Z95 - 1.0) / 6.0)
    wide, none = load(w, SAID), spread(0.0)
    store(w, SAID, pick(wide, none, mean, wide))
    store(w, SAID + _WIDTH, pick(wide, none, mean + sd * (lean - Z95), load(w, SAID + _WIDTH)))
    store(w, SAID + two, pick(wide, none, mean + sd * (lean + Z95), load(w, SAID + two)))


@kernel_of_lanes
def describe_tails(F: Array, base: np.uint64, w: Array) -> tuple[float, float]:
    """2.5 and 97.5 % points of a wide posterior."""
    total, one = fill_cells(w), np.uint64(1)
    low, high = 0.0, 0.0
    for side in range(2):
        wanted = (0.025 if side == 0 else 0.975) * total
        g = np.uint64(0)
        while g < _GRID - np.uint64(2) and w[CELLS + g + one] < wanted:
            g += one
        mass = w[CELLS + g + one] - w[CELLS + g]
        part = min(max((wanted - w[CELLS + g]) / mass, 0.0), 1.0) if mass > 0.0 else 0.5
        lean = F[base + LNW + g + one] - F[base + LNW + g]
        if abs(lean) > 1e-6:  # within the cell the density is exponential
            part = math.log1p(part * math.expm1(lean)) / lean
        low, high = high, g + part
    return low, high


@lanes
def fill_cells(w: Array) -> float:
    """Integrate the weights up to each value of the grid, into CELLS; return the whole.

    From one value to the next exact for cubics, but at the grid's ends.
    """
    total, last = 0.0, N_GRID - 2
    for g in range(N_GRID - 1):
        fr = WEIGHTS + np.uint64(g)
        inner = w[fr] + w[fr + np.uint64(1)]
        if 0 < g < last:
            outer = w[fr - np.uint64(1)] + w[fr + np.uint64(2)]
            part = max((13.0 * inner - outer) / 24.0, 0.0)
        else:
            part = 0.5 * inner
        w[CELLS + np.uint64(g)] = total
        total += part
    w[CELLS + np.uint64(N_GRID - 1)] = total
    return total
