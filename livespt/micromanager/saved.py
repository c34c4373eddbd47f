"""Images read back from what an acquisition saves, as its notifications name them.

pycromanager's notification says the axes of an image that was saved, never the image. The callback
only notes them: the engine's queue of notifications holds a hundred, and a slow callback would make
the saving wait. A thread reads the images from the data set, whose locks allow it meanwhile.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

from livespt.core import one_line
from livespt.sources.base import SourceError

#: What pycromanager calls the milestone.
_SAVED = "image_saved"


class Taker(Protocol):
    """Whoever takes an acquisition's images: never raises, never waits."""

    def take(self, image: NDArray, tags: Mapping[str, Any]) -> None:
        """Take a copy of an image with pycromanager's tags."""
        ...

    def frame_ready(self, image: NDArray, event: Any, metadata: Mapping[str, Any]) -> None:
        """Take a copy of an image from pymmcore-plus' signal."""
        ...

    def fail(self, error: SourceError) -> None:
        """End the stream with an error, after what was taken; the acquisition goes on."""
        ...


class SavedImages:
    """Reads saved images for whoever takes them.

    Parameters
    ----------
    taker : Taker
    """

    def __init__(self, taker: Taker) -> None:
        self._taker = taker
        self._saved: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._reader: threading.Thread | None = None

    def notify(self, notification: Any) -> None:
        """Note the axes of an image that was saved; every other notification passes."""
        if getattr(notification, "milestone", None) == _SAVED and notification.payload:
            self._saved.put(dict(notification.payload))

    def read_from(self, dataset: Any) -> None:
        """Read from this data set what was saved so far, and what follows.

        Raises
        ------
        SourceError
            A data set is read already.
        """
        if self._reader is not None:
            raise SourceError("read_from: an acquisition is read already; make a ride for each")
        self._reader = threading.Thread(
            target=self._read, args=(dataset,), name="livespt-saved", daemon=True
        )
        self._reader.start()

    def end(self) -> None:
        """Read what was saved before, then stop."""
        self._saved.put(None)
        if self._reader is not None and self._reader is not threading.current_thread():
            self._reader.join()

    def _read(self, dataset: Any) -> None:
        while (axes := self._saved.get()) is not None:
            try:
                image, tags = dataset.read_image(**axes), dict(dataset.read_metadata(**axes))
            except Exception as error:  # noqa: BLE001 (what a data set raises)
                text = f"ride-along: saved image {axes}: {one_line(error)}"
                return self._taker.fail(SourceError(text))
            tags.setdefault("Axes", axes)
            self._taker.take(image, tags)
        return None
