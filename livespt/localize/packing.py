"""The detector's plan of a frame: its strips, and a camera's maps packed in their order.

An electron count is counts * scale - offset, with scale and offset maps. Each is told by 16 bits of
one word, in ways that take two instructions to read: the lower half h as the last bits of a number,
scale = base + step (1 + h / 2^23), and the word as a whole, offset = base + step * word, where the
upper half makes up for what the lower adds. The offset is made for the scale as packed, so that an
error of the latter is one of gain only: a pixel in the dark reads zero whatever the camera's offset
is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from livespt.localize.line_kernels import INNER, STEP, Layout

TOP = 65535  # the greatest half of a word
HALF = 65536.0  # what the upper half counts in
ONE = 2.0**23  # steps from 1 to 2 in float32
MOST_SCALE = 1e-3  # step of the scale, relative to the least: half of it is a pixel's gain error
MOST_OFFSET_E = 0.02  # step of the offset; as noise 0.006 e, below any camera's


def strips_of(at: Layout) -> NDArray[np.int64]:
    """Return the strips of a frame.

    Returns
    -------
    (n, 5) int64
        First column and the one after the last; first column to load, and how many; where its
        packed maps begin. All are filtered in whole sixteens; at the seams two columns twice.
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
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Pack maps (H, W) strip by strip.

    Returns
    -------
    (n,) int32
        Scale in the low half, offset in the high one. Empty where 16 bits would be too coarse.
    (4,) float32
        What scale and offset are made of.
    """
    scale, scale_0, scale_step = _steps(1.0 / gain)
    told = scale_0 + (1.0 + scale / ONE) * scale_step
    offset, offset_0, offset_step = _steps_of_words(offset_adu * told, scale)
    steps = np.array([scale_0, scale_step, offset_0, offset_step], np.float32)
    if scale_step > MOST_SCALE * told.min() * ONE or offset_step > MOST_OFFSET_E / HALF:
        return np.empty(0, np.int32), steps
    words = (scale + HALF * offset).astype(np.int32)
    parts = [words[:, left : left + n].ravel() for _, _, left, n, _ in strips]
    return np.concatenate(parts), steps


def _steps(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], float, float]:
    """Return h, base and step of values = base + step * (1 + h / 2^23), base and step float32."""
    least = float(values.min())
    step = float(np.float32(max(values.max() - least, 1e-30) / TOP * ONE))
    base = float(np.float32(least - step))
    return np.clip(np.rint(((values - base) / step - 1.0) * ONE), 0, TOP), base, step


def _steps_of_words(
    values: NDArray[np.float64], low: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float, float]:
    """Return h, base and step of values = base + step * (low + 2^16 h), signed h."""
    least, most = float(values.min()), float(values.max())
    step = float(np.float32(max(most - least, 1e-30) / (TOP - 2) / HALF))
    base = float(np.float32(0.5 * (least + most)))
    high = np.rint(((values - base) / step - low) / HALF)
    return np.clip(high, -HALF / 2, HALF / 2 - 1), base, step
