"""The posterior's fits against a plain search over the exact camera and a brute-force spot."""

from __future__ import annotations

import math

import numba
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import gammaln

from livespt.camera import Emccd, Ideal, Scmos
from livespt.localize import algebra_kernels as algebra
from livespt.localize import fit_rois, moment_kernels, newton_kernels, posterior, spread_kernels
from livespt.localize import oval_kernels as oval
from livespt.localize import oval_sum_kernels as oval_sums
from livespt.localize.moments import moments_of

SIDE, SIGMA0 = 9, 95.85 / 80.0
ALGEBRA_ROWS = ("HESSIAN", "GRAD", "FREE", "STEP", "INVERSE")
compiled = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="the table takes an hour to fill")
CAMERAS = {
    "ideal": Ideal(),
    "scmos": Scmos(2.2, 100.0, 1.6),
    "emccd": Emccd(50.0, 2.0, 10.0, 100.0),
}


def brute_spot(x, y, photons, widths, angle, side=SIDE, per_px=16):
    """A turned Gaussian, each pixel the mean of per_px^2 Gauss-Legendre points."""
    nodes, weights = np.polynomial.legendre.leggauss(per_px)
    at = (np.arange(side)[:, None] + 0.5 * nodes).ravel()
    dx, dy = at[None, :] - x, at[:, None] - y
    d1 = math.cos(angle) * dx + math.sin(angle) * dy
    d2 = math.cos(angle) * dy - math.sin(angle) * dx
    g = np.exp(-0.5 * ((d1 / widths[0]) ** 2 + (d2 / widths[1]) ** 2))
    g *= photons / (2.0 * math.pi * widths[0] * widths[1])
    cells = g.reshape(side, per_px, side, per_px)
    return np.einsum("iajb,a,b->ij", cells, weights / 2, weights / 2)


def naive_loglik(camera, adu, rate):
    """The likelihood that the fit is to have: exact, or Huang's for sCMOS."""
    if not isinstance(camera, Scmos):
        return float(np.sum(camera.loglik(adu, rate)))
    var = float(camera.var_e2)
    seen = (adu - float(camera.offset_adu)) / float(camera.gain_adu_per_e)
    data = np.maximum(seen + var, 1e-6)
    return float(np.sum(data * np.log(rate + var) - rate - var - gammaln(data + 1)))


def naive_objective(p, camera, adu, model, method, b0):
    """ln posterior in (x, y, ln N, ln b, u...), or ln L with u the log width over sigma0."""
    prior, offset = method == "map", 1.0 if method == "map" else 0.0
    widths = SIGMA0 * (offset + np.exp(np.array([p[4], p[5] if model == "asymmetric" else p[4]])))
    angle = p[6] if model == "asymmetric" else 0.0
    rate = math.exp(p[3]) + brute_spot(p[0], p[1], math.exp(p[2]), widths, angle)
    total = naive_loglik(camera, adu, rate)
    if prior:
        variance = math.log(30.0) ** 2
        total -= 0.5 * (p[3] - math.log(b0)) ** 2 / variance
        total -= 0.5 * math.log(2 * math.pi * variance)
        s0 = 0.5 if model == "asymmetric" else 1.0
        us = p[4:6] if model == "asymmetric" else p[4:5]
        total += sum(-math.log(s0) + u - math.exp(u) / s0 for u in us)
    return total


def naive_hessian(f, p, steps):
    n = len(p)
    H = np.zeros((n, n))
    for a in range(n):
        for b in range(a + 1):
            e = np.zeros((2, n))
            e[0, a], e[1, b] = steps[a], steps[b]
            corners = [f(p + i * e[0] + j * e[1]) * i * j for i in (1, -1) for j in (1, -1)]
            H[a, b] = H[b, a] = sum(corners) / (4 * steps[a] * steps[b])
    return H


