# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""Switching diffusion in continuous time, one exposure's sub-steps at a time.

Symbols: `lam` = 2 integral of D dt over a sub-step, the variance of its displacement per axis.
"""

from __future__ import annotations

import math

import numpy as np

from livespt.jit import kernel
from livespt_sim.randomkernels import exponential, normal, uniform

BRIDGE_MEAN = 1.0 / math.sqrt(12.0)  # s.d. of a unit Brownian bridge's time average


@kernel
def next_state(u, jump_cdf, state):
    """Return the state that a molecule leaves `state` for, from the uniform number `u`."""
    for k in range(jump_cdf.shape[1] - 1):
        if u < jump_cdf[state, k]:
            return k
    return jump_cdf.shape[1] - 1


@kernel
def switch(s, k, duration, tables, time_in):
    """Let a molecule of state `k` switch for `duration`; add the time per state to `time_in`.

    Returns the random state, the last motion state and lam.
    """
    D, exit_rate, jump_cdf = tables
    left = duration
    lam = 0.0
    while True:
        stay = left
        if exit_rate[k] > 0.0:
            s, wait = exponential(s)
            stay = min(left, wait / exit_rate[k])
        lam += 2.0 * D[k] * stay
        time_in[k] += stay
        left -= stay
        if left <= 0.0:
            return s, k, lam
        s, u = uniform(s)
        k = next_state(u, jump_cdf, k)


@kernel
def reflect_1d(x, half):
    """Fold `x` into [-half, half]: the end point of a walk between reflecting walls."""
    period = 4.0 * half
    u = (x + half) % period
    return (u if u <= 2.0 * half else period - u) - half


@kernel
def reflect_disc(y, z, dy, dz, radius):
    """Move by (dy, dz) inside a circle, straight between mirror reflections at its wall.

    Mirror reflection keeps a uniform density uniform, which folding along the radius does not.
    """
    for _ in range(100):
        a = dy * dy + dz * dz
        if a == 0.0:
            break
        b = y * dy + z * dz
        c = y * y + z * z - radius * radius
        t = (-b + math.sqrt(max(b * b - a * min(c, 0.0), 0.0))) / a
        if t >= 1.0:
            return y + dy, z + dz
        y, z = y + t * dy, z + t * dz
        ny, nz = y / radius, z / radius
        rest = 1.0 - t
        out = 2.0 * (dy * ny + dz * nz)
        dy, dz = rest * (dy - out * ny), rest * (dz - out * nz)
    return into_disc(y, z, radius)


@kernel
def into_disc(y, z, radius):
    """Pull a point outside the circle back to its wall."""
    r = math.sqrt(y * y + z * z)
    if r <= radius:
        return y, z
    return y * radius / r, z * radius / r


@kernel
def advance(pos, state, alive, durations, tables, walls, rng, mid, lam, time_in):
    """Move all molecules through the sub-steps of `durations`.

    `pos` (n, 3) and `state` (n,) are updated. `mid` (n, S, 2) receives the mean position over
    each sub-step: half-way plus the bridge's own mean, exact for free motion. `lam` (n, S) the
    variance of each displacement. `walls` = (half length, radius) of a cylinder along x about the
    origin; a radius of 0 is free space.
    """
    half, radius = walls
    r = rng[0]
    for i in range(pos.shape[0]):
        if not alive[i]:
            continue
        k = state[i]
        for j in range(durations.shape[0]):
            r, k, v = switch(r, k, durations[j], tables, time_in[i])
            sd = math.sqrt(v)
            r, dx = normal(r)
            r, dy = normal(r)
            r, bx = normal(r)
            r, by = normal(r)
            dx, dy = sd * dx, sd * dy
            mx = pos[i, 0] + 0.5 * dx + sd * BRIDGE_MEAN * bx
            my = pos[i, 1] + 0.5 * dy + sd * BRIDGE_MEAN * by
            if radius > 0.0:
                r, dz = normal(r)
                dz *= sd
                mx = reflect_1d(mx, half)
                my, _ = into_disc(my, pos[i, 2] + 0.5 * dz, radius)
                pos[i, 0] = reflect_1d(pos[i, 0] + dx, half)
                pos[i, 1], pos[i, 2] = reflect_disc(pos[i, 1], pos[i, 2], dy, dz, radius)
            else:
                pos[i, 0] += dx
                pos[i, 1] += dy
            mid[i, j, 0], mid[i, j, 1] = mx, my
            lam[i, j] = v
        state[i] = k
    rng[0] = r


@kernel
def fold(pos, low, high, periodic):
    """Bring molecules that left the field back: mirrored, or on the other side."""
    crossed = np.zeros(pos.shape[0], np.bool_)
    for i in range(pos.shape[0]):
        for axis in range(2):
            x = pos[i, axis]
            width = high[axis] - low[axis]
            if low[axis] <= x <= high[axis]:
                continue
            crossed[i] = True
            if periodic:
                pos[i, axis] = low[axis] + (x - low[axis]) % width
            else:
                centre = 0.5 * (low[axis] + high[axis])
                pos[i, axis] = centre + reflect_1d(x - centre, 0.5 * width)
    return crossed
