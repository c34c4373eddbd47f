"""The fused detector against plain convolutions."""

from __future__ import annotations

import numpy as np
import pytest
from livespt.camera import Scmos
from livespt.localize import detect_kernels, detection
from livespt.localize.threshold import limits
from scipy.ndimage import correlate, uniform_filter


def test_the_filter_is_gaussian_less_box(rng):
    light = rng.normal(size=(48, 53)).astype(np.float32)
    plan = detection.make_plan(Scmos(2.0, 100.0, 1.0), 1.3, light.shape, 0.1)
    work = detection.make_work(light.shape, 1.3)
    pad, (height, width) = plan.pad, light.shape
    inner = (slice(pad, pad + height), slice(pad, pad + width))
    work.light[inner] = light
    work.clipped[inner] = np.minimum(light, 0.5)
    detect_kernels.matched_filter(
        work.light,
        work.clipped,
        height,
        width,
        pad,
        plan.weights,
        plan.box,
        work.columns,
        work.filtered,
    )
    taps = plan.weights.astype(float)
    expected = correlate(light.astype(float), np.outer(taps, taps), mode="constant")
    low = np.minimum(light, 0.5).astype(float)
    expected -= uniform_filter(low, 2 * plan.box + 1, mode="constant")
    np.testing.assert_allclose(work.filtered[inner], expected, atol=3e-6)


def test_levels_are_interpolated_alike_by_row_and_by_point(rng):
    levels = rng.uniform(1, 5, (3, 4)).astype(np.float32)
    out = np.zeros(130, np.float32)
    for y in (0, 20, 50, 95):
        detect_kernels.level_row(levels, y, 96, 120, 5, out)
        points = [detect_kernels.level_at(levels, y, x, 96, 120) for x in range(120)]
        np.testing.assert_allclose(out[5:125], points, rtol=1e-5)


@pytest.mark.parametrize("excess", [1.0, 2.0])
def test_the_threshold_cuts_the_tail_it_says(excess, rng):
    """Direct sampling: 1.4e6 draws hold ~60,000 independent ones, p to +-11 % (1 s.d.)."""
    kernel = detection.full_kernel(1.3)
    bound = limits(kernel, 3.0, np.array([0.5]), np.array([0.02]), excess)[0, 0]
    n = rng.poisson(0.5, (1200, 1200)).astype(float)
    if excess == 2.0:
        n = np.where(n > 0, rng.gamma(np.maximum(n, 1.0)), 0.0)
    out = correlate(n - 0.5, kernel, mode="wrap")
    out += rng.normal(0, np.sqrt(0.02), out.shape)
    assert np.mean(out > bound) == pytest.approx(1.35e-3, rel=0.25)