def third_derivatives(spot, angle, h=0.1):
    """d^3/dx1^3, d^3/dx1^2 dx2, ... of a spot that was moved, along its own axes; (4, P, P)."""
    e1 = np.array([math.cos(angle), math.sin(angle)])
    e2 = np.array([-e1[1], e1[0]])

    def along(i, j):
        return spot(*(h * (i * e1 + j * e2)))

    def straight(i, j):
        """The third difference along one axis."""
        return 0.5 * (along(2 * i, 2 * j) - 2 * along(i, j) + 2 * along(-i, -j)) - 0.5 * along(
            -2 * i, -2 * j
        )

    def across(i, j):
        """The first difference along (j, i) of the second along (i, j)."""
        ends = [
            along(i + s * j, j + s * i) - 2 * along(s * j, s * i) + along(s * j - i, s * i - j)
            for s in (1, -1)
        ]
        return 0.5 * (ends[0] - ends[1])

    found = [straight(1, 0), across(1, 0), across(0, 1), straight(0, 1)]
    return np.stack(found) / h**3


def naive_skewness(camera, adu, p, covariance):
    """What the third moments of the path add to the covariance of (x, y): brute force."""
    widths = SIGMA0 * (1.0 + np.exp(p[4:6]))
    v1, v2 = widths**2 - SIGMA0**2
    squares = np.array(spread_kernels.SKEW_SHARES) * [v1**3, v1**2 * v2, v1 * v2**2, v2**3]
    sd = np.sqrt(squares) / [6.0, 2.0, 2.0, 6.0]

    def loglik(at, skew):
        def spot(dx, dy):
            return brute_spot(at[0] + dx, at[1] + dy, math.exp(p[2]), widths, p[6])

        bent = np.tensordot(skew * sd, third_derivatives(spot, p[6]), 1)
        return naive_loglik(camera, adu, math.exp(p[3]) + spot(0.0, 0.0) + bent)

    B, h = np.empty((2, 4)), 0.02
    for i, step in enumerate(h * np.eye(2)):
        for j, skew in enumerate(0.1 * np.eye(4)):
            corners = [s * t * loglik(p[:2] + s * step, t * skew) for s in (1, -1) for t in (1, -1)]
            B[i, j] = sum(corners) / (4 * h * 0.1)
    pull = covariance @ B
    return pull @ pull.T


def parameters(fit, model, method):
    offset = 1.0 if method == "map" else 0.0
    p = [fit["x_px"] + 4, fit["y_px"] + 4, math.log(fit["photons"]), math.log(fit["bg_photons"])]
    p.append(math.log(fit["sigma_major_px"] / SIGMA0 - offset))
    if model == "asymmetric":
        p += [math.log(fit["sigma_minor_px"] / SIGMA0 - offset), float(fit["angle_rad"])]
    return np.array(p, np.float64)


@pytest.mark.parametrize("name", ["ideal", "scmos", pytest.param("emccd", marks=compiled)])
@pytest.mark.parametrize(
    "model, method", [("symmetric", "map"), ("asymmetric", "map"), ("asymmetric", "mle")]
)
def test_top_and_precision_are_those_of_a_plain_search(name, model, method):
    camera, rng = CAMERAS[name], np.random.default_rng(11)
    rate = 2.0 + brute_spot(4.3, 3.8, 500.0, (1.9, 1.45), 0.6)
    adu = camera.sample(rate, rng)
    fit = fit_rois(adu[None], camera, SIGMA0, model=model, method=method)[0]
    assert fit["status"] == 0
    b0 = 1.0
    if method == "map":  # b0 is the median of the borders: here of the one region
        b0 = estimated_background(adu, camera)

    def objective(p):
        return naive_objective(p, camera, adu, model, method, b0)

    start = parameters(fit, model, method)
    scale = np.full(len(start), 0.1)
    found = minimize(
        lambda d: -objective(start + d * scale),
        np.full(len(start), 0.05),
        method="BFGS",
        options={"gtol": 1e-4},
    )
    best = start + found.x * scale
    H = -naive_hessian(objective, best, np.full(len(best), 1e-3))
    covariance = np.linalg.inv(H)
    sd = np.sqrt(np.diag(covariance))
    reported = covariance.copy()
    if model == "asymmetric" and method == "map":
        reported[:2, :2] += naive_skewness(camera, adu, best, covariance[:2, :2])
        assert np.all(np.diag(reported)[:2] > 1.01 * sd[:2] ** 2)
    # the fit stops 0.03 s.d. before its last step; the table's score is 5e-4 s.d. a pixel off
    assert np.all(np.abs(start - best) < 0.01 * sd)
    assert objective(start) > objective(best) - 1e-3
    assert fit["loglik"] + fit["log_prior"] == pytest.approx(-found.fun, abs=0.01)
    ours = np.sqrt(np.diag(fit["covariance"]))
    sd[:2] = np.sqrt(np.diag(reported)[:2])
    natural = [sd[0], sd[1], fit["photons"] * sd[2], fit["bg_photons"] * sd[3]]
    np.testing.assert_allclose(ours[:4], natural, rtol=0.02)
    assert fit["covariance"][0, 1] == pytest.approx(reported[0, 1], abs=0.02 * sd[0] * sd[1])


