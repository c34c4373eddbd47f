"""The stage's one family of errors."""

from __future__ import annotations

from livespt.types import LivesptError


class LocalizeError(LivesptError):
    """A frame or region cannot be localized; the message says what was found and expected."""
