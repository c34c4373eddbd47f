"""Frames stamped with the light they were exposed to, where the source does not know it itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from livespt.sources.base import Source
from livespt.types import Frame, SourceInfo, StreamItem


class StampedSource:
    """A source whose frames get their `excitation` as they arrive.

    Parameters
    ----------
    source : Source
    excitation : callable
        Mean excitation between two times of `time.monotonic`, relative to the reference.
    """

    def __init__(self, source: Source, excitation: Callable[[float, float], float]) -> None:
        self.source = source
        self._excitation = excitation
        #: As the source's own.
        self.hands_over = bool(getattr(source, "hands_over", False))

    @property
    def info(self) -> SourceInfo:
        """The source's own."""
        return self.source.info

    def frames(self) -> Iterator[StreamItem]:
        """Yield what the source does, each frame with its light.

        A camera hands a frame over within one interval after its exposure; nothing tells when
        exactly. So the mean over exposure and interval is taken: where the light changed within
        that time, the frame shows a power of its own, and no window takes it for another.
        """
        for item in self.source.frames():
            if isinstance(item, Frame):
                now_s = time.monotonic()
                since_s = now_s - item.exposure_s - self.source.info.interval_s
                item = item._replace(excitation=self._excitation(since_s, now_s))
            yield item

    def close(self) -> None:
        """Close the source."""
        self.source.close()
