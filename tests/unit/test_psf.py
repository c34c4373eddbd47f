"""Pixel-integrated Gaussians."""

from __future__ import annotations

import numpy as np
import pytest

from livespt import psf


def test_a_spot_holds_all_its_photons():
    assert psf.spot_image(20.3, 19.6, 500.0, 1.3, (41, 41)).sum() == pytest.approx(500.0, rel=1e-9)


def test_two_widths_spread_along_their_own_axes():
    image = psf.spot_image(20.0, 20.0, 1.0, (2.0, 1.0), (41, 41))
    x = np.arange(41) - 20.0
    # a pixel adds 1/12 to the variance of what falls on it
    assert image.sum(0) @ x**2 == pytest.approx(4.0 + 1 / 12, rel=1e-6)
    assert image.sum(1) @ x**2 == pytest.approx(1.0 + 1 / 12, rel=1e-6)


@pytest.mark.parametrize("parameter", range(5))
def test_derivatives_are_those_of_the_rate(parameter):
    theta = np.array([4.2, 3.7, 300.0, 2.0, 1.3])
    step = 1e-5 * theta[parameter]

    def rate(shift):
        x, y, photons, bg, sigma = theta + shift * (np.arange(5) == parameter)
        return bg + psf.spot_image(x, y, photons, sigma, (9, 9))

    numeric = (rate(step) - rate(-step)) / (2 * step)
    found = psf.rate_derivatives(tuple(theta), 9)[parameter]
    np.testing.assert_allclose(found, numeric, atol=1e-6 * max(1.0, np.abs(numeric).max()))
