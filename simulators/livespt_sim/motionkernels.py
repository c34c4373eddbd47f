# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""Switching diffusion in continuous time, one exposure's sub-steps at a time.

Symbols: `lam` = 2 integral of D dt over a sub-step, the variance of its displacement per axis.

A room is (shape, a, b, c, zone): one of the shapes below about the origin, its sizes, and the scale
of the same shape inside which other switching rates hold (0: nowhere).
"""

from __future__ import annotations

import math

import numpy as np

from livespt.jit import inlined, kernel
from livespt_sim.randomkernels import exponential, normal, uniform

FREE, CYLINDER, CAPSULE, ELLIPSOID, SLAB = range(5)
BRIDGE_MEAN = 1.0 / math.sqrt(12.0)  # s.d. of a unit Brownian bridge's time average


@inlined
def next_state(u, jump_cdf, state):
    """Return the state that a molecule leaves `state` for, from the uniform number `u`."""
    for k in range(jump_cdf.shape[1] - 1):
        if u < jump_cdf[state, k]:
            return k
    return jump_cdf.shape[1] - 1


@inlined
def switch(s, k, duration, tables, zone, time_in):
    """Let a molecule of state `k` switch for `duration`; add the time per state to `time_in`.

    `zone` 0 or 1 chooses the rates. Returns the random state, the last motion state and lam.
    """
    D, exit_rate, jump_cdf = tables
    left = duration
    lam = 0.0
    while True:
        stay = left
        if exit_rate[zone, k] > 0.0:
            s, wait = exponential(s)
            stay = min(left, wait / exit_rate[zone, k])
        lam += 2.0 * D[k] * stay
        time_in[k] += stay
        left -= stay
        if left <= 0.0:
            return s, k, lam
        s, u = uniform(s)
        k = next_state(u, jump_cdf[zone], k)


@inlined
def is_inside(shape, a, b, c, x, y, z):
    """Say whether a point lies in a shape: capsule and cylinder of half length a, radius b."""
    if shape == CYLINDER:
        return abs(x) <= a and y * y + z * z <= b * b
    if shape == CAPSULE:
        beyond = max(abs(x) - (a - b), 0.0)
        return beyond * beyond + y * y + z * z <= b * b
    if shape == ELLIPSOID:
        return (x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2 <= 1.0
    return shape == FREE or abs(z) <= c


@inlined
def zone_of(room, x, y, z):
    """Return 1 inside the zone of other rates, else 0."""
    shape, a, b, c, scale = room
    if scale <= 0.0:
        return 0
    return 1 if is_inside(shape, scale * a, scale * b, scale * c, x, y, z) else 0


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


@inlined
def bounded(room, old, mid, new):
    """Bring the mean and the end of a step from `old` back into the room (x, y, z each).

    Mirrors at flat walls and round a cylinder; a curved room's step that leads out is not made,
    which keeps an even filling even.
    """
    shape, a, b, c, _ = room
    _, y, z = old
    mx, my, mz = mid
    nx, ny, nz = new
    if shape == CYLINDER:
        my, mz = into_disc(my, mz, b)
        ny, nz = reflect_disc(y, z, ny - y, nz - z, b)
        return (reflect_1d(mx, a), my, mz), (reflect_1d(nx, a), ny, nz)
    if shape == SLAB:
        return (mx, my, reflect_1d(mz, c)), (nx, ny, reflect_1d(nz, c))
    if not is_inside(shape, a, b, c, nx, ny, nz):
        return old, old
    return mid if is_inside(shape, a, b, c, mx, my, mz) else old, new


@kernel
def advance(pos, state, alive, durations, tables, room, rng, mid, lam, time_in):
    """Move all molecules through the sub-steps of `durations`.

    `pos` (n, 3) and `state` (n,) are updated. `mid` (n, S, 3) receives the mean position over
    each sub-step: half-way plus the bridge's own mean, exact for free motion. `lam` (n, S) the
    variance of each displacement. A molecule in free space stays in its plane.
    """
    flat = room[0] == FREE
    r = rng[0]
    for i in range(pos.shape[0]):
        if not alive[i]:
            continue
        k = state[i]
        for j in range(durations.shape[0]):
            old = (pos[i, 0], pos[i, 1], pos[i, 2])
            r, k, v = switch(r, k, durations[j], tables, zone_of(room, *old), time_in[i])
            sd = math.sqrt(v)
            r, dx = normal(r)
            r, dy = normal(r)
            r, bx = normal(r)
            r, by = normal(r)
            dz = bz = 0.0
            if not flat:
                r, dz = normal(r)
                r, bz = normal(r)
            half, bridge = 0.5 * sd, BRIDGE_MEAN * sd
            new = (old[0] + sd * dx, old[1] + sd * dy, old[2] + sd * dz)
            mean = (
                old[0] + half * dx + bridge * bx,
                old[1] + half * dy + bridge * by,
                old[2] + half * dz + bridge * bz,
            )
            if not flat:
                mean, new = bounded(room, old, mean, new)
            for axis in range(3):
                pos[i, axis], mid[i, j, axis] = new[axis], mean[axis]
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
