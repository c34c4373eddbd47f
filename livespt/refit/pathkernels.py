# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""Sites of frames that motion smears: the path in the exposure is fitted with its mean.

Over the exposure, along each axis, the path is its mean m plus Brownian motion with its mean
removed (Karhunen-Loeve series):

    x(s) = m + sum_k a_k sqrt(2) cos(k pi s / te),   a_k ~ N(0, 2 D te / (k pi)^2),

together of variance V = D te / 3. The first `MODES` amplitudes are fitted along with m, the rest of
V widens the spot; the image is the mean of `POINTS` spots along the path. The site of m is what is
left when the amplitudes are integrated out (Laplace): what the path's shape does to the place is in
its variance. A path and its reverse look alike, which does not matter to m.

Symbols: theta = (m_x, m_y, a_1x, a_1y, a_2x, ...); J information; H = J plus the priors'.
"""

from __future__ import annotations

import math

import numpy as np

from livespt.jit import kernel
from livespt.psf_kernels import profile

MODES, POINTS = 3, 8
SIZE = 2 + 2 * MODES
PASSES, ENOUGH = 15, 5e-3
#: Frames whose V is more than this share of sigma^2 are fitted with their path.
FROM = 0.1
#: Below this share two starts do: paths are short beside the spot.
FEW = 1.0
#: Share of V in the modes beyond those fitted.
REST = 1.0 - 6.0 / math.pi**2 * sum(1.0 / k**2 for k in range(1, MODES + 1))
_DIP = math.sqrt(2.0)


@kernel
def curve(d, v, theta, widths, light, profiles, grad, info):
    """Fill gradient and information of one frame's ln p at theta; return ln p.

    `profiles` (2, POINTS, 3, P).
    """
    side = profiles.shape[3]
    for q in range(POINTS):
        for a in range(2):
            at = theta[a]
            for k in range(1, MODES + 1):
                at += theta[2 * k + a] * _DIP * math.cos(k * math.pi * (q + 0.5) / POINTS)
            p = profiles[a, q]
            profile(at, widths[a], side, p[0], p[1], p[2])
    cosines = np.empty((MODES, POINTS))
    for k in range(MODES):
        for q in range(POINTS):
            cosines[k, q] = _DIP * math.cos((k + 1) * math.pi * (q + 0.5) / POINTS)
    grad[:] = 0.0
    info[:, :] = 0.0
    slope = np.empty(SIZE)
    share, total = light[0] / POINTS, 0.0
    for i in range(side):
        for j in range(side):
            rate = 0.0
            slope[:] = 0.0
            for q in range(POINTS):
                fx, fy = profiles[0, q, 0, j], profiles[1, q, 0, i]
                gx, gy = profiles[0, q, 1, j] * fy, profiles[1, q, 1, i] * fx
                rate += fx * fy
                slope[0] += gx
                slope[1] += gy
                for k in range(MODES):
                    slope[2 * k + 2] += gx * cosines[k, q]
                    slope[2 * k + 3] += gy * cosines[k, q]
            p = i * side + j
            mu = light[1] + share * rate + v[p]
            total += d[p] * math.log(mu) - mu
            score, weight = share * (d[p] / mu - 1.0), share * share / mu
            for r in range(SIZE):
                grad[r] += score * slope[r]
                for c in range(r + 1):
                    info[r, c] += weight * slope[r] * slope[c]
    for r in range(SIZE):
        for c in range(r):
            info[c, r] = info[r, c]
    return total


@kernel
def add_prior(theta, cavity, variances, grad, info):
    """Add the priors of mean and amplitudes to gradient and information; return their ln p.

    `variances` (2,): V along each axis.
    """
    total = 0.0
    for r in range(SIZE):
        a, k = r % 2, r // 2
        mean = cavity[2 * a] if k == 0 else 0.0
        var = cavity[2 * a + 1] if k == 0 else 6.0 * variances[a] / (math.pi * k) ** 2
        off = theta[r] - mean
        total -= 0.5 * off * off / var
        grad[r] -= off / var
        info[r, r] += 1.0 / var
    return total


@kernel
def ascend(d, v, theta, cavity, variances, widths, light, profiles, grad, info):
    """Take theta to the posterior's maximum by damped Fisher scoring; return ln p there."""
    best = curve(d, v, theta, widths, light, profiles, grad, info)
    best += add_prior(theta, cavity, variances, grad, info)
    trial, other_grad, other_info = np.empty(SIZE), np.empty(SIZE), np.empty((SIZE, SIZE))
    damp = 0.0
    for _ in range(PASSES):
        damped = info.copy()
        for r in range(SIZE):
            damped[r, r] *= 1.0 + damp
        step = np.linalg.solve(damped, grad)
        for r in range(SIZE):
            trial[r] = theta[r] + step[r]
        value = curve(d, v, trial, widths, light, profiles, other_grad, other_info)
        value += add_prior(trial, cavity, variances, other_grad, other_info)
        if value >= best - 1e-9:
            gained = value - best
            theta[:], grad[:], info[:, :], best = trial, other_grad, other_info, value
            damp *= 0.3
            if gained < ENOUGH:
                break
        else:
            damp = max(4.0 * damp, 0.3)
    return best


