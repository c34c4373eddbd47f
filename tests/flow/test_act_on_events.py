"""The scripts of docs/how-to/act-on-events.md do what the page says, over a real core and wire."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from livespt.types import Event
from livespt.wire import Publisher, event_message
from livespt.wire.schema import StatusMessage

pytestmark = pytest.mark.alone

SCRIPT = Path(__file__).with_name("mm_react.py")
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "act-on-events.md"


def run(name: str, folder: Path) -> dict:
    pytest.importorskip("pycromanager")
    pytest.importorskip("mm_test_adapters")
    command = [sys.executable, str(SCRIPT), name, str(PAGE)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_the_script_beside_a_run_stops_it():
    """Only the addresses are others."""
    text = PAGE.read_text(encoding="utf-8")
    (block, *_) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    event = Event("mark", 1.0, 50, 80, "bleached to 30 %", "bleached", 30.0, 9.0)
    numbers = ("v", "run", "note", "state")
    status = dict.fromkeys((f for f in StatusMessage.__struct_fields__ if f not in numbers), 0)
    with Publisher("tcp://127.0.0.1:*", "tcp://127.0.0.1:*", run="docs") as wire:
        at = f"Subscriber({wire.publish_address!r}, {wire.command_address!r}, "
        program = [sys.executable, "-W", "error", "-c", block.replace("Subscriber(", at)]
        wire.send(event_message(event))
        with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as script:
            deadline, commands = time.monotonic() + 60, []
            while not commands and time.monotonic() < deadline:
                wire.send(StatusMessage(**status, state="running"))
                commands = wire.poll_commands()
                time.sleep(0.02)
            while script.poll() is None and time.monotonic() < deadline:
                wire.send(StatusMessage(**status, state="done"))
                time.sleep(0.05)
            script.kill()
            said = script.stdout.read() if script.stdout else ""
    assert script.returncode == 0
    assert [command.reason for command in commands] == ["bleached to 30 %"]
    assert said.splitlines() == ["bleached 30.0 9.0 bleached to 30 %"]


@pytest.mark.long
def test_an_acquisition_is_stopped_when_the_sample_is_bleached(tmp_path):
    """6000 images at 9 ms would take a minute; beads go after 4 s, and the mean is over 4 s."""
    found = run("stop", tmp_path)
    ((name, before, after),) = found["marks"]
    assert name == "bleached"
    assert after <= 0.5 * before
    assert found["frames"]["processed"] < 2500
    assert found["frames"]["shed"] + found["frames"]["missing"] == 0
    assert found["took_s"] < 40


@pytest.mark.long
def test_each_position_is_left_when_it_is_bleached(tmp_path):
    found = run("positions", tmp_path)
    assert [[mark[0] for mark in marks] for marks in found["marks"]] == [["bleached"]] * 2
    assert max(found["frames"]) < 3000  # of about 6600 to `stop_after_s`
    assert found["at"] == pytest.approx([50.0, 0.0], abs=0.1)


@pytest.mark.long
def test_the_exposure_grows_to_its_limit_while_the_precision_is_poor(tmp_path):
    found = run("exposure", tmp_path)
    assert [[mark[0] for mark in marks] for marks in found["marks"]] == [["imprecise"]] * 2
    assert found["of_runs_ms"] == pytest.approx([9.0, 18.0])
    assert found["exposure_ms"] == pytest.approx(18.0)
