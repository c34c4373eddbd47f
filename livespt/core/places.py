"""Where a core's device adapters and its configuration lie."""

from __future__ import annotations

from pathlib import Path

from livespt.core.base import EXTRA, CoreError, need


def adapter_folder(adapters: str) -> Path:
    """Return the folder of the device adapters; "auto" looks for them.

    Raises
    ------
    CoreError
        There is no such folder, or none was found.
    """
    if adapters != "auto":
        folder = Path(adapters).expanduser()
        if not folder.is_dir():
            raise CoreError(f"adapters: {folder}: no such folder")
        return folder
    try:
        return Path(need("mm_test_adapters", EXTRA).device_adapter_path())
    except CoreError:
        raise CoreError(
            "adapters: 'auto' found none: give the folder of the Micro-Manager installation, or "
            f"pip install 'livespt[{EXTRA}]' for the demonstration camera"
        ) from None


def config_file(config: str, folder: Path) -> Path:
    """Return Micro-Manager's configuration file, by default the demonstration's in `folder`.

    Raises
    ------
    CoreError
        There is no such file.
    """
    path = Path(config).expanduser() if config else folder / "MMConfig_demo.cfg"
    if config and not path.is_file() and (folder / path).is_file():
        path = folder / path
    if not path.is_file():
        raise CoreError(f"config: {path}: no such Micro-Manager configuration")
    return path.resolve()
