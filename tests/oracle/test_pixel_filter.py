"""The pixel filter's kernels against plain twins: dense Gaussians, dense sums, a plain search."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from livespt.camera import Ideal, Scmos
from livespt.infer import PixelFilter, PixelFilterError, pixelbankkernels, pixelkernels
from livespt.infer.pixels import new_film
from livespt.psf import spot_image

SIDE, SIGMA = 9, 1.01
FLAT = np.zeros(SIDE * SIDE)


def film_of(photons=60.0, bg=5.0, D_px2_s=(1.0,)):
    return new_film(SIDE, SIGMA, (photons, bg), 0.0, np.array(D_px2_s))


def log_post(place, d, cavity, photons, bg):
    mu = bg + spot_image(place[0], place[1], photons, SIGMA, (SIDE, SIDE))
    prior = (place[0] - cavity[0]) ** 2 / cavity[1] + (place[1] - cavity[2]) ** 2 / cavity[3]
    return float(np.sum(d.reshape(SIDE, SIDE) * np.log(mu) - mu) - 0.5 * prior)


def counts(seed, photons, bg, at=(4.3, 3.6)):
    rng = np.random.default_rng(seed)
    return rng.poisson(bg + spot_image(*at, photons, SIGMA, (SIDE, SIDE))).astype(float).ravel()


@pytest.mark.parametrize("seed", range(4))
def test_a_site_at_the_mode_has_the_modes_place_and_slope(seed):
    """site times cavity is greatest where the posterior is."""
    film, d = film_of(600.0), counts(seed, 600.0, 5.0) + 1e-6
    cavity = np.array([4.0, 0.3, 4.0, 0.2])
    at = np.array([4.0, 4.0])
    pixelkernels.site_at_mode(
        d, FLAT, cavity, np.full(2, SIGMA), film.light, at, film.profiles, film.slopes, film.site
    )
    plain = minimize(
        lambda p: -log_post(p, d, cavity, 600.0, 5.0),
        [4.0, 4.0],
        method="Nelder-Mead",
        options={"xatol": 1e-6, "fatol": 1e-9},
    )
    assert at == pytest.approx(plain.x, abs=2e-3)
    for a in range(2):
        z, var = film.site[a]
        both = (z / var + cavity[2 * a] / cavity[2 * a + 1]) / (1 / var + 1 / cavity[2 * a + 1])
        assert both == pytest.approx(plain.x[a], abs=4e-3)


@pytest.mark.parametrize("seed", range(4))
def test_a_site_by_moments_gives_back_the_exact_mean_and_variance(seed):
    film, d = film_of(), counts(seed, 60.0, 5.0)
    cavity = np.array([4.5, 1.5, 3.5, 2.0])
    at = np.zeros(2)
    pixelkernels.site_by_moments(
        d, cavity, film.light, film.templates, film.inside, film.grid, at, film.moments, film.site
    )
    line = np.arange(0, SIDE - 0.9, 0.5)
    ln = np.array([[log_post((x, y), d, cavity, 60.0, 5.0) for x in line] for y in line])
    p = np.exp(ln - ln.max())
    p /= p.sum()
    for a, weights in enumerate((p.sum(axis=0), p.sum(axis=1))):
        mean = weights @ line
        var = weights @ (line - mean) ** 2
        assert film.moments[a] == pytest.approx([mean, var], rel=1e-3)
        z, R = film.site[a]
        total = 1 / R + 1 / cavity[2 * a + 1]
        assert 1 / total == pytest.approx(var, rel=2e-3)
        assert (z / R + cavity[2 * a] / cavity[2 * a + 1]) / total == pytest.approx(mean, rel=2e-3)


def test_the_search_finds_the_best_pixel():
    film, d = film_of(300.0), counts(3, 300.0, 5.0, at=(6.2, 2.1))
    at, wide = np.zeros(2), np.array([-30.0, 400.0, 40.0, 400.0])
    pixelkernels.search(d, wide, film.light, film.templates, film.inside, at)
    plain = max(
        ((x, y) for x in range(SIDE) for y in range(SIDE)),
        key=lambda p: log_post(p, d, wide, 300.0, 5.0),
    )
    assert tuple(at) == plain == (6, 2)


def test_an_unscented_site_is_the_dense_unscented_update():
    film, d = film_of(300.0), counts(5, 300.0, 5.0)
    cavity, at = np.array([4.1, 0.2, 3.8, 0.3]), np.zeros(2)
    pixelkernels.site_unscented(
        d, FLAT, cavity, np.full(2, SIGMA), film.light, at, film.profiles, film.points, film.work,
        film.site,
    )  # fmt: skip
    P = np.diag(cavity[1::2])
    offsets = np.concatenate([[[0, 0]], np.kron(np.sqrt(3 * P), [[1], [-1]])])
    places = cavity[::2] + offsets
    w = np.array([1 / 3] + [1 / 6] * 4)
    images = [spot_image(*p, 300.0, SIGMA, (SIDE, SIDE)).ravel() for p in places]
    T = 2 * np.sqrt(5.0 + np.array(images) + 0.375)
    mean = w @ T
    Z = T - mean
    gain = (w[:, None] * offsets).T @ Z @ np.linalg.inv((w[:, None] * Z).T @ Z + np.eye(d.size))
    m = cavity[::2] + gain @ (2 * np.sqrt(d + 0.375) - mean)
    V = P - gain @ ((w[:, None] * Z).T @ Z + np.eye(d.size)) @ gain.T
    assert at == pytest.approx(m, abs=1e-8)
    for a in range(2):
        info = 1 / film.site[a, 1] + 1 / cavity[2 * a + 1]
        assert 1 / info == pytest.approx(V[a, a], rel=1e-8)


def dense(t_s, te_s, z, var, D):
    """Mean and variance of every exposure's mean given all sites, and the sites' evidence.

    The path is sampled at 40 points an interval; Brownian covariances 2 D min(s, t) do the rest.
    """
    n, fine = len(t_s), 200
    rows, times = [], []
    for t, te in zip(t_s, te_s, strict=True):
        points = t + te * (np.arange(fine) + 0.5) / fine
        rows.append(slice(len(times) * fine, (len(times) + 1) * fine))
        times.append(points)
    every = np.concatenate(times)
    mean = np.zeros((n, every.size))
    for i, row in enumerate(rows):
        mean[i, row] = 1 / fine
    cov = (
        mean @ (2 * D * np.minimum.outer(every, every)) @ mean.T + 1e4
    )  # nearly nothing is known of the start
    S = cov + np.diag(var)
    gain = cov @ np.linalg.inv(S)
    ln = -0.5 * (np.linalg.slogdet(S)[1] + z @ np.linalg.solve(S, z))
    return gain @ z, np.diag(cov - gain @ cov), ln


def test_bank_and_smoother_are_those_of_the_dense_gaussian():
    """Real times, gaps, changing exposures; means over 200 points stand for the integrals."""
    rng = np.random.default_rng(9)
    D = np.array([0.3, 2.0])
    film = film_of(D_px2_s=D)
    t_s = np.cumsum(rng.choice([0.1, 0.1, 0.3], 8))
    te_s, n = rng.uniform(0.01, 0.09, 8), 8
    film.t_s[:n], film.te_s[:n] = t_s, te_s
    film.sites[:n, :, 0] = np.cumsum(rng.normal(size=(n, 2)), axis=0)
    film.sites[:n, :, 1] = rng.uniform(0.05, 0.4, (n, 2))
    pixelbankkernels.begin(film)
    for t in range(n):
        pixelbankkernels.weigh(film, t)
        if t < n - 1:
            pixelbankkernels.advance(film, t)
    for a in range(2):
        found = [dense(t_s, te_s, film.sites[:n, a, 0] - 4.0, film.sites[:n, a, 1], d) for d in D]
        ln = np.array([f[2] for f in found])
        assert np.diff(film.log_weights[a]) == pytest.approx(np.diff(ln), abs=1e-3)
    pixelbankkernels.smooth(film, 0, n - 1, False)
    for a in range(2):
        found = [dense(t_s, te_s, film.sites[:n, a, 0] - 4.0, film.sites[:n, a, 1], d) for d in D]
        ln = film.log_weights[a]
        w = np.exp(ln - ln.max())
        w = np.where(w / w.sum() >= pixelbankkernels.LEAST_WEIGHT, w, 0.0)
        w /= w.sum()
        mean = sum(p * f[0] for p, f in zip(w, found, strict=True))
        square = sum(p * (f[1] + f[0] ** 2) for p, f in zip(w, found, strict=True))
        assert film.smoothed[a, :n, 0] == pytest.approx(mean + 4.0, abs=2e-3)
        assert film.smoothed[a, :n, 1] == pytest.approx(square - mean**2, rel=2e-3, abs=1e-4)


def test_a_cavity_is_what_the_other_sites_say():
    film, n = film_of(D_px2_s=[1.0]), 6
    rng = np.random.default_rng(2)
    film.t_s[:n] = 0.1 * np.arange(1, n + 1)
    film.te_s[:n] = 0.05
    film.sites[:n, :, 0] = rng.normal(size=(n, 2))
    film.sites[:n, :, 1] = 0.2
    pixelbankkernels.begin(film)
    for t in range(n):
        pixelbankkernels.weigh(film, t)
        if t < n - 1:
            pixelbankkernels.advance(film, t)
    pixelbankkernels.smooth(film, 0, n - 1, True)
    z, var = film.sites[:n, 0, 0] - 4.0, film.sites[:n, 0, 1].copy()
    var[2] = 1e9  # all but this one
    mean, v, _ = dense(film.t_s[:n], film.te_s[:n], z, var, 1.0)
    assert film.smoothed[0, 2] == pytest.approx([mean[2] + 4.0, v[2]], rel=2e-3)


def test_sites_do_not_depend_on_the_cameras_gain():
    """Counts of a camera of gain 2 and offset 100 say what the electrons say."""
    rng = np.random.default_rng(4)
    rate = 10.0 + spot_image(4.2, 3.9, 600.0, SIGMA, (SIDE, SIDE))
    n = rng.poisson(rate).astype(np.uint16)
    plain = PixelFilter(Ideal(), 0.1, 0.1, 600.0, 10.0)
    other = PixelFilter(Scmos(2.0, 100.0, 1e-9), 0.1, 0.1, 600.0, 10.0)
    first = plain.step(n, (3, 4), 0.0, 0.01)
    second = other.step((2 * n + 100).astype(np.uint16), (3, 4), 0.0, 0.01)
    assert second.x_um == pytest.approx(first.x_um, abs=1e-7)
    assert first.x_um == pytest.approx([0.72, 0.79], abs=0.03)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"photons": 0.0}, "photons: 0.0; expected a number > 0"),
        ({"side": 8}, "side: 8; expected an odd number"),
        ({"method": "kalman"}, "method: 'kalman'"),
        ({"method": "unscented"}, "needs D_um2_s"),
    ],
)
def test_bad_settings_are_named(change, expected):
    given = {
        "camera": Ideal(),
        "sigma_um": 0.1,
        "pixel_um": 0.1,
        "photons": 60.0,
        "bg_photons": 1.0,
    }
    with pytest.raises(PixelFilterError, match=expected):
        PixelFilter(**(given | change))


def test_bad_frames_are_named_and_lose_nothing():
    follow = PixelFilter(Ideal(), 0.1, 0.1, 600.0, 10.0)
    good = counts(1, 600.0, 10.0).reshape(SIDE, SIDE).astype(np.uint16)
    before = follow.step(good, (0, 0), 0.0, 0.01)
    for adu, t_s, expected in (
        (good[:5], 0.1, "found uint16 \\(5, 9\\)"),
        (good.astype(float), 0.1, "found float64"),
        (good, 0.0, "expected a time after 0.0"),
    ):
        with pytest.raises(PixelFilterError, match=expected):
            follow.step(adu, (0, 0), t_s, 0.01)
    assert follow.latest()[0][-1] == pytest.approx(before.x_um)


@pytest.mark.parametrize("method", ["ukf", "unscented"])
@pytest.mark.parametrize("adu", [0, 100, 65535])
def test_regions_of_one_value_come_back_finite(method, adu):
    follow = PixelFilter(
        Scmos(2.2, 100.0, 1.5), 0.1, 0.1, 20.0, 3.0, method=method,
        D_um2_s=0.1 if method == "unscented" else None,
    )  # fmt: skip
    for n in range(30):
        said = follow.step(np.full((SIDE, SIDE), adu, np.uint16), (50 * n, 0), 0.1 * n, 0.01)
    assert all(np.isfinite(part).all() for part in said)
    assert (said.var_um2 > 0).all()
