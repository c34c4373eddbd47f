"""The image for the eyes: small, and true to the frame."""

from __future__ import annotations

import numpy as np
import pytest

from livespt.sinks import PREVIEW_PX, preview
from livespt.types import Frame


def naive(adu, n):
    """Return the means over n x n pixels, one bin at a time."""
    height, width = adu.shape[0] // n, adu.shape[1] // n
    out = np.empty((height, width))
    for y in range(height):
        for x in range(width):
            out[y, x] = adu[y * n : (y + 1) * n, x * n : (x + 1) * n].astype(float).mean()
    return out


@pytest.mark.parametrize(
    ("shape", "n"), [((3, 520), 2), ((1030, 67), 3), ((34, 2048), 4), ((2305, 9), 5)]
)
def test_a_large_frame_is_shrunk_to_the_means_of_its_bins(shape, n):
    adu = np.random.default_rng(1).integers(0, 65536, shape).astype(np.uint16)
    adu[:n, :n] = 65535  # no sum runs over
    image = preview(Frame(3, 0.1, adu, 0.01))
    small = image.adu.array()
    assert image.binning == n
    assert max(small.shape) <= PREVIEW_PX
    assert small.dtype == np.uint16
    assert np.abs(small - naive(adu, n)).max() <= 0.5
    assert small[0, 0] == 65535


def test_a_small_frame_is_shown_as_it_is():
    adu = np.arange(512 * 4, dtype=np.uint16).reshape(4, 512)
    image = preview(Frame(0, 0.0, adu, 0.01))
    assert image.binning == 1
    assert (image.adu.array() == adu).all()
