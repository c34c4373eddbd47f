"""The fused detector against plain convolutions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import correlate, uniform_filter

from livespt.camera import Scmos
from livespt.localize import detect_kernels, detection, line_kernels
from livespt.localize.threshold import limits


@pytest.mark.parametrize("sigma_px", [0.5, 0.8, 1.0, 1.3, 2.0])
def test_the_filter_is_gaussian_less_box(sigma_px, rng):
    """Every remainder of the box's side by four, and more taps than are taken at once."""
    light = rng.normal(size=(33, 41)).astype(np.float32)
    (height, width) = light.shape
    plan = detection.make_plan(Scmos(2.0, 100.0, 1.0), sigma_px, light.shape, 0.1)
    lines = detection.make_work(light.shape, sigma_px).lines
    at = line_kernels.layout_of(width, plan.box, plan.pad)
    inner = slice(at.limit + at.pad, at.limit + at.pad + width)
    lines[inner] = np.float32(0.5)
    lines[at.upper : at.upper + at.wide], lines[at.lower : at.lower + at.wide] = 1.0, 3.0
    found = np.zeros(light.shape)
    for y in range(height + plan.box):
        if y < height:  # the level below is 1 + 0.25 (3 - 1)
            line_kernels.push_line(lines, at, y, light[y] + np.float32(1.5), np.float32(0.25))
        else:
            line_kernels.push_nothing(lines, at, y)
        if y >= plan.box:
            done = y - plan.box
            line_kernels.filter_line(lines, at, done, width, plan.box, plan.taps)
            start = at.out + done % 4 * at.wide + at.pad
            found[done] = lines[start : start + width]
    half = plan.taps[: plan.taps.size - line_kernels.SPARE].astype(float)
    taps = np.concatenate([half[:0:-1], half])
    expected = correlate(light.astype(float), np.outer(taps, taps), mode="constant")
    low = np.minimum(light, 0.5).astype(float)
    expected -= uniform_filter(low, 2 * plan.box + 1, mode="constant")
    np.testing.assert_allclose(found, expected, atol=3e-6)


def test_levels_are_interpolated_alike_by_line_and_by_point(rng):
    levels = rng.uniform(1, 5, (3, 4)).astype(np.float32)
    upper, lower = np.zeros(130, np.float32), np.zeros(130, np.float32)
    for y in (0, 20, 50, 95):
        j, share = detect_kernels.place_of(y, 3, 96)
        detect_kernels.level_line(levels[j], 120, 5, upper)
        detect_kernels.level_line(levels[min(j + 1, 2)], 120, 5, lower)
        out = upper + share * (lower - upper)
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
