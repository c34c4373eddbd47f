"""Heads and tails of the fixed lag against one joint normal and a forward filter, in numpy."""

import numpy as np
from scipy.stats import multivariate_normal

from livespt.link import Linker, tail_kernels
from livespt.link.bank import new_edges, new_tails
from livespt.sections import LinkConfig
from livespt.types import SPOT_DTYPE, Spots

D_UM2_S = 0.4
INTERVAL_S, EXPOSURE_S = 0.02, 0.015
SD_UM = 0.03


def a_linker(rng, n=12, n_frames=7):
    """Link a small crowd, some of it missed, some of it strays; return the linker."""
    linker = Linker(INTERVAL_S, field_um=(4, 4), overrides=LinkConfig(D_um2_s=[D_UM2_S], lag=2))
    at = rng.uniform(0, 4, (n, 2))
    for frame in range(n_frames):
        at = at + rng.normal(size=at.shape) * np.sqrt(2 * D_UM2_S * INTERVAL_S)
        seen = np.concatenate([at[rng.random(n) < 0.75], rng.uniform(0, 4, (2, 2))])
        table = np.zeros(len(seen), SPOT_DTYPE)
        table["x_um"], table["y_um"] = seen.T
        table["var_x_um2"] = table["var_y_um2"] = SD_UM**2
        linker.step(Spots(frame, frame * INTERVAL_S, EXPOSURE_S, 1.0, table))
    return linker


def forward(life, motion, seen):
    """Return ln p of seen and not seen, by the forward filter of (on, off, gone)."""
    stay = 1 - motion.p_bleach
    chain = np.array(
        [
            [stay * (1 - motion.p_off), stay * motion.p_off, 1 - stay],
            [stay * motion.p_on, stay * (1 - motion.p_on), 1 - stay],
            [0, 0, 1],
        ]
    )
    belief, ln = np.array([*life, 1 - sum(life)]), 0.0
    for hit in seen:
        found = np.array([motion.p_detect, 0, 0])
        belief = (belief @ chain) * (found if hit else 1 - found)
        ln += np.log(belief.sum())
        belief /= belief.sum()
    return ln


def places(mean, var, spots, start_s):
    """Return ln of the joint density of a tail's positions, `start_s` after a known state."""
    mean_s = start_s + EXPOSURE_S / 2
    together = np.minimum.outer(mean_s, mean_s)
    np.fill_diagonal(together, start_s + EXPOSURE_S / 3)
    ln = 0.0
    for axis in range(2):
        cov = var[axis] + 2 * D_UM2_S * together + SD_UM**2 * np.eye(len(spots))
        ln += multivariate_normal.logpdf(spots[:, axis], np.full(len(spots), mean[axis]), cov)
    return ln


def naive_cost(state, life, motion, spots, when):
    """-ln of the ratio in `tail_kernels`; `when` are the tail's frames in a window of three."""
    gap_s = INTERVAL_S - EXPOSURE_S
    hits = [w in when for w in range(3)]
    start_s = gap_s + INTERVAL_S * np.array(when)
    held = places(state[1:3], state[[3, 5]], spots, start_s) + forward(life, motion, hits)
    new = np.log(motion.density_um2)
    after = hits[when[0] + 1 :]
    new += forward((motion.p_real, 0.0), motion, after)
    if len(when) > 1:
        born = np.full(2, SD_UM**2 + 2 * D_UM2_S * EXPOSURE_S / 3)
        later_s = gap_s + INTERVAL_S * (np.array(when[1:]) - when[0] - 1)
        new += places(spots[0], born, spots[1:], later_s)
    return -(held - new - forward(life, motion, [False] * 3))


def test_a_whole_tail_is_weighed_as_one_joint_normal(rng):
    checked = 0
    for _ in range(6):
        linker = a_linker(rng)
        past, motion, now = linker._ring.past, linker.motion, linker._slot
        slots = (now - np.arange(3, -1, -1)) % 4
        base, heads = past.n[slots[0], 3], slots[0] * linker._ring.size.n_most
        n_heads = past.n[slots[0], 0]
        n_tails = n_heads + linker._next_id - base
        tails, edges = new_tails(n_tails, 4), new_edges(n_tails, 4000)
        tail_kernels.gather(past, slots, base, n_tails, tails)
        room = np.zeros((2, 1, 6)), np.zeros((2, 3)), np.zeros((1, 6)), np.zeros((1, 2))
        start_of = np.zeros(len(past.number), int)
        tail_kernels.weigh(past, slots, motion, n_tails, tails, start_of, edges, *room)
        for h in range(n_heads):
            for e in range(edges.start[h], edges.start[h + 1]):
                where = tails.spot[edges.spot[e], :3]
                when = np.flatnonzero(where >= 0).tolist()
                state, life = past.modes[heads + h, 0], past.life[heads + h, :2]
                want = naive_cost(state, life, motion, past.spots[where[when], :2], when)
                np.testing.assert_allclose(edges.cost[e], want, rtol=1e-9, atol=1e-9)
                checked += 1
    assert checked > 50
