"""What a free width costs a position: the lanes and the reference against the theory, expanded."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from livespt.localize import fit as fitting
from livespt.localize import fit_kernels
from livespt.localize import lane_kernels as rows
from livespt.localize import lane_solve_kernels as solving
from livespt.localize.lane_kernels import LANES

sys.path.insert(0, str(Path(__file__).parent))  # naive_second_order.py

from naive_second_order import second_order, widened

F = np.float32


def bounds_and_widths(rng):
    """Random covariances (LANES, 5, 5), those of the dimmest spots included, and widths."""
    root = rng.normal(size=(LANES, 5, 5)) * [[0.1], [0.1], [30.0], [1.0], [0.3]]
    return root @ root.transpose(0, 2, 1), rng.uniform(0.6, 3.0, LANES)


@pytest.mark.parametrize("fit_background", [False, True])
@pytest.mark.parametrize("sigma", [1.0, 1.3])
def test_the_cost_is_that_of_an_expanded_matched_filter(fit_background, sigma):
    """40,000 noises know it to 2 % (1 s.d. over seeds)."""
    found, position, width = second_order(sigma, fit_background, np.random.default_rng(5))
    assert found == pytest.approx(2 * (position + width), rel=0.06)


def test_the_lanes_widen_what_is_the_positions(rng):
    bound, width = bounds_and_widths(rng)
    w, lower = fitting.make_lanes(), np.tril_indices(5)
    starts = [int(at) for at in solving.COV]
    for start, values in zip(starts, bound[:, *lower].T, strict=True):
        w[start : start + LANES] = values
    w[int(rows.INVERSE) : int(rows.INVERSE) + LANES] = 1.0 / width
    before = w.copy()
    solving.widen_position(w, F(0.0))
    np.testing.assert_array_equal(w, before)  # a held width costs nothing
    solving.widen_position(w, F(1.0))
    expected = np.array([widened(*case)[lower] for case in zip(bound, width, strict=True)])
    ours = np.stack([w[start : start + LANES] for start in starts], axis=1)
    np.testing.assert_allclose(ours, expected, rtol=2e-6)


def test_the_reference_widens_as_the_lanes_do(rng):
    for bound, width in zip(*bounds_and_widths(rng), strict=True):
        ours = bound.copy()
        fit_kernels.widen_position(ours, width, False)
        np.testing.assert_array_equal(ours, bound)
        fit_kernels.widen_position(ours, width, True)
        np.testing.assert_allclose(ours, widened(bound, width), rtol=1e-6)
        assert np.linalg.eigvalsh(ours)[0] > 0
