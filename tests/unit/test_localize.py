"""The localizer's contract: pure, thread-safe, units in um, nothing NaN, nothing lost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from livespt import psf
from livespt.camera import CameraError, Ideal, Scmos
from livespt.localize import LocalizeError, Localizer, detect, fit_rois
from livespt.localize import fit as fitting
from livespt.types import FitStatus, Frame

SHAPE = (64, 80)


def scene(spots, bg=2.0, shape=SHAPE):
    image = np.full(shape, bg)
    for x, y, photons in spots:
        image += psf.spot_image(x, y, photons, 1.3, shape)
    return image


def frame_of(image, rng, index=7, camera=None):
    adu = (camera or Ideal()).sample(image, rng)
    return Frame(index, 1.25, adu, 0.01, 0.5, 3.5)


@pytest.fixture(scope="module")
def localizer():
    made = Localizer(Ideal(), 0.1, 0.13, SHAPE)
    made.warm_up()
    return made


def test_a_spot_is_found_where_it_is_and_the_frame_is_remembered(localizer, rng):
    spots = localizer(frame_of(scene([(40.3, 20.7, 1500.0)]), rng))
    assert (spots.frame, spots.t_s, spots.exposure_s, spots.excitation) == (7, 1.25, 0.01, 0.5)
    assert spots.arrived_s == 3.5
    assert len(spots.table) == 1
    row = spots.table[0]
    assert row["status"] == FitStatus.OK
    assert abs(row["x_um"] - 4.03) < 5 * np.sqrt(row["var_x_um2"])
    assert abs(row["y_um"] - 2.07) < 5 * np.sqrt(row["var_y_um2"])
    assert row["photons"] == pytest.approx(1500.0, abs=5 * row["sd_photons"])
    assert row["sigma_um"] == pytest.approx(0.13, abs=5 * row["sd_sigma_um"])


def test_an_empty_frame_has_no_spots(localizer):
    empty = Frame(0, 0.0, np.zeros(SHAPE, np.uint16), 0.01)
    assert len(localizer(empty).table) == 0
    full = Frame(0, 0.0, np.full(SHAPE, 65535, np.uint16), 0.01)
    assert not np.any(localizer(full).table["status"] == FitStatus.OK)


def test_spots_at_the_edges_stay_inside_their_frame(localizer, rng):
    corners = [(0.2, 0.3, 3000.0), (79.0, 0.0, 3000.0), (0.0, 63.4, 3000.0), (79.4, 63.1, 3000.0)]
    table = localizer(frame_of(scene(corners), rng)).table
    ok = table[table["status"] == FitStatus.OK]
    for x, y, _ in corners:
        distance = np.hypot(ok["x_um"] - x * 0.1, ok["y_um"] - y * 0.1)
        assert distance.min() < 0.05


def test_a_constant_in_frame_and_camera_changes_nothing(rng):
    image = scene([(30.0, 30.0, 800.0), (50.2, 11.6, 500.0)])
    adu = Scmos(2.0, 100.0, 1.0).sample(image, rng)
    tables = [
        Localizer(Scmos(2.0, 100.0 + shift, 1.0), 0.1, 0.13, SHAPE)(
            Frame(0, 0.0, (adu + shift).astype(np.uint16), 0.01)
        ).table
        for shift in (0, 1000)
    ]
    assert len(tables[0]) == 2
    for name in tables[0].dtype.names:
        np.testing.assert_allclose(tables[0][name], tables[1][name], rtol=1e-4, atol=1e-6)


def test_threads_give_the_same_answer_bit_for_bit(localizer, rng):
    spots = [(x, y, 600.0) for x in range(8, 78, 12) for y in range(8, 60, 9)]
    frames = [frame_of(scene(spots), rng, index) for index in range(12)]
    alone = [localizer(frame).table for frame in frames]
    with ThreadPoolExecutor(2) as pool:
        together = [spots.table for spots in pool.map(localizer, frames)]
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_neighbour_within_the_region_does_not_pull(localizer):
    """Two molecules 5 px apart: mean error stays a small part of the precision (200 frames)."""
    rng = np.random.default_rng(3)
    errors = []
    for _ in range(200):
        table = localizer(frame_of(scene([(30.0, 30.0, 800.0), (35.0, 30.5, 800.0)]), rng)).table
        near = np.argmin(np.hypot(table["x_um"] - 3.0, table["y_um"] - 3.0))
        errors.append((table["x_um"][near] - 3.0) / np.sqrt(table["var_x_um2"][near]))
    assert abs(np.mean(errors)) < 0.3
    assert np.std(errors) < 1.25


def test_nothing_is_nan_whatever_comes(localizer):
    rng = np.random.default_rng(5)
    for high in (2, 300, 65536):
        noise = rng.integers(0, high, SHAPE).astype(np.uint16)
        table = localizer(Frame(0, 0.0, noise, 0.01)).table
        for name in table.dtype.names:
            assert np.all(np.isfinite(table[name]))
        ok = table[table["status"] == FitStatus.OK]
        assert np.all(ok["var_x_um2"] > 0)


def test_saturated_regions_say_so(localizer, rng):
    frame = frame_of(scene([(40.0, 30.0, 1500.0)]), rng)
    adu = frame.adu.copy()
    adu[30, 40] = 65535
    table = localizer(frame._replace(adu=adu)).table
    near = np.hypot(table["x_um"] - 4.0, table["y_um"] - 3.0) < 0.3
    assert np.all(table["status"][near] == FitStatus.SATURATED)
    assert fit_rois(np.zeros((1, 9, 9), np.uint16), Ideal(), 1.3)["status"][0] == 5


def test_a_fixed_width_stays_fixed(rng):
    roi = Ideal().sample(scene([(4.2, 3.9, 700.0)], shape=(9, 9)), rng)[None]
    fit = fit_rois(roi, Ideal(), 1.3, fix_sigma=True)[0]
    assert fit["sigma_px"] == 1.3
    assert fit["status"] == FitStatus.OK
    assert fit["covariance"][4, 4] == 0.0


def test_maps_are_taken_per_region(rng):
    offset = np.repeat([100.0, 900.0], 9)[:, None] * np.ones((1, 9))
    camera = Scmos(2.0, offset, 1.0)
    image = scene([(4.2, 3.9, 700.0)], shape=(9, 9))
    rois = camera.sample(np.concatenate([image, image]), rng).reshape(2, 9, 9)
    fits = fit_rois(rois, camera, 1.3)
    np.testing.assert_allclose(fits["photons"], 700.0, atol=200.0)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: fit_rois(np.zeros((2, 9, 8), np.uint16), Ideal(), 1.3), r"rois: found shape"),
        (lambda: fit_rois(np.zeros((2, 9, 9)), Ideal(), 1.3), r"rois: found dtype float64"),
        (lambda: fit_rois(np.zeros((2, 4, 4), np.uint16), Ideal(), 1.3), r"roi_px: 4"),
        (lambda: fit_rois(np.zeros((2, 9, 9), np.uint16), Ideal(), 130.0), r"sigma_px: 130"),
        (
            lambda: fit_rois(np.zeros((2, 9, 9), np.uint16), Ideal(), 1.3, model="airy"),
            r"model: 'airy'; expected 'symmetric'",
        ),
        (
            lambda: fit_rois(np.zeros((2, 9, 9), np.uint16), Ideal(), 1.3, method="em"),
            r"method: 'em'; expected 'mle' or 'map'",
        ),
        (lambda: detect(np.zeros((64, 64)), Ideal(), 1.3), r"frame: found float64"),
        (lambda: detect(np.zeros((6, 6), np.uint16), Ideal(), 1.3), r"frame: found shape"),
        (lambda: Localizer(Ideal(), 0.1, 0.13, SHAPE, roi_px=8), r"roi_px: 8"),
        (lambda: Localizer(Ideal(), 0.1, 0.13, SHAPE, false_per_frame=0), r"false_per_frame: 0"),
        (lambda: Localizer(Ideal(), -0.1, 0.13, SHAPE), r"pixel_um: -0.1"),
    ],
)
def test_what_cannot_be_localized_is_refused_in_one_line(call, message):
    with pytest.raises(LocalizeError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_frame_of_another_shape_or_type_is_refused(localizer):
    with pytest.raises(LocalizeError, match=r"frame 4: found uint16 of shape \(80, 64\)"):
        localizer(Frame(4, 0.0, np.zeros((80, 64), np.uint16), 0.01))
    with pytest.raises(CameraError, match="shape"):
        Localizer(Scmos(np.ones((4, 4)), 0.0, 1.0), 0.1, 0.13, SHAPE)


@pytest.mark.parametrize("model, method", [("symmetric", "map"), ("auto", "map")])
def test_a_run_can_fit_under_priors(model, method, rng):
    """Spots stay where they are, also where the light of one reaches into the other's region."""
    at = np.array([[20.3, 30.2], [25.4, 30.1], [50.0, 12.4]])
    image = 2.0 + sum(psf.spot_image(x, y, 2000.0, 1.3, (64, 64)) for x, y in at)
    camera = Ideal()
    localizer = Localizer(camera, 0.1, 0.13, (64, 64), model=model, method=method)
    frame = Frame(0, 0.0, camera.sample(image, rng), 0.01, 1.0)
    spots = localizer(frame).table
    found = np.stack([spots["x_um"], spots["y_um"]], axis=1)[spots["status"] == FitStatus.OK] / 0.1
    assert len(found) == 3
    nearest = np.abs(found[:, None] - at[None]).max(axis=2).min(axis=1)
    assert np.all(nearest < 0.15)  # 4 s.d. of the crowded ones
    np.testing.assert_array_equal(localizer(frame).table, spots)


