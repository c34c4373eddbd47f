"""Tracks of switching diffusion without images, exactly as the motion model has them.

A state holds from the start of an exposure to the start of the next. An exposure te under D moves a
molecule by b, and its mean over the exposure lies b / 2 + N(0, D te / 6) from where it began.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from livespt.refit import TrackTable, make_tracks

Floats = NDArray[np.float64]


class Scene(NamedTuple):
    """Tracks of one length: what is seen, and what is true.

    Attributes
    ----------
    x_um : (n_tracks, n_frames, 2) float64
        Seen.
    sd_um : (n_tracks, n_frames) float64
        Error of each.
    state : (n_tracks, n_frames) int64
    dt_s, exposure_s : float
    """

    x_um: Floats
    sd_um: Floats
    state: NDArray[np.int64]
    dt_s: float
    exposure_s: float


def switching_matrix(p: tuple[float, float]) -> Floats:
    """Return the matrix of two states that are left with probabilities `p` (2,)."""
    return np.array([[1 - p[0], p[0]], [p[1], 1 - p[1]]])


def stationary(T: ArrayLike) -> Floats:
    """Return the stationary distribution of a transition matrix."""
    T = np.asarray(T, dtype=np.float64)
    equations = np.vstack([(np.eye(len(T)) - T).T, np.ones(len(T))])
    target = np.append(np.zeros(len(T)), 1.0)
    return np.asarray(np.linalg.lstsq(equations, target, rcond=None)[0], dtype=np.float64)


def simulate(
    rng: np.random.Generator,
    shape: tuple[int, int],
    D_um2_s: ArrayLike,
    T: ArrayLike,
    sd_um: ArrayLike,
    *,
    dt_s: float = 0.02,
    exposure_s: float = 0.02,
) -> Scene:
    """Draw a scene of `shape` (tracks, frames); `sd_um` is one error or one for each spot."""
    n_tracks, n_frames = shape
    D, rows = np.asarray(D_um2_s, dtype=float), np.cumsum(T, axis=1)[:, :-1]
    x, states = np.empty((*shape, 2)), np.empty(shape, np.int64)
    sd = np.broadcast_to(np.asarray(sd_um, dtype=float), shape)
    at = np.zeros((n_tracks, 2))
    state = rng.choice(len(D), n_tracks, p=stationary(T))
    for n in range(n_frames):
        states[:, n] = state
        now, noise = D[state][:, None], rng.normal(size=(4, n_tracks, 2))
        step = np.sqrt(2 * now * exposure_s) * noise[0]
        x[:, n] = at + step / 2 + np.sqrt(now * exposure_s / 6) * noise[1]
        x[:, n] += sd[:, n, None] * noise[2]
        at += step + np.sqrt(2 * now * (dt_s - exposure_s)) * noise[3]
        state = (rng.random(n_tracks)[:, None] > rows[state]).sum(axis=1)
    return Scene(x, sd, states, dt_s, exposure_s)


def as_table(scene: Scene) -> TrackTable:
    """Lay a scene out as a table of tracks, its errors known."""
    n_tracks, n_frames = scene.state.shape
    return make_tracks(
        np.repeat(np.arange(n_tracks), n_frames),
        np.tile(np.arange(n_frames), n_tracks),
        scene.x_um.reshape(-1, 2),
        np.repeat(scene.sd_um.reshape(-1, 1), 2, axis=1),
        interval_s=scene.dt_s,
        exposure_s=scene.exposure_s,
    )
