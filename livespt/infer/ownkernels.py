"""Each track's own D: the exact one-state filter of `stepkernels`, for every D of a grid at once.

For a molecule that keeps its D this is Berglund's likelihood itself, at N_GRID values of ln D; the
pooled model of K states plays no part but for its error scale. Under a prior flat in ln D the
likelihoods are the posterior. Its grid is coarse, since likelihoods are smooth in ln D: a posterior
wider than the grid's step is summed over the grid, a narrower one is a polynomial through the five
values around its summit.

Symbols: F the tracks' flat arrays, one of them from `base` on, N_GRID values of each row below;
f = ln weight, u = ln D in units of the grid's step.
"""

from __future__ import annotations

import math

import numpy as np

from livespt.element_kernels import exp_each, log_each
from livespt.infer.arrays import Array, Ints, Seen
from livespt.infer.batchkernels import FALSE_LINK
from livespt.infer.stepkernels import first_dark
from livespt.jit import kernel, kernel_of_lanes, lanes
from livespt.vectors import WIDTH, add_up, address, load, pick, spread, store

#: Values of D in the grid: a whole number of vector registers.
N_GRID = 32
#: Values that are taken side by side.
_WIDTH, _GRID = np.uint64(WIDTH), np.uint64(N_GRID)
#: Rows of a track's array: mean, covariance, ln weight; then the last spot's r S^-1 r and det S.
MX, MY, PXX, PXY, PYY, LNW, NEAR, DET = map(np.uint64, range(0, 8 * N_GRID, N_GRID))
N_ROWS = 8
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


@kernel
def step_own(own: Array, last: Array, seen: Seen, n_spots: Ints, grid: Array, pooled: Array,
             out: Array) -> None:  # fmt: skip
    """Take one frame's spots into their tracks' banks; write what each now says of its D.

    Parameters
    ----------
    own : (capacity, N_ROWS N_GRID)
    last : (capacity, 3)
        Time and exposure of each track's last spot, and the highest value of the grid (its index)
        that was likely then.
    n_spots : (capacity,)
        Spots of each track before this frame; 0 begins it anew.
    grid : (N_GRID,)
        Values of D, evenly spaced in ln D.
    pooled : (2,)
        Error scale squared; D of the fastest state (infinite while unknown).
    out : (n, 3)
        Mean of ln D and its 95 % interval.
    """
    first, step = math.log(grid[0]), math.log(grid[1] / grid[0])
    fastest = N_GRID - 1
    if pooled[1] < grid[N_GRID - 1]:
        fastest = min(N_GRID - 1, max(0, int((math.log(pooled[1]) - first) / step) + 1 + MARGIN))
    F, D, spots, said = address(own), address(grid), address(seen.spot), address(out)
    c2 = pooled[0]
    for i in range(seen.slot.shape[0]):
        slot, spot = int(seen.slot[i]), np.uint64(5 * i)
        base = np.uint64(slot * N_ROWS * N_GRID)
        if n_spots[slot] == 0:
            clear(F, base)
            begin(F, base, spots, spot, seen.exposure_s, D, c2)
        else:
            dark = first_dark(seen.t_s - last[slot, 0], last[slot, 1], 1)
            observe(F, base, spots, spot, (2.0 * dark, 2.0 * seen.exposure_s), D, c2)
            far = max(fastest, int(last[slot, 2])) if n_spots[slot] >= OWN_WORD else fastest
            if F[base + NEAR + np.uint64(far)] > FALSE_LINK:
                begin(F, base, spots, spot, seen.exposure_s, D, c2)
            elif seen.weight[i] > 0.0:
                weigh(F, base)
        to = np.uint64(3 * i)
        describe(F, base, said, to)
        last[slot, 0], last[slot, 1] = seen.t_s, seen.exposure_s
        last[slot, 2] = math.ceil(said[to + np.uint64(2)])
        for _ in range(3):
            said[to] = first + step * said[to]
            to += np.uint64(1)


@lanes
def clear(F: Array, base: np.uint64) -> None:
    """Begin a track anew, every D as probable as any other."""
    for i in range(base, base + np.uint64(N_ROWS) * _GRID, _WIDTH):
        store(F, i, spread(0.0))


