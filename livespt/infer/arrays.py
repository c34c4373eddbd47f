"""The arrays that the kernels of this package hand to each other.

A *dual* is an array whose last axis holds a value (index 0) and its derivatives in the
parameters (1 ... q), padded with zeros to whole blocks (`layout.n_duals`). The kernels carry
values and derivatives through the same recursion; with duals of length 1 they filter without
derivatives.

Parameters, in this order: ln D_k (K), the logits of T's off-diagonal elements row by row
(K (K - 1), the diagonal being the reference of each row), the log weights of the state in which a
track begins (K, up to a constant that only the prior fixes), ln c (1): q = K^2 + K + 1.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from livespt.infer.layout import SIZE

Array: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

#: A step whose link is less probable than this does not count for the parameters; all others count
#: in full. Weights by the link's probability would favour short steps, which are the surer links.
AMBIGUOUS = 0.5
#: Rows of one state's Gaussian in a filter array (K, 6, duals): mean, covariance, log weight.
MX, MY, PXX, PXY, PYY, LNW = range(6)


#: A field without borders.
EVERYWHERE = np.array([-np.inf, -np.inf, np.inf, np.inf, 0.0])


def field_of(field_um: tuple[float, float] | None, fastest_um2_s: float = 0.0) -> Array:
    """Return least x, least y, greatest x, greatest y, and the D whose steps the border may cut.

    That D is given, not read off the parameters, so that the same steps count for every value
    of them: likelihoods of different data cannot be compared.
    """
    if field_um is None:
        return EVERYWHERE
    return np.array([0.0, 0.0, field_um[1], field_um[0], fastest_um2_s])


class Motion(NamedTuple):
    """One setting of the parameters, as the kernels want it.

    Attributes
    ----------
    D : (K,) um2/s
    ln_T : (K, K) dual
        Log transition probabilities per nominal interval.
    ln_pi : (K,) dual
        Log stationary distribution.
    ln_begin : (K,) dual
        Log probability of each state where a track begins. It is not the stationary one: fast
        molecules enter the view, and are lost and found again, more often.
    c2 : float
        Square of the error scale.
    """

    D: Array
    ln_T: Array
    ln_pi: Array
    ln_begin: Array
    c2: float


#: States and length of a dual.
Size: TypeAlias = tuple[int, int]
#: Seconds since the last spot; exposures of that one and of this.
Times: TypeAlias = tuple[float, float, float]


class Tracks(NamedTuple):
    """Spots of many tracks, sorted by track and time, as flat arrays of length n.

    `first` (n_tracks + 1,) holds where each track starts, `field` is a `field_of`.
    """

    first: Ints
    t_s: Array
    exposure_s: Array
    spot: Array  # (n, 5): x, y, var_x, var_y, cov_xy
    weight: Array
    field: Array = EVERYWHERE


def states_of(n_parameters: int) -> int:
    """Return K, given the length of the parameter vector."""
    return round((math.sqrt(4 * n_parameters - 3) - 1) / 2)


def scratch() -> Array:
    """Allocate the rows of a step (`layout`): caller-owned, overwritten by every step."""
    return np.zeros(SIZE)


class Bank(NamedTuple):
    """The live tracks, one slot each; a slot is reused when its track has ended.

    Attributes
    ----------
    F : (capacity, K, 6, duals)
        Filter at the end of the last exposure seen.
    t_s, exposure_s : (capacity,)
        Of the last spot.
    n_spots : (capacity,) int64
        0 marks a free slot.
    n_kept : (capacity,) int64
        Spots in the history below.
    past_frame : (capacity, depth) int64
        Frame of each of the last `depth` spots; spot i of a track sits at i mod depth.
    past_back : (capacity, depth, K, K)
        p(state at the spot before | state at this one), for the fixed-lag smoother.
    """

    F: Array
    t_s: Array
    exposure_s: Array
    n_spots: Ints
    n_kept: Ints
    past_frame: Ints
    past_back: Array


class Seen(NamedTuple):
    """The spots of one frame that belong to tracks (n of them)."""

    frame: int
    t_s: float
    exposure_s: float
    slot: Ints  # (n,)
    spot: Array  # (n, 5)
    weight: Array  # (n,)
    field: Array = EVERYWHERE  # as in `Tracks`


class Step(NamedTuple):
    """What one frame gave: outputs of the bank's kernel, allocated by the caller."""

    position: Array  # (n, 5) mean over the exposure and covariance
    p_state: Array  # (n, K)
    score: Array  # (1 + q,) summed over tracks
    information: Array  # (q, q) summed outer products


def bank(capacity: int, n_states: int, n_duals: int, depth: int) -> Bank:
    """Allocate a bank of free slots."""
    return Bank(
        F=np.zeros((capacity, n_states, 6, n_duals)),
        t_s=np.zeros(capacity),
        exposure_s=np.zeros(capacity),
        n_spots=np.zeros(capacity, np.int64),
        n_kept=np.zeros(capacity, np.int64),
        past_frame=np.full((capacity, depth), -1, np.int64),
        past_back=np.zeros((capacity, depth, n_states, n_states)),
    )


class Rows(NamedTuple):
    """Workspace of the smoother, with room for the rows of the longest track."""

    kind: Ints  # (rows,)
    spot: Ints  # (rows,)
    dark: Array  # (rows,)
    state: Array  # (rows, K, 6) filter after each row
    filter: Array  # (K, 6) filter
    smooth: Array  # (K, 6) smoothed state; the last column is a probability
    begin: Array  # (3,)
    end: Array  # (5,)
    end_cross: Array  # (4,)
    mean_cross: Array  # (4,)
    branch: Array  # (K, K, 5)
    refined: Array  # (K, K, 5)
    share: Array  # (K, K) p(j | k)
    end_pair: Array  # (K, K, 5)
    mean_pair: Array  # (K, K, 5)
    own: Array  # (1, K, 5)
    joint: Array  # (K, K)


class Smoothed(NamedTuple):
    """What the smoother knows of each spot."""

    position: Array  # (n, 5) mean over the exposure and covariance: x, y, xx, xy, yy
    p_state: Array  # (n, K)


def rows(n: int, n_states: int) -> Rows:
    """Allocate the smoother's workspace for tracks of up to `n` rows."""
    k = n_states
    return Rows(
        kind=np.zeros(n, np.int64),
        spot=np.zeros(n, np.int64),
        dark=np.zeros(n),
        state=np.zeros((n, k, 6)),
        filter=np.zeros((k, 6)),
        smooth=np.zeros((k, 6)),
        begin=np.zeros(3),
        end=np.zeros(5),
        end_cross=np.zeros(4),
        mean_cross=np.zeros(4),
        branch=np.zeros((k, k, 5)),
        refined=np.zeros((k, k, 5)),
        share=np.zeros((k, k)),
        end_pair=np.zeros((k, k, 5)),
        mean_pair=np.zeros((k, k, 5)),
        own=np.zeros((1, k, 5)),
        joint=np.zeros((k, k)),
    )
