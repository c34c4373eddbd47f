"""Kernels of one track's motion. The equations stand in `livespt.link.linker`.

Symbols: ``modes[i, k] = (w, x, y, pxx, pxy, pyy)`` as in `livespt.link.bank`;
``spots[j] = (x, y, vxx, vxy, vyy, false)``: the last is the density of false spots of a guided
row, 0 for one that was found blind.
"""

import math

from livespt.jit import kernel
from livespt.link.bank import F8, Bank, Elapsed, Motion

TWO_PI = 2.0 * math.pi
#: Squared distance, in variances, beyond which a mode cannot matter: exp(-FAR / 2) = 4e-18.
FAR = 80.0
#: No mode dies for good.
LEAST_WEIGHT = 1e-12
#: No track is sure to shine before it was seen.
MOST_ON = 1.0 - 1e-6


@kernel
def switch(modes: F8, i: int, transition: F8, scratch: F8) -> None:
    """One switching step of track i: moment-matched mixing of its modes (SCIENCE 7).

    The spread between the modes' means goes into the mixed covariance. Means are taken
    relative to the first mode's, so that large coordinates cost no digits.
    """
    n_modes = modes.shape[1]
    x0 = modes[i, 0, 1]
    y0 = modes[i, 0, 2]
    for j in range(n_modes):
        dx = modes[i, j, 1] - x0
        dy = modes[i, j, 2] - y0
        scratch[j, 0] = modes[i, j, 0]
        scratch[j, 1] = dx
        scratch[j, 2] = dy
        scratch[j, 3] = modes[i, j, 3] + dx * dx
        scratch[j, 4] = modes[i, j, 4] + dx * dy
        scratch[j, 5] = modes[i, j, 5] + dy * dy
    for k in range(n_modes):
        w = 0.0
        x = 0.0
        y = 0.0
        xx = 0.0
        xy = 0.0
        yy = 0.0
        for j in range(n_modes):
            a = scratch[j, 0] * transition[j, k]
            w += a
            x += a * scratch[j, 1]
            y += a * scratch[j, 2]
            xx += a * scratch[j, 3]
            xy += a * scratch[j, 4]
            yy += a * scratch[j, 5]
        scale = 1.0 / w
        x *= scale
        y *= scale
        modes[i, k, 0] = w
        modes[i, k, 1] = x0 + x
        modes[i, k, 2] = y0 + y
        modes[i, k, 3] = xx * scale - x * x
        modes[i, k, 4] = xy * scale - x * y
        modes[i, k, 5] = yy * scale - y * y


@kernel
def spread(modes: F8, i: int, D_um2_s: F8, time_s: float) -> None:
    """Let track i diffuse unseen for `time_s`: P + 2 D t."""
    for k in range(modes.shape[1]):
        more = 2.0 * D_um2_s[k] * time_s
        modes[i, k, 3] += more
        modes[i, k, 5] += more


@kernel
def live_on(life: F8, i: int, motion: Motion, n_steps: int) -> None:
    """Blink and bleach for `n_steps` frame intervals in which nobody looked."""
    on = life[i, 0]
    off = life[i, 1]
    stay = 1.0 - motion.p_bleach
    for _ in range(n_steps):
        lit = stay * (on * (1.0 - motion.p_off) + off * motion.p_on)
        off = stay * (off * (1.0 - motion.p_on) + on * motion.p_off)
        on = lit
    life[i, 0] = on
    life[i, 1] = off


@kernel
def predict(bank: Bank, n_live: int, motion: Motion, elapsed: Elapsed, scratch: F8) -> None:
    """Carry all tracks to the start of this exposure, one switching step a piece."""
    n_modes = motion.D_um2_s.shape[0]
    for i in range(n_live):
        for k in range(n_modes):
            bank.before[i, k] = bank.modes[i, k, 0]
        for _ in range(elapsed.n_walk):
            if n_modes > 1:
                switch(bank.modes, i, motion.transition, scratch)
            spread(bank.modes, i, motion.D_um2_s, elapsed.piece_s)
        live_on(bank.life, i, motion, elapsed.n_life)


@kernel
def cost_of(
    modes: F8, i: int, p_seen: float, spots: F8, j: int, motion: Motion, exposure_s: float
) -> float:
    """-ln of the likelihood ratio: spot j continues track i, against a miss and a new spot.

    For a guided row: the molecule is there, against a dark one and a false spot.
    """
    density = motion.density_um2
    if spots[j, 5] > 0.0:
        density = spots[j, 5]
        p_seen = min(p_seen / motion.p_detect, MOST_ON)
    total = 0.0
    for k in range(modes.shape[1]):
        blur = 2.0 * motion.D_um2_s[k] * exposure_s / 3.0
        a = modes[i, k, 3] + blur + spots[j, 2]
        b = modes[i, k, 4] + spots[j, 3]
        c = modes[i, k, 5] + blur + spots[j, 4]
        dx = spots[j, 0] - modes[i, k, 1]
        dy = spots[j, 1] - modes[i, k, 2]
        det = a * c - b * b
        square = c * dx * dx - 2.0 * b * dx * dy + a * dy * dy
        if square < FAR * det:
            root = 1.0 / math.sqrt(det)
            total += modes[i, k, 0] * math.exp(-0.5 * square * root * root) * root
    ratio = p_seen * total / ((1.0 - p_seen) * density * TWO_PI)
    if ratio <= 0.0:
        return math.inf
    return -math.log(ratio)


