"""Reactions: what your script does when something happens in a run.

    from livespt.reactions import Reactions

    reactions = Reactions()

    @reactions.on("bleached")
    def next_position(event):
        ...

    with Session(config, listeners=[reactions.listener]) as session:   # in the run's own process
        session.run()
    with Subscriber(topics=["event", "status"]) as live:               # or in another
        reactions.follow(live)

Handlers run one after the other, in the order of the events, on a thread of their own that lives
only while there is work: `listener` takes an event in microseconds and never waits, whatever a
handler does. What waits is bounded; what finds no room is counted and reported. A handler that
raises is reported, and the next event finds it in its place.
"""

from __future__ import annotations

import contextlib
import difflib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

from livespt.types import EVENT_KINDS, EVENT_NAMES, Event, LivesptError
from livespt.wire import Subscriber, event_from
from livespt.wire.schema import AnyMessage, EventMessage

Handler = Callable[[Event], object]
H = TypeVar("H", bound=Handler)

#: Events that may wait for their handlers.
QUEUE = 256

_log = logging.getLogger(__name__)


class ReactionError(LivesptError):
    """A handler was registered for what never happens; the message names the nearest."""


class _Registered(NamedTuple):
    """A handler, what it is for, and when it was last given an event."""

    handler: Handler
    wanted: frozenset[str]
    every_s: float
    last_s: list[float]


class Reactions:
    """Handlers of events, called in order on a thread of their own.

    Parameters
    ----------
    queue : int
        Calls that may wait; further ones are dropped and counted.
    report : callable, optional
        Takes one line for each handler that failed and for what was dropped: `Session.note` puts
        it among the run's own events. By default a warning of the logger `livespt.reactions`. It
        may be set later, and is called on the thread of the handlers or of the listener.

    Attributes
    ----------
    dropped : int
        Calls for which there was no room.
    failed : int
        Calls that raised.
    """

    def __init__(
        self, *, queue: int = QUEUE, report: Callable[[str], object] | None = None
    ) -> None:
        self.report = report or _log.warning
        self.dropped = self.failed = 0
        self._most = queue
        self._registered: list[_Registered] = []
        self._waiting: deque[tuple[Handler, Event]] = deque()
        self._changed = threading.Condition()
        self._worker: threading.Thread | None = None

    def on(self, *names: str, every_s: float = 0.0) -> Callable[[H], H]:
        """Register the decorated function for events of these names or kinds.

        Parameters
        ----------
        *names : str
            `Event.name` or `Event.kind`; ``"*"`` is every event.
        every_s : float
            The handler is given at most one event in so many seconds; others pass it by.

        Raises
        ------
        ReactionError
            There is no event of that name.
        """
        for name in names or ("",):
            _check(name)

        def register(handler: H) -> H:
            entry = _Registered(handler, frozenset(names), every_s, [-every_s])
            self._registered.append(entry)
            return handler

        return register

    def listener(self, message: AnyMessage) -> None:
        """Take a message of the run; never waits, never raises."""
        if isinstance(message, EventMessage):
            self._take(event_from(message))

    def follow(self, live: Subscriber, *, silence_s: float | None = None) -> None:
        """Listen to the run's end, or until its publisher is silent, and finish what is begun.

        The subscriber needs the topics "event" and "status".
        """
        for message in live.messages(silence_s):
            self.listener(message)
        self.wait()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until nothing waits and no handler runs; return whether that came in time."""
        if threading.current_thread() is self._worker:
            return False  # a handler that waits for itself
        with self._changed:
            return self._changed.wait_for(lambda: self._worker is None, timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.wait()

    def _take(self, event: Event) -> None:
        now_s = time.monotonic()
        for entry in self._registered:
            if not entry.wanted & {event.kind, event.name, "*"}:
                continue
            if entry.every_s and now_s - entry.last_s[0] < entry.every_s:
                continue
            entry.last_s[0] = now_s
            self._put(entry.handler, event)

    def _put(self, handler: Handler, event: Event) -> None:
        with self._changed:
            full = len(self._waiting) >= self._most
            self.dropped += full
            if not full:
                self._waiting.append((handler, event))
                self._begin()
        if full:
            what = event.name or event.kind
            why = f"'{what}' found no room before {_name(handler)}: handlers are too slow"
            self._say(f"reactions: {why} ({self.dropped} dropped)")

    def _begin(self) -> None:
        """Have a thread that works, unless there is one; it ends when nothing waits.

        Where the system has no thread to give, what waits is tried again with the next event.
        """
        if self._worker is None:
            worker = threading.Thread(target=self._work, name="reactions")
            with contextlib.suppress(RuntimeError):
                worker.start()  # it waits for the lock that we hold
                self._worker = worker

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._waiting:
                    self._worker = None
                    self._changed.notify_all()
                    return
                handler, event = self._waiting.popleft()
            try:
                handler(event)
            except (Exception, SystemExit) as error:  # noqa: BLE001 (a user's own code)
                self.failed += 1
                why = f"{type(error).__name__}: {error}".splitlines()[0]
                what = event.name or event.kind
                self._say(f"reactions: {_name(handler)} failed at '{what}': {why}")

    def _say(self, text: str) -> None:
        try:
            self.report(text)
        except Exception:  # noqa: BLE001 (nobody else is left to tell)
            _log.exception("%s", text)


def _check(name: str) -> None:
    known = ("*", *EVENT_KINDS, *EVENT_NAMES)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else f" (known: {', '.join(known)})"
        raise ReactionError(f"reactions: no event '{name}'{hint}")


def _name(handler: Handler) -> str:
    return getattr(handler, "__name__", repr(handler))
