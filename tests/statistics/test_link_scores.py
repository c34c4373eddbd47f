"""Linking on the comparison's scene, scored by the ISBI measures, at zero lag.

Seeds are fixed, so the figures are too; floors are those the project aims at. Measured on these
seeds: JSC .93 / .86 / .58 (trackpy 0.7 at its best radius, same scene: .82 / .70 / .42).
"""

import importlib.util
import time
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from livespt.link import Linker, learn
from livespt.sections import LinkConfig

# test folders are no packages: the scene is loaded by its path
_spec = importlib.util.spec_from_file_location(
    "link_scene", Path(__file__).with_name("link_scene.py")
)
assert _spec is not None
assert _spec.loader is not None
scene_of = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(scene_of)

KNOWN = LinkConfig(D_um2_s=list(scene_of.D_UM2_S), p_switch=scene_of.P_SWITCH)
#: molecules: seeds, floor of JSC, aim in ms a frame.
SCENES = {50: ((0, 1, 2), 0.875, 0.05), 200: ((1, 2), 0.74, 0.12), 1000: ((1,), 0.53, 0.6)}
N_FRAMES = 100


@cache
def a_scene(n, seed):
    return scene_of.make_scene(n, N_FRAMES, seed)


def link(scene, **options):
    """Return the tracks of each frame's spots, revised, and the times per frame in ms."""
    linker = Linker(scene_of.INTERVAL_S, **options)
    ids, times = [], []
    for spots in scene.spots:
        begin = time.perf_counter()
        links = linker.step(spots)
        times.append(1e3 * (time.perf_counter() - begin))
        ids.append(links.track_id)
        for frame, row, track, _ in links.revised.tolist():
            ids[frame][row] = track
    return ids, np.array(times)


def wrong_links(scene, ids):
    """Return how many pairs of a spot and the next of its track are of two molecules."""
    last, wrong = {}, 0
    for owner, tracks in zip(scene.owner, ids, strict=True):
        for track, who in zip(tracks.tolist(), owner.tolist(), strict=True):
            wrong += track in last and (last[track] != who or who < 0)
            last[track] = who
    return wrong


@cache
def scores(n, known):
    field = (scene_of.FIELD_UM,) * 2
    overrides = KNOWN if known else None
    scenes = [a_scene(n, seed) for seed in SCENES[n][0]]
    ids = [link(s, field_um=field, overrides=overrides)[0] for s in scenes]
    return np.mean([scene_of.isbi(s, i) for s, i in zip(scenes, ids, strict=True)], axis=0)


@pytest.mark.parametrize("n", SCENES)
def test_tracks_of_unknown_molecules_reach_the_aim(n):
    assert scores(n, known=False)[1] >= SCENES[n][1]


#: Floor of JSC and aim in ms a frame at lag 2; limit of wrong links beside those at lag 0.
LAGGED = {50: (0.885, 0.2, 0.95), 200: (0.79, 1.0, 0.92), 1000: (0.57, 5.0, 0.92)}


@pytest.mark.alone
@pytest.mark.parametrize("n", SCENES)
def test_two_frames_later_the_tracks_are_better(n):
    """Measured: wrong links .75 / .82 / .85 of those at lag 0, JSC .94 / .88 / .63.

    JSC of a few long tracks hangs on single links; it may fall by chance where there are 50.
    """
    floor, aim_ms, share = LAGGED[n]
    jsc, wrong = {}, {}
    for lag in (0, 2):
        field = (scene_of.FIELD_UM,) * 2
        scenes = [a_scene(n, seed) for seed in SCENES[n][0]]
        runs = [link(s, field_um=field, overrides=LinkConfig(lag=lag)) for s in scenes]
        jsc[lag] = np.mean([scene_of.isbi(s, r[0])[1] for s, r in zip(scenes, runs, strict=True)])
        wrong[lag] = sum(wrong_links(s, r[0]) for s, r in zip(scenes, runs, strict=True))
    assert jsc[2] >= floor
    assert jsc[2] > jsc[0] - (0.005 if n == 50 else 0.0)
    assert wrong[2] < share * wrong[0]
    assert np.percentile(runs[0][1], 25) < 10 * aim_ms


@pytest.mark.parametrize("lag", [0, 2])
@pytest.mark.parametrize("factor", [3.0, 1 / 3])
@pytest.mark.parametrize("n", SCENES)
def test_photophysics_wrong_three_times_and_unknown_D_still_reach_the_aim(n, factor, lag):
    """Within .02 of the aim, though fixed: from the learned rates JSC falls by up to .05.

    Wrong beside the truth: off, back, bleached, and missed while on.
    """
    rates = LinkConfig(
        p_off=scene_of.P_OFF * factor,
        p_on=min(scene_of.P_ON * factor, 0.99),
        p_bleach=scene_of.P_BLEACH * factor,
        p_detect=1 - scene_of.P_MISSED * factor,
        lag=lag,
    )
    scene = a_scene(n, SCENES[n][0][0])
    ids, _ = link(scene, field_um=(scene_of.FIELD_UM,) * 2, overrides=rates)
    aim = LAGGED[n][0] if lag else SCENES[n][1]
    assert scene_of.isbi(scene, ids)[1] >= aim - 0.02


