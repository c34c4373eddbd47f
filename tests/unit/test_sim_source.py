"""The simulated microscope as a source: options, streams, clocks, and what it leaves behind."""

from __future__ import annotations

import time

import numpy as np
import pytest

from livespt.config import ConfigError
from livespt.types import Event, Frame
from livespt_sim import load_truth, open_source
from livespt_sim.scenes import SCENES
from livespt_sim.truth import TruthError

pytestmark = pytest.mark.alone

SPOT_DTYPE_WITH_FRAME = [
    ("frame", np.int64),
    *((name, np.float64) for name in ("x_um", "y_um", "var_x_um2", "var_y_um2")),
    ("status", np.int64),
]
SMALL = {"height_px": 32, "width_px": 48, "molecules": 3.0, "n_frames": 4, "paced": False}


def opened(**options):
    return open_source(SMALL | options)


def frames(source):
    return [item for item in source.frames() if isinstance(item, Frame)]


def test_the_simulator_is_found_through_the_entry_points():
    from livespt.sources import open_source as by_name

    source = by_name("simulated", SMALL)
    assert source.info.shape == (32, 48)


@pytest.mark.parametrize("scene", SCENES)
def test_every_scene_gives_frames_of_its_shape(scene):
    source = open_source({"scene": scene, "n_frames": 1, "paced": False})
    (frame,) = frames(source)
    assert frame.adu.shape == source.info.shape
    assert frame.adu.std() > 0


def test_a_frame_is_read_only_uint16_and_carries_its_time():
    source = opened(interval_s=0.03, exposure_s=0.01)
    got = frames(source)
    assert [f.index for f in got] == [0, 1, 2, 3]
    assert [f.t_s for f in got] == pytest.approx([0, 0.03, 0.06, 0.09])
    assert got[0].exposure_s == 0.01
    assert got[0].adu.dtype == np.uint16
    with pytest.raises(ValueError, match="read-only"):
        got[0].adu[0, 0] = 1


def test_a_finite_stream_says_that_it_ended():
    *_, last = opened().frames()
    assert isinstance(last, Event)
    assert (last.kind, last.frame) == ("ended", 4)


def test_the_same_seed_gives_the_same_frames_and_another_seed_does_not():
    first, again, other = (frames(opened(seed=s)) for s in (5, 5, 6))
    assert all(np.array_equal(a.adu, b.adu) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0].adu, other[0].adu)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"molecule": 3}, "'molecule'; did you mean 'molecules'"),
        ({"scene": "dmeo"}, "no scene 'dmeo'.*did you mean 'demo'"),
        ({"camera": {"gain": 2.0}}, "camera.gain"),
        ({"camera": {"gain_adu_per_e": 0.0}}, "gain_adu_per_e"),
        ({"photons": -1.0}, "photons"),
        ({"exposure_s": 1.0}, "exposure_s: 1 s is longer than interval_s"),
        ({"D_um2_s": [0.1, 0.2, 0.3]}, "rates_per_s.*expected 3 x 3"),
        ({"off_per_s": 1.0, "on_per_s": 0.0}, "on_per_s: 0"),
        ({"scene": "cylinder", "molecules": 1.5}, "molecules: 1.5 in a cylinder"),
        ({"prerender": 10_000_000}, "prerender"),
        ({"geometry": "capsule", "molecules": 5.5}, "molecules: 5.5 in a capsule"),
        (
            {"geometry": "capsule", "molecules": 5.0, "cylinder_length_um": 0.5},
            "cylinder_length_um",
        ),
        ({"zone": 0.5, "zone_rates_per_s": [[0, 1.0], [1.0, 0]]}, "zone: a field has none"),
        ({"geometry": "capsule", "molecules": 5.0, "zone": 0.5}, "zone_rates_per_s: goes with"),
        ({"light_brightness": [0.0, 0.0]}, "light_brightness: all 0"),
        ({"light_brightness": [1.0], "light_rates_per_s": [[0, 1], [1, 0]]}, "light_rates_per_s"),
        ({"light_brightness": [1.0, 0.0], "light_bleach_per_s": [1.0]}, "light_bleach_per_s: 1 "),
        ({"psf": "vectorial", "numerical_aperture": 1.6}, "numerical_aperture: 1.6"),
        ({"background_map": "none.npy"}, "background_map: none.npy"),
    ],
)
def test_a_wrong_option_is_named(options, named):
    with pytest.raises(ConfigError, match=named) as error:
        open_source(options)
    assert "\n" not in str(error.value)


