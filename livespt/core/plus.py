"""A core through pymmcore-plus: the C++ names."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from livespt.core.base import EXTRA, SETTLE_S, CoreError, need, one_line
from livespt.core.places import adapter_folder, config_file


class PlusDoor:
    """pymmcore-plus' spelling of the core: the C++ names.

    Parameters
    ----------
    core : CMMCorePlus
    owned : bool
        Whether closing this door unloads the devices.
    """

    def __init__(self, core: Any, *, owned: bool = False) -> None:
        self.core, self.owned = core, owned

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method by its C++ name."""
        return getattr(self.core, method)(*arguments)

    def pop(self) -> tuple[NDArray, Mapping[str, Any]]:
        """Take the oldest image and its tags."""
        return self.core.popNextImageAndMD()

    def close(self) -> None:
        """Unload the devices, if this door loaded them."""
        if self.owned:
            self.owned = False
            time.sleep(SETTLE_S)
            self.core.unloadAllDevices()
            _silence(self.core)


def _silence(core: Any) -> None:
    """Have a core tell nobody anything more.

    It tells its news on a thread of its own, and one that comes while Python ends aborts it.
    """
    base = need("pymmcore", EXTRA).CMMCore
    base.registerCallback(core, None)  # CMMCorePlus itself disowns the method


def load_core(config: str = "", adapters: str = "auto") -> PlusDoor:
    """Load a core of its own inside this process.

    Parameters
    ----------
    config : str
        Micro-Manager's .cfg file; the demonstration's if empty.
    adapters : str
        Folder of the device adapters; "auto" finds the test adapters or an installation.

    Raises
    ------
    CoreError
        pymmcore-plus is not installed, there is no such file or folder, or the core refuses.
    """
    plus = need("pymmcore_plus", EXTRA)
    folder = adapter_folder(adapters)
    path = config_file(config, folder)
    core = plus.CMMCorePlus(mm_path=str(folder), adapter_paths=[str(folder)])
    try:
        core.loadSystemConfiguration(str(path))
    except Exception as error:  # noqa: BLE001 (OSError, RuntimeError, ... from the core)
        raise CoreError(f"config: {path}: {one_line(error)}") from None
    return PlusDoor(core, owned=True)
