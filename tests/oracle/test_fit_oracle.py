"""The fit against a general-purpose optimiser that knows nothing of scoring."""

from __future__ import annotations

import numpy as np
import pytest
from livespt import psf
from livespt.camera import Ideal, Scmos
from livespt.localize import fit_rois
from scipy.optimize import minimize
from scipy.special import gammaln


def naive_loglik(theta, electrons, var):
    """Shifted Poisson (Huang 2013) of a pixel-integrated Gaussian over 9 x 9 pixels."""
    x, y, photons, bg, sigma = theta
    mu = bg + psf.spot_image(x, y, photons, sigma, electrons.shape) + var
    data = np.maximum(electrons + var, 1e-6)
    return float(np.sum(data * np.log(mu) - mu - gammaln(data + 1)))


@pytest.mark.parametrize("camera", [Ideal(), Scmos(2.2, 100.0, 1.6)])
def test_the_optimum_and_its_information_are_those_of_a_plain_search(camera, rng):
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
    assert fit["loglik"] == pytest.approx(-found.fun, abs=1e-4)
    rate = image * 0 + best[3] + psf.spot_image(*best[:3], best[4], (9, 9))
    information = psf.fisher_matrix(tuple(best), 1.0 / (rate + var), 9)
    np.testing.assert_allclose(sd, np.sqrt(np.diag(np.linalg.inv(information))), rtol=5e-3)