@kernel
def condition(modes: F8, i: int, spots: F8, j: int, D_um2_s: F8, exposure_s: float) -> None:
    """Kalman update of track i's modes with the blurred position of spot j (SCIENCE 7).

    y = x + a + e, x' = x + b over the exposure t: Var a = 2Dt/3, Cov(a, b) = Dt, Var b = 2Dt.
    """
    total = 0.0
    for k in range(modes.shape[1]):
        t = 2.0 * D_um2_s[k] * exposure_s
        pxx = modes[i, k, 3]
        pxy = modes[i, k, 4]
        pyy = modes[i, k, 5]
        sxx = pxx + t / 3.0 + spots[j, 2]
        sxy = pxy + spots[j, 3]
        syy = pyy + t / 3.0 + spots[j, 4]
        root = 1.0 / math.sqrt(sxx * syy - sxy * sxy)
        inverse = root * root
        ixx = syy * inverse
        ixy = -sxy * inverse
        iyy = sxx * inverse
        dx = spots[j, 0] - modes[i, k, 1]
        dy = spots[j, 1] - modes[i, k, 2]
        half = 0.5 * (ixx * dx * dx + 2.0 * ixy * dx * dy + iyy * dy * dy)
        cxx = pxx + 0.5 * t
        cyy = pyy + 0.5 * t
        gxx = cxx * ixx + pxy * ixy
        gxy = cxx * ixy + pxy * iyy
        gyx = pxy * ixx + cyy * ixy
        gyy = pxy * ixy + cyy * iyy
        w = modes[i, k, 0] * math.exp(-min(half, 700.0)) * root
        total += w
        modes[i, k, 0] = w
        modes[i, k, 1] += gxx * dx + gxy * dy
        modes[i, k, 2] += gyx * dx + gyy * dy
        modes[i, k, 3] = pxx + t - (gxx * cxx + gxy * pxy)
        modes[i, k, 4] = pxy - (gxx * pxy + gxy * cyy)
        modes[i, k, 5] = pyy + t - (gyx * pxy + gyy * cyy)
    for k in range(modes.shape[1]):
        modes[i, k, 0] = max(modes[i, k, 0] / total, LEAST_WEIGHT)


@kernel
def count_switches(
    bank: Bank, i: int, predicted: F8, transition: F8, p_link: float, counts: F8
) -> None:
    """Add the expected switches of track i's last step to `counts`, weighted by its link.

    P(j then k | y) = w_j T_jk w'_k / w_k, with w_k predicted and w'_k updated.
    """
    n_modes = transition.shape[0]
    for k in range(n_modes):
        share = p_link * bank.modes[i, k, 0] / predicted[k, 0]
        for j in range(n_modes):
            counts[j, k] += share * bank.before[i, j] * transition[j, k]


@kernel
def follow(
    bank: Bank, i: int, spots: F8, j: int, motion: Motion, elapsed: Elapsed, scratch: F8
) -> None:
    """Update track i with spot j; `scratch` keeps the predicted mode probabilities."""
    for k in range(motion.D_um2_s.shape[0]):
        scratch[k, 0] = bank.modes[i, k, 0]
    condition(bank.modes, i, spots, j, motion.D_um2_s, elapsed.exposure_s)
    bank.life[i, 0] = 1.0
    bank.life[i, 1] = 0.0
    bank.n_spots[i] += 1


@kernel
def believe(bank: Bank, i: int, cost: float) -> None:
    """Track i was found where it was looked for: it shines with the odds of that link, no more.

    `cost` is that of the link: exp(-cost) are the odds.
    """
    dark = 1.0 / (1.0 + math.exp(min(-cost, 700.0)))
    rest = max(1.0 - bank.life[i, 0], 1e-12)
    bank.life[i, 1] *= dark / rest
    bank.life[i, 0] = 1.0 - dark


@kernel
def foresee(
    bank: Bank, n_live: int, motion: Motion, exposure_s: float, modes: F8, p_on: F8, blur: F8
) -> None:
    """Fill what the tracks, carried to the start of this exposure, expect to be seen in it."""
    for i in range(n_live):
        ln_D = 0.0
        for k in range(motion.D_um2_s.shape[0]):
            more = 2.0 * motion.D_um2_s[k] * exposure_s / 3.0
            for f in range(6):
                modes[i, k, f] = bank.modes[i, k, f]
            modes[i, k, 3] += more
            modes[i, k, 5] += more
            ln_D += bank.modes[i, k, 0] * math.log(motion.D_um2_s[k])
        p_on[i] = bank.life[i, 0]
        blur[i] = math.exp(ln_D) * exposure_s / 3.0


@kernel
def miss(bank: Bank, i: int, motion: Motion, exposure_s: float) -> None:
    """Track i was looked for and not found: less likely to be on, and blurred by the exposure."""
    spread(bank.modes, i, motion.D_um2_s, exposure_s)
    on = bank.life[i, 0]
    unseen = 1.0 - on * motion.p_detect
    bank.life[i, 0] = on * (1.0 - motion.p_detect) / unseen
    bank.life[i, 1] = bank.life[i, 1] / unseen


@kernel
def bear(
    bank: Bank, i: int, spots: F8, j: int, track_id: int, motion: Motion, exposure_s: float
) -> None:
    """Begin track i at spot j; given the blurred mean, the exposure's end has variance 2Dt/3."""
    for k in range(motion.D_um2_s.shape[0]):
        more = 2.0 * motion.D_um2_s[k] * exposure_s / 3.0
        bank.modes[i, k, 0] = motion.occupancy[k]
        bank.modes[i, k, 1] = spots[j, 0]
        bank.modes[i, k, 2] = spots[j, 1]
        bank.modes[i, k, 3] = spots[j, 2] + more
        bank.modes[i, k, 4] = spots[j, 3]
        bank.modes[i, k, 5] = spots[j, 4] + more
    bank.track_id[i] = track_id
    bank.n_spots[i] = 1
    bank.life[i, 0] = motion.p_real
    bank.life[i, 1] = 0.0
