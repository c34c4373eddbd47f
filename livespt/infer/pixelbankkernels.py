# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""A molecule followed in its pixels: a bank of D along each axis over the last frames.

Theory: `livespt.infer.pixels`; one frame's pixels: `pixelkernels`. A `Film` holds the last frames,
oldest first. `bank[t, a, 0..2]` are mean, variance and log weight of the position at the START of
exposure t along axis a for each D, given the frames before; a site is what frame t itself says.

Symbols: m, P of the bank, S variance of a site's innovation, te exposure, w weights.
"""

from __future__ import annotations

import math

from livespt.infer import pixelkernels as pixels
from livespt.jit import kernel

#: Frames that a film holds, and how many stay when it is full.
LENGTH, KEPT = 75, 50
#: Sites are made anew whenever so many frames have come, and once early.
EVERY, EARLY = 25, 10
#: Positions are published once so many later frames are in.
LAG = 10
#: Values of D less probable than this do not count for positions.
LEAST_WEIGHT = 1e-2
#: Variance of a position of which nothing is known, px^2.
UNKNOWN_VAR_PX2 = 1e6


@kernel
def normalise(log_weights, weights):
    """Fill weights that add up to 1."""
    top, total = -math.inf, 0.0
    for k in range(weights.size):
        top = max(top, log_weights[k])
    for k in range(weights.size):
        weights[k] = math.exp(log_weights[k] - top)
        total += weights[k]
    for k in range(weights.size):
        weights[k] /= total


@kernel
def set_cavity(film, t):
    """Fill the cavity of the newest frame: mean and variance of the exposure's mean position."""
    te = film.te_s[t]
    for a in range(2):
        bank, w = film.bank[t, a], film.weights[a]
        normalise(bank[2], w)
        mean = var = 0.0
        for k in range(w.size):
            mean += w[k] * bank[0, k]
        for k in range(w.size):
            off = bank[0, k] - mean
            var += w[k] * (bank[1, k] + 2.0 * film.D_px2_s[k] * te / 3.0 + off * off)
        film.cavity[2 * a] = mean - film.origin[t, a]
        film.cavity[2 * a + 1] = var


@kernel
def set_widths(film, t, sigma):
    """Fill the widths of the image, which motion in the exposure widens, from the weights of D."""
    for a in range(2):
        mean = 0.0
        for k in range(film.D_px2_s.size):
            mean += film.weights[a, k] * film.ln_D[k]
        film.sigmas[a] = math.sqrt(sigma * sigma + math.exp(mean) * film.te_s[t] / 3.0)


@kernel
def make_site(film, t, model, afresh):
    """Turn frame `t` into a site under the cavity; `afresh`, or from where its mode was."""
    sigma, light, at, cavity = model.sigma_px, film.light, film.at[t], film.cavity
    set_widths(film, t, sigma)
    d, v, side = film.d[t], film.v[t], film.profiles.shape[2]
    far = (pixels.WIDE * sigma) ** 2
    wide = cavity[1] > far or cavity[3] > far
    if model.unscented and film.counter[1] > 0:
        pixels.site_unscented(
            d, v, cavity, film.sigmas, light, at, film.profiles, film.points, film.work, film.site
        )
    elif wide and model.dim and min(cavity[1], cavity[3]) > 0.1:
        pixels.site_by_moments(
            d, cavity, light, film.templates, film.inside, film.grid, at, film.moments, film.site
        )
    else:
        if afresh:
            at[0] = min(max(cavity[0], 0.0), side - 1.0)
            at[1] = min(max(cavity[2], 0.0), side - 1.0)
            if wide:
                pixels.search(d, cavity, light, film.templates, film.inside, at)
        pixels.site_at_mode(
            d, v, cavity, film.sigmas, light, at, film.profiles, film.slopes, film.site
        )
    for a in range(2):
        film.sites[t, a, 0] = film.site[a, 0] + film.origin[t, a]
        film.sites[t, a, 1] = film.site[a, 1]


@kernel
def weigh(film, t):
    """Weigh each D by how well it foretold the site of frame `t`."""
    te = film.te_s[t]
    for a in range(2):
        bank, z, var = film.bank[t, a], film.sites[t, a, 0], film.sites[t, a, 1]
        for k in range(film.D_px2_s.size):
            s = bank[1, k] + 2.0 * film.D_px2_s[k] * te / 3.0 + var
            r = z - bank[0, k]
            film.log_weights[a, k] = bank[2, k] - 0.5 * (math.log(s) + r * r / s)


@kernel
def advance(film, t):
    """Carry the bank from the start of exposure `t` past its site to the start of the next."""
    te, dt = film.te_s[t], film.t_s[t + 1] - film.t_s[t]
    for a in range(2):
        bank, after = film.bank[t, a], film.bank[t + 1, a]
        z, var = film.sites[t, a, 0], film.sites[t, a, 1]
        top = -math.inf
        for k in range(film.D_px2_s.size):
            top = max(top, film.log_weights[a, k])
        for k in range(film.D_px2_s.size):
            step = film.D_px2_s[k] * te
            s, c = bank[1, k] + 2.0 * step / 3.0 + var, bank[1, k] + step
            after[0, k] = bank[0, k] + c / s * (z - bank[0, k])
            after[1, k] = bank[1, k] + 2.0 * film.D_px2_s[k] * dt - c * c / s
            after[2, k] = film.log_weights[a, k] - top


