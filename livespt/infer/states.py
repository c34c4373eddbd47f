"""The live filter for one number of states: its bank of tracks, its learner, its occupancy.

`OnlineFilter` runs one of these (behind a `Relay`), or a few side by side on the same links where
the number of states is to be found.
"""

from __future__ import annotations

import copy
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from livespt.infer.arrays import Array, Bank, Ints, Motion, Seen, Step, bank, filters_of, scratch
from livespt.infer.bankkernels import step_bank
from livespt.infer.framekernels import fill_table
from livespt.infer.historykernels import occupancy_at, retire
from livespt.infer.layout import n_duals, n_parameters
from livespt.infer.learn import Learner
from livespt.infer.motion import Answer, motion, to_model
from livespt.infer.watch import Pace
from livespt.sections import InferConfig
from livespt.types import Model, track_dtype
from livespt.vectors import WIDTH


class Taken(NamedTuple):
    """What one frame gave under one number of states.

    `D` and `error_scale2` are those that the frame was filtered with; `fastest_um2_s` is the
    greatest D, infinite while unknown; `loglik` is the predictive log-likelihood of its steps,
    whose parameters knew nothing of them.
    """

    step: Step
    D: Array
    error_scale2: float
    fastest_um2_s: float
    n_counted: int
    loglik: float
    pace: Pace


class StateFilter:
    """GPB2 over K states for all live tracks, and the parameters pooled over them.

    Parameters
    ----------
    n_states : int
    interval_s : float
        Nominal time between frames.
    config : InferConfig
        Starting values and lags.
    capacity : int
        Slots for live tracks.
    """

    def __init__(
        self, n_states: int, interval_s: float, config: InferConfig, capacity: int
    ) -> None:
        self.n_states, self.interval_s = n_states, interval_s
        self.learner = Learner(n_states, interval_s, list(config.D_um2_s), config.p_switch)
        self.n_tracks = 0
        self._lags = np.unique(np.asarray(config.lags or [0], dtype=np.int64))
        self.bank = bank(capacity, n_states, n_duals(n_states), int(self._lags[-1]) + 1)
        self._work = scratch()
        self._motion: tuple[int, Motion] | None = None
        self._dtype = track_dtype(n_states)
        self._departed: dict[int, Array] = {}  # frame -> what ended tracks said of it
        self._occupancy = np.full((self._lags.size, n_states), 1 / n_states)

    @property
    def fastest_um2_s(self) -> float:
        """D of the fastest state."""
        return float(self._now().D.max())

    def step(self, track: Ints, seen: Seen) -> Taken:
        """Take the tracked spots of one frame."""
        learner = self.learner
        learner.keep(track, seen)
        at = self._now()
        step = self._outputs(seen.slot.size)
        counted = step_bank(self.bank, seen, at, self.interval_s, self._work, step)
        self.n_tracks += int(np.count_nonzero(self.bank.n_spots[seen.slot] == 2))
        loglik, *score = step.score[: 1 + self.n_states].tolist()
        pace = Pace(counted, sum(score), learner.information_per_step, learner.refits_to_come)
        fastest = float(at.D.max()) if learner.settled else math.inf
        learner.absorb(step.score, step.information, counted)
        return Taken(step, at.D, at.c2, fastest, counted, loglik, pace)

    def _now(self) -> Motion:
        """Return the model of now, which a frame leaves as the next one finds it."""
        learner = self.learner
        if self._motion is None or self._motion[0] != learner.version:
            self._motion = learner.version, motion(learner.theta, self.n_states)
        return self._motion[1]

    def close(self, slots: Ints, frame: int) -> None:
        """Note the occupancy of the last frames; free the slots of ended tracks."""
        frames = frame - self._lags
        sums = np.zeros((frames.size, self.n_states + 1))
        occupancy_at(self.bank, frames, self._work, sums)
        if self._departed:
            for i, past in enumerate(frames.tolist()):
                if past in self._departed:
                    sums[i] += self._departed[past]
        n = sums[:, -1:]
        if n.all():
            np.divide(sums[:, :-1], n, out=self._occupancy)
        else:
            self._fill_occupancy(sums)
        self._retire(slots, frame)

    def _fill_occupancy(self, sums: Array) -> None:
        """Work out the occupancy at each lag; one not yet reached repeats the one before."""
        for i, n in enumerate(sums[:, -1].tolist()):
            if n > 0:
                np.divide(sums[i, :-1], n, out=self._occupancy[i])
            elif i > 0:
                self._occupancy[i] = self._occupancy[i - 1]

    def refit(self, slots: dict[int, int]) -> None:
        """Refit the early data; the fit's filters take the place of those of now."""
        ids, fit = self.learner.refit()
        filters = filters_of(self.bank, self.n_states)
        for i, name in enumerate(ids.tolist()):
            slot = slots.get(name)
            if slot is not None and self.bank.n_spots[slot] > 0:
                live = filters[slot // WIDTH, ..., slot % WIDTH]
                live[:] = np.moveaxis(fit.filters[i], -1, 0)

    def copy(self) -> StateFilter:
        """Return one that goes on from here by itself."""
        twin = copy.copy(self)
        twin.learner = self.learner.copy()
        arrays: list[Any] = [array.copy() for array in self.bank]
        twin.bank = Bank(*arrays)
        twin._work = self._work.copy()
        twin._departed, twin._occupancy = self._departed.copy(), self._occupancy.copy()
        return twin

    def grow(self) -> None:
        """Double the number of slots."""
        wider: list[Any] = [np.concatenate([a, np.zeros_like(a)]) for a in self.bank]
        self.bank = Bank(*wider)

    def forget(self) -> None:
        """Begin to learn anew: what was learned is of a sample that is no more."""
        self.learner.forget()
        self.n_tracks = int((self.bank.n_spots >= 2).sum())

    def table(self, taken: Taken, own: Array, whole: tuple[Ints, Ints, Ints]) -> NDArray[np.void]:
        """Return the rows of `Estimates.table`.

        `own` (n, 3) is each track's own D and its interval; `whole` the track, its spot in this
        frame and the number of its spots.
        """
        step, D = taken.step, taken.D
        n, dtype = len(step.position), self._dtype
        words = np.empty((n, dtype.itemsize // 8))  # a row is whole words of eight bytes
        views = words, words.view(np.int64), words.view(np.int32)
        fill_table(whole, step.position, step.p_state, D, np.argsort(D), own, *views)
        return words.view(dtype).reshape(n)

    def model(self) -> Model:
        """Return the pooled answer as of the last frame."""
        learner = self.learner
        answer = Answer(
            learner.theta, learner.covariance, learner.n_steps, self.n_tracks, learner.settled
        )
        at = self._now()
        return to_model(answer, self._occupancy, self._lags, self.interval_s, at)

    def _outputs(self, n: int) -> Step:
        q = n_parameters(self.n_states)
        return Step(
            position=np.empty((n, 5)),
            p_state=np.empty((n, self.n_states)),
            score=np.zeros(1 + q),
            information=np.zeros((q, q)),
        )

    def _retire(self, slots: Ints, frame: int) -> None:
        oldest = frame - int(self._lags[-1])
        for past in [f for f in self._departed if f < oldest]:
            del self._departed[past]
        if not slots.size:
            return
        frames = np.arange(frame, oldest - 1, -1)
        sums = np.zeros((frames.size, self.n_states + 1))
        retire(self.bank, slots, frames, self._work, sums)
        for past, said in zip(frames.tolist(), sums, strict=True):
            if said[-1] > 0:
                self._departed[past] = self._departed.get(past, 0.0) + said
