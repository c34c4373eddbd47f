"""One step of the switching filter, written once: start, diffuse, branch, merge (SCIENCE 3, 4).

State: position at the END of an exposure, one Gaussian (m, P) and log weight per motion state.
During an exposure te under D the position moves by b and its mean over the exposure is off the
start by a:

    Var b = 2 D te,   Var a = 2 D te / 3,   Cov(a, b) = D te;   x = start + a + N(0, c^2 V)

so, with C = P + D te, S = P + 2 D te / 3 + c^2 V, r = x - m:

    m' = m + C S^-1 r,   P' = P + 2 D te - C S^-1 C,   refined mean over the exposure: P + 2 D te/3 for C

(a Kalman filter with correlated noise: Berglund's likelihood exactly). The dark rest of a frame adds
2 D dark. Branch (j -> k): ln W_jk = ln w_j + ln T_jk + ln N(x; m_j, S_jk); merge over j with the
between-component variance.

Symbols: F filter array (K, 6, 1 + q), see `arrays`; last axis: value, then derivatives.
"""

from __future__ import annotations

import math

from livespt.infer.arrays import LNW, MX, MY, PXX, PXY, PYY
from livespt.jit import kernel

LN_2PI = math.log(2 * math.pi)
#: Bound on the steps of a gap; longer gaps take longer steps (the chain has forgotten by then).
MAX_STEPS = 100
#: A clock's jitter may make the dark time slightly negative; below -te/4 P could lose its sign.
MIN_DARK = -0.2


@kernel
def start(F, spot, te, motion):
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
        F[k, LNW] = motion.ln_pi[k]
        if n_duals > 1:
            F[k, PXX, 1 + k] += blur
            F[k, PYY, 1 + k] += blur
            F[k, PXX, n_duals - 1] += 2.0 * motion.c2 * spot[2]
            F[k, PYY, n_duals - 1] += 2.0 * motion.c2 * spot[3]
            F[k, PXY, n_duals - 1] += 2.0 * motion.c2 * spot[4]


@kernel
def diffuse(F, dark, motion):
    """Let each state diffuse unseen for `dark` seconds."""
    n_states, _, n_duals = F.shape
    for k in range(n_states):
        grown = 2.0 * motion.D[k] * dark
        F[k, PXX, 0] += grown
        F[k, PYY, 0] += grown
        if n_duals > 1:
            F[k, PXX, 1 + k] += grown
            F[k, PYY, 1 + k] += grown


@kernel
def branch_missing(F, motion, work):
    """Branch (j -> k) over an interval in which nothing was seen."""
    n_states = F.shape[0]
    for j in range(n_states):
        for k in range(n_states):
            work.branch[j, k] = F[j, :5]
            for q in range(F.shape[2]):
                work.weight[j, k, q] = F[j, LNW, q] + motion.ln_T[j, k, q]


@kernel
def branch_observed(F, spot, te, motion, work):
    """Branch (j -> k) over an exposure that was seen as `spot`; return the least r S^-1 r."""
    n_states = F.shape[0]
    nearest = math.inf
    for j in range(n_states):
        for k in range(n_states):
            distance = _observe(F[j], spot, 2.0 * motion.D[k] * te, k, motion.c2, work.branch[j, k],
                                work.weight[j, k], work.refined[j, k])  # fmt: skip
            nearest = min(nearest, distance)
            for q in range(F.shape[2]):
                work.weight[j, k, q] += F[j, LNW, q] + motion.ln_T[j, k, q]
    return nearest


