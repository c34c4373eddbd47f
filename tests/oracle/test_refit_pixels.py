"""Refits from pixels against plain twins: dense Gaussians, a dense hidden Markov chain, sums."""

from __future__ import annotations

import math

import numba
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from livespt.camera import Emccd
from livespt.infer import pixelbankkernels as bank
from livespt.infer.pixels import new_film
from livespt.localize.table import PER_Z, table_of
from livespt.localize.table_kernels import look_up, position
from livespt.psf import spot_image
from livespt.refit import berglund, laplacekernels, particlekernels, pathkernels
from livespt.refit import pointmasskernels as grids
from livespt.refit import unscentedkernels as unscented
from livespt.refit.curve import read_curve
from livespt.refit.laplacekernels import Looked

SIDE, SIGMA = 7, 1.01
LIGHT = np.array([400.0, 6.0])
compiled = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="the table takes an hour to fill")


def frames(seed, n, read=0.0):
    """Electrons plus read variance, read variance, origins, times; the molecule steps by .3 px."""
    rng = np.random.default_rng(seed)
    at = 3.0 + np.cumsum(rng.normal(0.0, 0.3, (n, 2)), axis=0)
    origin = rng.integers(-1, 2, (n, 2)).astype(float)
    d = [
        rng.poisson(LIGHT[1] + spot_image(*(p - o), LIGHT[0], SIGMA, (SIDE, SIDE))).ravel()
        for p, o in zip(at, origin, strict=True)
    ]
    v = np.full((n, SIDE**2), read)
    return np.array(d) + read + 1e-6, v, origin, 0.1 * np.arange(n), np.zeros(n)


def test_unscented_filter_and_smoother_are_the_plain_ones():
    """The twin solves with the full covariance of all pixels."""
    looks, n = frames(1, 6, read=1.5), 6
    Q, first = np.array([0.08, 0.12]), np.array([[3.0, 0.25], [3.1, 0.3]])
    space = (np.zeros((2, 3, SIDE)), np.zeros((6, SIDE**2)), np.zeros((5, 5)))
    states, smoothed, square = np.zeros((n, 2, 4)), np.zeros((n, 2, 2)), np.zeros(2)
    unscented.run_filter(looks, Q, first, (np.full(2, SIGMA), LIGHT), states, space)
    unscented.smooth(states, smoothed, square)
    m, P = first[:, 0], np.diag(first[:, 1])
    w = np.array([1 / 3] + [1 / 6] * 4)
    for t in range(n):
        if t:
            P = np.diag(np.diag(P)) + np.diag(Q)
        assert states[t, :, :2] == pytest.approx(np.stack([m, np.diag(P)], 1), rel=1e-7)
        off = np.concatenate([[[0, 0]], np.kron(np.sqrt(3 * P), [[1], [-1]])])
        rates = [
            LIGHT[1] + spot_image(*(p - looks[2][t]), LIGHT[0], SIGMA, (SIDE, SIDE)).ravel()
            for p in m + off
        ]
        T = 2 * np.sqrt(np.array(rates) + 0.375 + 1.5)
        Z = T - w @ T
        gain = (w[:, None] * off).T @ Z @ np.linalg.inv(Z.T @ (w[:, None] * Z) + np.eye(SIDE**2))
        m = m + gain @ (2 * np.sqrt(looks[0][t] + 0.375) - w @ T)
        P = P - gain @ (Z.T @ (w[:, None] * off))
        assert states[t, :, 2:] == pytest.approx(np.stack([m, np.diag(P)], 1), rel=1e-6)


