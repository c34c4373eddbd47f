"""The simulated laser: a cell that holds its power, as a real laser's controller would.

The cell is a small file that several processes map: the microscope reads it at each frame, the
guard writes it, and it goes on holding its power when any of them dies, so that one can see from
outside what light stands. It can be made to fail as real ones do: to read what it is not, and to
answer nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from livespt.control.checked import convert
from livespt.control.errors import ControlError
from livespt.control.limits import Entry
from livespt.sections import Section

PROPERTY = "Laser.Power"
#: Relative excitation, from a twentieth to twenty times the reference; dark when all is wrong.
LIMITS = Entry(unit="x", min=0.05, max=20.0, safe=0.0)

_POWER, _READS, _BROKEN = range(3)  # each an aligned float64: written and read in one piece
_BYTES = 24


class PowerCell:
    """A power in a file that is shared between processes.

    Parameters
    ----------
    path : Path
        Made if it is not there, with a power of 1.

    Raises
    ------
    ControlError
        The file cannot be made, or is no power cell.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            if not self.path.exists():
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.path.write_bytes(np.array([1.0, 1.0, 0.0], "<f8").tobytes())
            if self.path.stat().st_size != _BYTES:
                raise ValueError(f"{self.path.stat().st_size} bytes; expected {_BYTES}")
            self._cell = np.memmap(self.path, "<f8", "r+", shape=(3,))
        except (OSError, ValueError) as error:
            raise ControlError(f"{self.path}: no power cell: {error}") from None

    @property
    def power(self) -> float:
        """Relative excitation that stands now."""
        return float(self._cell[_POWER])

    @power.setter
    def power(self, power: float) -> None:
        self._cell[_POWER] = power

    @property
    def reads(self) -> float:
        """Factor by which the laser's own reading is off; 1 for a good one."""
        return float(self._cell[_READS])

    @reads.setter
    def reads(self, factor: float) -> None:
        self._cell[_READS] = factor

    @property
    def broken(self) -> bool:
        """Whether the laser answers nothing, neither reading nor writing."""
        return bool(self._cell[_BROKEN])

    @broken.setter
    def broken(self, broken: bool) -> None:
        self._cell[_BROKEN] = broken


class LaserOptions(Section, frozen=True):
    """Where the cell lies, and limits that differ from the simulated laser's own."""

    cell: str
    limits: dict[str, Any] = msgspec.field(default_factory=dict)


class SimulatedLaser:
    """An actuator without light: it writes a power cell."""

    real = False
    span = (0.0, float("inf"))
    resolution = 1e-6

    def __init__(self, property: str, options: LaserOptions) -> None:
        if property not in ("", PROPERTY):
            raise ControlError(f"property: '{property}'; the simulated laser has '{PROPERTY}'")
        self.property = PROPERTY
        given = msgspec.to_builtins(LIMITS) | options.limits
        self.own: Entry | None = convert(given, Entry, "options.limits")
        self._cell = PowerCell(options.cell)

    def read(self) -> float:
        """Return the power as the laser reads it."""
        self._answer()
        return self._cell.power * self._cell.reads

    def write(self, value: float) -> float:
        """Set the power."""
        self._answer()
        self._cell.power = value
        return value

    def close(self) -> None:
        """Let go of the cell; its power stays."""
        del self._cell

    def _answer(self) -> None:
        if self._cell.broken:
            raise ControlError("the simulated laser does not answer")


def open_actuator(property: str, options: dict[str, Any]) -> SimulatedLaser:
    """Open the simulated laser of `LaserOptions`.

    Raises
    ------
    ControlError
        An option is wrong, or the cell cannot be opened.
    """
    return SimulatedLaser(property, convert(options, LaserOptions, "options"))
