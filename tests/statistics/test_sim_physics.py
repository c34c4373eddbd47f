"""The simulated specimen obeys the physics it claims. Seeds are fixed, tolerances about 4 s.d."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from livespt.config import ConfigError
from livespt_sim import motion, motionkernels
from livespt_sim.optics import vectorial
from livespt_sim.options import resolve
from livespt_sim.scenes import SCENES
from livespt_sim.world import World

DT, TE = 0.02, 0.012


def walk(chain, room, n, n_frames, exposure_s=TE, seed=1):
    """Return end-of-frame positions, exposure means, states and time in each, per frame."""
    rng = np.random.default_rng(seed)
    pos = room.draw(n, rng)
    k = rng.choice(len(chain.occupancy), n, p=chain.occupancy).astype(np.int64)
    longest = room.max_step_s(max(chain.D_um2_s.max(), 1e-9))
    steps = motion.substeps(exposure_s, DT, 5, longest)
    state, alive = np.array([seed], np.uint64), np.ones(n, bool)
    ends, means, states, times = [pos.copy()], [], [k.copy()], []
    for _ in range(n_frames):
        path = motion.travel(pos, k, alive, steps, chain, room, state)
        room.close(pos)
        ends.append(pos.copy())
        means.append(path.mid_um.mean(axis=1))
        states.append(k.copy())
        times.append(path.time_in_s)
    return np.array(ends), np.array(means), np.array(states), np.array(times)


HUGE = motion.Field(np.full(2, -1e4), np.full(2, 1e4), False)


def test_the_mean_squared_displacement_is_four_D_t():
    ends, *_ = walk(motion.switching([0.7], [[0.0]]), HUGE, 4000, 12)
    for lag in (1, 3, 12):
        apart = ends[lag::lag, :, :2] - ends[:-lag:lag, :, :2]
        msd = (apart**2).sum(axis=2)
        assert msd.mean() == pytest.approx(4 * 0.7 * lag * DT, rel=4 / np.sqrt(msd.size))


@pytest.mark.parametrize("exposure_s", [TE, DT])
def test_the_mean_over_an_exposure_has_berglunds_blur(exposure_s):
    D, R = 0.7, exposure_s / (6 * DT)
    _, means, *_ = walk(motion.switching([D], [[0.0]]), HUGE, 5000, 15, exposure_s)
    dx = np.diff(means[:, :, :2], axis=0)
    tolerance = 4 * np.sqrt(2 / dx.size)
    assert dx.var() == pytest.approx(2 * D * DT * (1 - 2 * R), rel=tolerance)
    together = (dx[1:] * dx[:-1]).mean()
    assert together == pytest.approx(2 * R * D * DT, abs=2 * D * DT * 4 / np.sqrt(dx.size))


def test_occupancy_and_switching_follow_the_rates_per_second():
    from scipy.linalg import expm

    chain = motion.switching([0.1, 0.5, 2.0], [[0, 3, 1], [4, 0, 0.5], [0, 6, 0]])
    n, n_frames = 6000, 30
    _, _, states, times = walk(chain, HUGE, n, n_frames)
    occupied = times.sum(axis=(0, 1)) / times.sum()
    assert chain.occupancy @ chain.rate_per_s == pytest.approx(0, abs=1e-12)
    # few independent looks per molecule: n of them bound the error from above
    assert occupied == pytest.approx(chain.occupancy, abs=4 * 0.5 / np.sqrt(n))
    expected = expm(chain.rate_per_s * DT * n_frames)
    for k in range(3):
        begun = states[0] == k
        there = np.bincount(states[-1][begun], minlength=3) / begun.sum()
        assert there == pytest.approx(expected[k], abs=4 * 0.5 / np.sqrt(begun.sum()))


def test_dwell_times_are_exponential_with_the_rate_of_leaving():
    chain = motion.switching([0.1, 1.0], [[0, 0.8], [2.5, 0]])
    _, _, _, times = walk(chain, HUGE, 800, 1000)
    state = (times[:, :, 1] > DT / 2).astype(int)  # majority of each interval
    runs = ([], [])
    for row in state.T:
        edges = np.flatnonzero(np.diff(row))
        for begin, end in itertools.pairwise(edges):
            runs[row[end]].append((end - begin) * DT)
    for k, rate in ((0, 0.8), (1, 2.5)):
        left = np.sum((state[:-1] == k) & (state[1:] != k))
        # dwells below half a frame go unseen: up to 2.5 % of them; counting error 1 %
        assert left / (DT * np.sum(state[:-1] == k)) == pytest.approx(rate, rel=0.06)
        assert np.std(runs[k]) / np.mean(runs[k]) == pytest.approx(1, abs=0.08)


def test_a_cylinder_is_never_left_and_is_filled_evenly():
    room = motion.Cell("cylinder", (1.5, 0.4, 0.4))
    chain = motion.switching([0.1, 1.0], [[0, 5.0], [5.0, 0]])
    ends, means, *_ = walk(chain, room, 4000, 30)
    assert np.all(np.abs(ends[:, :, 0]) <= 1.5)
    assert np.all(np.hypot(ends[:, :, 1], ends[:, :, 2]) <= 0.4 * (1 + 1e-12))
    assert np.all(np.abs(means[:, :, 0]) <= 1.5)
    assert np.all(np.abs(means[:, :, 1]) <= 0.4)
    x, y, z = ends[-1].T
    assert stats.kstest(x, stats.uniform(-1.5, 3.0).cdf).pvalue > 0.01
    assert stats.kstest((y**2 + z**2) / 0.16, stats.uniform().cdf).pvalue > 0.01


@pytest.mark.parametrize(
    "kind, half", [("capsule", (1.5, 0.4, 0.4)), ("ellipsoid", (1.2, 0.8, 0.5))]
)
def test_a_curved_cell_is_never_left_and_stays_evenly_filled(kind, half):
    room = motion.Cell(kind, half)
    chain = motion.switching([0.1, 1.0], [[0, 5.0], [5.0, 0]])
    ends, means, *_ = walk(chain, room, 4000, 20)
    code, *sizes, _ = room.shape
    inside = motionkernels.is_inside
    assert all(inside(code, *sizes, *point) for point in ends[-1])
    assert all(inside(code, *sizes, *point) for point in means[-1])
    # an even filling stays one: within half the size lies an eighth of an ellipsoid
    small = np.mean([inside(code, *(0.5 * np.array(sizes)), *point) for point in ends[-1]])
    fresh = np.mean([inside(code, *(0.5 * np.array(sizes)), *point)
                     for point in room.draw(20_000, np.random.default_rng(9))])  # fmt: skip
    assert small == pytest.approx(fresh, abs=4 * np.sqrt(0.11 / 4000))
    assert fresh == pytest.approx(0.125, abs=4 * np.sqrt(0.11 / 20_000))


def test_a_slab_mirrors_in_depth_and_lets_go_sideways():
    room = motion.Field(np.full(2, -50.0), np.full(2, 50.0), False, thickness_um=0.6)
    ends, *_ = walk(motion.switching([0.5], []), room, 3000, 20)
    assert np.abs(ends[:, :, 2]).max() <= 0.3
    assert stats.kstest(ends[-1, :, 2], stats.uniform(-0.3, 0.6).cdf).pvalue > 0.01
    step = np.diff(ends[:, :, :2], axis=0)
    assert step.var() == pytest.approx(2 * 0.5 * DT, rel=0.03)


def test_molecules_bind_only_in_the_zone():
    """Bound ones (D 0) were caught in the zone, so they sit there; free ones fill the cell."""
    room = motion.Cell("capsule", (1.0, 0.4, 0.4), zone=0.6)
    chain = motion.switching([0.0, 2.0], [[0, 4.0], [0, 0]], [[0, 4.0], [20.0, 0]])
    rng, random = np.random.default_rng(3), np.array([3], np.uint64)
    pos, state = room.draw(1500, rng), np.ones(1500, np.int64)
    motion.settle(pos, state, chain, room, random)
    code, *sizes, zone = room.shape

    def part_within(scale, of):
        scaled = scale * np.array(sizes)
        return np.mean([motionkernels.is_inside(code, *scaled, *p) for p in pos[of]])

    bound, share = state == 0, zone**3
    # who is caught goes on to the end of that step, 20 nm on average
    assert part_within(1.3 * zone, bound) == 1.0
    assert part_within(zone, ~bound) == pytest.approx(share, abs=0.06)
    # fast mixing: caught at 20 / s during the share of time in the zone, freed at 4 / s
    caught = 20.0 * share
    assert bound.mean() == pytest.approx(caught / (caught + 4.0), abs=0.06)


@pytest.mark.parametrize("edges", ["reflecting", "periodic"])
def test_molecules_enter_and_leave_and_the_density_holds(edges):
    world = World(made(molecules=60.0, edges=edges, D_um2_s=[4.0], bleach_per_s=1.0))
    rows = np.concatenate([world.step().truth for _ in range(300)])
    inside = rows[rows["in_view"]]
    assert len(inside) / 300 == pytest.approx(60, rel=0.1)  # ~ 100 independent looks at 60
    place = np.histogram2d(inside["x_um"], inside["y_um"], 3, [[-0.05, 6.35]] * 2)[0]
    assert place.max() / place.min() < 1.5
    first, last = (set(rows["molecule"][rows["frame"] == f]) for f in (0, 299))
    assert len(first & last) < len(first)


def test_photons_are_poisson_about_what_is_expected():
    world = World(made(molecules=30.0, brightness_cv=0.4, photons=200.0, sigma_um=0.08))
    rows = np.concatenate([world.step().truth for _ in range(150)])
    central = np.all([np.abs(rows[c] - 3.15) < 2.5 for c in ("x_um", "y_um")], axis=0)
    rows = rows[central & (rows["expected_photons"] > 50)]
    z = (rows["actual_photons"] - rows["expected_photons"]) / np.sqrt(rows["expected_photons"])
    assert len(z) > 1500
    assert z.mean() == pytest.approx(0, abs=4 / np.sqrt(len(z)))
    assert z.var() == pytest.approx(1, rel=4 * np.sqrt(2 / len(z)))


def test_brightness_background_and_bleaching_scale_with_the_excitation():
    def run(excitation):
        world = World(
            made(
                molecules=300.0, excitation=excitation, bleach_per_s=2.0, replace=False,
                D_um2_s=[0.0], camera={"model": "ideal"},
            )
        )  # fmt: skip
        steps = [world.step() for _ in range(40)]
        counts = [len(s.truth) for s in steps]
        return steps[0], counts[39] / counts[0]

    (one, left_one), (three, left_three) = run(1.0), run(3.0)
    bright = three.truth["expected_photons"].max() / one.truth["expected_photons"].max()
    assert bright == pytest.approx(3)
    assert three.truth["background_e"][0] == pytest.approx(3 * one.truth["background_e"][0])
    light = 39 * TE
    assert left_one == pytest.approx(np.exp(-2.0 * light), abs=4 * 0.5 / np.sqrt(250))
    assert left_three == pytest.approx(np.exp(-6.0 * light), abs=4 * 0.5 / np.sqrt(250))


def test_a_decaying_background_decays():
    world = World(
        made(background_e=8.0, background_floor_e=2.0, background_tau_s=0.2, molecules=0.01,
             photons=1e-6, camera={"model": "ideal"})
    )  # fmt: skip
    means = np.array([world.step().adu.mean() for _ in range(30)])
    expected = 2 + 6 * np.exp(-np.arange(30) * DT / 0.2)
    assert means == pytest.approx(expected, abs=4 * np.sqrt(8 / 64**2))


def test_the_mean_image_of_still_molecules_is_the_rate_image():
    world = World(made(molecules=4.0, D_um2_s=[0.0], camera={"model": "ideal"}))
    steps = [world.step() for _ in range(300)]
    truth = steps[0].truth
    edges = (np.arange(65) - 0.5) * 0.1
    rate = np.full((64, 64), 3.0)
    for row in truth:
        along = [np.diff(stats.norm.cdf(edges, row[c], 0.1)) for c in ("y_um", "x_um")]
        rate += row["expected_photons"] * np.outer(*along)
    total = sum(s.adu.astype(float) for s in steps)
    chi2 = np.sum((total - 300 * rate) ** 2 / (300 * rate))
    assert abs(chi2 - 4096) < 4 * np.sqrt(2 * 4096)


def test_a_moving_molecule_is_smeared_by_its_path_and_centred_on_its_mean():
    D, pixel_var = 3.0, 0.1**2 / 12
    alone = {
        "molecules": 0.3,
        "margin_um": 0.5,
        "background_e": 0.0,
        "camera": {"model": "ideal"},
    }  # one in all
    world = World(made(D_um2_s=[D], photons=100.0, interval_s=TE, **alone))
    grid = np.arange(64) * 0.1 - 3.15
    found = []
    for _ in range(4000):
        adu, truth, _ = world.step()
        place = np.array([truth["x_um"], truth["y_um"]]) - 3.15
        if len(truth) == 1 and np.all(np.abs(place) < 2.3):
            n, along = adu.sum(), adu.sum(axis=0)
            spread = along @ (grid - place[0]) ** 2 / n
            found.append((n, along @ grid / n - place[0, 0], spread, truth["path_var_x_um2"][0]))
    n, error, spread, path_var = np.array(found).T
    assert len(n) > 1000
    # the path's variance scatters by about its own mean: the exposure's mean is D te / 3
    assert path_var.mean() == pytest.approx(D * TE / 3, rel=4 / np.sqrt(len(n)))
    width = 0.1**2 + pixel_var + path_var
    assert np.mean(spread / width) == pytest.approx(1, abs=0.02)
    z = error * np.sqrt(n / width)
    assert z.mean() == pytest.approx(0, abs=4 / np.sqrt(len(z)))
    assert z.var() == pytest.approx(1, rel=4 * np.sqrt(2 / len(z)))


def made(**options):
    """Return options of a small, still, plain scene."""
    base = {
        "scene": "ideal", "height_px": 64, "width_px": 64, "interval_s": DT, "exposure_s": TE,
        "off_per_s": 0.0, "on_per_s": 0.0, "bleach_per_s": 0.0, "brightness_cv": 0.0,
        "D_um2_s": [1.0],
    }  # fmt: skip
    return resolve(base | options, SCENES)


def test_three_light_states_share_time_and_light_as_their_rates_say():
    """On, dim and dark; dim comes from light alone, so it is left to the dark's rates between."""
    world = World(
        made(
            molecules=400.0, D_um2_s=[0.01], light_brightness=[1.0, 0.3, 0.0],
            light_rates_per_s=[[0, 0, 2.0], [5.0, 0, 0], [4.0, 0, 0]],
            light_driven_per_s=[[0, 6.0, 0], [0, 0, 0], [0, 0, 0]],
            off_per_s=0.0, on_per_s=0.0, exposure_s=0.02,
        )
    )  # fmt: skip
    rates = np.array([[-8.0, 6.0, 2.0], [5.0, -5.0, 0.0], [4.0, 0.0, -4.0]])
    shares = stats_of(rates)
    n = world._molecules.alive.size
    seen = np.array([np.bincount(world._molecules.light, minlength=3)])
    for _ in range(100):
        world.step()
        seen = np.concatenate([seen, [np.bincount(world._molecules.light, minlength=3)]])
    # about ten independent looks at each molecule
    assert seen.mean(axis=0) / n == pytest.approx(shares, abs=4 * 0.5 / np.sqrt(10 * n))


