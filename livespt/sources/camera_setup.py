"""What a camera behind a Micro-Manager core is told before it starts."""

from __future__ import annotations

from typing import Annotated

import msgspec

from livespt.core import CoreError, Door, ask, set_property
from livespt.sections import Positive, Section

_CAMERA_DEVICE = 2  # MM::CameraDevice


class CameraOptions(Section, frozen=True):
    """What both doors to a core may be told about its camera.

    Attributes
    ----------
    config : str
        Micro-Manager's .cfg file; the demonstration's if empty.
    adapters : str
        Folder of the device adapters; "auto" finds the test adapters or an installation.
    camera : str
        Label of the camera; the core's own choice if empty.
    exposure_ms : float, optional
        The camera's own setting if left out.
    interval_ms : float, optional
        Nominal time between frames, where it is not the exposure.
    roi : list of int
        x, y, width, height in pixels; the whole chip if empty.
    binning : int
    n_frames : int, optional
        Stop after as many were received; run on if left out.
    buffer_mb : int, optional
        The core's circular buffer; left as it is if left out.
    stop_on_overflow : bool
        Stop, read the backlog out and resume (True), or let the core drop its backlog (False).
    properties : dict
        "Device.Property" = value, set in this order before the camera starts.
    """

    config: str = ""
    adapters: str = "auto"
    camera: str = ""
    exposure_ms: Positive | None = None
    interval_ms: Positive | None = None
    roi: Annotated[list[Annotated[int, msgspec.Meta(ge=0)]], msgspec.Meta(max_length=4)] = (
        msgspec.field(default_factory=list)
    )
    binning: Annotated[int, msgspec.Meta(ge=1)] = 1
    n_frames: Annotated[int, msgspec.Meta(ge=1)] | None = None
    buffer_mb: Annotated[int, msgspec.Meta(ge=1, le=65536)] | None = None
    stop_on_overflow: bool = True
    properties: dict[str, str | int | float | bool] = msgspec.field(default_factory=dict)


def set_up(door: Door, options: CameraOptions) -> str:
    """Choose the camera and set it as `options` say; return its label.

    Raises
    ------
    CoreError
        Naming the device, property or option that the core refuses.
    """
    camera = _choose_camera(door, options.camera)
    for name, value in options.properties.items():
        set_property(door, name, value)
    if options.binning != 1:
        set_property(door, f"{camera}.Binning", options.binning)
    if options.roi:
        _set_roi(door, options.roi)
    if options.exposure_ms is not None:
        what = f"exposure_ms = {options.exposure_ms:g}"
        ask(door, what, "setExposure", float(options.exposure_ms))
    if options.buffer_mb is not None:
        what = f"buffer_mb = {options.buffer_mb}"
        ask(door, what, "setCircularBufferMemoryFootprint", options.buffer_mb)
    return camera


def _choose_camera(door: Door, label: str) -> str:
    loaded = list(ask(door, "core", "getLoadedDevices"))
    kinds = {one: int(ask(door, one, "getDeviceType", one)) for one in loaded}
    cameras = [one for one in loaded if kinds[one] == _CAMERA_DEVICE]
    known = ", ".join(cameras) or "none"
    if label and label not in cameras:
        raise CoreError(f"camera: no camera '{label}' (loaded: {known})")
    if label:
        ask(door, f"camera '{label}'", "setCameraDevice", label)
    chosen = str(ask(door, "core", "getCameraDevice"))
    if not chosen:
        raise CoreError(f"camera: the core has none chosen: name one of: {known}")
    return chosen


def _set_roi(door: Door, roi: list[int]) -> None:
    ask(door, "roi", "clearROI")
    width, height = (int(ask(door, "roi", f"getImage{side}")) for side in ("Width", "Height"))
    inside = len(roi) == 4 and roi[2] and roi[3] and roi[0] + roi[2] <= width
    if not inside or roi[1] + roi[3] > height:
        raise CoreError(f"roi = {roi}: expected x, y, width, height within {width} x {height}")
    ask(door, f"roi = {roi}", "setROI", *roi)
