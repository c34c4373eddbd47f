"""A frame's way in and out of the filter, against numpy's lines for it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from livespt.infer.answerkernels import AFTER_OWN, OWN, fill_words, invert, rank_of, take_rows
from livespt.infer.layout import n_parameters
from livespt.infer.motion import Answer, motion, pack, to_model
from livespt.types import SPOT_DTYPE, track_dtype

_spec = importlib.util.spec_from_file_location(
    "naive_answer", Path(__file__).with_name("naive_answer.py")
)
naive = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(naive)


def a_covariance(n, rng):
    root = rng.normal(size=(n, n + 3)) / 10
    return root @ root.T


def test_the_inverse_is_the_inverse_and_what_has_none_is_refused():
    rng = np.random.default_rng(1)
    for n in (1, 3, 7, 21):
        matrix = a_covariance(n, rng)
        inverse = np.empty((n, n))
        assert invert(matrix, inverse, np.empty((n, n)))
        np.testing.assert_allclose(matrix @ inverse, np.eye(n), atol=1e-9)
    flat = np.array([[1.0, 1.0], [1.0, 1.0]])
    assert not invert(flat, np.empty((2, 2)), np.empty((2, 2)))
    assert not invert(flat * np.nan, np.empty((2, 2)), np.empty((2, 2)))


@pytest.mark.parametrize("n_states, p_switch", [(1, 0.0), (2, 0.1), (2, 0.8), (3, 0.05)])
def test_a_model_has_the_intervals_of_the_delta_method(n_states, p_switch):
    rng = np.random.default_rng(n_states)
    D = np.geomspace(0.05, 3.0, n_states)
    T = np.full((n_states, n_states), p_switch / max(1, n_states - 1))
    np.fill_diagonal(T, 1 - p_switch if n_states > 1 else 1.0)
    theta = pack(D, T, 1.1)
    covariance = a_covariance(n_parameters(n_states), rng)
    answer = Answer(theta, covariance, 10, 2, True)
    model = to_model(answer, np.ones((1, n_states)), np.zeros(1, np.int64), 0.02)
    at, sd = motion(theta, n_states), np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(model.D_95, naive.log_interval(D, sd[:n_states]), rtol=1e-9)
    np.testing.assert_allclose(model.error_scale_95, naive.log_interval(1.1, sd[-1]), rtol=1e-9)
    wanted = naive.logit_interval(at.ln_pi, covariance), naive.logit_interval(at.ln_T, covariance)
    np.testing.assert_allclose(model.occupancy_95, wanted[0], rtol=1e-9)
    np.testing.assert_allclose(model.p_switch_95, wanted[1], rtol=1e-9)
    np.testing.assert_allclose(model.rate_per_s, naive.rates(T, 0.02), rtol=1e-6, atol=1e-9)


def test_states_in_any_order_give_the_same_model():
    theta = pack(np.array([3.0, 0.1]), np.array([[0.9, 0.1], [0.3, 0.7]]), 1.0)
    there = to_model(
        Answer(theta, a_covariance(7, np.random.default_rng(2)), 1, 1, True),
        np.array([[0.2, 0.8]]), np.zeros(1, np.int64), 0.02,
    )  # fmt: skip
    assert there.D_um2_s.tolist() == pytest.approx([0.1, 3.0])
    assert there.p_switch.ravel().tolist() == pytest.approx([0.7, 0.3, 0.1, 0.9])
    assert there.occupancy_lag.tolist() == [[0.8, 0.2]]


def test_states_of_one_D_keep_their_order():
    D = np.array([2.0, 0.1, 2.0, 0.7])
    assert [rank_of(D, k) for k in range(4)] == np.argsort(np.argsort(D, kind="stable")).tolist()


def test_only_sound_rows_of_tracks_are_taken():
    rng = np.random.default_rng(3)
    table = np.zeros(40, SPOT_DTYPE)
    for name in ("x_um", "y_um", "var_x_um2", "var_y_um2"):
        table[name] = rng.uniform(0.1, 1.0, 40)
    table["cov_xy_um2"][::5] = 2.0  # no covariance
    table["status"][::7] = 4
    table["x_um"][11], table["y_um"][12] = np.inf, np.nan
    track_id = np.where(np.arange(40) % 3 == 0, -1, np.arange(40) + 100)
    p_link = rng.uniform(size=40)
    whole, spot, weight = np.empty((3, 40), np.int64), np.empty((40, 5)), np.empty(40)
    n = take_rows(table, (track_id, p_link), whole, spot, weight)
    wanted = naive.taken(table, track_id)
    assert whole[0, :n].tolist() == wanted.tolist()
    assert whole[1, :n].tolist() == track_id[wanted].tolist()
    assert weight[:n].tolist() == (p_link[wanted] >= 0.5).astype(float).tolist()
    for i, name in enumerate(SPOT_DTYPE.names[:5]):
        assert spot[:n, i].tolist() == table[name][wanted].tolist()


def test_a_table_holds_each_number_under_its_name():
    rng = np.random.default_rng(4)
    position, own, D = rng.normal(size=(6, 5)), rng.normal(size=(6, 3)), np.array([2.0, 0.1, 0.7])
    p_state = rng.dirichlet(np.ones(3), 6)
    table = np.zeros(6, track_dtype(3))
    words = table.view(np.float64).reshape(6, -1)[:, 2:]
    words[:, OWN:AFTER_OWN] = own
    fill_words(position, p_state, D, np.argsort(D), words)
    np.testing.assert_allclose(words, naive.words(position, p_state, D, own), rtol=1e-12)
    assert table["cov_xy_um2"].tolist() == position[:, 3].tolist()
    assert table["D_track_95"].tolist() == own[:, 1:].tolist()
    np.testing.assert_allclose(table["p_state"].sum(axis=1), 1.0, rtol=1e-12)
