"""The live filter: every track's motion state now, and the motion model pooled over all tracks.

Each live track holds one Gaussian and one probability per motion state (GPB2 over Berglund's model
with pointwise errors, see `stepkernels`); their derivatives in the parameters ride along and give
the score of each frame, from which `learn` learns. Time between frames is what the clock says: a
gap is crossed by the intervals that it holds, each of which may switch and diffuse. Beside it
stands each track's own D (`own`), which owes the pooled model nothing but its error scale.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from livespt.config import InferConfig, WatchConfig
from livespt.infer.arrays import (
    AMBIGUOUS,
    Array,
    Bank,
    Ints,
    Seen,
    Step,
    bank,
    field_of,
    n_parameters,
    scratch,
)
from livespt.infer.bankkernels import occupancy_at, retire, step_bank
from livespt.infer.fit import Fit
from livespt.infer.learn import Learner
from livespt.infer.motion import Answer, InferError, motion, order, to_model
from livespt.infer.own import OwnD
from livespt.infer.watch import Pace, Watch
from livespt.types import SPOT_DTYPE, Estimates, FitStatus, Links, Model, Spots, track_dtype


class OnlineFilter:
    """Infer motion frame by frame; the same spots and links give the same bits again.

    Parameters
    ----------
    n_states : int
        Number of motion states, 1 to 4.
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
        n_states: int,
        interval_s: float,
        *,
        field_um: tuple[float, float] | None = None,
        config: InferConfig | None = None,
        watch: WatchConfig | None = None,
    ) -> None:
        watch = watch or WatchConfig()
        config = config or InferConfig(n_states=n_states)
        _check(n_states, interval_s, config)
        self.n_states, self.interval_s = n_states, float(interval_s)
        self._config = config
        self._field_um = field_um
        self._lags = np.unique(np.asarray(config.lags or [0], dtype=np.int64))
        self._learner = Learner(n_states, interval_s, list(config.D_um2_s), config.p_switch)
        self._n_duals = 1 + n_parameters(n_states)
        self._bank = bank(64, n_states, self._n_duals, int(self._lags[-1]) + 1)
        self._work = scratch(n_states, self._n_duals)
        self._own = OwnD(interval_s, 64)
        self._watch = Watch(interval_s, watch.false_alarms_per_hour)
        self._forgets = watch.forget
        self._slots: dict[int, int] = {}
        self._free = list(range(63, -1, -1))
        self._departed: dict[int, Array] = {}  # frame -> what ended tracks said of it
        self._occupancy = np.full((self._lags.size, n_states), 1 / n_states)
        self._last: tuple[int, float] | None = None
        self._n_tracks = 0

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
            One row per track seen, in the order of `spots.table`.

        Raises
        ------
        InferError
            If the frame is not after the last one, links do not fit the spots, or a track
            appears twice.
        """
        self._check_order(spots, links)
        rows, track, seen = self._select(spots, links)
        self._last = (spots.frame, spots.t_s)
        self._learner.keep(track, seen)
        at = motion(self._learner.theta, self.n_states)
        step = _outputs(rows.size, self.n_states, self._n_duals)
        fastest = float(at.D.max()) if self._learner.settled else np.inf
        own = self._own.step(seen, self._bank.n_spots, at.c2, fastest)
        counted = step_bank(self._bank, seen, at, self.interval_s, self._work, step)
        n_spots = self._bank.n_spots[seen.slot]
        self._n_tracks += int((n_spots == 2).sum())
        pace = self._pace(step, counted)
        self._learner.absorb(step.score[1:], step.information, counted)
        self._note_occupancy(spots.frame)
        self._retire(links.ended, spots.frame)
        table = self._table(rows, track, n_spots, step, at.D)
        table["D_track_um2_s"], table["D_track_95"] = own[:, 0], own[:, 1:]
        self._take_refit()
        alarms = self._watch.step(spots, pace)
        if self._forgets and "D" in alarms:
            self._forget()
        events = tuple(alarms.values())
        return Estimates(spots.frame, spots.t_s, table, self.model(), events)

    def model(self) -> Model:
        """Return the pooled answer as of the last frame."""
        learner = self._learner
        answer = Answer(
            learner.theta, learner.covariance, learner.n_steps, self._n_tracks, learner.settled
        )
        return to_model(answer, self._occupancy, self._lags, self.interval_s)

    def warm_up(self) -> None:
        """Compile everything that `step` calls, on a made-up stream that leaves no trace."""
        rehearsal = OnlineFilter(self.n_states, self.interval_s, config=self._config)
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
        """Pick the rows that belong to tracks and give each its slot."""
        table = spots.table
        variance = table["var_x_um2"] * table["var_y_um2"] - table["cov_xy_um2"] ** 2
        usable = (links.track_id >= 0) & (table["status"] == FitStatus.OK) & (variance > 0)
        usable &= np.isfinite(table["x_um"] + table["y_um"])
        rows = np.flatnonzero(usable)
        track = np.asarray(links.track_id[rows], dtype=np.int64)
        names = track.tolist()
        if len(set(names)) != len(names):
            raise InferError(f"frame {spots.frame}: two spots are linked to the same track")
        known = list(map(self._slots.get, names))
        if None in known:
            known = [self._slot(name) for name in names]
        slot = np.array(known, dtype=np.int64)
        spot = np.empty((rows.size, 5))
        for i, name in enumerate(("x_um", "y_um", "var_x_um2", "var_y_um2", "cov_xy_um2")):
            spot[:, i] = table[name][rows]
        fastest = float(np.exp(self._learner.theta[: self.n_states]).max())
        field = field_of(self._field_um, fastest)
        weight = np.where(links.p_link[rows] >= AMBIGUOUS, 1.0, 0.0)
        return (
            rows,
            track,
            Seen(spots.frame, spots.t_s, spots.exposure_s, slot, spot, weight, field),
        )

    def _slot(self, name: int) -> int:
        slot = self._slots.get(name)
        if slot is None:
            if not self._free:
                self._grow()
            slot = self._slots[name] = self._free.pop()
        return slot

    def _grow(self) -> None:
        """Double the bank."""
        n = self._bank.n_spots.size
        wider: list[Any] = [np.concatenate([a, np.zeros_like(a)]) for a in self._bank]
        self._bank = Bank(*wider)
        self._own.grow()
        self._free = list(range(2 * n - 1, n - 1, -1))

    def _note_occupancy(self, frame: int) -> None:
        """Update the occupancy of the frames that lie each lag behind `frame`."""
        frames = frame - self._lags
        sums = np.zeros((frames.size, self.n_states + 1))
        occupancy_at(self._bank, frames, np.empty((2, self.n_states)), sums)
        for i, past in enumerate(frames.tolist()):
            total = sums[i] + self._departed.get(past, 0.0)
            if total[-1] > 0:
                self._occupancy[i] = total[:-1] / total[-1]
            elif i > 0:
                self._occupancy[i] = self._occupancy[i - 1]

    def _retire(self, ended: Ints, frame: int) -> None:
        """Free the slots of ended tracks; keep what they say of the last few frames."""
        slots = [
            s for s in map(self._slots.pop, ended.tolist(), [None] * ended.size) if s is not None
        ]
        oldest = frame - int(self._lags[-1])
        for past in [f for f in self._departed if f < oldest]:
            del self._departed[past]
        if not slots:
            return
        frames = np.arange(frame, oldest - 1, -1)
        sums = np.zeros((frames.size, self.n_states + 1))
        retire(self._bank, np.array(slots), frames, np.empty((2, self.n_states)), sums)
        self._free.extend(reversed(slots))
        for past, said in zip(frames.tolist(), sums, strict=True):
            if said[-1] > 0:
                self._departed[past] = self._departed.get(past, 0.0) + said

    def _table(self, rows: Ints, track: Ints, n_spots: Ints,
               step: Step, D: Array) -> NDArray[np.void]:  # fmt: skip
        states = order(np.log(D), self.n_states)
        table = np.zeros(rows.size, track_dtype(self.n_states))
        table["track_id"], table["spot"], table["n_spots"] = track, rows, n_spots
        for i, name in enumerate(("x_um", "y_um", "var_x_um2", "cov_xy_um2", "var_y_um2")):
            table[name] = step.position[:, i]
        table["p_state"] = step.p_state[:, states]
        mean = step.p_state @ D
        table["D_um2_s"] = mean
        table["sd_D_um2_s"] = np.sqrt((step.p_state * (D - mean[:, None]) ** 2).sum(axis=1))
        return table

    def _pace(self, step: Step, counted: int) -> Pace:
        """Say what the frame tells of a common factor on all D, at the parameters before it."""
        learner = self._learner
        score = float(step.score[1 : 1 + self.n_states].sum())
        return Pace(counted, score, learner.information_per_step, learner.refits_to_come)

    def _forget(self) -> None:
        """Begin to fit anew: what was learned is of a sample that is no more."""
        self._learner.forget()
        self._watch.forget_motion()
        self._n_tracks = int((self._bank.n_spots >= 2).sum())

    def _take_refit(self) -> None:
        """After a refit of the early data put its filters in the place of the live ones."""
        refit = self._learner.refit_if_due()
        if refit is None:
            return
        ids, fit = refit
        self._adopt(ids, fit)

    def _adopt(self, ids: Ints, fit: Fit) -> None:
        live = [
            (i, self._slots[name]) for i, name in enumerate(ids.tolist()) if name in self._slots
        ]
        for i, slot in live:
            self._bank.F[slot] = fit.filters[i]


#: Enough frames of the rehearsal for a refit to fall due, for any number of states.
FRAMES_OF_REHEARSAL = 8


def _outputs(n: int, n_states: int, n_duals: int) -> Step:
    return Step(
        position=np.empty((n, 5)),
        p_state=np.empty((n, n_states)),
        score=np.zeros(n_duals),
        information=np.zeros((n_duals - 1, n_duals - 1)),
    )


def _check(n_states: int, interval_s: float, config: InferConfig) -> None:
    if not 1 <= n_states <= 4:
        raise InferError(f"n_states: {n_states}; expected 1 to 4")
    if not (np.isfinite(interval_s) and interval_s > 0):
        raise InferError(f"interval_s: {interval_s}; expected a positive time in seconds")
    if config.D_um2_s and len(config.D_um2_s) != n_states:
        raise InferError(
            f"infer.D_um2_s: {len(config.D_um2_s)} values for {n_states} states; give one each"
            " or leave it out"
        )
