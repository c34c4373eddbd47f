"""`livespt.micromanager` on the real MMCore: every way in, and what is held against the core."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from livespt.journal import read_run

pytest.importorskip("pycromanager")
pytest.importorskip("mm_test_adapters")

pytestmark = pytest.mark.alone

HERE = Path(__file__).parent
_spec = importlib.util.spec_from_file_location("test_mm_core", HERE / "test_mm_core.py")
_core = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_core)

SCRIPT = HERE / "mm_plugin.py"
OPTICS = {"pixel_um": 0.1, "sigma_um": 0.095}
#: The config's pixel size is not the demonstration's, which is 1 um.
PIXELS = "optics.pixel_um = 0.1 is used, and"

SCENARIOS = {
    "attach": ("attach_snake", {"n": 40}),
    "positions": ("positions", {"n": 6}),
    "notified": ("notified", {"n": 20, "apart": False}),
    "mda": ("mda", {"n": 30}),
    "binned": ("facts", {"binning": 2, "calibration": {}}),
    "known": ("facts", {"optics": {"sigma_um": 1.0}, "pixel_type": "8bit"}),
    "java ride": ("java_ride", {"n": 20}),
    "killed": ("hooked", {"n": 60, "signal_at": 20, "signal_name": "SIGKILL"}),
    "refusals": ("refusals", {}),
}
#: Signals that Windows does not have.
SIGNALS = {"held": ("hooked", {"n": 200, "signal_at": 20, "signal_name": "SIGSTOP"})}
if sys.platform != "win32":
    SCENARIOS |= SIGNALS
LONG = {
    "region": ("facts", {"roi": [10, 20, 100, 90], "calibration": {}}),
    "mda positions": ("mda", {"n": 8, "positions": 2, "per": "position"}),
    "mixed": ("mixed", {"n": 4}),
    "attach plus": ("attach_plus", {}),
    "attach unicore": ("attach_plus", {"unicore": True}),
    "in memory": ("notified", {"on_disk": False}),
    "hooked": ("hooked", {"n": 40}),
    "snapped": ("mda", {"n": 20, "sequenced": False}),
    "snapped positions": (
        "mda",
        {"n": 6, "positions": 2, "per": "position", "sequenced": False},
    ),
    "other camera": ("facts", {"calibration": {"camera_id": "Prime95B"}}),
    "java": ("java", {}),
    "java notified": ("java_ride", {"notify": True}),
}


@pytest.fixture(scope="module")
def found() -> dict:
    """What the scenarios found, all run in one process."""
    return _core.run_all(SCENARIOS, script=SCRIPT)


@pytest.fixture(scope="module")
def more() -> dict:
    """What the longer scenarios found, all run in one process."""
    return _core.run_all(LONG, script=SCRIPT)


def notes(run: dict) -> list[str]:
    assert {kind for kind, _ in run["events"]} <= {"note"}
    return [message for _, message in run["events"]]


def assert_all(run: dict, n: int) -> None:
    """Every frame was analysed, none was lost, and molecules were followed through all."""
    assert run["frames"] == list(range(n))
    assert run["counts"] == {"in": n, "processed": n, "shed": 0, "missing": 0}
    assert run["longest"] == n
    assert run["failed"] == ""


def test_one_line_attaches_to_a_core_and_leaves_it_open(found):
    run = found["attach"]
    assert_all(run, 40)
    assert run["newest"] == 39
    assert run["processed"] == 40
    assert run["alive"] == [256, 256]
    assert run["folder"].endswith("-Camera")


def test_what_cannot_be_attached_to_is_refused_and_named(found):
    assert "runs already" in found["attach"]["busy"]
    assert "expected pycromanager's Core()" in found["attach"]["no_core"]
    assert "'exposure'; did you mean 'exposure_ms'" in found["attach"]["no_key"]


def test_the_excitation_that_a_config_names_is_looked_for(found):
    (there,), (no_property,), (no_device,) = found["attach"]["lasers"]
    assert there.startswith("control.actuator.property: LED.State = ")
    assert "device 'LED' has no property 'Volts'" in no_property
    assert "no device 'Lamp' (loaded: " in no_device


def test_each_position_is_a_run_of_its_own_and_the_other_channel_passes_by(found):
    one = found["positions"]
    assert one["saved"] == 2 * 2 * 6
    assert one["passed"] == 2 * 6
    assert list(one["runs"]) == ["left", "right"]
    for name, run in one["runs"].items():
        # Linked across positions a track would be longer than its position has frames.
        assert_all(run, 6)
        assert run["folder"].endswith(f"-acquisition-{name}")
        assert f"axes: channel = 'FITC', position = '{name}'" in notes(run)


def test_saved_images_are_read_back_as_the_notifications_name_them(found):
    """Also where the analysis is in this process."""
    assert_all(found["notified"], 20)
    assert found["notified"]["newest"] == 19
    assert "read already" in found["notified"]["again"]


def test_an_acquisition_goes_on_when_the_process_of_the_analysis_is_killed(found):
    killed = found["killed"]
    assert killed["saved"] == 60
    assert "the process of the analysis has ended (" in killed["why"]


@pytest.mark.skipif(sys.platform == "win32", reason="no signal holds a process there")
def test_an_acquisition_goes_on_while_the_process_of_the_analysis_is_held(found):
    """More images come than the lane has slots; those that find none are shed, and named so."""
    held, n_shed = found["held"], found["held"]["n_shed"]
    assert held["saved"] == 200
    assert n_shed > 0
    assert held["counts"] == {"in": 200, "processed": 200 - n_shed, "shed": n_shed, "missing": 0}
    assert held["newest"] == held["frames"][-1]


def test_what_cannot_be_ridden_along_with_is_refused_in_one_line(found):
    for binned, unknown in found["refusals"].values():
        assert "made with binning 1, the source bins 2 x 2" in binned
        assert "unexpected keyword argument 'ring'" in unknown
    assert found["refusals"]["True"] == found["refusals"]["False"]


def test_an_mda_of_pymmcore_plus_is_followed_to_its_end(found):
    assert found["mda"]["triggered"] == found["mda"]["n"] == 30
    assert_all(found["mda"]["runs"][""], 30)


def test_a_calibration_made_unbinned_is_refused_for_binned_frames(found):
    assert found["binned"]["facts"]["binning"] == 2
    assert "made with binning 1, the source bins 2 x 2" in found["binned"]["why"]


def test_pixel_size_and_highest_count_come_from_the_core(found):
    known = found["known"]
    assert known["pixel_um"] == 1.0
    assert known["saturation_adu"] == 255
    assert known["facts"]["identity"].startswith("DemoCamera")
    assert not any(PIXELS in note for note in notes(known))
    assert any(PIXELS in note for note in notes(found["attach"]))


def test_an_acquisition_of_the_java_backend_is_ridden_along(found):
    """The peer speaks the bridge's protocol over a real core in another process."""
    assert_all(found["java ride"], 20)


