"""The simulator's kernels against plain twins: Python integers, numpy, scipy.

Sizes are small, so that all of it also runs with NUMBA_DISABLE_JIT=1.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from livespt_sim import motionkernels, opticskernels, photophysicskernels, readoutkernels
from livespt_sim import randomkernels as random
from livespt_sim.optics import Optics, gaussian, inverse_table, poisson_cdf

N = 4000
WORD = 2**64


@pytest.fixture(autouse=True)
def _counters_wrap():
    with np.errstate(over="ignore"):
        yield


def state(seed):
    return np.array([seed], np.uint64)


def draw(kernel, seed, *arguments, n=N):
    s, out = np.uint64(seed), np.empty(n)
    for i in range(n):
        s, out[i] = kernel(np.uint64(s), *arguments)
    return out


def test_bits_are_splitmix64():
    def naive(s):
        s = (s + 0x9E3779B97F4A7C15) % WORD
        z = (s ^ (s >> 30)) * 0xBF58476D1CE4E5B9 % WORD
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % WORD
        return s, z ^ (z >> 31)

    s = 1234567
    assert naive(s)[1] == 6457827717110365317  # the generator's published first output
    for _ in range(50):
        got = random.bits(np.uint64(s))
        s, z = naive(s)
        assert (int(got[0]), int(got[1])) == (s, z)


def test_the_ziggurat_has_256_layers_of_one_area():
    edge, density = random.EDGE, np.exp(-0.5 * random.EDGE**2)
    areas = edge[1:256] * (density[2:257] - density[1:256])
    assert areas == pytest.approx(random.LAYER_AREA, rel=1e-9)


@pytest.mark.parametrize(
    ("kernel", "arguments", "law"),
    [
        (random.uniform, (), stats.uniform()),
        (random.exponential, (), stats.expon()),
        (random.normal, (), stats.norm()),
        (random.normal_tail, (False,), stats.truncnorm(random.TAIL, np.inf)),
        (random.gamma, (1.0,), stats.gamma(1.0)),
        (random.gamma, (5.0,), stats.gamma(5.0)),
        (random.gamma, (5.5,), stats.gamma(5.5)),
        (random.gamma, (40.0,), stats.gamma(40.0)),
    ],
)
def test_continuous_draws_follow_their_law(kernel, arguments, law):
    sample = draw(kernel, 99, *arguments)
    assert stats.kstest(sample, law.cdf).pvalue > 0.002  # fixed seed; eight cases


def test_normal_draws_reach_the_tail_on_both_sides():
    # 1 in 130 draws leaves the layers' cores; enough of them must come out right
    sample = draw(random.normal, 7, n=20_000)
    z = np.sort(sample)
    assert z[0] < -3.3
    assert z[-1] > 3.3
    assert abs(np.mean(sample**4) / 3 - 1) < 4 * np.sqrt(96 / 9 / len(sample))


@pytest.mark.parametrize("mean", [0.0, 0.3, 3.0, 9.9, 10.1, 60.0, 900.0])
def test_poisson_draws_follow_their_law(mean):
    sample = draw(random.poisson, 3, mean)
    if mean == 0.0:
        assert sample.max() == 0
        return
    assert chi_square_p(sample, stats.poisson(mean).cdf) > 0.001


@pytest.mark.parametrize("mean", [0.0, 0.4, 3.0, 40.0])
def test_the_inverse_table_draws_its_distribution(mean):
    cdf = poisson_cdf(mean)
    out = np.empty(N, np.int32)
    opticskernels.fill(out, inverse_table(cdf), cdf, state(5))
    if mean == 0.0:
        assert out.max() == 0
        return
    assert chi_square_p(out, stats.poisson(mean).cdf) > 0.001


def test_the_inverse_table_never_contradicts_a_search():
    cdf = poisson_cdf(2.5)
    guide = inverse_table(cdf)
    u = (np.arange(len(guide))[:, None] + [0.0, 0.5, 0.999999]) / len(guide)
    expected = np.searchsorted(cdf, u, side="right")
    settled = guide >= 0
    assert np.array_equal(np.broadcast_to(guide[:, None], u.shape)[settled], expected[settled])
    assert np.all(-1 - guide[~settled] <= expected[~settled].min(axis=1))


def test_photons_fall_as_the_integrated_gaussian_says():
    sigma, pixel, n = 0.13, 0.1, 6000.0
    centre = np.array([0.46, 0.37])
    lam = 0.012  # the path's spread within the sub-step widens the image by lam / 6
    image = np.zeros((9, 11), np.int32)
    landed, lit = np.zeros(1, np.int64), np.zeros(image.size, np.int64)
    at = np.append(centre, 0.0).reshape(1, 1, 3)
    n_lit = opticskernels.add_photons(
        image, at, np.full((1, 1), lam), np.full((1, 1), n), gaussian(pixel, sigma),
        state(11), landed, lit,
    )  # fmt: skip
    width = np.sqrt(sigma**2 + lam / 6)
    edges = [(np.arange(k + 1) - 0.5) * pixel for k in image.shape]
    along_y, along_x = (
        np.diff(stats.norm.cdf(e, c, width)) for e, c in zip(edges, centre[::-1], strict=True)
    )
    expected = n * np.outer(along_y, along_x)
    big = expected > 5
    chi2 = np.sum((image - expected)[big] ** 2 / expected[big])
    assert stats.chi2.sf(chi2, big.sum()) > 0.001
    assert landed[0] == image.sum()
    assert sorted(lit[:n_lit]) == np.flatnonzero(image).tolist()


def test_a_molecule_far_outside_sends_nothing():
    image = np.zeros((8, 8), np.int32)
    landed = np.ones(2, np.int64)
    mid = np.array([[[-5.0, 0.4, 0.0]], [[0.4, 9.0, 0.0]]])
    opticskernels.add_photons(
        image, mid, np.zeros((2, 1)), np.full((2, 1), 100.0), gaussian(0.1, 0.1), state(1), landed,
        np.zeros(64, np.int64),
    )  # fmt: skip
    assert image.sum() == 0
    assert landed.tolist() == [0, 0]


@pytest.mark.parametrize("x", [-7.3, -1.0, -0.2, 0.0, 0.99, 1.0, 1.4, 3.0, 26.5])
def test_folding_between_two_walls_is_a_mirror_at_each(x):
    mirrored = x
    while abs(mirrored) > 1.0:
        mirrored = (2.0 if mirrored > 0 else -2.0) - mirrored
    assert motionkernels.reflect_1d(x, 1.0) == pytest.approx(mirrored, abs=1e-12)


def test_a_circle_reflects_as_tiny_steps_do():
    rng = np.random.default_rng(4)
    for _ in range(20):
        start, step = rng.uniform(-0.6, 0.6, 2), rng.normal(0, 1.5, 2)
        y, v = start.copy(), step / 5000
        for _ in range(5000):
            y = y + v
            if np.hypot(*y) > 1.0:
                normal = y / np.hypot(*y)
                v = v - 2 * (v @ normal) * normal
                y = y / np.hypot(*y) * (2 - np.hypot(*y))
        got = motionkernels.reflect_disc(*start, *step, 1.0)
        assert got == pytest.approx(y, abs=0.01)  # the tiny steps' own error
        assert np.hypot(*got) <= 1 + 1e-12


def test_switching_spends_the_time_that_the_generator_says():
    rates = np.array([[-3.0, 2.0, 1.0], [0.5, -0.5, 0.0], [4.0, 4.0, -8.0]])
    D = np.array([0.1, 1.0, 5.0])
    exits = -np.diagonal(rates).copy()
    jump = np.cumsum(np.where(np.eye(3), 0, rates) / exits[:, None], axis=1)
    from scipy.linalg import expm

    grid = np.linspace(0, 0.5, 101)
    occupied = np.array([expm(rates * t)[0] for t in grid])  # naive: from state 0
    expected_time = np.trapezoid(occupied, grid, axis=0)
    tables = (D, np.stack([exits * 0, exits]), np.stack([jump * 0, jump]))  # outside, inside
    s, ends, lam, time_in = np.uint64(8), np.zeros(3), 0.0, np.zeros(3)
    for _ in range(N):
        s, k, v = motionkernels.switch(np.uint64(s), 0, 0.5, tables, 1, time_in)
        ends[k] += 1
        lam += v
    assert ends / N == pytest.approx(occupied[-1], abs=4 * 0.5 / np.sqrt(N))
    assert time_in / N == pytest.approx(expected_time, abs=4 * 0.25 / np.sqrt(N))
    assert lam == pytest.approx(2 * time_in @ D)


def test_blinking_and_bleaching_follow_their_rate_equations():
    from scipy.linalg import expm

    off, on, bleach = 3.0, 5.0, 2.0
    # columns: on, off, bleached; the light is on in the first of the two steps only
    light = np.array([[-off - bleach, off, bleach], [on, -on, 0], [0, 0, 0]])
    dark = np.array([[-off, off, 0], [on, -on, 0], [0, 0, 0]])
    leave = np.zeros((2, 2, 3))  # dark and lit; from; to, the last being bleached
    leave[:, 0, 1], leave[:, 1, 0], leave[1, 0, 2] = off, on, bleach
    exits = leave.sum(axis=2)
    tables = (np.array([1.0, 0.0]), exits, np.cumsum(leave / exits[..., None], axis=2))
    where, alive = np.zeros(N, np.int64), np.ones(N, bool)
    fraction = np.zeros((N, 2))
    photophysicskernels.emit(
        where, alive, np.array([0.2, 0.3]), np.array([True, False]), tables, state(12), fraction
    )
    after = expm(light * 0.2)[0] @ expm(dark * 0.3)
    assert np.mean(alive) == pytest.approx(1 - after[2], abs=4 * 0.5 / np.sqrt(N))
    assert np.mean(alive & (where == 0)) == pytest.approx(after[0], abs=4 * 0.5 / np.sqrt(N))
    grid = np.linspace(0, 0.2, 51)
    mean_on = np.trapezoid([expm(light * t)[0, 0] for t in grid], grid) / 0.2
    assert fraction[:, 0].mean() == pytest.approx(mean_on, abs=4 * 0.5 / np.sqrt(N))
    assert fraction.min() >= 0
    assert fraction.max() <= 1


def test_a_gaussian_grows_out_of_focus_and_with_the_path():
    width = opticskernels.gaussian_width
    assert width(0.0, 0.0, gaussian(0.1, 0.1, 0.5)) == pytest.approx(0.1)
    assert width(0.5, 0.0, gaussian(0.1, 0.1, 0.5)) == pytest.approx(0.1 * np.sqrt(2))
    assert width(0.5, 0.01, gaussian(0.1, 0.1)) == pytest.approx(np.sqrt(0.02))


def test_a_table_of_radii_scatters_as_it_says():
    # quantiles of r^2 = a^2 u (an even disc) of radius .2 at z = 0, .4 at z = 1
    u = np.linspace(0, 1, 4096)
    disc = Optics(0.1, 0.1, 0.0, np.sqrt(u) * np.array([[0.2], [0.4]]), 0.0, 1.0)
    for z, radius in ((-3.0, 0.2), (0.5, 0.3), (7.0, 0.4)):
        s, at = np.uint64(22), np.empty((N, 2))
        for i in range(N):
            s, at[i, 0], at[i, 1] = opticskernels.ring(np.uint64(s), z, disc)
        r = np.hypot(*at.T)
        assert stats.kstest((r / radius) ** 2, stats.uniform().cdf).pvalue > 0.005
        turn = np.arctan2(*at.T) / (2 * np.pi)
        assert stats.kstest(turn, stats.uniform(-0.5, 1.0).cdf).pvalue > 0.005


def test_an_uneven_background_has_each_pixels_own_mean():
    rate = np.repeat([0.0, 0.5, 4.0, 30.0], 1000)
    out = np.empty(rate.size, np.int32)
    opticskernels.fill_uneven(out, rate, state(4))
    for mean, part in zip((0.0, 0.5, 4.0, 30.0), np.split(out, 4), strict=True):
        assert part.mean() == pytest.approx(mean, abs=4 * np.sqrt(mean / 1000) + 1e-12)


def test_counts_are_rounded_and_clipped_as_numpy_does():
    values = [-3.0, 0.4, 0.5, 1.5, 2.5, 65534.6, 9e9]
    got = [int(readoutkernels.to_adu(v)) for v in values]
    assert got == np.clip(np.rint(values), 0, 65535).astype(int).tolist()


def test_readout_moments_are_the_cameras():
    n = np.full(N, 6, np.int32)
    out = np.empty(N, np.uint16)
    ones = np.ones(N, np.float32)
    readoutkernels.read_scmos(n, 2.2 * ones, 100 * ones, 3 * ones, state(2), out)
    assert out.mean() == pytest.approx(100 + 2.2 * 6, abs=4 * 3 / np.sqrt(N))
    assert out.var() == pytest.approx(9 + 1 / 12, rel=4 * np.sqrt(2 / N))
    for excess in (2.0, 1.5):
        readoutkernels.read_emccd(n, 50.0, excess, 10.0, 200.0, state(2), out)
        variance = 6 * 50**2 * (excess - 1) + 100
        assert out.mean() == pytest.approx(500, abs=4 * np.sqrt(variance / N))
        assert out.var() == pytest.approx(variance, rel=0.12)


def chi_square_p(sample, cdf):
    """p of a chi-square test of integers against their distribution, cells of >= 20."""
    edges = [-0.5]
    for k in range(int(sample.max()) + 1):
        if len(sample) * (cdf(k) - cdf(edges[-1])) >= 20:
            edges.append(k + 0.5)
    edges[-1] = np.inf
    seen = np.histogram(sample, edges)[0]
    below = np.array([0.0, *(cdf(e) for e in edges[1:])])
    expected = len(sample) * np.diff(below)
    return stats.chisquare(seen, expected * seen.sum() / expected.sum()).pvalue
