"""Guided fits written plainly: dense algebra, scipy's optimiser, the camera's exact likelihood."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize
from scipy.special import erf
from scipy.stats import multivariate_normal, norm


def rates(theta, sigma, side):
    """Expected electrons of a region: theta = (x, y, N, b)."""
    x, y, photons, background = theta
    edges = np.arange(side + 1) - 0.5
    along = np.diff(erf((edges - x) / (np.sqrt(2) * sigma))) / 2
    down = np.diff(erf((edges - y) / (np.sqrt(2) * sigma))) / 2
    return background + photons * np.outer(down, along)


def ln_mixture(modes, at):
    """ln of a Gaussian mixture (K, 6)."""
    terms = [
        np.log(w) + multivariate_normal.logpdf(at, (x, y), [[vxx, vxy], [vxy, vyy]])
        for w, x, y, vxx, vxy, vyy in modes
    ]
    return np.logaddexp.reduce(terms)


def precision(modes, at):
    """Mean precision of the modes, by their responsibility at `at`."""
    share = np.exp([ln_mixture([mode], at) - ln_mixture(modes, at) for mode in modes])
    inverses = [np.linalg.inv([[m[3], m[4]], [m[4], m[5]]]) for m in modes]
    return sum(s * inverse for s, inverse in zip(share, inverses, strict=True))


def look(camera, adu, sigma, modes, photons, start):
    """Optimum, ln evidence ratio, site (mean, covariance) and posterior covariance of (x, y)."""
    side = adu.shape[0]

    def minus(theta):
        if theta[2] <= 0 or theta[3] <= 0:
            return 1e9
        ln_l = camera.loglik(adu, rates(theta, sigma, side)).sum()
        return -(ln_l + ln_mixture(modes, theta[:2]) + norm.logpdf(theta[2], *photons))

    settings = {"xatol": 1e-6, "fatol": 1e-9, "maxiter": 4000, "maxfev": 4000}
    found = minimize(minus, start, method="Nelder-Mead", options=settings)
    best = found.x
    rate = rates(best, sigma, side)
    by = np.array(
        [
            (rates(best + step, sigma, side) - rates(best - step, sigma, side)) / 2e-4
            for step in 1e-4 * np.eye(4)
        ]
    ).reshape(4, -1)
    J = (by * camera.fisher(rate.ravel())) @ by.T
    g = by @ camera.score(adu, rate).ravel()
    H = J.copy()
    H[:2, :2] += precision(modes, best[:2])
    H[2, 2] += 1 / photons[1] ** 2
    empty = minimize(
        lambda b: -camera.loglik(adu, np.full(adu.shape, b[0])).sum(),
        [adu.mean()],
        bounds=[(0.01, None)],
    )
    J_b = adu.size * camera.fisher(np.array([empty.x[0]]))[0]
    ln_odds = empty.fun - found.fun + 1.5 * np.log(2 * np.pi)
    ln_odds += -0.5 * np.linalg.slogdet(H)[1] + 0.5 * np.log(J_b)
    rest = H[2:, 2:]  # photons under their prior, background under none
    g_rest = g[2:] + np.array([(photons[0] - best[2]) / photons[1] ** 2, 0.0])
    carry = J[:2, 2:] @ np.linalg.inv(rest)
    site_J = J[:2, :2] - carry @ J[2:, :2]
    covariance = np.linalg.inv(site_J)
    mean = best[:2] + covariance @ (g[:2] - carry @ g_rest)
    return best, ln_odds, mean, covariance, np.linalg.inv(H)


def explain(centres, spots, gate):
    """The nearest pair first, then the nearest of what is left."""
    pairs = []
    for i, (x, y, *p) in enumerate(centres):
        for j, (u, v, *q) in enumerate(spots):
            total = np.add(p, q)
            apart = np.array([u - x, v - y])
            square = apart @ np.linalg.inv([[total[0], total[1]], [total[1], total[2]]]) @ apart
            pairs.append((square, i, j))
    owner = np.full(len(centres), -1)
    for square, i, j in sorted(pairs):
        if square < gate and owner[i] < 0 and j not in owner:
            owner[i] = j
    return owner
