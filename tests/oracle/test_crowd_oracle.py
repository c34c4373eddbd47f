"""The crowd's kernels against numpy's few lines."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from livespt.localize import crowd

_spec = importlib.util.spec_from_file_location(
    "naive_crowd", Path(__file__).with_name("naive_crowd.py")
)
naive = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(naive)


@pytest.mark.parametrize(
    "n, side_um, share", [(30, 5.0, 0.01), (100, 50.0, 0.02), (900, 30.0, 0.2)]
)
def test_spots_are_taken_for_two_as_the_formula_says(n, side_um, share):
    rng = np.random.default_rng(n)
    at = rng.uniform(-3.0, side_um, (n, 2))
    photons = 300 * np.exp(0.3 * rng.normal(size=n))
    photons[:5] = 0.0, 0.5, 1.0, 1e-9, 5000.0  # as dim and as bright as a fit may say
    q = 1 - np.exp(-np.pi / crowd.SQUARE**2 * naive.others(at, crowd.SQUARE * 0.3))
    assert crowd.share_of_pairs(at, 0.3) == pytest.approx(q, rel=1e-12)
    np.testing.assert_allclose(
        crowd.p_two(photons, share), naive.p_two(photons, share), rtol=1e-9, atol=1e-15
    )