def test_the_m_step_counts_the_cross_term():
    """Against the dense Gaussian of all places: squared steps and smoothed moments."""
    rng, n, Q, R = np.random.default_rng(3), 7, 0.3, 0.5
    z, first = rng.normal(size=n), np.array([0.2, 0.9])
    states = np.zeros((n, 2, 4))
    m, P = first
    for t in range(n):
        P = P + Q if t else P
        k = P / (P + R)
        states[t, :] = [m, P, m + k * (z[t] - m), P * (1 - k)]
        m, P = states[t, 0, 2], states[t, 0, 3]
    smoothed, square = np.zeros((n, 2, 2)), np.zeros(2)
    unscented.smooth(states, smoothed, square)
    cov = first[1] + Q * np.minimum.outer(np.arange(n), np.arange(n))
    gain = cov @ np.linalg.inv(cov + R * np.eye(n))
    mean, after = first[0] + gain @ (z - first[0]), cov - gain @ cov
    assert smoothed[:, 1, 0] == pytest.approx(mean)
    assert smoothed[:, 1, 1] == pytest.approx(np.diag(after))
    steps = np.diff(np.eye(n), axis=0)
    expected = np.sum((steps @ mean) ** 2) + np.trace(steps @ after @ steps.T)
    assert square == pytest.approx([expected, expected])


def test_particles_are_weighed_drawn_and_smoothed_as_plainly():
    """The twin takes the same draws; 25 particles, 4 frames."""
    looks, n, size = frames(5, 4, read=0.5), 4, 25
    rng = np.random.default_rng(6)
    chance = (rng.normal(size=(n, size, 2)), rng.random((n, size)))
    Q, first = np.array([0.1, 0.2]), np.array([[3.0, 0.25], [3.0, 0.25]])
    places, weights = np.empty((n, size, 2)), np.empty((n, size))
    ln = particlekernels.run_filter(
        looks, Q, first, (np.full(2, SIGMA), LIGHT), chance, places, weights
    )
    total, w, at = 0.0, None, None
    for t in range(n):
        if w is None:
            at = first[:, 0] + np.sqrt(first[:, 1]) * chance[0][0]
        else:
            chosen = [int(np.argmax(np.cumsum(w) >= u)) for u in chance[1][t]]
            at = at[chosen] + np.sqrt(Q) * chance[0][t]
        rates = [spot_image(*(p - looks[2][t]), LIGHT[0], SIGMA, (SIDE, SIDE)).ravel() for p in at]
        mu, dark = np.array(rates) + LIGHT[1] + 0.5, LIGHT[1] + 0.5
        lnp = np.sum(looks[0][t] * np.log(mu / dark) - np.array(rates), axis=1)
        total += lnp.max() + math.log(np.mean(np.exp(lnp - lnp.max())))
        w = np.exp(lnp - lnp.max())
        w /= w.sum()
        assert places[t] == pytest.approx(at)
        assert weights[t] == pytest.approx(w, abs=1e-12)
    assert ln == pytest.approx(total)
    after, square = np.empty((n, size)), np.empty(2)
    particlekernels.smooth(places, weights, Q, after, square)
    s, expected = weights[-1], np.zeros(2)
    for t in range(n - 2, -1, -1):
        off2 = (places[t][:, None] - places[t + 1][None]) ** 2
        density = np.exp(-0.5 * (off2 / Q).sum(axis=2))
        pair = weights[t][:, None] * density * (s / (weights[t] @ density))
        expected += np.einsum("ij,ija->a", pair, off2)
        s = pair.sum(axis=1)
        assert after[t] == pytest.approx(s, rel=1e-5, abs=1e-9)
    assert square == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("q", [0.05, 0.49, 0.51, 1.0, 9.0])
def test_a_step_on_the_grid_keeps_its_variance(q):
    weights = np.zeros(40)
    reach = grids.fill_step(q, weights)
    k = np.arange(-reach, reach + 1)
    w = weights[np.abs(k)]
    assert w.sum() == pytest.approx(1.0, abs=2e-4)
    assert w @ k**2 == pytest.approx(q, rel=5e-3)


