"""Each track's own D: the exact one-state filter of `stepkernels`, for every D of a grid at once.

For a molecule that keeps its D this is Berglund's likelihood itself, at N_GRID values of ln D; the
pooled model of K states plays no part but for its error scale. Under a prior flat in ln D the
likelihoods are the posterior. Its grid is coarse, since likelihoods are smooth in ln D: a posterior
wider than the grid's step is summed over the grid, a narrower one is a polynomial through the five
values around its summit.

Symbols: F one track's flat array, N_GRID values of each row below; f = ln weight, u = ln D in
units of the grid's step.
"""

from __future__ import annotations

import math

from livespt.infer.arrays import Array, Ints, Seen
from livespt.infer.batchkernels import FALSE_LINK
from livespt.infer.elementkernels import exp_of, log_of
from livespt.infer.stepkernels import first_dark
from livespt.jit import kernel, lanes

#: Values of D in the grid: a whole number of vector registers.
N_GRID = 32
#: Rows of a track's array: mean, covariance, ln weight; then the last spot's r S^-1 r and det S.
MX, MY, PXX, PXY, PYY, LNW, NEAR, DET = range(0, 8 * N_GRID, N_GRID)
N_ROWS = 8
#: Strands of a sum that are added side by side; a row has four of each.
EIGHT = N_GRID // 4
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
    base, step = math.log(grid[0]), math.log(grid[1] / grid[0])
    fastest = N_GRID - 1
    if pooled[1] < grid[N_GRID - 1]:
        fastest = min(N_GRID - 1, max(0, int((math.log(pooled[1]) - base) / step) + 1 + MARGIN))
    for i in range(seen.slot.shape[0]):
        slot = int(seen.slot[i])
        F, spot = own[slot], seen.spot[i]
        if n_spots[slot] == 0:
            F[:] = 0.0
            begin(F, spot, seen.exposure_s, grid, pooled[0])
        else:
            dark = first_dark(seen.t_s - last[slot, 0], last[slot, 1], 1)
            observe(F, spot, 2.0 * dark, 2.0 * seen.exposure_s, grid, pooled[0])
            far = max(fastest, int(last[slot, 2])) if n_spots[slot] >= OWN_WORD else fastest
            if F[NEAR + far] > FALSE_LINK:
                begin(F, spot, seen.exposure_s, grid, pooled[0])
            elif seen.weight[i] > 0.0:
                weigh(F)
        describe(F, base, step, out[i])
        last[slot, 0], last[slot, 1] = seen.t_s, seen.exposure_s
        last[slot, 2] = min(N_GRID - 1.0, math.ceil((out[i, 2] - base) / step))


@lanes
def begin(F: Array, spot: Array, te: float, grid: Array, c2: float) -> None:
    """Put a track at a spot under a flat prior, as `stepkernels.start`; its weights stay."""
    for g in range(N_GRID):
        blur = 2.0 * grid[g] * te / 3.0
        F[MX + g], F[MY + g] = spot[0], spot[1]
        F[PXX + g], F[PYY + g] = c2 * spot[2] + blur, c2 * spot[3] + blur
        F[PXY + g] = c2 * spot[4]


@lanes
def observe(F: Array, spot: Array, two_dark: float, two_te: float, grid: Array, c2: float) -> None:
    """Diffuse in the dark, then condition on one spot, as `stepkernels`; leave NEAR and DET."""
    x, y, vxx, vyy, vxy = spot[0], spot[1], c2 * spot[2], c2 * spot[3], c2 * spot[4]
    for g in range(N_GRID):
        D = grid[g]
        h = D * two_te
        pxx, pyy, pxy = F[PXX + g] + D * two_dark, F[PYY + g] + D * two_dark, F[PXY + g]
        cxx, cyy = pxx + 0.5 * h, pyy + 0.5 * h
        sxx, syy, sxy = pxx + h / 3.0 + vxx, pyy + h / 3.0 + vyy, pxy + vxy
        det = sxx * syy - sxy * sxy
        inverse = 1.0 / det
        ixx, ixy, iyy = syy * inverse, -sxy * inverse, sxx * inverse
        rx, ry = x - F[MX + g], y - F[MY + g]
        ux, uy = ixx * rx + ixy * ry, ixy * rx + iyy * ry
        gxx, gxy = cxx * ixx + pxy * ixy, cxx * ixy + pxy * iyy
        gyx, gyy = pxy * ixx + cyy * ixy, pxy * ixy + cyy * iyy
        F[MX + g] += cxx * ux + pxy * uy
        F[MY + g] += pxy * ux + cyy * uy
        F[PXX + g] = pxx + h - (gxx * cxx + gxy * pxy)
        F[PXY + g] = pxy - (gxx * pxy + gxy * cyy)
        F[PYY + g] = pyy + h - (gyx * pxy + gyy * cyy)
        F[NEAR + g] = rx * ux + ry * uy
        F[DET + g] = det


@lanes
def weigh(F: Array) -> None:
    """Take the likelihood of the spot just observed into the ln weights."""
    for g in range(N_GRID):
        F[LNW + g] -= 0.5 * (F[NEAR + g] + log_of(F[DET + g]))