def stats_of(rates):
    left = np.linalg.svd(rates.T)[2][-1]
    return left / left.sum()


OIL = {"NA": 1.4, **dict.fromkeys(("ni", "ni0", "ns", "ng", "ng0"), 1.515)}


def test_the_vectorial_spot_has_the_width_of_the_paper_and_grows_out_of_focus():
    vectorial_psf = pytest.importorskip("psfmodels").vectorial_psf
    optics = vectorial(0.08, 0.639, 1.4, 0.6)
    focus = len(optics.radius_um) // 2
    assert optics.first_um + focus * optics.step_um == pytest.approx(0, abs=1e-9)
    image = vectorial_psf(np.zeros(1), nx=401, dxy=0.01, wvl=0.639, params=OIL)[0]
    away = np.hypot(*np.meshgrid(*[(np.arange(401) - 200) * 0.01] * 2))
    quantile = np.linspace(0, 1, optics.radius_um.shape[1])
    for r in (0.055, 0.105, 0.205, 0.505):  # between the image's pixels
        share = np.interp(r, optics.radius_um[focus], quantile)
        assert share == pytest.approx(image[away < r].sum() / image[away < 2.0].sum(), rel=0.05)
    assert np.all(np.diff(optics.radius_um[focus:, 1024]) > 0)
    assert optics.radius_um[focus + 8, 1024] > 2 * optics.radius_um[focus, 1024]


