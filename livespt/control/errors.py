"""The error of this room."""

from livespt.types import LivesptError


class ControlError(LivesptError):
    """The excitation cannot be controlled; the message names the file, key or device."""
