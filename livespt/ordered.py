"""Work spread over a few threads and put back in the order of the stream.

The workers read the stream themselves, one at a time: whoever has its turn takes the next item,
lets the next worker in and goes to work on what it took. So a frame changes hands twice, from the
source to its worker and from there to the consumer, and a thread is woken no more often than that:
at 1,000 frames a second every waking counts. As long as nothing waits at the source one worker does
it all, in its own warm caches, and leaves the other cores to what comes after.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from livespt.types import Event, Frame, Spots, StreamItem


class _Done(NamedTuple):
    """What became of the item with a number: an event, a frame's spots, an error, or the end."""

    number: int
    result: Event | tuple[Frame, Spots] | BaseException | None


def ordered_map(
    function: Callable[[Frame], Spots],
    items: Iterable[StreamItem],
    workers: int,
    window: int = 0,
    patience_s: float | None = None,
    behind: Callable[[], bool] | None = None,
) -> Iterator[Event | tuple[Frame, Spots] | None]:
    """Apply `function` to the frames of a stream on a few threads; yield in stream order.

    Each result is handed over as soon as it and all before it are ready: a slow source never
    holds back the frames that it has already given. Events pass through in their place.

    Parameters
    ----------
    function : Frame -> Spots
        Pure; called from `workers` threads.
    items : iterable of Frame or Event
        Read by those threads in turn, never by two at once.
    workers : int
    window : int
        Items in flight at most; twice the workers, and four, if 0.
    patience_s : float, optional
        Yield None where nothing came for so long, so that the caller can look around.
    behind : callable, optional
        Whether more items wait at the source; the workers take turns if nobody can say.

    Raises
    ------
    Exception
        What `items` or `function` raised, after all results before it.
    """
    crew = _Crew(function, items, window or 2 * workers + 4, behind or (lambda: True))
    for k in range(workers):
        # daemons: one of them may wait for a camera that never sends again
        threading.Thread(target=crew.work, name=f"localize-{k}", daemon=True).start()
    try:
        yield from _in_order(crew, patience_s)
    finally:
        crew.leave()


class _Crew:
    """Threads that share one stream.

    Attributes
    ----------
    done : queue of _Done
        Results as they become ready.
    places : queue
        One token for each item that may still be taken: a queue, because it is the fastest
        semaphore that Python has.
    """

    def __init__(
        self,
        function: Callable[[Frame], Spots],
        items: Iterable[StreamItem],
        window: int,
        behind: Callable[[], bool],
    ) -> None:
        self.done: queue.SimpleQueue[_Done] = queue.SimpleQueue()
        self.places: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(window):
            self.places.put(None)
        self._function, self._items = function, iter(items)
        self._behind = behind
        self._turn = threading.Lock()
        self._n_taken = 0
        self._over = False
        self._at_work: list[threading.Lock] = []

    def work(self) -> None:
        """Take items and work on them until the stream is over; each thread's whole life."""
        at_work = threading.Lock()
        self._at_work.append(at_work)
        while (taken := self._take_turn(at_work)) is not None:
            self._do(taken, at_work)

    def _take_turn(self, at_work: threading.Lock) -> tuple[int, StreamItem] | None:
        """Return an item to work on while the next worker has its turn; None at the end.

        As long as no other item waits, the work is done here, and the turn kept.
        """
        with self._turn:
            while (taken := self._take()) is not None:
                at_work.acquire()
                if self._behind():
                    return taken
                self._do(taken, at_work)
            return None

    def _do(self, taken: tuple[int, StreamItem], at_work: threading.Lock) -> None:
        number, item = taken
        self.done.put(_Done(number, self._worked_on(item)))
        at_work.release()

    def _worked_on(self, item: StreamItem) -> Event | tuple[Frame, Spots] | BaseException:
        if not isinstance(item, Frame):
            return item
        try:
            return item, self._function(item)
        except BaseException as error:  # noqa: BLE001 (raised by the consumer, in order)
            return error

    def _take(self) -> tuple[int, StreamItem] | None:
        """Return the next item and its number; None at the end. Called by one thread at a time."""
        if self._over:
            return None
        self.places.get()
        end: BaseException | None = None
        try:
            item = None if self._over else next(self._items, None)
        except BaseException as error:  # noqa: BLE001 (raised by the consumer, in order)
            item, end = None, error
        number = self._n_taken
        self._n_taken += 1
        if item is None or self._over:
            self._over = True
            self.done.put(_Done(number, end))
            return None
        return number, item

    def leave(self) -> None:
        """Let nobody take anything more, and wait for those at work, not for the source."""
        self._over = True
        self.places.put(None)
        for at_work in self._at_work:
            with at_work:
                pass


def _in_order(
    crew: _Crew, patience_s: float | None
) -> Iterator[Event | tuple[Frame, Spots] | None]:
    early: dict[int, _Done] = {}
    number = 0
    while True:
        done = early.pop(number, None)
        while done is None:
            try:
                come = crew.done.get(timeout=patience_s)
            except queue.Empty:
                yield None
                continue
            if come.number == number:
                done = come
            else:
                early[come.number] = come
        number += 1
        result = done.result
        if result is None:
            return
        if isinstance(result, BaseException):
            raise result
        crew.places.put(None)
        yield result
