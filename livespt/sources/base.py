"""The door through which every frame comes in.

A source is anything with `info`, `frames()` and `close()`. Frames and events share one stream, so
that a hole stands where it belongs; what went wrong for good is raised as a `SourceError` after
everything that was received. Sources are found by name in the entry-point group
``livespt.sources``, where a third party's camera registers beside ours.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

from livespt.config import ConfigError
from livespt.types import LivesptError, SourceInfo, StreamItem

GROUP = "livespt.sources"


class SourceError(LivesptError):
    """A source cannot start or cannot go on; the message names the file, device or option."""


@runtime_checkable
class Source(Protocol):
    """A stream of frames and of the events that befell it.

    `frames` may be called once. `close` may be called from any thread, more than once, and makes
    `frames` end soon; it releases the camera or file.
    """

    @property
    def info(self) -> SourceInfo:
        """What the source knows about its own stream; fixed once it is open."""
        ...

    def frames(self) -> Iterator[StreamItem]:
        """Yield frames and events in the order of the camera's clock, until the end."""
        ...

    def close(self) -> None:
        """Stop the stream and release what it holds."""
        ...


def known_sources() -> list[str]:
    """Return the names that `open_source` accepts, sorted."""
    return sorted({entry.name for entry in importlib.metadata.entry_points(group=GROUP)})


def open_source(kind: str, options: dict[str, Any], *, origin: str = "config") -> Source:
    """Open the source registered as `kind`.

    Parameters
    ----------
    kind : str
        Name of an entry point in the group ``livespt.sources``.
    options : dict
        The source's own options; it checks them itself.
    origin : str
        Where the options came from (a file's name), for messages.

    Raises
    ------
    SourceError
        No such source, a package it needs is not installed, or it cannot start.
    ConfigError
        An option is unknown, of the wrong type or out of range.
    """
    found = list(importlib.metadata.entry_points(group=GROUP, name=kind))
    if not found:
        raise SourceError(
            f"{origin}: source.kind: no source '{kind}' (known: {', '.join(known_sources())})"
        )
    try:
        factory = found[0].load()
    except ImportError as error:
        raise SourceError(f"{origin}: source '{kind}' cannot be loaded: {error}") from None
    try:
        return factory(options)
    except ConfigError as error:
        raise ConfigError(f"{origin}: {error}") from None
