"""The fit against a general-purpose optimiser that knows nothing of scoring."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import gammaln

from livespt import psf
from livespt.camera import Ideal, Scmos
from livespt.localize import column_kernels, fit_rois
from livespt.localize.fit import make_region, make_scratch
from livespt.localize.table import no_table

sys.path.insert(0, str(Path(__file__).parent))  # naive_second_order.py

from naive_second_order import widened


def naive_loglik(theta, electrons, var):
    """Shifted Poisson (Huang 2013) of a pixel-integrated Gaussian over 9 x 9 pixels."""
    x, y, photons, bg, sigma = theta
    mu = bg + psf.spot_image(x, y, photons, sigma, electrons.shape) + var
    data = np.maximum(electrons + var, 1e-6)
    return float(np.sum(data * np.log(mu) - mu - gammaln(data + 1)))


@pytest.mark.parametrize("camera", [Ideal(), Scmos(2.2, 100.0, 1.6)])
def test_the_optimum_and_its_covariance_are_those_of_a_plain_search(camera, rng):
    gain, offset, var = (1.0, 0.0, 0.0) if isinstance(camera, Ideal) else (2.2, 100.0, 1.6)
    truth = (4.3, 3.8, 800.0, 4.0, 1.3)
    image = psf.spot_image(*truth[:3], truth[4], (9, 9)) + truth[3]
    adu = camera.sample(image, rng)
    fit = fit_rois(adu[None], camera, 1.2)[0]
    electrons = (adu - offset) / gain
    scale = np.array([1.0, 1.0, 100.0, 1.0, 1.0])
    found = minimize(
        lambda u: -naive_loglik(u * scale, electrons, var),
        np.array(truth) / scale,
        method="Nelder-Mead",
        options={"xatol": 1e-6, "fatol": 1e-9, "maxiter": 4000},
    )
    best = found.x * scale
    ours = [fit["x_px"] + 4, fit["y_px"] + 4, fit["photons"], fit["bg_photons"], fit["sigma_px"]]
    sd = np.sqrt(np.diag(fit["covariance"]))
    assert fit["status"] == 0
    # the fit stops when a step is below 0.003 s.d.
    assert np.all(np.abs(np.array(ours) - best) < 0.005 * sd)
    assert fit["loglik"] == pytest.approx(-found.fun, abs=0.05)  # 0.01 a dim pixel, see lanes
    rate = image * 0 + best[3] + psf.spot_image(*best[:3], best[4], (9, 9))
    information = psf.fisher_matrix(tuple(best), 1.0 / (rate + var), 9)
    expected = widened(np.linalg.inv(information), best[4])
    np.testing.assert_allclose(sd, np.sqrt(np.diag(expected)), rtol=5e-3)


@pytest.mark.parametrize("side", [5, 9, 15])
def test_gradient_information_and_likelihood_are_the_textbook_ones(side, rng):
    theta = np.array([0.45 * side, 0.5 * side, 700.0, 3.0, 1.2])
    var = rng.uniform(0.5, 3.0, (side, side))
    light = rng.uniform(0.0, 2.0, (side, side))
    x, y, photons, bg, sigma = theta
    mu = bg + light + psf.spot_image(x, y, photons, sigma, (side, side)) + var
    data = np.maximum(rng.poisson(mu).astype(float), 1e-6)
    region, scratch = make_region(side), make_scratch()
    for rows, values in zip(region, (data, var, data, light), strict=True):
        rows.reshape(side, -1)[:, :side] = values
    columns = scratch.columns
    column_kernels.slopes(theta, side, region, no_table(), columns, scratch.grad, scratch.info)
    slopes = psf.rate_derivatives(tuple(theta), side)
    # the kernel's error function is good to 1.5e-7 of the photons
    np.testing.assert_allclose(
        scratch.grad, np.einsum("aij,ij->a", slopes, data / mu - 1.0), rtol=1e-4, atol=1e-3
    )
    expected = psf.fisher_matrix(tuple(theta), 1.0 / mu, side)
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    np.testing.assert_allclose(scratch.info / scale, expected / scale, atol=1e-5)
    found = column_kernels.loglik(theta, side, region, no_table(), columns)
    assert found == pytest.approx(np.sum(data * np.log(mu) - mu - gammaln(data + 1)), abs=1e-3)
