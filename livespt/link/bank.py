"""The live tracks as a structure of arrays, and the small tuples the kernels read.

Symbols
-------
``modes[i, k] = (w, x, y, pxx, pxy, pyy)``: motion mode k of track i has probability w; given it,
the position at the END of the last exposure is normal with mean (x, y) and covariance p.
``life[i] = (on, off)``: probability that the molecule is there and shining, or there and dark;
the rest is the probability that it is gone (bleached, left, or never was).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]


class Motion(NamedTuple):
    """What the linker believes about all molecules: modes, switching, light and strays.

    Attributes
    ----------
    D_um2_s : (K,) float64
        The bank of diffusion coefficients.
    transition : (K, K) float64
        Switching probabilities per nominal frame interval; rows sum to 1.
    occupancy : (K,) float64
        Mode probabilities of a newborn track.
    p_detect, p_off, p_on, p_bleach : float
        Per frame: a shining molecule is found; goes dark; a dark one returns; it is lost.
    p_real : float
        Probability that a spot which continues no track is a molecule, not a stray.
    density_um2 : float
        Expected spots per um2 and frame that continue no track (new molecules and strays).
    """

    D_um2_s: F8
    transition: F8
    occupancy: F8
    p_detect: float
    p_off: float
    p_on: float
    p_bleach: float
    p_real: float
    density_um2: float


class Elapsed(NamedTuple):
    """Time from the end of the last exposure to the start of this one, and this exposure.

    The gap is walked in `n_walk` equal pieces of `piece_s`, with one switching step before each;
    `n_life` nominal intervals have passed for blinking and bleaching.
    """

    n_walk: int
    piece_s: float
    n_life: int
    exposure_s: float


class Bank(NamedTuple):
    """Live tracks in order of birth; the first `n_live` rows are in use."""

    track_id: I8
    n_spots: I8
    modes: F8  # (capacity, K, 6)
    before: F8  # (capacity, K): mode probabilities before the last switching step
    life: F8  # (capacity, 2)
    reach: F8  # (capacity, 4): window x0, x1, y0, y1 that holds every possible link
    spot: I8  # (capacity,): spot linked in this frame, -1 for none


class Edges(NamedTuple):
    """Possible links, grouped by track: those of track i are ``start[i]:start[i + 1]``."""

    start: I8
    spot: I8
    cost: F8
    to_spot: F8  # messages of the marginals
    to_track: F8


class Grid(NamedTuple):
    """Scratch over the spots of one frame; `start` is by cell (no more cells than spots)."""

    cell: I8
    start: I8
    order: I8
    n_rivals: I8
    n_single: I8
    best: I8
    column: I8
    total: F8


class Contest(NamedTuple):
    """The sparse assignment problem of the tracks that compete, in CSR form."""

    row: I8
    start: I8
    column: I8
    weight: F8
    spot: I8


def new_bank(capacity: int, n_modes: int) -> Bank:
    """Return an empty bank for `capacity` tracks."""
    return Bank(
        np.zeros(capacity, np.int64),
        np.zeros(capacity, np.int64),
        np.zeros((capacity, n_modes, 6)),
        np.zeros((capacity, n_modes)),
        np.zeros((capacity, 2)),
        np.zeros((capacity, 4)),
        np.full(capacity, -1, np.int64),
    )


def grown_bank(bank: Bank, capacity: int) -> Bank:
    """Return a larger bank with the same tracks."""
    larger = new_bank(capacity, bank.modes.shape[1])
    for old, new in zip(bank, larger, strict=True):
        new[: len(old)] = old
    return larger


def new_edges(n_tracks: int, n_edges: int) -> Edges:
    """Return room for `n_edges` possible links of `n_tracks` tracks."""
    return Edges(
        np.zeros(n_tracks + 1, np.int64),
        np.zeros(n_edges, np.int64),
        np.zeros(n_edges),
        np.zeros(n_edges),
        np.zeros(n_edges),
    )


def new_grid(n_spots: int) -> Grid:
    """Return scratch for `n_spots` spots."""
    integers = [np.zeros(n_spots + 2, np.int64) for _ in range(7)]
    return Grid(*integers, np.zeros(n_spots + 2))


def new_contest(n_tracks: int, n_edges: int) -> Contest:
    """Return room for the largest contest: every track, every edge, one dummy each."""
    return Contest(
        np.zeros(n_tracks, np.int64),
        np.zeros(n_tracks + 1, np.int64),
        np.zeros(n_edges + n_tracks, np.int64),
        np.zeros(n_edges + n_tracks),
        np.zeros(n_edges + n_tracks, np.int64),
    )
