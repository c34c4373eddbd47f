"""Spots that are probably two molecules are told by crowding and brightness, and say so."""

from __future__ import annotations

import numpy as np
import pytest

from livespt.camera import Ideal
from livespt.localize import LocalizeError, Localizer, crowd
from livespt.types import SPOT_DTYPE, FitStatus

RADIUS_UM = 0.3


def scattered(n, side_um, rng):
    return rng.uniform(0, side_um, (n, 2))


def brightness(n, rng, mean=300.0):
    return mean * np.exp(0.13 * rng.normal(size=n))


def a_table(at, photons):
    table = np.zeros(len(at), SPOT_DTYPE)
    table["x_um"], table["y_um"] = at.T
    table["photons"] = photons
    table["var_x_um2"] = table["var_y_um2"] = 1e-4
    return table


@pytest.mark.parametrize("n, side_um", [(900, 40.0), (300, 40.0)])
def test_the_share_of_pairs_is_that_of_scattered_molecules(n, side_um):
    """Tolerance: 4 s.d. of the count of neighbours."""
    found = crowd.share_of_pairs(scattered(n, side_um, np.random.default_rng(1)), RADIUS_UM)
    truth = 1 - np.exp(-n / side_um**2 * np.pi * RADIUS_UM**2)
    per_square = n / side_um**2 * (crowd.SQUARE * RADIUS_UM) ** 2
    assert found == pytest.approx(truth, rel=4 * np.sqrt(2 / (n * per_square)) + 0.03)


def test_a_crowd_in_an_empty_field_is_still_a_crowd():
    rng = np.random.default_rng(2)
    crowded = scattered(400, 20.0, rng)
    alone = crowd.share_of_pairs(crowded, RADIUS_UM)
    lost = crowd.share_of_pairs(np.concatenate([crowded, [[200.0, 200.0]]]), RADIUS_UM)
    assert lost == pytest.approx(alone, rel=0.01)


def test_twice_the_light_in_a_crowd_is_two_molecules():
    """700 single molecules and 70 pairs: of 13 % scatter each, hardly one is mistaken."""
    rng = np.random.default_rng(3)
    one, two = brightness(700, rng), brightness(70, rng) + brightness(70, rng)
    p = crowd.p_two(np.concatenate([one, two]), 0.12)
    assert np.mean(p[:700] > 0.5) < 0.01
    assert np.mean(p[700:] > 0.5) > 0.95


def test_a_brighter_kind_is_not_taken_for_pairs_where_molecules_lie_far_apart():
    rng = np.random.default_rng(4)
    photons = np.concatenate([brightness(300, rng), brightness(150, rng, 600.0)])
    assert crowd.p_two(photons, 0.01).max() < 0.2


def test_only_what_may_be_two_is_widened_and_by_what_pairs_are_off():
    rng = np.random.default_rng(5)
    photons = np.concatenate([brightness(800, rng), brightness(80, rng) + brightness(80, rng)])
    table = a_table(scattered(880, 40.0, rng), photons)
    table["status"][800] = FitStatus.SATURATED
    table["guided"][801] = 1
    crowd.widen(table, RADIUS_UM)
    added = table["var_x_um2"] - 1e-4
    assert np.array_equal(table["var_x_um2"], table["var_y_um2"])
    assert np.count_nonzero(added[:800]) < 0.05 * 800
    assert (added[[800, 801]] == 0).all()
    assert np.median(added[802:]) == pytest.approx(0.5 * (RADIUS_UM / 4) ** 2, rel=0.05)


def test_frames_with_few_spots_are_left_alone():
    table = a_table(np.zeros((crowd.FEWEST - 1, 2)), np.full(crowd.FEWEST - 1, 300.0))
    before = table.copy()
    crowd.widen(table, RADIUS_UM)
    assert np.array_equal(table, before)


def test_dark_fits_and_equal_ones_give_probabilities():
    for photons in (np.zeros(50), np.full(50, 1e9), np.geomspace(1, 1e9, 50)):
        p = crowd.p_two(photons, 0.5)
        assert ((p >= 0) & (p <= 1)).all()


def test_an_unknown_way_with_crowds_is_refused():
    with pytest.raises(LocalizeError, match="crowding: 'drop'; expected 'ignore' or 'widen'"):
        Localizer(Ideal(), 0.1, 0.1, (32, 32), crowding="drop")
