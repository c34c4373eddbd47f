"""The linker's kernels against plain numpy written from joint normals and brute force."""

import itertools

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.stats import multivariate_normal

from livespt.link import assign_kernels, kernels, learn_kernels, marginal_kernels
from livespt.link import beside_kernels as beside
from livespt.link import graph_kernels as graph
from livespt.link import motion_kernels as track
from livespt.link.bank import Elapsed, Motion, new_edges, new_parts, new_search
from livespt.link.learn import Learner, even_switching
from livespt.link.propose_kernels import propose
from livespt.link.ring import Ring
from livespt.sections import LinkConfig
from livespt.types import SPOT_DTYPE

D_UM2_S = np.array([0.02, 0.4, 3.0])
EXPOSURE_S = 0.015


def a_motion(density_um2=0.1, **changes):
    """Three modes and unhurried photophysics."""
    motion = Motion(
        D_um2_s=D_UM2_S,
        transition=even_switching(3, 0.2),
        occupancy=np.array([0.5, 0.3, 0.2]),
        p_detect=0.9,
        p_off=0.05,
        p_on=0.2,
        p_bleach=0.02,
        p_real=0.7,
        density_um2=density_um2,
    )
    return motion._replace(**changes)


def a_covariance(rng, scale):
    root = rng.normal(size=(2, 2)) * scale
    return root @ root.T + 0.1 * scale**2 * np.eye(2)


def a_bank(rng, n_tracks, extent_um=2.0):
    """Random tracks, each mode with its own mean and tilted covariance."""
    bank = Ring(1, 3, 2 * n_tracks + 8).banks[0]
    for i in range(n_tracks):
        centre = rng.uniform(0, extent_um, 2)
        bank.modes[i, :, 0] = rng.dirichlet(np.ones(3))
        for k in range(3):
            p = a_covariance(rng, 0.05)
            bank.modes[i, k, 1:3] = centre + 0.02 * rng.normal(size=2)
            bank.modes[i, k, 3:] = p[0, 0], p[0, 1], p[1, 1]
        bank.life[i, :2] = rng.dirichlet(np.ones(3))[:2]
        bank.track_id[i] = 100 + i
    return bank


def a_search(raw):
    """Spots as they come out of `load`."""
    search = new_search(raw.shape[1] + 3)
    search.raw[:, : raw.shape[1]] = raw
    search.row[:] = np.arange(len(search.row))
    return search


def a_sheet(rng, n_spots, extent_um=2.0):
    """Random spots with tilted covariances, laid out."""
    raw = np.zeros((6, n_spots))
    for j in range(n_spots):
        v = a_covariance(rng, 0.03)
        raw[:2, j] = rng.uniform(0, extent_um, 2)
        raw[2:5, j] = v[0, 0], v[0, 1], v[1, 1]
    sheet = Ring(1, 3, n_spots + 3).sheets[0]
    if n_spots:
        graph.lay_out(n_spots, a_search(raw), sheet)
    return raw, sheet


def matrix(xx, xy, yy):
    return np.array([[xx, xy], [xy, yy]])


def naive_cost(bank, i, spot, motion):
    """-ln [p sum w N / (density (1 - p))], with scipy's normal density."""
    total = 0.0
    for (w, x, y, *p), d in zip(bank.modes[i], motion.D_um2_s, strict=True):
        s = matrix(*p) + 2 * d * EXPOSURE_S / 3 * np.eye(2) + matrix(*spot[2:5])
        total += w * multivariate_normal.pdf(spot[:2], (x, y), s)
    p = bank.life[i, 0] * motion.p_detect
    with np.errstate(divide="ignore"):
        return -np.log(p * total / (motion.density_um2 * (1 - p)))


def naive_costs(bank, n_live, sheet, n, motion):
    return np.array(
        [[naive_cost(bank, i, sheet.spots[j], motion) for j in range(n)] for i in range(n_live)]
    ).reshape(n_live, n)


