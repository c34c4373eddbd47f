"""A frame's bookkeeping against numpy."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from livespt.infer.framekernels import (
    LEAST_LN,
    N_BINS,
    N_SAID,
    PER_UNIT,
    STRIDE,
    absorb,
    fill_table,
    tally,
)
from livespt.infer.watch import quartiles
from livespt.types import SPOT_DTYPE, track_dtype

_spec = importlib.util.spec_from_file_location(
    "naive_frame", Path(__file__).with_name("naive_frame.py")
)
naive = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(naive)


@pytest.mark.parametrize("q", [3, 7, 21])
def test_a_frame_is_absorbed_as_a_sum_of_quadratics(q):
    rng = np.random.default_rng(q)
    root, theta = rng.normal(size=(q, 2 * q)), rng.normal(size=q)
    information, half = root @ root.T, np.triu(root[:, :3] @ root[:, :3].T)
    score = 3 * rng.normal(size=1 + q)
    wanted = naive.absorbed(score, half, information, theta, STRIDE)
    covariance = np.empty((q, q))
    assert absorb(score, half, information, covariance, theta, np.empty((q, q)))
    for found, value in zip((information, covariance, theta), wanted, strict=True):
        np.testing.assert_allclose(found, value, rtol=1e-9, atol=1e-12)


def test_what_has_no_inverse_is_refused():
    flat, theta = np.ones((2, 2)), np.zeros(2)
    assert not absorb(np.ones(3), np.zeros((2, 2)), flat, np.empty((2, 2)), theta, np.empty((2, 2)))


def a_table(n, rng):
    table = np.zeros(n, SPOT_DTYPE)
    table["var_x_um2"], table["var_y_um2"] = np.exp(rng.normal(-8, 0.3, (2, n)))
    table["photons"], table["bg_photons"] = rng.lognormal(6, 0.5, n), rng.lognormal(1, 0.1, n)
    table["sigma_um"] = rng.normal(0.13, 0.01, n)
    table["status"][::7], table["guided"][::3] = 2, 1
    return table


def test_quartiles_of_a_tally_are_those_of_its_values():
    """To half a bin, 0.8 %."""
    rng = np.random.default_rng(1)
    tables = [a_table(n, rng) for n in (300, 0, 500)]
    counts, said, total = np.zeros((4, N_BINS), np.int32), np.zeros(N_SAID), np.zeros(4)
    for table in tables:
        track_id, p_link = rng.integers(-1, 3, table.size), rng.uniform(size=table.size)
        tally(table, track_id, p_link, counts, said)
        total += said[:4]
        assert said[2] == (track_id >= 0).sum()
        assert said[3] == pytest.approx((1 - p_link)[track_id >= 0].sum())
    for i, values in enumerate(naive.figures(np.concatenate(tables))):
        assert counts[i].sum() == values.size == total[min(i // 3, 1)]
        np.testing.assert_allclose(quartiles(counts[i]), naive.quartiles(values), atol=0.008)


def test_what_lies_beyond_the_bins_is_counted_in_the_last():
    table = np.zeros(3, SPOT_DTYPE)
    table["photons"] = [0.0, 1e30, -5.0]
    counts = np.zeros((4, N_BINS), np.int32)
    tally(table, np.empty(0, np.int64), np.empty(0), counts, np.zeros(N_SAID))
    assert counts[1, -1] == 1
    assert counts[1, int((np.log(1e-2) - LEAST_LN) * PER_UNIT)] == 2


def test_a_table_holds_its_whole_numbers():
    rng = np.random.default_rng(2)
    whole, n_spots = rng.permuted(np.tile(np.arange(9), (3, 1)), axis=1), rng.integers(1, 99, 9)
    longs = np.zeros((9, track_dtype(2).itemsize // 8), np.int64)
    position, p_state, D = (
        rng.normal(size=(9, 5)),
        rng.dirichlet(np.ones(2), 9),
        np.array([2.0, 1.0]),
    )
    fill_table(whole, n_spots, position, p_state, D, np.empty(4, np.int64), longs)
    table = longs.view(track_dtype(2))[:, 0]
    assert table["spot"].tolist() == whole[0].tolist()
    assert table["track_id"].tolist() == whole[1].tolist()
    assert table["n_spots"].tolist() == n_spots[whole[2]].tolist()
    assert table["p_state"].tolist() == p_state[:, ::-1].tolist()
    assert table["x_um"].tolist() == position[:, 0].tolist()
    assert not table["D_track_um2_s"].any()  # is written by those who know it
