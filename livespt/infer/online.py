"""The live filter: every track's motion state now, and the motion model pooled over all tracks.

Each live track holds one Gaussian and one probability per motion state (GPB2 over Berglund's model
with pointwise errors, see `stepkernels`); their derivatives in the parameters ride along and give
the score of each frame, from which `learn` learns. Time between frames is what the clock says: a
gap is crossed by the intervals that it holds, each of which may switch and diffuse. Beside it
stands each track's own D (`own`), which owes the pooled model nothing but its error scale. Where
the number of states is to be found, a few of them run side by side (`choice`).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from livespt.infer.arrays import EVERYWHERE, Array, Ints, Seen, field_of
from livespt.infer.choice import Choice
from livespt.infer.livekernels import take_spots, tell_tracks
from livespt.infer.motion import InferError
from livespt.infer.own import OwnD
from livespt.infer.plain import DOUBLE, LONG, plain
from livespt.infer.relay import Relay
from livespt.infer.slotkernels import TWICE
from livespt.infer.slots import Slots
from livespt.infer.states import StateFilter, Taken
from livespt.infer.watch import Pace, Watch
from livespt.sections import InferConfig, WatchConfig
from livespt.types import SPOT_DTYPE, Estimates, Event, Links, Model, Spots

#: Slots for live tracks to begin with, a power of two.
CAPACITY = 64


class OnlineFilter:
    """Infer motion frame by frame; the same spots and links give the same bits again.

    Parameters
    ----------
    n_states : int or "auto"
        Number of motion states, 1 to 4; "auto" finds it from the data, beginning with two.
    interval_s : float
        Nominal time between frames, to which the switching probabilities refer.
    field_um : (height, width), optional
        The field of view, from the origin. Steps that begin within a step's length of its border
        are followed but do not count for the parameters: those that left the view are not seen.
    config : InferConfig, optional
        Starting values and lags; starting values are forgotten soon and may be badly wrong.
    watch : WatchConfig, optional
        How often alarms may be false, and whether one of D makes the fit begin anew.

    Raises
    ------
    InferError
        If the number of states or the interval is out of range, or disagrees with `config`.
    """

    def __init__(
        self,
        n_states: int | Literal["auto"],
        interval_s: float,
        *,
        field_um: tuple[float, float] | None = None,
        config: InferConfig | None = None,
        watch: WatchConfig | None = None,
    ) -> None:
        watch = watch or WatchConfig()
        config = config or InferConfig(n_states=n_states)
        _check(n_states, interval_s, config)
        self.interval_s = float(interval_s)
        self._asked: int | Literal["auto"] = n_states
        self._config, self._field = config, field_of(field_um)
        self._slots = Slots(CAPACITY)
        self._n_spots = np.zeros(CAPACITY, np.int64)
        first = InferConfig.BEGIN_WITH if n_states == "auto" else n_states
        self._choice = Choice(first) if n_states == "auto" else None
        self._running: dict[int, Relay] = {}
        self._used = self._run(first)
        self._begin_wanted()
        self._own = OwnD(interval_s, CAPACITY)
        self._states = np.empty(InferConfig.MOST, np.int64)  # scratch
        self._watch = Watch(interval_s, watch)
        self._forgets = watch.forget
        self._last: tuple[int, float] | None = None

    @property
    def n_states(self) -> int:
        """Number of states in use."""
        return self._live.n_states

    @property
    def _live(self) -> StateFilter:
        return self._used.live

    def step(self, spots: Spots, links: Links) -> Estimates:
        """Take one frame; return every seen track's estimate and the pooled model.

        Parameters
        ----------
        spots : Spots
            One frame, in frame order. Rows that are not `FitStatus.OK` are ignored.
        links : Links
            The track of each row, and the tracks that ended.

        Returns
        -------
        Estimates
            One row per track seen, in the order of `spots.table`; what has changed in the sample.

        Raises
        ------
        InferError
            If the frame is not after the last one, links do not fit the spots, or a track
            appears twice.
        """
        self._check_order(spots, links)
        spots, links = _plain(spots, links)
        whole, track, seen = self._select(spots, links)
        self._last = (spots.frame, spots.t_s)
        learned = {k: relay.n_learned for k, relay in self._running.items()}
        taken = {k: relay.step(track, seen) for k, relay in self._running.items()}
        now = taken[self.n_states]
        table = self._table(now, whole, seen)
        if links.ended.size:
            self._close(plain(links.ended, LONG), spots.frame)
        for relay in self._running.values():
            relay.refit(self._slots.items, spots.t_s)
        news = self._news(spots, now.pace, taken, learned)
        return Estimates(spots.frame, spots.t_s, table, now.model, news)

    def model(self) -> Model:
        """Return the pooled answer as of the last frame."""
        return self._live.model()

    def warm_up(self) -> None:
        """Compile everything that `step` calls, on a made-up stream that leaves no trace."""
        rehearsal = OnlineFilter(self._asked, self.interval_s, config=self._config)
        for relay in rehearsal._running.values():
            relay.refits_from_s = 0.0
        rng = np.random.default_rng(0)
        table = np.zeros(24, SPOT_DTYPE)
        table["var_x_um2"] = table["var_y_um2"] = 1e-3
        for frame in range(FRAMES_OF_REHEARSAL):
            for axis in ("x_um", "y_um"):
                table[axis] += rng.normal(0, 0.1, table.size)
            t_s = frame * self.interval_s
            ended = (
                np.array([0], np.int64) if frame == FRAMES_OF_REHEARSAL - 1 else np.empty(0, int)
            )
            links = Links(frame, np.arange(24), np.ones(24), ended)
            rehearsal.step(Spots(frame, t_s, self.interval_s, 1.0, table), links)
        for relay in rehearsal._running.values():
            relay.finish()

    def _check_order(self, spots: Spots, links: Links) -> None:
        if links.track_id.size != spots.table.size:
            raise InferError(
                f"frame {spots.frame}: {links.track_id.size} links for {spots.table.size} spots"
            )
        if self._last and (spots.frame <= self._last[0] or spots.t_s <= self._last[1]):
            raise InferError(
                f"frame {spots.frame} at {spots.t_s} s: expected one after frame"
                f" {self._last[0]} at {self._last[1]} s"
            )

    def _select(self, spots: Spots, links: Links) -> tuple[Ints, Ints, Seen]:
        """Pick the rows that belong to tracks, n of them; return these (in n first columns).

        The lines are rows, tracks and slots; then the tracks once more, and the spots.
        """
        n = spots.table.size
        whole, spot, weight = np.empty((3, n), np.int64), np.empty((n, 5)), np.empty(n)
        linked, known = (links.track_id, links.p_link), self._slots.known
        n, n_new = take_spots(spots.table, linked, whole, spot, weight, known, self._watch.tallies)
        track, slot = whole[1, :n], whole[2, :n]
        if n_new and self._slots.checked(track, slot, n_new) == TWICE:
            raise InferError(f"frame {spots.frame}: two spots are linked to the same track")
        if n_new:
            self._make_room(n_new)
            self._slots.give(track, slot)
        times = spots.frame, spots.t_s, spots.exposure_s
        return whole, track, Seen(*times, slot, spot[:n], weight[:n], self._border())

    def _border(self) -> Array:
        """Return the field as `field_of` does."""
        if self._field is EVERYWHERE:
            return EVERYWHERE
        field = self._field.copy()
        field[4] = self._live.fastest_um2_s
        return field

    def _table(self, now: Taken, whole: Ints, seen: Seen) -> NDArray[np.void]:
        """Fill the rows of the tracks that were seen, and step their own D."""
        own, (table, longs) = self._own, self._live.table(seen.slot.size)
        pooled = now.error_scale2, now.fastest_um2_s
        state = now.position, now.p_state, now.D, self._states
        banks = (*own.banks, self._n_spots, own.grid)
        tell_tracks(banks, tuple(seen), pooled, whole, state, longs, own.work)
        return table

    def _make_room(self, n_new: int) -> None:
        """Double the number of slots until there are enough."""
        while self._slots.n_free < n_new:
            self._n_spots = np.concatenate([self._n_spots, np.zeros_like(self._n_spots)])
            for part in (self._slots, self._own, *self._running.values()):
                part.grow()

    def _close(self, ended: Ints, frame: int) -> None:
        """Free the slots of ended tracks."""
        slots = self._slots.free(ended)
        for each in self._running.values():
            each.close(slots, frame)
        self._n_spots[slots] = 0

    def _news(
        self, spots: Spots, pace: Pace, taken: dict[int, Taken], learned: dict[int, int]
    ) -> tuple[Event, ...]:
        """Say what this frame has made known: the sample changed, or the number of states.

        `learned` are the steps that the parameters of each filter rested on.
        """
        alarms, choice = self._watch.see(spots, pace), self._choice
        if self._forgets and "D" in alarms:
            self._forget()
            return tuple(alarms.values())
        if choice is None:
            return tuple(alarms.values())
        why = choice.step({k: t.loglik for k, t in taken.items()}, learned)
        if not why:
            return tuple(alarms.values())
        counts = (self.n_states, choice.n_states)
        self._use(choice.n_states)
        note = Event("note", spots.t_s, spots.frame, 0, why, "n_states", *map(float, counts))
        return (*alarms.values(), note)

    def _use(self, n_states: int) -> None:
        """Go over to another number of states, and begin or end its neighbours."""
        self._used = self._run(n_states)
        self._begin_wanted()
        self._watch.forget_motion()

    def _begin_wanted(self) -> None:
        wanted = self._choice.wanted if self._choice else [self.n_states]
        self._running = {k: self._run(k) for k in wanted}

    def _run(self, n_states: int) -> Relay:
        """Return the filter that runs with so many states, a new one if none does."""
        running = self._running.get(n_states)
        if running is None:
            first = StateFilter(n_states, self.interval_s, self._config, self._slots.capacity)
            running = Relay(first)
            self._running[n_states] = running
        return running

    def _forget(self) -> None:
        for each in self._running.values():
            each.forget()
        self._watch.forget_motion()
        if self._choice is not None:
            self._choice.forget()


#: Enough frames of the rehearsal for a refit to fall due, for any number of states.
FRAMES_OF_REHEARSAL = 8


def _plain(spots: Spots, links: Links) -> tuple[Spots, Links]:
    """Return a frame whose arrays the kernels can take."""
    table = plain(spots.table, SPOT_DTYPE)
    track_id, p_link = plain(links.track_id, LONG), plain(links.p_link, DOUBLE)
    if table is not spots.table:
        spots = spots._replace(table=table)
    if track_id is not links.track_id or p_link is not links.p_link:
        links = links._replace(track_id=track_id, p_link=p_link)
    return spots, links


def _check(n_states: int | Literal["auto"], interval_s: float, config: InferConfig) -> None:
    if n_states != "auto" and not 1 <= n_states <= 4:
        raise InferError(f"n_states: {n_states}; expected 1 to 4")
    if not (np.isfinite(interval_s) and interval_s > 0):
        raise InferError(f"interval_s: {interval_s}; expected a positive time in seconds")
    if config.D_um2_s and len(config.D_um2_s) != n_states:
        raise InferError(
            f"infer.D_um2_s: {len(config.D_um2_s)} values for {n_states} states; give one each"
            " or leave it out"
        )
