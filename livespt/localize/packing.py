"""The detector's plan of a frame: its strips, and a camera's maps packed in their order.

An electron count is counts * scale - offset, with scale and offset maps. Each is told by 16 bits:
value = least + step * (0 to 65535). The offset is made for the scale as packed, so that an error
of the latter is one of gain only: a pixel in the dark reads zero whatever the camera's offset is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from livespt.localize.line_kernels import INNER, STEP, Layout

TOP = 65535
MOST_SCALE = 1e-3  # step of the scale, relative to the least: half of it is a pixel's gain error
MOST_OFFSET_E = 0.02  # step of the offset; as noise 0.006 e, below any camera's


def strips_of(at: Layout) -> NDArray[np.int64]:
    """Return the strips of a frame.

    Returns
    -------
    (n, 5) int64
        First column and the one after the last; first column to load, and how many; where its
        packed maps begin.
    """
    n_strips = 1
    while (sixteens := -(-(at.width + 2 * (n_strips - 1)) // STEP)) * STEP > n_strips * INNER:
        n_strips += 1
    starts = [0]
    for strip in range(n_strips - 1):
        more = (sixteens * (strip + 1) // n_strips - sixteens * strip // n_strips) * STEP - 2
        starts.append(starts[-1] + more)
    if n_strips > 1:  # the last ends where the frame does
        starts[-1] = at.width - (sixteens - sixteens * (n_strips - 1) // n_strips) * STEP
    first = [0, *(start + 1 for start in starts[1:]), at.width]
    beside, rows, word = -(-at.reach // STEP) * STEP, [], 0
    for start, x0, x1 in zip(starts, first[:-1], first[1:], strict=True):
        left, right = max(start - beside, 0), min(x1 + 1 + at.reach, at.width)
        n = min(-(-(right - left) // STEP) * STEP, at.width)
        rows.append((x0, x1, min(left, at.width - n), n, word))
        word += n * at.height
    return np.array(rows, np.int64)


def pack(
    gain: NDArray[np.float64], offset_adu: NDArray[np.float64], strips: NDArray[np.int64]
) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
    """Pack maps (H, W) strip by strip.

    Returns
    -------
    (n,) uint32
        Scale in the low half, offset in the high one. Empty where 16 bits would be too coarse.
    (4,) float32
        Least scale (e per count), its step, least offset (e), its step.
    """
    scale, scale_0, scale_step = _steps(1.0 / gain)
    offset, offset_0, offset_step = _steps(offset_adu * (scale_0 + scale * scale_step))
    steps = np.array([scale_0, scale_step, offset_0, offset_step], np.float32)
    if scale_step > MOST_SCALE * scale_0 or offset_step > MOST_OFFSET_E:
        return np.empty(0, np.uint32), steps
    words = scale.astype(np.uint32) | offset.astype(np.uint32) << np.uint32(16)
    parts = [words[:, left : left + n].ravel() for _, _, left, n, _ in strips]
    return np.concatenate(parts), steps


def _steps(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], float, float]:
    """Return how many steps each value is above the least, the least, and the step."""
    # as the kernel has them
    least = float(np.float32(values.min()))
    step = float(np.float32(max(values.max() - least, 1e-30) / TOP))
    return np.clip(np.rint((values - least) / step), 0, TOP), least, step
