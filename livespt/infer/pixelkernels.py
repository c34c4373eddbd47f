# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""One molecule's pixels in one frame, turned into a Gaussian likelihood of its place: a *site*.

Theory: `livespt.infer.pixels`. Positions here are pixels from the region's first one; a cavity is
what the other frames say of this one, (mean x, variance x, mean y, variance y).

Symbols: d datum (counts in electrons plus read variance v), mu its mean E + v, N photons, b
background; z and R place and variance of a site; P side of the region.
"""

from __future__ import annotations

import math

import numpy as np

from livespt.jit import kernel
from livespt.psf_kernels import profile

PASSES = 12
#: A cavity wider than so many widths of the spot is searched before it is climbed.
WIDE = 0.6
#: Largest step of one pass, in widths.
STRIDE = 0.7
#: Least information of a site, 1/px^2.
LEAST_INFO = 1e-4
#: Places more improbable than the likeliest one by so much, in ln, are not searched.
CUT = 12.0
#: A wider cavity is as good as none: the molecule is in its region.
FLAT_VAR_PX2 = 400.0


@kernel
def slopes(d, v, at, sigmas, photons, bg, profiles, g):
    """Fill gradient and information of the log-likelihood at `at`: g = (x, y, xx, xy, yy).

    `profiles` (2, 3, P) receives those of x and y.
    """
    side = profiles.shape[2]
    for a in range(2):
        profile(at[a], sigmas[a], side, profiles[a, 0], profiles[a, 1], profiles[a, 2])
    gx = gy = jxx = jxy = jyy = 0.0
    for i in range(side):
        y0, y1 = photons * profiles[1, 0, i], photons * profiles[1, 1, i]
        for j in range(side):
            q = i * side + j
            info = 1.0 / (bg + y0 * profiles[0, 0, j] + v[q])
            score = d[q] * info - 1.0
            ex, ey = y0 * profiles[0, 1, j], y1 * profiles[0, 0, j]
            gx += score * ex
            gy += score * ey
            jxx += info * ex * ex
            jxy += info * ex * ey
            jyy += info * ey * ey
    g[0], g[1], g[2], g[3], g[4] = gx, gy, jxx, jxy, jyy


@kernel
def climb(d, v, cavity, sigmas, light, at, profiles, g):
    """Take `at` to the maximum of cavity times likelihood by Fisher scoring."""
    side, far = profiles.shape[2], STRIDE * sigmas[0]
    for _ in range(PASSES):
        slopes(d, v, at, sigmas, light[0], light[1], profiles, g)
        a, c, o = g[2] + 1.0 / cavity[1], g[4] + 1.0 / cavity[3], g[3]
        rx, ry = g[0] - (at[0] - cavity[0]) / cavity[1], g[1] - (at[1] - cavity[2]) / cavity[3]
        det = a * c - o * o
        dx = min(max((c * rx - o * ry) / det, -far), far)
        dy = min(max((a * ry - o * rx) / det, -far), far)
        at[0] = min(max(at[0] + dx, -0.5), side - 0.5)
        at[1] = min(max(at[1] + dy, -0.5), side - 0.5)
        if dx * dx * a + dy * dy * c < 1e-3:
            break
    slopes(d, v, at, sigmas, light[0], light[1], profiles, g)


@kernel
def log_cavity(cavity, x, y):
    """Return the log of the cavity's density, up to a constant."""
    dx, dy = x - cavity[0], y - cavity[2]
    return -0.5 * (dx * dx / cavity[1] + dy * dy / cavity[3])


@kernel
def log_ratio(d, side, half_x, half_y, templates):
    """Return ln of the likelihood over that of no molecule, less its light, at half pixels."""
    shape = templates[half_y & 1, half_x & 1]
    top, left = side - 1 - (half_y >> 1), side - 1 - (half_x >> 1)
    total = 0.0
    for i in range(side):
        line = 0.0  # lines do not wait for each other
        for j in range(side):
            line += d[i * side + j] * shape[i + top, j + left]
        total += line
    return total


@kernel
def window(mean, var, side):
    """Return first and last half pixel within four s.d. of `mean`, at least the nearest one."""
    reach = 4.0 * math.sqrt(var)
    low = min(max(math.floor(2.0 * (mean - reach)), 0), 2 * side - 2)
    high = min(max(math.ceil(2.0 * (mean + reach)), 0), 2 * side - 2)
    return int(low), int(high)


@kernel
def search(d, cavity, light, templates, inside, at):
    """Put `at` where matched filter plus cavity is greatest, to a pixel."""
    side = inside.size // 2 + 1
    nearest_x = min(max(cavity[0], 0.0), side - 1.0)
    nearest_y = min(max(cavity[2], 0.0), side - 1.0)
    enough = log_cavity(cavity, nearest_x, nearest_y) - CUT
    best = -math.inf
    for y in range(side):
        for x in range(side):
            prior = log_cavity(cavity, float(x), float(y))
            if prior >= enough:
                value = prior - light[0] * inside[2 * x] * inside[2 * y]
                value += log_ratio(d, side, 2 * x, 2 * y, templates)
                if value > best:
                    best = value
                    at[0], at[1] = x, y


