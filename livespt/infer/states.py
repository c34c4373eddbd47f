"""The live filter for one number of states: its bank of tracks, its learner, its occupancy.

`OnlineFilter` runs one of these (behind a `Relay`), or a few side by side on the same links where
the number of states is to be found.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from livespt.infer import livekernels as live
from livespt.infer.arrays import Array, Bank, Ints, Seen, bank, filters_of, scratch, wider
from livespt.infer.historykernels import retire
from livespt.infer.layout import n_duals, n_parameters
from livespt.infer.learn import Learner
from livespt.infer.motion import Answer, answer_dtype, model_of, motion, to_model
from livespt.infer.watch import Pace
from livespt.sections import InferConfig
from livespt.types import Model, track_dtype
from livespt.vectors import WIDTH


class Taken(NamedTuple):
    """What one frame gave under one number of states; its arrays hold until the next frame.

    `D` and `error_scale2` are those that the frame was filtered with; `fastest_um2_s` is the
    greatest D, infinite while unknown; `loglik` is the predictive log-likelihood of its steps,
    whose parameters knew nothing of them.
    """

    position: Array  # (n or more, 5) mean over the exposure and covariance
    p_state: Array  # (n or more, K)
    D: Array  # (K,)
    error_scale2: float
    fastest_um2_s: float
    loglik: float
    pace: Pace
    model: Model


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
        k, q = n_states, n_parameters(n_states)
        self._lags = np.unique(np.asarray(config.lags or [0], dtype=np.int64))
        depth = int(self._lags[-1]) + 1
        self.bank = bank(capacity, k, n_duals(k), depth)
        self._dtype = track_dtype(k)
        self._answer = answer_dtype(k, self._lags.size)
        self._occupancy = np.full((self._lags.size, k), 1 / k)
        self._departed = np.zeros((depth, 2 + k))
        self._numbers = np.zeros(live.N_NUMBERS)
        self._numbers[live.INTERVAL_S] = interval_s
        self._motion = tuple(motion(self.learner.theta, k)[:4])
        self._version, self._fastest = -1, 0.0  # of the learner's parameters that _motion holds
        self._places = np.empty((capacity, 5)), np.empty((capacity, k))
        self._spare = (
            np.empty(1 + q), np.empty((q, q)), np.empty((q, q)), np.empty((k, k + 1)),
            np.empty((3, k, k)),
        )  # fmt: skip
        self._work = scratch()

    @property
    def fastest_um2_s(self) -> float:
        """D of the fastest state."""
        self._look_up()
        return self._fastest

    def step(self, track: Ints, seen: Seen) -> Taken:
        """Take the tracked spots of one frame."""
        learner, numbers, spare = self.learner, self._numbers, self._spare
        learner.keep(track, seen)
        self._look_up()
        c2, fastest = numbers.item(live.C2), self._fastest if learner.settled else math.inf
        numbers[live.FRAME], numbers[live.T_S], numbers[live.EXPOSURE_S] = seen[:3]
        numbers[live.LEARNS], numbers[live.N_STEPS] = learner.settled, learner.n_steps
        words = np.empty(self._answer.itemsize // 8)
        live.take_frame(
            tuple(self.bank), seen[3:], numbers, self._motion,
            (learner.theta, learner.information, learner.covariance),
            (self._lags, self._departed, self._occupancy, words),
            (self._work, *self._places, *spare),
        )  # fmt: skip
        said = numbers.tolist()
        self._learn(said)
        model = self._model_of(words) if said[live.ABSORBED] != live.STUCK else self.model()
        pace = Pace(
            int(said[live.COUNTED]), said[live.SCORE], said[live.PER_STEP], learner.refits_to_come
        )
        position, p_state = self._places
        D = numbers[live.D : live.D + self.n_states]
        return Taken(position, p_state, D, c2, fastest, said[live.LOGLIK], pace, model)

    def _learn(self, said: list[float]) -> None:
        """Note what a frame has changed."""
        learner = self.learner
        self.n_tracks += int(said[live.SECOND])
        learner.take(int(said[live.COUNTED]), said[live.ABSORBED], self._spare[0])
        if said[live.ABSORBED] == live.MOVED:
            self._version, self._fastest = learner.version, said[live.FASTEST]

    def _look_up(self) -> None:
        """Evaluate the parameters, where they were not moved by a frame but set."""
        learner = self.learner
        if self._version != learner.version:
            *arrays, self._numbers[live.C2] = motion(learner.theta, self.n_states)
            self._motion = tuple(arrays)
            self._version, self._fastest = learner.version, float(arrays[0].max())

    def close(self, slots: Ints, frame: int) -> None:
        """Free the slots of tracks that ended with a frame."""
        if slots.size:
            retire(self.bank, slots, frame, self._work, self._departed)

    def refit(self, slots: dict[int, int], tick: Callable[[], None] = lambda: None) -> None:
        """Refit the early data; the fit's filters take the place of those of now.

        `tick` is called after each pass over them.
        """
        ids, fit = self.learner.refit(tick)
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
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray):
                setattr(twin, name, value.copy())
        twin.bank = Bank(*_copied(self.bank))._replace(F=wider(self.bank.F, self.bank.F.size))
        twin._motion = _copied(self._motion)
        twin._places, twin._spare = _copied(self._places), _copied(self._spare)
        return twin

    def grow(self) -> None:
        """Double the number of slots."""
        F = wider(self.bank.F, 2 * self.bank.F.size)
        self.bank = Bank(*_twice(self.bank))._replace(F=F)
        self._places = _twice(self._places)

    def forget(self) -> None:
        """Begin to learn anew: what was learned is of a sample that is no more."""
        self.learner.forget()
        self.n_tracks = int((self.bank.n_spots >= 2).sum())

    def table(self, n: int) -> tuple[NDArray[np.void], Ints]:
        """Return n rows for `Estimates.table`, to be filled as (n, words) whole numbers."""
        longs = np.empty((n, self._dtype.itemsize // 8), np.int64)
        return np.ndarray(n, self._dtype, longs), longs

    def model(self) -> Model:
        """Return the pooled answer as of the last frame."""
        learner = self.learner
        answer = Answer(
            learner.theta, learner.covariance, learner.n_steps, self.n_tracks, learner.settled
        )
        return to_model(answer, self._occupancy, self._lags, self.interval_s)

    def _model_of(self, words: Array) -> Model:
        counts = self.learner.n_steps, self.n_tracks, self.learner.settled
        return model_of(words, self._answer, (self._lags, self.interval_s), counts)


def _copied(arrays: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(array.copy() for array in arrays)


def _twice(arrays: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(np.concatenate([array, np.zeros_like(array)]) for array in arrays)
