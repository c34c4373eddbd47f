"""The live path on a real MMCore: DemoCamera's stream, and a walk that its stage really made."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pycromanager")
pytest.importorskip("mm_test_adapters")

pytestmark = pytest.mark.alone

SCRIPT = Path(__file__).with_name("mm_live.py")


def run(name: str, **arguments) -> dict:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), name, json.dumps(arguments)],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def inside(value: float, interval: list[float]) -> bool:
    return interval[0] <= value <= interval[1]


def test_the_walk_of_the_stage_is_recovered():
    found = run("walk")
    assert found["frames"]["processed"] == 600
    assert found["one_n"] > 500  # the bead was followed all along
    assert inside(found["true"], found["one_95"][0])
    # All beads share one walk of 600 steps. Its chance correlation of neighbouring steps, of s.d.
    # 1 / sqrt(1200) = .03, reads as localization error, and moves D by as much: three of them.
    assert found["beads"][0] == pytest.approx(found["realised"], rel=0.09)


@pytest.mark.parametrize("n_frames", [200, pytest.param(3000, marks=pytest.mark.long)])
def test_a_hundred_frames_a_second_are_analysed_without_a_gap(n_frames):
    found = run("stream", n_frames=n_frames)
    assert found["frames"] == {"in": n_frames, "processed": n_frames, "shed": 0, "missing": 0}
    assert found["contiguous"]
    assert found["n_spots"] > 10 * n_frames
