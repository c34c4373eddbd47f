"""The fused detector against plain convolutions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import correlate, maximum_filter

from livespt.camera import Scmos
from livespt.jit import read_only
from livespt.localize import detect_kernels, detection, level_kernels
from livespt.localize.threshold import limits

AROUND = 48  # px of background laid about the frame, more than any filter reaches


def tiles_of(length, n):
    """Return the tile of each pixel along one axis."""
    return np.concatenate([np.full((i + 1) * length // n - i * length // n, i) for i in range(n)])


def naive_levels(light, tile_var, excess, shape):
    """Mean of what is not too bright in four lines of each tile, then smoothed."""
    n_y, n_x = tile_var.shape
    raw = np.zeros((n_y, n_x))
    rows, columns = tiles_of(shape[0], n_y), tiles_of(shape[1], n_x)
    for ty in range(n_y):
        lines = np.flatnonzero(rows == ty)
        step = lines.size // 4
        lines = lines[step // 2 :: step][:4]
        for tx in range(n_x):
            values = light[np.ix_(lines, columns == tx)]
            level, limit = values.mean(), np.inf
            for _ in range(level_kernels.ROUNDS):
                limit = level + 4 * np.sqrt(excess * max(level, 0) + tile_var[ty, tx]) + 4
                level = values[values < limit].mean()
            raw[ty, tx] = level
    for axis in (0, 1):
        inner = np.moveaxis(raw.copy(), axis, 0)
        inner[1:-1] = 0.25 * (inner[:-2] + 2 * inner[1:-1] + inner[2:])
        raw = np.moveaxis(inner, 0, axis)
    return raw


def drawn(levels, pixels, length):
    """Interpolate along the first axis, and draw on beyond the first and last middle."""
    n = len(levels)
    if n == 1:
        return np.repeat(levels, len(pixels), axis=0)
    at = (np.asarray(pixels) + 0.5) * n / length - 0.5
    tile = np.clip(np.floor(at), 0, n - 2).astype(int)
    share = (at - tile)[:, None]
    lowest = np.minimum(levels[tile], levels[tile + 1])
    line = levels[tile] * (1 - share) + levels[tile + 1] * share
    return np.maximum(line, lowest - 0.5 * np.abs(lowest))


def naive_output(light, levels, tile_var, sigma_px):
    """Filter the frame with each line's own filter, and return the levels at every pixel too."""
    height, width = light.shape
    n_y, n_x = levels.shape
    at = drawn(drawn(levels, np.arange(height), height).T, np.arange(width), width).T
    wide = np.pad(at, AROUND, mode="edge")
    middles = drawn(levels, np.arange(height) // 4 * 4 + 1.5, height)
    beside = drawn(middles.T, [0, width - 1], width).T
    wide[AROUND:-AROUND, :AROUND] = beside[:, :1]
    wide[AROUND:-AROUND, -AROUND:] = beside[:, 1:]
    missing = slice(AROUND + height, AROUND + height + -height % 4)  # lines of the last group
    wide[missing, :AROUND], wide[missing, -AROUND:] = beside[-1, 0], beside[-1, 1]
    inner = (slice(AROUND, -AROUND),) * 2
    bright = levels + 4 * np.sqrt(np.maximum(levels, 0) + tile_var) + 4
    rows = tiles_of(height, n_y)[np.arange(height) // 4 * 4]
    clipped = wide.copy()
    clipped[inner] = np.minimum(light, bright[np.ix_(rows, tiles_of(width, n_x))])
    wide[inner] = light
    g_down, g_along, down, box = detection.filter_phases(sigma_px)
    out = correlate(wide, np.outer(g_down, g_along), mode="nearest")[inner]
    for line in range(4):
        level = correlate(clipped, np.outer(down[line], box), mode="nearest")
        out[line::4] -= level[inner][line::4]
    return out, at


def naive_around(light, y, x, box):
    """Median of sixteen pixels on the border of the box, those beyond the frame moved inside."""
    steps = [k * box // 2 - box for k in range(4)]
    ring = [(-box, s) for s in steps] + [(s, box) for s in steps]
    ring += [(-dy, -dx) for dy, dx in ring]
    at = np.clip(np.array(ring) + np.array([y, x]), 0, np.array(light.shape) - 1)
    return np.median(light[at[:, 0], at[:, 1]])


def naive_limit(plan, level, var_f):
    """Interpolate the threshold in the logarithms of level and filtered variance."""
    log_level = np.log(np.maximum(level, 1e-3))
    columns = np.array([np.interp(log_level, plan.log_levels, one) for one in plan.limits.T])
    if len(columns) == 1:
        return columns[0]
    at = np.interp(np.log(np.maximum(var_f, 1e-12)), plan.log_vars, np.arange(len(columns)))
    column = np.minimum(at.astype(int), len(columns) - 2)
    low, high = (np.take_along_axis(columns, k[None], 0)[0] for k in (column, column + 1))
    return low + (high - low) * (at - column)


def naive_peaks(out):
    around = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]])
    return out > maximum_filter(out, footprint=around, mode="constant")


