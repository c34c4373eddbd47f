"""What a frame brings besides its steps: parameters learned, its table, tallies of its light.

All of it is small, and in numpy's calls would cost more than the steps themselves.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from livespt.infer.answerkernels import fill_words, invert
from livespt.infer.arrays import Array, Ints
from livespt.jit import brief_kernel, kernel
from livespt.types import FitStatus

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
#: What `tally` says of a frame: good spots, free widths, links, and how many links are in doubt.
N_GOOD, N_WIDTHS, N_LINKS, DOUBT = range(4)


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
    whole: tuple[Ints, Ints, Ints], position: Array, p_state: Array, D: Array, states: Ints,
    own: Array, words: Array, longs: Ints, shorts: NDArray[np.int32],
) -> None:  # fmt: skip
    """Fill the rows of `Estimates.table`, seen as floats, as long and as short integers.

    `whole` is each row's track, spot and number of spots; the rest as in `fill_words`.
    """
    track, rows, n_spots = whole
    for i in range(track.shape[0]):
        longs[i, 0] = track[i]
        shorts[i, 2], shorts[i, 3] = rows[i], n_spots[i]
    fill_words(position, p_state, D, states, own, words[:, FIRST_FLOAT:])


@brief_kernel
def tally(
    table: NDArray[np.void], track_id: Ints, p_link: Array, counts: NDArray[np.int32], said: Array
) -> None:
    """Count a frame's good spots by precision, photons, background and width (`counts`).

    A guided spot's width is held, and does not count. `said` (4,) is written: see `N_GOOD`.
    """
    status, guided, sigma = table["status"], table["guided"], table["sigma_um"]
    xx, yy = table["var_x_um2"], table["var_y_um2"]
    photons, background = table["photons"], table["bg_photons"]
    said[:] = 0.0
    for i in range(table.shape[0]):
        if status[i] != OK:
            continue
        said[N_GOOD] += 1.0
        sd = math.sqrt(max(0.5 * (xx[i] + yy[i]), LEAST_UM * LEAST_UM))
        counts[PRECISION, bin_of(sd)] += 1
        counts[PHOTONS, bin_of(max(photons[i], LEAST_PHOTONS))] += 1
        counts[BACKGROUND, bin_of(max(background[i], LEAST_PHOTONS))] += 1
        if guided[i] == 0:
            said[N_WIDTHS] += 1.0
            counts[WIDTH, bin_of(max(sigma[i], LEAST_WIDTH_UM))] += 1
    for i in range(track_id.shape[0]):
        if track_id[i] >= 0:
            said[N_LINKS] += 1.0
            said[DOUBT] += 1.0 - p_link[i]


@kernel
def bin_of(value: float) -> int:
    """Return the bin of a positive value."""
    return min(max(int((math.log(value) - LEAST_LN) * PER_UNIT), 0), N_BINS - 1)