@pytest.mark.long
def test_channels_are_never_mixed(more):
    run = more["mixed"]
    assert_all(run, 4)
    assert (run["saved"], run["passed"]) == (8, 4)
    assert any("channel = 'FITC' pass by" in note for note in notes(run))


@pytest.mark.long
def test_an_mda_over_positions_gives_a_run_for_each(more):
    runs = more["mda positions"]["runs"]
    assert list(runs) == ["well_0", "well_1"]
    for run in runs.values():
        assert_all(run, 8)


@pytest.mark.long
def test_the_cores_region_places_the_frames_on_the_calibrated_chip(more):
    region = more["region"]
    assert region["facts"]["origin_px"] == [10, 20]
    assert region["facts"]["shape"] == [90, 100]
    assert region["why"] == "accepted"
    assert any("the part at [10, 20]" in note for note in notes(region))


@pytest.mark.long
def test_the_other_ways_in(more):
    found = more
    for name in ("attach plus", "attach unicore"):
        assert found[name]["counts"]["missing"] == found[name]["counts"]["shed"] == 0
        assert found[name]["loaded"] > 5
    assert_all(found["in memory"], 60)
    assert found["snapped"]["triggered"] == 0
    assert_all(found["snapped"]["runs"][""], 20)
    for run in found["snapped positions"]["runs"].values():
        assert_all(run, 6)
    assert "made with camera 'Prime95B'" in found["other camera"]["why"]
    hooked = found["hooked"]
    assert_all(hooked, 40)
    assert (hooked["newest"], hooked["processed"], hooked["running"]) == (39, 40, False)
    assert hooked["folders"][0] == hooked["folders"][1]
    assert_all(found["java"], 40)
    assert found["java"]["facts"]["origin_px"] == [0, 0]
    assert_all(found["java notified"], 40)


