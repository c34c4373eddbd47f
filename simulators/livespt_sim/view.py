"""Tracks that end because the molecule leaves the depth or the field of view, or bleaches.

Molecules switch and diffuse in a box that is larger than the view and closed on itself, so that
they enter the view as often as they leave it. One that bleaches is replaced by another, anywhere in
the box. A track is a run of frames with the molecule in view; whoever comes back is a new track.
No image is drawn, and nothing moves while the shutter is open.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from livespt.refit import TrackTable, make_tracks
from livespt_sim.tracks import Floats, stationary

#: The box over the view, along each axis that a molecule can leave by.
ROOM = 3.0


class View(NamedTuple):
    """What can be seen, and for how long.

    Attributes
    ----------
    depth_um : float
        Of focus; infinite: nobody leaves that way.
    side_um : float
        Of the square field of view; infinite: nobody leaves that way.
    p_bleach : float
        Per frame in view.
    least_frames : int
        Shorter tracks are not kept.
    """

    depth_um: float = 1.0
    side_um: float = np.inf
    p_bleach: float = 0.0
    least_frames: int = 3


class Seen(NamedTuple):
    """Tracks and their truth.

    Attributes
    ----------
    table : TrackTable
    state : (n,) int64
        True state of each row, from it to the next.
    """

    table: TrackTable
    state: NDArray[np.int64]


def simulate_view(
    rng: np.random.Generator,
    shape: tuple[int, int],
    D_um2_s: ArrayLike,
    T: ArrayLike,
    sd_um: float,
    view: View,
    dt_s: float = 0.02,
) -> Seen:
    """Watch `shape` (molecules, frames).

    Parameters
    ----------
    rng : numpy.random.Generator
    shape : (int, int)
        Molecules in the box, frames.
    D_um2_s : (K,)
    T : (K, K)
        Probability of going from state to state in a frame.
    sd_um : float
        Error of a position.
    view : View
    dt_s : float
    """
    places, states, number = _walk(rng, shape, np.asarray(D_um2_s, float), T, view, dt_s)
    limits = np.array([view.side_um, view.side_um, view.depth_um])
    inside = in_view(places, limits)
    track = _runs(inside, number, view.least_frames)
    rows = np.nonzero(track >= 0)
    seen = places[rows][:, :2] + rng.normal(0, sd_um, (rows[0].size, 2))
    table = make_tracks(
        track[rows],
        rows[1].astype(np.int64),
        seen,
        np.full(seen.shape, sd_um),
        interval_s=dt_s,
        exposure_s=0.0,
        source="simulated",
    )
    order = np.lexsort((rows[1], track[rows]))
    return Seen(table, states[rows][order])


def _walk(
    rng: np.random.Generator,
    shape: tuple[int, int],
    D: Floats,
    T: ArrayLike,
    view: View,
    dt_s: float,
) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """Return places (molecules, frames, 3), states, and how many have bleached in each place."""
    n, n_frames = shape
    limits = np.array([view.side_um, view.side_um, view.depth_um])
    box = np.where(np.isfinite(limits), ROOM * limits, np.inf)
    finite = np.isfinite(box)
    start, rows = stationary(T), np.cumsum(T, axis=1)[:, :-1]
    at = rng.random((n, 3)) * np.where(finite, box, 0.0)
    state, bleached = rng.choice(D.size, n, p=start), np.zeros(n, np.int64)
    places, states = np.empty((*shape, 3)), np.empty(shape, np.int64)
    number = np.empty(shape, np.int64)
    for t in range(n_frames):
        places[:, t], states[:, t], number[:, t] = at, state, bleached
        dark = in_view(at, limits) & (rng.random(n) < view.p_bleach)
        after = (rng.random(n)[:, None] > rows[state]).sum(axis=1)
        # ExTrack's step: half of it under either frame's state
        spread = np.sqrt((D[state] + D[after]) * dt_s)[:, None]
        at = at + spread * rng.normal(size=(n, 3))
        at[dark] = rng.random((int(dark.sum()), 3)) * np.where(finite, box, 0.0)
        state = np.where(dark, rng.choice(D.size, n, p=start), after)
        at[:, finite] = np.mod(at[:, finite], box[finite])
        bleached = bleached + dark
    return places, states, number


def in_view(places: Floats, limits: Floats) -> NDArray[np.bool_]:
    """Tell which places are inside; an infinite limit has no borders."""
    inside = ((places >= 0) & (places < limits)) | np.isinf(limits)
    return np.asarray(inside.all(axis=-1), dtype=np.bool_)


def _runs(inside: NDArray[np.bool_], number: NDArray[np.int64], least: int) -> NDArray[np.int64]:
    """Return the track of each place, -1 where there is none."""
    new = np.ones(inside.shape, bool)
    new[:, 1:] = ~inside[:, :-1] | (number[:, 1:] != number[:, :-1])
    track = np.cumsum((new & inside).ravel()).reshape(inside.shape) - 1
    track[~inside] = -1
    lengths = np.bincount(track[inside])
    return np.where(inside & (lengths[np.maximum(track, 0)] >= least), track, -1)
