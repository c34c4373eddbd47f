"""How much light reaches the sample: a laser's setting against a power meter's reading.

A calibration is a small table, setting and power at the sample, both rising; between its points
the power is taken as linear, so that it can be turned round exactly. Nothing is extrapolated:
below the first point the first power counts, which is more than there is.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from livespt.control.errors import ControlError

#: Columns of the file: the third may be missing.
COLUMNS = ("value", "power_mW", "sd_mW")
MOST_ROWS = 1000
#: A power known worse than this (s.d. over power) is measured anew, not controlled with.
WORST_SD = 0.25


class PowerCalibration(NamedTuple):
    """Settings of a property and the powers at the sample they gave.

    Attributes
    ----------
    value : tuple of float
        Settings, in the property's own unit, rising.
    power_mW : tuple of float
        Power at the sample, rising.
    """

    value: tuple[float, ...]
    power_mW: tuple[float, ...]

    def power(self, value: float) -> float:
        """Return the power at a setting, in mW."""
        return float(np.interp(value, self.value, self.power_mW))

    def setting(self, power_mW: float) -> float:
        """Return the setting that gives a power; beyond the table, its end."""
        return float(np.interp(power_mW, self.power_mW, self.value))


def read_calibration(path: Path) -> PowerCalibration:
    """Read a table of `value,power_mW[,sd_mW]`, one row per setting; # begins a comment.

    Raises
    ------
    ControlError
        The file is missing, a row is no row of numbers, or a column does not rise.
    """
    rows = [_numbers(path, line, cells) for line, cells in _cells(path)]
    if len(rows) < 2:
        raise ControlError(f"{path}: {len(rows)} rows; expected two settings or more")
    value, power = (tuple(row[k] for row in rows) for k in (0, 1))
    for name, column in zip(COLUMNS, (value, power), strict=False):
        _rising(path, name, column)
    if value[0] < 0 or power[0] < 0:
        raise ControlError(f"{path}: {COLUMNS[0]}, {COLUMNS[1]}: below 0; expected 0 or more")
    return PowerCalibration(value, power)


def _cells(path: Path) -> list[tuple[int, list[str]]]:
    """Return the number and the cells of each line below the header."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ControlError(f"{path}: the power calibration cannot be read: {error}") from None
    lines = [(n, line.split("#")[0].strip()) for n, line in enumerate(text.splitlines(), 1)]
    rows = [(n, [cell.strip() for cell in line.split(",")]) for n, line in lines if line]
    header = rows[0][1] if rows else []
    if header not in (list(COLUMNS), list(COLUMNS[:2])):
        raise ControlError(f"{path}: begins with {header}; expected {','.join(COLUMNS[:2])}")
    if len(rows) > MOST_ROWS:
        raise ControlError(f"{path}: {len(rows)} rows; expected at most {MOST_ROWS}")
    return [(n, cells if len(cells) == len(header) else []) for n, cells in rows[1:]]


def _numbers(path: Path, line: int, cells: list[str]) -> tuple[float, ...]:
    try:
        row = tuple(map(float, cells))
    except ValueError:
        row = ()
    if len(row) < 2 or not all(map(math.isfinite, row)):
        raise ControlError(f"{path}: line {line}: expected a number for each column")
    if len(row) == 3 and not 0 <= row[2] <= WORST_SD * row[1]:
        raise ControlError(
            f"{path}: line {line}: sd_mW: {row[2]:g} for {row[1]:g} mW; expected at most "
            f"{WORST_SD:.0%} of it"
        )
    return row


def _rising(path: Path, name: str, column: tuple[float, ...]) -> None:
    for before, after in itertools.pairwise(column):
        if not after > before:
            raise ControlError(
                f"{path}: {name}: {after:g} after {before:g}; expected rising rows (keep to the "
                "part where more setting is more light)"
            )
