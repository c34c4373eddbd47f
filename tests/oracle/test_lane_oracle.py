"""The fits side by side, against textbook sums and against the fit of one spot in float64."""

from __future__ import annotations

import math

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livespt import psf
from livespt.camera import Emccd, Ideal, Scmos
from livespt.localize import fit as fitting
from livespt.localize import fit_rois
from livespt.localize import lane_fit_kernels as lane_fits
from livespt.localize import lane_kernels as rows
from livespt.localize import lane_roi_kernels as rois
from livespt.localize import lane_solve_kernels as solving
from livespt.localize.lane_kernels import LANES
from livespt.localize.start import make_start
from livespt.vectors import SINGLES

PLAIN = bool(numba.config.DISABLE_JIT)  # then a load takes seconds: fewer of them
F = np.float32


def row(w, start):
    """Return one number of every spot."""
    return w[int(start) : int(start) + LANES].astype(np.float64)


def load_of(rng, side, camera, most=1e4):
    """Return a load of random spots, its true parameters (5, LANES), counts and rates."""
    middle = 0.5 * (side - 1)
    theta = np.stack(
        [
            rng.uniform(middle - 1, middle + 1, LANES),
            rng.uniform(middle - 1, middle + 1, LANES),
            np.exp(rng.uniform(np.log(100), np.log(most), LANES)),
            rng.uniform(1.0, 20.0, LANES),
            rng.uniform(0.9, 1.6, LANES),
        ]
    )
    rate = np.stack([psf.spot_image(*t[:3], t[4], (side, side)) + t[3] for t in theta.T])
    adu = camera.sample(rate, rng)
    maps = fitting._region_maps(camera, LANES, side)
    table, w = fitting.lane_table_for(camera), fitting.make_lanes()
    for k in range(LANES):
        flat = adu[k].ravel()
        lane_fits.load_region(w, flat, *maps[:, 0], F(table.common))
        lane_fits.deal(w, k, side, 0)
        lane_fits.deal(w, k, side, 1)
        if table.size:
            lane_fits.deal_places(w, k, side, flat, table)
        lane_fits.start_lane(w, k, theta[:, k], -1.0, side, -1.0, side)
    return w, theta, adu, rate


def expected_sums(theta, side, score, info):
    """Return gradient (5,) and information (5, 5) of one spot."""
    slopes = psf.rate_derivatives(tuple(theta), side)
    return (
        np.einsum("aij,ij->a", slopes, score),
        np.einsum("aij,bij,ij->ab", slopes, slopes, info),
    )


def sums_of(w, k):
    """Return gradient (5,) and information (5, 5) that the lanes hold for spot `k`."""
    g, a = solving.information(w, np.uint64(k))
    J = np.zeros((5, 5))
    J[np.triu_indices(5)] = a
    return np.array(g, np.float64), J + np.triu(J, 1).T


def assert_sums(w, k, gradient, information, tolerance):
    g, J = sums_of(w, k)
    sd = np.sqrt(np.diag(information))
    np.testing.assert_allclose(g / sd, gradient / sd, atol=tolerance * 5)
    np.testing.assert_allclose(J / np.outer(sd, sd), information / np.outer(sd, sd), atol=tolerance)


@pytest.mark.parametrize("value", [1e-6, 0.3, 0.7071, 1.0, 1.4143, 5.0, 1e7])
def test_the_logarithm_is_good_to_single_precision(value):
    assert rows.log(F(value)) == pytest.approx(math.log(F(value)), rel=3e-7, abs=1e-7)


@pytest.mark.parametrize("value", [0.0, 1e-3, 0.5, 7.0, 59.9])
def test_the_exponential_is_good_to_single_precision(value):
    assert rows.exp_minus(F(value)) == pytest.approx(math.exp(-F(value)), rel=3e-7)


