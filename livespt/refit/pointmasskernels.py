# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""One molecule's place as probabilities on a grid: likelihood maps, filter and smoother.

Theory: `livespt.refit.pointmass`. The grid of a frame covers its region with m nodes a pixel; nodes
of all frames lie on one lattice, so that a region's move is a whole number of them.

Symbols: alpha filtered, beta backward, gamma smoothed probabilities; q variance of a step in
nodes^2.
"""

from __future__ import annotations

import math

from livespt.jit import kernel
from livespt.localize.table_kernels import look_up_loglik, position
from livespt.psf_kernels import profile

#: Steps this much longer than their s.d. do not happen.
REACH_SDS = 5.0
#: A step of less variance is spread over the nearest nodes alone, which keeps its variance.
NARROW = 0.5
#: Light below this share of what a pixel holds already counts to first order.
FAINT = 1e-3


@kernel
def fill_shares(shares, sigma, per_px, side, work):
    """Fill shares[node, pixel] of the light along one axis; `work` (3, P)."""
    for i in range(shares.shape[0]):
        profile((i + 0.5) / per_px - 0.5, sigma, side, work[0], work[1], work[2])
        for j in range(side):
            shares[i, j] = work[0, j]


@kernel
def fill_map(d, v, light, shares_x, shares_y, out):
    """Fill ln p of one frame's pixels over that of none, for every node (y, x)."""
    size, side = shares_x.shape
    for y in range(size):
        for x in range(size):
            total = 0.0
            for i in range(side):
                bright = light[0] * shares_y[y, i]
                for j in range(side):
                    q = i * side + j
                    more, before = bright * shares_x[x, j], light[1] + v[q]
                    if more < FAINT * before:
                        total += d[q] * more / before - more
                    else:
                        total += d[q] * math.log(1.0 + more / before) - more
            out[y, x] = total


@kernel
def fill_map_table(counts, light, table, per_z, shares_x, shares_y, out):
    """As `fill_map`, of a camera whose likelihood is a table; counts less offset."""
    size, side = shares_x.shape
    for y in range(size):
        for x in range(size):
            out[y, x] = 0.0
    for i in range(side):
        for j in range(side):
            count = counts[i * side + j]
            place = position(count, per_z, table)
            dark = look_up_loglik(place, count, light[1], table)
            for y in range(size):
                bright = light[0] * shares_y[y, i]
                for x in range(size):
                    more = bright * shares_x[x, j]
                    if more > 1e-4 * light[1]:
                        out[y, x] += look_up_loglik(place, count, light[1] + more, table) - dark


@kernel
def to_likelihood(maps, tops):
    """Turn ln p (n, M, M) into p over its highest, which `tops` (n,) receives."""
    n, size, _ = maps.shape
    for t in range(n):
        tops[t] = maps[t].max()
        for y in range(size):
            for x in range(size):
                maps[t, y, x] = math.exp(maps[t, y, x] - tops[t])


@kernel
def fill_step(q, weights):
    """Fill the probabilities of steps 0..R nodes, variance q; return R."""
    if q < NARROW:
        weights[0], weights[1] = 1.0 - q, 0.5 * q
        return 1
    reach = min(int(REACH_SDS * math.sqrt(q)) + 1, weights.size - 1)
    norm = 1.0 / math.sqrt(2.0 * math.pi * q)
    for k in range(reach + 1):
        weights[k] = norm * math.exp(-0.5 * k * k / q)
    return reach


@kernel
def spread_rows(source, weights, reach, shift, out):
    """Move probability along y: out[i] = sum of weights[|i + shift - j|] source[j]."""
    size = source.shape[0]
    for i in range(size):
        row = out[i]
        for x in range(size):
            row[x] = 0.0
        for j in range(max(0, i + shift - reach), min(size, i + shift + reach + 1)):
            w, origin = weights[abs(i + shift - j)], source[j]
            for x in range(size):
                row[x] += w * origin[x]


@kernel
def turn(source, out):
    """Transpose."""
    for y in range(source.shape[0]):
        for x in range(source.shape[0]):
            out[x, y] = source[y, x]


@kernel
def spread(source, steps, reach, shift, work, out):
    """Move probability by one step along both axes; shift (x, y) of the regions, in nodes."""
    spread_rows(source, steps[1], reach[1], shift[1], out)
    turn(out, work)
    spread_rows(work, steps[0], reach[0], shift[0], out)
    turn(out, work)
    for y in range(out.shape[0]):
        for x in range(out.shape[0]):
            out[y, x] = work[y, x]


@kernel
def set_steps(D, dt, steps, reach):
    """Fill the steps along both axes over a time dt; D in nodes^2/s."""
    for a in range(2):
        reach[a] = fill_step(2.0 * D[a] * dt, steps[a])


@kernel
def run(likelihood, D, dt, shifts, space, alpha):
    """Filter; fill alpha (n, M, M) and return ln L less the maps' tops.

    `dt` (n,) and `shifts` (n, 2) lead from the frame before; `space`: steps (2, R), reach (2,), and
    two grids.
    """
    steps, reach, work, ahead = space
    n, size, _ = likelihood.shape
    total = 0.0
    for t in range(n):
        if t == 0:
            ahead[:, :] = 1.0 / (size * size)
        else:
            set_steps(D, dt[t], steps, reach)
            spread(alpha[t - 1], steps, reach, shifts[t], work, ahead)
        share = 0.0
        for y in range(size):
            for x in range(size):
                alpha[t, y, x] = ahead[y, x] * likelihood[t, y, x]
                share += alpha[t, y, x]
        if share < 1e-290:
            return -1e300
        for y in range(size):
            for x in range(size):
                alpha[t, y, x] /= share
        total += math.log(share)
    return total


@kernel
def smooth(likelihood, D, dt, shifts, space, alpha, weight, moments):
    """Add `weight` times the smoothed moments (1, x, y, xx, yy, xy) in nodes to moments (n, 6)."""
    steps, reach, work, ahead = space
    n, size, _ = likelihood.shape
    beta = work.copy()
    beta[:, :] = 1.0
    for t in range(n - 1, -1, -1):
        if t < n - 1:
            top = 0.0
            for y in range(size):
                for x in range(size):
                    ahead[y, x] = beta[y, x] * likelihood[t + 1, y, x]
                    top = max(top, ahead[y, x])
            for y in range(size):
                for x in range(size):
                    ahead[y, x] /= top
            set_steps(D, dt[t + 1], steps, reach)
            spread(ahead, steps, reach, -shifts[t + 1], work, beta)
        add_moments(alpha[t], beta, weight, moments[t])


@kernel
def add_moments(alpha, beta, weight, out):
    """Add the moments of alpha times beta."""
    size = alpha.shape[0]
    s0 = sx = sy = sxx = syy = sxy = 0.0
    for y in range(size):
        for x in range(size):
            p = alpha[y, x] * beta[y, x]
            s0 += p
            sx += p * x
            sy += p * y
            sxx += p * x * x
            syy += p * y * y
            sxy += p * x * y
    scale = weight / s0
    out[0] += weight
    out[1] += scale * sx
    out[2] += scale * sy
    out[3] += scale * sxx
    out[4] += scale * syy
    out[5] += scale * sxy
