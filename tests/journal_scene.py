"""Frames for the journal's tests: random numbers in every column."""

import numpy as np

from livespt.types import (
    SPOT_DTYPE,
    Estimates,
    Links,
    Model,
    SourceInfo,
    Spots,
    track_dtype,
)

INFO = SourceInfo("test source", (64, 64), 0.01, 0.01, None, False)


def _random(rng, dtype, n):
    table = np.zeros(n, dtype)
    for name in dtype.names:
        column = table[name]
        if column.dtype.kind == "f":
            table[name] = rng.normal(size=column.shape)
        else:
            table[name] = rng.integers(0, 100, size=column.shape)
    return table


def a_frame(rng, index, n_spots=5, n_states=2, t_s=None):
    """Return (Spots, Links, Estimates) of one frame."""
    k = n_states
    t_s = 0.01 * index if t_s is None else t_s
    spots = Spots(index, t_s, 0.008, 1.5, _random(rng, SPOT_DTYPE, n_spots))
    ended = rng.integers(0, 9, size=index % 3)
    links = Links(index, rng.integers(-1, 99, n_spots), rng.random(n_spots), ended)
    model = Model(
        D_um2_s=rng.random(k),
        D_95=rng.random((k, 2)),
        occupancy=rng.random(k),
        occupancy_95=rng.random((k, 2)),
        p_switch=rng.random((k, k)),
        p_switch_95=rng.random((k, k, 2)),
        rate_per_s=rng.random((k, k)),
        error_scale=float(rng.random()),
        error_scale_95=rng.random(2),
        occupancy_lag=rng.random((3, k)),
        lags=np.array([0, 3, 7]),
        interval_s=0.01,
        n_steps=index,
        n_tracks=index,
        status="ok" if index % 2 else "warming",
    )
    return spots, links, Estimates(index, t_s, _random(rng, track_dtype(k), n_spots), model)


def same(a, b):
    """Return whether two NamedTuples of arrays are equal bit for bit (but for `arrived_s`)."""
    for name in a._fields:
        left, right = np.asarray(getattr(a, name)), np.asarray(getattr(b, name))
        if left.shape != right.shape or left.dtype != right.dtype:
            return False
        if left.tobytes() != right.tobytes():
            return False
    return True
