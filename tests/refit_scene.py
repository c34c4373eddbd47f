"""Tracks for the tests of `livespt.refit`, laid out as tables."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np

from livespt.refit import make_tracks

_spec = importlib.util.spec_from_file_location(
    "motion_scene", Path(__file__).with_name("motion_scene.py")
)
motion = sys.modules["motion_scene"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(motion)

#: Two states that switch every twentieth frame on average, at continuous exposure.
D_UM2_S, P_SWITCH, DT_S = (0.1, 1.0), (0.05, 0.05), 0.005


def two_states(seed, shape=(100, 100)):
    """Return a scene with errors of 20 to 60 nm, and its table."""
    rng = np.random.default_rng(seed)
    sd = rng.uniform(0.02, 0.06, shape)
    T = motion.switching_matrix(P_SWITCH)
    scene = motion.simulate(rng, shape, D_UM2_S, T, sd, dt_s=DT_S, exposure_s=DT_S)
    return scene, as_table(scene)


def one_state(seed, shape, D_um2_s, sd_um, *, dt_s, exposure_s=None):
    """Return a scene of one D and its table."""
    rng = np.random.default_rng(seed)
    exposure_s = dt_s if exposure_s is None else exposure_s
    scene = motion.simulate(
        rng, shape, (D_um2_s,), [[1.0]], sd_um, dt_s=dt_s, exposure_s=exposure_s
    )
    return scene, as_table(scene)


def as_table(scene):
    """Lay a scene out as a table of tracks."""
    n_tracks, n_frames = scene.state.shape
    return make_tracks(
        np.repeat(np.arange(n_tracks), n_frames),
        np.tile(np.arange(n_frames), n_tracks),
        scene.x_um.reshape(-1, 2),
        np.repeat(scene.sd_um.reshape(-1, 1), 2, axis=1),
        interval_s=scene.dt_s,
        exposure_s=scene.exposure_s,
    )


def misclassified(found, scene) -> float:
    """Share of positions whose most probable state is not the true one."""
    return float((found.positions["p_state"].argmax(axis=1) != scene.state.ravel()).mean())
