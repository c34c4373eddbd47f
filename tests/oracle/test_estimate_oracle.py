"""Reciprocals by estimate and Newton step, against the divider's."""

from __future__ import annotations

import numba
import numpy as np

from livespt.localize.estimate_kernels import inverse, inverse_root


@numba.njit
def fill(x, per_x, per_root):
    """Take every number's reciprocals, side by side."""
    for k in range(x.size):
        per_x[k] = inverse(x[k])
        per_root[k] = inverse_root(x[k])


def test_estimates_are_good_to_single_precision():
    """Two and four roundings of 6e-8 measured; every rate and root of one lies in this range."""
    x = np.geomspace(1e-6, 1e9, 20_000).astype(np.float32)
    per_x, per_root = np.empty_like(x), np.empty_like(x)
    fill(x, per_x, per_root)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(per_x * exact, 1.0, rtol=4e-7)
    np.testing.assert_allclose(per_root * np.sqrt(exact), 1.0, rtol=4e-7)
