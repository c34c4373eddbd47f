"""The derivatives of a track's log-likelihood in all that goes into it, in one pass backward.

`windowkernels` has left what each row began with. From the last row to the first, bars are
derivatives of ln L; b is the log weight after a row, u = r / S, G = C / S (`axiskernels`):

    merge  b_bar  = pi [W_bar + sum M_bar (m' - M) + PP_bar (P' + (m' - M)^2 - PP)]
           m'_bar = pi [M_bar + 2 PP_bar (m' - M)],  P'_bar = pi PP_bar
    seen   S_bar = b_bar (u^2 - 1/S) / 2 - m'_bar G u + P'_bar G^2,  C_bar = m'_bar u - 2 G P'_bar
           r_bar = m'_bar G - b_bar u,  m_bar = m'_bar - r_bar,  x_bar = r_bar,  V_bar = S_bar
           P_bar = P'_bar + C_bar + S_bar,  h_bar = P'_bar + C_bar / 2 + S_bar / 3

Three things come with them. The sum of b_bar over the sequences with given states at two rows is
the posterior of these states. x_bar and V_bar are moments of the true position z given the track,
since x = z + N(0, V):  E z = x + V x_bar,  E (z - x)^2 = V + 2 V^2 V_bar  (Tweedie's formula).

Symbols: as in `windowkernels`.
"""

from __future__ import annotations

import numpy as np

from livespt.infer.axiskernels import gain
from livespt.jit import kernel, lanes
from livespt.refit.extrack.arrays import Array, At, Ints, Rule, Series, Slopes, Tables
from livespt.refit.extrack.windowkernels import (
    add_groups,
    add_up,
    filter_track,
    lay_tables,
    load_spot,
    move,
    power,
    total_end,
)

_0, _1, _2 = (np.uint64(i) for i in range(3))


@kernel
def slopes_of_tracks(
    data: tuple[Series, Array],
    tables: Tables,
    rule: Rule,
    tracks: Ints,
    w: Array,
    at: At,
    out: tuple[Array, Slopes],
) -> None:
    """Write log-likelihood and derivatives of each of `tracks`; `data` as in `run_tracks`."""
    lay_tables(tables, rule, w, at)
    for track in tracks:
        out[0][track] = filter_track(data[0], data[1], rule, track, w, at)
        go_back(data, rule, track, w, at, out[1])
        fold(tables.step.shape[0], w, at, out[1].tables[track])


@kernel
def go_back(
    data: tuple[Series, Array], rule: Rule, track: int, w: Array, at: At, out: Slopes
) -> None:
    """Differentiate one track that `filter_track` has just gone through."""
    series, var = data
    low, high = int(series.first[track]), int(series.first[track + 1])
    wide, K = power(rule.n_states, rule.n_sub), np.uint64(rule.n_states)
    most, last = power(rule.n_states, max(rule.window - rule.n_sub, 1)), high - low - 1
    clear(w, at)
    n = width_at(last, K * wide, most, wide)
    end_bars(np.uint64(last), n, last + 1 < rule.longest, w, at)
    for t in range(high - 1, low, -1):
        row, dt = np.uint64(t - low), series.dt_s[t - 1]
        n = width_at(t - low, K * wide, most, wide)
        load_spot(series.x_um, var, t, w, at)
        if t + 1 < high:
            move(row, n, dt, rule.exposure_s, series.seen[t], w, at)
            unbranch(min(n, most), wide, t - low + 1 >= rule.shortest, w, at)
            unmerge(row, n, min(n, most), wide, w, at)
        add_pairs(n, K, wide, w, at)
        store_pairs(out.pair, t, w, at)
        unmove(row, n, dt, rule.exposure_s, series.seen[t], w, at)
        store_bars(out.x, out.var, t, w, at)
        keep_bars(n, w, at)
    add_start(K, wide, rule, w, at)
    store_bars(out.x, out.var, low, w, at)
    out.pair[low, :] = 0.0


@lanes
def clear(w: Array, at: At) -> None:
    """Begin the sums over a track."""
    for i in range(at.n):
        w[at.sum_step + i], w[at.sum_survive + i], w[at.sum_D + i] = 0.0, 0.0, 0.0
        w[at.start_bar + i], w[at.end_bar + i] = 0.0, 0.0


@lanes
def fold(C: int, w: Array, at: At, g: Array) -> None:
    """Add the sums over all sequences into the tables."""
    g[:] = 0.0
    K = g.shape[0] - 4 * C
    for i in range(int(at.n)):
        c, u = i % C, np.uint64(i)
        g[c] += w[at.start_bar + u]
        g[C + c] += w[at.sum_step + u]
        g[2 * C + c] += w[at.sum_survive + u]
        g[3 * C + c] += w[at.sum_D + u]
        g[4 * C + i % K] += w[at.end_bar + u]


