"""What a camera samples is what it scores: one definition, held against itself.

Seeds are fixed. A chi-square p-value below 1e-3 would fail one honest run in a thousand; with
fixed seeds the twelve runs here either all pass for ever or show a real mismatch.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chisquare

from livespt.camera import Emccd, Ideal, Scmos

CAMERAS = {
    "ideal": Ideal(),
    "scmos": Scmos(2.2, 100.0, 1.6),
    "scmos, less than a count per electron": Scmos(0.45, 50.0, 2.0),
    "emccd": Emccd(50.0, 2.0, 10.0, 200.0),
    "emccd, low gain": Emccd(6.0, 2.0, 3.0, 100.0),
    "emccd, excess 1.5": Emccd(20.0, 1.5, 8.0, 100.0),
}


def counts_around(camera, rate, rng):
    adu = camera.sample(np.full(100_000, rate), rng)
    low, high = int(adu.min()), int(adu.max())
    return adu, np.arange(max(0, low - 60), min(65535, high + 60 + (high - low) // 2))


@pytest.mark.parametrize("name", CAMERAS)
@pytest.mark.parametrize("rate", [0.3, 4.0])
def test_chi_square_of_samples_against_scores(name, rate, rng):
    camera = CAMERAS[name]
    adu, counts = counts_around(camera, rate, rng)
    q = np.exp(camera.loglik(counts, rate))
    assert q.sum() == pytest.approx(1.0, abs=1e-6)
    seen = np.bincount(adu, minlength=counts[-1] + 1)[counts[0] : counts[-1] + 1]
    # bins of at least 50 expected counts, so that the chi-square law holds
    cell = np.floor(np.cumsum(q) * adu.size / 50.0).astype(int)
    expected = np.bincount(cell, q * adu.size)
    keep = expected > 20
    observed = np.bincount(cell, seen)
    scale = observed[keep].sum() / expected[keep].sum()
    assert chisquare(observed[keep], expected[keep] * scale).pvalue > 1e-3


@pytest.mark.parametrize("name", CAMERAS)
@pytest.mark.parametrize("rate", [0.3, 4.0])
def test_score_is_the_derivative_with_mean_zero_and_variance_fisher(name, rate, rng):
    camera = CAMERAS[name]
    _, counts = counts_around(camera, rate, rng)
    q, score = np.exp(camera.loglik(counts, rate)), camera.score(counts, rate)
    step = 1e-3 * rate
    numeric = (camera.loglik(counts, rate + step) - camera.loglik(counts, rate - step)) / (2 * step)
    seen = q > 1e-9
    np.testing.assert_allclose(score[seen], numeric[seen], atol=2e-4, rtol=2e-4)
    assert abs(np.sum(q * score)) < 1e-5
    assert camera.fisher(rate) == pytest.approx(np.sum(q * score**2), rel=1e-4)


def test_multiplication_costs_nothing_in_the_dark_and_half_when_bright():
    """E I(E) falls from 1 (an electron is seen or not) to 1/F: a flat excess factor wastes data."""
    camera = Emccd(300.0, 2.0, 1.0, 100.0)
    rates = np.array([0.01, 0.5, 3.0, 100.0])
    shares = rates * camera.fisher(rates)
    assert np.all(np.diff(shares) < 0)
    assert 0.9 < shares[0] < 1.0
    assert shares[-1] == pytest.approx(0.5, abs=0.01)
