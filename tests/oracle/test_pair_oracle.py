"""The two-emitter fit against plain arithmetic and a general-purpose optimiser."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import gammaln

from livespt import psf
from livespt.localize import seven_kernels as kernels
from livespt.localize.fit import bounds_of, make_region
from livespt.localize.pair import make_work
from livespt.localize.pair_kernels import fit_pair, set_bounds
from livespt.localize.table import no_table

SIDE, SIGMA = 9, 1.3
PAIR = np.array([3.1, 3.6, 900.0, 5.4, 4.9, 500.0, 2.0])
OVAL = np.array([4.2, 3.9, 900.0, 2.4, 1.8, 0.4, 2.0])


def naive_rate(kind, theta):
    """Rate image of either model, written out."""
    if kind == kernels.PAIR:
        one = psf.spot_image(*theta[:3], SIGMA, (SIDE, SIDE))
        return theta[6] + one + psf.spot_image(*theta[3:6], SIGMA, (SIDE, SIDE))
    x, y, photons, cxx, cyy, cxy, bg = theta
    matrix = np.array([[cxx, cxy], [cxy, cyy]]) + np.eye(2) / 12
    i, j = np.mgrid[:SIDE, :SIDE]
    off = np.stack([j - x, i - y], axis=-1)
    q = np.einsum("ija,ab,ijb->ij", off, np.linalg.inv(matrix), off)
    return bg + photons * np.exp(-0.5 * q) / (2 * np.pi * np.sqrt(np.linalg.det(matrix)))


def loaded(data, var):
    region = make_region(SIDE)
    for rows, values in zip(region, (data, var, data - var, 0 * data), strict=True):
        rows.reshape(SIDE, -1)[:, :SIDE] = values
    return region


def naive_loglik(mu, data):
    return float(np.sum(data * np.log(mu) - mu - gammaln(data + 1)))


@pytest.mark.parametrize("kind, theta", [(kernels.PAIR, PAIR), (kernels.OVAL, OVAL)])
def test_rate_slopes_and_information_are_those_written_out(kind, theta, rng):
    var = rng.uniform(0.5, 3.0, (SIDE, SIDE))
    data = rng.poisson(naive_rate(kind, theta) + var).astype(float) + 1e-6
    region, work = loaded(data, var), make_work(SIDE)
    kernels.fill(kind, theta, SIGMA, SIDE, region.extra, work)
    images = work.rows.reshape(8, SIDE, -1)[:, :, :SIDE]
    mu = naive_rate(kind, theta) + var
    # the error function is good to 1.5e-7 of the photons
    np.testing.assert_allclose(images[0], naive_rate(kind, theta), atol=1e-3)
    slopes = []
    for a in range(7):
        step = 1e-4 * max(1.0, theta[a])
        up, down = theta.copy(), theta.copy()
        up[a] += step
        down[a] -= step
        slopes.append((naive_rate(kind, up) - naive_rate(kind, down)) / (2 * step))
        np.testing.assert_allclose(images[1 + a], slopes[a], atol=2e-3 * np.abs(slopes[a]).max())
    kernels.sum_slopes(SIDE, region, no_table(), work)
    expected = np.einsum("aij,bij,ij->ab", slopes, slopes, 1 / mu)
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    np.testing.assert_allclose(work.info / scale, expected / scale, atol=2e-3)
    gradient = np.einsum("aij,ij->a", slopes, data / mu - 1)
    np.testing.assert_allclose(
        work.grad / np.sqrt(np.diag(expected)), gradient / np.sqrt(np.diag(expected)), atol=0.02
    )
    found = kernels.loglik(SIDE, region, no_table(), work.rows)
    assert found == pytest.approx(naive_loglik(mu, data), abs=1e-3)


def test_the_pair_found_is_the_best_and_its_covariance_the_inverse_information(rng):
    var = np.full((SIDE, SIDE), 1.6)
    data = rng.poisson(naive_rate(kernels.PAIR, PAIR) + var).astype(float) + 1e-6
    region, work, bounds = loaded(data, var), make_work(SIDE), bounds_of(SIGMA, SIDE, True)
    theta, covariance = np.zeros(7), np.zeros((7, 7))
    single = np.array([4.0, 4.0, 1400.0, 2.0, 1.7])
    pair, oval, good = fit_pair(
        single, bounds, SIGMA, SIDE, region, 1.0, no_table(), work, theta, covariance
    )
    assert good
    assert pair > oval
    scale = np.array([1, 1, 100, 1, 1, 100, 1.0])
    found = minimize(
        lambda u: -naive_loglik(naive_rate(kernels.PAIR, u * scale) + var, data),
        PAIR / scale,
        method="Nelder-Mead",
        options={"xatol": 1e-5, "fatol": 1e-8, "maxiter": 8000, "maxfev": 8000, "adaptive": True},
    )
    best = found.x * scale
    if theta[2] < theta[5]:
        order = np.array([3, 4, 5, 0, 1, 2, 6])
        theta, covariance = theta[order], covariance[np.ix_(order, order)]
    sd = np.sqrt(np.diag(covariance))
    assert np.all(np.abs(theta - best) < 0.03 * sd)
    assert pair == pytest.approx(-found.fun, abs=2e-3)
    assert np.all(np.linalg.eigvalsh(covariance) > 0)


def test_a_round_spot_is_fitted_as_well_by_the_oval(rng):
    """The oval holds the round spot: its likelihood is that of the integrated model, nearly."""
    var = np.full((SIDE, SIDE), 1.0)
    image = 2.0 + psf.spot_image(4.2, 3.8, 2000.0, SIGMA, (SIDE, SIDE))
    data = rng.poisson(image + var).astype(float) + 1e-6
    region, work, bounds = loaded(data, var), make_work(SIDE), bounds_of(SIGMA, SIDE, True)
    theta = np.array([4.0, 4.0, 1800.0, 1.7, 1.7, 0.0, 2.0])
    set_bounds(kernels.OVAL, bounds, SIGMA, SIDE, work)
    value, converged = kernels.climb(kernels.OVAL, theta, SIGMA, SIDE, region, no_table(), work)
    assert converged
    assert naive_loglik(image + var, data) - 0.05 < value < naive_loglik(image + var, data) + 15
    assert theta[3] == pytest.approx(SIGMA**2, rel=0.15)