def test_the_grid_is_a_dense_hidden_markov_chain():
    """Regions move; every node of 2 a pixel in 7 x 7 pixels is a state."""
    n, per_px, size = 4, 2, 2 * SIDE
    looks = frames(8, n, read=0.7)
    shares, maps = np.empty((size, SIDE)), np.empty((n, size, size))
    grids.fill_shares(shares, SIGMA, float(per_px), SIDE, np.empty((3, SIDE)))
    for t in range(n):
        grids.fill_map(looks[0][t], looks[1][t], LIGHT, shares, shares, maps[t])
    nodes = (np.arange(size) + 0.5) / per_px - 0.5
    base = LIGHT[1] + 0.7
    spots = np.array(
        [[spot_image(x, y, LIGHT[0], SIGMA, (SIDE, SIDE)).ravel() for x in nodes] for y in nodes]
    )
    for t in range(n):
        plain = np.sum(looks[0][t] * np.log1p(spots / base) - spots, axis=2)
        assert maps[t] == pytest.approx(plain, abs=0.02)
    tops = np.empty(n)
    grids.to_likelihood(maps, tops)
    shifts = np.diff(looks[2], axis=0, prepend=looks[2][:1]).astype(np.int64) * per_px
    space = (np.zeros((2, 60)), np.zeros(2, np.int64), *np.zeros((2, size, size)))
    alpha, moments = np.empty_like(maps), np.zeros((n, 6))
    D, dt = np.array([3.0, 6.0]), np.full(n, 0.1)
    ln = grids.run(maps, D, dt, shifts, space, alpha)
    grids.smooth(maps, D, dt, shifts, space, alpha, 0.4, moments)
    place = [(y, x) for y in range(size) for x in range(size)]
    yx = np.array(place)
    likelihood = maps.reshape(n, -1)
    forward = [likelihood[0] / size**2]
    moves = []
    for t in range(1, n):
        off = yx[None] + shifts[t][::-1] - yx[:, None]
        q = 2 * D[::-1] * dt[t]
        step = np.exp(-0.5 * (off**2 / q).sum(axis=2)) / (2 * np.pi * np.sqrt(q.prod()))
        step[(np.abs(off) > np.floor(grids.REACH_SDS * np.sqrt(q)) + 1).any(axis=2)] = 0.0
        moves.append(step)
        forward.append((forward[-1] @ step) * likelihood[t])
    assert ln == pytest.approx(math.log(forward[-1].sum()), abs=1e-9)
    behind = np.ones(size**2)
    for t in range(n - 1, -1, -1):
        p = forward[t] * behind
        p /= p.sum()
        mean = p @ yx
        assert moments[t, [2, 1]] / 0.4 == pytest.approx(mean, rel=1e-9)
        assert moments[t, [4, 3]] / 0.4 == pytest.approx(p @ yx**2, rel=1e-9)
        assert moments[t, 5] / 0.4 == pytest.approx(p @ (yx[:, 0] * yx[:, 1]), rel=1e-9)
        if t:
            behind = moves[t - 1] @ (likelihood[t] * behind)


@compiled
def test_a_table_of_an_emccd_gives_the_cameras_likelihood_on_the_grid():
    camera = Emccd(30.0, 2.0, 12.0, 100.0)
    rng = np.random.default_rng(2)
    rate = LIGHT[1] + spot_image(3.2, 2.9, LIGHT[0], SIGMA, (SIDE, SIDE))
    adu = camera.sample(rate, rng)
    shares, out = np.empty((4, SIDE)), np.empty((4, 4))
    grids.fill_shares(shares, SIGMA, 4 / SIDE, SIDE, np.empty((3, SIDE)))
    counts = adu.ravel() - camera.offset_adu
    grids.fill_map_table(counts, LIGHT, table_of(camera), PER_Z, shares, shares, out)
    nodes = (np.arange(4) + 0.5) / (4 / SIDE) - 0.5
    dark = camera.loglik(adu, np.full((SIDE, SIDE), LIGHT[1])).sum()
    for i, y in enumerate(nodes):
        for j, x in enumerate(nodes):
            spot = spot_image(x, y, LIGHT[0], SIGMA, (SIDE, SIDE))
            plain = camera.loglik(adu, LIGHT[1] + spot).sum() - dark
            assert out[i, j] == pytest.approx(plain, abs=0.5, rel=2e-3)


def film_of(looks, light=LIGHT, D=(0.5, 1.0, 2.0)):
    n = len(looks[0])
    film = new_film(SIDE, SIGMA, tuple(light), 0.0, np.array(D), n)
    film.d[:], film.v[:], film.origin[:], film.t_s[:], film.te_s[:] = looks
    return film