def dense_costs(edges, n_live, n):
    cost = np.zeros((n_live, n))
    for i in range(n_live):
        for e in range(edges.start[i], edges.start[i + 1]):
            cost[i, edges.spot[e]] = edges.cost[e]
    return cost


def test_mixing_keeps_the_moments_of_the_mixture(rng):
    bank, motion = a_bank(rng, 1), a_motion()
    before = bank.modes[0].copy()
    track.switch(bank.modes, 0, motion.transition, np.zeros((3, 6)))
    for k in range(3):
        weight = before[:, 0] * motion.transition[:, k]
        share = weight / weight.sum()
        mean = share @ before[:, 1:3]
        apart = before[:, 1:3] - mean
        second = sum(
            a * (matrix(*m[3:]) + np.outer(u, u))
            for a, m, u in zip(share, before, apart, strict=True)
        )
        np.testing.assert_allclose(bank.modes[0, k, 0], weight.sum(), rtol=1e-13)
        np.testing.assert_allclose(bank.modes[0, k, 1:3], mean, rtol=1e-13)
        np.testing.assert_allclose(matrix(*bank.modes[0, k, 3:]), second, rtol=1e-11)


def test_conditioning_is_that_of_the_joint_normal(rng):
    """Twin: build Cov of (position after, blurred spot) from the path's covariance, condition."""
    bank, motion = a_bank(rng, 1), a_motion()
    _, sheet = a_sheet(rng, 1)
    sheet.spots[0, :2] = bank.modes[0, 0, 1:3] + 0.1
    before, spot = bank.modes[0].copy(), sheet.spots[0]
    steps = 4000  # mean of the path by quadrature: error of order 1 / steps
    time = (np.arange(steps) + 0.5) / steps * EXPOSURE_S
    weight = []
    track.condition(bank.modes, 0, sheet.spots, 0, motion.D_um2_s, EXPOSURE_S)
    for k, d in enumerate(motion.D_um2_s):
        # Cov(W_s, W_t) = min(s, t): its mean over both times, and the mean of t
        mean_min = np.mean(time * (1 - time / EXPOSURE_S / 2))
        p = matrix(*before[k, 3:])
        s = p + 2 * d * mean_min * np.eye(2) + matrix(*spot[2:5])
        cross = p + 2 * d * time.mean() * np.eye(2)
        after = p + 2 * d * EXPOSURE_S * np.eye(2)
        gain = cross @ np.linalg.inv(s)
        mean = before[k, 1:3] + gain @ (spot[:2] - before[k, 1:3])
        np.testing.assert_allclose(bank.modes[0, k, 1:3], mean, rtol=1e-6)
        np.testing.assert_allclose(
            matrix(*bank.modes[0, k, 3:]), after - gain @ cross.T, rtol=1e-5, atol=1e-9
        )
        weight.append(before[k, 0] * multivariate_normal.pdf(spot[:2], before[k, 1:3], s))
    np.testing.assert_allclose(bank.modes[0, :, 0], np.array(weight) / sum(weight), rtol=1e-5)


def test_a_newborn_track_is_the_update_of_a_flat_prior(rng):
    bank, motion = a_bank(rng, 1), a_motion()
    _, sheet = a_sheet(rng, 1)
    bank.modes[0, :, 0] = motion.occupancy
    bank.modes[0, :, 1:] = 0.0, 0.0, 1e8, 0.0, 1e8
    track.condition(bank.modes, 0, sheet.spots, 0, motion.D_um2_s, EXPOSURE_S)
    track.bear(bank.modes, 1, sheet.spots, 0, motion.D_um2_s, motion.occupancy, EXPOSURE_S)
    # 1e8 um2 stands for flat: digits lost in P + t - G S G^T are of order 1e8 * 2e-16
    np.testing.assert_allclose(bank.modes[1], bank.modes[0], rtol=1e-6, atol=2e-7)


def scratch(n_tracks, n_modes=3):
    return Ring(1, n_modes, n_tracks + 8).beside


