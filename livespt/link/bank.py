"""The live tracks as a structure of arrays, and the small tuples the kernels read.

Symbols
-------
``modes[i, k] = (w, x, y, pxx, pxy, pyy)``: motion mode k of track i has probability w; given it,
the position at the END of the last exposure is normal with mean (x, y) and covariance p.
``life[i] = (on, off, gap)``: probability that the molecule is there and shining, or there and
dark; the rest is the probability that it is gone (bleached, left, or never was). `gap` counts the
frames since it was linked to a spot, `UNKNOWN` before a second spot and where frames were missing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]

#: Pairs of a track and a spot that are looked at together.
CHUNK = 64
#: Tracks of a part of the graph of links, and spots that wait in it at once, whose sets are summed.
MOST_TRACKS, MOST_BITS = 64, 5
#: A gap whose length is not known.
UNKNOWN = -1.0


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
    """Live tracks in order of their numbers; the first `n_live` rows are in use."""

    track_id: I8
    modes: F8  # (capacity, K, 6)
    before: F8  # (capacity, K): mode probabilities before the last switching step
    life: F8  # (capacity, 3)
    spot: I8  # (capacity,): spot chosen in this frame, -1 for none
    cost: F8  # (capacity,): of the link to that spot


class Edges(NamedTuple):
    """Possible links, grouped by track: those of track i are ``start[i]:start[i + 1]``."""

    start: I8
    spot: I8
    cost: F8
    ratio: F8  # likelihood ratio, exp(-cost) within bounds
    p: F8  # probability of the link
    to_track: F8  # messages of the marginals


class Sheet(NamedTuple):
    """The spots of one frame in the order of a grid."""

    spots: F8  # (capacity, 6): x, y, vxx, vxy, vyy, density of false guided spots or 0
    row: I8  # where each spot stood in the table
    start: I8  # first spot of each cell; there are no more cells than spots
    owner: I8  # the track's row in the bank, -1 for none
    p: F8  # probability that the spot continues no track
    number: I8  # track_id given to each spot, -1 for none
    p_link: F8  # probability of that choice
    frame: F8  # (11,): see `lay_out`


class Past(NamedTuple):
    """The last few frames and the tracks as they stood after each, in a ring of slots.

    Spots and tracks of slot s begin at ``s * n_spots_most`` and ``s * n_tracks_most``: the banks
    and sheets that the linker writes are views of these arrays.
    """

    track_id: I8  # (slots * tracks,)
    modes: F8
    life: F8
    spots: F8  # (slots * spots, 6)
    number: I8
    row: I8
    cell: I8  # (slots * (spots + 1),): first spot of each cell
    p_link: F8
    sheet: F8  # (slots, 11): see `lay_out`
    n: I8  # (slots, 4): tracks, spots, frame, next number after that frame
    when: F8  # (slots, 4): pieces, s of each, intervals, exposure (see `Elapsed`)


class Tails(NamedTuple):
    """What the spots of the last frames have become so far, cut off where the window begins.

    The first tails are those of the tracks alive then (the heads), the others were born since.
    """

    spot: I8  # (capacity, frames): place in `Past.spots`, -1 for none
    first: I8  # first frame of the window with a spot; beyond the last: not to be moved
    alone: F8  # log-likelihood of the spots after the first, were it a new track
    owner: I8  # head chosen, -1 for none
    head: I8  # tail chosen by each head, -1 for none
    cost: F8
    fixed: I8  # heads that are not asked: ended, or looked for and found
    p: F8  # probability that the tail continues no head


class Search(NamedTuple):
    """Scratch over the spots of a frame, for laying them out and for the assignment."""

    raw: F8  # (6, capacity): the rows that are OK, as they came
    row: I8  # where they stood
    cell: I8
    price: F8  # dual variable of each spot, at most 0
    distance: F8  # of the shortest path to each spot; infinite where it was not reached
    length: F8  # the same of the spots that are done, in their order
    via: I8  # the track before the spot on that path
    seen: I8  # spots reached


class Parts(NamedTuple):
    """Scratch of the marginals (`livespt.link.marginal_kernels`)."""

    first: I8  # of each spot, where its tracks begin
    track: I8  # tracks by spot
    left: I8  # of each spot, tracks that could take it and have not been asked
    bit: I8  # of each spot that waits
    queue: I8  # the tracks of one part
    done: I8
    size: I8  # (MOST_TRACKS,): sets that a track meets
    forward: F8  # (MOST_TRACKS + 1, 2^MOST_BITS)
    later: F8
    then: F8


class Beside(NamedTuple):
    """Scratch of what is taken eight at a time (`livespt.link.beside_kernels`)."""

    v: F8  # rows of eight
    place: I8  # (3 CHUNK,): where rows begin
    pair: I8  # (2 CHUNK,): tracks, and their spots
    ratio: F8  # (2 CHUNK,): likelihood ratio and cost of a pair, or its weight
    odds: F8  # (capacity, 2): that a track is seen blind, over the density; that it shines


class Size(NamedTuple):
    """How much room there is: frames, modes, tracks (and spots) of a frame, possible links."""

    n_slots: int
    n_modes: int
    n_most: int
    n_edges: int


class Learned(NamedTuple):
    """What the linker learns as it goes, cut from one block (`livespt.link.learn_kernels`)."""

    D_um2_s: F8  # (K,)
    transition: F8  # (K, K)
    occupancy: F8  # (K,)
    counts: F8  # (K, K): expected switches
    prior: F8  # (K, K): the same, as if seen before
    gaps: F8  # (2, n): see `livespt.link.life_kernels`
    life: F8  # (4,): p_detect, p_off, p_on, p_bleach
    life_prior: F8  # (4,)
    life_events: F8  # (4,)
    tally: F8  # (2,): of one frame, expected spots that continue no track, and spots
    figures: F8  # running sums


def new_edges(n_tracks: int, n_edges: int) -> Edges:
    """Return room for `n_edges` possible links of `n_tracks` tracks."""
    return Edges(
        start=np.zeros(n_tracks + 1, np.int64),
        spot=np.zeros(n_edges, np.int64),
        cost=np.zeros(n_edges),
        ratio=np.zeros(n_edges),
        p=np.zeros(n_edges),
        to_track=np.zeros(n_edges),
    )


def new_parts(n_most: int, n_edges: int) -> Parts:
    """Return scratch for `n_most` tracks and spots and `n_edges` possible links."""
    return Parts(
        first=np.zeros(n_most + 1, np.int64),
        track=np.zeros(n_edges, np.int64),
        left=np.zeros(n_most, np.int64),
        bit=np.zeros(n_most, np.int64),
        queue=np.zeros(n_most, np.int64),
        done=np.zeros(n_most, np.int64),
        size=np.zeros(MOST_TRACKS, np.int64),
        forward=np.zeros((MOST_TRACKS + 1, 1 << MOST_BITS)),
        later=np.zeros(1 << MOST_BITS),
        then=np.zeros(1 << MOST_BITS),
    )


def new_search(n_spots: int) -> Search:
    """Return scratch for `n_spots` spots."""
    return Search(
        raw=np.zeros((6, n_spots)),
        row=np.zeros(n_spots, np.int64),
        cell=np.zeros(n_spots, np.int64),
        price=np.zeros(n_spots),
        distance=np.full(n_spots, np.inf),
        length=np.zeros(n_spots),
        via=np.zeros(n_spots, np.int64),
        seen=np.zeros(n_spots, np.int64),
    )


def new_tails(n_tails: int, n_frames: int) -> Tails:
    """Return room for `n_tails` tails over `n_frames`."""
    return Tails(
        spot=np.zeros((n_tails, n_frames), np.int64),
        first=np.zeros(n_tails, np.int64),
        alone=np.zeros(n_tails),
        owner=np.full(n_tails, -1, np.int64),
        head=np.full(n_tails, -1, np.int64),
        cost=np.zeros(n_tails),
        fixed=np.zeros(n_tails, np.int64),
        p=np.zeros(n_tails),
    )
