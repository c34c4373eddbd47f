"""The arrays that the kernels of this room hand to each other."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from livespt.element_kernels import ROW

Array: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

#: Where `At` begins: after the row that `element_kernels.exp_row` uses itself.
OFF = ROW


class Series(NamedTuple):
    """Rows of many tracks, one row a frame; a track begins and ends with a row that was seen.

    Attributes
    ----------
    first : (n_tracks + 1,) int64
        Where each track starts; the last is n.
    x_um : (n, d) float64
        0 where nothing was seen.
    seen : (n,) bool
    dt_s : (n,) float64
        Time from this row to the next.
    """

    first: Ints
    x_um: Array
    seen: NDArray[np.bool_]
    dt_s: Array


class Tables(NamedTuple):
    """The parameters as the kernels take them.

    With n sub-steps, a frame passes n + 1 sub-states, numbered c = s_0 + K s_1 + K^2 s_2 ..., the
    newest first. C = K^(n+1).

    Attributes
    ----------
    start, step, survive : (C,) float64
        Probability of the first sub-states; of going through them; of that and of being seen again.
    D_um2_s : (C,) float64
        Mean of D over the frame.
    end : (K,) float64
        Probability of not being seen again, by the last state.
    """

    start: Array
    step: Array
    survive: Array
    D_um2_s: Array
    end: Array


class Rule(NamedTuple):
    """What is fixed during a fit.

    Attributes
    ----------
    n_states, n_sub : int
    window : int
        Newest sub-states by which sequences are told apart (`frame_len`).
    shortest, longest : int
        Rows of the shortest and the longest track.
    exposure_s : float
        0: no motion blur.
    """

    n_states: int
    n_sub: int
    window: int
    shortest: int
    longest: int
    exposure_s: float


class At(NamedTuple):
    """Where the numbers of one track lie in ONE flat float64 array: d axes, N sequences.

    One array, since handing many on from step to step costs more than the steps (measured).

    Attributes
    ----------
    n, axes : uint64
        N, a whole number of 8; d.
    m, P : (rows, d, N)
        Gaussian of each sequence before each row, before it moves there.
    weight, share : (rows, N)
        Weight of each before the row; its share after the row was seen.
    after_m, after_P : (d, N)
        Gaussian after the row was seen.
    step, survive, D : (N,)
        What `Tables` holds, spread over the sequences.
    start, end : (N,)
        As in `Tables`.
    spot : (d, 2)
        x and its variance at this row.
    quad, grown, root : (N,)
        - r' S^-1 r / 2; its exponential; product of 1 / S over the axes.
    bar_m, bar_P, next_m, next_P : (d, N)
        Derivatives of the log-likelihood: at the row; at the row after it.
    bar_w, next_w : (N,)
    a, b, c, e, f, g : (N,)
        Spare.
    sum_step, sum_survive, sum_D, start_bar, end_bar : (N,)
        Of the derivatives over the rows of a track.
    size : uint64
    """

    n: np.uint64
    axes: np.uint64
    m: np.uint64
    P: np.uint64
    weight: np.uint64
    share: np.uint64
    after_m: np.uint64
    after_P: np.uint64
    step: np.uint64
    survive: np.uint64
    D: np.uint64
    start: np.uint64
    end: np.uint64
    spot: np.uint64
    quad: np.uint64
    grown: np.uint64
    root: np.uint64
    bar_m: np.uint64
    bar_P: np.uint64
    next_m: np.uint64
    next_P: np.uint64
    bar_w: np.uint64
    next_w: np.uint64
    a: np.uint64
    b: np.uint64
    c: np.uint64
    e: np.uint64
    f: np.uint64
    g: np.uint64
    sum_step: np.uint64
    sum_survive: np.uint64
    sum_D: np.uint64
    start_bar: np.uint64
    end_bar: np.uint64
    size: np.uint64


class Slopes(NamedTuple):
    """Derivatives of the log-likelihood.

    Attributes
    ----------
    tables : (n_tracks, 4 C + K) float64
        By track, in ln start, ln step, ln survive, D, ln end.
    x, var : (n, d) float64
        In each coordinate and its variance.
    pair : (n, K, K) float64
        p(state at the row before, state at this row | the whole track); 0 in a track's first row.
    """

    tables: Array
    x: Array
    var: Array
    pair: Array


def n_sequences(rule: Rule) -> int:
    """Return the greatest number of sequences that are held at once."""
    most = rule.n_sub * max(rule.longest - 1, 1) + 1
    kept = min(max(rule.window - rule.n_sub, 1) + rule.n_sub, most)
    return rule.n_states ** max(kept, rule.n_sub + 1)


def lay_work(rule: Rule, n_dims: int) -> At:
    """Return where everything lies, for the longest track."""
    n, rows = -(-n_sequences(rule) // 8) * 8, rule.longest
    track, shares, gauss = rows * n_dims * n, rows * n, n_dims * n
    widths = [track, track, shares, shares, gauss, gauss, *[n] * 5, 8, n, n, n]
    widths += [*[gauss] * 4, *[n] * 2, *[n] * 6, *[n] * 5]
    places = OFF + np.cumsum([0, *widths])
    return At(np.uint64(n), np.uint64(n_dims), *(np.uint64(place) for place in places))


def make_slopes(series: Series, rule: Rule) -> Slopes:
    """Return room for the derivatives."""
    n_tracks, (n, d), K = series.first.size - 1, series.x_um.shape, rule.n_states
    n_tables = 4 * K ** (rule.n_sub + 1) + K
    return Slopes(
        np.zeros((n_tracks, n_tables)), np.zeros((n, d)), np.zeros((n, d)), np.zeros((n, K, K))
    )
