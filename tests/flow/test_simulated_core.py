"""The simulated microscope's frames from a camera in a real core, and the whole path on them."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pymmcore_plus")

pytestmark = pytest.mark.alone

SCRIPT = Path(__file__).with_name("mm_played.py")
CONFIG = Path(__file__).parents[2] / "configs" / "orca-full-rate.toml"


REFUSED = [{"loop": False}, {"paced": False}, {"prerender": 1}, {"buffer_mb": 0}, {"bufer_mb": 9}]
DEMO = {"scene": "demo", "interval_s": 0.01, "prerender": 64}
SCENARIOS = {
    "stream": ("stream", {}),
    # 170 frames fit into 1 MiB; the pause is twice as long
    "pause": ("stream", {"n_frames": 240, "buffer_mb": 1, "pause_at": 20, "pause_s": 1.4}),
    "copies": ("copies", {}),
    "refusals": ("refusals", {"cases": REFUSED}),
}


def run(scenarios: dict, timeout_s: float = 120.0) -> dict:
    """Run scenarios one after the other in one process; return what each found, by its key."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), json.dumps(list(scenarios.values()))],
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Traceback" not in done.stderr, done.stderr[-2000:]
    lines = [line[6:] for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    return dict(zip(scenarios, map(json.loads, lines), strict=True))


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict:
    config = {"source": {"kind": "simulated-core", "options": DEMO}, "infer": {"n_states": 2}}
    folder = str(tmp_path_factory.mktemp("runs"))
    live = {"live": ("live", {"folder": folder, "config": config, "seconds": 2.0})}
    return run(SCENARIOS | live)


def test_every_frame_comes_out_of_the_core_as_it_was_rendered_and_on_time(found):
    stream = found["stream"]
    assert stream["index"] == list(range(60))
    assert all(stream["same"])
    assert stream["events"] == []
    assert stream["interval_s"] > 0.0035  # a frame is never early; a busy machine makes them late
    info = stream["info"]
    assert (info["shape"], info["interval_s"], info["exposure_s"]) == ([48, 64], 0.004, 0.004)
    assert stream["loaded"] == ["Core"]  # the camera was unloaded


def test_what_a_full_buffer_costs_is_told_and_the_scene_goes_on_by_the_clock(found):
    pause = found["pause"]
    ((kind, first, n_lost),) = pause["events"]
    assert kind == "overflow"
    assert first == pytest.approx(20 + 170, abs=10)
    assert n_lost > 100  # of 180, and more where the machine is busy
    steps = np.diff(pause["index"])
    assert (np.delete(steps, steps.argmax()) == 1).all()
    assert steps.max() == n_lost + 1
    before = pause["index"].index(first - 1) + 1
    assert all(pause["same"][:before])


def test_no_frame_is_copied_on_its_way_from_the_core_to_the_analysis(found):
    copies = found["copies"]
    assert copies["slots"] == 0
    assert copies["writable"] == [False] * 3
    assert not any(copies["shared"])  # the core's own copy, which is now the frame's


def test_options_that_a_camera_in_a_core_cannot_have_are_refused(found):
    expected = ["loop, paced", "loop, paced", "prerender", "buffer_mb", "bufer_mb"]
    for said, words in zip(found["refusals"]["said"], expected, strict=True):
        assert words in said


def test_the_whole_path_analyses_what_a_core_gives(found):
    live = found["live"]
    assert live["frames"] == {"in": 200, "processed": 200, "shed": 0, "missing": 0}
    assert live["contiguous"]
    assert live["recall"] > 0.9
    assert not live["failed"]


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize("kind", ["simulated-core", "simulated"])
def test_a_full_chip_at_its_full_rate_is_analysed_without_a_gap(tmp_path, kind):
    """2048 x 2048, 100 frames/s, 500 molecules, 60 s: to be run on a quiet machine.

    The latency is judged from 3 s on. The refits of the first ten frames leave a backlog that the
    next 50 to 250 bear, and the target of 20 ms is missed where these are counted (docs, 0035).
    """
    config = tomllib.loads(CONFIG.read_text())
    config["source"]["kind"] = kind
    arguments = {"folder": str(tmp_path), "config": config, "seconds": 60.0}
    found = run({kind: ("live", arguments)}, timeout_s=500)[kind]
    late_ms = np.percentile(found["latencies_ms"][300:], [50, 99])
    print(kind, found["latency_ms"], "from 3 s on", late_ms, found["D_um2_s"])  # noqa: T201
    assert found["frames"] == {"in": 6000, "processed": 6000, "shed": 0, "missing": 0}
    assert found["contiguous"]
    assert late_ms[1] <= 20.0
    # 470 of 500 are lit at a time, a few beside the chip. A loop of a second holds one realization
    # of the motion: about 500 molecules for 1 s, so that ln D has an s.d. near 0.05; four of them.
    assert found["n_spots"] == pytest.approx(6000 * 475, rel=0.05)
    np.testing.assert_allclose(np.log(found["D_um2_s"]), np.log(found["true_D_um2_s"]), atol=0.2)
    memory_mb = np.array(found["memory_mb"][5:])
    slope_mb_s = np.polyfit(np.arange(memory_mb.size), memory_mb, 1)[0]
    print(f"memory {memory_mb[0]:.0f} to {memory_mb[-1]:.0f} MB, {slope_mb_s:.2f} MB/s")  # noqa: T201
    # A frame is 8.4 MB: one in a thousand kept would be 0.8 MB/s.
    assert abs(slope_mb_s) < 0.5
