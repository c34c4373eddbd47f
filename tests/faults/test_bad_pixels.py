"""Bad pixels, bad maps, bad regions: refused in one line, or fitted with a status; never lost.

`make test-bounds` runs this file with every array index checked.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from livespt import psf
from livespt.camera import CameraError, Emccd, Ideal, Scmos
from livespt.localize import Localizer, detect, fit_rois
from livespt.types import FitStatus, Frame, LivesptError

SHAPE = (48, 64)
CAMERAS = {
    "ideal": Ideal(),
    "scmos": Scmos(2.2, 100.0, 1.6),
    "maps": Scmos(np.full(SHAPE, 2.2), np.full(SHAPE, 100.0), np.full(SHAPE, 1.6)),
    "emccd": Emccd(50.0, 2.0, 10.0, 200.0),
}


#: Localizers by camera and options, each beside its camera, which keeps its id.
MADE = {}


def counts(camera, seed=3, spots=((20.0, 20.0), (40.3, 30.6))):
    rate = np.full(SHAPE, 2.0)
    for x, y in spots:
        rate += psf.spot_image(x, y, 800.0, 1.3, SHAPE)
    return camera.sample(rate, np.random.default_rng(seed))


def localizer(camera, **options):
    """Return a localizer, one for each camera: with maps its thresholds take a second."""
    key = (id(camera), *sorted(options.items()))
    if key not in MADE:
        MADE[key] = camera, Localizer(camera, 0.1, 0.13, SHAPE, **options)
    return MADE[key][1]


def localized(camera, adu, **options):
    """Localize one frame; every number that comes out is finite, variances are not negative."""
    spots = localizer(camera, **options)(Frame(0, 0.0, adu, 0.01))
    for name in spots.table.dtype.names:
        assert np.all(np.isfinite(spots.table[name])), name
    for name in ("var_x_um2", "var_y_um2", "sd_photons"):
        assert np.all(spots.table[name] >= 0)
    return spots.table


def fitted(rois, camera, **options):
    fits = fit_rois(rois, camera, 1.3, **options)
    for name in fits.dtype.names:
        assert np.all(np.isfinite(fits[name])), name
    return fits


def good(table):
    return table["status"] == FitStatus.OK


# --- maps ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key, value, word",
    [
        ("var_e2", np.nan, "var_e2"),
        ("var_e2", -1.0, "var_e2"),
        ("gain_adu_per_e", 0.0, "gain_adu_per_e"),
        ("gain_adu_per_e", -2.2, "gain_adu_per_e"),
        ("gain_adu_per_e", np.nan, "gain_adu_per_e"),
        ("gain_adu_per_e", np.inf, "gain_adu_per_e"),
        ("offset_adu", np.nan, "offset_adu"),
    ],
)
def test_one_bad_number_in_a_map_is_refused_by_name(key, value, word):
    maps = {"gain_adu_per_e": 2.2, "offset_adu": 100.0, "var_e2": 1.6}
    maps = {name: np.full(SHAPE, number) for name, number in maps.items()}
    maps[key][5, 7] = value
    with pytest.raises(CameraError, match=word) as caught:
        Scmos(**maps)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("gain", [0.0, -3.0, np.nan])
def test_an_emccd_without_a_gain_is_refused(gain):
    with pytest.raises(CameraError, match="gain_adu_per_e"):
        Emccd(gain, 2.0, 10.0, 200.0)


def test_pixels_without_read_noise_are_fitted():
    """A variance of zero is Poisson's own camera: counts below the offset have no likelihood."""
    camera = Scmos(np.full(SHAPE, 2.2), np.full(SHAPE, 100.0), np.zeros(SHAPE))
    adu = counts(camera)
    adu[:, ::7] = 90  # below the offset, as no camera without noise reads
    table = localized(camera, adu)
    assert len(table)
    rois = np.full((3, 9, 9), 90, np.uint16)
    rois[1, 4, 4] = 5000
    rois[2] = np.arange(81).reshape(9, 9) + 60
    assert len(fitted(rois, Scmos(2.2, 100.0, 0.0))) == 3


