"""Kernels of one track's motion. The equations stand in `livespt.link.linker`.

Symbols: ``modes[i, k] = (w, x, y, pxx, pxy, pyy)`` as in `livespt.link.bank`;
``spots[j] = (x, y, vxx, vxy, vyy, false)``: the last is the density of false spots of a guided
row, 0 for one that was found blind.
"""

import math

from livespt.jit import inlined, kernel
from livespt.link.bank import F8, Bank, Motion

TWO_PI = 2.0 * math.pi
#: No mode dies for good.
LEAST_WEIGHT = 1e-12
#: No track is sure to shine before it was seen.
MOST_ON = 1.0 - 1e-6


@inlined
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


@inlined
def spread(modes: F8, i: int, D_um2_s: F8, time_s: float) -> None:
    """Let track i diffuse unseen for `time_s`: P + 2 D t."""
    for k in range(modes.shape[1]):
        more = 2.0 * D_um2_s[k] * time_s
        modes[i, k, 3] += more
        modes[i, k, 5] += more


@inlined
def live_on(life: F8, i: int, p_off: float, p_on: float, p_bleach: float, n_steps: int) -> None:
    """Blink and bleach for `n_steps` frame intervals in which nobody looked."""
    on = life[i, 0]
    off = life[i, 1]
    stay = 1.0 - p_bleach
    for _ in range(n_steps):
        lit = stay * (on * (1.0 - p_off) + off * p_on)
        off = stay * (off * (1.0 - p_on) + on * p_off)
        on = lit
    life[i, 0] = on
    life[i, 1] = off


@inlined
def ratio_of(
    modes: F8, i: int, spots: F8, j: int, D_um2_s: F8, exposure_s: float, odds: float,
    odds_lit: float, far: F8,
) -> float:  # fmt: skip
    """Likelihood ratio: spot j continues track i, against a miss and a new spot.

    `odds` are p_seen / ((1 - p_seen) density) of a blind row. For a guided row: the molecule is
    there, against a dark one and a false spot; `odds_lit` are p_on / (1 - p_on). Mode k is left
    out at squared distances beyond ``far[k, 0]``, where it cannot matter.
    """
    total = 0.0
    for k in range(modes.shape[1]):
        dx = spots[j, 0] - modes[i, k, 1]
        dy = spots[j, 1] - modes[i, k, 2]
        if dx * dx + dy * dy > far[k, 0]:
            continue
        blur = 2.0 * D_um2_s[k] * exposure_s / 3.0
        a = modes[i, k, 3] + blur + spots[j, 2]
        b = modes[i, k, 4] + spots[j, 3]
        c = modes[i, k, 5] + blur + spots[j, 4]
        inverse = 1.0 / (a * c - b * b)
        square = (c * dx * dx - 2.0 * b * dx * dy + a * dy * dy) * inverse
        total += modes[i, k, 0] * math.exp(-0.5 * square) * math.sqrt(inverse)
    if spots[j, 5] > 0.0:
        odds = odds_lit / spots[j, 5]
    return odds * total / TWO_PI


@inlined
def odds_of(on: float, p_detect: float) -> tuple[float, float]:
    """Return the odds that a molecule is seen blind, and that it shines."""
    p_seen = on * p_detect
    lit = min(on, MOST_ON)
    return p_seen / (1.0 - p_seen), lit / (1.0 - lit)


@inlined
def condition(modes: F8, i: int, spots: F8, j: int, D_um2_s: F8, exposure_s: float) -> float:
    """Kalman update of track i's modes with the blurred position of spot j (SCIENCE 7).

    Returns the spot's density under the modes before, times 2 pi (1/um2).

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
    return total


@inlined
def believe(life: F8, i: int, cost: float) -> None:
    """Track i was found where it was looked for: it shines with the odds of that link, no more.

    `cost` is that of the link: exp(-cost) are the odds.
    """
    dark = 1.0 / (1.0 + math.exp(min(-cost, 700.0)))
    rest = max(1.0 - life[i, 0], 1e-12)
    life[i, 1] *= dark / rest
    life[i, 0] = 1.0 - dark


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


@inlined
def miss(modes: F8, life: F8, i: int, D_um2_s: F8, p_detect: float, exposure_s: float) -> None:
    """Track i was looked for and not found: less likely to be on, and blurred by the exposure."""
    spread(modes, i, D_um2_s, exposure_s)
    pass_over(life, i, p_detect)


@inlined
def pass_over(life: F8, i: int, p_detect: float) -> None:
    """Track i was looked for and not found: it is less likely to be on."""
    on = life[i, 0]
    unseen = 1.0 - on * p_detect
    life[i, 0] = on * (1.0 - p_detect) / unseen
    life[i, 1] = life[i, 1] / unseen


@inlined
def bear(
    modes: F8, i: int, spots: F8, j: int, D_um2_s: F8, occupancy: F8, exposure_s: float
) -> None:
    """Begin track i at spot j; given the blurred mean, the exposure's end has variance 2Dt/3."""
    for k in range(D_um2_s.shape[0]):
        more = 2.0 * D_um2_s[k] * exposure_s / 3.0
        modes[i, k, 0] = occupancy[k]
        modes[i, k, 1] = spots[j, 0]
        modes[i, k, 2] = spots[j, 1]
        modes[i, k, 3] = spots[j, 2] + more
        modes[i, k, 4] = spots[j, 3]
        modes[i, k, 5] = spots[j, 4] + more
