"""What a core says of itself: its camera, and whether a device's property is there."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from livespt.core.base import CoreError, Door, ask
from livespt.core.plus import PlusDoor
from livespt.core.snake import SnakeDoor, connect

_SERIAL = ("SerialNumber", "Serial Number", "CameraID")
_TOP_ADU = 65535


class CameraFacts(NamedTuple):
    """A core's camera as it is set up now.

    Attributes
    ----------
    label : str
    identity : str
        Adapter, device and, where the camera tells one, its serial number.
    shape : (int, int)
        Height and width of the images.
    exposure_s : float
    pixel_um : float
        Pixel size in the sample as Micro-Manager's configuration has it, with the binning; 0 if it
        has none.
    binning : int
        Chip pixels along a side of an image pixel; 0 where the camera does not tell.
    origin_px : (int, int) or None
        x0, y0 of the images on the chip, in image pixels.
    saturation_adu : int
        Highest count by the bit depth; 0 where the camera does not tell.
    """

    label: str
    identity: str
    shape: tuple[int, int]
    exposure_s: float
    pixel_um: float
    binning: int
    origin_px: tuple[int, int] | None
    saturation_adu: int


def door_of(core: Any) -> Door:
    """Return the way into a core that somebody else opened; closing it leaves the core open.

    Parameters
    ----------
    core : object
        pycromanager's `Core()`, also of a Micro-Manager that runs (`Core(port=...)`), or a
        `CMMCorePlus` or `UniMMCore`.

    Returns
    -------
    Door
        To a Micro-Manager that runs, one of our own to the same port: each call has an end, and
        any thread may make it. Closing it hangs up.

    Raises
    ------
    CoreError
        It is none of these.
    """
    if port := _port_of(core):
        return connect(port)
    if hasattr(core, "popNextImageAndMD"):
        return PlusDoor(core)
    if hasattr(core, "pop_next_tagged_image"):
        return SnakeDoor(core)
    raise CoreError(
        f"core: {type(core).__name__}; expected pycromanager's Core() (with convert_camel_case), "
        "a CMMCorePlus or a UniMMCore"
    )


def _port_of(core: Any) -> int:
    """Return the port of this computer that pycromanager's core goes through; 0 where none."""
    port, host = (getattr(core, name, None) for name in ("_creation_port", "_ip_address"))
    return port if isinstance(port, int) and host in ("127.0.0.1", "localhost") else 0


def read_camera(door: Door) -> CameraFacts:
    """Read what the core knows of its camera.

    Raises
    ------
    CoreError
        It has no camera, or does not answer.
    """
    label = str(ask(door, "core", "getCameraDevice"))
    if not label:
        raise CoreError("camera: the core has none chosen")
    shape = (
        int(ask(door, label, "getImageHeight")),
        int(ask(door, label, "getImageWidth")),
    )
    roi = _try(door, "getROI")
    bits = _try(door, "getImageBitDepth")
    binned = re.match(r"\d+", str(_property(door, label, "Binning")))
    return CameraFacts(
        label,
        identity(door, label),
        shape,
        float(ask(door, label, "getExposure")) * 1e-3,
        float(ask(door, label, "getPixelSizeUm")),
        int(binned[0]) if binned else 0,
        None if roi is None else (int(roi[0]), int(roi[1])),
        min(2 ** int(bits) - 1, _TOP_ADU) if bits else 0,
    )


def identity(door: Door, label: str) -> str:
    """Return adapter, device and, where the camera tells one, its serial number."""
    parts = [
        str(ask(door, label, method, label)) for method in ("getDeviceLibrary", "getDeviceName")
    ]
    serial = next(filter(None, (_property(door, label, name) for name in _SERIAL)), "")
    return " ".join([*parts, serial] if serial else parts)


def check_property(door: Door, name: str, key: str) -> str:
    """Return the value of "Device.Property" that the config names under `key`.

    Raises
    ------
    CoreError
        The core has no such device or property; the message names `key`.
    """
    label, _, what = name.partition(".")
    loaded = list(ask(door, "core", "getLoadedDevices"))
    if label not in loaded:
        raise CoreError(f"{key}: {name}: no device '{label}' (loaded: {', '.join(loaded)})")
    if not ask(door, label, "hasProperty", label, what):
        raise CoreError(f"{key}: {name}: device '{label}' has no property '{what}'")
    return str(ask(door, f"{key}: {name}", "getProperty", label, what))


def _property(door: Door, label: str, name: str) -> str:
    """Return a property that not every camera has; "" where it has none."""
    if not _try(door, "hasProperty", label, name):
        return ""
    return str(_try(door, "getProperty", label, name) or "")


def _try(door: Door, method: str, *arguments: Any) -> Any:
    """Call what not every camera or bridge answers; None where it does not."""
    try:
        return door.call(method, *arguments)
    except Exception:  # noqa: BLE001 (welcome to know, not needed)
        return None
