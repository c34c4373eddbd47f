"""The arrays that the kernels of this package hand to each other.

A *dual* is an array whose last axis holds a value (index 0) and its derivatives in the
parameters (1 ... q). The kernels carry values and derivatives through the same recursion; with
duals of length 1 they filter without derivatives.

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
from livespt.vectors import WIDTH

Array: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

#: A step whose link is less probable than this does not count for the parameters; all others count
#: in full. Weights by the link's probability would favour short steps, which are the surer links.
AMBIGUOUS = 0.5
#: Elements of one state's Gaussian in a filter: mean, covariance, log weight.
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


class Batch(NamedTuple):
    """Tracks to be filtered, and what comes of it.

    Attributes
    ----------
    filters : (n_tracks or 1, K, 6, duals)
        Left as each track's filter at its last spot, where there is room for all.
    sums : (n_tracks, 1 + q)
        Log-likelihood and score of each track.
    dealt : (2, WIDTH) int64
        Of each track that is on its way: which it is, and the spot that it goes to.
    """

    tracks: Tracks
    interval_s: float
    filters: Array
    sums: Array
    dealt: Ints


def states_of(n_parameters: int) -> int:
    """Return K, given the length of the parameter vector."""
    return round((math.sqrt(4 * n_parameters - 3) - 1) / 2)


def scratch() -> Array:
    """Allocate the rows of a step (`layout`): caller-owned, overwritten by every step."""
    return np.zeros(SIZE)


def batch(tracks: Tracks, size: Size, interval_s: float, *, keep: bool) -> Batch:
    """Allocate what comes of filtering `tracks`; only with `keep` all their filters."""
    n_tracks, (n_states, n_duals) = tracks.first.size - 1, size
    return Batch(
        tracks,
        interval_s,
        filters=np.zeros((n_tracks if keep else 1, n_states, 6, n_duals)),
        sums=np.zeros((n_tracks, n_duals)),
        dealt=np.zeros((2, WIDTH), np.int64),
    )


class Bank(NamedTuple):
    """The live tracks, one slot each; a slot is reused when its track has ended.

    `WIDTH` slots form a block, whose tracks take their steps side by side: slot s is lane
    s mod WIDTH of block s // WIDTH.

    Attributes
    ----------
    F : (blocks, duals, K, 6, WIDTH), flat
        Filter at the end of the last exposure seen.
    t_s, exposure_s : (capacity,)
        Of the last spot.
    n_spots : (capacity,) int64
        0 marks a free slot.
    row : (capacity,) int64
        One more than the row of the slot's spot in the frame that is being taken; 0 without one.
    past_frame : (blocks, depth, WIDTH), flat
        One more than a frame in which the track was seen; frame f sits at f mod depth.
    past_back : (blocks, depth, K, K, WIDTH), flat
        p(state at the spot before | state at that one), for the fixed-lag smoother.
    """

    F: Array
    t_s: Array
    exposure_s: Array
    n_spots: Ints
    row: Ints
    past_frame: Array
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


#: Words of a large page; numpy asks for these where an array has twice as many.
PAGE = 1 << 18
#: Fewer words than this are cheap to find on small pages.
FEW = 1 << 16


def roomy(n: int) -> Array:
    """Return n zeros, on large pages where the system has them: half of a megabyte or more.

    Each frame goes through all of a bank once, from the outer caches. On pages of 4 kB the
    processor looks up each, and reads ahead to its end only.
    """
    if n < FEW:
        return np.zeros(n)
    room = np.zeros(n + 2 * PAGE)
    first = -(room.ctypes.data // room.itemsize) % PAGE
    return room[first : first + n]


def wider(array: Array, n: int) -> Array:
    """Return a flat array of n numbers that begins with those of `array`, on large pages."""
    room = roomy(n)
    room[: array.size] = array
    return room


def bank(capacity: int, n_states: int, n_duals: int, depth: int) -> Bank:
    """Allocate a bank of free slots, whole blocks of them."""
    slots = -(-capacity // WIDTH) * WIDTH
    return Bank(
        F=roomy(slots * n_duals * n_states * 6),
        t_s=np.zeros(slots),
        exposure_s=np.zeros(slots),
        n_spots=np.zeros(slots, np.int64),
        row=np.zeros(slots, np.int64),
        past_frame=np.zeros(slots * depth),
        past_back=np.zeros(slots * depth * n_states * n_states),
    )


def filters_of(bank: Bank, n_states: int) -> Array:
    """Return a view of the filters, (blocks, duals, K, 6, WIDTH)."""
    return bank.F.reshape(bank.n_spots.size // WIDTH, -1, n_states, 6, WIDTH)


class Rows(NamedTuple):
    """Workspace of the smoother, with room for the rows of the longest track."""

    kind: Ints  # (rows,)
    spot: Ints  # (rows,)
    dark: Array  # (rows,)
    state: Array  # (rows, K, 6) filter after each row
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