@lanes
def width_at(row: int, C: np.uint64, most: np.uint64, wide: np.uint64) -> np.uint64:
    """Return the number of sequences at a row >= 1."""
    n = C
    for _ in range(row - 1):
        if n >= most * wide:
            break
        n = min(n, most) * wide
    return n


@lanes
def end_bars(row: np.uint64, n: np.uint64, ended: bool, w: Array, at: At) -> None:
    """Begin at the last row: ln L = ln sum w, or ln sum w end."""
    post = at.share + row * at.n
    for d in range(at.axes):
        for i in range(n):
            w[at.bar_m + d * at.n + i], w[at.bar_P + d * at.n + i] = 0.0, 0.0
    for i in range(n):
        w[at.bar_w + i] = w[post + i]
    if ended:
        total = total_end(row, n, w, at)
        for i in range(n):
            w[at.bar_w + i] *= w[at.end + i] / total
            w[at.end_bar + i] = w[at.bar_w + i]


@lanes
def unbranch(keep: np.uint64, wide: np.uint64, again: bool, w: Array, at: At) -> None:
    """Bring the bars of the next row back to the merged sequences (into the first places)."""
    to = at.sum_survive if again else at.sum_step
    for i in range(keep * wide):
        w[to + i] += w[at.next_w + i]
    gather(at.next_w, keep, wide, w)
    for d in range(at.axes):
        gather(at.next_m + d * at.n, keep, wide, w)
        gather(at.next_P + d * at.n, keep, wide, w)


@lanes
def gather(fr: np.uint64, keep: np.uint64, wide: np.uint64, w: Array) -> None:
    """Sum `wide` neighbours into one; j <= j wide: nothing still needed is overwritten."""
    if wide == _2:
        for j in range(keep):
            w[fr + j] = w[fr + _2 * j] + w[fr + _2 * j + _1]
        return
    for j in range(keep):
        total = 0.0
        for i in range(j * wide, (j + _1) * wide):
            total += w[fr + i]
        w[fr + j] = total


@lanes
def unmerge(
    row: np.uint64, n: np.uint64, keep: np.uint64, wide: np.uint64, w: Array, at: At
) -> None:
    """Share the bars of the merged sequences out among those that went into them; pi in `a`."""
    post = at.share + row * at.n
    add_groups(post, n, keep, at.root, w)
    for g in range(_0, n, keep):
        for j in range(keep):
            w[at.a + g + j] = w[post + g + j] / w[at.root + j]
        for j in range(keep):
            w[at.bar_w + g + j] = w[at.next_w + j]
    for d in range(at.axes):
        fr = ((row + _1) * at.axes + d) * at.n
        for j in range(keep):
            w[at.b + j] = w[at.m + fr + j * wide]
        for j in range(keep):
            w[at.c + j] = w[at.P + fr + j * wide]
        unmerge_axis(d, n, keep, w, at)
    for i in range(n):
        w[at.bar_w + i] *= w[at.a + i]


@lanes
def unmerge_axis(d: int, n: np.uint64, keep: np.uint64, w: Array, at: At) -> None:
    """Fill one axis of the bars before a merge into M (`b`), PP (`c`)."""
    M_bar, PP_bar, M, PP = at.next_m + d * at.n, at.next_P + d * at.n, at.b, at.c
    for g in range(_0, n, keep):
        m, P = at.after_m + d * at.n + g, at.after_P + d * at.n + g
        to_m, to_P, pi = at.bar_m + d * at.n + g, at.bar_P + d * at.n + g, at.a + g
        for j in range(keep):
            w[to_m + j] = w[pi + j] * (w[M_bar + j] + 2.0 * w[PP_bar + j] * (w[m + j] - w[M + j]))
        for j in range(keep):
            w[to_P + j] = w[pi + j] * w[PP_bar + j]
        for j in range(keep):
            off = w[m + j] - w[M + j]
            grown = w[P + j] + off * off - w[PP + j]
            w[at.bar_w + g + j] += w[M_bar + j] * off + w[PP_bar + j] * grown


@lanes
def add_pairs(n: np.uint64, K: np.uint64, wide: np.uint64, w: Array, at: At) -> None:
    """Sum the shares by the states at the row before and at this one, into `b`."""
    for i in range(K * K):
        w[at.b + i] = 0.0
    for high in range(_0, n, wide * K):
        for j in range(K):
            for i in range(high + j * wide, high + (j + _1) * wide, K):
                for k in range(K):
                    w[at.b + j * K + k] += w[at.bar_w + i + k]