def test_a_gap_of_n_frames_is_n_steps(rng):
    motion = a_motion()
    one, many = a_bank(rng, 2), a_bank(rng, 2)
    many.modes[:], many.life[:] = one.modes, one.life
    beside.predict(one, 2, motion, Elapsed(3, 0.02, 3, EXPOSURE_S), scratch(2))
    for _ in range(3):
        beside.predict(many, 2, motion, Elapsed(1, 0.02, 1, EXPOSURE_S), scratch(2))
    np.testing.assert_array_equal(one.modes, many.modes)
    np.testing.assert_array_equal(one.life, many.life)


@pytest.mark.parametrize("n_tracks", [1, 8, 21])
def test_eight_tracks_side_by_side_step_like_each_alone(rng, n_tracks):
    motion, elapsed = a_motion(), Elapsed(2, 0.02, 2, EXPOSURE_S)
    bank = a_bank(rng, n_tracks)
    modes, life = bank.modes.copy(), bank.life.copy()
    for i in range(n_tracks):
        for _ in range(elapsed.n_walk):
            track.switch(modes, i, motion.transition, np.zeros((3, 6)))
            track.spread(modes, i, motion.D_um2_s, elapsed.piece_s)
        track.live_on(life, i, motion.p_off, motion.p_on, motion.p_bleach, elapsed.n_life)
    weights = bank.modes[:n_tracks, :, 0].copy()
    beside.predict(bank, n_tracks, motion, elapsed, scratch(n_tracks))
    np.testing.assert_allclose(bank.modes, modes, rtol=1e-12)
    np.testing.assert_allclose(bank.life, life, rtol=1e-13)
    np.testing.assert_array_equal(bank.before[:n_tracks], weights)


