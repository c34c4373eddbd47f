"""Curves in a terminal: 2 x 4 dots to the character, one colour to each curve."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from rich.text import Text

#: Bit of each dot in a braille cell, [row][column].
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))


def log_range(values: NDArray[np.float64], least_span: float = 4.0) -> tuple[float, float]:
    """Return limits (low, high) for a log axis that hold all positive `values`, with air."""
    positive = values[np.isfinite(values) & (values > 0)]
    if not positive.size:
        return 0.01, 1.0
    low, high = float(positive.min()), float(positive.max())
    widen = max(1.15, (least_span * low / high) ** 0.5)
    return low / widen, high * widen


def log_plot(
    t_s: NDArray[np.float64],
    curves: NDArray[np.float64],
    colours: list[str],
    width: int,
    height: int,
) -> Text:
    """Draw `curves` (n, m) against `t_s` (n,) on a log axis in `width` x `height` characters."""
    low, high = log_range(curves)
    cells = np.zeros((height, width), np.int64)
    owner = np.full((height, width), -1)
    for m in range(curves.shape[1]):
        column, row = _dots_of(t_s, curves[:, m], (low, high), (2 * width, 4 * height))
        for x, y in zip(column, row, strict=True):
            cells[y // 4, x // 2] |= _DOTS[y % 4][x % 2]
            owner[y // 4, x // 2] = m
    return _as_text(cells, owner, colours, (low, high))


def _dots_of(
    t_s: NDArray[np.float64],
    values: NDArray[np.float64],
    limits: tuple[float, float],
    dots: tuple[int, int],
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    good = np.isfinite(values) & (values > 0)
    t_s, values = t_s[good], values[good]
    if not t_s.size:
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    n_x, n_y = dots
    end = max(float(t_s[-1]), float(t_s[0]) + 1e-9)
    grid = np.linspace(t_s[0], end, n_x)
    level = np.interp(grid, t_s, np.log(values))
    low, high = np.log(limits)
    row = np.round((high - level) / (high - low) * (n_y - 1)).astype(np.intp)
    return np.arange(n_x), np.clip(row, 0, n_y - 1)


def _as_text(
    cells: NDArray[np.int64],
    owner: NDArray[np.intp],
    colours: list[str],
    limits: tuple[float, float],
) -> Text:
    text = Text(no_wrap=True)
    height = len(cells)
    for y in range(height):
        fraction = 1 - y / max(1, height - 1)
        label = limits[0] * (limits[1] / limits[0]) ** fraction
        text.append(f"{label:8.3g} ┤" if y % 2 == 0 else " " * 9 + "│", style="dim")
        for cell, m in zip(cells[y], owner[y], strict=True):
            text.append(chr(0x2800 + int(cell)), style=colours[m] if m >= 0 else "")
        if y < height - 1:
            text.append("\n")
    return text
