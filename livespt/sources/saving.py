"""A source whose frames are saved as they come, before any ring may shed one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from livespt.sources.base import Source
from livespt.types import Event, Frame, SourceInfo, StreamItem


class SavingSource:
    """A source that hands every frame to a saver first.

    Parameters
    ----------
    source : Source
    save : callable
        Takes each frame, copies it, and returns what is to be told behind it.
    first : Event
        Told before all.
    """

    def __init__(self, source: Source, save: Callable[[Frame], list[Event]], first: Event) -> None:
        self.source = source
        self._save, self._first = save, first
        #: As the source's own.
        self.hands_over = bool(getattr(source, "hands_over", False))

    @property
    def info(self) -> SourceInfo:
        """The source's own."""
        return self.source.info

    def frames(self) -> Iterator[StreamItem]:
        """Yield what the source does, and what the saver says."""
        yield self._first
        for item in self.source.frames():
            told: list[Event] = []
            try:
                yield item  # analysis may begin with it at once
            finally:  # also where nobody takes any more
                if isinstance(item, Frame):
                    told = self._save(item)
            yield from told

    def close(self) -> None:
        """Close the source."""
        self.source.close()