@lanes
def begin(F: Array, base: np.uint64, spots: Array, spot: np.uint64, te: float, grid: Array,
          c2: float) -> None:  # fmt: skip
    """Put a track at a spot under a flat prior, as `stepkernels.start`; its weights stay."""
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
def observe(F: Array, base: np.uint64, spots: Array, spot: np.uint64, two: tuple[float, float],
            grid: Array, c2: float) -> None:  # fmt: skip
    """Diffuse in the dark, then condition on one spot, as `stepkernels`; leave NEAR and DET.

    `two` is twice the dark time, and twice the exposure.
    """
    x, y, vxx = spots[spot], spots[spot + np.uint64(1)], c2 * spots[spot + np.uint64(2)]
    vyy, vxy = c2 * spots[spot + np.uint64(3)], c2 * spots[spot + np.uint64(4)]
    for g in range(np.uint64(0), _GRID, _WIDTH):
        at, D = base + g, load(grid, g)
        h, grown = D * two[1], D * two[0]
        mx, my = load(F, at + MX), load(F, at + MY)
        pxx, pyy = load(F, at + PXX) + grown, load(F, at + PYY) + grown
        pxy = load(F, at + PXY)
        cxx, cyy = pxx + 0.5 * h, pyy + 0.5 * h
        sxx, syy, sxy = pxx + (1.0 / 3.0) * h + vxx, pyy + (1.0 / 3.0) * h + vyy, pxy + vxy
        det = sxx * syy - sxy * sxy
        inverse = 1.0 / det
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
        store(F, at + NEAR, rx * ux + ry * uy)
        store(F, at + DET, det)


@lanes
def weigh(F: Array, base: np.uint64) -> None:
    """Take the likelihood of the spot just observed into the ln weights."""
    for at in range(base, base + _GRID, _WIDTH):
        distance = load(F, at + NEAR) + log_each(load(F, at + DET))
        store(F, at + LNW, load(F, at + LNW) - 0.5 * distance)


@lanes
def find_top(F: Array, base: np.uint64) -> int:
    """Return the first summit of the ln weights: of each eighth value, then among these."""
    tops = load(F, base + LNW)
    for g in range(_WIDTH, _GRID, _WIDTH):
        f = load(F, base + LNW + g)
        tops = pick(tops, f, f, tops)
    store(F, base + DET, tops)
    top = F[base + DET]
    for g in range(np.uint64(1), _WIDTH):
        top = max(top, F[base + DET + g])
    at = 0
    while F[base + LNW + np.uint64(at)] < top:
        at += 1
    return at


@lanes
def moments(F: Array, base: np.uint64, at: int) -> tuple[float, float]:
    """Return mean and variance of the weights in the row NEAR over g - at."""
    total, first, second = spread(0.0), spread(0.0), spread(0.0)
    for i in range(_WIDTH):
        F[base + DET + i] = float(i) - at
    away = load(F, base + DET)
    for g in range(np.uint64(0), _GRID, _WIDTH):
        weight = load(F, base + NEAR + g)
        total += weight
        first += weight * away
        second += weight * away * away
        away += float(WIDTH)
    whole = add_up(total)
    mean = add_up(first) / whole
    return mean, add_up(second) / whole - mean * mean


@lanes
def describe(F: Array, base: np.uint64, out: Array, to: np.uint64) -> None:
    """Write mean and 95 % interval of ln D, in steps; subtract the top from the ln weights."""
    at = find_top(F, base)
    top = F[base + LNW + np.uint64(at)]
    for g in range(base + LNW, base + LNW + _GRID, _WIDTH):
        store(F, g, load(F, g) - top)
    if is_steep(F, base, at):
        said = describe_summit(F, base, at)
    else:
        said = describe_wide(F, base, at)
    for i in range(3):
        out[to + np.uint64(i)] = min(max(said[i], 0.0), N_GRID - 1.0)


@lanes
def is_steep(F: Array, base: np.uint64, at: int) -> bool:
    """Return whether so little is left three values from the top that its s.d. is surely small."""
    if at < 3 or at > N_GRID - 4:
        return False
    f = base + LNW + np.uint64(at)
    return max(F[f - np.uint64(3)], F[f + np.uint64(3)]) < STEEP


