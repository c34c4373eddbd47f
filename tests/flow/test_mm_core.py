"""The real MMCore, with DemoCamera, through both doors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pycromanager")
pytest.importorskip("mm_test_adapters")

pytestmark = pytest.mark.alone

SCRIPT = Path(__file__).with_name("mm_scenarios.py")


def run_all(scenarios: dict, timeout_s: float = 240.0, script: Path = SCRIPT) -> dict:
    """Run scenarios one after the other in one process; return what each found, by its key."""
    done = subprocess.run(
        [sys.executable, str(script), json.dumps(list(scenarios.values()))],
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    lines = [line[6:] for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    names = list(scenarios)
    at = names[len(lines)] if len(lines) < len(names) else "the end"
    assert done.returncode == 0, f"at {at}: {done.stderr[-2000:]}"
    assert "Traceback" not in done.stderr
    return dict(zip(names, map(json.loads, lines), strict=True))


def camera(kind: str, n_frames: int, **options) -> dict:
    return {"kind": kind, "options": {"n_frames": n_frames, "exposure_ms": 5.0, **options}}


def overflow(kind: str, stop: bool) -> tuple:
    return ("overflow", camera(kind, 150, buffer_mb=4, stop_on_overflow=stop))


DOORS = ("micromanager", "mmcore")
SCENARIOS = {
    **{f"stream {k}": ("stream", camera(k, 200, exposure_ms=9.0)) for k in DOORS},
    **{f"overflow {k} {s}": overflow(k, s) for k in DOORS for s in (True, False)},
    "pause": (
        "stream",
        {**camera("micromanager", 150, buffer_mb=4), "pause_at": 50, "pause_s": 0.4},
    ),
    "roi": (
        "stream",
        camera(
            "micromanager",
            20,
            roi=[32, 16, 96, 64],
            properties={"Camera.Mode": "Fluorescent Beads", "Camera.PixelType": "8bit"},
        ),
    ),
    "binning": ("stream", camera("mmcore", 20, binning=2)),
    "reopen": ("reopen", {}),
    "borrowed": ("borrowed", {}),
    "plus_tap": ("plus_tap", {}),
    "close_early": ("close_early", {}),
    "closed_door": ("closed_door", {}),
    "running": ("running", {"exposure_ms": 10.0, "roi": [0, 0, 128, 96]}),
    "walk": ("walk", {"n": 60, "D_um2_s": 0.5}),
}


@pytest.fixture(scope="module")
def found() -> dict:
    """What the scenarios found, all run in one process: opening the core again is part of it."""
    return run_all(SCENARIOS)


def assert_tiled(found: dict) -> None:
    """Frames and lost frames tile the sequence: nothing vanished, nothing came twice."""
    lost = {
        i
        for kind, first, n, _ in found["events"]
        if kind in ("missing", "overflow", "shed")
        for i in range(first, first + n)
    }
    assert lost.isdisjoint(found["index"])
    assert sorted(lost.union(found["index"])) == list(range(len(lost) + found["n_frames"]))


def assert_gapless(found: dict, n: int) -> None:
    assert found["index"] == list(range(n))
    assert found["events"] == []
    assert found["counters"]["n_in"] == n
    assert found["counters"]["n_shed"] == 0
    assert found["runs_forward"]
    assert found["differ"]


@pytest.mark.parametrize("kind", DOORS)
def test_the_demo_camera_streams_without_a_gap(found, kind):
    one = found[f"stream {kind}"]
    assert_gapless(one, 200)
    assert one["info"]["shape"] == [512, 512]
    assert one["info"]["exposure_s"] == pytest.approx(0.009)
    assert "DemoCamera" in one["info"]["identity"]
    # DemoCamera adds about 1 ms to its exposure; more on a machine that is busy.
    assert 0.009 <= one["interval_s"] < 0.03


@pytest.mark.long
def test_three_thousand_frames_at_a_hundred_a_second_without_a_gap():
    one = run_all({"all": ("stream", camera("micromanager", 3000, exposure_ms=9.0))})["all"]
    assert_gapless(one, 3000)
    assert one["rate"] > 50  # about 100 where the machine is free


def test_a_pause_of_the_analysis_is_ridden_out_by_the_ring(found):
    assert_gapless(found["pause"], 150)
    # More than the core's own buffer of 8 could have held.
    assert found["pause"]["counters"]["high_water"] > 10


@pytest.mark.parametrize("kind", DOORS)
def test_an_overflow_that_stops_the_camera_is_reported_and_survived(found, kind):
    one = found[f"overflow {kind} True"]
    assert [event[0] for event in one["events"]] == ["overflow"]
    assert one["n_frames"] == 150
    _, first, n_lost, message = one["events"][0]
    assert first == 58  # 50 taken, and a backlog of 8 read out before acquisition went on
    # A pause of 0.5 s at 5 ms a frame is 100 frames, 8 of them kept; half that if it is busy.
    assert 15 < n_lost < 150
    assert "stopped the camera" in message
    assert_tiled(one)
    assert one["runs_forward"]


@pytest.mark.parametrize("kind", DOORS)
def test_an_overflow_that_the_core_hides_is_reported_and_survived(found, kind):
    one = found[f"overflow {kind} False"]
    assert [event[0] for event in one["events"]] == ["overflow"]
    _, first, n_lost, message = one["events"][0]
    assert first == 50
    assert n_lost % 8 == 0  # the core drops whole buffers, of 8 images here
    assert n_lost > 0
    assert one["n_frames"] == 150
    assert "was emptied" in message
    assert_tiled(one)


def test_properties_roi_and_binning_reach_the_camera(found):
    assert found["roi"]["info"]["shape"] == [64, 96]
    assert found["roi"]["n_frames"] == 20
    assert found["binning"]["info"]["shape"] == [256, 256]


def test_a_core_can_be_opened_again_in_the_same_process(found):
    assert found["reopen"]["counts"] == [20, 20, 10]


def test_a_core_that_the_user_started_is_used_and_left_running(found):
    assert found["borrowed"]["n"] == 20
    assert found["borrowed"]["alive"] == [512, 512]
    assert "already runs" in found["borrowed"]["refused"]
    assert found["plus_tap"]["n_frames"] == 20
    assert found["plus_tap"]["loaded"] > 5


def test_a_camera_without_end_is_closed_from_another_thread(found):
    assert found["close_early"]["n"] > 10
    assert not found["close_early"]["alive"]


def test_a_core_of_our_own_tells_nobody_anything_once_it_is_closed(found):
    # it tells on a thread of its own; while Python ends, that aborted the process
    assert found["closed_door"]["open"] > 0
    assert found["closed_door"]["closed"] == 0


def test_the_beads_follow_the_stage_pixel_for_micrometre(found):
    walk = found["walk"]
    assert walk["slope"] == pytest.approx([-1.0, -1.0], abs=0.01)
    assert walk["worst_px"] < 0.05  # whole counts, and a centroid in a window
    # 59 steps in 2-D: the realised D scatters by 1/sqrt(59) = 13 %; three times that.
    assert walk["realised_D_um2_s"] == pytest.approx(walk["D_um2_s"], rel=0.4)


def test_a_running_micromanager_is_tapped_over_its_bridge(found):
    """The peer speaks the bridge's protocol over a real core in another process."""
    one = found["running"]
    assert one["index"] == list(range(50))
    assert one["events"] == []
    assert one["shapes"] == [[96, 128]]
    assert one["differ"]
    assert "loaded: Camera" in one["refused"]