def test_a_pixel_of_enormous_variance_is_as_good_as_masked():
    """A hot pixel right on a molecule, flagged by the calibration: the fit goes on without it."""
    var = np.full(SHAPE, 1.6)
    var[20, 20] = 1e8
    camera = Scmos(np.full(SHAPE, 2.2), np.full(SHAPE, 100.0), var)
    adu = counts(CAMERAS["scmos"])
    adu[20, 20] = 30000
    rois = np.stack([adu[16:25, 16:25]])
    fit = fitted(rois, camera.crop(16, 16, 9, 9))[0]
    assert fit["status"] == FitStatus.OK
    assert np.hypot(fit["x_px"], fit["y_px"]) < 5 * np.sqrt(fit["covariance"][0, 0])
    assert len(localized(camera, adu))


# --- frames ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CAMERAS)
@pytest.mark.parametrize("value", [0, 1, 100, 65534, 65535])
def test_a_frame_of_one_value_has_no_molecules(name, value):
    table = localized(CAMERAS[name], np.full(SHAPE, value, np.uint16))
    assert not np.any(good(table))


@pytest.mark.parametrize("name", CAMERAS)
def test_half_a_frame_saturated_or_dead_spoils_only_itself(name):
    camera = CAMERAS[name]
    clean = localized(camera, counts(camera))
    whole = clean[good(clean)]
    for value in (0, 65535):
        adu = counts(camera)
        adu[:, 52:] = value
        table = localized(camera, adu)
        kept = table[good(table)]
        for x in (2.0, 4.03):
            near = np.abs(kept["x_um"] - x) < 0.1
            before = whole[np.abs(whole["x_um"] - x) < 0.1]
            assert near.any()
            assert np.abs(kept["x_um"][near] - before["x_um"]).min() < 0.02
        assert not np.any(kept["x_um"] > 5.35)


@pytest.mark.parametrize("name", CAMERAS)
def test_checkered_noise_and_lone_pixels_come_back_finite(name):
    rng = np.random.default_rng(9)
    board = np.where(np.indices(SHAPE).sum(0) % 2, 60000, 3).astype(np.uint16)
    lone = np.full(SHAPE, 102, np.uint16)
    lone[24, 32] = 65000
    lone[0, 0] = lone[-1, -1] = 65000
    wild = rng.integers(0, 65536, SHAPE).astype(np.uint16)
    for adu in (board, lone, wild):
        localized(CAMERAS[name], adu)
        detect(adu, CAMERAS[name], 1.3)


@pytest.mark.parametrize("name", CAMERAS)
def test_pairs_too_take_whatever_comes(name):
    """Overlapping spots at the edges, among lone pixels, and noise of all heights."""
    edge = [(0.0, 0.0), (3.0, 0.5), (63.0, 20.0), (60.5, 20.5), (30.0, 47.0), (33.0, 46.0)]
    adu = counts(CAMERAS[name], spots=edge)
    assert len(localized(CAMERAS[name], adu, overlap="pair"))
    rng = np.random.default_rng(10)
    for high in (300, 65536):
        noise = rng.integers(0, high, SHAPE).astype(np.uint16)
        localized(CAMERAS[name], noise, overlap="pair")


@pytest.mark.parametrize("name", CAMERAS)
@pytest.mark.parametrize("roi_px", [5, 9, 15])
def test_molecules_on_the_very_edge_stay_inside_their_arrays(name, roi_px):
    edge = [(0.0, 0.0), (63.0, 0.0), (0.0, 47.0), (63.0, 47.0), (30.0, -0.4), (63.4, 20.0)]
    adu = counts(CAMERAS[name], spots=edge)
    assert len(localized(CAMERAS[name], adu, roi_px=roi_px))


@pytest.mark.parametrize("shape", [(31, 200), (200, 31), (33, 33)])
def test_frames_hardly_larger_than_the_filter(shape):
    rng = np.random.default_rng(1)
    adu = rng.poisson(5.0, shape).astype(np.uint16)
    spots = Localizer(Ideal(), 0.1, 0.13, shape, roi_px=15)(Frame(0, 0.0, adu, 0.01))
    assert np.all(np.isfinite(spots.table["x_um"]))


