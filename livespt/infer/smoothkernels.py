"""Backward pass over one track: GPB2 smoothing on the branches of the filter's own steps.

The filter's states are kept at the end of every exposure (and of every interval of a gap). Going
back, each branch (j -> k) is formed again by the same step, for some rows side by side. Given its
spot, the end of the exposure before (E), the end of this one (N) and the mean over this one (Z) are
jointly Gaussian, and the future speaks through N alone, so with the smoothed (m, P) of N under
state k,

    E = E_jk + L (m_k - N_jk),   Cov E = E_jk + L (P_k - N_jk) L',   L = Cov(E, N) N_jk^-1

(Rauch, Tung, Striebel), likewise Z. Branch probabilities p(j | k) p_k are merged over k for E, over
both for Z, with the between-component variance (Kim 1994). Exact for one state.

A *row* is one spot or one unseen interval; `dark` is the unseen time before its exposure.
"""

from __future__ import annotations

import math

import numpy as np

from livespt.infer import layout as at
from livespt.infer.arrays import (
    LNW,
    MX,
    MY,
    PXX,
    PXY,
    PYY,
    Array,
    Motion,
    Rows,
    Smoothed,
    Tracks,
)
from livespt.infer.batchkernels import FALSE_LINK
from livespt.infer.columnkernels import branch, observe, refine_branch, share_column
from livespt.infer.stepkernels import (
    diffuse,
    first_dark,
    idle,
    load_spot,
    n_steps,
    pass_unseen,
    prepare,
    see,
    start,
    step,
)
from livespt.infer.tangentkernels import place
from livespt.jit import inlined, kernel, lanes
from livespt.vectors import WIDTH, address, load

#: Kinds of rows.
UNSEEN, SEEN, FIRST = 0, 1, 2


@kernel
def count_rows(tracks: Tracks, interval: float) -> int:
    """Return the most rows that any one track needs."""
    most = 0
    for i in range(tracks.first.shape[0] - 1):
        rows = 1
        for n in range(tracks.first[i] + 1, tracks.first[i + 1]):
            rows += n_steps(tracks.t_s[n] - tracks.t_s[n - 1], interval)
        most = max(most, rows)
    return most


@kernel
def lay_rows(tracks: Tracks, low: int, high: int, interval: float, rows: Rows) -> int:
    """Write a track's spots and unseen intervals as rows; return their number."""
    rows.kind[0], rows.spot[0], rows.dark[0] = FIRST, low, 0.0
    row = 1
    for n in range(low + 1, high):
        elapsed = tracks.t_s[n] - tracks.t_s[n - 1]
        steps = n_steps(elapsed, interval)
        dark = first_dark(elapsed, tracks.exposure_s[n - 1], steps)
        for _ in range(steps - 1):
            rows.kind[row], rows.spot[row], rows.dark[row] = UNSEEN, n, dark
            dark = elapsed / steps
            row += 1
        rows.kind[row], rows.spot[row], rows.dark[row] = SEEN, n, dark
        row += 1
    return row


@lanes
def lay_row(tracks: Tracks, rows: Rows, row: int, w: Array, lane: int) -> None:
    """Lay out what happens in a row, in one lane."""
    n = int(rows.spot[row])
    if rows.kind[row] == UNSEEN:
        pass_unseen(w, lane, rows.dark[row])
    else:
        load_spot(w, lane, address(tracks.spot), n)
        see(w, lane, rows.dark[row], tracks.exposure_s[n])


@kernel
def filter_rows(tracks: Tracks, n_rows: int, rows: Rows, w: Array) -> None:
    """Filter a track; keep the state after each row. A false link becomes a FIRST row."""
    n_states = rows.state.shape[1]
    for lane in range(WIDTH):
        idle(w, lane)
    for row in range(n_rows):
        lay_row(tracks, rows, row, w, 0)
        if row > 0:
            step(w, at.FILTER, (n_states, 1), w, False)
        if row == 0 or (rows.kind[row] == SEEN and not w[at.NEAREST] < FALSE_LINK):
            rows.kind[row] = FIRST
            start(w, at.FILTER, (n_states, 1), 0, tracks.exposure_s[int(rows.spot[row])], w)
        for k in range(n_states):
            for i in range(6):
                rows.state[row, k, i] = w[place(at.FILTER, n_states, 0, k) + at.ROW * np.uint64(i)]