@pytest.mark.parametrize("side", [5, 9] if PLAIN else [5, 7, 9, 11, 13, 15])
def test_gradient_information_and_likelihood_are_the_textbook_ones(side, rng):
    camera = Scmos(2.0, 100.0, 1.5)
    w, theta, adu, rate = load_of(rng, side, camera)
    rows.begin_shifted_poisson(w)
    lane_fits.pass_poisson(w, LANES, side, F(0.0), True)
    data = np.maximum((adu - 100.0) / 2.0 + 1.5, 1e-6)
    mu = rate + 1.5
    loglik = data * np.log(mu) - mu - np.vectorize(math.lgamma)(data + 1.0)
    for k in range(0, LANES, 7):
        assert_sums(w, k, *expected_sums(theta[:, k], side, data[k] / mu[k] - 1, 1 / mu[k]), 2e-5)
    # its constant is good to .01 where less than one electron came, to .0005 above
    np.testing.assert_allclose(row(w, rows.LOGLIK), loglik.sum((1, 2)), atol=0.1, rtol=1e-5)


@pytest.mark.skipif(PLAIN, reason="the exact sums behind the table take minutes as plain Python")
def test_a_tabled_camera_gives_its_exact_score_and_likelihood(rng):
    camera, side = Emccd(40.0, 2.0, 12.0, 200.0), 7
    w, theta, adu, rate = load_of(rng, side, camera, most=2e3)  # none saturates
    rows.begin_shifted_poisson(w)
    table = fitting.lane_table_for(camera)
    lane_fits.pass_exact(w, LANES, side, table, True)
    score, loglik = camera.score(adu, rate), camera.loglik(adu, rate)
    for k in range(0, LANES, 16):
        gradient, information = expected_sums(theta[:, k], side, score[k], camera.fisher(rate[k]))
        assert_sums(w, k, gradient, information, 4e-3)  # the table's own error
    np.testing.assert_allclose(row(w, rows.LOGLIK), loglik.sum((1, 2)), atol=0.05)
    # followed from the same place, it is the same
    before = np.array([sums_of(w, k)[0] for k in range(LANES)])
    lane_fits.pass_exact(w, LANES, side, table, False)
    after = np.array([sums_of(w, k)[0] for k in range(LANES)])
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-2)


def test_the_last_steps_curvature_has_the_second_derivatives(rng):
    side, camera = 7, Scmos(2.0, 100.0, 1.5)
    w, theta, adu, rate = load_of(rng, side, camera)
    rows.begin_shifted_poisson(w)
    lane_fits.pass_poisson(w, LANES, side, F(0.0), True)
    score = np.maximum((adu - 100.0) / 2.0 + 1.5, 1e-6) / (rate + 1.5) - 1.0
    for k in range(0, LANES, 7):
        h = 1e-4 * theta[:, k] * np.eye(5)
        ahead, back = (
            [psf.rate_derivatives(tuple(theta[:, k] + sign * step), side) for step in h]
            for sign in (1, -1)
        )
        second = (np.array(ahead) - np.array(back)) / (2 * h.diagonal()[:, None, None, None])
        expected = np.triu(np.einsum("baij,ij->ab", second, score[k]))
        _, a = solving.information(w, np.uint64(k))
        ours = np.zeros((5, 5))
        ours[np.triu_indices(5)] = np.array(a) - np.array(solving.observed(w, np.uint64(k), a))
        sd = np.sqrt(np.diag(sums_of(w, k)[1]))
        np.testing.assert_allclose(ours / np.outer(sd, sd), expected / np.outer(sd, sd), atol=2e-5)


def test_a_start_finds_a_bright_spot_and_its_width():
    side, n = 7, 3
    rate = psf.spot_image(3.3, 2.8, 20_000.0, 1.36, (side, side)) + 50.0
    adu = np.tile(np.rint(rate).astype(np.uint16).ravel(), (n, 1))
    w, maps = fitting.make_lanes(), fitting._region_maps(Ideal(), n, side)
    rois.share_maps(w, maps[0, 0], maps[2, 0], side, F(0.0))
    rois.deal_regions(w, adu, np.arange(n))
    rois.load_regions(w, np.arange(n), side, maps[1, 0], maps[2, 0])
    rois.guess_load(w, n, side, F(0.0), make_start(1.3, side, True))
    x, y, photons, bg, width = (row(w, at)[0] for at in (rows.X, rows.Y, rows.N, rows.B, rows.S))
    assert (x, y) == (pytest.approx(3.3, abs=0.05), pytest.approx(2.8, abs=0.05))
    assert photons == pytest.approx(20_000.0, rel=0.05)
    assert bg == pytest.approx(50.0, abs=20.0)
    assert 1.31 < width < 1.36  # on the way to it: moments are not believed wholly


