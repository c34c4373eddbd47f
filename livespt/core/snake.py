"""A core through pycromanager: inside this process, or in a Micro-Manager that runs already."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from livespt.core.base import EXTRA, SETTLE_S, CoreError, need, one_line
from livespt.core.bridge import CAMERA_S, BridgeDoor
from livespt.core.places import adapter_folder, config_file


class SnakeDoor:
    """pycromanager's spelling of the core: snake_case, and tagged images.

    Parameters
    ----------
    core : object
        What `pycromanager.Core()` returns.
    owned : bool
        Whether closing this door shuts the core down.
    """

    def __init__(self, core: Any, *, owned: bool = False) -> None:
        self.core, self.owned = core, owned

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method by its C++ name."""
        value = getattr(self.core, _snake(method))(*arguments)
        if hasattr(value, "size") and hasattr(value, "get"):  # a Java vector
            return [value.get(i) for i in range(value.size())]
        if hasattr(value, "swig_value"):  # a Java enumeration
            return value.swig_value()
        if hasattr(value, "width") and hasattr(value, "x"):  # a Java rectangle
            return [value.x, value.y, value.width, value.height]
        return value

    def pop(self) -> tuple[NDArray, Mapping[str, Any]]:
        """Take the oldest image and its tags."""
        image = self.core.pop_next_tagged_image()
        return image.pix, image.tags

    def close(self) -> None:
        """Shut the core down, if this door started it."""
        if self.owned:
            self.owned = False
            time.sleep(SETTLE_S)
            _stop_core()


def start_core(config: str = "", adapters: str = "auto") -> SnakeDoor:
    """Start the core inside this process, or enter the one that runs here already.

    Parameters
    ----------
    config : str
        Micro-Manager's .cfg file; the demonstration's if empty.
    adapters : str
        Folder of the device adapters; "auto" finds the test adapters or an installation.

    Raises
    ------
    CoreError
        pycromanager is not installed, there is no such file or folder, or the core refuses.
    """
    launcher = need("mmpycorex", EXTRA)
    pycromanager = need("pycromanager", EXTRA)
    if launcher.is_pymmcore_active():
        if config:
            raise CoreError(
                f"config: {config}: a core already runs in this process; stop it first "
                "(pycromanager.stop_headless), or leave config out to use it"
            )
        return SnakeDoor(pycromanager.Core())
    folder = adapter_folder(adapters)
    path = config_file(config, folder)
    _forget_engine()
    try:
        pycromanager.start_headless(str(folder), str(path), python_backend=True)
    except Exception as error:  # noqa: BLE001 (OSError, RuntimeError, ... from the core)
        raise CoreError(f"config: {path}: {one_line(error)}") from None
    return SnakeDoor(pycromanager.Core(), owned=True)


def _stop_core() -> None:
    need("pycromanager", EXTRA).stop_headless()
    _forget_engine()


def _forget_engine() -> None:
    """Drop pycromanager's engine: never reset, it would serve the next core with this one."""
    engine = need("pycromanager.acquisition.acq_eng_py.internal.engine", EXTRA).Engine
    if hasattr(engine, "singleton"):
        del engine.singleton


def connect(port: int) -> BridgeDoor:
    """Enter the core of a Micro-Manager that runs with its server switched on.

    Not by pycromanager's own bridge: a call there has no end where Micro-Manager has died.

    Raises
    ------
    CoreError
        Nothing answers there.
    """
    return BridgeDoor(port, CAMERA_S)


def _snake(name: str) -> str:
    """Spell a C++ method as mmpycorex does: getROI becomes get_roi."""
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z0-9])([A-Z])", r"\1_\2", name).lower()
