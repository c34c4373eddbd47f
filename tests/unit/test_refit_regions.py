"""Refits from pixels refuse what they cannot use, and their answers are complete."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from livespt.camera import Emccd, Ideal, Scmos
from livespt.psf import spot_image
from livespt.refit import METHODS, RefitError, Regions, refit
from livespt.refit.methods import function_of

N, SIDE = 12, 7
PIXELS = ["gf-msd", "gf-mle", "mle-scmos", "l-ml", "u-em", "smc-em", "point-mass"]


def regions(**change):
    given = {
        "adu": np.random.default_rng(1).poisson(9.0, (N, SIDE, SIDE)).astype(np.uint16),
        "corner_px": np.zeros((N, 2), np.int64), "frame": np.arange(N),
        "t_s": 0.1 * np.arange(N), "exposure_s": 0.01, "camera": Ideal(), "pixel_um": 0.1,
        "sigma_um": 0.1, "photons": 300.0, "bg_photons": 8.0, "source": "here",
    }  # fmt: skip
    return Regions(**(given | change))


@pytest.mark.parametrize("method", PIXELS)
def test_every_method_can_be_found_by_name_and_takes_regions(method):
    assert METHODS[method].needs == "regions"
    assert len(inspect.signature(function_of(METHODS[method])).parameters) >= 1


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"adu": np.zeros((N, 7, 5), np.uint16)}, r"here: adu of shape \(12, 7, 5\)"),
        ({"adu": np.zeros((N, 7, 7))}, "adu of type float64; expected uint16"),
        ({"adu": np.zeros((2, 7, 7), np.uint16)}, "2 frames; expected 4 or more"),
        ({"t_s": np.zeros(N)}, "t_s does not go forward"),
        ({"exposure_s": 0.2}, "exposure_s 0.2; expected 0 to the shortest time"),
        ({"photons": -1.0}, "photons -1.0; expected a number > 0"),
        ({"pixel_um": float("nan")}, "pixel_um nan; expected a number > 0"),
        ({"sigma_um": 100.0}, "sigma_um is 1000 pixels"),
        ({"corner_px": np.zeros((N, 3), np.int64)}, r"corner_px of shape \(12, 3\)"),
    ],
)
def test_regions_that_cannot_be_used_are_named(change, expected):
    with pytest.raises(RefitError, match=expected):
        refit(regions(**change), "l-ml")


def test_regions_outside_the_cameras_maps_are_named():
    camera = Scmos(np.full((20, 20), 2.0), 100.0, 1.0)
    with pytest.raises(RefitError, match="inside the camera's maps"):
        refit(regions(camera=camera, corner_px=np.full((N, 2), 15)), "l-ml")


@pytest.mark.parametrize("method", ["u-em", "smc-em", "mle-scmos"])
def test_an_emccd_is_refused_where_it_is_not_known(method):
    with pytest.raises(RefitError, match="found an EMCCD"):
        refit(regions(camera=Emccd(30.0)), method)


@pytest.mark.parametrize("method", ["u-em", "smc-em"])
def test_uneven_times_are_refused_where_they_are_not_known(method):
    uneven = np.cumsum(np.r_[0.0, np.tile([0.1, 0.2], N)[: N - 1]])
    with pytest.raises(RefitError, match="evenly spaced"):
        refit(regions(t_s=uneven), method)


def test_settings_out_of_range_are_named():
    with pytest.raises(RefitError, match="n_particles: 3"):
        refit(regions(), "smc-em", n_particles=3)
    with pytest.raises(RefitError, match="per_px: 99"):
        refit(regions(), "point-mass", per_px=99)


@pytest.mark.parametrize("adu", [0, 9, 65535])
def test_regions_without_a_molecule_give_finite_numbers_or_a_named_error(adu):
    """Nothing in them moves: no number is NaN, no variance is below zero."""
    flat = regions(adu=np.full((N, SIDE, SIDE), adu, np.uint16))
    for method in ("l-ml", "u-em"):
        found = refit(flat, method)
        for name in ("x_um", "y_um", "var_x_um2", "var_y_um2"):
            assert np.isfinite(found.positions[name]).all()
        assert (found.positions["var_x_um2"] > 0).all()
        assert all(np.isfinite(p.value) for p in found.parameters)
    with pytest.raises(RefitError, match="settled in"):
        refit(regions(adu=np.full((N, SIDE, SIDE), 65535, np.uint16)), "gf-mle")


def test_frames_whose_fit_did_not_settle_are_counted():
    rate = 8.0 + spot_image(3.0, 3.0, 600.0, 1.0, (SIDE, SIDE))
    data = regions(adu=np.random.default_rng(2).poisson(rate, (N, SIDE, SIDE)).astype(np.uint16))
    data.adu[3:5] = 65535
    found = refit(data, "gf-msd")
    assert found.left_out["fit did not settle"] >= 2
    assert found.n_positions + found.left_out["fit did not settle"] == N


def test_given_light_is_said_to_be_given():
    found = refit(regions(), "l-ml")
    assert found.parameter("photons").fixed
    assert found.parameter("photons").value == 300.0
    assert found.provenance["source"] == "here"
