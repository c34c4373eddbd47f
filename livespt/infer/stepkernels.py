"""One step of the switching filter, written once: start, diffuse, branch, merge (SCIENCE 3, 4).

State: position at the END of an exposure, one Gaussian (m, P) and log weight per motion state.
During an exposure te under D the position moves by b and its mean over the exposure is off the
start by a:

    Var b = 2 D te,   Var a = 2 D te / 3,   Cov(a, b) = D te;   x = start + a + N(0, c^2 V)

so, with C = P + D te, S = P + 2 D te / 3 + c^2 V, r = x - m:

    m' = m + C S^-1 r,   P' = P + 2 D te - C S^-1 C

and the refined mean over the exposure has Q = P + 2 D te / 3 in the place of C and of P + 2 D te

(a Kalman filter with correlated noise: Berglund's likelihood exactly). The dark rest of a frame
adds 2 D dark. Branch (j -> k): ln W_jk = ln w_j + ln T_jk + ln N(x; m_j, S_jk); merge over j with
the between-component variance.

Symbols: F filter array (K, 6, 1 + q), see `arrays`; last axis: value, then derivatives.
"""

from __future__ import annotations

import math

from livespt.infer.arrays import LNW, MX, MY, PXX, PXY, PYY, Array, Motion, Scratch
from livespt.jit import inlined

LN_2PI = math.log(2 * math.pi)
#: Bound on the steps of a gap; longer gaps take longer steps (the chain has forgotten by then).
MAX_STEPS = 100
#: A clock's jitter may make the dark time slightly negative; below -te/4 P could lose its sign.
MIN_DARK = -0.2


@inlined
def start(F: Array, spot: Array, te: float, motion: Motion) -> None:
    """Begin a track at its first spot under a flat prior: m = x, P = c^2 V + 2 D te / 3."""
    n_states, _, n_duals = F.shape
    F[:] = 0.0
    for k in range(n_states):
        blur = 2.0 * motion.D[k] * te / 3.0
        F[k, MX, 0] = spot[0]
        F[k, MY, 0] = spot[1]
        F[k, PXX, 0] = motion.c2 * spot[2] + blur
        F[k, PYY, 0] = motion.c2 * spot[3] + blur
        F[k, PXY, 0] = motion.c2 * spot[4]
        F[k, LNW] = motion.ln_begin[k]
        if n_duals > 1:
            F[k, PXX, 1 + k] += blur
            F[k, PYY, 1 + k] += blur
            F[k, PXX, n_duals - 1] += 2.0 * motion.c2 * spot[2]
            F[k, PYY, n_duals - 1] += 2.0 * motion.c2 * spot[3]
            F[k, PXY, n_duals - 1] += 2.0 * motion.c2 * spot[4]


@inlined
def diffuse(F: Array, dark: float, motion: Motion) -> None:
    """Let each state diffuse unseen for `dark` seconds."""
    n_states, _, n_duals = F.shape
    for k in range(n_states):
        grown = 2.0 * motion.D[k] * dark
        F[k, PXX, 0] += grown
        F[k, PYY, 0] += grown
        if n_duals > 1:
            F[k, PXX, 1 + k] += grown
            F[k, PYY, 1 + k] += grown


@inlined
def branch_missing(F: Array, motion: Motion, work: Scratch) -> None:
    """Branch (j -> k) over an interval in which nothing was seen."""
    n_states = F.shape[0]
    for j in range(n_states):
        for k in range(n_states):
            for q in range(F.shape[2]):
                for i in range(5):
                    work.branch[j, k, i, q] = F[j, i, q]
                work.weight[j, k, q] = F[j, LNW, q] + motion.ln_T[j, k, q]


@inlined
def branch_observed(F: Array, spot: Array, te: float, motion: Motion, work: Scratch) -> float:
    """Branch (j -> k) over an exposure that was seen as `spot`; return the least r S^-1 r."""
    n_states, _, n_duals = F.shape
    branch, weight, refined, gain, ln_T = (
        work.branch,
        work.weight,
        work.refined,
        work.gain,
        motion.ln_T,
    )
    nearest = math.inf
    for j in range(n_states):
        for k in range(n_states):
            h = 2.0 * motion.D[k] * te
            distance = _observe(F, j, k, spot, h, motion.c2, branch, weight, refined, gain)
            nearest = min(nearest, distance)
            if n_duals > 1:
                _observe_tangents(F, j, k, spot, h, motion.c2, branch, weight, gain)
            for q in range(n_duals):
                weight[j, k, q] += F[j, LNW, q] + ln_T[j, k, q]
    return nearest