@pytest.mark.long
def test_a_run_ends_when_the_micromanager_of_the_scripts_own_core_does():
    """pycromanager's bridge would wait for ever; what that says of it at the end is its own."""
    command = [sys.executable, str(SCRIPT), json.dumps([["java_gone", {}]])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("FOUND "))
    gone = json.loads(line.removeprefix("FOUND "))
    assert "no answer from Micro-Manager" in gone["failed"]
    assert gone["counts"]["processed"] >= 10
    assert gone["took_s"] < 10  # two calls of the camera's 5 s at most


@pytest.mark.long
def test_a_script_that_dies_leaves_a_finished_run(tmp_path):
    scenario = json.dumps([["orphan", {"folder": str(tmp_path), "n": 60}]])
    done = subprocess.run([sys.executable, str(SCRIPT), scenario], check=False, timeout=120)
    assert done.returncode == 9
    until_s = time.monotonic() + 60
    while not (finals := list(tmp_path.glob("*/final.json"))) and time.monotonic() < until_s:
        time.sleep(0.1)
    (final,) = finals
    assert json.loads(final.read_text())["final"]["n_tracks"] > 0
    assert read_run(final.parent).frames["frame"].tolist() == list(range(60))


@pytest.mark.long
def test_signals_of_qt_need_no_event_loop():
    pytest.importorskip("PySide6")
    found = _core.run_all({"qt": ("mda_qt", {})}, script=SCRIPT)["qt"]
    assert found["signals"] == "QMDASignaler"
    assert_all(found, 40)


def run_one(script: str, timeout_s: float, **arguments) -> dict:
    done = subprocess.run(
        [sys.executable, str(HERE / script), json.dumps(arguments)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.long
@pytest.mark.parametrize("kind", ["demo", "unicore"])
@pytest.mark.timeout(3600)
def test_a_camera_at_a_hundred_frames_a_second_loses_nothing(kind):
    """Ten minutes; LIVESPT_SOAK_S takes another time."""
    seconds = float(os.environ.get("LIVESPT_SOAK_S", "600"))
    one = run_one("mm_soak.py", seconds + 300, seconds=seconds, kind=kind)
    n = one["frames"]["processed"]
    assert one["first"] == 0
    assert one["contiguous"]
    assert (one["frames"]["shed"], one["frames"]["missing"]) == (0, 0)
    # DemoCamera adds its readout to the exposure: 95 to 105 frames/s.
    assert n >= 0.9 * 100 * seconds
    assert one["rate"] == pytest.approx(100, rel=0.08)
    # Spots that lie still may raise an alarm ("changed"): their D is chance alone.
    assert {kind for kind, _ in one["events"]} <= {"note", "stopped", "changed"}
    assert one["failed"] == ""


@pytest.mark.long
def test_riding_along_costs_an_acquisition_less_than_a_twentieth():
    """Paired and in turn, 100 frames/s of 512 x 512; the median of five ratios."""
    one = run_one("mm_cost.py", 300, n=500, repeats=5)
    assert one["ratio"] > 0.95
    assert all(counts["processed"] == 500 for counts in one["counts"])


@pytest.mark.long
def test_an_acquisition_as_fast_as_its_engine_keeps_its_pace():
    """About 850 frames/s of 512 x 512: the engine wants a whole core and the interpreter."""
    one = run_one("mm_cost.py", 300, n=600, repeats=9, exposure_ms=0.1, fast=True)
    assert one["ratio"] > 0.95
    assert all(counts["missing"] == 0 for counts in one["counts"])