@kernel
def centroid(d, v, light, at):
    """Put `at` on the centroid of what is above the background, within the region."""
    side = int(math.sqrt(d.size))
    total, sx, sy = 0.0, 0.0, 0.0
    for i in range(side):
        for j in range(side):
            more = d[i * side + j] - v[i * side + j] - light[1]
            total += more
            sx += more * j
            sy += more * i
    total = max(total, 0.2 * light[0])
    at[0] = min(max(sx / total, 0.0), side - 1.0)
    at[1] = min(max(sy / total, 0.0), side - 1.0)


@kernel
def begin(theta, at, variances, which):
    """Set theta to start `which` of four: a long path along either diagonal, x, or y."""
    theta[:] = 0.0
    for a in range(2):
        theta[a] = at[a]
        theta[2 + a] = 1.4 * math.sqrt(6.0 * variances[a]) / math.pi
    if which == 1:
        theta[3] = -theta[3]
    elif which == 2:
        theta[3] = 0.0
    elif which == 3:
        theta[2] = 0.0


@kernel
def log_prior_scale(cavity, variances):
    """Return what makes the prior of theta a density, ln."""
    total = -0.5 * SIZE * math.log(2.0 * math.pi)
    for r in range(SIZE):
        a, k = r % 2, r // 2
        var = cavity[2 * a + 1] if k == 0 else 6.0 * variances[a] / (math.pi * k) ** 2
        total -= 0.5 * math.log(var)
    return total


@kernel
def site_of_path(d, v, cavity, variances, model, at, out):
    """Fill the site (2, 2) of the mean over the exposure, and `at` with its place.

    Four starts, or two; their maxima are a mixture, each of the weight of its Laplace evidence, and
    the site is that of the mixture's mean and variance. `model`: width of a spot in focus, light.
    Returns ln of the frame's evidence under the cavity.
    """
    sigma, light = model
    side = int(math.sqrt(d.size))
    profiles, theta = np.empty((2, POINTS, 3, side)), np.empty(SIZE)
    grad, info = np.empty(SIZE), np.empty((SIZE, SIZE))
    n_starts = 2 if max(variances[0], variances[1]) < FEW * sigma * sigma else 4
    widths, found, values = np.empty(2), np.empty((n_starts, 4)), np.empty(n_starts)
    for a in range(2):
        widths[a] = math.sqrt(sigma * sigma + REST * variances[a])
    middle = np.empty(2)
    centroid(d, v, light, middle)
    for which in range(n_starts):
        begin(theta, middle, variances, which)
        value = ascend(d, v, theta, cavity, variances, widths, light, profiles, grad, info)
        cov = np.linalg.inv(info)
        values[which] = value - 0.5 * np.linalg.slogdet(info)[1]
        for a in range(2):
            found[which, a], found[which, 2 + a] = theta[a], cov[a, a]
    top = values.max()
    weights = np.exp(values - top)
    mix(found, weights / weights.sum(), cavity, at, out)
    evidence = top + 0.5 * SIZE * math.log(2.0 * math.pi) + log_prior_scale(cavity, variances)
    return evidence  # of the best maximum: reversed paths and repeated finds count once


@kernel
def mix(found, weights, cavity, at, out):
    """Fill the site from means and variances, rows of `found`, and their weights."""
    for a in range(2):
        mean = square = 0.0
        for k in range(weights.size):
            mean += weights[k] * found[k, a]
            square += weights[k] * (found[k, 2 + a] + found[k, a] ** 2)
        before = 1.0 / cavity[2 * a + 1]
        more = max(1.0 / max(square - mean * mean, 1e-9) - before, 1e-4)
        at[a] = mean
        out[a, 0] = (mean * (more + before) - cavity[2 * a] * before) / more
        out[a, 1] = 1.0 / more