@kernel
def tilt(d, cavity, light, templates, inside, grid, moments):
    """Fill mean and variance of cavity times likelihood, (2, 2), summed over half pixels."""
    side = inside.size // 2 + 1
    low_x, high_x = window(cavity[0], cavity[1], side)
    low_y, high_y = window(cavity[2], cavity[3], side)
    top = -math.inf
    for y in range(low_y, high_y + 1):
        for x in range(low_x, high_x + 1):
            value = log_cavity(cavity, 0.5 * x, 0.5 * y) - light[0] * inside[x] * inside[y]
            value += log_ratio(d, side, x, y, templates)
            grid[y, x] = value
            top = max(top, value)
    total = x1 = x2 = y1 = y2 = 0.0
    for y in range(low_y, high_y + 1):
        for x in range(low_x, high_x + 1):
            w, px, py = math.exp(grid[y, x] - top), 0.5 * x, 0.5 * y
            total += w
            x1 += w * px
            x2 += w * px * px
            y1 += w * py
            y2 += w * py * py
    moments[0, 0], moments[1, 0] = x1 / total, y1 / total
    moments[0, 1] = max(x2 / total - moments[0, 0] ** 2, 1e-3)
    moments[1, 1] = max(y2 / total - moments[1, 0] ** 2, 1e-3)


@kernel
def site_by_moments(d, cavity, light, templates, inside, grid, at, moments, out):
    """Fill the site (2, 2) whose product with the cavity has the exact mean and variance."""
    side = inside.size // 2 + 1
    for a in range(2):
        if cavity[2 * a + 1] > FLAT_VAR_PX2:
            cavity[2 * a], cavity[2 * a + 1] = 0.5 * (side - 1), FLAT_VAR_PX2
    tilt(d, cavity, light, templates, inside, grid, moments)
    for a in range(2):
        mean, var, before = cavity[2 * a], cavity[2 * a + 1], 1.0 / cavity[2 * a + 1]
        info, least = 1.0 / moments[a, 1] - before, 0.02 * before
        at[a] = moments[a, 0]
        if info > least:
            out[a, 0] = (moments[a, 0] / moments[a, 1] - mean / var) / info
        else:  # the data widen the cavity: say little
            out[a, 0], info = moments[a, 0], least
        out[a, 1] = 1.0 / info


@kernel
def site_at_mode(d, v, cavity, sigmas, light, at, profiles, g, out):
    """Fill the site (2, 2) that has the likelihood's slope and information at the mode."""
    climb(d, v, cavity, sigmas, light, at, profiles, g)
    for a in range(2):
        info = max(g[2 * a + 2], LEAST_INFO)
        out[a, 0] = at[a] + min(max(g[a] / info, -3.0), 3.0)
        out[a, 1] = 1.0 / info


@kernel
def site_unscented(d, v, cavity, sigmas, light, at, profiles, points, work, out):
    """Fill the site of one unscented step on the square roots of the pixels (Lin 2021).

    T = 2 sqrt(n + 3/8 + v) has unit noise; five points, weights 1/3 and 1/6 (kappa = 1). `points`
    (6, P * P) receives their images and the mean; `work` (5, 5).
    """
    side, n = profiles.shape[2], d.size
    spread = math.sqrt(3.0)
    for s in range(5):
        for a in range(2):
            shift = spread * math.sqrt(cavity[2 * a + 1])
            sign = 1.0 if s == 1 + 2 * a else -1.0 if s == 2 + 2 * a else 0.0
            at[a] = cavity[2 * a] + sign * shift
            profile(at[a], sigmas[a], side, profiles[a, 0], profiles[a, 1], profiles[a, 2])
        for i in range(side):
            for j in range(side):
                rate = light[1] + light[0] * profiles[1, 0, i] * profiles[0, 0, j]
                points[s, i * side + j] = 2.0 * math.sqrt(rate + 0.375 + v[i * side + j])
    for q in range(n):
        others = points[1, q] + points[2, q] + points[3, q] + points[4, q]
        points[5, q] = points[0, q] / 3.0 + others / 6.0
    regress(d, cavity, points, work, at, out)


@kernel
def regress(d, cavity, points, work, at, out):
    """Fill site and mean after the unscented update, by the matrix inversion lemma."""
    n = d.size
    weights = np.array([1 / 3, 1 / 6, 1 / 6, 1 / 6, 1 / 6])
    seen = np.zeros(5)
    for s in range(5):
        for r in range(5):
            work[s, r] = 1.0 / weights[s] if s == r else 0.0
            for q in range(n):
                work[s, r] += (points[s, q] - points[5, q]) * (points[r, q] - points[5, q])
        for q in range(n):
            datum = 2.0 * math.sqrt(max(d[q], 0.0) + 0.375)
            seen[s] += (points[s, q] - points[5, q]) * (datum - points[5, q])
    gram = work - np.diag(1.0 / weights)
    inverse = np.linalg.inv(work)
    small = gram - gram @ inverse @ gram  # U' (I + U W U')^-1 U
    pull = seen - gram @ inverse @ seen
    for a in range(2):
        shift = math.sqrt(3.0 * cavity[2 * a + 1]) / 6.0  # weight times the point's distance
        up, down = 1 + 2 * a, 2 + 2 * a
        gain = shift * (pull[up] - pull[down])
        fall = shift * shift * (small[up, up] - 2.0 * small[up, down] + small[down, down])
        at[a] = cavity[2 * a] + gain
        after = max(cavity[2 * a + 1] - fall, 1e-6 * cavity[2 * a + 1])
        info = max(1.0 / after - 1.0 / cavity[2 * a + 1], 1e-9)
        out[a, 0] = (at[a] / after - cavity[2 * a] / cavity[2 * a + 1]) / info
        out[a, 1] = 1.0 / info
