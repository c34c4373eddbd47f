"""Riding along in a user's own pycromanager Acquisition, which must not notice."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("pycromanager")

pytestmark = pytest.mark.alone

_spec = importlib.util.spec_from_file_location(
    "test_mm_core", Path(__file__).with_name("test_mm_core.py")
)
_core = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_core)
run_all, assert_tiled = _core.run_all, _core.assert_tiled

SCENARIOS = {
    "ride": ("ride", {"n": 150}),
    "slow": ("ride", {"n": 100, "slow": True}),
    "shape": ("ride", {"n": 30, "shape": [10, 10]}),
    "channel": ("ride", {"n": 20, "axes": {"channel": "GFP"}}),
    "swallowed": ("swallowed", {}),
    "roundtrip": ("ndtiff_roundtrip", {"n": 40}),
    "follow": ("follow_acquisition", {"n": 120}),
    "follow channel": ("follow_acquisition", {"n": 12, "channels": ["DAPI", "FITC"]}),
}


@pytest.fixture(scope="module")
def found() -> dict:
    """What the scenarios found, all run in one process."""
    return run_all(SCENARIOS)


def test_every_image_is_saved_and_every_image_is_seen(found):
    ride = found["ride"]
    assert ride["n_saved"] == 150
    assert ride["index"] == list(range(150))
    assert ride["events"] == []
    assert ride["same"]
    assert ride["runs_forward"]


def test_a_process_function_that_returns_none_would_lose_every_image(found):
    """Why `image_process_fn` gives the image back; if this fails, pycromanager has changed."""
    assert found["swallowed"]["n_saved"] == 0


def test_slow_analysis_sheds_frames_and_never_the_saving(found):
    slow = found["slow"]
    assert slow["n_saved"] == 100
    assert slow["counters"]["n_shed"] > 0
    assert {event[0] for event in slow["events"]} == {"shed"}
    assert slow["same"]
    assert_tiled(slow)


def test_images_that_analysis_cannot_use_are_still_saved(found):
    shape = found["shape"]
    assert shape["n_saved"] == 30
    assert shape["n_frames"] == 0
    assert [event[0] for event in shape["events"]] == ["shape"]


def test_images_of_another_channel_pass_by(found):
    assert found["channel"]["n_saved"] == 20
    assert found["channel"]["n_frames"] == 0


def test_what_pycromanager_saved_replays_with_its_true_times(found):
    roundtrip = found["roundtrip"]
    assert roundtrip["index"] == list(range(40))
    assert roundtrip["events"] == []
    assert roundtrip["same"]
    assert roundtrip["runs_forward"]
    assert 0.009 <= roundtrip["nominal_s"] < 0.03


def test_an_acquisitions_files_are_followed_while_it_runs(found):
    one = found["follow"]
    assert one["n_saved"] == 120
    assert one["index"] == list(range(120))
    assert one["same"]
    assert one["runs_forward"]
    assert {event[0] for event in one["events"]} <= {"stalled", "resumed"}
    assert one["before_the_end"] > 80  # live, not read afterwards
    assert 0.008 < one["info"]["interval_s"] < 0.03  # 9 ms exposure; the host is busy
    assert one["info"]["identity"].startswith("Camera")


def test_one_channel_of_an_acquisitions_files_is_followed(found):
    two = found["follow channel"]
    assert two["n_saved"] == 24
    assert two["index"] == list(range(12))
    assert two["same"]
