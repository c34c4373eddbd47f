"""The run folder itself: its name, its lock, `run.json`, and files that are whole or not there."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from livespt.camera import Camera
from livespt.types import LivesptError, SourceInfo

FORMAT = "livespt-journal"
VERSION = 4
#: Earlier versions that are read, too: 1 knew no guided spots, 3 no names of what changed.
READABLE = (1, 2, 3, VERSION)
RUN_FILE = "run.json"
CONFIG_FILE = "config.toml"
LOCK_FILE = "run.lock"
#: Where in the lock file the lock lies: beyond its text, which others may read.
_LOCK_AT = 1 << 20
_PACKAGES = ("livespt", "numpy", "scipy", "numba", "pyarrow", "pyzmq", "msgspec")


class JournalError(LivesptError):
    """A run folder cannot be made, written or read; the message names it."""


def make_folder(parent: Path, name: str) -> Path:
    """Make ``<parent>/<timestamp>-<name>``, new even if another began in the same second.

    Raises
    ------
    JournalError
        The folder cannot be made.
    """
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:60] or "run"
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{safe}"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for n in range(1, 1000):
            folder = parent / (stem if n == 1 else f"{stem}-{n}")
            with contextlib.suppress(FileExistsError):
                folder.mkdir()
                return folder
    except OSError as error:
        raise JournalError(f"journal.folder: {parent}: {reason(error)}") from None
    raise JournalError(f"journal.folder: {parent}: a thousand runs named {stem} already")


def reason(error: OSError) -> str:
    """Say in words what the system refused."""
    return error.strerror or str(error)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is the old one or the new one, never a part."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make new names in `folder` last over a power cut (Windows does so by itself)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` as strict JSON, whole or not at all; numpy values are understood."""
    text = json.dumps(_plain(content), indent=2, allow_nan=False)
    write_whole(path, text.encode() + b"\n")


def _plain(value: Any) -> Any:
    """Turn numpy into lists and numbers, and what JSON cannot say (NaN, infinity) into null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return _plain(value._asdict())  # type: ignore[attr-defined]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def read_run_file(folder: Path) -> dict[str, Any]:
    """Return what `run.json` says.

    Raises
    ------
    JournalError
        `folder` is no run folder, or one of a later version.
    """
    path = folder / RUN_FILE
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise JournalError(f"{folder}: not a run folder (no {RUN_FILE} in it)") from None
    except OSError as error:
        raise JournalError(f"{path}: {reason(error)}") from None
    except ValueError as error:
        raise JournalError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise JournalError(f"{path}: not written by livespt (no 'format': '{FORMAT}')")
    if about.get("version") not in READABLE:
        found = about.get("version")
        raise JournalError(f"{path}: journal version {found}, this livespt reads {VERSION}")
    return about


def describe_run(name: str, info: SourceInfo, camera: Camera | None) -> dict[str, Any]:
    """Return the first content of `run.json`."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": name,
        "status": "running",
        "started": now(),
        "versions": _versions(),
        "host": {
            "system": platform.system(),
            "release": platform.release(),
            "machine": platform.machine(),
            "python": platform.python_version(),
        },
        "source": info._asdict(),
        "camera": camera_record(camera),
    }


def now() -> str:
    """Return the time in ISO 8601, UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def camera_record(camera: Camera | None) -> dict[str, Any] | None:
    """Say which pixel model was used: its kind, its scalars, and a hash over all its values."""
    if camera is None:
        return None
    values = _values_of(camera)
    digest = hashlib.sha256(type(camera).__name__.encode())
    scalars = {}
    for name, value in sorted(values.items()):
        array = np.ascontiguousarray(value, dtype=np.float64)
        digest.update(name.encode() + str(array.shape).encode() + array.tobytes())
        if array.size == 1:
            scalars[name] = float(array.reshape(()))
    return {"model": type(camera).__name__.lower(), **scalars, "sha256": digest.hexdigest()}


def _values_of(camera: Camera) -> dict[str, Any]:
    found = {}
    for name in ("gain_adu_per_e", "offset_adu", "var_e2", "excess", "readout_adu"):
        value = getattr(camera, name, None)
        if value is not None and np.asarray(value).dtype.kind in "fiu":
            found[name] = value
    return found


class Lock:
    """Held by the process that writes a run folder; the system lets go of it if that one dies.

    Raises
    ------
    JournalError
        Another live process holds it.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK_FILE
        self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0))
        try:
            _take(self._handle)
        except OSError:
            pid = os.read(self._handle, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(self._handle)
            raise JournalError(f"{folder}: still being written by process {pid}") from None
        os.ftruncate(self._handle, 0)
        os.write(self._handle, b"%d\n" % os.getpid())

    def release(self) -> None:
        """Let go and remove the lock file."""
        with contextlib.suppress(OSError):
            if os.name != "nt":  # Windows cannot remove a file that is open
                self.path.unlink()
        os.close(self._handle)
        if os.name == "nt":
            with contextlib.suppress(OSError):
                self.path.unlink()


def _take(handle: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        os.lseek(handle, _LOCK_AT, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        os.lseek(handle, 0, os.SEEK_SET)
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