def test_the_covariance_is_the_inverse_and_the_step_the_solution(rng):
    w, theta, *_ = load_of(rng, 9, Ideal())
    rows.begin_shifted_poisson(w)
    lane_fits.pass_poisson(w, LANES, 9, F(0.0), False)
    held = [sums_of(w, k) for k in range(LANES)]
    bounds = tuple(F(v) for v in (0.1, 1e9, 0.005, 1e7, 0.2, 9.0, 1.0))
    solving.fill_covariance(w, F(1.0))
    solving.take_step(w, bounds)
    moved = np.stack([row(w, at) for at in (rows.X, rows.Y, rows.N, rows.B, rows.S)])
    for k, (g, J) in enumerate(held):
        inverse = np.linalg.inv(J)
        sd = np.sqrt(np.diag(inverse))
        ours = np.zeros((5, 5))
        ours[np.tril_indices(5)] = [w[int(at) + k] for at in solving.COV]
        np.testing.assert_allclose(
            np.tril(inverse) / np.outer(sd, sd), ours / np.outer(sd, sd), atol=2e-3
        )
        step = inverse @ g
        assert row(w, rows.DECREMENT)[k] == pytest.approx(g @ step, rel=5e-3, abs=1e-3)
        far = np.array([0.5, 0.5, 0.7, 0.8, 0.3]) * theta[[4, 4, 2, 3, 4], k]
        if np.all(np.abs(step) < far):
            np.testing.assert_allclose((moved[:, k] - theta[:, k]) / sd, step / sd, atol=5e-3)


def test_a_parameter_at_its_bound_is_held_only_while_the_gradient_pushes_out():
    low, high = F(0.0), F(1.0)
    assert solving.free(low, low, high, F(-1.0)) == 0.0
    assert solving.free(low, low, high, F(1.0)) == 1.0
    assert solving.free(high, low, high, F(1.0)) == 0.0
    assert solving.free(F(0.5), low, high, F(-1.0)) == 1.0


