"""What smc-em reports where few of its particles fit: the distance to the nearest one."""

from __future__ import annotations

import numpy as np
import pytest

from livespt.refit.particles import moments


def squared_errors(n_particles, width, rng, repeats=1500):
    """Mean squared error over its reported variance, and the reported variances.

    A place at a step of variance 1, seen with an s.d. of `width` by particles that took such steps.
    """
    truth = rng.normal(size=(repeats, 2))
    seen = truth + width * rng.normal(size=(repeats, 2))
    places = rng.normal(size=(repeats, n_particles, 2))
    ln = -0.5 * ((places - seen[:, None]) ** 2).sum(axis=2) / width**2
    weight = np.exp(ln - ln.max(axis=1, keepdims=True))
    weight /= weight.sum(axis=1, keepdims=True)
    mean, cov = moments(places, weight, np.ones(2))
    return float(((mean - truth) ** 2 / cov[:, :2]).mean()), cov[:, :2]


@pytest.mark.parametrize("n_particles", [20, 100, 500])
@pytest.mark.parametrize("width", [0.3, 0.1, 0.03, 0.01])
def test_few_particles_report_the_gaps_between_them(n_particles, width, rng):
    """Found .5 to 1.4; s.e. .05. The sample variance alone: 30 to 1e11, the floor before .01."""
    nees, _ = squared_errors(n_particles, width, rng)
    assert 0.45 < nees < 1.55


def test_many_particles_report_their_own_variance(rng):
    """A step as wide as what is seen, 500 particles: half of either variance, 5 % is 4 s.e."""
    nees, var = squared_errors(500, 1.0, rng)
    assert var.mean() == pytest.approx(0.5, rel=0.05)
    assert nees == pytest.approx(1.0, abs=0.15)


def test_a_lone_particle_is_no_certainty():
    places, weight = np.zeros((1, 50, 2)), np.zeros((1, 50))
    weight[0, 7] = 1.0
    _, cov = moments(places, weight, np.array([2.0, 3.0]))
    np.testing.assert_allclose(cov, [[2.0 * 6 / 50, 3.0 * 6 / 50, 0.0]])