def estimated_background(adu, camera):
    """What `fit_rois` takes for the prior's centre."""
    from livespt.localize import fit as fitting

    maps = fitting._region_maps(camera, 1, SIDE)
    regions, starts = posterior.make_regions(1, SIDE), np.empty((1, 5))
    posterior.prior_kernels.prepare_many(
        adu.reshape(1, -1),
        maps,
        posterior.moments_for(camera),
        SIGMA0,
        regions,
        starts,
        np.zeros(1, np.bool_),
        posterior.make_workspace().starts,
    )
    return starts[0, 3]


@pytest.mark.parametrize("width, limit", [(0.8, 1.5e-4), (1.2, 5e-5), (2.0, 2e-5)])
def test_mended_gaussians_are_pixels_of_a_spot(width, limit):
    rng = np.random.default_rng(2)
    w = posterior.make_workspace().lanes
    spot = w.spot.reshape(-1, oval.LANES)
    pixel = w.pixel.reshape(-1, oval.LANES)
    angle = rng.uniform(0, np.pi, oval.LANES)
    wide = width * rng.uniform(1.0, 2.0, oval.LANES)
    at = rng.uniform(3.5, 4.5, (2, oval.LANES))
    spot[oval.X], spot[oval.Y] = at
    spot[oval.W1], spot[oval.W2] = wide, width
    spot[oval.COS], spot[oval.SIN] = np.cos(angle), np.sin(angle)
    oval.shape_spots(w.spot)
    ours = np.empty((SIDE, SIDE, oval.LANES))
    for k in range(SIDE * SIDE):
        oval.exact_pixel(w.spot, w.pixel, np.float32(k % SIDE), np.float32(k // SIDE))
        ours[k // SIDE, k % SIDE] = pixel[oval.Q00]
    for l in range(oval.LANES):
        exact = brute_spot(at[0, l], at[1, l], 1.0, (wide[l], width), angle[l])
        assert np.abs(ours[..., l] - exact).max() < limit * exact.max()


@compiled
def test_the_table_holds_score_slope_and_likelihood():
    camera, rng = CAMERAS["emccd"], np.random.default_rng(3)
    table = moments_of(camera)
    rate = np.exp(rng.uniform(np.log(0.05), np.log(400.0), 1504))
    adu = camera.sample(rate, rng)
    count = adu - camera.offset_adu
    score, slope, loglik, score_mean = read_table(table, count, rate)
    sd = np.sqrt(camera.fisher(np.geomspace(0.05, 400, 8)) * np.geomspace(0.05, 400, 8)).min()
    exact = camera.score(adu, rate)
    assert np.sqrt(np.mean((score - exact) ** 2 * rate)) < 1e-3 * sd
    assert np.sqrt(np.mean((score_mean - exact) ** 2 * rate)) < 0.1 * sd
    h = 1e-4 * rate
    exact = (camera.score(adu, rate + h) - camera.score(adu, rate - h)) / (2 * h)
    slope_error = (slope - exact) * rate / sd**2
    assert np.sqrt(np.mean(slope_error**2)) < 2e-3
    assert np.sqrt(np.mean((loglik - camera.loglik(adu, rate)) ** 2)) < 1e-3


def read_table(table, count, rate):
    """Score, its slope and ln q as the exact passes read them, and the score of the coarse ones."""
    lanes, found = posterior.make_workspace().lanes, np.empty((4, rate.size))
    data = lanes.data.reshape(4, -1, oval.LANES)
    pixel = lanes.pixel.reshape(-1, oval.LANES)
    for first in range(0, rate.size, oval.LANES):
        part = slice(first, first + oval.LANES)
        data[oval.DATA, 0] = [moment_kernels.count_position(c, table) for c in count[part]]
        data[oval.SEEN, 0] = np.sqrt(np.maximum(count[part], 0) / table.gain)
        pixel[oval.RATE] = rate[part]
        lanes.loglik[:] = 0.0
        oval_sums.score_moments(lanes.pixel, lanes.data, 0, table, lanes.loglik)
        found[:3, part] = pixel[oval.SCORE], -pixel[oval.WEIGHT], lanes.loglik
        oval_sums.score_mean(lanes.pixel, lanes.data, 0, table)
        found[3, part] = pixel[oval.SCORE]
    return found


def test_the_slope_of_the_prior_is_its_divided_difference():
    for s1, s2, s0 in ((0.5, 0.2, 0.5), (1.3, 1.2999, 0.5), (0.02, 2.0, 1.0)):

        def slope(s, s0=s0, h=1e-6):
            """d/dv of ln s - s/s0 with v = (1 + s)^2."""
            f = [math.log(t) - t / s0 for t in (s - h * s, s + h * s)]
            return (f[1] - f[0]) / (2 * h * s) / (2 * (1 + s))

        expected = (slope(s1) - slope(s2)) / ((1 + s1) ** 2 - (1 + s2) ** 2)
        found = newton_kernels.slope_of_prior(s1, s2, s0)
        assert found == pytest.approx(expected, rel=1e-3)


def naive_sums(theta, widths, angle, data, var):
    """Score, its derivatives' sums and ln L of one lane's oval spot.

    Up to second order by Gauss-Legendre points over each pixel, beyond by one Gaussian a pixel.
    """
    x, y, photons, bg = theta
    co, si = math.cos(angle), math.sin(angle)
    nodes, weights = np.polynomial.legendre.leggauss(8)
    i, j = np.indices(data.shape)

    def derivatives(px, py, spread):
        v = np.square(widths) + spread
        dx, dy = j + px - x, i + py - y
        d1, d2 = co * dx + si * dy, co * dy - si * dx
        g = np.exp(-0.5 * (d1**2 / v[0] + d2**2 / v[1])) / (2 * math.pi * math.sqrt(v[0] * v[1]))
        h1, h2 = d1 / v[0], d2 / v[1]
        fourth = g * (h1**4 - 6 * h1**2 / v[0] + 3 / v[0] ** 2)
        return np.stack([g, g * h1 * h2, fourth, g * h1, g * h2 * (h1**2 - 1 / v[0])])

    q = sum(
        0.25 * weights[a] * weights[b] * derivatives(0.5 * nodes[a], 0.5 * nodes[b], 0.0)
        for a in range(8)
        for b in range(8)
    )
    q[[2, 4]] = derivatives(0.0, 0.0, 1.0 / 12.0)[[2, 4]]
    mu = bg + photons * q[0] + var
    score = data / mu - 1.0
    loglik = np.sum(data * np.log(mu) - mu - gammaln(data + 1))
    weight = data / mu**2
    products = [(weight * q[1] ** 2).sum(), (weight * q[3] * q[4]).sum()]
    return score.sum(), (score * q[:3]).sum(axis=(1, 2)), products, loglik


def test_the_sums_of_a_lane_are_those_of_its_pixels():
    """Small enough to run as plain Python: 5 x 5 pixels."""
    rng, side = np.random.default_rng(4), 5
    w = posterior.make_workspace().lanes
    spot = w.spot.reshape(-1, oval.LANES)
    pixels = w.data.reshape(4, -1, oval.LANES)[:, : side * side]
    theta = np.stack([rng.uniform(1.5, 2.5, 16), rng.uniform(1.5, 2.5, 16), np.full(16, 300.0)])
    bg, angle = rng.uniform(0.5, 4.0, 16), rng.uniform(0, np.pi, 16)
    widths = rng.uniform(1.0, 1.8, (2, 16))
    spot[oval.X], spot[oval.Y], spot[oval.N] = theta
    spot[oval.B], spot[oval.W1], spot[oval.W2] = bg, *widths
    spot[oval.COS], spot[oval.SIN] = np.cos(angle), np.sin(angle)
    pixels[oval.DATA] = rng.poisson(10.0, (side * side, 16)) + 1.5
    pixels[oval.VAR] = 1.5
    oval_sums.exact_sums(w, side, posterior.moments_for(Ideal()))
    sums = w.sums.reshape(-1, oval.LANES)
    for l in (0, 7, 15):
        data = pixels[oval.DATA, :, l].reshape(side, side).astype(float)
        at = (*theta[:, l], bg[l])
        total, by_q, products, loglik = naive_sums(at, widths[:, l], angle[l], data, 1.5)
        assert sums[oval.SCORE_SUM, l] == pytest.approx(total, abs=1e-3)
        found = sums[[oval.SCORES + k for k in (oval.Q00, oval.Q11, oval.Q40)], l]
        np.testing.assert_allclose(found, by_q, rtol=1e-3, atol=1e-5)
        found = sums[[oval.PRODUCTS + oval.N_K - 1, oval.SKEWS + 1], l]
        np.testing.assert_allclose(found, products, rtol=1e-3, atol=1e-5)
        assert w.loglik[l] == pytest.approx(loglik, abs=1e-3)


def test_the_shares_of_skewness_are_those_of_diffusion():
    """100 000 free paths; the mean squares scatter by 1 to 2 %."""
    rng, total, spread = np.random.default_rng(5), np.zeros((2, 4)), []
    for _ in range(20):
        path = np.cumsum(rng.standard_normal((5000, 2, 64)), axis=2)
        path -= path.mean(axis=2, keepdims=True)
        values, axes = np.linalg.eigh(path @ path.transpose(0, 2, 1) / 64)
        u2, u1 = (axes.transpose(0, 2, 1) @ path).transpose(1, 0, 2)
        v2, v1 = values.T
        spread.append(v1 + v2)
        thirds = (u1**3, u1**2 * u2, u1 * u2**2, u2**3)
        total[0] += [np.sum(t.mean(axis=1) ** 2) for t in thirds]
        total[1] += [np.sum(v) for v in (v1**3, v1**2 * v2, v1 * v2**2, v2**3)]
    np.testing.assert_allclose(spread_kernels.SKEW_SHARES, total[0] / total[1], rtol=0.06)
    median = np.median(spread) / np.mean(spread)
    assert pytest.approx(median, abs=0.01) == posterior._MEDIAN_OVER_MEAN


@pytest.mark.parametrize("held", [(), (4,), (3, 5)])
def test_the_written_out_algebra_is_that_of_a_plain_solver(held):
    rng = np.random.default_rng(6)
    w = np.zeros((newton_kernels.N_ROWS, oval.LANES))
    first = {name: int(getattr(algebra, name)[0]) // oval.LANES for name in ALGEBRA_ROWS}
    lower = np.tril_indices(7)
    H = rng.standard_normal((oval.LANES, 7, 7))
    H = H @ H.transpose(0, 2, 1) + 0.1 * np.eye(7)
    H[3] -= 5.0 * np.eye(7)  # not positive
    g, ridge = rng.standard_normal((oval.LANES, 7)), rng.choice([0.0, 0.3], oval.LANES)
    w[first["HESSIAN"] :][:28] = H[:, lower[0], lower[1]].T
    w[first["GRAD"] :][:7], w[int(algebra.RIDGE) // oval.LANES] = g.T, ridge
    is_free = np.array([k not in held for k in range(7)])
    w[first["FREE"] :][:7] = is_free[:, None]
    flat = w.ravel()
    algebra.solve(flat)
    algebra.invert(flat)
    sound = w[int(algebra.SOUND) // oval.LANES]
    assert sound[3] == 0.0
    for l in np.flatnonzero(np.arange(oval.LANES) != 3):
        A = (H[l] + ridge[l] * np.diag(np.diag(H[l])))[np.ix_(is_free, is_free)]
        step = np.zeros(7)
        step[is_free] = np.linalg.solve(A, g[l][is_free])
        assert sound[l] == 1.0
        np.testing.assert_allclose(w[first["STEP"] :][:7, l], step, rtol=1e-9, atol=1e-12)
        assert w[int(algebra.LENGTH) // oval.LANES, l] == pytest.approx(step @ g[l])
        M = np.zeros((7, 7))
        M[lower] = w[first["INVERSE"] :][:28, l]
        expected = np.zeros((7, 7))
        expected[np.ix_(is_free, is_free)] = np.linalg.inv(A)
        np.testing.assert_allclose(M.T @ M, expected, rtol=1e-7, atol=1e-10)
