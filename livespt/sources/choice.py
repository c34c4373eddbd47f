"""Which images of a data set make the movie: those of one channel, one position, one plane.

Images that differ along more than the axis of frames are two movies in one, and nobody but the user
knows which is meant.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from livespt.sources.base import SourceError
from livespt.sources.datasets import Axes, Image, tag

_FRAMES = "time"


class Choice:
    """The user's choice among a data set's axes, checked against what comes.

    Parameters
    ----------
    axes : dict
        Axis -> value, by its number or its name.
    path : Path
        Of the data set, for messages.
    """

    def __init__(self, axes: Axes, path: Path) -> None:
        self._wanted, self._path = axes, path
        self._seen: dict[str, set[int | str]] = {}
        #: Images were passed by, so that the camera's own numbers have holes that are none.
        self.leaves_out = False

    def takes(self, image: Image, summary: dict[str, Any]) -> bool:
        """Tell whether an image belongs to the movie.

        Raises
        ------
        SourceError
            It has no such axis, or images differ along an axis that was not chosen.
        """
        for axis, wanted in self._wanted.items():
            if axis not in image.axes:
                known = ", ".join(image.axes) or "none"
                raise SourceError(f"{self._path}: axes: no axis '{axis}' (known: {known})")
            if not _is(image, axis, wanted, summary):
                self.leaves_out = True
                return False
        self._check(image.axes)
        return True

    def _check(self, axes: Axes) -> None:
        for axis, value in axes.items():
            if axis not in self._wanted and axis != _FRAMES:
                self._seen.setdefault(axis, set()).add(value)
        many = [axis for axis, values in self._seen.items() if len(values) > 1]
        if len(many) > (_FRAMES not in axes):
            found = "; ".join(f"{axis} {_listed(self._seen[axis])}" for axis in many)
            axis, value = many[0], min(self._seen[many[0]], key=str)
            value = f'"{value}"' if isinstance(value, str) else value
            raise SourceError(
                f"{self._path}: the images differ in more than time: {found}; choose one, "
                f"as axes = {{{axis} = {value}}}"
            )


def _is(image: Image, axis: str, wanted: int | str, summary: dict[str, Any]) -> bool:
    value = image.axes[axis]
    if value == wanted or str(value) == str(wanted):
        return True
    name: Any = None
    if axis == "channel":
        names = summary.get("ChNames")
        if isinstance(names, list) and isinstance(value, int) and value < len(names):
            name = names[value]
        else:
            name = tag(image.tags, "Channel")
    elif axis == "position":
        name = tag(image.tags, "PositionName")
    return name is not None and name == wanted


def _listed(values: set[int | str]) -> str:
    return ", ".join(str(value) for value in sorted(values, key=str))
