"""The likelihood of a track under switching diffusion, over windows of recent states (SCIENCE 5).

Each sequence of the newest states has one Gaussian (m, P) per axis and a weight w. Per row:

    P += q, q = 2 D dt;  observe (`axiskernels.condition`);  w *= prod N(x; m, S)
    sequences with the same newest states merge: weights add up, moments are matched
    every sequence goes on in each of the next states: w *= T (times what it is to be seen again)

A merge keeps the variance between the merged means:

    M = sum pi m,  PP = sum pi [P + (m - M)^2],  pi = w / sum w.

With motion blur (te > 0) the exposure is the last te of the time between two rows.

Symbols: n sequences; sequence i has its newest sub-state in the last digit to the base K; C =
K^(n_sub + 1) numbers the sub-states of one frame; `keep` sequences are left after a merge, those
that merge into j are j, j + keep, j + 2 keep ...; w the flat array, `at` says what lies where.
Loops write one or two rows each: with more, the compiler gives up its tests for overlap and they
run one number at a time (measured).
"""

from __future__ import annotations

import math

import numpy as np

from livespt.element_kernels import ROW, exp_row
from livespt.infer.axiskernels import condition
from livespt.jit import kernel, lanes
from livespt.refit.extrack.arrays import Array, At, Ints, Rule, Series, Tables

LN_2PI = math.log(2 * math.pi)
#: Weights are told apart down to here; a sequence never dies for good.
LEAST = 1e-300
#: Below this the weights of a row are found anew, by their logarithms.
FAINT = 1e-200
_0, _1, _2, _3, _4 = (np.uint64(i) for i in range(5))
_LANES = np.uint64(ROW)


@kernel
def run_tracks(
    data: tuple[Series, Array],
    tables: Tables,
    rule: Rule,
    tracks: Ints,
    w: Array,
    at: At,
    out: Array,
) -> None:
    """Write the log-likelihood of each of `tracks` to `out` (n_tracks,).

    `data` is the series and the variance of each of its coordinates.
    """
    lay_tables(tables, rule, w, at)
    for track in tracks:
        out[track] = filter_track(data[0], data[1], rule, track, w, at)


@lanes
def lay_tables(tables: Tables, rule: Rule, w: Array, at: At) -> None:
    """Spread the tables over the sequences: sequence i has the newest sub-states i % C."""
    C = np.uint64(tables.D_um2_s.shape[0])
    for i in range(at.n):
        c = i % C
        w[at.D + i] = tables.D_um2_s[c]
        w[at.step + i], w[at.survive + i] = tables.step[c], tables.survive[c]
        w[at.start + i] = tables.start[c]
        w[at.end + i] = tables.end[i % np.uint64(rule.n_states)]


@lanes
def power(base: int, n: int) -> np.uint64:
    """Return base^n."""
    out = _1
    for _ in range(n):
        out *= np.uint64(base)
    return out


@kernel
def filter_track(series: Series, var: Array, rule: Rule, track: int, w: Array, at: At) -> float:
    """Return one track's log-likelihood; leave what each row began with, and its shares."""
    low, high = int(series.first[track]), int(series.first[track + 1])
    most, wide = (
        power(rule.n_states, max(rule.window - rule.n_sub, 1)),
        power(rule.n_states, rule.n_sub),
    )
    load_spot(series.x_um, var, low, w, at)
    n = begin(rule, w, at)
    loglik = 0.0
    for t in range(low + 1, high):
        row, dt = np.uint64(t - low), series.dt_s[t - 1]
        load_spot(series.x_um, var, t, w, at)
        move(row, n, dt, rule.exposure_s, series.seen[t], w, at)
        if series.seen[t]:
            loglik += share(row, n, w, at)
        else:
            loglik += share_unseen(row, n, w, at)
        if t + 1 < high:
            keep = min(n, most)
            merge(row, n, keep, w, at)
            branch(row, keep, wide, t - low + 1 >= rule.shortest, w, at)
            n = keep * wide
    if high - low < rule.longest:
        loglik += math.log(total_end(np.uint64(high - low - 1), n, w, at))
    return loglik


@lanes
def load_spot(x: Array, var: Array, t: int, w: Array, at: At) -> None:
    """Lay out one row's position and its variance."""
    for d in range(x.shape[1]):
        to = at.spot + np.uint64(2 * d)
        w[to], w[to + _1] = x[t, d], var[t, d]