@lanes
def find_top(F: Array) -> int:
    """Return the first summit of the ln weights: eight strands side by side, then among these."""
    for i in range(EIGHT):
        F[DET + i] = max(
            max(F[LNW + i], F[LNW + EIGHT + i]),
            max(F[LNW + 2 * EIGHT + i], F[LNW + 3 * EIGHT + i]),
        )
    top = F[DET]
    for i in range(1, EIGHT):
        top = max(top, F[DET + i])
    at = 0
    while F[LNW + at] < top:
        at += 1
    return at


@lanes
def moments(F: Array, at: int) -> tuple[float, float]:
    """Return mean and variance of the weights in the row NEAR over g - at."""
    for i in range(EIGHT):
        a, b = F[NEAR + i], F[NEAR + EIGHT + i]
        c, d = F[NEAR + 2 * EIGHT + i], F[NEAR + 3 * EIGHT + i]
        g = float(i - at)
        h, k, m = g + EIGHT, g + 2 * EIGHT, g + 3 * EIGHT
        F[DET + i] = (a + b) + (c + d)
        F[DET + EIGHT + i] = (a * g + b * h) + (c * k + d * m)
        F[DET + 2 * EIGHT + i] = (a * g * g + b * h * h) + (c * k * k + d * m * m)
    total, first, second = 0.0, 0.0, 0.0
    for i in range(EIGHT):
        total += F[DET + i]
        first += F[DET + EIGHT + i]
        second += F[DET + 2 * EIGHT + i]
    mean = first / total
    return mean, second / total - mean * mean


@lanes
def describe(F: Array, base: float, step: float, out: Array) -> None:
    """Write mean and 95 % interval of ln D; subtract the top from the ln weights."""
    at = find_top(F)
    top = F[LNW + at]
    for g in range(N_GRID):
        F[LNW + g] -= top
    if is_steep(F, at):
        describe_summit(F, at, out)
    else:
        describe_wide(F, at, out)
    for i in range(3):
        out[i] = base + step * min(max(out[i], 0.0), N_GRID - 1.0)


@lanes
def is_steep(F: Array, at: int) -> bool:
    """Return whether so little is left three values from the top that its s.d. is surely small."""
    if at < 3 or at > N_GRID - 4:
        return False
    return max(F[LNW + at - 3], F[LNW + at + 3]) < STEEP


@kernel
def describe_wide(F: Array, at: int, out: Array) -> None:
    """Write mean and interval of a posterior whose sums over the grid must say how wide it is."""
    for g in range(N_GRID):  # in a row that is free until the next spot
        w = exp_of(F[LNW + g])
        F[NEAR + g] = w if F[LNW + g] > NOTHING else 0.0
    mean, variance = moments(F, at)
    if variance < NARROW * NARROW:
        describe_summit(F, at, out)
    else:
        out[0] = at + mean
        describe_tails(F, out)


@kernel
def describe_summit(F: Array, at: int, out: Array) -> None:
    """Mean and interval of a narrow posterior: its summit, curvature and skewness."""
    at = min(max(at, 2), N_GRID - 3)
    a, b, c = F[LNW + at - 2], F[LNW + at - 1], F[LNW + at]
    d, e = F[LNW + at + 1], F[LNW + at + 2]
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
    lean = third * sd**3 * (Z95 * Z95 - 1.0) / 6.0
    out[0], out[1], out[2] = mean, mean + sd * (lean - Z95), mean + sd * (lean + Z95)


@kernel
def describe_tails(F: Array, out: Array) -> None:
    """2.5 and 97.5 % points of a wide posterior, whose weights stand in the row NEAR."""
    total = fill_cells(F)
    for side in range(2):
        wanted = (0.025 if side == 0 else 0.975) * total
        g = 0
        while g < N_GRID - 2 and F[DET + g + 1] < wanted:
            g += 1
        mass = F[DET + g + 1] - F[DET + g]
        part = min(max((wanted - F[DET + g]) / mass, 0.0), 1.0) if mass > 0.0 else 0.5
        lean = F[LNW + g + 1] - F[LNW + g]  # within the cell the density is exponential
        if abs(lean) > 1e-6:
            part = math.log1p(part * math.expm1(lean)) / lean
        out[1 + side] = g + part


@lanes
def fill_cells(F: Array) -> float:
    """Integrate the weights up to each value of the grid, into the row DET; return the whole.

    From one value to the next exact for cubics, but at the grid's ends.
    """
    for g in range(1, N_GRID - 2):
        inner = F[NEAR + g] + F[NEAR + g + 1]
        F[DET + g] = max((13.0 * inner - F[NEAR + g - 1] - F[NEAR + g + 2]) / 24.0, 0.0)
    F[DET] = 0.5 * (F[NEAR] + F[NEAR + 1])
    F[DET + N_GRID - 2] = 0.5 * (F[NEAR + N_GRID - 2] + F[NEAR + N_GRID - 1])
    total = 0.0
    for g in range(N_GRID - 1):
        part = F[DET + g]
        F[DET + g] = total
        total += part
    F[DET + N_GRID - 1] = total
    return total