@kernel
def smooth_tracks(
    tracks: Tracks, motion: Motion, interval: float, rows: Rows, scratch: Array, out: Smoothed
) -> None:
    """Smooth all tracks.

    Parameters
    ----------
    rows : Rows
        Room for the longest track.
    out : Smoothed
        `position` (n, 5): mean over the exposure and covariance; `p_state` (n, K).
    """
    back, w = rows.smooth, address(scratch)
    prepare(motion, w)
    for i in range(tracks.first.shape[0] - 1):
        n_rows = lay_rows(tracks, tracks.first[i], tracks.first[i + 1], interval, rows)
        filter_rows(tracks, n_rows, rows, w)
        row, formed = n_rows - 1, n_rows  # the least row whose branches stand in w
        take_filtered(rows, row, back)
        while row >= 0:
            if 0 < row < formed:
                formed = max(row - WIDTH + 1, 1)
                form_branches(tracks, rows, formed, row, w)
            write_p_state(rows, row, back, out)
            if rows.kind[row] == FIRST:
                refine_first(tracks, rows, row, motion, back, out)
                if row > 0:
                    take_filtered(rows, row - 1, back)
            else:
                take_branches(rows, row - formed, w)
                step_back(tracks, rows, row, motion, out)
            row -= 1


@inlined
def take_filtered(rows: Rows, row: int, back: Array) -> None:
    """Start going back: at the last spot the smoothed state is the filtered one."""
    for k in range(back.shape[0]):
        for i in range(5):
            back[k, i] = rows.state[row, k, i]
        back[k, 5] = math.exp(rows.state[row, k, LNW])


@inlined
def write_p_state(rows: Rows, row: int, back: Array, out: Smoothed) -> None:
    """Write the smoothed probabilities of a spot's row."""
    if rows.kind[row] != UNSEEN:
        for k in range(back.shape[0]):
            out.p_state[rows.spot[row], k] = back[k, 5]


@kernel
def form_branches(tracks: Tracks, rows: Rows, first: int, last: int, w: Array) -> None:
    """Form the branches of some rows again, side by side; those of row `first` in lane 0."""
    n_states = rows.state.shape[1]
    for lane in range(WIDTH):
        row = min(first + lane, last)
        lay_row(tracks, rows, row, w, lane)
        for k in range(n_states):
            to = place(at.FILTER, n_states, 0, k) + np.uint64(lane)
            for i in range(6):
                w[to + at.ROW * np.uint64(i)] = rows.state[row - 1, k, i]
    diffuse(w, at.FILTER, (n_states, 1), w)
    for k in range(n_states):
        h = 2.0 * w[at.D + np.uint64(k)] * load(w, at.TE)
        for j in range(n_states):
            observe(w, place(at.FILTER, n_states, 0, j), h, w, branch(k, j))
            refine_branch(w, place(at.FILTER, n_states, 0, j), h, w, branch(k, j))
        share_column(w, k, n_states)


@lanes
def take_branches(rows: Rows, lane: int, w: Array) -> None:
    """Take one row's branches out of its lane: their Gaussians, p(j | k) and exposure means."""
    n_states, own = rows.state.shape[1], np.uint64(lane)
    for k in range(n_states):
        for j in range(n_states):
            b = branch(k, j) + own
            rows.share[j, k] = w[b]
            for i in range(5):
                rows.branch[j, k, i] = w[b + at.OFF + at.ROW * np.uint64(i)]
                rows.refined[j, k, i] = w[b + at.REFINED + at.ROW * np.uint64(i)]