def test_defocus_widens_what_the_camera_sees():
    def width(z):
        world = World(
            made(
                molecules=30.0,
                D_um2_s=[0.0],
                photons=5e4,
                background_e=0.0,
                depth_um=0.5,
                focus_um=z,
            )
        )
        shot = world.step()
        rows = shot.truth[shot.truth["in_view"]]
        assert rows["z_um"] == pytest.approx(-z)
        return rows, shot.adu.astype(float).sum(), shot.adu.max()

    (_, light, peak), (_, far_light, far_peak) = width(0.0), width(0.5)
    assert far_light == pytest.approx(light, rel=0.05)
    assert far_peak == pytest.approx(peak / 2, rel=0.2)


def test_a_focus_that_drifts_does_so_by_the_clock():
    options = {"interval_s": 0.02, "focus_um": 0.1, "focus_drift_um_s": -0.5, "depth_um": 0.5}
    world = World(made(molecules=30.0, D_um2_s=[0.0], **options))
    for frame in range(5):
        z_um = world.step().truth["z_um"]
        assert z_um == pytest.approx(-0.1 + 0.5 * 0.02 * frame)
    with pytest.raises(ConfigError, match="focus_drift_um_s: with psf 'vectorial' goes with"):
        made(psf="vectorial", **options)


def test_the_background_follows_its_map(tmp_path):
    relief = np.ones((64, 64))
    relief[:, 32:] = 3.0
    np.save(tmp_path / "relief.npy", relief)
    world = World(
        made(
            molecules=1.0, photons=1e-3, background_e=5.0, camera={"model": "ideal"},
            background_map=str(tmp_path / "relief.npy"),
        )
    )  # fmt: skip
    adu = np.mean([world.step().adu for _ in range(20)], axis=0)
    assert adu[:, :32].mean() == pytest.approx(5, abs=4 * np.sqrt(5 / 40_960))
    assert adu[:, 32:].mean() == pytest.approx(15, abs=4 * np.sqrt(15 / 40_960))