@compiled
def test_an_emccds_pixels_keep_score_and_information():
    camera = Emccd(30.0, 2.0, 12.0, 100.0)
    rng = np.random.default_rng(4)
    rate = LIGHT[1] + spot_image(3.2, 2.9, LIGHT[0], SIGMA, (SIDE, SIDE))
    counts = camera.sample(rate, rng).reshape(1, -1) - camera.offset_adu
    film, table = film_of(frames(1, 1)), table_of(camera)
    film.at[0], film.sigmas[:] = (3.0, 3.1), SIGMA
    looked = Looked(counts, table, PER_Z, np.zeros(1), np.zeros(1, np.uint8))
    laplacekernels.retable(film, 0, looked)
    here = LIGHT[1] + spot_image(3.0, 3.1, LIGHT[0], SIGMA, (SIDE, SIDE)).ravel()
    for q in range(SIDE**2):
        score, info = look_up(position(counts[0, q], PER_Z, table), here[q], table)
        mu = here[q] + film.v[0, q]
        assert film.d[0, q] / mu - 1.0 == pytest.approx(score, abs=2e-2)
        assert 1.0 / mu == pytest.approx(info, rel=2e-2)


def test_the_evidence_of_d_is_that_of_the_dense_gaussian():
    """Sites given: the curve over D, with what the bank drops on its way put back."""
    looks, n = frames(7, 6), 6
    film, rng = film_of(looks), np.random.default_rng(1)
    film.sites[:, :, 0] = np.cumsum(rng.normal(size=(n, 2)), axis=0)
    film.sites[:, :, 1] = rng.uniform(0.1, 0.4, (n, 2))
    tops = np.zeros(2)
    laplacekernels.forward(film, n, tops)
    start = film.bank[0, 0, 0, 0]
    for a in range(2):
        for k, D in enumerate(film.D_px2_s):
            steps = np.minimum.outer(looks[3], looks[3])
            S = 2 * D * steps + np.diag(film.sites[:, a, 1]) + bank.UNKNOWN_VAR_PX2
            r = film.sites[:, a, 0] - (start + film.origin[0, a] - film.origin[0, 0])
            ln = -0.5 * (np.linalg.slogdet(S)[1] + r @ np.linalg.solve(S, r))
            assert film.log_weights[a, k] + tops[a] == pytest.approx(ln, abs=1e-3)


def test_the_lights_gradient_is_that_of_the_mean_log_likelihood():
    looks, n = frames(9, 2, read=0.8), 2
    film = film_of(looks)
    film.smoothed[:, :, 0] = 3.0 + film.origin.T
    film.smoothed[:, :, 1] = [[0.04, 0.02], [0.03, 0.05]]
    film.weights[:] = 1.0 / 3
    out = np.empty(5)
    laplacekernels.light_step(film, n, SIGMA, out)

    def mean_ln(light):
        total = 0.0
        for t in range(n):
            sd = np.sqrt(3 * film.smoothed[:, t, 1])
            offs = [(0, 0), (sd[0], 0), (-sd[0], 0), (0, sd[1]), (0, -sd[1])]
            for w, off in zip([1 / 3] + [1 / 6] * 4, offs, strict=True):
                spot = spot_image(3 + off[0], 3 + off[1], light[0], SIGMA, (SIDE, SIDE)).ravel()
                mu = light[1] + spot + 0.8
                total += w * np.sum(looks[0][t] * np.log(mu) - mu)
        return total

    for a, step in enumerate((1e-2, 1e-4)):
        up, down = LIGHT.copy(), LIGHT.copy()
        up[a] += step
        down[a] -= step
        slope = (mean_ln(up) - mean_ln(down)) / (2 * step)
        assert out[a] == pytest.approx(slope, rel=1e-4, abs=1e-3)


def path_ln(theta, d, v, widths):
    """ln p of pixels where the molecule went along the path of theta."""
    s = (np.arange(pathkernels.POINTS) + 0.5) / pathkernels.POINTS
    k = np.arange(1, pathkernels.MODES + 1)[:, None]
    waves = np.vstack([np.ones_like(s), math.sqrt(2) * np.cos(k * np.pi * s)])
    path = theta.reshape(-1, 2).T @ waves
    spots = [spot_image(x, y, LIGHT[0], tuple(widths), (SIDE, SIDE)) for x, y in path.T]
    mu = LIGHT[1] + np.mean(spots, axis=0).ravel() + v
    return float(np.sum(d * np.log(mu) - mu))