@kernel
def regress(
    mean: Array, cross: Array, branch: Array, j: int, k: int, back: Array, out: Array
) -> None:
    """Write mean and covariance of a variable once N is known to be as smoothed under state k.

    `mean` (5,): the variable given its branch; `cross` (4,): its covariance with N.
    """
    nxx, nxy, nyy = branch[j, k, PXX], branch[j, k, PXY], branch[j, k, PYY]
    inverse = 1.0 / (nxx * nyy - nxy * nxy)
    ixx, ixy, iyy = nyy * inverse, -nxy * inverse, nxx * inverse
    axx, axy = cross[0] * ixx + cross[1] * ixy, cross[0] * ixy + cross[1] * iyy
    ayx, ayy = cross[2] * ixx + cross[3] * ixy, cross[2] * ixy + cross[3] * iyy
    dx, dy = back[k, MX] - branch[j, k, MX], back[k, MY] - branch[j, k, MY]
    bxx, bxy, byy = back[k, PXX] - nxx, back[k, PXY] - nxy, back[k, PYY] - nyy
    txx, txy = axx * bxx + axy * bxy, axx * bxy + axy * byy
    tyx, tyy = ayx * bxx + ayy * bxy, ayx * bxy + ayy * byy
    out[j, k, MX] = mean[MX] + axx * dx + axy * dy
    out[j, k, MY] = mean[MY] + ayx * dx + ayy * dy
    out[j, k, PXX] = mean[PXX] + txx * axx + txy * axy
    out[j, k, PXY] = mean[PXY] + txx * ayx + txy * ayy
    out[j, k, PYY] = mean[PYY] + tyx * ayx + tyy * ayy


@kernel
def condition(
    pxx: float,
    pyy: float,
    pxy: float,
    row: Array,
    spot: Array,
    branch_h: float,
    c2: float,
    rows: Rows,
) -> None:
    """Cov(E), Cov(E, N), Cov(Z, N) given the spot, for one branch; see the module's text.

    Before the dark time Cov E = P; at the exposure's start P + 2 D dark = `row` (3,).
    Returns nothing: writes `rows.end` (5,), `rows.end_cross` (4,), `rows.mean_cross` (4,).
    """
    qxx, qxy, qyy = row[0] + branch_h / 3.0, row[1], row[2] + branch_h / 3.0
    cxx, cxy, cyy = row[0] + 0.5 * branch_h, row[1], row[2] + 0.5 * branch_h
    sxx, sxy, syy = qxx + c2 * spot[2], qxy + c2 * spot[4], qyy + c2 * spot[3]
    inverse = 1.0 / (sxx * syy - sxy * sxy)
    ixx, ixy, iyy = syy * inverse, -sxy * inverse, sxx * inverse
    gxx, gxy = pxx * ixx + pxy * ixy, pxx * ixy + pxy * iyy  # P S^-1
    gyx, gyy = pxy * ixx + pyy * ixy, pxy * ixy + pyy * iyy
    hxx, hxy = qxx * ixx + qxy * ixy, qxx * ixy + qxy * iyy  # Q S^-1
    hyx, hyy = qxy * ixx + qyy * ixy, qxy * ixy + qyy * iyy
    end, ec, mc = rows.end, rows.end_cross, rows.mean_cross
    rx, ry = spot[0] - end[MX], spot[1] - end[MY]
    end[MX] += gxx * rx + gxy * ry
    end[MY] += gyx * rx + gyy * ry
    end[PXX] = pxx - (gxx * pxx + gxy * pxy)
    end[PXY] = pxy - (gxx * pxy + gxy * pyy)
    end[PYY] = pyy - (gyx * pxy + gyy * pyy)
    ec[0], ec[1] = pxx - (gxx * cxx + gxy * cxy), pxy - (gxx * cxy + gxy * cyy)
    ec[2], ec[3] = pxy - (gyx * cxx + gyy * cxy), pyy - (gyx * cxy + gyy * cyy)
    mc[0], mc[1] = cxx - (hxx * cxx + hxy * cxy), cxy - (hxx * cxy + hxy * cyy)
    mc[2], mc[3] = cxy - (hyx * cxx + hyy * cxy), cyy - (hyx * cxy + hyy * cyy)