@pytest.mark.parametrize("lag", [0, 2])
@pytest.mark.parametrize("factor", [3.0, 1 / 3])
@pytest.mark.parametrize(
    "n", [pytest.param(n, marks=pytest.mark.long if n == 1000 else ()) for n in SCENES]
)
def test_photophysics_assumed_three_times_wrong_is_forgotten(n, factor, lag, monkeypatch):
    """JSC within .02 of what it is from the usual start; measured: within .01."""
    field = (scene_of.FIELD_UM,) * 2
    scenes = [a_scene(n, seed) for seed in SCENES[n][0]]

    def jsc():
        runs = [link(s, field_um=field, overrides=LinkConfig(lag=lag))[0] for s in scenes]
        return np.mean([scene_of.isbi(s, ids)[1] for s, ids in zip(scenes, runs, strict=True)])

    usual = jsc()
    monkeypatch.setattr(learn, "P_OFF", scene_of.P_OFF * factor)
    monkeypatch.setattr(learn, "P_ON", min(scene_of.P_ON * factor, 0.99))
    monkeypatch.setattr(learn, "P_BLEACH", scene_of.P_BLEACH * factor)
    monkeypatch.setattr(learn, "P_DETECT", 1 - scene_of.P_MISSED * factor)
    assert jsc() > usual - 0.02


@pytest.mark.parametrize("n", SCENES)
def test_not_knowing_D_costs_next_to_nothing(n):
    """Tolerance: the aim, .02."""
    assert scores(n, known=False)[1] >= scores(n, known=True)[1] - 0.02


def test_perfect_links_score_as_they_should():
    """Only missed spots and the error remain: JSC .95, alpha 1 - E|error| / gate of these.

    E|error| = .03 sqrt(pi / 2) = .0376 um, so alpha = .95 (1 - .15) = .807.
    """
    scene = a_scene(200, 1)
    alpha, jsc, theta = scene_of.isbi(scene, scene.owner)
    assert alpha == pytest.approx(0.807, abs=0.01)
    assert jsc == pytest.approx(0.95, abs=0.01)
    assert theta > 0.99


def test_dropped_frames_do_not_break_tracks():
    """Every tenth frame is lost: scored on what is left, JSC falls by less than .05.

    Some loss is real: a step over two intervals is 1.4 times as long.
    """
    whole, kept = a_scene(50, 0), np.arange(N_FRAMES) % 10 != 9
    holey = scene_of.Scene(*([x for x, k in zip(part, kept, strict=True) if k] for part in whole))
    ids, _ = link(holey)
    full, _ = link(whole)
    full = [i for i, k in zip(full, kept, strict=True) if k]
    assert scene_of.isbi(holey, ids)[1] > scene_of.isbi(holey, full)[1] - 0.05
    # no track may end because nobody looked: long tracks outlive the holes
    lengths = [np.unique(np.concatenate(i), return_counts=True)[1] for i in (ids, full)]
    assert np.sum(lengths[0] > 30) >= 0.9 * np.sum(lengths[1] > 30)


def test_an_unknown_field_is_found_out():
    """The extent of the spots stands for it: JSC within .01."""
    scene = a_scene(200, 1)
    ids, _ = link(scene)
    known, _ = link(scene, field_um=(scene_of.FIELD_UM,) * 2)
    assert scene_of.isbi(scene, ids)[1] == pytest.approx(scene_of.isbi(scene, known)[1], abs=0.01)


def test_the_density_of_new_spots_is_found_on_line():
    """Truth: 5 % false of ~45 found, and bleached ones replaced: 2.2 + .25 a frame, +-30 %."""
    linker = Linker(scene_of.INTERVAL_S, field_um=(scene_of.FIELD_UM,) * 2)
    for spots in a_scene(50, 0).spots:
        linker.step(spots)
    per_frame = linker.motion.density_um2 * scene_of.FIELD_UM**2
    assert 1.7 < per_frame < 3.7


def test_switching_is_learned_on_the_way():
    """Truth: half of the molecules in each state, .02 a frame either way.

    These counts serve the links only. Each step is judged from its own past, never revised by
    what follows, so that they run high, 1.5 to 2.2 times at any density (.036 and .043 here):
    enough to tell rare switching from frequent, no estimate of a rate.
    """
    linker = Linker(scene_of.INTERVAL_S, overrides=LinkConfig(D_um2_s=list(scene_of.D_UM2_S)))
    for spots in a_scene(200, 1).spots:
        linker.step(spots)
    assert linker.motion.occupancy == pytest.approx([0.5, 0.5], abs=0.1)
    for p in linker.motion.transition[[0, 1], [1, 0]]:
        assert 0.01 < p < 0.05


def test_p_link_says_how_often_the_link_is_right():
    """Bins of p_link against the share of links that are right, at medium and high density.

    Where links form loops messages made p up to .09 too high, sums over all sets of links make it
    up to .035: within .07 in each bin of 300 links or more (s.e. .03), .01 on average.
    """
    said, right = [], []
    for n, seed in ((200, 1), (1000, 1)):
        scene, last = a_scene(n, seed), {}
        linker = Linker(scene_of.INTERVAL_S)
        for spots, owner in zip(scene.spots, scene.owner, strict=True):
            links = linker.step(spots)
            for track, p, who in zip(links.track_id, links.p_link, owner, strict=True):
                if track in last and last[track] >= 0:
                    said.append(p)
                    right.append(last[track] == who)
                last[track] = who
    said, right = np.array(said), np.array(right)
    assert abs(said.mean() - right.mean()) < 0.01
    for low in np.arange(0.3, 1.0, 0.1):
        bin_ = (said >= low) & (said < low + 0.1)
        if bin_.sum() >= 300:
            assert abs(said[bin_].mean() - right[bin_].mean()) < 0.07


@pytest.mark.alone
@pytest.mark.parametrize("n", SCENES)
def test_a_frame_takes_little_time(n):
    """The aim is meant for an idle core; shared and slow ones get ten times as much."""
    Linker(1.0).warm_up()
    _, times_ms = link(a_scene(n, SCENES[n][0][0]))
    assert np.percentile(times_ms, 25) < 10 * SCENES[n][2]
