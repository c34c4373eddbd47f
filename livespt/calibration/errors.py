"""The one error family of calibration."""

from livespt.types import LivesptError


class CalibrationError(LivesptError):
    """A series cannot be used for a calibration; the message names the file and what to do."""
