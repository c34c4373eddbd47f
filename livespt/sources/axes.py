"""What an image of an acquisition shows, by its axes, and which frame of its place it is.

Axes have pycromanager's names. `time` counts; `channel`, `position`, `z`, `row` and `column` are a
place, and so is any other axis with a name for a value. Molecules are never linked across places.

Images are numbered by the time axis where there is one, else by counting. Frames that the camera
made and that never came show in `ImageNumber` alone, which counts all images of a hardware
sequence, begins anew with the next one, and is absent where the engine snaps single images.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

#: Values of the axes that name a stream.
Key: TypeAlias = tuple[str | int, ...]

_PLACES = ("channel", "position", "z", "row", "column")


class Places:
    """Sorts images by their axes.

    Parameters
    ----------
    axes : dict, optional
        Axis values that are wanted.
    per : tuple of str
        Axes whose values name a stream.
    """

    def __init__(self, axes: Mapping[str, Any] | None, per: tuple[str, ...]) -> None:
        self._wanted = dict(axes or {})
        self._per = per
        self._first: dict[str, Any] | None = None  # the place that is followed
        self._told: set[str] = set()
        self._due: list[str] = []
        self._known: set[Key] = set()
        self._image_numbers: dict[str, int] = {}  # newest of each camera
        self.n_passed = 0

    def key(self, axes: Mapping[str, Any]) -> Key | None:
        """Return which stream an image belongs to; None where it passes by."""
        if any(axes.get(name) != value for name, value in self._wanted.items()):
            self.n_passed += 1
            return None
        place = {name: axes[name] for name in axes if self._is_place(name, axes[name])}
        if self._first is None:
            self._first = place
        for name in {**place, **self._first}:
            if place.get(name) != self._first.get(name):
                self._pass(name, place.get(name))
                return None
        return tuple(axes.get(name, "") for name in self._per)

    def notes(self, key: Key) -> list[str]:
        """Return what should be told before this image: its place once, and what passes by."""
        due, self._due = self._due, []
        if key in self._known:
            return due
        self._known.add(key)
        axes = self._wanted | (self._first or {}) | dict(zip(self._per, key, strict=True))
        told = [f"axes: {', '.join(f'{k} = {v!r}' for k, v in axes.items())}"] if axes else []
        return [*told, *due]

    def n_lost(self, tags: Mapping[str, Any]) -> int:
        """Return how many images the camera made before this one that never came."""
        if "ImageNumber" not in tags:
            return 0
        camera, number = str(tags.get("Camera", "")), int(tags["ImageNumber"])
        before = self._image_numbers.get(camera, -1)
        self._image_numbers[camera] = number
        if number > before:
            return number - before - 1
        return number  # the core began another sequence

    def _is_place(self, name: str, value: Any) -> bool:
        if name in self._per or name in self._wanted:
            return False
        return name in _PLACES or isinstance(value, str)

    def _pass(self, name: str, value: Any) -> None:
        self.n_passed += 1
        if name not in self._told:
            self._told.add(name)
            ours = (self._first or {}).get(name)
            self._due.append(
                f"images with {name} = {value!r} pass by, {name} = {ours!r} is followed: choose "
                f"with axes, or give each {name} a run of its own with per = {name!r}"
            )


class Numbers:
    """Numbers the frames of one place."""

    def __init__(self) -> None:
        self._next = 0
        self._n_lost = 0

    @property
    def following(self) -> int:
        """The number that the next image has, if none is lost."""
        return self._next

    def next(self, axes: Mapping[str, Any], n_lost: int, n_skipped: int = 0) -> int:
        """Return the number of the next image.

        Before it `n_lost` never came, and `n_skipped` came and were not taken: the time axis
        counts these and not those.
        """
        self._n_lost += n_lost
        at = axes.get("time")
        index = self._next + n_lost
        if isinstance(at, int):  # names of times count for nothing
            index = max(index, at + self._n_lost)
        else:
            index += n_skipped
        self._next = index + 1
        return index


def of_mda(event: Any, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return an image's tags as pycromanager would give them, from pymmcore-plus' signal.

    Parameters
    ----------
    event : useq.MDAEvent
    metadata : mapping
        The `FrameMetaV1` that comes with it.
    """
    # Snapped images have no camera metadata; then the runner's clock counts.
    tags: dict[str, Any] = {"ElapsedTime-ms": metadata.get("runner_time_ms")}
    tags |= dict(metadata.get("camera_metadata") or {})
    tags["Exposure"] = event.exposure or metadata.get("exposure_ms")
    index = dict(event.index)
    axes: dict[str, Any] = {}
    for short, name in (("t", "time"), ("z", "z"), ("p", "position"), ("c", "channel")):
        if short in index:
            axes[name] = index.pop(short)
    if "position" in axes and event.pos_name:
        axes["position"] = event.pos_name
    if "channel" in axes and event.channel is not None:
        axes["channel"] = event.channel.config
    tags["Axes"] = axes | index
    return tags
