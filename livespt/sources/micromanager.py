"""Micro-Manager through pycromanager.

Two backends. "python" starts the real core inside this process from Micro-Manager's device adapters
(no Java; full camera rate). "running" taps a Micro-Manager that already runs with its server
switched on, over a bridge that carries about 100 MB/s: enough for a small region of interest.

To ride along in a pycromanager `Acquisition` of your own, see `livespt.sources.ridealong`.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from numpy.typing import NDArray

from livespt.config import parse
from livespt.sources.base import SourceError, need
from livespt.sources.coresetup import SETTLE_S, CameraOptions, one_line
from livespt.sources.coretap import CoreTap

EXTRA = "micromanager"


class MicroManagerOptions(CameraOptions, frozen=True):
    """Options of the source "micromanager": those of `CameraOptions`, and the backend.

    Attributes
    ----------
    backend : {"python", "running"}
    port : int
        Of the running Micro-Manager's server.
    """

    backend: Literal["python", "running"] = "python"
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 4827


def open_source(options: dict[str, Any]) -> CoreTap:
    """Open a camera through pycromanager (see `MicroManagerOptions`).

    Raises
    ------
    SourceError
        pycromanager is not installed, or the core, its files or its camera refuse.
    ConfigError
        An option is unknown or out of range.
    """
    chosen = parse(options, "source.options", MicroManagerOptions)
    door = _connect(chosen.port) if chosen.backend == "running" else _start_core(chosen)
    return CoreTap(door, chosen)


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


def adapter_folder(adapters: str) -> Path:
    """Return the folder of the device adapters; "auto" looks for them.

    Raises
    ------
    SourceError
        There is no such folder, or none was found.
    """
    if adapters != "auto":
        folder = Path(adapters).expanduser()
        if not folder.is_dir():
            raise SourceError(f"adapters: {folder}: no such folder")
        return folder
    try:
        return Path(need("mm_test_adapters", EXTRA).device_adapter_path())
    except SourceError:
        raise SourceError(
            "adapters: 'auto' found none: give the folder of the Micro-Manager installation, or "
            f"pip install 'livespt[{EXTRA}]' for the demonstration camera"
        ) from None


def config_file(config: str, folder: Path) -> Path:
    """Return Micro-Manager's configuration file, by default the demonstration's in `folder`.

    Raises
    ------
    SourceError
        There is no such file.
    """
    path = Path(config).expanduser() if config else folder / "MMConfig_demo.cfg"
    if config and not path.is_file() and (folder / path).is_file():
        path = folder / path
    if not path.is_file():
        raise SourceError(f"config: {path}: no such Micro-Manager configuration")
    return path.resolve()


def _start_core(options: MicroManagerOptions) -> SnakeDoor:
    launcher = need("mmpycorex", EXTRA)
    pycromanager = need("pycromanager", EXTRA)
    if launcher.is_pymmcore_active():
        if options.config:
            raise SourceError(
                f"config: {options.config}: a core already runs in this process; stop it first "
                "(pycromanager.stop_headless), or leave config out to use it"
            )
        return SnakeDoor(pycromanager.Core())
    folder = adapter_folder(options.adapters)
    config = config_file(options.config, folder)
    _forget_engine()
    try:
        pycromanager.start_headless(str(folder), str(config), python_backend=True)
    except Exception as error:  # noqa: BLE001 (OSError, RuntimeError, ... from the core)
        raise SourceError(f"config: {config}: {one_line(error)}") from None
    return SnakeDoor(pycromanager.Core(), owned=True)


def _stop_core() -> None:
    need("pycromanager", EXTRA).stop_headless()
    _forget_engine()


def _forget_engine() -> None:
    """Drop pycromanager's engine: never reset, it would serve the next core with this one."""
    engine = need("pycromanager.acquisition.acq_eng_py.internal.engine", EXTRA).Engine
    if hasattr(engine, "singleton"):
        del engine.singleton


def _connect(port: int) -> SnakeDoor:
    # Not pycromanager.Core(port=...): where a core runs in this process, that returns it instead.
    remote = need("mmpycorex.core", EXTRA).ZMQRemoteMMCoreJ
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2.0).close()
        return SnakeDoor(remote(port=port, timeout=5000))
    except Exception as error:  # noqa: BLE001 (the bridge raises plain Exception)
        raise SourceError(
            f"port: no Micro-Manager answers at 127.0.0.1:{port} ({one_line(error)}): "
            "in Micro-Manager, switch on Tools > Options > Run server on port"
        ) from None


def _snake(name: str) -> str:
    """Spell a C++ method as mmpycorex does: getROI becomes get_roi."""
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z0-9])([A-Z])", r"\1_\2", name).lower()
