"""What `answerkernels` do, in numpy: rows taken, a table filled, a model with its intervals."""

from __future__ import annotations

import numpy as np
from scipy.linalg import logm

Z95, WIDEST = 1.959963984540054, 12.0


def taken(table, track_id):
    """Rows that belong to tracks."""
    determinant = table["var_x_um2"] * table["var_y_um2"] - table["cov_xy_um2"] ** 2
    usable = (track_id >= 0) & (table["status"] == 0) & (determinant > 0)
    return np.flatnonzero(usable & np.isfinite(table["x_um"] + table["y_um"]))


def words(position, p_state, D, own):
    """Numbers of each row, by column."""
    x, y, xx, xy, yy = position.T
    mean = p_state @ D
    sd = np.sqrt((p_state * (D - mean[:, None]) ** 2).sum(axis=1))
    return np.column_stack([x, y, xx, yy, xy, mean, sd, own, p_state[:, np.argsort(D)]])


def log_interval(value, sd):
    half = np.minimum(Z95 * sd, WIDEST)
    return np.stack([value * np.exp(-half), value * np.exp(half)], axis=-1)


def logit_interval(ln_p, covariance):
    """Interval of probabilities given as duals of ln p."""
    p = np.exp(ln_p[..., 0])
    if p.shape[-1] == 1:
        return np.ones((*p.shape, 2))
    slope = ln_p[..., 1 : 1 + len(covariance)] / (1 - p)[..., None]
    half = np.minimum(Z95 * np.sqrt(((slope @ covariance) * slope).sum(axis=-1)), WIDEST)
    odds = p / (1 - p)
    low, high = odds * np.exp(-half), odds * np.exp(half)
    return np.stack([low / (1 + low), high / (1 + high)], axis=-1)


def rates(T, interval_s):
    """Rates of the chain, or of its first order where it is no sampled one."""
    log_T, away = logm(T), ~np.eye(len(T), dtype=bool)
    sampled = np.abs(np.imag(log_T)).max() < 1e-9 and (np.real(log_T)[away] >= 0).all()
    out = np.real(log_T).copy() if sampled else T.copy()
    np.fill_diagonal(out, 0.0)
    np.fill_diagonal(out, -out.sum(axis=1))
    return out / interval_s
