"""What a frame brings besides its steps: parameters learned, its table, tallies of its light.

All of it is small, and in numpy's calls would cost more than the steps themselves.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from livespt.element_kernels import log_each
from livespt.infer.answerkernels import fill_words, invert, rank_of
from livespt.infer.arrays import Array, Ints
from livespt.jit import brief_kernel, lanes
from livespt.types import FitStatus
from livespt.vectors import WIDTH as LANES
from livespt.vectors import load, store

OK = int(FitStatus.OK)
#: Largest change of a parameter in one frame.
STRIDE = 0.3
#: Words of eight bytes in front of the floats in a row of `Estimates.table`.
FIRST_FLOAT = 2
#: Bins of a tally: so many to one unit of the logarithm, from the least logarithm on. What a frame
#: counts lies so within few lines of the cache; with bins of 0.4 %, misses doubled its time.
PER_UNIT, LEAST_LN, N_BINS = 64.0, -16.0, 2560
#: Rows of the tallies, and the least value that each takes.
PRECISION, PHOTONS, BACKGROUND, WIDTH = range(4)
LEAST_UM, LEAST_PHOTONS, LEAST_WIDTH_UM = 1e-6, 1e-2, 1e-3
#: What `tally` says of a frame: good spots, free widths, links, and how many links are in doubt;
#: then come as many numbers of each row of the tallies as are counted side by side, and bins.
N_GOOD, N_WIDTHS, N_LINKS, DOUBT = range(4)
LANES_FROM = DOUBT + 1
BINS = np.uint64(4 * LANES)
N_SAID = LANES_FROM + 5 * LANES
#: A width that is not known, and a place in the tallies that no known one has.
UNKNOWN, NOT_COUNTED = 1e-300, -1e4


@brief_kernel
def absorb(
    score: Array, half: Array, information: Array, covariance: Array, theta: Array, root: Array
) -> bool:
    """Add a frame's information; move theta by the sum's inverse times the score.

    Parameters
    ----------
    score : (1 + q,)
        Log-likelihood and score of the frame.
    half : (q, q)
        Its information, upper triangle.
    information, covariance : (q, q)
        The sum, and its inverse (written).
    theta : (q,)
        Moved in place by `STRIDE` at most.
    root : (q, q)
        Scratch.

    Returns
    -------
    bool
        False where the sum has no Cholesky root: then theta stays, and the covariance is void.
    """
    q = theta.shape[0]
    for a in range(q):
        information[a, a] += half[a, a]
        for b in range(a + 1, q):
            information[a, b] += half[a, b]
            information[b, a] += half[a, b]
    if not invert(information, covariance, root):
        return False
    for a in range(q):
        stride = 0.0
        for b in range(q):
            stride += covariance[a, b] * score[1 + b]
        theta[a] += min(max(stride, -STRIDE), STRIDE)
    return True


@brief_kernel
def fill_table(
    whole: Ints, n_spots: Ints, position: Array, p_state: Array, D: Array, states: Ints, longs: Ints
) -> None:
    """Fill the rows of `Estimates.table`, seen as long integers, but for the tracks' own D.

    `whole` (3, n) is each row's spot, track and slot, `n_spots` the number of spots by slot;
    `states` (K,) is scratch; the rest as in `fill_words`.
    """
    shorts = longs.view(np.int32)
    for i in range(longs.shape[0]):
        longs[i, 0] = whole[1, i]
        shorts[i, 2], shorts[i, 3] = whole[0, i], n_spots[whole[2, i]]
    for k in range(D.shape[0]):
        states[rank_of(D, k)] = k
    words = longs.view(np.float64)
    fill_words(position, p_state, D, states, words[:, FIRST_FLOAT:])


@brief_kernel
def tally(
    table: NDArray[np.void], track_id: Ints, p_link: Array, counts: NDArray[np.int32], said: Array
) -> None:
    """Count a frame's good spots by precision, photons, background and width (`counts`).

    A guided spot's width is held, and does not count. `said` (`N_SAID`,) is written: see `N_GOOD`;
    what follows is scratch.
    """
    status, guided, sigma = table["status"], table["guided"], table["sigma_um"]
    xx, yy = table["var_x_um2"], table["var_y_um2"]
    photons, background = table["photons"], table["bg_photons"]
    w, lane = said[LANES_FROM:], 0
    said[:LANES_FROM] = 0.0
    for i in range(table.shape[0]):
        if status[i] != OK:
            continue
        said[N_GOOD] += 1.0
        w[lane] = max(0.5 * (xx[i] + yy[i]), LEAST_UM * LEAST_UM)
        w[LANES * PHOTONS + lane] = max(photons[i], LEAST_PHOTONS)
        w[LANES * BACKGROUND + lane] = max(background[i], LEAST_PHOTONS)
        w[LANES * WIDTH + lane] = max(sigma[i], LEAST_WIDTH_UM) if guided[i] == 0 else UNKNOWN
        said[N_WIDTHS] += 1.0 - min(guided[i], 1)
        lane += 1
        if lane == LANES:
            count(w, lane, counts)
            lane = 0
    count(w, lane, counts)
    for i in range(track_id.shape[0]):
        if track_id[i] >= 0:
            said[N_LINKS] += 1.0
            said[DOUBT] += 1.0 - p_link[i]


@lanes
def count(w: Array, n: int, counts: NDArray[np.int32]) -> None:
    """Count the first n of `LANES` spots; of their precision the square is given."""
    for row in range(counts.shape[0]):
        at = np.uint64(LANES * row)
        ln = log_each(load(w, at)) * (0.5 if row == PRECISION else 1.0)
        store(w, BINS, (ln - LEAST_LN) * PER_UNIT)
        for lane in range(n):
            place = w[BINS + np.uint64(lane)]
            if place > NOT_COUNTED:
                counts[row, min(max(int(place), 0), N_BINS - 1)] += 1