@kernel
def smooth(film, first, last, cavities):
    """Fill `film.smoothed` (2, LENGTH, 2): mean and variance of frames first to last given all.

    With `cavities`, what all frames but its own say of each.
    """
    for a in range(2):
        out, w = film.smoothed[a], film.weights[a]
        normalise(film.log_weights[a], w)
        total = 0.0
        for k in range(w.size):
            total += w[k] if w[k] >= LEAST_WEIGHT else 0.0
        for t in range(first, last + 1):
            out[t, 0] = out[t, 1] = 0.0
        for k in range(w.size):
            if w[k] >= LEAST_WEIGHT:
                smooth_one(film, a, k, w[k] / total, first, last, cavities)
        for t in range(first, last + 1):
            out[t, 1] = max(out[t, 1] - out[t, 0] ** 2, 1e-12)


@kernel
def smooth_one(film, a, k, weight, first, last, cavities):
    """Add the smoothed moments under one D: the steps of `advance` backward."""
    D, out = film.D_px2_s[k], film.smoothed[a]
    mean_start = var_start = 0.0
    for t in range(last, first - 1, -1):
        te, z, var = film.te_s[t], film.sites[t, a, 0], film.sites[t, a, 1]
        m, P = film.bank[t, a, 0, k], film.bank[t, a, 1, k]
        q, c = P + 2.0 * D * te / 3.0, P + D * te
        s = q + var
        r = (z - m) / s
        mean, v = m + q * r, q * var / s  # of the exposure's mean, then of its start
        mean_x, var_x = m + P * r, P - P * P / s
        if t < last:
            after = P + 2.0 * D * (film.t_s[t + 1] - film.t_s[t]) - c * c / s
            off, fall = mean_start - (m + c * r), var_start - after
            g, h = c * var / s / after, (P - P * c / s) / after
            mean += g * off
            v += g * g * fall
            mean_x += h * off
            var_x += h * h * fall
        mean_start, var_start = mean_x, var_x
        if cavities:
            info = 1.0 / v - 1.0 / var
            if info > 1e-6 / var:
                mean, v = (mean / v - z / var) / info, 1.0 / info
            else:
                v = 1e6 * var
        out[t, 0] += weight * mean
        out[t, 1] += weight * (v + mean * mean)


@kernel
def make_sites_anew(film, last, model):
    """Make the last sites once more, each under what all others say, and the bank from them."""
    first = max(0, last - KEPT + 1)
    smooth(film, first, last, True)
    for t in range(first, last + 1):
        moved = False
        for a in range(2):
            film.cavity[2 * a] = film.smoothed[a, t, 0] - film.origin[t, a]
            film.cavity[2 * a + 1] = film.smoothed[a, t, 1]
            off = film.at[t, a] - film.cavity[2 * a]
            moved = moved or off * off > 9.0 * film.cavity[2 * a + 1]
        make_site(film, t, model, moved)
    for t in range(first, last + 1):
        weigh(film, t)
        if t < last:
            advance(film, t)


@kernel
def make_room(film):
    """Drop the oldest frames of a full film; return how many stay."""
    for t in range(KEPT):
        old = t + LENGTH - KEPT
        film.d[t], film.v[t], film.origin[t] = film.d[old], film.v[old], film.origin[old]
        film.t_s[t], film.te_s[t] = film.t_s[old], film.te_s[old]
        film.bank[t], film.sites[t], film.at[t] = film.bank[old], film.sites[old], film.at[old]
    return KEPT


@kernel
def load(film, t, adu, maps):
    """Turn counts (P, P) into electrons; maps (3, P, P), or (3, 1, 1) for all pixels alike."""
    side, step = adu.shape[0], 1 if maps.shape[1] > 1 else 0
    for i in range(side):
        for j in range(side):
            q, y, x = i * side + j, i * step, j * step
            film.v[t, q] = maps[2, y, x]
            electrons = (adu[i, j] - maps[1, y, x]) / maps[0, y, x]
            film.d[t, q] = max(electrons + maps[2, y, x], 1e-6)


@kernel
def take(film, adu, maps, frame, model, out):
    """Take one frame in: counts (P, P), maps as `load`, `frame` (x0, y0, t_s, te_s); `tell`."""
    t = film.counter[0]
    if t == LENGTH:
        t = make_room(film)
    load(film, t, adu, maps)
    film.origin[t, 0], film.origin[t, 1] = frame[0], frame[1]
    film.t_s[t], film.te_s[t] = frame[2], frame[3]
    if film.counter[1] == 0:
        begin(film)
    else:
        advance(film, t - 1)
    set_cavity(film, t)
    make_site(film, t, model, True)
    weigh(film, t)
    film.counter[0] = t + 1
    film.counter[1] += 1
    if not model.unscented and (film.counter[1] % EVERY == 0 or film.counter[1] == EARLY):
        make_sites_anew(film, t, model)
    smooth(film, max(0, t - LAG), t, False)
    tell(film, out)


@kernel
def begin(film):
    """Let nothing be known of the first position."""
    side = film.profiles.shape[2]
    for a in range(2):
        film.bank[0, a, 0] = film.origin[0, a] + 0.5 * (side - 1)
        film.bank[0, a, 1] = UNKNOWN_VAR_PX2
        film.bank[0, a, 2] = 0.0


@kernel
def tell(film, out):
    """Fill out (6, 2): now mean and variance, lagged mean and variance, D, s.d. of ln D.

    The weights of D are those that `smooth` has left.
    """
    t = film.counter[0] - 1
    first = max(0, t - LAG)
    for a in range(2):
        mean = square = 0.0
        for k in range(film.D_px2_s.size):
            ln = film.ln_D[k]
            mean += film.weights[a, k] * ln
            square += film.weights[a, k] * ln * ln
        out[0, a], out[1, a] = film.smoothed[a, t, 0], film.smoothed[a, t, 1]
        out[2, a], out[3, a] = film.smoothed[a, first, 0], film.smoothed[a, first, 1]
        out[4, a], out[5, a] = math.exp(mean), math.sqrt(max(square - mean * mean, 0.0))