@pytest.mark.parametrize(("n_tracks", "n_walk"), [(3, 1), (150, 1), (20, 2)])
def test_eight_tracks_take_their_spots_like_each_alone(rng, n_tracks, n_walk):
    """Some go without, some take a guided row; switches are counted one track at a time."""
    motion, elapsed = a_motion(), Elapsed(n_walk, 0.02, n_walk, EXPOSURE_S)
    bank = a_bank(rng, n_tracks)
    _, sheet = a_sheet(rng, n_tracks)
    sheet.spots[:n_tracks, 5] = rng.random(n_tracks) < 0.2
    bank.before[:n_tracks] = rng.dirichlet(np.ones(3), n_tracks)
    bank.spot[:n_tracks] = np.where(rng.random(n_tracks) < 0.3, -1, rng.permutation(n_tracks))
    p, modes = rng.random(n_tracks), bank.modes.copy()
    want, got = np.zeros((3, 3)), np.zeros((3, 3))
    for i, j in enumerate(bank.spot[:n_tracks]):
        if j < 0:
            track.spread(modes, i, motion.D_um2_s, EXPOSURE_S)
            continue
        predicted = modes[i, :, 0].copy()
        track.condition(modes, i, sheet.spots, j, motion.D_um2_s, EXPOSURE_S)
        if n_walk == 1 and sheet.spots[j, 5] == 0:
            share = p[j] * modes[i, :, 0] / predicted
            want += bank.before[i][:, None] * motion.transition * share
    beside.update(bank, n_tracks, motion, elapsed, sheet.spots, p, got, scratch(n_tracks))
    np.testing.assert_allclose(bank.modes, modes, rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(got, want, rtol=1e-10)


def test_existence_is_the_forward_filter_of_a_three_state_chain(rng):
    bank, motion = a_bank(rng, 1), a_motion()
    on, off, _ = bank.life[0]
    stay = 1 - motion.p_bleach
    chain = np.array(
        [
            [stay * (1 - motion.p_off), stay * motion.p_off, 1 - stay],
            [stay * motion.p_on, stay * (1 - motion.p_on), 1 - stay],
            [0, 0, 1],
        ]
    )
    want = np.array([on, off, 1 - on - off]) @ np.linalg.matrix_power(chain, 4)
    track.live_on(bank.life, 0, motion.p_off, motion.p_on, motion.p_bleach, 4)
    np.testing.assert_allclose(bank.life[0, :2], want[:2], rtol=1e-13)
    want *= 1 - motion.p_detect, 1, 1
    track.miss(bank.modes, bank.life, 0, motion.D_um2_s, motion.p_detect, EXPOSURE_S)
    np.testing.assert_allclose(bank.life[0, :2], want[:2] / want.sum(), rtol=1e-13)


@pytest.mark.parametrize(("n_tracks", "n_spots"), [(1, 1), (12, 9), (30, 21), (3, 0), (0, 4)])
@pytest.mark.parametrize("density_um2", [0.01, 3.0])
def test_the_grid_finds_every_possible_link_and_no_other(rng, n_tracks, n_spots, density_um2):
    bank, motion = a_bank(rng, n_tracks), a_motion(density_um2)
    _, sheet = a_sheet(rng, n_spots)
    edges = new_edges(len(bank.spot), 900)
    n_edges = propose(bank, n_tracks, n_spots, motion, EXPOSURE_S, sheet, edges, scratch(n_tracks))
    want = naive_costs(bank, n_tracks, sheet, n_spots, motion)
    assert n_edges == np.count_nonzero(want < 0)
    got = dense_costs(edges, n_tracks, n_spots)
    np.testing.assert_allclose(got, np.minimum(want, 0), rtol=1e-9, atol=1e-12)


def test_a_full_list_still_counts_every_link(rng):
    bank, motion = a_bank(rng, 8), a_motion(0.01)
    _, sheet = a_sheet(rng, 8)
    large, small = new_edges(len(bank.spot), 400), new_edges(len(bank.spot), 3)
    args, room = (bank, 8, 8, motion, EXPOSURE_S, sheet), scratch(8)
    assert propose(*args, small, room) == propose(*args, large, room) > 3
    np.testing.assert_array_equal(small.cost, large.cost[:3])


def random_edges(rng, n_live, n, fill):
    """Random links of random cost."""
    edges = new_edges(n_live, n_live * n)
    count = 0
    for i in range(n_live):
        for j in np.flatnonzero(rng.random(n) < fill):
            edges.spot[count], edges.cost[count] = j, -rng.exponential(3.0)
            count += 1
        edges.start[i + 1] = count
    edges.ratio[:] = np.exp(-edges.cost)
    return edges


@pytest.mark.parametrize("fill", [0.02, 0.1, 0.3, 0.8])
def test_the_links_chosen_are_the_cheapest_set(rng, fill):
    """The oracle is scipy's dense solver; a track that it gives a cost of 0 stays alone."""
    for most in [9] * 40 + [120] * 3:
        n_live, n = rng.integers(1, most, 2)
        edges, search = random_edges(rng, n_live, n, fill), new_search(n)
        if rng.random() < 0.3:
            edges.cost[:] = np.round(edges.cost)  # ties
        chosen, paid, owner = np.zeros(n_live, int), np.zeros(n_live), np.zeros(n, int)
        assign_kernels.choose(n_live, n, edges, chosen, paid, owner, search)
        cost = dense_costs(edges, n_live, n)
        linked = chosen >= 0
        assert len(set(chosen[linked])) == linked.sum()
        np.testing.assert_array_equal(owner[chosen[linked]], np.flatnonzero(linked))
        assert (owner >= 0).sum() == linked.sum()
        np.testing.assert_array_equal(paid[linked], cost[linked, chosen[linked]])
        best = cost[linear_sum_assignment(cost)].sum()
        np.testing.assert_allclose(paid[linked].sum(), best, rtol=1e-12)
        assert np.isinf(search.distance).all()  # left as it was found


def naive_marginals(cost):
    """Probabilities by enumeration of every set of links: p[i, j], and p[:, none]."""
    n_live, n = cost.shape
    p = np.zeros((n_live, n + 1))
    for choice in itertools.product(range(n + 1), repeat=n_live):
        taken = [j for j in choice if j < n]
        if len(set(taken)) == len(taken):
            terms = [cost[i, j] for i, j in enumerate(choice) if j < n]
            if all(t < 0 for t in terms):
                p[range(n_live), choice] += np.exp(-sum(terms))
    return p / p.sum(1, keepdims=True)


def marginal_of(edges, i, j):
    return marginal_kernels.marginal_of(edges.start, edges.spot, edges.p, i, j)


def assert_marginals(edges, n_live, n, atol):
    p_alone = np.zeros(n)
    parts = new_parts(max(n_live, n), len(edges.spot))
    marginal_kernels.marginals(n_live, n, edges, p_alone, parts)
    want = naive_marginals(dense_costs(edges, n_live, n))
    for i in range(n_live):
        for e in range(edges.start[i], edges.start[i + 1]):
            j = edges.spot[e]
            np.testing.assert_allclose(marginal_of(edges, i, j), want[i, j], atol=atol)
    np.testing.assert_allclose(p_alone, 1 - want[:, :-1].sum(0), atol=atol)
    return parts.done[:n_live]


def test_marginals_are_exact_on_a_tree_of_links():
    """Three tracks and three spots in a chain: 0-0-1-1-2-2."""
    edges = new_edges(3, 5)
    edges.start[:] = 0, 1, 3, 5
    edges.spot[:] = 0, 0, 1, 1, 2
    edges.cost[:] = -1.0, -2.5, -2.0, -3.0, -0.5
    edges.ratio[:] = np.exp(-edges.cost)
    assert_marginals(edges, 3, 3, 1e-12)


@pytest.mark.parametrize("fill", [0.15, 0.4, 0.7])
def test_marginals_are_exact_where_links_form_loops(rng, fill):
    """Against every set of links; no part of five spots is too large to be summed."""
    for _ in range(10):
        edges = random_edges(rng, 4, 5, fill)
        done = assert_marginals(edges, 4, 5, 1e-12)
        assert (done[np.diff(edges.start) > 0] == marginal_kernels.SOLVED).all()


def test_marginals_are_close_where_a_part_is_too_large_to_be_summed(rng):
    """Messages are an approximation: a tenth at most in small dense crowds."""
    for _ in range(3):
        edges = random_edges(rng, 4, 8, 1.0)
        done = assert_marginals(edges, 4, 8, 0.1)
        assert (done == marginal_kernels.LOOPED).all()


def test_marginals_of_a_long_part_add_up(rng):
    """Forty tracks in a chain with rungs: one part, each track and spot at most once."""
    edges = new_edges(40, 120)
    for i in range(40):
        spots = [j for j in (i - 1, i, i + 1) if 0 <= j < 40]
        edges.start[i + 1] = edges.start[i] + len(spots)
        edges.spot[edges.start[i] : edges.start[i + 1]] = spots
    edges.ratio[:] = 10 ** rng.uniform(0, 7, 120)
    p_alone, parts = np.zeros(40), new_parts(40, 120)
    marginal_kernels.marginals(40, 40, edges, p_alone, parts)
    assert (parts.done == marginal_kernels.SOLVED).all()
    taken = np.zeros(40)
    for i in range(40):
        mine = slice(edges.start[i], edges.start[i + 1])
        assert 0 <= edges.p[mine].sum() <= 1 + 1e-12
        taken[edges.spot[mine]] += edges.p[mine]
    np.testing.assert_allclose(p_alone, 1 - taken, atol=1e-12)


def test_the_layout_forgets_the_order_of_the_rows(rng):
    raw, sheet = a_sheet(rng, 30)
    shuffled, other = raw[:, rng.permutation(30)], Ring(1, 3, 33).sheets[0]
    graph.lay_out(30, a_search(shuffled), other)
    np.testing.assert_array_equal(sheet.spots[:30], other.spots[:30])
    np.testing.assert_array_equal(raw[0, sheet.row[:30]], sheet.spots[:30, 0])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("x_um", np.nan),
        ("y_um", np.inf),
        ("var_x_um2", 0.0),
        ("var_y_um2", -1.0),
        ("cov_xy_um2", 0.5),
        ("false_um2", np.nan),
    ],
)
def test_rows_that_are_ok_are_loaded_and_the_first_bad_one_is_named(rng, field, value):
    table = np.zeros(7, SPOT_DTYPE)
    for name in SPOT_DTYPE.names[:-2]:
        table[name] = rng.random(7)
    table["cov_xy_um2"] *= 0.01 * np.sqrt(table["var_x_um2"] * table["var_y_um2"])
    table["status"][[1, 4]] = 3
    search = new_search(7)
    assert load(table, search) == (5, -1)
    kept = [0, 2, 3, 5, 6]
    assert search.row[:5].tolist() == kept
    names = ("x_um", "y_um", "var_x_um2", "cov_xy_um2", "var_y_um2", "false_um2")
    for column, name in zip(search.raw, names, strict=True):
        np.testing.assert_array_equal(column[:5], table[name][kept])
    table[field][[4, 5, 6]] = value  # row 4 is not OK: nobody looks at it
    assert load(table, search)[1] == 5


