"""Ways into a Micro-Manager core: to its cameras, and to its lasers."""

from livespt.core.base import CoreError, Door, ask, need, one_line, set_property
from livespt.core.bridge import BridgeDoor
from livespt.core.plus import PlusDoor, load_core
from livespt.core.reads import (
    CameraFacts,
    check_property,
    door_of,
    identity,
    read_camera,
)
from livespt.core.snake import SnakeDoor, connect, start_core

__all__ = [
    "BridgeDoor",
    "CameraFacts",
    "CoreError",
    "Door",
    "PlusDoor",
    "SnakeDoor",
    "ask",
    "check_property",
    "connect",
    "door_of",
    "identity",
    "load_core",
    "need",
    "one_line",
    "read_camera",
    "set_property",
    "start_core",
]
