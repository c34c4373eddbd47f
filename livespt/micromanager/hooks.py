"""What an acquisition is given, and where the images go that it calls with."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from livespt.micromanager.saved import SavedImages, Taker


class Hooks:
    """The functions and signals by which images come from somebody's acquisition.

    Parameters
    ----------
    taker : Taker
    """

    def __init__(self, taker: Taker) -> None:
        self._taker = taker
        self._saved = SavedImages(taker)
        self._runners: list[Any] = []

    def image_process_fn(
        self, image: NDArray, metadata: dict[str, Any]
    ) -> tuple[NDArray, dict[str, Any]]:
        """Take a copy of each image; for pycromanager's `Acquisition(image_process_fn=...)`."""
        self._taker.take(image, metadata)
        return image, metadata

    def notification_callback_fn(self, notification: Any) -> None:
        """Note each image that was saved; for `Acquisition(notification_callback_fn=...)`.

        The images are read back from what the acquisition saves: tell which with `read_from`.
        """
        self._saved.notify(notification)

    def read_from(self, acquisition: Any) -> None:
        """Read the images that `notification_callback_fn` is told of from this acquisition."""
        self._saved.read_from(acquisition.get_dataset())

    def connect(self, runner: Any) -> None:
        """Follow the next sequence of a pymmcore-plus runner (`core.mda`)."""
        _connect(runner.events.frameReady, self._taker.frame_ready)
        _connect(runner.events.sequenceFinished, self._finished)
        self._runners.append(runner)

    def end(self) -> None:
        """Say that the acquisition is over: what waits is still analysed, then the runs end."""
        raise NotImplementedError

    def _disconnect(self) -> None:
        for runner in self._runners:
            runner.events.frameReady.disconnect(self._taker.frame_ready)
            runner.events.sequenceFinished.disconnect(self._finished)
        self._runners.clear()

    def _finished(self, *_: Any) -> None:
        self.end()


def _connect(signal: Any, slot: Callable[..., None]) -> None:
    """Have `slot` called in the thread that emits, also where the signal is Qt's.

    Qt's would wait for the window's thread, which perhaps waits for us.
    """
    if type(signal).__module__.startswith(("PySide", "PyQt")):
        qt = importlib.import_module("qtpy.QtCore").Qt  # as pymmcore-plus itself
        signal.connect(slot, qt.ConnectionType.DirectConnection)
    else:
        signal.connect(slot)