def load(table, search):
    return tuple(int(n) for n in graph.load(table, search))


def test_the_dead_are_dropped_and_the_rest_keep_their_order(rng):
    bank = a_bank(rng, 6)
    bank.life[[1, 3], :2] = 0.01, 0.02
    bank.life[5, :2] = -1.0, 0.0  # never was: nobody is told
    modes = bank.modes.copy()
    ended = np.zeros(6, np.int64)
    assert kernels.bury(bank.modes, bank.life, bank.track_id, 6, ended) == (3, 2)
    assert ended[:2].tolist() == [101, 103]
    assert bank.track_id[:3].tolist() == [100, 102, 104]
    np.testing.assert_array_equal(bank.modes[:3], modes[[0, 2, 4]])


def naive_refresh(prior, counts, steps):
    """Forget a share of the counts; return them, the transition matrix and the occupancy."""
    at = learn_kernels
    news = max(counts.sum() - steps, 0.0)
    counts = counts * (1 - min(at.REFRESH * at.FORGET_MOTION, news / at.MEMORY_STEPS))
    both = prior + counts
    transition = np.maximum(both / both.sum(1, keepdims=True), at.LEAST_P)
    occupancy = at.PRIOR_STEPS + counts.sum(1)
    transition /= transition.sum(1, keepdims=True)
    return counts, transition, occupancy / occupancy.sum()


