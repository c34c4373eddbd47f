"""The detector's strips, and what packed maps say."""

from __future__ import annotations

import numpy as np
import pytest

from livespt import vector_pixels as px
from livespt.camera import Ideal
from livespt.localize.detection import make_plan
from livespt.localize.line_kernels import INNER, STEP
from livespt.localize.packing import TOP, pack, strips_of


def plan_of(width, sigma_px=1.3):
    """Return the layout of a frame."""
    return make_plan(Ideal(), sigma_px, (64, width), 0.1).at


@pytest.mark.parametrize("sigma_px", [0.5, 1.3, 5.0])
@pytest.mark.parametrize("width", [45, 128, 176, 177, 301, 512, 530, 1024, 2048])
def test_strips_cover_the_frame_with_all_that_their_filter_needs(width, sigma_px):
    at = plan_of(width, sigma_px)
    strips = strips_of(at)
    assert strips[0, 0] == 0
    assert strips[-1, 1] == width
    np.testing.assert_array_equal(strips[1:, 0], strips[:-1, 1])
    for x0, x1, left, n, _ in strips:
        begin, end = max(x0 - 1, 0), min(x1 + 1, width)
        assert -(-(end - begin) // STEP) * STEP <= INNER
        assert left <= max(begin - at.reach, 0)
        assert left + n >= min(end + at.reach, width)
        assert left + n <= width
        assert n % STEP == 0 or n == width


def test_512_columns_are_filtered_in_33_sixteens():
    """A thirty-third for the two columns at each of two seams."""
    strips = strips_of(plan_of(512))
    begin, end = np.maximum(strips[:, 0] - 1, 0), np.minimum(strips[:, 1] + 1, 512)
    assert np.sum(-(-(end - begin) // STEP)) == 33


def test_packed_maps_are_right_to_half_a_step(rng):
    shape = (64, 80)
    strips = strips_of(plan_of(80))
    gain, offset = rng.normal(2.2, 0.07, shape), rng.normal(100.0, 2.0, shape)
    words, (scale_0, scale_step, offset_0, offset_step) = pack(gain, offset, strips)
    lower = np.concatenate([px.load_low(words, k) for k in range(0, words.size, px.WIDTH)])
    scale = lower.astype(np.float64) * float(scale_step) + float(scale_0)
    told = words * float(offset_step) + float(offset_0)
    # the step that 16 bits make of the range; one in 1000 for rounding to float32
    true_scale = (1.0 / gain).ravel()
    assert np.abs(scale - true_scale).max() <= 0.501 * np.ptp(true_scale) / TOP
    true_offset = offset.ravel() * scale
    assert np.abs(told - true_offset).max() <= 0.501 * np.ptp(true_offset) / (TOP - 2)
