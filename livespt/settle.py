"""Wait until identities are settled: with `link.lag` the linker may revise the last frames' links.

What comes after the linker takes each frame so many frames later, with links that no longer
change, and so never sees a revision. Without a lag nothing waits.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from livespt.types import REVISION_DTYPE, Links, Spots

T = TypeVar("T")


class Settled(NamedTuple, Generic[T]):
    """A linked frame, and what its owner wants to have by it.

    While it waits, `links` is changed in place; once settled, `links.revised` is empty.
    """

    spots: Spots
    links: Links
    extra: T


class Settling(Generic[T]):
    """The frames whose identities may still change.

    Parameters
    ----------
    lag : int
        Frames that a linked frame waits: the linker's own `link.lag`.
    """

    def __init__(self, lag: int) -> None:
        self._lag = lag
        self._waiting: OrderedDict[int, Settled[T]] = OrderedDict()

    @property
    def newest(self) -> Settled[T] | None:
        """The youngest frame that waits, None where none does."""
        return next(reversed(self._waiting.values()), None)

    def take(self, spots: Spots, links: Links, extra: T) -> list[Settled[T]]:
        """Take in a frame and what its links change in earlier ones; return what is settled now."""
        self._waiting[spots.frame] = Settled(spots, links, extra)
        for change in links.revised:
            told = self._waiting[int(change["frame"])].links
            told.track_id[change["row"]] = change["track_id"]
            told.p_link[change["row"]] = change["p_link"]
        return self._first(len(self._waiting) - self._lag)

    def rest(self) -> list[Settled[T]]:
        """Return all that waits: at the end of a stream no frame will change it."""
        return self._first(len(self._waiting))

    def _first(self, n: int) -> list[Settled[T]]:
        done = [self._waiting.popitem(last=False)[1] for _ in range(n)]
        nothing = np.zeros(0, REVISION_DTYPE)
        return [each._replace(links=each.links._replace(revised=nothing)) for each in done]
