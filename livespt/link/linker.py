"""The linker: each spot of a frame gets a track, at once, for good.

Theory (SCIENCE 7). A molecule diffuses in one of K modes and switches between them; a spot is the
mean of its path over the exposure te, plus the fit's error of covariance V. Over a time t, path
and mean are jointly normal: with x at the end of the last exposure (mean m, covariance P, carried
over the dark gap g by P + 2 D g), y = x + a + e and x' = x + b, where

    Var a = 2 D te / 3,   Cov(a, b) = D te,   Var b = 2 D te,
    S = P + 2 D te / 3 + V,   G = (P + D te) S^-1,
    m' = m + G (y - m),   P' = P + 2 D te - G S G^T.

Times are real: a missing frame is a longer gap, walked in steps of the nominal interval so that
modes switch and molecules blink in it as often as they should.

Modes are mixed before each step with matched moments (the interacting multiple model). A track
exists as `on`, `off` or gone, a hidden Markov chain of which a frame sees p_D of the `on`.

A link's cost is -ln of its likelihood ratio against a miss and a spot that is new,

    c_ij = -ln [ p_i sum_k w_k N(y_j; m_k, S_k) / (density (1 - p_i)) ],   p_i = on_i p_D,

and only c < 0 is a possible link: the gate and the cost are one number. The cheapest set of links
is an assignment problem on a sparse graph. The density of new spots is counted on line.

A guided row was found because a track predicted it (`livespt.localize.guided`). It begins no track
and is not counted as a new spot. Its rivals are a dark molecule and a false spot, whose density at
this place the row brings along: the predicted density f over the evidence ratio R of the pixels,

    c_ij = -ln [ on_i sum_k w_k N(y_j; m_k, S_k) / (false_j (1 - on_i)) ],   false_j = f(y_j) / R,

which for its own track is -ln [R on / (1 - on)], Bayes' rule; exp(-c) are then the odds that the
molecule shines.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from livespt.link import kernels
from livespt.link.bank import Bank, Elapsed, Motion
from livespt.link.lag import Lag
from livespt.link.learn import Learner
from livespt.link.ring import Ring
from livespt.sections import LinkConfig
from livespt.types import SPOT_DTYPE, Links, LivesptError, Predictions, Spots

#: A long gap is walked in at most so many pieces.
MOST_PIECES = 16
#: What is read of a spot.
FIELDS = ("x_um", "y_um", "var_x_um2", "cov_xy_um2", "var_y_um2", "false_um2")


class LinkError(LivesptError):
    """The linker cannot use what it was given; the message says which row and why."""


class FrameOrderError(LinkError):
    """A frame came that is not after the last one."""


class Linker:
    """Link spots to tracks frame by frame, with no delay and nothing to tune.

    Parameters
    ----------
    interval_s : float
        Nominal time between frames: the unit of the switching and blinking probabilities. The
        time that really passed is taken from `Spots.t_s`.
    field_um : (height, width), optional
        Extent of the field in um; if unknown, the extent of the spots seen so far.
    overrides : LinkConfig, optional
        Figures to fix that the linker would otherwise work out or assume.

    Raises
    ------
    LinkError
        An interval or a field that is not positive.
    """

    def __init__(
        self,
        interval_s: float,
        *,
        field_um: tuple[float, float] | None = None,
        overrides: LinkConfig | None = None,
    ) -> None:
        if not (math.isfinite(interval_s) and interval_s > 0):
            raise LinkError(f"interval_s is {interval_s}, expected a positive time")
        if field_um is not None and not all(math.isfinite(v) and v > 0 for v in field_um):
            raise LinkError(f"field_um is {field_um}, expected positive (height, width)")
        self.interval_s = interval_s
        self._learner = Learner(overrides or LinkConfig(), field_um)
        n_modes = len(self._learner.learned.D_um2_s)
        lag = (overrides or LinkConfig()).lag
        self._ring = Ring(lag + 2 if lag else 1, n_modes)
        self._lag = Lag(lag, n_modes)
        self._slot = 0
        self._n_live = 0
        self._next_id = 0
        self._frame = -1
        self._started = False
        self._start_s = 0.0
        self._end_s = 0.0

    @property
    def n_live(self) -> int:
        """Number of tracks that may still continue."""
        return self._n_live

    @property
    def motion(self) -> Motion:
        """What has been learned so far of modes, switching and the density of new spots."""
        return self._learner.motion()

    def step(self, spots: Spots) -> Links:
        """Give each spot of one frame a track, and say which tracks ended.

        Parameters
        ----------
        spots : Spots
            One frame, in frame order; positions in um, covariances in um2. Only rows whose
            status is `FitStatus.OK` are linked.

        Returns
        -------
        Links
            `track_id` (n,) int64, -1 for a row that is not OK; `p_link` (n,), the marginal
            probability of the choice (for a new track: that the spot continues none), 0 for a
            row that is not OK; `ended` (m,) int64. Tracks that begin together are numbered by
            place, so that the order of the rows does not matter.

        Raises
        ------
        FrameOrderError
            If `spots.frame` is not after the last frame.
        LinkError
            If the table is of another dtype, or an OK row, a time or an exposure is not usable.

        Notes
        -----
        Gate and cost are one number, the likelihood ratio against a new spot (SCIENCE 7).
        """
        self._check(spots)
        table = spots.table
        if not (table.flags.c_contiguous and table.flags.writeable):
            table = table.copy()
        n_rows, first_id = len(table), self._next_id
        self._make_room(n_rows)
        elapsed = self._elapsed(spots.frame, spots.t_s, spots.exposure_s)
        track_id, p_link = np.empty(n_rows, np.int64), np.empty(n_rows)
        ended = np.empty(self._n_live, np.int64)
        motion = self._learner.motion() if self._lag.n_frames else None
        slot, again = self._ring.turn(self._slot), False
        while True:
            ring = self._ring
            bad, n_edges, n_live, n_ended, next_id = kernels.advance(
                table, again, ring.numbers, ring.wholes, ring.size, slot, self._learner.block,
                spots.frame, elapsed, first_id, track_id, p_link, ended,
            )  # fmt: skip
            if bad >= 0:
                raise LinkError(_complaint(spots, bad))
            if n_edges <= ring.size.n_edges:
                break
            self._ring = ring.grown(ring.size.n_most, 2 * n_edges)
            again = True
        self._n_live, self._next_id, self._slot = n_live, next_id, slot
        self._started = True
        self._frame, self._start_s = spots.frame, spots.t_s
        self._end_s = spots.t_s + spots.exposure_s
        links = Links(spots.frame, track_id, p_link, ended[:n_ended])
        return links if motion is None else self._revised(links, motion, first_id)

    def _revised(self, links: Links, motion: Motion, first_id: int) -> Links:
        """Judge the links of the last frames anew."""
        self._next_id, revised, also_ended = self._lag.reconsider(
            self._ring, self._slot, motion, first_id, self._next_id, links.track_id, links.p_link
        )
        self._n_live = int(self._ring.past.n[self._slot, 0])
        ended = np.concatenate([links.ended, also_ended])
        return links._replace(ended=ended, revised=revised)

    def predict(self, frame: int, t_s: float, exposure_s: float) -> Predictions:
        """Say where each live track expects its molecule in a frame to come; changes nothing.

        Parameters
        ----------
        frame : int
        t_s, exposure_s : float
            Start and length of its exposure.

        Returns
        -------
        Predictions
            One row per live track, in order of birth.
        """
        n, motion = self.n_live, self._learner.motion()
        columns: list[Any] = [column[:n].copy() for column in self._ring.banks[self._slot]]
        bank = Bank(*columns)
        modes, p_on, blur = np.empty((n, len(motion.D_um2_s), 6)), np.empty(n), np.empty(n)
        elapsed = self._elapsed(frame, t_s, exposure_s)
        kernels.look_ahead(bank, n, motion, elapsed, self._ring.beside, modes, p_on, blur)
        return Predictions(bank.track_id, p_on, modes, blur)

    def flush(self) -> Links:
        """End all tracks; the frame is the last one seen (-1 if none was)."""
        ended = self._ring.banks[self._slot].track_id[: self.n_live].copy()
        self._ring.past.n[:, :2] = 0
        self._n_live = 0
        return Links(self._frame, np.zeros(0, np.int64), np.zeros(0), ended)

    def warm_up(self) -> None:
        """Compile every kernel, on a linker of its own; this one is left as it is."""
        other = Linker(1.0, overrides=LinkConfig(lag=2))
        table = np.zeros(6, SPOT_DTYPE)
        table["var_x_um2"] = table["var_y_um2"] = 1e-3
        table["x_um"] = np.arange(6) * 0.02
        for frame in range(4):
            other.step(Spots(frame, float(frame), 1.0, 1.0, table))
        other.predict(4, 4.0, 1.0)
        other._learner.warm_up()

    def _check(self, spots: Spots) -> None:
        if self._started and spots.frame <= self._frame:
            raise FrameOrderError(
                f"frame {spots.frame} came after frame {self._frame}: frames must be in order"
            )
        if spots.table.dtype != SPOT_DTYPE or spots.table.ndim != 1:
            raise LinkError(
                f"frame {spots.frame}: the table is {spots.table.dtype} of shape "
                f"{spots.table.shape}, expected rows of SPOT_DTYPE"
            )
        if not math.isfinite(spots.t_s):
            raise LinkError(f"frame {spots.frame}: t_s is {spots.t_s}, expected a finite time")
        if not (math.isfinite(spots.exposure_s) and spots.exposure_s >= 0):
            raise LinkError(
                f"frame {spots.frame}: exposure_s is {spots.exposure_s}, expected a time >= 0"
            )

    def _elapsed(self, frame: int, t_s: float, exposure_s: float) -> Elapsed:
        """Work out what passed since the last frame; a clock that stood still is not believed."""
        if not self._started:
            passed_s, gap_s = self.interval_s, 0.0
        elif t_s > self._start_s:
            passed_s = t_s - self._start_s
            gap_s = max(t_s - self._end_s, 0.0)
        else:
            passed_s = (frame - self._frame) * self.interval_s
            gap_s = max(passed_s - exposure_s, 0.0)
        n = max(round(passed_s / self.interval_s), 1)
        n_walk = min(n, MOST_PIECES)
        return Elapsed(n_walk, gap_s / n_walk, min(n, 10_000), exposure_s)

    def _make_room(self, n_spots: int) -> None:
        """Enlarge what is too small for so many spots more."""
        size, n_live = self._ring.size, self._n_live
        if size.n_slots > 1:
            n_live = int(self._ring.past.n[:, 0].max())
        # each head may lose its tail, which then becomes a track of its own
        n_most = 2 * n_live + n_spots
        if n_most > size.n_most:
            self._ring = self._ring.grown(2 * n_most, size.n_edges)


def _complaint(spots: Spots, row: int) -> str:
    """Say what is wrong with a row of status OK."""
    values = ", ".join(f"{name} {spots.table[name][row]:g}" for name in FIELDS)
    return (
        f"frame {spots.frame}, row {row}: {values}; expected a finite position and a positive "
        "definite covariance in a row of status OK"
    )
