"""Find what a camera lost, from its frame numbers and its clock.

A camera numbers its frames; a hole in the numbers is frames that were exposed and never came. A
camera that falls silent, or a clock that runs backwards or leaps, leaves the numbers whole and
shows only in time. The limit for both is ten frame intervals, at least half a second: shorter
pauses are jitter of the host.

Downstream needs time to run forward. Where the clock ran back, this detector says so and carries
on from the last frame by the nominal interval; it never alters a time otherwise.
"""

from __future__ import annotations

from livespt.types import Event

#: Silence or leap that counts, in frame intervals, and its floor in seconds.
LIMIT_INTERVALS = 10.0
LIMIT_FLOOR_S = 0.5


class GapDetector:
    """Turn frame numbers, camera times and the host's clock into events.

    Parameters
    ----------
    interval_s : float
        Nominal time between frames.
    first_index : int or None
        The number that the first frame ought to have; None accepts any.
    """

    def __init__(self, interval_s: float, *, first_index: int | None = None) -> None:
        self.interval_s = interval_s
        self.limit_s = max(LIMIT_INTERVALS * interval_s, LIMIT_FLOOR_S)
        self.n_missing = 0
        self._last_index = None if first_index is None else first_index - 1
        self._last_t_s: float | None = None
        self._last_seen_s: float | None = None
        self._offset_s = 0.0
        self._stalled = False

    def see(self, index: int, t_s: float, now_s: float) -> tuple[float, list[Event]]:
        """Judge one frame on arrival.

        Parameters
        ----------
        index : int
            The camera's number of the frame.
        t_s : float
            The camera's time.
        now_s : float
            The host's monotonic clock.

        Returns
        -------
        float
            The frame's time, mended where the clock ran back.
        list of Event
            What lies between the frame before and this one, in order.
        """
        step = 1 if self._last_index is None else index - self._last_index
        mended_s, clock = self._check_clock(index, t_s, step, now_s)
        events = self._check_resumed(index, mended_s, now_s) + clock
        if step > 1:
            self.n_missing += step - 1
            events.append(self._missing(index, step - 1, mended_s))
        elif step < 1:
            message = f"frame number went back from {self._last_index} to {index}"
            events.append(Event("timestamp", mended_s, index, 0, message))
        self._last_index, self._last_t_s, self._last_seen_s = index, mended_s, now_s
        return mended_s, events

    def idle(self, now_s: float) -> list[Event]:
        """Say once that the stream is silent for too long; call it while no frame comes."""
        if self._last_seen_s is None:
            self._last_seen_s = now_s
        silent_s = now_s - self._last_seen_s
        if self._stalled or silent_s <= self.limit_s:
            return []
        self._stalled = True
        last_t_s = self._last_t_s or 0.0
        frame = -1 if self._last_index is None else self._last_index + 1
        message = f"no frame for {silent_s:.2f} s (one is due every {self.interval_s:g} s)"
        return [Event("stalled", last_t_s + silent_s, frame, 0, message)]

    def _check_resumed(self, index: int, t_s: float, now_s: float) -> list[Event]:
        if not self._stalled or self._last_seen_s is None:
            return []
        self._stalled = False
        silent_s = now_s - self._last_seen_s
        return [Event("resumed", t_s, index, 0, f"frames again after {silent_s:.2f} s of silence")]

    def _check_clock(
        self, index: int, t_s: float, step: int, now_s: float
    ) -> tuple[float, list[Event]]:
        mended_s = t_s + self._offset_s
        if self._last_t_s is None:
            return mended_s, []
        elapsed_s = mended_s - self._last_t_s
        due_s = max(step, 1) * self.interval_s
        if elapsed_s <= 0.0:
            self._offset_s += due_s - elapsed_s
            message = f"the clock ran back by {-elapsed_s:.6f} s; time goes on by the interval"
            return self._last_t_s + due_s, [Event("timestamp", self._last_t_s, index, 0, message)]
        waited_s = 0.0 if self._last_seen_s is None else now_s - self._last_seen_s
        leap_s = elapsed_s - max(due_s, waited_s)
        if leap_s <= self.limit_s:
            return mended_s, []
        message = f"the clock leapt forward by {leap_s:.3f} s"
        return mended_s, [Event("timestamp", mended_s, index, 0, message)]

    def _missing(self, index: int, n_missing: int, t_s: float) -> Event:
        first = index - n_missing
        first_t_s = t_s - n_missing * self.interval_s
        message = f"frames {first} to {index - 1} never came ({n_missing} missing)"
        return Event("missing", first_t_s, first, n_missing, message)
