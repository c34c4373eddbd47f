"""A run that is killed loses at most its last 50 ms, and is made whole by `livespt recover`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from livespt.cli import main
from livespt.config import dump, parse
from livespt.journal import read_run
from livespt.offline import replay_stages
from livespt.wire import Subscriber

pytestmark = pytest.mark.alone

INTERVAL_S = 0.02
#: 50 ms of rows, and the frame that was on its way over the wire.
MOST_LOST_FRAMES = int(0.050 / INTERVAL_S) + 1


def test_a_killed_run_is_recovered_to_its_last_50_ms(tmp_path, capsys):
    options = {"scene": "demo", "seed": 3, "interval_s": INTERVAL_S, "molecules": 20.0}
    publish, command = (f"ipc://{tmp_path}/{name}" for name in ("publish", "command"))
    config = parse(
        {
            "source": {"kind": "simulated", "options": options},
            "journal": {"folder": str(tmp_path / "runs")},
            "wire": {"publish": publish, "command": command},
        }
    )
    path = tmp_path / "run.toml"
    path.write_text(dump(config))
    run = subprocess.Popen(
        [sys.executable, "-m", "livespt", "run", str(path), "--json"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    seen = watch(publish, command, run, frames=150)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    (folder,) = (tmp_path / "runs").iterdir()
    assert read_run(folder).status == "running"

    assert main(["recover", str(folder), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    recovered = read_run(folder)
    assert report["was"] == "running"
    assert recovered.status == "recovered"
    assert recovered.problems() == []
    assert recovered.frames["frame"][-1] >= seen - MOST_LOST_FRAMES
    # what is left is good for the same answers
    answers = [answer for _, _, answer in replay_stages(recovered)]
    assert answers[-1].model.D_um2_s.tobytes() == recovered.model().D_um2_s.tobytes()


def watch(publish: str, command: str, run: subprocess.Popen, frames: int) -> int:
    """Follow the run until it has answered `frames` frames; return the last one seen."""
    seen = -1
    deadline = time.monotonic() + 240  # a first run compiles
    with Subscriber(publish, command, topics=["estimate"]) as live:
        while seen < frames and time.monotonic() < deadline:
            message = live.recv(timeout_s=1.0)
            if message is not None and message.topic == "livespt.estimate":
                seen = message.frame
            assert run.poll() is None, "the run ended by itself"
    assert seen >= frames
    return seen
