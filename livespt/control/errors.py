"""What control refuses."""

from __future__ import annotations

from livespt.types import LivesptError


class ControlError(LivesptError):
    """The excitation cannot be controlled as asked; the message names the file, key or device."""