@lanes
def begin(rule: Rule, w: Array, at: At) -> np.uint64:
    """Begin at the first row under a flat prior: m = x, P = V + 2 D te / 3; return n."""
    wide = power(rule.n_states, rule.n_sub)
    C, same = wide * np.uint64(rule.n_states), _0
    for k in range(rule.n_sub + 1):  # c of (s, s, ...) is s times this
        same += power(rule.n_states, k)
    for i in range(C):
        w[at.weight + at.n + i] = max(w[at.start + i], LEAST)
        blur = 2.0 * w[at.D + same * (i // wide)] * rule.exposure_s / 3.0
        for d in range(at.axes):
            to = (at.axes + d) * at.n + i  # of row 1
            w[at.m + to] = w[at.spot + _2 * d]
            w[at.P + to] = w[at.spot + _2 * d + _1] + blur
    return C


@lanes
def move(row: np.uint64, n: np.uint64, dt: float, te: float, seen: bool, w: Array, at: At) -> None:
    """Fill the Gaussians after a row, and how well each foretold it."""
    for i in range(n):
        w[at.quad + i], w[at.root + i] = 0.0, 1.0
    for d in range(at.axes):
        fr = (row * at.axes + d) * at.n
        if seen:
            observe_axis(fr, d, n, 2.0 * (dt - te), 2.0 * te, w, at)
        else:
            pass_axis(fr, d, n, 2.0 * dt, w, at)


@lanes
def pass_axis(fr: np.uint64, d: int, n: np.uint64, two_dt: float, w: Array, at: At) -> None:
    """Let one axis of all sequences diffuse."""
    m, P, to_m, to_P = at.m + fr, at.P + fr, at.after_m + d * at.n, at.after_P + d * at.n
    for i in range(n):
        w[to_m + i] = w[m + i]
    for i in range(n):
        w[to_P + i] = w[P + i] + two_dt * w[at.D + i]


@lanes
def observe_axis(
    fr: np.uint64, d: int, n: np.uint64, dark: float, te: float, w: Array, at: At
) -> None:
    """Condition one axis of all sequences; `dark` and `te` are twice these times."""
    x, V = w[at.spot + _2 * d], w[at.spot + _2 * d + _1]
    m, P, to_m, to_P = at.m + fr, at.P + fr, at.after_m + d * at.n, at.after_P + d * at.n
    for i in range(n):
        D = w[at.D + i]
        mean, _, inverse, r = condition(w[m + i], w[P + i] + D * dark, D * te, x, V)
        w[to_m + i] = mean
        w[at.quad + i] -= 0.5 * r * r * inverse
    for i in range(n):
        D = w[at.D + i]
        _, variance, inverse, _ = condition(0.0, w[P + i] + D * dark, D * te, x, V)
        w[to_P + i] = variance
        w[at.root + i] *= inverse


@lanes
def share(row: np.uint64, n: np.uint64, w: Array, at: At) -> float:
    """Write each sequence's share after the row; return ln of the sum of their weights."""
    fr, to = at.weight + row * at.n, at.share + row * at.n
    top = w[at.quad]
    for i in range(_1, n):
        top = max(top, w[at.quad + i])
    for i in range(_0, n, _LANES):
        exp_row(w, at.quad + i, top, at.grown + i)
    for i in range(n):
        w[to + i] = w[fr + i] * w[at.grown + i] * math.sqrt(w[at.root + i])
    total = add_up(w, to, n)
    if not total > FAINT:
        top, total = share_faint(row, n, w, at)
    scale_shares(w, to, n, 1.0 / total)
    return top + math.log(total) - 0.5 * float(at.axes) * LN_2PI


@lanes
def add_up(w: Array, fr: np.uint64, n: np.uint64) -> float:
    """Return the sum of n values, four sums side by side."""
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    whole = n - n % _4
    for i in range(fr, fr + whole, _4):
        a += w[i]
        b += w[i + _1]
        c += w[i + _2]
        d += w[i + _3]
    for i in range(fr + whole, fr + n):
        a += w[i]
    return (a + b) + (c + d)


@lanes
def scale_shares(w: Array, to: np.uint64, n: np.uint64, factor: float) -> None:
    """Turn weights into shares, none quite 0."""
    for i in range(to, to + n):
        w[i] = max(w[i] * factor, LEAST)


@kernel
def share_faint(row: np.uint64, n: np.uint64, w: Array, at: At) -> tuple[float, float]:
    """Find weights that are all but 0 by their logarithms; return the top and their sum."""
    fr, to = at.weight + row * at.n, at.share + row * at.n
    top = -math.inf
    for i in range(n):
        w[to + i] = math.log(w[fr + i]) + w[at.quad + i] + 0.5 * math.log(w[at.root + i])
        top = max(top, w[to + i])
    for i in range(n):
        w[to + i] = math.exp(w[to + i] - top)
    return top, add_up(w, to, n)


@lanes
def share_unseen(row: np.uint64, n: np.uint64, w: Array, at: At) -> float:
    """Write each sequence's share where nothing was seen."""
    fr, to = at.weight + row * at.n, at.share + row * at.n
    total = add_up(w, fr, n)
    for i in range(n):
        w[to + i] = w[fr + i]
    scale_shares(w, to, n, 1.0 / total)
    return math.log(total)


@lanes
def merge(row: np.uint64, n: np.uint64, keep: np.uint64, w: Array, at: At) -> None:
    """Merge n sequences into `keep`: their weights in `next_w`, their Gaussians in `next_`."""
    post, W = at.share + row * at.n, at.next_w
    add_groups(post, n, keep, W, w)
    for j in range(keep):
        w[at.a + j] = 1.0 / w[W + j]
    for d in range(at.axes):
        merge_axis(post, n, keep, d, w, at)


@lanes
def add_groups(fr: np.uint64, n: np.uint64, keep: np.uint64, to: np.uint64, w: Array) -> None:
    """Sum the values of the sequences that merge."""
    for j in range(keep):
        w[to + j] = w[fr + j]
    for g in range(keep, n, keep):
        for j in range(keep):
            w[to + j] += w[fr + g + j]


@lanes
def merge_axis(post: np.uint64, n: np.uint64, keep: np.uint64, d: int, w: Array, at: At) -> None:
    """Match the moments of one axis."""
    m, P = at.after_m + d * at.n, at.after_P + d * at.n
    M, PP = at.next_m + d * at.n, at.next_P + d * at.n
    for j in range(keep):
        w[M + j] = w[post + j] * w[m + j]
    for g in range(keep, n, keep):
        for j in range(keep):
            w[M + j] += w[post + g + j] * w[m + g + j]
    for j in range(keep):
        w[M + j] *= w[at.a + j]
    for j in range(keep):
        w[PP + j] = 0.0
    for g in range(_0, n, keep):
        for j in range(keep):
            off = w[m + g + j] - w[M + j]
            w[PP + j] += w[post + g + j] * (w[P + g + j] + off * off)
    for j in range(keep):
        w[PP + j] *= w[at.a + j]


@lanes
def branch(row: np.uint64, keep: np.uint64, wide: np.uint64, again: bool, w: Array, at: At) -> None:
    """Let every sequence go on in each next state, at the next row."""
    to = at.weight + (row + _1) * at.n
    step = at.survive if again else at.step
    repeat(at.next_w, keep, wide, to, w)
    for i in range(keep * wide):
        w[to + i] = max(w[to + i] * w[step + i], LEAST)
    for d in range(at.axes):
        to = ((row + _1) * at.axes + d) * at.n
        repeat(at.next_m + d * at.n, keep, wide, at.m + to, w)
        repeat(at.next_P + d * at.n, keep, wide, at.P + to, w)


@lanes
def repeat(fr: np.uint64, keep: np.uint64, wide: np.uint64, to: np.uint64, w: Array) -> None:
    """Write each value `wide` times."""
    if wide == _2:
        for j in range(keep):
            value = w[fr + j]
            w[to + _2 * j], w[to + _2 * j + _1] = value, value
        return
    for j in range(keep):
        value = w[fr + j]
        for i in range(j * wide, (j + _1) * wide):
            w[to + i] = value


@lanes
def total_end(row: np.uint64, n: np.uint64, w: Array, at: At) -> float:
    """Return the probability that the track ends here."""
    post, total = at.share + row * at.n, 0.0
    for i in range(n):
        total += w[post + i] * w[at.end + i]
    return total