def test_one_state_needs_no_rates():
    assert opened(D_um2_s=[0.5]).truth_summary() == {"D_um2_s": [0.5], "occupancy": [1.0]}


def test_another_camera_model_brings_its_own_numbers():
    emccd = opened(camera={"model": "emccd"}).camera
    assert (emccd.gain_adu_per_e, emccd.readout_adu) == (50.0, 10.0)
    scmos = opened(camera={"var_e2": 4.0}).camera
    assert (scmos.gain_adu_per_e, scmos.var_e2) == (2.2, 4.0)


def test_maps_differ_from_pixel_to_pixel_and_repeat_with_their_seed():
    camera = {"maps": True, "map_seed": 3}
    one, two = opened(camera=camera).camera, opened(camera=camera, seed=9).camera
    assert one.shape == (32, 48)
    assert np.array_equal(one.gain_adu_per_e, two.gain_adu_per_e)
    assert one.var_e2.max() > 5 * np.median(one.var_e2)  # hot pixels
    assert frames(opened(camera=camera))[0].adu.shape == (32, 48)


def test_the_summary_is_ordered_by_D():
    source = opened(D_um2_s=[2.0, 0.1], rates_per_s=[[0.0, 1.0], [3.0, 0.0]])
    summary = source.truth_summary()
    assert summary["D_um2_s"] == [0.1, 2.0]
    assert summary["occupancy"] == pytest.approx([0.25, 0.75])


def test_a_paced_stream_holds_its_rate_within_two_percent():
    source = opened(interval_s=0.01, exposure_s=0.005, n_frames=150, paced=True)
    came = [f.arrived_s for f in frames(source)]
    interval = (came[-1] - came[0]) / (len(came) - 1)
    assert interval == pytest.approx(0.01, rel=0.02)


def test_a_slow_consumer_is_told_that_the_camera_is_late_and_loses_nothing():
    source = opened(interval_s=0.01, exposure_s=0.005, n_frames=60, paced=True)
    items = []
    for item in source.frames():
        items.append(item)
        if isinstance(item, Frame) and item.index == 3:
            time.sleep(0.25)
    kinds = [i.kind for i in items if isinstance(i, Event)]
    assert kinds == ["stalled", "resumed", "ended"]
    assert [i.index for i in items if isinstance(i, Frame)] == list(range(60))
    late = next(i for i in items if isinstance(i, Event))
    assert "behind its schedule" in late.message


def test_close_ends_a_paced_stream_while_it_waits():
    source = opened(interval_s=5.0, exposure_s=0.005, n_frames=None, paced=True)
    stream = source.frames()
    assert isinstance(next(stream), Frame)
    source.close()
    began = time.monotonic()
    assert list(stream) == []
    assert time.monotonic() - began < 2.0


def test_excitation_is_live_and_stamped_on_the_frame():
    source = opened(n_frames=20, background_e=20.0, molecules=1.0)
    got = []
    for frame in source.frames():
        if isinstance(frame, Frame):
            got.append(frame)
            if frame.index == 9:
                source.set_excitation(3.0)
    assert [f.excitation for f in got] == [1.0] * 10 + [3.0] * 10
    table = source.truth().table
    before, after = (table["frame"] < 10), (table["frame"] >= 10)
    assert set(table["background_e"][before]) == {20.0}
    assert set(table["background_e"][after]) == {60.0}


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
def test_a_senseless_excitation_is_refused(bad):
    with pytest.raises(ValueError, match="excitation"):
        opened().set_excitation(bad)


