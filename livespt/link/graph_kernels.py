"""Kernels of the association: spots laid out in cells, and how far a track can reach.

Symbols: ``spots[j] = (x, y, vxx, vxy, vyy, false)``, in the order of the grid; ``false`` is the
density of false spots of a guided row, 0 for one that was found blind.
"""

import math

import numpy as np
from numpy.typing import NDArray

from livespt.jit import inlined, kernel
from livespt.link.bank import F8, I8, Search, Sheet
from livespt.link.motion_kernels import TWO_PI

#: Bound on a likelihood ratio inside the marginals, so that differences of sums keep digits.
LARGEST_RATIO = 1e7
#: What exp(-NOTHING) of the threshold adds to a likelihood ratio is left out.
NOTHING = 36.0


@inlined
def load(table: NDArray[np.void], search: Search) -> tuple[int, int]:
    """Copy the rows that are OK; return how many there are, and the first bad one of them or -1.

    Bad is a row that is not finite or has no positive definite covariance.
    """
    raw = search.raw
    n = 0
    bad = -1
    for r in range(table.shape[0]):
        spot = table[r]
        if spot["status"] != 0:
            continue
        vxx = spot["var_x_um2"]
        vxy = spot["cov_xy_um2"]
        vyy = spot["var_y_um2"]
        false = spot["false_um2"]
        raw[0, n] = spot["x_um"]
        raw[1, n] = spot["y_um"]
        raw[2, n] = vxx
        raw[3, n] = vxy
        raw[4, n] = vyy
        raw[5, n] = false
        good = math.isfinite(raw[0, n] + raw[1, n] + vxx + vxy + vyy)
        good = good and vxx > 0.0 and vyy > 0.0 and vxx * vyy > vxy * vxy
        if bad < 0 and not (good and 0.0 <= false < math.inf):
            bad = r
        search.row[n] = r
        n += 1
    return n, bad


@inlined
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
def lay_out(n: int, search: Search, sheet: Sheet) -> None:
    """Sort spots into square cells, about one each, and copy them in that order.

    `sheet.frame` becomes (x0, y0, x1, y1, cells per um in x and y, columns, rows, least and
    greatest variance in any direction, least density of false guided spots or 0).
    """
    frame = sheet.frame
    raw = search.raw
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
        search.cell[j] = cy * nx + cx
        start[search.cell[j]] += 1
    total = 0
    for c in range(nx * ny):
        total += start[c]
        start[c] = total  # the end of each cell; filling it backward makes it the beginning
    start[nx * ny] = n
    for j in range(n - 1, -1, -1):
        start[search.cell[j]] -= 1
        sheet.row[start[search.cell[j]]] = j
    for c in range(nx * ny):
        sort_cell(raw, sheet.row, start[c], start[c + 1])
    for q in range(n):
        for f in range(6):
            sheet.spots[q, f] = raw[f, sheet.row[q]]
        sheet.row[q] = search.row[sheet.row[q]]


@inlined
def reach_of(
    modes: F8, i: int, D_um2_s: F8, exposure_s: float, odds: float, frame: F8, reach: F8
) -> float:
    """Set how far from each mode of track i a spot can matter; return the largest of the first.

    ``reach[k] = (far, near)``, squared distances. A link needs sum_k A_k N_k > 1,
    A_k = p_D w_k / (density (1 - p_D)); so some K A_k N_k > 1: beyond `near` none is. Beyond
    `far` mode k adds less than exp(-NOTHING) to that sum. `odds` are the greatest of any
    row. For a density of width between s0 and s1, N <= exp(-d2 / 2 s1) / (2 pi s0), and for any
    width at all N <= 1 / (pi e d2): the smaller of the two bounds on d2 holds.
    """
    n_modes = modes.shape[1]
    odds *= n_modes
    most = 0.0
    for k in range(n_modes):
        blur = 2.0 * D_um2_s[k] * exposure_s / 3.0
        pxx = modes[i, k, 3]
        pyy = modes[i, k, 5]
        half = 0.5 * (pxx + pyy)
        tilt = 0.5 * abs(pxx - pyy) + abs(modes[i, k, 4])  # bounds that of the eigenvalues
        least = TWO_PI * (max(half - tilt, 0.0) + blur + frame[8])
        reach[k, 0] = 2.0 * (half + tilt + blur + frame[9])
        reach[k, 1] = odds * modes[i, k, 0] if odds * modes[i, k, 0] > least else -1.0
        most = max(most, odds * modes[i, k, 0] / least)
    ln = math.log(most) if most > 1.0 else 0.0  # of the likeliest mode: one logarithm for all
    farthest = -1.0
    for k in range(n_modes):
        reach[k, 1] = min(reach[k, 0] * ln, reach[k, 1] / (math.pi * math.e))
        reach[k, 0] *= ln + NOTHING
        farthest = max(farthest, reach[k, 1])
    return farthest


@inlined
def near_any(modes: F8, i: int, x: float, y: float, reach: F8) -> bool:
    """Say whether a spot at (x, y) is near enough to some mode of track i for a link."""
    for k in range(modes.shape[1]):
        dx = x - modes[i, k, 1]
        dy = y - modes[i, k, 2]
        if dx * dx + dy * dy <= reach[k, 1]:
            return True
    return False


@inlined
def window_of(modes: F8, i: int, farthest: float, frame: F8) -> tuple[int, int, int, int]:
    """Return the cells (first and last column, first and last row) that track i can reach.

    The first column is -1 where there are none.
    """
    x0 = modes[i, 0, 1]
    x1 = x0
    y0 = modes[i, 0, 2]
    y1 = y0
    for k in range(1, modes.shape[1]):
        x0 = min(x0, modes[i, k, 1])
        x1 = max(x1, modes[i, k, 1])
        y0 = min(y0, modes[i, k, 2])
        y1 = max(y1, modes[i, k, 2])
    d = math.sqrt(max(farthest, 0.0))
    x0 -= d
    x1 += d
    y0 -= d
    y1 += d
    if farthest < 0.0 or x0 > frame[2] or x1 < frame[0] or y0 > frame[3] or y1 < frame[1]:
        return -1, 0, 0, 0
    # clipped before they become integers: the window may be huge
    return (
        int(min(max((x0 - frame[0]) * frame[4], 0.0), frame[6] - 1.0)),
        int(min(max((x1 - frame[0]) * frame[4], 0.0), frame[6] - 1.0)),
        int(min(max((y0 - frame[1]) * frame[5], 0.0), frame[7] - 1.0)),
        int(min(max((y1 - frame[1]) * frame[5], 0.0), frame[7] - 1.0)),
    )
