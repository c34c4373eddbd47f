"""How the live filter learns its parameters while the data stream in.

Two stages, both maximum likelihood under the same steps:

1. The first few thousand steps are kept. Whenever their number has doubled they are refitted in
   whole, from the running answer AND from a fresh guess: a start wrong by any factor is forgotten.
   (No frame waits for that: see `relay`.)
2. From then on each frame adds its score g and information J (sum of s s') at the running theta:

       A += J,   theta += A^-1 g      (A starts as the refit's information plus the weak prior's)

   which is the maximum of the accumulated quadratic log-likelihood: recursive maximum likelihood
   with the efficient gain, so A^-1 is the covariance of theta. (Gains of t^-0.6 under a Polyak mean
   with weights 3/(t + 2) count late data more: 9/5 of this variance.)
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from livespt.infer.arrays import Array, Ints, Seen, Tracks
from livespt.infer.fit import Fit, fit_tracks, guess
from livespt.infer.framekernels import STRIDE
from livespt.infer.inverse import inverse_of
from livespt.infer.livekernels import STUCK
from livespt.infer.motion import pack, uniform_switching, weak_prior

#: Steps per state before the first refit, and at the last.
FIRST_STEPS = 30
LAST_STEPS = 2000
#: Spots per state that are kept for refits at most; the oldest go first.
MOST_KEPT = 20 * LAST_STEPS
#: Passes over the kept steps that one refit may take from each start.
PASSES = 15
#: Once so many steps per state were refitted, with a fresh guess against the running answer, the
#: summit is found: from then on a few passes from there.
FRESH_STEPS, LATER_PASSES = 250, 4
#: Seconds that one step takes in one pass, per pair of states: four times what it takes where
#: nothing else runs (.05 us for one state, .6 for four), for the thread pauses three fifths of
#: the time, and hardly a refit needs half of its passes. And seconds that it waits at most for a
#: processor, and for the frames that come meanwhile.
SLOW_S, BUSY_S = 2e-7, 0.08


class Rows(NamedTuple):
    """The tracked spots of one frame, kept for refits."""

    track: Ints
    seen: Seen


class Learner:
    """theta, its information, and the early data while they are still wanted.

    theta and its information are changed in place by each frame; `version` counts the changes.
    """

    def __init__(
        self, n_states: int, interval_s: float, D_um2_s: list[float], p_switch: float
    ) -> None:
        self.n_states, self.interval_s = n_states, interval_s
        self.p_switch = p_switch
        self._configured = np.sort(D_um2_s) if D_um2_s else None
        self.version = 0
        self._begin(1.0)
        self._start_counting()

    def _start_counting(self) -> None:
        self.n_steps = 0
        self.settled = False
        self._rows: deque[Rows] | None = deque()
        self._n_kept = 0
        self._n_refitted = 0
        self._next = FIRST_STEPS * self.n_states

    def forget(self) -> None:
        """Begin anew from the parameters of now, as with the first frame."""
        self._configured = np.sort(np.exp(self.theta[: self.n_states]))
        self._begin(1.0)
        self._start_counting()

    @property
    def refits_to_come(self) -> bool:
        """Whether early data are still kept, so that theta may leap."""
        return self._rows is not None

    @property
    def covariance(self) -> Array:
        """Covariance of theta from all information so far."""
        if self._covariance is None:
            self._covariance = inverse_of(self.information)
        return self._covariance

    def keep(self, track: Ints, seen: Seen) -> None:
        """Keep the spots of one frame for refits, while these are due."""
        if self._rows is None or track.size == 0:
            return
        if not self._rows and self._configured is None:  # a scale for D before any displacement
            error = float(seen.spot[:, 2:4].mean()) / (2 * self.interval_s)
            self._begin(error)
        self._rows.append(Rows(track, seen))
        self._n_kept += track.size
        while self._n_kept > MOST_KEPT * self.n_states:  # strays that never make a step
            self._n_kept -= self._rows.popleft().track.size

    def take(self, counted: int, absorbed: float, score: Array) -> None:
        """Note what a frame has done to the parameters (see `livekernels.ABSORBED`).

        `score` has the log-likelihood in front.
        """
        self.n_steps += counted
        if absorbed:
            self.version += 1
        if absorbed == STUCK:
            self._covariance = inverse_of(self.information)
            self.theta += np.clip(self._covariance @ score[1:], -STRIDE, STRIDE)

    @property
    def is_refit_due(self) -> bool:
        """Whether the early steps have doubled since the last refit."""
        return self._rows is not None and self.n_steps >= self._next

    @property
    def refit_s(self) -> float:
        """Seconds that a refit takes at most on a slow machine, told from its data alone."""
        starts, passes = (2, PASSES) if self._is_fresh else (1, LATER_PASSES)
        n_passes = starts * (passes + 1) + 1
        return BUSY_S + SLOW_S * self.n_states**2 * self.n_steps * n_passes

    def refit(self, tick: Callable[[], None]) -> tuple[Ints, Fit]:
        """Refit the early data, `tick` after each pass; return the tracks and the fit."""
        ids, tracks = gather(self._rows or ())
        fresh = guess(tracks, self.n_states, self.p_switch)
        tracks.field[4] = np.exp(fresh[: self.n_states]).max()
        self.prior = weak_prior(fresh, self.n_states)
        starts, passes = [self.theta], LATER_PASSES
        if self._is_fresh:
            starts, passes = [self.theta, fresh], PASSES
        fit = fit_tracks(tracks, self.interval_s, starts, self.prior, passes, tick)
        self._set(fit.theta, fit.information + np.diag(self.prior.precision))
        self.settled, self._n_refitted = True, self.n_steps
        while self._next <= self.n_steps:  # a crowd doubles it more than once in a frame
            self._next *= 2
        if self._next > LAST_STEPS * self.n_states:
            self._rows = None
        return ids, fit

    def copy(self) -> Learner:
        """Return one that goes on from here by itself; the spots kept are shared."""
        twin = copy.copy(self)
        twin.theta, twin.information = self.theta.copy(), self.information.copy()
        twin._covariance = None
        twin._rows = None if self._rows is None else self._rows.copy()
        return twin

    @property
    def _is_fresh(self) -> bool:
        """Whether a fresh guess is still to compete with the running answer."""
        return self._n_refitted < FRESH_STEPS * self.n_states

    def _begin(self, error_D: float) -> None:
        """Start from the configured values, or from a scale for D alone."""
        D = self._configured
        if D is None or len(D) != self.n_states:
            D = error_D * 8.0 ** np.arange(self.n_states)
        theta = pack(
            np.asarray(D, dtype=np.float64), uniform_switching(self.n_states, self.p_switch), 1.0
        )
        self.prior = weak_prior(theta, self.n_states)
        self._set(theta, np.diag(self.prior.precision))

    def _set(self, theta: Array, information: Array) -> None:
        self.version += 1
        self.theta, self.information = theta.copy(), information.copy()
        self._covariance: Array | None = None


def gather(rows: Sequence[Rows]) -> tuple[Ints, Tracks]:
    """Sort kept spots by track (time order within): the track ids, and the tracks."""
    n = [r.track.size for r in rows]
    track = np.concatenate([r.track for r in rows])
    by_track = np.argsort(track, kind="stable")
    ids, first = np.unique(track[by_track], return_index=True)
    tracks = Tracks(
        first=np.append(first, track.size).astype(np.int64),
        t_s=np.repeat([r.seen.t_s for r in rows], n)[by_track],
        exposure_s=np.repeat([r.seen.exposure_s for r in rows], n)[by_track],
        spot=np.concatenate([r.seen.spot for r in rows])[by_track],
        weight=np.concatenate([r.seen.weight for r in rows])[by_track],
        field=rows[0].seen.field.copy(),
    )
    return ids, tracks