def test_prerendered_frames_are_the_same_frames():
    live, stored = frames(opened()), frames(opened(prerender=3))
    assert all(np.array_equal(a.adu, b.adu) for a, b in zip(live, stored, strict=True))
    source = opened(prerender=3)
    source.warm_up()
    assert set(source.truth().table["frame"]) == {0, 1, 2}  # rendered before the start


def test_a_loop_plays_the_memory_forward_and_backward():
    once, looped = frames(opened(prerender=4)), frames(opened(prerender=4, loop=True, n_frames=9))
    order = [0, 1, 2, 3, 2, 1, 0, 1, 2]
    assert [frame.index for frame in looped] == list(range(9))
    assert np.diff([frame.t_s for frame in looped]) == pytest.approx(looped[1].t_s)
    for frame, at in zip(looped, order, strict=True):
        assert np.array_equal(frame.adu, once[at].adu)
    with pytest.raises(ConfigError, match="loop: true with prerender = 1"):
        opened(prerender=1, loop=True)


def test_a_loop_is_scored_by_its_first_pass():
    source = opened(molecules=20.0, prerender=3, loop=True, n_frames=8)
    frames(source)
    truth = source.truth().table
    spots = np.zeros(len(truth), [(n, "f8") for n in ("frame", "x_um", "y_um", "status")]
                     + [("var_x_um2", "f8"), ("var_y_um2", "f8")])  # fmt: skip
    for name in ("frame", "x_um", "y_um"):
        spots[name] = truth[name]
    spots["var_x_um2"] = spots["var_y_um2"] = 1e-4
    assert set(truth["frame"]) == {0, 1, 2}
    assert source.score_localization(spots)["recall"] > 0.9


@pytest.mark.parametrize("suffix", ["parquet", "npz"])
def test_the_truth_survives_a_file(tmp_path, suffix):
    source = opened(molecules=20.0)
    frames(source)
    truth = source.truth()
    truth.save(tmp_path / f"truth.{suffix}")
    back = load_truth(tmp_path / f"truth.{suffix}")
    assert len(truth.table) > 10
    assert np.array_equal(back.table, truth.table)
    assert np.array_equal(back.rate_per_s, truth.rate_per_s)
    assert back.options == truth.options


def test_a_truth_file_that_is_none_is_named(tmp_path):
    with pytest.raises(TruthError, match=r"truth\.csv: truth is written as"):
        opened().truth().save(tmp_path / "truth.csv")
    (tmp_path / "torn.npz").write_bytes(b"PK\x03\x04")
    for name in ("torn.npz", "missing.parquet"):
        with pytest.raises(TruthError, match=name):
            load_truth(tmp_path / name)


def test_the_truth_is_bounded_and_says_when_it_is_not_complete():
    source = opened(molecules=30.0, truth_rows=60)
    frames(source)
    truth = source.truth()
    assert 0 < len(truth.table) <= 60
    assert not truth.complete
    last = truth.table["frame"].max()
    assert last < 3
    assert not np.any(truth.table["frame"] > last)


def test_without_light_there_is_no_truth_row_and_no_photon():
    source = opened(excitation=0.0, camera={"model": "ideal"})
    assert all(f.adu.max() == 0 for f in frames(source))
    assert len(source.truth().table) == 0


def test_replaced_molecules_keep_their_number_and_get_new_names():
    source = opened(
        molecules=30.0, n_frames=200, bleach_per_s=5.0, interval_s=0.01, exposure_s=0.01
    )
    frames(source)
    table = source.truth().table
    seen = np.bincount(table["frame"])
    assert seen[150:].mean() == pytest.approx(seen[:50].mean(), rel=0.35)
    assert len(np.unique(table["molecule"])) > 150
    lost = opened(
        molecules=30.0, n_frames=200, bleach_per_s=5.0, interval_s=0.01, exposure_s=0.01,
        replace=False,
    )  # fmt: skip
    frames(lost)
    assert np.all(lost.truth().table["frame"] < 199)
