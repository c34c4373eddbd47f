"""A live filter that no refit keeps waiting.

A refit of the early data takes as long as several frames. So a copy of the filter does it, on a
thread of its own; then the copy takes the frames that have come meanwhile, and at a later frame it
takes the live filter's place. From there on all is, to the bit, as if the frame at which the refit
fell due had waited for it.

That later frame is fixed by the stream alone: the first one so many of its seconds later as the
refit's work takes at most on a slow machine. A machine that is slower still waits there. So the
same stream gives the same answers, however fast it comes and whatever else runs.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from livespt.infer.arrays import Ints, Seen
from livespt.infer.states import StateFilter, Taken
from livespt.turns import Pauses, stand_back

#: What a refit's thread leaves to the frames, as it has until its turn: priority, and time.
MODEST, SHARE = 5, 0.4
#: No refit begins before so many seconds of the stream: a crowd brings thousands of steps in them,
#: which are then refitted once, not three times.
FIRST_S = 0.05


class Relay:
    """A `StateFilter`, and behind it the one that will take its place.

    Parameters
    ----------
    first : StateFilter
        Does no refit itself.

    Attributes
    ----------
    refits_from_s : float, optional
        Time of the stream from which on refits begin; None before the first frame.
    """

    def __init__(self, first: StateFilter) -> None:
        self.live = first
        self.refits_from_s: float | None = None
        self._next: _Runner | None = None

    @property
    def n_learned(self) -> int:
        """Steps that the parameters rest on; 0 while a refit is under way, as they will leap."""
        return 0 if self._next else self.live.learner.n_steps

    def step(self, track: Ints, seen: Seen) -> Taken:
        """Take the tracked spots of one frame, by the filter whose turn it is."""
        if self._next and seen.t_s >= self._next.turn_s:
            self.live, self._next = self._next.arrive(), None
        if self._next:
            self._next.run(StateFilter.step, track, seen)
        return self.live.step(track, seen)

    def close(self, slots: Ints, frame: int) -> None:
        """End a frame: note the occupancy, free the slots of ended tracks."""
        self.live.close(slots, frame)
        if self._next:
            self._next.run(StateFilter.close, slots, frame)

    def refit(self, slots: Callable[[], dict[int, int]], t_s: float) -> None:
        """Have the early data refitted behind the stream, if that is due at `t_s`.

        `slots` tells the slot of each live track.
        """
        if self.refits_from_s is None:
            self.refits_from_s = t_s + FIRST_S
        if self._next or t_s < self.refits_from_s:
            return
        if self.live.learner.is_refit_due:
            self._next = _Runner(self.live, t_s)
            self._next.refit(slots())

    def grow(self) -> None:
        """Double the number of slots."""
        self.live.grow()
        if self._next:
            self._next.run(StateFilter.grow)

    def forget(self) -> None:
        """Begin to learn anew, whatever is under way."""
        if self._next:
            self._next.give_up()
            self._next = None
        self.live.forget()

    def finish(self) -> None:
        """Wait for a refit that is under way, and leave it out."""
        if self._next:
            self._next.arrive()
            self._next = None


class _Runner:
    """A copy of a filter that runs behind the stream: what it is told, in that order.

    `turn_s` is the time of the stream at which it takes over.
    """

    def __init__(self, live: StateFilter, t_s: float) -> None:
        self.turn_s = t_s + live.learner.refit_s
        self._filter = live.copy()
        self._thread = ThreadPoolExecutor(1, "livespt-refit", stand_back, (MODEST,))
        self._pause = Pauses(SHARE)
        self._told: list[Future[Any]] = []

    def refit(self, slots: dict[int, int]) -> None:
        """Have it refit the early data."""
        self.run(StateFilter.refit, slots, self._pause)

    def run(self, method: Callable[..., Any], *args: object) -> None:
        """Have it do one thing more."""
        self._told.append(self._thread.submit(self._do, method, *args))

    def _do(self, method: Callable[..., Any], *args: object) -> None:
        method(self._filter, *args)
        self._pause()

    def arrive(self) -> StateFilter:
        """Wait until it has done all; raise what went wrong."""
        self._pause.end()
        for done in self._told:
            done.result()
        self._thread.shutdown(wait=False)
        return self._filter

    def give_up(self) -> None:
        """Let it end what it is at."""
        self._pause.end()
        self._thread.shutdown(wait=False, cancel_futures=True)
