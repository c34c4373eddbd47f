"""Switching diffusion exactly as the motion model has it, for the tests and benches of `infer`.

A state holds from the start of an exposure to the start of the next. An exposure te under D moves a
molecule by b, and its mean over the exposure lies b / 2 + N(0, D te / 6) from where it began.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from livespt.types import SPOT_DTYPE, Links, Spots

FIELDS = ("t_s", "exposure_s", "x_um", "y_um", "var_x_um2", "var_y_um2", "cov_xy_um2")
TRACK_DTYPE = np.dtype([("track_id", "i8"), ("frame", "i8")] + [(n, "f8") for n in FIELDS])


class Scene(NamedTuple):
    """Tracks of one length: what is seen, and what is true."""

    x_um: np.ndarray  # (n_tracks, n_frames, 2) seen
    sd_um: np.ndarray  # (n_tracks, n_frames) error of each
    state: np.ndarray  # (n_tracks, n_frames)
    dt_s: float
    exposure_s: float


def switching_matrix(p):
    """Return the matrix of two states that are left with probabilities `p` (2,)."""
    return np.array([[1 - p[0], p[0]], [p[1], 1 - p[1]]])


def stationary(T):
    """Return the stationary distribution of a transition matrix."""
    equations = np.vstack([(np.eye(len(T)) - T).T, np.ones(len(T))])
    return np.linalg.lstsq(equations, np.append(np.zeros(len(T)), 1.0), rcond=None)[0]


def simulate(rng, shape, D_um2_s, T, sd_um, *, dt_s=0.02, exposure_s=0.02):
    """Draw a scene of `shape` (tracks, frames); `sd_um` is one error or one for each spot."""
    n_tracks, n_frames = shape
    D, rows = np.asarray(D_um2_s, dtype=float), np.cumsum(T, axis=1)[:, :-1]
    x, states = np.empty((*shape, 2)), np.empty(shape, np.int64)
    sd = np.broadcast_to(np.asarray(sd_um, dtype=float), shape)
    at = np.zeros((n_tracks, 2))
    state = rng.choice(len(D), n_tracks, p=stationary(np.asarray(T)))
    for n in range(n_frames):
        states[:, n] = state
        now, noise = D[state][:, None], rng.normal(size=(4, n_tracks, 2))
        step = np.sqrt(2 * now * exposure_s) * noise[0]
        x[:, n] = at + step / 2 + np.sqrt(now * exposure_s / 6) * noise[1]
        x[:, n] += sd[:, n, None] * noise[2]
        at += step + np.sqrt(2 * now * (dt_s - exposure_s)) * noise[3]
        state = (rng.random(n_tracks)[:, None] > rows[state]).sum(axis=1)
    return Scene(x, sd, states, dt_s, exposure_s)


def stream(scene, reported=1.0):
    """Yield the scene frame by frame; errors are reported `reported` times as large as they are."""
    none, n_tracks = np.empty(0, np.int64), len(scene.x_um)
    for n in range(scene.x_um.shape[1]):
        table = np.zeros(n_tracks, SPOT_DTYPE)
        table["x_um"], table["y_um"] = scene.x_um[:, n].T
        table["var_x_um2"] = table["var_y_um2"] = (reported * scene.sd_um[:, n]) ** 2
        spots = Spots(n, n * scene.dt_s, scene.exposure_s, 1.0, table)
        yield spots, Links(n, np.arange(n_tracks), np.ones(n_tracks), none)


def table_of(scene, lengths=None, reported=1.0):
    """Lay the scene out as `smooth_run` wants it, each track cut to its length."""
    n_tracks, n_frames = scene.state.shape
    lengths = np.full(n_tracks, n_frames) if lengths is None else lengths
    track, frame = np.nonzero(np.arange(n_frames) < lengths[:, None])
    table = np.zeros(track.size, TRACK_DTYPE)
    table["track_id"], table["frame"] = track, frame
    table["t_s"], table["exposure_s"] = frame * scene.dt_s, scene.exposure_s
    table["x_um"], table["y_um"] = scene.x_um[track, frame].T
    table["var_x_um2"] = table["var_y_um2"] = (reported * scene.sd_um[track, frame]) ** 2
    return table
