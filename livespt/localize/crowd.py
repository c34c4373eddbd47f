"""Spots that are probably two molecules: told by the frame's own crowding and brightness.

Where molecules lie thick, some are nearer to each other than the fit can tell apart and come as one
spot between them. Nothing in its covariance says so, yet it is off by much more, and to the motion
model a slow molecule then seems to leap. Molecules scattered at a density n share a spot of radius
r with probability q = 1 - exp(-n pi r^2), and two shine as bright as the sum of two. So, with f the
distribution of ln(photons) in the frame, f1 that of single molecules and f2 that of sums of two,

    p = min(1, q f2 / f),   f1 = (1 - p) f / norm,   f2(z) = sum of f1(a) f1(b) over ln(e^a+e^b) = z

repeated a few times: in all no more than a share q can be two, so that a second kind of brighter
molecule is not taken for pairs. Spots with p > 1/2 get the variance of such mistakes added. The
density n is that which the spots themselves see in squares of side 8 r: cells full of molecules
count as dense however empty the rest of the field is.

Two in a disk of radius r are off their middle by r/4 (r.m.s., per axis) each. Pairs stay pairs for
some frames, and that part of their mistake does not scatter from frame to frame; half the variance
describes what is seen in steps (measured; `docs/decisions/0025-probable-pairs-are-less-sure.md`).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from livespt.localize import crowd_kernels as kernels
from livespt.localize.frame_table_kernels import NUMBERS
from livespt.types import SPOT_DTYPE, FitStatus

F8 = NDArray[np.float64]

#: Two molecules nearer than so many widths come as one spot (simulated, blur ratio up to 0.8).
TOLD_APART = {"single": 3.5, "pair": 2.8}
#: Share of r^2 / 16, the variance of a position between two molecules, that shows in steps.
SHOWS = 0.5
#: Spots with less than this probability to be two are left as they are.
LEAST_P = 0.05
#: Side of the squares in which neighbours are counted, in radii.
SQUARE = 8.0
#: A frame with fewer spots does not know how bright single molecules are.
FEWEST = 30
#: Bins of ln(photons): their width, and how many at most (the dimmest go into the first).
BIN, MOST_BINS = 0.1, 64
ROUNDS = 4
_BRIGHTER = np.rint(np.log1p(np.exp(-BIN * np.arange(MOST_BINS))) / BIN).astype(np.int64)
OK = int(FitStatus.OK)


def widen(table: NDArray[np.void], radius_um: float) -> None:
    """Widen, in place, the covariance of the spots that may be two molecules in one.

    Parameters
    ----------
    table : (n,) `SPOT_DTYPE`
        All spots of one frame; those whose status is OK and that were found blind take part.
    radius_um : float
        Molecules nearer than this come as one spot.
    """
    most = table.size
    if most < FEWEST:
        return
    rows = np.ndarray((most, NUMBERS), np.float64, table, 0, (table.itemsize, 8))
    which, spots = np.empty(most, np.int64), np.empty((3, most))
    n, *box = kernels.gather(rows, table["status"], table["guided"], OK, which, spots)
    if n < FEWEST:
        return
    p = p_two(spots[2, :n], _share(spots[0, :n], spots[1, :n], box, radius_um))
    kernels.add_variance(p, LEAST_P, SHOWS * radius_um**2 / 16, which, rows)


def warm_up() -> None:
    """Compile what a frame of many spots needs, or load it from the cache."""
    table = np.zeros(FEWEST, SPOT_DTYPE)
    table["x_um"] = table["y_um"] = table["photons"] = np.linspace(1.0, 100.0, FEWEST)
    widen(table, 0.1)


def share_of_pairs(at_um: F8, radius_um: float) -> float:
    """Return q: how probable it is that another molecule lies within the radius of one.

    Parameters
    ----------
    at_um : (n, 2) positions
    """
    x, y = at_um[:, 0].copy(), at_um[:, 1].copy()
    return _share(x, y, [x.min(), y.min(), x.max(), y.max()], radius_um)


def _share(x: F8, y: F8, box: list[float], radius_um: float) -> float:
    """Return q of spots that lie within a box: least x and y, greatest x and y."""
    side, (left, top, right, bottom) = SQUARE * radius_um, map(float, box)
    shape = (int((bottom - top) / side) + 1, int((right - left) / side) + 1)
    seen = kernels.count_others(x, y, (left, top), side, np.zeros(shape, np.int64))
    return -math.expm1(-math.pi / SQUARE**2 * seen)


def p_two(photons: F8, share: float) -> F8:
    """Return the probability of each spot that it holds two molecules.

    Parameters
    ----------
    photons : (n,)
    share : float
        That of spots with two, from the density (q).
    """
    p = np.empty(photons.size)
    kernels.probabilities(photons, share, BIN, _BRIGHTER, ROUNDS, np.empty((5, MOST_BINS)), p)
    return p