@lanes
def store_pairs(pair: Array, t: int, w: Array, at: At) -> None:
    """Write them."""
    K = pair.shape[1]
    for j in range(K):
        for k in range(K):
            pair[t, j, k] = w[at.b + np.uint64(j * K + k)]


@lanes
def unmove(
    row: np.uint64, n: np.uint64, dt: float, te: float, seen: bool, w: Array, at: At
) -> None:
    """Take the bars to before the row's move and spot; x_bar and V_bar in `spot`."""
    for d in range(at.axes):
        fr = (row * at.axes + d) * at.n
        if seen:
            unsee_axis(fr, d, n, 2.0 * (dt - te), 2.0 * te, w, at)
        else:
            bar = at.bar_P + d * at.n
            for i in range(n):
                w[at.sum_D + i] += 2.0 * dt * w[bar + i]
            w[at.spot + _2 * d], w[at.spot + _2 * d + _1] = 0.0, 0.0


@lanes
def unsee_axis(
    fr: np.uint64, d: int, n: np.uint64, dark: float, te: float, w: Array, at: At
) -> None:
    """Take one axis of the bars to before its move and its spot.

    `dark` and `te` are twice these times. Rows: G in `a`, u in `b`, 1 / S in `c`, S_bar in `e`,
    r_bar in `f`, C_bar in `g`.
    """
    x, V = w[at.spot + _2 * d], w[at.spot + _2 * d + _1]
    m, P, mb, Pb = at.m + fr, at.P + fr, at.bar_m + d * at.n, at.bar_P + d * at.n
    for i in range(n):
        D = w[at.D + i]
        w[at.a + i], w[at.c + i] = gain(w[P + i] + D * dark, D * te, V)
    for i in range(n):
        w[at.b + i] = (x - w[m + i]) * w[at.c + i]
    for i in range(n):
        w[at.g + i] = w[mb + i] * w[at.b + i] - 2.0 * w[at.a + i] * w[Pb + i]
    for i in range(n):
        w[at.f + i] = w[mb + i] * w[at.a + i] - w[at.bar_w + i] * w[at.b + i]
    for i in range(n):
        u, G = w[at.b + i], w[at.a + i]
        own = 0.5 * w[at.bar_w + i] * (u * u - w[at.c + i])
        w[at.e + i] = own - G * (w[mb + i] * u - w[Pb + i] * G)
    if te > 0.0:
        for i in range(n):
            h_bar = w[Pb + i] + 0.5 * w[at.g + i] + w[at.e + i] / 3.0
            w[at.sum_D + i] += te * h_bar
    for i in range(n):
        w[Pb + i] += w[at.g + i] + w[at.e + i]
    for i in range(n):
        w[mb + i] -= w[at.f + i]
    for i in range(n):
        w[at.sum_D + i] += dark * w[Pb + i]
    w[at.spot + _2 * d] = add_up(w, at.f, n)
    w[at.spot + _2 * d + _1] = add_up(w, at.e, n)


@lanes
def store_bars(x: Array, var: Array, t: int, w: Array, at: At) -> None:
    """Write x_bar and V_bar of a row."""
    for d in range(x.shape[1]):
        fr = at.spot + np.uint64(2 * d)
        x[t, d], var[t, d] = w[fr], w[fr + _1]


@lanes
def keep_bars(n: np.uint64, w: Array, at: At) -> None:
    """Hand the bars on to the row before."""
    copy(at.bar_w, at.next_w, n, w)
    for d in range(at.axes):
        copy(at.bar_m + d * at.n, at.next_m + d * at.n, n, w)
        copy(at.bar_P + d * at.n, at.next_P + d * at.n, n, w)


@lanes
def copy(fr: np.uint64, to: np.uint64, n: np.uint64, w: Array) -> None:
    """Copy n values."""
    for i in range(n):
        w[to + i] = w[fr + i]


@lanes
def add_start(K: np.uint64, wide: np.uint64, rule: Rule, w: Array, at: At) -> None:
    """Finish at the first row: P = V + 2 D te / 3, D that of the first state."""
    same = _0
    for k in range(rule.n_sub + 1):
        same += power(rule.n_states, k)
    for i in range(K * wide):
        w[at.start_bar + i] = w[at.next_w + i]
    for d in range(at.axes):
        m, P = at.next_m + d * at.n, at.next_P + d * at.n
        for i in range(K * wide):
            w[at.sum_D + same * (i // wide)] += 2.0 * rule.exposure_s / 3.0 * w[P + i]
        w[at.spot + _2 * d] = add_up(w, m, K * wide)
        w[at.spot + _2 * d + _1] = add_up(w, P, K * wide)