def test_a_frame_without_pixels_is_refused():
    for shape in ((0, 0), (0, 64), (3, 3)):
        with pytest.raises(LivesptError, match="frame") as caught:
            Localizer(Ideal(), 0.1, 0.13, shape)
        assert "\n" not in str(caught.value)


def test_a_crowd_beyond_all_measure_is_localized():
    """A spot every 4 px: more detections than any experiment has, none outside the arrays."""
    rng = np.random.default_rng(2)
    rate = np.full(SHAPE, 1.0)
    for y in range(2, 48, 4):
        for x in range(2, 64, 4):
            rate += psf.spot_image(x, y, 2000.0, 1.0, SHAPE)
    table = localized(Ideal(), rng.poisson(rate).astype(np.uint16), false_per_frame=20.0)
    assert len(table) > 100


# --- regions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("camera", [Ideal(), Scmos(2.2, 100.0, 1.6), CAMERAS["emccd"]])
def test_no_regions_give_no_fits(camera):
    fits = fitted(np.zeros((0, 9, 9), np.uint16), camera)
    assert fits.shape == (0,)


@pytest.mark.parametrize("camera", [Ideal(), Scmos(2.2, 100.0, 1.6), CAMERAS["emccd"]])
@pytest.mark.parametrize("fix_sigma", [False, True])
@pytest.mark.parametrize("side", [5, 9, 15])
def test_regions_that_say_nothing_say_so(camera, fix_sigma, side):
    """All zero, all full, one bright pixel, a ramp, an edge, noise: finite; two of them are bad."""
    rng = np.random.default_rng(4)
    rois = np.zeros((7, side, side), np.uint16)
    rois[1] = 65535
    rois[2, 0, 0] = 65000
    rois[3] = 200 * np.arange(side)
    rois[4, :, : side // 2] = 40000
    rois[5] = rng.integers(0, 65535, (side, side))
    rois[6, side // 2, side // 2] = 65535
    fits = fitted(rois, camera, fix_sigma=fix_sigma)
    assert np.all(fits["status"][[0, 1, 6]] == FitStatus.SATURATED)


def test_a_saturated_pixel_anywhere_in_the_region_is_seen(rng):
    roi = Ideal().sample(2.0 + psf.spot_image(4, 4, 800.0, 1.3, (9, 9)), rng)
    rois = np.stack([roi] * 81)
    for k in range(81):
        rois[k, k // 9, k % 9] = 65535
    assert np.all(fitted(rois, Ideal())["status"] == FitStatus.SATURATED)


def test_a_camera_of_few_bits_saturates_where_it_says(rng):
    """12 bits clip a bright spot: told of it, the fit says so; the dim one is left alone."""
    rate = np.full(SHAPE, 2.0) + psf.spot_image(20.0, 20.0, 50_000.0, 1.3, SHAPE)
    rate += psf.spot_image(45.0, 30.0, 800.0, 1.3, SHAPE)
    adu = np.minimum(Ideal().sample(rate, rng), 4095).astype(np.uint16)
    told = localized(Ideal(), adu, saturation_adu=4095)
    bright = np.hypot(told["x_um"] - 2.0, told["y_um"] - 2.0) < 0.6
    assert np.all(told["status"][bright] == FitStatus.SATURATED)
    dim = told[np.hypot(told["x_um"] - 4.5, told["y_um"] - 3.0) < 0.1]
    assert dim["status"].tolist() == [FitStatus.OK]
    untold = localized(Ideal(), adu)
    bright = np.hypot(untold["x_um"] - 2.0, untold["y_um"] - 2.0) < 0.6
    assert not np.any(untold["status"][bright] == FitStatus.SATURATED)


@pytest.mark.parametrize("photons", [0.0, 1.0, 20.0])
@pytest.mark.parametrize("camera", [Ideal(), Scmos(2.2, 100.0, 1.6), CAMERAS["emccd"]])
def test_regions_of_hardly_any_light_come_back_with_a_status(camera, photons, rng):
    rate = 0.02 + np.stack([psf.spot_image(4, 4, photons, 1.3, (9, 9))] * 300)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fits = fitted(camera.sample(rate, rng), camera)
    if photons == 0.0:
        assert np.mean(good(fits)) < 0.1