@pytest.mark.parametrize("n", [LANES, 5])
def test_counts_dealt_side_by_side_are_those_dealt_one_by_one(rng, n):
    side, camera = 7, Scmos(rng.normal(2.2, 0.1, (7, 7)), rng.normal(100, 2, (7, 7)), 1.5)
    adu = rng.integers(0, 65536, (n, side * side)).astype(np.uint16)
    taken, maps = rng.permutation(n), fitting._region_maps(camera, n, side)
    ours, theirs = fitting.make_lanes(), fitting.make_lanes()
    rois.share_maps(ours, maps[0, 0], maps[2, 0], side, F(0.0))
    rois.deal_regions(ours, adu, taken)
    rois.load_regions(ours, taken, side, maps[1, 0], maps[2, 0])
    for lane in range(LANES):
        lane_fits.load_region(theirs, adu[taken[min(lane, n - 1)]], *maps[:, 0], F(0.0))
        lane_fits.deal(theirs, lane, side, 0)
        lane_fits.deal(theirs, lane, side, 1)
    dealt = -(-n // SINGLES) * SINGLES  # sixteen at a time, the last spot again where none is left
    for line in range(side):
        for k in range(side):
            at = int(rows.PIXELS) + (2 * line * side + k) * LANES
            np.testing.assert_allclose(ours[at:][:dealt], theirs[at:][:dealt], rtol=1e-6)
    of_lane = adu[taken[np.minimum(np.arange(dealt), n - 1)]]
    np.testing.assert_array_equal(row(ours, rows.LOWEST)[:dealt], of_lane.min(axis=1))
    np.testing.assert_array_equal(row(ours, rows.HIGHEST)[:dealt], of_lane.max(axis=1))


def test_lanes_are_judged_as_fits_are(rng):
    """Every reason that `judge` knows, and the lanes that have not arrived."""
    w, theta, *_ = load_of(rng, 9, Ideal())
    theta[4, 3], theta[4, 4], theta[0, 5], theta[1, 6], theta[2, 7] = 0.4, 3.9, -0.6, 8.6, 1.0
    variance = np.full(LANES, 4.0)
    low, high = np.full(LANES, 90.0), np.full(LANES, 900.0)
    high[8], low[9], low[10], high[10] = 65535.0, 900.0, 65535.0, 65535.0
    for start, values in (
        *zip((rows.X, rows.Y, rows.N, rows.B, rows.S), theta, strict=True),
        (solving.COV[5], variance),
        (rows.LOWEST, low),
        (rows.HIGHEST, high),
        (rows.PIVOT, np.ones(LANES)),
    ):
        w[int(start) : int(start) + LANES] = values
    w[int(rows.DECREMENT) + 11], w[int(rows.FOLLOWED) + 12] = 0.1, 2.0
    w[int(rows.PIVOT) + 13], w[int(rows.LOGLIK) + 14] = 1e-7, np.nan
    bounds = fitting.bounds_of(1.3, 9, fix_sigma=False)
    rois.judge_load(w, 9, lane_fits.limits_of(bounds))
    covariance = np.zeros((LANES, 5, 5))
    covariance[:, 2, 2] = variance
    bad = (high == 65535) | (low == high)
    single = theta.T.astype(np.float32).astype(np.float64)
    expected = fitting.judge(single, covariance, np.zeros(LANES, int), bad, bounds, 9)
    arrived = np.array([lane_fits.arrived(w, lane) for lane in range(LANES)])
    assert not arrived[11:15].any()
    assert arrived[:11].all()
    np.testing.assert_array_equal(row(w, rows.STATE), np.where(arrived, expected.astype(int), -1))
    assert len(set(expected)) == 5


def test_a_result_is_laid_out_as_it_is_written():
    at = {name: offset for name, (_, offset, *_) in fitting.FIT_DTYPE.fields.items()}
    numbers = {
        "x_px": rois.X_AT,
        "y_px": rois.Y_AT,
        "photons": rois.N_AT,
        "bg_photons": rois.B_AT,
        "sigma_px": rois.S_AT,
        "covariance": rois.COVARIANCE,
        "loglik": rois.LOGLIK,
        "status": rois.STATUS,
        "sigma_major_px": rois.MAJOR,
        "sigma_minor_px": rois.MINOR,
        "angle_rad": rois.ANGLE,
        "asymmetric": rois.ASYMMETRIC,
        "log_prior": rois.LOG_PRIOR,
    }
    assert at == {name: 8 * int(number) for name, number in numbers.items()}
    assert at["status"] == rois.STATUS_BYTE
    assert fitting.FIT_DTYPE.itemsize == 8 * 37


@pytest.mark.skipif(PLAIN, reason="a load takes seconds as plain Python")
def test_few_regions_and_none_are_fitted_as_many_are(rng):
    camera = Scmos(2.2, 100.0, 1.6)
    rate = psf.spot_image(4.2, 3.9, 800.0, 1.3, (9, 9)) + 5.0
    adu = camera.sample(np.broadcast_to(rate, (130, 9, 9)), rng)
    many = fit_rois(adu, camera, 1.3)
    for n in (0, 1, 10, 65):
        few = fit_rois(adu[:n], camera, 1.3)
        assert len(few) == n
        for name in ("x_px", "sigma_px", "covariance", "status"):
            np.testing.assert_allclose(few[name], many[name][:n], rtol=1e-3, atol=1e-3)
    fixed = fit_rois(adu, camera, 1.3, fix_sigma=True)
    for name in ("sigma_px", "sigma_major_px", "sigma_minor_px"):
        assert np.all(fixed[name] == 1.3)


def reference(adu, camera, sigma_px, fix_sigma=False):
    """Fit every region in float64, one by one."""
    n, side = adu.shape[:2]
    maps = fitting._region_maps(camera, n, side)
    bounds = fitting.bounds_of(sigma_px, side, fix_sigma)
    result = np.zeros(n, fitting.FIT_DTYPE)
    code, bad = np.zeros(n, np.int64), np.zeros(n, np.bool_)
    out = (fitting._theta_of(result), result["covariance"], result["loglik"], code, bad)
    flat = np.ascontiguousarray(adu.reshape(n, -1))
    fitting.fit_one_by_one(flat, maps, camera, sigma_px, bounds, np.arange(n), out)
    return fitting._finished(result, code, bad, bounds, side)


CAMERAS = {
    "ideal": Ideal(),
    "scmos": Scmos(2.2, 100.0, 1.6),
    "emccd": Emccd(30.0, 2.0, 10.0, 200.0),
}


def camera_of(kind, rng, side):
    """Return a camera; "hot" has maps of its own with 3 % hot pixels."""
    if kind != "hot":
        return CAMERAS[kind]
    var = np.where(rng.random((side, side)) < 0.03, 60.0, 1.5)
    return Scmos(rng.normal(2.2, 0.07, (side, side)), rng.normal(100, 2, (side, side)), var)


@pytest.mark.skipif(PLAIN, reason="the fits themselves; their steps are held above")
@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(["ideal", "scmos", "hot", "emccd"]),
    side=st.sampled_from([5, 7, 9, 11, 13, 15]),
    log_photons=st.floats(math.log(50), math.log(1e5)),
    background=st.floats(0.0, 200.0),
    width=st.floats(0.8, 2.0),
    shift=st.floats(0.0, 2.5),
    trouble=st.sampled_from(["none", "none", "neighbour", "saturated"]),
    seed=st.integers(0, 10_000),
)
def test_the_lanes_agree_with_the_fit_of_one_spot_in_float64(
    kind, side, log_photons, background, width, shift, trouble, seed
):
    """Positions to .1 s.d. (the last step, .1 s.d. at most, is taken), s.d. to a tenth."""
    rng = np.random.default_rng(seed)
    camera, middle = camera_of(kind, rng, side), 0.5 * (side - 1)
    photons = math.exp(log_photons)
    if kind == "emccd":
        photons = min(photons, 2e4)  # the converter saturates above
    angle = rng.uniform(0, 2 * math.pi, 24)
    reach = min(shift, middle - 1.0)
    rate = np.stack(
        [
            psf.spot_image(
                middle + reach * np.cos(a), middle + reach * np.sin(a), photons, width, (side,) * 2
            )
            + background
            for a in angle
        ]
    )
    if trouble == "neighbour":
        rate += psf.spot_image(side - 1.0, 0.0, 0.5 * photons, width, (side, side))
    adu = camera.sample(rate, rng)
    if trouble == "saturated":
        adu[::3, side // 2, side // 2] = 65535
    ours, theirs = fit_rois(adu, camera, width), reference(adu, camera, width)
    both = (ours["status"] == 0) & (theirs["status"] == 0)
    if trouble == "saturated":
        assert np.all(ours["status"][::3] == 5)
    sd = np.sqrt(theirs["covariance"][both].reshape(-1, 25)[:, ::6])
    names = ("x_px", "y_px", "photons", "bg_photons", "sigma_px")
    off = np.stack([ours[name][both] - theirs[name][both] for name in names], axis=1) / sd
    # two tops of one likelihood, or a flat one: a few may end apart, but then none is worse
    apart = np.abs(off).max(axis=1, initial=0.0) > 0.3
    worse = ours["loglik"][both] < theirs["loglik"][both] - 0.5
    assert np.count_nonzero(apart & worse) <= 1
    assert np.count_nonzero(apart) <= 3
    assert not both.any() or np.median(np.abs(off), axis=0).max() < 0.1
    assert np.count_nonzero(ours["status"] != theirs["status"]) <= 4
    assert np.isfinite(ours["covariance"]).all()
