"""Work spread over a few threads and put back in the order of the stream."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from livespt.types import Event, Frame, Spots, StreamItem

_END = object()


def ordered_map(
    function: Callable[[Frame], Spots],
    items: Iterable[StreamItem],
    workers: int,
    window: int = 0,
    patience_s: float | None = None,
) -> Iterator[Event | tuple[Frame, Spots] | None]:
    """Apply `function` to the frames of a stream on a few threads; yield in stream order.

    Each result is handed over as soon as it and all before it are ready: a slow source never
    holds back the frames that it has already given. Events pass through in their place.

    Parameters
    ----------
    function : Frame -> Spots
        Pure; called from `workers` threads.
    items : iterable of Frame or Event
        Read from a thread of its own.
    workers : int
    window : int
        Frames in flight at most; twice the workers if 0.
    patience_s : float, optional
        Yield None where nothing came for so long, so that the caller can look around.

    Raises
    ------
    Exception
        What `items` or `function` raised, after all results before it.
    """
    window = window or 2 * workers
    slots = threading.Semaphore(window)
    results: queue.SimpleQueue[object] = queue.SimpleQueue()
    stop = threading.Event()

    def feed(pool: ThreadPoolExecutor) -> None:
        try:
            for item in items:
                if isinstance(item, Frame):
                    slots.acquire()
                    if stop.is_set():
                        return
                    results.put((item, pool.submit(function, item)))
                else:
                    results.put(item)
        except BaseException as error:  # noqa: BLE001 (handed to the consumer, in order)
            results.put(error)
        else:
            results.put(_END)

    with ThreadPoolExecutor(workers, thread_name_prefix="localize") as pool:
        feeder = threading.Thread(target=feed, args=(pool,), name="feed", daemon=True)
        feeder.start()
        try:
            yield from _drain(results, slots, patience_s)
        finally:
            stop.set()
            slots.release(window)


def _drain(
    results: queue.SimpleQueue[object], slots: threading.Semaphore, patience_s: float | None
) -> Iterator[Event | tuple[Frame, Spots] | None]:
    while True:
        try:
            item = results.get(timeout=patience_s)
        except queue.Empty:
            yield None
            continue
        if item is _END:
            return
        if isinstance(item, Event):
            yield item
        elif isinstance(item, BaseException):
            raise item
        else:
            frame, future = _pair(item)
            spots = future.result()
            slots.release()
            yield frame, spots


def _pair(item: object) -> tuple[Frame, Future[Spots]]:
    return item  # type: ignore[return-value]  # what `feed` put there
