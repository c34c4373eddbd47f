"""An information matrix is inverted also where it knows nothing of some direction."""

from __future__ import annotations

import numpy as np

from livespt.infer.inverse import inverse_of


def test_it_is_the_inverse_where_there_is_one(rng):
    root = rng.normal(size=(5, 5))
    information = root @ root.T + np.eye(5)
    assert np.allclose(inverse_of(information) @ information, np.eye(5), atol=1e-12)


def test_a_direction_without_information_is_left_very_uncertain():
    both = np.array([1.0, 1.0, 0.0])  # only the sum of the first two is known
    information = 1e6 * np.outer(both, both) + np.diag([0.0, 0.0, 4.0])
    covariance = inverse_of(information)
    assert np.isclose(covariance[2, 2], 0.25)
    assert np.isclose(both @ covariance @ both, 1e-6, rtol=0.01)
    apart = np.array([1.0, -1.0, 0.0])
    assert apart @ covariance @ apart > 1e3


def test_parameters_of_any_scale_are_known_as_well_as_they_are():
    scale = np.array([1e-12, 1.0, 1e12])
    information = np.outer(scale, scale) * np.array([[2, 1, 0], [1, 2, 0], [0, 0, 1.0]])
    assert np.allclose(np.diag(inverse_of(information)) * scale**2, [2 / 3, 2 / 3, 1])