def test_fits_under_priors_say_what_they_fitted(rng):
    image = 2.0 + psf.spot_image(4.2, 3.9, 800.0, (2.0, 1.4), (9, 9))
    adu = Ideal().sample(np.stack([image] * 8), rng)
    for model, method in (("asymmetric", "map"), ("asymmetric", "mle"), ("symmetric", "map")):
        fits = fit_rois(adu, Ideal(), 1.3, model=model, method=method)
        oval = model == "asymmetric"
        assert np.all(fits["asymmetric"] == oval)
        product = fits["sigma_major_px"] * fits["sigma_minor_px"]
        np.testing.assert_allclose(product, fits["sigma_px"] ** 2, rtol=1e-9)
        assert np.all((fits["sigma_major_px"] > fits["sigma_minor_px"]) == oval)
        assert np.all((fits["log_prior"] != 0) == (method == "map"))
    fixed = fit_rois(adu, Ideal(), 1.3, method="map", fix_sigma=True)
    assert np.all(fixed["sigma_px"] == 1.3)
    assert np.all(fixed["covariance"][:, 4] == 0)
    assert len(fit_rois(adu[:0], Ideal(), 1.3, model="auto", method="map")) == 0


def test_regions_without_a_spot_get_a_status_under_priors(rng):
    adu = rng.poisson(1.0, (40, 9, 9)).astype(np.uint16)
    for model in ("symmetric", "asymmetric"):
        fits = fit_rois(adu, Ideal(), 1.3, model=model, method="map")
        for name in fits.dtype.names:
            assert np.all(np.isfinite(fits[name]))
        assert np.mean(fits["status"] != FitStatus.OK) > 0.5


@pytest.mark.parametrize("column", [0, 1, 2, 4, "covariance"])
def test_a_fit_that_is_not_a_number_is_never_called_good(column):
    theta = np.array([[4.0, 4.0, 500.0, 5.0, 1.3]])
    covariance = np.diag([1e-3, 1e-3, 400.0, 0.1, 1e-3])[None]
    code, bad = np.zeros(1, np.int64), np.zeros(1, np.bool_)
    bounds = fitting.bounds_of(1.3, 9, fix_sigma=False)
    assert fitting.judge(theta, covariance, code, bad, bounds, 9)[0] == FitStatus.OK
    if column == "covariance":
        covariance[0, 2, 2] = np.nan
    else:
        theta[0, column] = np.nan
    assert fitting.judge(theta, covariance, code, bad, bounds, 9)[0] != FitStatus.OK
