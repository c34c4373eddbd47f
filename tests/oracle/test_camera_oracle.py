"""Camera kernels against textbook forms written apart from them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import i1e
from scipy.stats import norm, poisson

from livespt.camera import Emccd, Scmos
from livespt.localize import table_kernels


def naive_scmos(count, rate, gain, offset, sd_adu):
    n = np.arange(200)
    edges = (np.array([count - 0.5, count + 0.5])[:, None] - offset - gain * n) / sd_adu
    return float(np.sum(poisson.pmf(n, rate) * np.diff(norm.cdf(edges), axis=0)[0]))


def naive_emccd(count, rate, gain, offset, sd_adu):
    """The Bessel density of the high-gain limit, blurred and rounded by quadrature."""

    def cell(charge):
        at = (np.array([count - 0.5, count + 0.5]) - offset - charge) / sd_adu
        return float(norm.cdf(at[1]) - norm.cdf(at[0]))

    def density(s):
        root = np.sqrt(rate * s / gain)
        return np.sqrt(rate / (gain * s)) * np.exp(2 * root - s / gain - rate) * i1e(2 * root)

    low = max(count - offset - 9 * sd_adu, 1e-12)
    high = count - offset + 9 * sd_adu
    lit = quad(lambda s: density(s) * cell(s), low, high, epsabs=1e-13)[0] if high > low else 0.0
    return np.exp(-rate) * cell(0.0) + lit


@pytest.mark.parametrize("rate", [0.2, 3.0, 30.0])
def test_scmos_sum_over_electrons(rate):
    camera = Scmos(2.2, 100.0, 1.6)
    for count in (97, 101, 104, 115, 160):
        expected = naive_scmos(count, rate, 2.2, 100.0, 2.2 * np.sqrt(1.6))
        assert np.exp(camera.loglik(count, rate)) == pytest.approx(expected, rel=1e-8, abs=1e-13)


@pytest.mark.parametrize("rate", [0.2, 3.0, 30.0])
def test_emccd_is_the_bessel_form(rate):
    camera = Emccd(50.0, 2.0, 10.0, 200.0)
    for count in (185, 203, 240, 330, 900):
        expected = naive_emccd(count, rate, 50.0, 200.0, 10.0)
        found = float(np.exp(camera.loglik(count, rate)))
        assert found == pytest.approx(expected, rel=2e-6, abs=1e-12)


def test_the_table_holds_the_cameras_own_score():
    camera = Emccd(50.0, 2.0, 10.0, 200.0)
    counts, rates = np.array([-12.0, 0.0, 31.0, 420.0]), np.array([0.05, 1.0, 9.0])
    size = (counts.size, rates.size)
    mean_n, rest, log_q = np.empty(size), np.empty(size), np.empty(size)
    table_kernels.fill(counts, rates, 50.0, 10.0, 2.0, mean_n, rest, log_q)
    adu, rate = np.meshgrid(counts + 200, rates, indexing="ij")
    np.testing.assert_allclose(mean_n / rates - 1.0, camera.score(adu, rate), rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(log_q, camera.loglik(adu, rate), rtol=1e-7)


def test_stretched_axes_invert():
    for rate in (1e-3, 0.4, 1.0, 7.0, 900.0):
        back = table_kernels.rate_at(table_kernels.stretch_rate(rate))
        assert back == pytest.approx(rate, rel=1e-12)
    for count in (-30.0, 0.0, 50.0, 70.0, 9000.0):
        z = table_kernels.stretch_count(count, 50.0, 3.0, 2.0)
        assert table_kernels.count_at(z, 50.0, 3.0, 2.0) == pytest.approx(count, abs=1e-9)