@kernel
def _observe(f, spot, h, k, c2, b, lnw, z):
    """Condition one Gaussian on one spot; h = 2 D_k te. Return r S^-1 r."""
    vxx, vyy, vxy = spot[2], spot[3], spot[4]
    pxx, pxy, pyy = f[PXX, 0], f[PXY, 0], f[PYY, 0]
    qxx, qyy = pxx + h / 3.0, pyy + h / 3.0  # covariance of the exposure mean with itself
    cxx, cyy = pxx + 0.5 * h, pyy + 0.5 * h  # ... and with the end of the exposure
    sxx, sxy, syy = qxx + c2 * vxx, pxy + c2 * vxy, qyy + c2 * vyy
    det = sxx * syy - sxy * sxy
    ixx, ixy, iyy = syy / det, -sxy / det, sxx / det
    rx, ry = spot[0] - f[MX, 0], spot[1] - f[MY, 0]
    ux, uy = ixx * rx + ixy * ry, ixy * rx + iyy * ry
    distance = rx * ux + ry * uy
    gxx, gxy = cxx * ixx + pxy * ixy, cxx * ixy + pxy * iyy
    gyx, gyy = pxy * ixx + cyy * ixy, pxy * ixy + cyy * iyy
    b[MX, 0] = f[MX, 0] + cxx * ux + pxy * uy
    b[MY, 0] = f[MY, 0] + pxy * ux + cyy * uy
    b[PXX, 0] = pxx + h - (gxx * cxx + gxy * pxy)
    b[PXY, 0] = pxy - (gxx * pxy + gxy * cyy)
    b[PYY, 0] = pyy + h - (gyx * pxy + gyy * cyy)
    lnw[0] = -0.5 * (math.log(det) + distance) - LN_2PI
    z[MX] = f[MX, 0] + qxx * ux + pxy * uy
    z[MY] = f[MY, 0] + pxy * ux + qyy * uy
    wxx, wxy = qxx * ixx + pxy * ixy, qxx * ixy + pxy * iyy
    wyx, wyy = pxy * ixx + qyy * ixy, pxy * ixy + qyy * iyy
    z[PXX] = qxx - (wxx * qxx + wxy * pxy)
    z[PXY] = pxy - (wxx * pxy + wxy * qyy)
    z[PYY] = qyy - (wyx * pxy + wyy * qyy)
    axx, axy, ayy = 0.5 * (ux * ux - ixx), ux * uy - ixy, 0.5 * (uy * uy - iyy)
    last = f.shape[1] - 1
    for q in range(1, f.shape[1]):
        dh = h if q == 1 + k else 0.0
        dc = 2.0 * c2 if q == last else 0.0
        dmx, dmy = f[MX, q], f[MY, q]
        dpxx, dpxy, dpyy = f[PXX, q], f[PXY, q], f[PYY, q]
        dsxx, dsxy, dsyy = dpxx + dh / 3.0 + dc * vxx, dpxy + dc * vxy, dpyy + dh / 3.0 + dc * vyy
        dcxx, dcyy = dpxx + 0.5 * dh, dpyy + 0.5 * dh
        ex, ey = -dmx - dsxx * ux - dsxy * uy, -dmy - dsxy * ux - dsyy * uy
        b[MX, q] = dmx + dcxx * ux + dpxy * uy + gxx * ex + gxy * ey
        b[MY, q] = dmy + dpxy * ux + dcyy * uy + gyx * ex + gyy * ey
        hxx, hyx = dcxx * gxx + dpxy * gxy, dpxy * gxx + dcyy * gxy  # dC G'
        hxy, hyy = dcxx * gyx + dpxy * gyy, dpxy * gyx + dcyy * gyy
        kxx, kxy = gxx * dsxx + gxy * dsxy, gxx * dsxy + gxy * dsyy  # G dS
        kyx, kyy = gyx * dsxx + gyy * dsxy, gyx * dsxy + gyy * dsyy
        b[PXX, q] = dpxx + dh - 2.0 * hxx + kxx * gxx + kxy * gxy
        b[PXY, q] = dpxy - hxy - hyx + kxx * gyx + kxy * gyy
        b[PYY, q] = dpyy + dh - 2.0 * hyy + kyx * gyx + kyy * gyy
        lnw[q] = ux * dmx + uy * dmy + axx * dsxx + axy * dsxy + ayy * dsyy
    return distance


@kernel
def merge(F, work):
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
        _match(F[k], k, work)
        for q in range(1, n_duals):
            F[k, LNW, q] -= score[q]


@kernel
def _match(f, k, work):
    """Match the moments of the branches into state k; f[LNW] still holds the mean derivative."""
    f[:5] = 0.0
    for j in range(work.back.shape[0]):
        f[MX, 0] += work.back[j, k] * work.branch[j, k, MX, 0]
        f[MY, 0] += work.back[j, k] * work.branch[j, k, MY, 0]
    for j in range(work.back.shape[0]):
        p, b = work.back[j, k], work.branch[j, k]
        x, y = b[MX, 0] - f[MX, 0], b[MY, 0] - f[MY, 0]
        pxx, pxy, pyy = b[PXX, 0] + x * x, b[PXY, 0] + x * y, b[PYY, 0] + y * y
        f[PXX, 0] += p * pxx
        f[PXY, 0] += p * pxy
        f[PYY, 0] += p * pyy
        for q in range(1, f.shape[1]):
            dp = work.weight[j, k, q] - f[LNW, q]  # d ln p(j | k)
            dx, dy = b[MX, q], b[MY, q]
            f[MX, q] += p * (dx + dp * x)
            f[MY, q] += p * (dy + dp * y)
            f[PXX, q] += p * (b[PXX, q] + dp * pxx + 2.0 * x * dx)
            f[PXY, q] += p * (b[PXY, q] + dp * pxy + x * dy + y * dx)
            f[PYY, q] += p * (b[PYY, q] + dp * pyy + 2.0 * y * dy)


@kernel
def n_steps(elapsed, interval):
    """Return how many nominal intervals `elapsed` seconds hold, at least one."""
    return min(max(1, round(elapsed / interval)), MAX_STEPS)


@kernel
def first_dark(elapsed, te, n):
    """Return the dark rest of an observed frame when the next spot comes n intervals later."""
    return max(elapsed / n - te, MIN_DARK * te)


@kernel
def cross_gap(F, elapsed, te, n, motion, work):
    """Bring F from the end of one exposure (length te) to the start of the next, n intervals on.

    The intervals in between switch and diffuse unseen. `work.product` becomes p(j | k) over the
    whole gap (the identity if there was none).
    """
    n_states = F.shape[0]
    work.product[:] = 0.0
    for k in range(n_states):
        work.product[k, k] = 1.0
    diffuse(F, first_dark(elapsed, te, n), motion)
    for _ in range(n - 1):
        branch_missing(F, motion, work)
        merge(F, work)
        diffuse(F, elapsed / n, motion)
        chain_back(work)


@kernel
def chain_back(work):
    """Multiply `work.back` onto `work.product`."""
    n_states = work.back.shape[0]
    for i in range(n_states):
        for k in range(n_states):
            work.spare[k, 0, 0] = 0.0
            for j in range(n_states):
                work.spare[k, 0, 0] += work.product[i, j] * work.back[j, k]
        for k in range(n_states):
            work.product[i, k] = work.spare[k, 0, 0]


@kernel
def observe(F, spot, te, motion, work):
    """Take one spot into F; the score is left in `work.score`. Return the least r S^-1 r."""
    nearest = branch_observed(F, spot, te, motion, work)
    merge(F, work)
    return nearest
