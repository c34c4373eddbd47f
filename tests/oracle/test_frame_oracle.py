"""From the frame to the lanes and from fits to rows, against plain NumPy."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from livespt import psf
from livespt.camera import Emccd, Scmos, electron_maps
from livespt.localize import Localizer, frame_kernels
from livespt.localize import fit as fitting
from livespt.localize import frame_table_kernels as tables
from livespt.localize import lane_kernels as rows
from livespt.localize.frame_kernels import Fits
from livespt.localize.lane_kernels import LANES
from livespt.localize.localizer import make_fits, make_space
from livespt.types import SPOT_DTYPE, FitStatus, Frame

PLAIN = bool(numba.config.DISABLE_JIT)  # then a load takes seconds: fewer of them
SHAPE, SIGMA = (40, 52), 1.3
#: x and y: a corner each, one alone, two neighbours
AT = np.array([[0.2, 0.1], [51.0, 1.2], [30.3, 20.4], [9.5, 24.0], [13.6, 26.2], [50.9, 39.0]])


def cameras(rng):
    """One number for all pixels, a map, and a table."""
    maps = Scmos(rng.normal(2, 0.1, SHAPE), rng.normal(100, 2, SHAPE), rng.uniform(1, 3, SHAPE))
    return {"sCMOS": Scmos(2.0, 100.0, 1.5), "maps": maps, "EMCCD": Emccd(20.0, 2.0, 8.0, 150.0)}


def filled(camera, adu, side, theta):
    """Fill the lanes from a frame; return the localizer, the work space and the fits begun."""
    localizer = Localizer(camera, 0.1, 0.1 * SIGMA, SHAPE, roi_px=side)
    adu = adu.copy()
    adu.flags.writeable = False
    out, space = make_fits(len(theta)), make_space(side, 100)
    found = theta.copy()
    frame_kernels.begin(found, localizer._bounds, side, SHAPE, out)
    frame_kernels.fill_load(
        adu,
        found,
        localizer._lane_maps,
        fitting.lane_table_for(camera),
        side,
        np.arange(len(theta)),
        space.lanes,
        space.cuts,
        out,
    )
    return localizer, space, out


@pytest.mark.parametrize("side", [5] if PLAIN else [5, 9, 15])
@pytest.mark.parametrize("name", ["sCMOS", "maps"] + ["EMCCD"] * (not PLAIN))  # its table: minutes
def test_lanes_hold_the_regions_of_the_frame(name, side, rng):
    camera = cameras(rng)[name]
    theta = np.column_stack([AT, rng.uniform(200, 900, 6), np.full(6, 5.0), np.full(6, SIGMA)])
    lit = sum(psf.spot_image(*t[:3], SIGMA, SHAPE) for t in theta)
    adu = camera.sample(5.0 + lit, rng)
    _, space, out = filled(camera, adu, side, theta)
    w = space.lanes.astype(np.float64)
    gain, offset, var = (np.broadcast_to(m, SHAPE) for m in electron_maps(camera))
    common = fitting.lane_table_for(camera).common
    for lane in range(LANES):
        k = min(lane, 5)  # idle lanes repeat the last spot
        y0, x0 = out.origin[k]
        part = (slice(y0, y0 + side), slice(x0, x0 + side))
        assert 0 <= y0 <= SHAPE[0] - side
        assert 0 <= x0 <= SHAPE[1] - side
        electrons = ((adu - offset) / gain + var)[part]
        known = var[part] - common
        near = [np.all(np.abs(t[:2] - (x0 + side // 2, y0 + side // 2)) < side / 2 + 4 * SIGMA)
                for t in theta]  # fmt: skip
        near[k] = False
        for other in np.flatnonzero(near):
            known = known + psf.spot_image(*theta[other, :3], SIGMA, SHAPE)[part]
        pixels = w[int(rows.PIXELS) + lane :: LANES][: 2 * side * side].reshape(side, 2, side)
        np.testing.assert_allclose(pixels[:, 0], np.maximum(electrons, 1e-6), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(pixels[:, 1], known, rtol=1e-5, atol=5e-4)
        assert out.crowded[k] == any(near)
        assert not out.bad[k]
        if name == "EMCCD":
            place = w[int(rows.PLACE) + lane :: LANES][: side * side].reshape(side, side)
            np.testing.assert_array_equal(place, fitting.lane_table_for(camera).place[adu[part]])
        at = w[int(rows.X) + lane], w[int(rows.Y) + lane]
        np.testing.assert_allclose(at, theta[k, :2] - (x0, y0), rtol=1e-6)
    assert out.crowded.tolist() == [False, False, False, True, True, False]


def test_regions_not_to_be_trusted_are_told(rng):
    adu = rng.integers(100, 120, SHAPE).astype(np.uint16)
    adu[20, 34] = 65535  # the last column of the third spot's region
    adu[0, 9] = 65535  # beside that of the first: read, but not of the region
    adu[31:, 43:] = 0  # a dead corner
    theta = np.column_stack([AT, np.full((6, 3), (300.0, 5.0, SIGMA))])
    _, _, out = filled(Scmos(2.0, 100.0, 1.5), adu, 9, theta)
    assert out.bad.tolist() == [False, False, True, False, False, True]


@pytest.mark.skipif(PLAIN, reason="loads of 64 take minutes as plain Python")
def test_who_shares_a_load_does_not_matter(rng):
    """Spots alone fill up the loads of crowded ones: each comes out as it does in their absence."""
    shape, camera = (200, 200), Scmos(2.0, 100.0, 1.5)
    grid = np.stack(np.meshgrid(np.arange(12.0, 190, 24), np.arange(12.0, 190, 24)), -1)
    alone = grid.reshape(-1, 2) + rng.uniform(-0.5, 0.5, (64, 2))
    pairs = alone[::3] + rng.uniform(4.0, 6.0, (22, 2))
    rate = np.full(shape, 5.0)
    for x, y in np.concatenate([alone, pairs]):
        rate += psf.spot_image(x, y, 800.0, SIGMA, shape)
    adu = camera.sample(rate, rng)
    localizer = Localizer(camera, 0.1, 0.1 * SIGMA, shape)
    together = localizer(Frame(0, 0.0, adu, 0.01)).table
    left, right = adu.copy(), adu.copy()
    left[:, 102:] = right[:, :98] = 110  # half of the frame without a spot
    halves = [localizer(Frame(0, 0.0, half, 0.01)).table for half in (left, right)]
    compared = 0
    for row in together[together["status"] == FitStatus.OK]:
        half = halves[int(row["x_um"] > 10.0)]
        if abs(row["x_um"] - 10.0) < 1.0:
            continue
        distance = np.hypot(half["x_um"] - row["x_um"], half["y_um"] - row["y_um"])
        assert distance.min() < 0.1 * np.sqrt(row["var_x_um2"])
        compared += 1
    assert compared > 60


def test_rows_hold_what_the_fits_say(rng):
    n, unit = 7, 0.1
    theta = rng.uniform(1.0, 50.0, (n, 5))
    root = rng.normal(size=(n, 5, 5))
    covariance, loglik = root @ root.transpose(0, 2, 1), rng.normal(size=n)
    theta[2, 1], covariance[3, 2, 2], loglik[4] = np.nan, -1.0, -np.inf
    table = np.zeros(n, SPOT_DTYPE)
    steps = (SPOT_DTYPE.itemsize, 8)
    numbers = np.ndarray((n, tables.NUMBERS), np.float64, table, 0, steps)
    tables.fill_rows(theta, covariance, loglik, unit, numbers)
    sd = np.sqrt(np.maximum(np.diagonal(covariance, axis1=1, axis2=2), 0.0))
    expected = {
        "x_um": theta[:, 0] * unit,
        "y_um": theta[:, 1] * unit,
        "var_x_um2": covariance[:, 0, 0] * unit**2,
        "var_y_um2": covariance[:, 1, 1] * unit**2,
        "cov_xy_um2": covariance[:, 0, 1] * unit**2,
        "photons": theta[:, 2],
        "bg_photons": theta[:, 3],
        "sigma_um": theta[:, 4] * unit,
        "sd_photons": sd[:, 2],
        "sd_bg_photons": sd[:, 3],
        "sd_sigma_um": sd[:, 4] * unit,
        "loglik": loglik,
    }
    assert list(expected) == list(SPOT_DTYPE.names or ())[: tables.NUMBERS]
    for name, values in expected.items():
        values = np.where(np.isfinite(values), values, 0.0)
        np.testing.assert_allclose(table[name], values, rtol=1e-12, err_msg=name)
    assert not table["false_um2"].any()
    assert not table["status"].any()


def test_the_dimmer_of_two_fits_of_one_spot_is_marked(rng):
    theta = np.zeros((60, 5))
    theta[:, :2], theta[:, 2] = rng.uniform(0, 15, (60, 2)), rng.uniform(100, 900, 60)
    status = np.where(rng.random(60) < 0.2, FitStatus.DIM, FitStatus.OK).astype(np.uint8)
    expected = status.copy()
    for one in range(60):
        for other in range(60):
            near = np.all(np.abs(theta[one, :2] - theta[other, :2]) < 1.0)
            if near and theta[one, 2] < theta[other, 2] and status[one] == FitStatus.OK:
                expected[one] = FitStatus.OUT_OF_REGION
    tables.mark_repeated(theta, np.argsort(theta[:, 1], kind="stable"), 1.0, status)
    np.testing.assert_array_equal(status, expected)
    assert 5 < np.sum(status == FitStatus.OUT_OF_REGION) < 50


def test_a_frames_table_is_its_fits_judged_and_its_repeats_marked(rng):
    """Against the same done in steps: of fits out of order, some of them no number."""
    n, side, unit = 60, 9, 0.1
    fits = Fits(
        rng.uniform(0.0, 15.0, (n, 5)), rng.uniform(0.1, 1.0, (n, 5, 5)), rng.normal(size=n),
        (rng.random(n) < 0.2).astype(np.int64), rng.random(n) < 0.1,
        rng.integers(0, 7, (n, 2)), np.zeros(n, np.bool_),
    )  # fmt: skip
    theta, bounds = fits.theta, fitting.bounds_of(SIGMA, side, fix_sigma=False)
    theta[:, 2], theta[:, 4], theta[5, 1] = rng.uniform(1.0, 900.0, n), 1.5, np.nan
    room, status = (np.empty((n, 5)), np.empty(n, np.int64)), np.zeros(n, np.uint8)
    table, expected = np.zeros((n, tables.NUMBERS)), np.zeros((n, tables.NUMBERS))
    lengths = (1.0, unit)
    tables.fill_table(tuple(fits), bounds, side, fitting.MEANINGS, lengths, room, table, status)
    local = theta.copy()
    local[:, :2] -= fits.origin[:, ::-1]
    judged = fitting.judge(local, fits.covariance, fits.code, fits.bad, bounds, side)
    before = judged.copy()
    tables.mark_repeated(theta, np.argsort(theta[:, 1], kind="stable"), 1.0, judged)
    assert (judged != before).any()
    np.testing.assert_array_equal(status, judged)
    tables.fill_rows(theta, fits.covariance, fits.loglik, unit, expected)
    np.testing.assert_array_equal(table, expected)