def test_a_paths_likelihood_has_the_gradient_it_says():
    looks = frames(11, 1, read=0.6)
    d, v = looks[0][0], looks[1][0]
    rng, widths = np.random.default_rng(3), np.array([1.1, 1.2])
    theta = np.concatenate([[3.1, 2.8], rng.normal(0, 0.4, pathkernels.SIZE - 2)])
    grad, info = np.empty(pathkernels.SIZE), np.empty((pathkernels.SIZE, pathkernels.SIZE))
    space = np.empty((2, pathkernels.POINTS, 3, SIDE))
    ln = pathkernels.curve(d, v, theta, widths, LIGHT, space, grad, info)
    assert ln == pytest.approx(path_ln(theta, d, v, widths), rel=1e-10)
    for r in range(pathkernels.SIZE):
        step = 1e-4 * np.eye(pathkernels.SIZE)[r]
        slope = (path_ln(theta + step, d, v, widths) - path_ln(theta - step, d, v, widths)) / 2e-4
        assert grad[r] == pytest.approx(slope, rel=1e-4, abs=1e-4)
    assert info == pytest.approx(info.T)
    assert np.linalg.eigvalsh(info).min() > -1e-9


def test_a_smeared_frames_site_holds_where_the_mean_was():
    """30 paths that widen the spot's variance to twice: normalised errors near 1 (.6 to 1.6)."""
    rng, V, z2 = np.random.default_rng(12), np.full(2, SIGMA**2), []
    for _ in range(30):
        steps = rng.normal(0, math.sqrt(6 * V[0] / 20), (20, 2))
        path = 3.0 + np.cumsum(steps, axis=0)
        path += rng.uniform(-0.5, 0.5, 2) + 3.0 - path.mean(axis=0)
        truth = path.mean(axis=0)
        spots = [spot_image(x, y, LIGHT[0], SIGMA, (SIDE, SIDE)) for x, y in path]
        d = rng.poisson(LIGHT[1] + np.mean(spots, axis=0)).ravel() + 1e-6
        at, site = np.zeros(2), np.empty((2, 2))
        pathkernels.site_of_path(
            d, np.zeros_like(d), np.array([3.0, 9.0, 3.0, 9.0]), V, (SIGMA, LIGHT), at, site
        )
        z2.append((site[:, 0] - truth) ** 2 / site[:, 1])
    assert 0.6 < np.mean(z2) < 1.6


def test_berglunds_likelihood_is_the_dense_one():
    rng = np.random.default_rng(5)
    t = np.cumsum(rng.choice([0.1, 0.1, 0.2], 9))
    x, D, s2, te = rng.normal(size=9), 0.7, 0.04, 0.08
    n = x.size - 1
    S = np.diag(2 * D * (np.diff(t) - te / 3) + 2 * s2)
    S += (D * te / 3 - s2) * (np.eye(n, k=1) + np.eye(n, k=-1))
    plain = multivariate_normal(np.zeros(n), S).logpdf(np.diff(x))
    assert berglund.log_likelihood(x, t, te, D, s2) == pytest.approx(plain)


def test_the_msds_line_is_the_plain_one():
    """A ramp of .3 um a frame: MSD = (.3 n)^2; lags 1 to 3 of 12."""
    x, lags = 0.3 * np.arange(12.0), np.arange(1, 4)
    slope, offset = np.polyfit(0.1 * lags, (0.3 * lags) ** 2, 1)
    assert berglund.msd_line(x, np.arange(12), 0.1) == pytest.approx((slope / 2, offset))


def test_a_curve_is_read_to_its_top_and_interval():
    """A parabola in ln D: top, s.d. and interval are known."""
    D = np.geomspace(1e-4, 1e2, 72)
    found = read_curve(D, -0.5 * ((np.log(D) - math.log(0.02)) / 0.3) ** 2)
    assert pytest.approx(0.02, rel=2e-3) == found.D
    assert found.sd == pytest.approx(0.3 * 0.02, rel=2e-2)
    assert math.log(found.high / found.low) == pytest.approx(2 * 1.96 * 0.3, rel=3e-2)
    assert found.inside
    assert not read_curve(D, np.log(D)).inside