def test_switching_is_refreshed_from_the_counts(rng):
    learned = Learner(LinkConfig(D_um2_s=list(D_UM2_S)), None).learned
    learned.counts[:] = 50 * rng.random((3, 3))
    counts, transition, occupancy = naive_refresh(learned.prior, learned.counts.copy(), 0.0)
    learn_kernels.refresh(learned)
    np.testing.assert_allclose(learned.counts, counts, rtol=1e-13)
    np.testing.assert_allclose(learned.transition, transition, rtol=1e-13)
    np.testing.assert_allclose(learned.occupancy, occupancy, rtol=1e-13)


def test_the_parts_of_a_block_do_not_overlap():
    """Each part is numbered in its own way; none may have lost its number to another."""
    ring = Ring(3, 3, 20, 40)
    groups = [*ring.past, *ring.edges, *ring.search, *ring.parts, *ring.beside]
    groups += [ring.banks[0].before, ring.banks[0].spot, ring.banks[0].cost]
    groups += [ring.sheets[0].owner, ring.sheets[0].p]
    for number, part in enumerate(groups):
        part[...] = number
    for number, part in enumerate(groups):
        assert (part == number).all()
    learned = Learner(LinkConfig(D_um2_s=list(D_UM2_S)), None).learned
    for number, part in enumerate(learned):
        part[...] = number
    assert all((part == number).all() for number, part in enumerate(learned))