@inlined
def _observe(
    F: Array,
    j: int,
    k: int,
    spot: Array,
    h: float,
    c2: float,
    branch: Array,
    weight: Array,
    refined: Array,
    gain: Array,
) -> float:
    """Condition the Gaussian of state j on one spot; h = 2 D_k te. Return r S^-1 r."""
    pxx, pxy, pyy = F[j, PXX, 0], F[j, PXY, 0], F[j, PYY, 0]
    qxx, qyy = pxx + h / 3.0, pyy + h / 3.0  # covariance of the exposure mean with itself
    cxx, cyy = pxx + 0.5 * h, pyy + 0.5 * h  # ... and with the end of the exposure
    sxx, sxy, syy = qxx + c2 * spot[2], pxy + c2 * spot[4], qyy + c2 * spot[3]
    det = sxx * syy - sxy * sxy
    inverse = 1.0 / det
    ixx, ixy, iyy = syy * inverse, -sxy * inverse, sxx * inverse
    rx, ry = spot[0] - F[j, MX, 0], spot[1] - F[j, MY, 0]
    ux, uy = ixx * rx + ixy * ry, ixy * rx + iyy * ry
    distance = rx * ux + ry * uy
    gxx, gxy = cxx * ixx + pxy * ixy, cxx * ixy + pxy * iyy
    gyx, gyy = pxy * ixx + cyy * ixy, pxy * ixy + cyy * iyy
    branch[j, k, MX, 0] = F[j, MX, 0] + cxx * ux + pxy * uy
    branch[j, k, MY, 0] = F[j, MY, 0] + pxy * ux + cyy * uy
    branch[j, k, PXX, 0] = pxx + h - (gxx * cxx + gxy * pxy)
    branch[j, k, PXY, 0] = pxy - (gxx * pxy + gxy * cyy)
    branch[j, k, PYY, 0] = pyy + h - (gyx * pxy + gyy * cyy)
    weight[j, k, 0] = -0.5 * (math.log(det) + distance) - LN_2PI
    refined[j, k, MX] = F[j, MX, 0] + qxx * ux + pxy * uy
    refined[j, k, MY] = F[j, MY, 0] + pxy * ux + qyy * uy
    wxx, wxy = qxx * ixx + pxy * ixy, qxx * ixy + pxy * iyy
    wyx, wyy = pxy * ixx + qyy * ixy, pxy * ixy + qyy * iyy
    refined[j, k, PXX] = qxx - (wxx * qxx + wxy * pxy)
    refined[j, k, PXY] = pxy - (wxx * pxy + wxy * qyy)
    refined[j, k, PYY] = qyy - (wyx * pxy + wyy * qyy)
    gain[0], gain[1], gain[2], gain[3], gain[4], gain[5] = gxx, gxy, gyx, gyy, ux, uy
    gain[6], gain[7], gain[8] = 0.5 * (ux * ux - ixx), ux * uy - ixy, 0.5 * (uy * uy - iyy)
    return distance


@inlined
def _observe_tangents(
    F: Array,
    j: int,
    k: int,
    spot: Array,
    h: float,
    c2: float,
    branch: Array,
    weight: Array,
    gain: Array,
) -> None:
    """Differentiate `_observe`: linear in the tangents of m, P, in dh and in d c^2."""
    gxx, gxy, gyx, gyy, ux, uy = gain[0], gain[1], gain[2], gain[3], gain[4], gain[5]
    axx, axy, ayy = gain[6], gain[7], gain[8]
    vxx, vyy, vxy = spot[2], spot[3], spot[4]
    last = F.shape[2] - 1
    for q in range(1, F.shape[2]):
        dh = h if q == 1 + k else 0.0
        dc = 2.0 * c2 if q == last else 0.0
        dmx, dmy = F[j, MX, q], F[j, MY, q]
        dpxx, dpxy, dpyy = F[j, PXX, q], F[j, PXY, q], F[j, PYY, q]
        dsxx, dsxy, dsyy = dpxx + dh / 3.0 + dc * vxx, dpxy + dc * vxy, dpyy + dh / 3.0 + dc * vyy
        dcxx, dcyy = dpxx + 0.5 * dh, dpyy + 0.5 * dh
        ex, ey = -dmx - dsxx * ux - dsxy * uy, -dmy - dsxy * ux - dsyy * uy
        branch[j, k, MX, q] = dmx + dcxx * ux + dpxy * uy + gxx * ex + gxy * ey
        branch[j, k, MY, q] = dmy + dpxy * ux + dcyy * uy + gyx * ex + gyy * ey
        hxx, hyx = dcxx * gxx + dpxy * gxy, dpxy * gxx + dcyy * gxy  # dC G'
        hxy, hyy = dcxx * gyx + dpxy * gyy, dpxy * gyx + dcyy * gyy
        kxx, kxy = gxx * dsxx + gxy * dsxy, gxx * dsxy + gxy * dsyy  # G dS
        kyx, kyy = gyx * dsxx + gyy * dsxy, gyx * dsxy + gyy * dsyy
        branch[j, k, PXX, q] = dpxx + dh - 2.0 * hxx + kxx * gxx + kxy * gxy
        branch[j, k, PXY, q] = dpxy - hxy - hyx + kxx * gyx + kxy * gyy
        branch[j, k, PYY, q] = dpyy + dh - 2.0 * hyy + kyx * gyx + kyy * gyy
        weight[j, k, q] = ux * dmx + uy * dmy + axx * dsxx + axy * dsxy + ayy * dsyy


