"""The images' widths as data on D, on the scenes of Lin and Andersson 2021 (decision 40).

Frames of 100 ms, exposed for 10 ms; G 100, background 10. Displacements alone leave 14 % of D.
"""

from __future__ import annotations

import numpy as np
import pytest

from livespt.camera import Ideal
from livespt.refit import RefitError, Regions, refit
from livespt.refit.curve import read_curve
from livespt.refit.widths import DEGREE, Classes, added, draw_classes, draw_widths
from livespt_sim.lin2021 import PIXEL_UM, SIGMA_UM, make_scene


def regions_of(scene, *, sigma_um=SIGMA_UM):
    return Regions(
        adu=scene.adu, corner_px=scene.corner_px, frame=np.arange(len(scene.adu)),
        t_s=scene.t_s, exposure_s=scene.exposure_s, camera=Ideal(), pixel_um=PIXEL_UM,
        sigma_um=sigma_um, photons=scene.photons, bg_photons=scene.bg_photons, source="simulated",
    )  # fmt: skip


def one(D, seed, **settings):
    return make_scene(100, 10, (D, D), np.random.default_rng([40, seed]), **settings)


def of_many(D, K, sigma_um=SIGMA_UM):
    """Return D over its true value, less 1, and whether the interval holds it, with widths."""
    off, held = [], []
    for seed in range(K):
        found = refit(regions_of(one(D, seed), sigma_um=sigma_um), "l-ml", widths=True, seed=seed)
        for axis in "xy":
            p = found.parameter(f"D_{axis}_um2_s")
            off.append(p.value / D - 1)
            held.append(p.low <= D <= p.high)
    return np.array(off), float(np.mean(held))


def test_widths_narrow_the_interval_of_a_smeared_molecule():
    """At 3 um2/s the s.d. of ln D falls from .14 to .087 on average; positions stay."""
    regions = regions_of(one(3.0, 1))
    plain, more = refit(regions, "l-ml"), refit(regions, "l-ml", widths=True)
    for axis in "xy":
        before, after = (f.parameter(f"D_{axis}_um2_s") for f in (plain, more))
        assert after.sd / after.value < 0.75 * before.sd / before.value
        assert after.low < 3.0 < after.high
    assert (more.positions == plain.positions).all()
    assert more.loglik is None
    assert "widths of 100 frames" in more.message


def test_the_same_seed_draws_the_same_images():
    regions = regions_of(one(1.0, 2, n_frames=30))
    first, again = (refit(regions, "l-ml", widths=True, seed=5) for _ in range(2))
    assert first.parameters == again.parameters
    assert first.provenance["seed"] == 5


def test_the_widths_of_a_slow_molecule_say_nothing():
    regions = regions_of(one(0.001, 3, n_frames=30))
    plain, more = refit(regions, "l-ml"), refit(regions, "l-ml", widths=True)
    assert more.parameters == plain.parameters
    assert more.loglik == plain.loglik
    assert "say nothing of D" in more.message


def test_widths_without_an_exposure_are_refused():
    with pytest.raises(RefitError, match="exposure_s is 0"):
        refit(regions_of(one(1.0, 4, blur=False, n_frames=10)), "l-ml", widths=True)


def test_a_dim_molecule_is_fitted_without_widths():
    scene = make_scene(3, 3, (0.05, 0.05), np.random.default_rng(0), n_frames=20)
    found = refit(regions_of(scene), "l-ml", widths=True)
    assert "on a grid (point-mass), without widths" in found.message


def test_classes_have_the_shares_of_images_not_drawn_with_them():
    """3000 fresh values of q at one D, 12 classes: chi^2 11 on average, s.d. 4.7; 35 is five s.d.

    Of 36,000 drawn at all D some 10,000 count here, so that the classes' own chance adds a third.
    """
    regions = regions_of(one(1.0, 5, n_frames=30))
    light, places = (regions.photons, regions.bg_photons), np.zeros((1, 2))
    classes = draw_classes(regions, light, places, (0.03, 3.0), np.random.default_rng(1))
    fresh = draw_widths(regions, light, places, 0.3, np.random.default_rng(2))
    p = np.exp(classes.log_p(np.log([0.3]))[0])
    expected = p * fresh.size
    assert expected.sum() == pytest.approx(fresh.size)
    assert ((classes.counts(fresh.ravel()) - expected) ** 2 / expected).sum() < 35.0


def test_what_steps_and_widths_share_is_not_counted_twice():
    """Equal curves: the variance of ln D falls by 2 / (1 + c), c = (4 / pi^2) / (1 / f - 1 / 3)."""
    D = np.geomspace(0.1, 10, 72)
    curve = -0.5 * (np.log(D) / 0.14) ** 2
    for share, c in ((0.1, 0.0419), (1.0, 0.608)):
        regions = regions_of(one(1.0, 6, n_frames=10))
        regions = regions._replace(t_s=np.arange(10) * regions.exposure_s / share)
        both = read_curve(D, added(regions, D, curve, curve))
        assert (both.sd / 0.14) ** 2 == pytest.approx((1 + c) / 2, rel=0.01)


def test_beyond_what_was_drawn_classes_are_as_at_the_ends():
    terms = np.random.default_rng(0).normal(size=(DEGREE + 1, 3))
    classes = Classes(np.array([0.0, 1.0]), (-1.0, 1.0), terms)
    assert classes.log_p(np.array([-9.0])) == pytest.approx(classes.log_p(np.array([-1.0])))
    assert classes.counts(np.array([-5.0, 0.5, 0.7, 3.0])).tolist() == [1, 2, 1]


@pytest.mark.long
@pytest.mark.parametrize(("D", "most"), [(1.0, 0.105), (3.0, 0.105), (10.0, 0.145)])
def test_widths_sharpen_d_and_intervals_stay_honest(D, most):
    """60 molecules, two axes: relative RMS 8.7, 8.7, 12.6 %, s.e. a fifteenth; bias up to 5 %.

    Intervals hold .91 to .94, s.e. .025.
    """
    off, held = of_many(D, 60)
    assert abs(off.mean()) < 0.05
    assert np.sqrt((off**2).mean()) < most
    assert held > 0.85
