"""The second order of a fit's variance, naively: the factor itself, and where it comes from."""

from __future__ import annotations

import itertools
import math

import numpy as np

N = 9  # pixels of a side


def widened(bound, sigma):
    """Return the covariance (5, 5) of a fit with free width, from the bound's."""
    root = np.ones(5)
    root[:2] = np.sqrt(1.0 + 2.0 * (np.diag(bound)[:2] + bound[4, 4]) / sigma**2)
    return bound * np.outer(root, root)


def template(at, sigma, fit_background):
    """Return a spot of unit norm at (x, y, ln width / sigma), without what a background takes."""
    x, y, t = at
    line, width = np.arange(N) - N // 2, sigma * math.exp(t)
    light = np.outer(
        np.exp(-((line - y) ** 2) / (2 * width**2)), np.exp(-((line - x) ** 2) / (2 * width**2))
    ).ravel()
    light -= light.mean() if fit_background else 0.0
    return light / np.linalg.norm(light)


def slopes_of(at, sigma, fit_background, step=0.06):
    """Return a function from axes to the template's derivative along them (seven points each)."""
    points = step * np.arange(-3, 4)
    inverse = np.linalg.inv(np.vander(points, increasing=True))
    grid = [
        template(at + np.array(d), sigma, fit_background)
        for d in itertools.product(points, repeat=3)
    ]
    powers = np.einsum("ai,bj,ck,ijkp->abcp", *[inverse] * 3, np.reshape(grid, (7, 7, 7, N * N)))

    def slope(*axes):
        order = [axes.count(a) for a in range(3)]
        return powers[tuple(order)] * np.prod([math.factorial(n) for n in order])

    return slope


def second_order(sigma, fit_background, rng, n=20_000):
    """Expand the maximum of <signal + eps noise, template> to eps^3.

    Returns the variance of (x, y) beyond the bound, over the bound and eps^2, and the bound of
    position and width over sigma^2 and eps^2.
    """
    slope, axes = slopes_of(np.array([0.25, 0.25, 0.0]), sigma, fit_background), range(3)
    noise = rng.standard_normal((n, N * N))
    noise = np.concatenate([noise, -noise])
    signal = slope()

    def of(data, rank):
        found = [data @ slope(*a) for a in itertools.product(axes, repeat=rank)]
        return np.moveaxis(
            np.reshape(found, (3,) * rank + np.shape(data)[:-1]), range(rank), range(-rank, 0)
        )

    bound = -np.linalg.inv(of(signal, 2))
    third, fourth = of(signal, 3), of(signal, 4)
    z1, z2, z3 = (of(noise, rank) for rank in (1, 2, 3))
    a = z1 @ bound
    b = (np.einsum("ijk,nj,nk->ni", third, a, a) / 2 + np.einsum("nij,nj->ni", z2, a)) @ bound
    c = (
        np.einsum("ijk,nj,nk->ni", third, a, b)
        + np.einsum("ijkl,nj,nk,nl->ni", fourth, a, a, a) / 6
    )
    c += np.einsum("nij,nj->ni", z2, b) + np.einsum("nijk,nj,nk->ni", z3, a, a) / 2
    more = np.mean(b[:, :2] ** 2 + 2 * a[:, :2] * (c @ bound)[:, :2]) / np.mean(a[:, :2] ** 2)
    return more, bound[0, 0] / sigma**2, bound[2, 2]