@inlined
def merge(F: Array, work: Scratch) -> None:
    """Merge the branches (j -> k) over j into state k, moments matched; write F and the score.

    `work.score` becomes the log-likelihood increment (0) and its derivatives; `work.back` the
    share p(j | k) of each branch in its merged state.
    """
    n_states, _, n_duals = F.shape
    weight, back, score = work.weight, work.back, work.score
    top = -math.inf
    for k in range(n_states):
        high = -math.inf
        for j in range(n_states):
            high = max(high, weight[j, k, 0])
        total = 0.0
        for j in range(n_states):
            back[j, k] = math.exp(weight[j, k, 0] - high)
            total += back[j, k]
        for j in range(n_states):
            back[j, k] /= total
        F[k, LNW, 0] = high + math.log(total)
        top = max(top, F[k, LNW, 0])
    total = 0.0
    for k in range(n_states):
        total += math.exp(F[k, LNW, 0] - top)
    score[:] = 0.0
    evidence = top + math.log(total)
    for k in range(n_states):
        F[k, LNW, 0] -= evidence
        share = math.exp(F[k, LNW, 0])
        for q in range(1, n_duals):
            mean = 0.0
            for j in range(n_states):
                mean += back[j, k] * weight[j, k, q]
            F[k, LNW, q] = mean
            score[q] += share * mean
    score[0] = evidence
    for k in range(n_states):
        _match(F, k, work.branch, weight, back)
        for q in range(1, n_duals):
            F[k, LNW, q] -= score[q]


@inlined
def _match(F: Array, k: int, branch: Array, weight: Array, back: Array) -> None:
    """Match the moments of the branches into state k; F[k, LNW] holds the mean derivative."""
    n_states, _, n_duals = F.shape
    mx, my = 0.0, 0.0
    for j in range(n_states):
        mx += back[j, k] * branch[j, k, MX, 0]
        my += back[j, k] * branch[j, k, MY, 0]
    for i in range(5):
        for q in range(n_duals):
            F[k, i, q] = 0.0
    F[k, MX, 0], F[k, MY, 0] = mx, my
    for j in range(n_states):
        p = back[j, k]
        x, y = branch[j, k, MX, 0] - mx, branch[j, k, MY, 0] - my
        pxx = branch[j, k, PXX, 0] + x * x
        pxy = branch[j, k, PXY, 0] + x * y
        pyy = branch[j, k, PYY, 0] + y * y
        F[k, PXX, 0] += p * pxx
        F[k, PXY, 0] += p * pxy
        F[k, PYY, 0] += p * pyy
        for q in range(1, n_duals):
            dp = weight[j, k, q] - F[k, LNW, q]  # d ln p(j | k)
            dx, dy = branch[j, k, MX, q], branch[j, k, MY, q]
            F[k, MX, q] += p * (dx + dp * x)
            F[k, MY, q] += p * (dy + dp * y)
            F[k, PXX, q] += p * (branch[j, k, PXX, q] + dp * pxx + 2.0 * x * dx)
            F[k, PXY, q] += p * (branch[j, k, PXY, q] + dp * pxy + x * dy + y * dx)
            F[k, PYY, q] += p * (branch[j, k, PYY, q] + dp * pyy + 2.0 * y * dy)


@inlined
def n_steps(elapsed: float, interval: float) -> int:
    """Return how many nominal intervals `elapsed` seconds hold, at least one."""
    return int(min(max(1.0, math.floor(elapsed / interval + 0.5)), MAX_STEPS))


@inlined
def first_dark(elapsed: float, te: float, n: int) -> float:
    """Return the dark rest of an observed frame when the next spot comes n intervals later."""
    return max(elapsed / n - te, MIN_DARK * te)


@inlined
def advance(
    F: Array, spot: Array, times: tuple[float, float, float], n: int, motion: Motion, work: Scratch
) -> float:
    """Take F from the end of one exposure through n intervals and the next spot.

    `times` is (elapsed, te before, te now); the n - 1 intervals between two spots switch and
    diffuse unseen. `work.score` is the spot's score, `work.product` p(state before | state now).
    Return the least r S^-1 r.
    """
    nearest, dark = 0.0, first_dark(times[0], times[1], n)
    for i in range(n):
        diffuse(F, dark, motion)
        if i < n - 1:
            branch_missing(F, motion, work)
        else:
            nearest = branch_observed(F, spot, times[2], motion, work)
        merge(F, work)
        chain_back(work, i == 0)
        dark = times[0] / n
    return nearest


@inlined
def chain_back(work: Scratch, afresh: bool) -> None:
    """Multiply `work.back` onto `work.product`, or begin the product with it."""
    back, product = work.back, work.product
    n_states = back.shape[0]
    if afresh:
        for i in range(n_states):
            for k in range(n_states):
                product[i, k] = back[i, k]
        return
    row = work.gain  # free by now, and longer than K
    for i in range(n_states):
        for k in range(n_states):
            row[k] = 0.0
            for j in range(n_states):
                row[k] += product[i, j] * back[j, k]
        for k in range(n_states):
            product[i, k] = row[k]
