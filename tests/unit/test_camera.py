"""Cameras refuse values that no camera has, and say which."""

from __future__ import annotations

import numpy as np
import pytest

from livespt.camera import CameraError, Emccd, Ideal, Scmos


@pytest.mark.parametrize(
    "make, key",
    [
        (lambda: Scmos(0.0, 100.0, 1.0), "gain_adu_per_e"),
        (lambda: Scmos(-2.2, 100.0, 1.0), "gain_adu_per_e"),
        (lambda: Scmos(2.2, np.nan, 1.0), "offset_adu"),
        (lambda: Scmos(2.2, 100.0, -1.0), "var_e2"),
        (lambda: Scmos(2.2, 100.0, np.array([[1.0, np.inf]])), "var_e2"),
        (lambda: Scmos(2.2, "dark", 1.0), "offset_adu"),
        (lambda: Scmos(np.ones(4), 100.0, 1.0), "gain_adu_per_e"),
        (lambda: Emccd(0.0, 2.0, 10.0, 100.0), "gain_adu_per_e"),
        (lambda: Emccd(50.0, 1.0, 10.0, 100.0), "excess"),
        (lambda: Emccd(50.0, 2.5, 10.0, 100.0), "excess"),
        (lambda: Emccd(50.0, 2.0, -1.0, 100.0), "readout_adu"),
        (lambda: Emccd(np.ones((2, 2)), 2.0, 1.0, 100.0), "gain_adu_per_e"),
    ],
)
def test_an_impossible_value_is_refused_by_name(make, key):
    with pytest.raises(CameraError, match=f"^{key}:"):
        make()


def test_a_wrong_gain_is_told_its_direction():
    with pytest.raises(CameraError, match=r"ADU/e-.*inverted"):
        Scmos(-0.45, 100.0, 1.0)


def test_maps_of_different_shapes_are_refused():
    with pytest.raises(CameraError, match=r"\(4, 4\).*\(4, 5\)"):
        Scmos(np.ones((4, 4)), np.zeros((4, 5)), 1.0)


def test_maps_must_fit_the_frame():
    camera = Scmos(np.ones((4, 6)), 100.0, 1.0)
    camera.check((4, 6))
    with pytest.raises(CameraError, match=r"\(4, 6\).*\(6, 4\)"):
        camera.check((6, 4))
    Ideal().check((3, 3))
    Emccd(50.0).check((3, 3))


def test_a_crop_is_the_model_of_its_part(rng):
    camera = Scmos(rng.uniform(1, 3, (8, 9)), 100.0, rng.uniform(1, 3, (8, 9)))
    part = camera.crop(2, 3, 4, 5)
    assert part.shape == (4, 5)
    adu, rate = rng.integers(100, 120, (8, 9)), rng.uniform(1, 5, (8, 9))
    whole = camera.loglik(adu, rate)[2:6, 3:8]
    np.testing.assert_array_equal(part.loglik(adu[2:6, 3:8], rate[2:6, 3:8]), whole)


def test_maps_are_copies_that_nobody_can_change():
    gain = np.ones((2, 2))
    camera = Scmos(gain, 0.0, 0.0)
    gain[:] = 5.0
    assert float(np.max(camera.gain_adu_per_e)) == 1.0
    with pytest.raises(ValueError, match="read-only"):
        camera.gain_adu_per_e[0, 0] = 2.0  # type: ignore[index]


@pytest.mark.parametrize("camera", [Ideal(), Scmos(2.2, 100.0, 1.6), Emccd(50.0, 2.0, 10.0, 200.0)])
def test_samples_are_counts_of_the_rates_shape(camera, rng):
    adu = camera.sample(np.full((5, 7), 3.0), rng)
    assert adu.shape == (5, 7)
    assert adu.dtype == np.uint16
    assert camera.sample(np.full(3, 1e8), rng).max() == 65535
    with pytest.raises(CameraError, match="rate_e"):
        camera.sample(np.array([-1.0]), rng)


@pytest.mark.parametrize("camera", [Ideal(), Scmos(2.2, 100.0, 1.6), Emccd(50.0, 2.0, 10.0, 200.0)])
def test_a_dark_pixel_scores_finite(camera):
    for values in (camera.loglik(300, 0.0), camera.score(300, 0.0), camera.fisher(0.0)):
        assert np.all(np.isfinite(values))