@kernel_of_lanes
def describe_wide(F: Array, base: np.uint64, at: int) -> tuple[float, float, float]:
    """Describe a posterior whose sums over the grid must say how wide it is."""
    for g in range(base, base + _GRID, _WIDTH):  # in a row that is free until the next spot
        f = load(F, g + LNW)
        store(F, g + NEAR, pick(spread(NOTHING), f, exp_each(f), spread(0.0)))
    mean, variance = moments(F, base, at)
    if variance < NARROW * NARROW:
        return describe_summit(F, base, at)
    low, high = describe_tails(F, base)
    return at + mean, low, high


@kernel_of_lanes
def describe_summit(F: Array, base: np.uint64, at: int) -> tuple[float, float, float]:
    """Mean and interval of a narrow posterior: its summit, curvature and skewness."""
    at = min(max(at, 2), N_GRID - 3)
    f = base + LNW + np.uint64(at)
    a, b, c = F[f - np.uint64(2)], F[f - np.uint64(1)], F[f]
    d, e = F[f + np.uint64(1)], F[f + np.uint64(2)]
    d1 = (a - 8.0 * b + 8.0 * d - e) / 12.0
    d2 = (-a + 16.0 * b - 30.0 * c + 16.0 * d - e) / 12.0
    d3 = 0.5 * (-a + 2.0 * b - 2.0 * d + e)
    d4 = a - 4.0 * b + 6.0 * c - 4.0 * d + e
    u = 0.0
    for _ in range(6):
        slope = d1 + u * (d2 + u * (0.5 * d3 + u * d4 / 6.0))
        bend = min(d2 + u * (d3 + 0.5 * u * d4), -1e-3)
        before, u = u, min(max(u - slope / bend, -2.0), 2.0)
        if abs(u - before) < 1e-9:
            break
    variance = -1.0 / min(d2 + u * (d3 + 0.5 * u * d4), -1e-3)
    sd = math.sqrt(variance)
    third = d3 + u * d4
    mean = at + u + 0.5 * third * variance * variance
    lean = third * sd * sd * sd * (Z95 * Z95 - 1.0) / 6.0
    return mean, mean + sd * (lean - Z95), mean + sd * (lean + Z95)


@kernel_of_lanes
def describe_tails(F: Array, base: np.uint64) -> tuple[float, float]:
    """2.5 and 97.5 % points of a wide posterior, whose weights stand in the row NEAR."""
    total, one = fill_cells(F, base), np.uint64(1)
    low, high = 0.0, 0.0
    for side in range(2):
        wanted = (0.025 if side == 0 else 0.975) * total
        g = np.uint64(0)
        while g < _GRID - np.uint64(2) and F[base + DET + g + one] < wanted:
            g += one
        mass = F[base + DET + g + one] - F[base + DET + g]
        part = min(max((wanted - F[base + DET + g]) / mass, 0.0), 1.0) if mass > 0.0 else 0.5
        lean = F[base + LNW + g + one] - F[base + LNW + g]
        if abs(lean) > 1e-6:  # within the cell the density is exponential
            part = math.log1p(part * math.expm1(lean)) / lean
        low, high = high, g + part
    return low, high


@lanes
def fill_cells(F: Array, base: np.uint64) -> float:
    """Integrate the weights up to each value of the grid, into the row DET; return the whole.

    From one value to the next exact for cubics, but at the grid's ends.
    """
    total, last = 0.0, N_GRID - 2
    for g in range(N_GRID - 1):
        fr = base + NEAR + np.uint64(g)
        inner = F[fr] + F[fr + np.uint64(1)]
        if 0 < g < last:
            outer = F[fr - np.uint64(1)] + F[fr + np.uint64(2)]
            part = max((13.0 * inner - outer) / 24.0, 0.0)
        else:
            part = 0.5 * inner
        F[base + DET + np.uint64(g)] = total
        total += part
    F[base + DET + np.uint64(N_GRID - 1)] = total
    return total
