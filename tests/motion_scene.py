"""Simulated tracks (`livespt_sim.tracks`) as the tests and benches of `infer` want them."""

from __future__ import annotations

import numpy as np

from livespt.types import SPOT_DTYPE, Links, Spots
from livespt_sim.tracks import Scene, simulate, stationary, switching_matrix

__all__ = ["Scene", "simulate", "stationary", "stream", "switching_matrix", "table_of"]

FIELDS = ("t_s", "exposure_s", "x_um", "y_um", "var_x_um2", "var_y_um2", "cov_xy_um2")
TRACK_DTYPE = np.dtype([("track_id", "i8"), ("frame", "i8")] + [(n, "f8") for n in FIELDS])


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
