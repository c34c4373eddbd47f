"""Tracks for the tests of `livespt.refit`, laid out as tables."""

from __future__ import annotations

import numpy as np

from livespt_sim import tracks as motion
from livespt_sim.tracks import as_table

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


def misclassified(found, scene) -> float:
    """Share of positions whose most probable state is not the true one."""
    return float((found.positions["p_state"].argmax(axis=1) != scene.state.ravel()).mean())