@kernel
def step_back(tracks: Tracks, rows: Rows, row: int, motion: Motion, out: Smoothed) -> None:
    """Smooth the one before `row` (into rows.smooth) and the exposure mean of `row`."""
    n_states = rows.share.shape[0]
    back, seen, n = rows.smooth, rows.kind[row] == SEEN, int(rows.spot[row])
    for j in range(n_states):
        before = rows.state[row - 1, j]
        pxx, pxy, pyy = before[PXX], before[PXY], before[PYY]
        grown = 2.0 * motion.D[j] * rows.dark[row]
        rows.begin[0], rows.begin[1], rows.begin[2] = pxx + grown, pxy, pyy + grown
        for k in range(n_states):
            for i in range(5):
                rows.end[i] = before[i]
            if seen:
                h = 2.0 * motion.D[k] * tracks.exposure_s[n]
                condition(pxx, pyy, pxy, rows.begin, tracks.spot[n], h, motion.c2, rows)
                regress(
                    rows.refined[j, k], rows.mean_cross, rows.branch, j, k, back, rows.mean_pair
                )
            else:
                rows.end_cross[0], rows.end_cross[1] = pxx, pxy
                rows.end_cross[2], rows.end_cross[3] = pxy, pyy
            regress(rows.end, rows.end_cross, rows.branch, j, k, back, rows.end_pair)
    for k in range(n_states):
        for j in range(n_states):
            rows.share[j, k] *= back[k, 5]
    if seen:
        pool(rows.mean_pair, rows.share, out.position[n])
    for j in range(n_states):
        pool_row(rows.end_pair, rows.share, j, rows.state[row - 1, j], back)


@kernel
def pool(pair: Array, weight: Array, out: Array) -> None:
    """Merge all pairs (j, k) into one mean and covariance."""
    n_states = weight.shape[0]
    for i in range(5):
        out[i] = 0.0
    for j in range(n_states):
        for k in range(n_states):
            out[MX] += weight[j, k] * pair[j, k, MX]
            out[MY] += weight[j, k] * pair[j, k, MY]
    for j in range(n_states):
        for k in range(n_states):
            x, y = pair[j, k, MX] - out[MX], pair[j, k, MY] - out[MY]
            out[PXX] += weight[j, k] * (pair[j, k, PXX] + x * x)
            out[PXY] += weight[j, k] * (pair[j, k, PXY] + x * y)
            out[PYY] += weight[j, k] * (pair[j, k, PYY] + y * y)


@inlined
def pool_row(pair: Array, weight: Array, j: int, filtered: Array, out: Array) -> None:
    """Merge the pairs (j, k) over k into the smoothed state j; an impossible one stays filtered."""
    n_states = weight.shape[0]
    total = 0.0
    for k in range(n_states):
        total += weight[j, k]
    out[j, 5] = total
    for i in range(5):
        out[j, i] = filtered[i] if total <= 1e-300 else 0.0
    if total <= 1e-300:
        return
    for k in range(n_states):
        out[j, MX] += weight[j, k] / total * pair[j, k, MX]
        out[j, MY] += weight[j, k] / total * pair[j, k, MY]
    for k in range(n_states):
        p, x, y = weight[j, k] / total, pair[j, k, MX] - out[j, MX], pair[j, k, MY] - out[j, MY]
        out[j, PXX] += p * (pair[j, k, PXX] + x * x)
        out[j, PXY] += p * (pair[j, k, PXY] + x * y)
        out[j, PYY] += p * (pair[j, k, PYY] + y * y)


@kernel
def refine_first(
    tracks: Tracks, rows: Rows, row: int, motion: Motion, back: Array, out: Smoothed
) -> None:
    """Smooth the exposure mean of a first spot: Z = spot, Cov Z = c^2 V = Cov(Z, N)."""
    n = int(rows.spot[row])
    spot = tracks.spot[n]
    end, cross = rows.end, rows.end_cross
    end[MX], end[MY] = spot[0], spot[1]
    end[PXX], end[PYY], end[PXY] = motion.c2 * spot[2], motion.c2 * spot[3], motion.c2 * spot[4]
    cross[0], cross[1], cross[2], cross[3] = end[PXX], end[PXY], end[PXY], end[PYY]
    for k in range(back.shape[0]):
        for i in range(5):
            rows.own[0, k, i] = rows.state[row, k, i]
        regress(end, cross, rows.own, 0, k, back, rows.mean_pair)
        for j in range(1, back.shape[0]):
            rows.joint[j, k] = 0.0
            for i in range(5):
                rows.mean_pair[j, k, i] = rows.mean_pair[0, k, i]
        rows.joint[0, k] = back[k, 5]
    pool(rows.mean_pair, rows.joint, out.position[n])