@pytest.mark.parametrize(
    "shape, sigma_px",
    [
        ((64, 80), 1.3),
        ((67, 301), 1.0),
        ((150, 530), 2.0),
        ((96, 100), 0.5),
        ((130, 128), 5.0),
        ((66, 90), 0.7),
    ],
)
@pytest.mark.parametrize("maps", ["none", "packed", "too wide to pack"])
def test_detections_are_those_of_plain_convolutions(shape, sigma_px, maps, rng):
    """One strip to four, heights that groups of four do not divide, more taps than seven."""
    ramp = np.add.outer(0.05 * np.arange(shape[0]), 0.02 * np.arange(shape[1]))
    camera = Scmos(2.2, 100.0, 1.6)
    if maps != "none":
        offset = rng.normal(100, 2, shape)
        offset[20, 30] = 40_000.0 if maps == "too wide to pack" else 99.0
        camera = Scmos(rng.normal(2.2, 0.07, shape), offset, rng.uniform(1, 3, shape))
    adu = camera.sample(8.0 + ramp, rng)
    plan = detection.make_plan(camera, sigma_px, shape, 0.0005 * adu.size)
    assert (plan.packed.size > 0) == (maps == "packed")
    plan = plan._replace(limits=0.5 * plan.limits)  # so that there is much to compare
    work = detection.make_work(shape, sigma_px)
    n = detect_kernels.detect_frame(read_only(adu), plan, work)
    light = (adu - np.asarray(camera.offset_adu)) / np.asarray(camera.gain_adu_per_e)
    levels = naive_levels(light, plan.tile_var, 1.0, shape)
    out, at = naive_output(light, levels, plan.tile_var, sigma_px)
    var_f = np.broadcast_to(plan.var_f, shape)
    limit = naive_limit(plan, at, var_f)
    rows, columns = (tiles_of(n, m) for n, m in zip(shape, plan.tile_var.shape, strict=True))
    for y, x in zip(*np.nonzero(naive_peaks(out) & (out > limit)), strict=True):
        around = naive_around(light, y, x, plan.at.box)
        if around > at[y, x] + np.sqrt(max(at[y, x], 0) + plan.tile_var[rows[y], columns[x]]):
            at[y, x] = around
            limit[y, x] = naive_limit(plan, at[y : y + 1, x], var_f[y : y + 1, x])[0]
    y, x = np.nonzero(naive_peaks(out) & (out > limit))
    found = work.found[:n]
    assert n == len(y) > 20
    np.testing.assert_allclose(found[:, 4], (out / limit)[y, x], rtol=2e-4)
    assert np.abs(found[:, 0] - x).max() <= 0.5
    assert np.abs(found[:, 1] - y).max() <= 0.5
    np.testing.assert_allclose(found[:, 3], at[y, x], rtol=1e-4)


@pytest.mark.parametrize("excess", [1.0, 2.0])
def test_the_threshold_cuts_the_tail_it_says(excess, rng):
    """Direct sampling: 1.4e6 draws hold ~60,000 independent ones, p to +-11 % (1 s.d.)."""
    weights = detection.full_kernel(1.3)
    levels, sds = np.array([0.499, 0.5, 0.501]), np.full(3, 3.0)
    bound = limits(weights, sds, levels, np.array([0.02]), excess)[1, 0]
    n = rng.poisson(0.5, (1200, 1200)).astype(float)
    if excess == 2.0:
        n = np.where(n > 0, rng.gamma(np.maximum(n, 1.0)), 0.0)
    out = correlate(n - 0.5, weights[1], mode="wrap")
    out += rng.normal(0, np.sqrt(0.02), out.shape)
    assert np.mean(out > bound) == pytest.approx(1.35e-3, rel=0.25)
