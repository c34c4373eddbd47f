"""The scripts of docs/how-to/act-on-events.md over the real core, each run in a process of its own.

DemoCamera's beads do not bleach by themselves: `BeadDensity` takes them away while the camera runs.

python mm_react.py NAME PAGE   prints one JSON line, the last
"""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from mm_scenarios import user_core

from livespt.journal import read_run

CAMERA = """
stop_after_s = 60
[source]
kind = "micromanager"
[camera]
model = "ideal"
[optics]
pixel_um = 0.1
sigma_um = 0.095
[infer]
n_states = 1
[watch]
{watch}
[wire]
publish = "tcp://127.0.0.1:*"
command = "tcp://127.0.0.1:*"
"""
#: Beads before and after; after the first image so long.
BEFORE, AFTER, BLEACH_S = "120", "20", 4.0


def script(page, with_text):
    blocks = re.findall(r"^```python\n(.*?)^```$", Path(page).read_text(), re.MULTILINE | re.DOTALL)
    (found,) = (block for block in blocks if with_text in block)
    return found


def replaced(text, *pairs):
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    return text


class Bleaching:
    """Takes beads away `BLEACH_S` after the camera has begun, each time that it begins."""

    def __init__(self, core):
        self._core, self._end = core, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self):
        self._thread.start()

    def __exit__(self, *_):
        self._end.set()
        self._thread.join()

    def _watch(self):
        core = self._core
        while not self._end.wait(0.02):
            core.set_property("Camera", "BeadDensity", BEFORE)
            if not core.is_sequence_running():
                continue
            self._end.wait(BLEACH_S)
            core.set_property("Camera", "BeadDensity", AFTER)
            while core.is_sequence_running() and not self._end.wait(0.02):
                pass


def demo_core(core, exposure_ms=9.0):
    core.set_property("Camera", "Mode", "Fluorescent Beads")
    core.set_property("Camera", "BeadDensity", BEFORE)
    core.set_property("Camera", "BeadSize", "1.0")
    core.set_roi(0, 0, 256, 256)
    core.set_exposure(exposure_ms)


def marks(folder):
    return [[e.name, e.before, e.after] for e in read_run(folder).events if e.kind == "mark"]


def stop(page):
    """Stop an acquisition of a minute."""
    Path("camera.toml").write_text(CAMERA.format(watch="bleached_to = 0.5"))
    text = replaced(
        script(page, "acquisition.abort()"),
        ("num_time_points=5000", "num_time_points=6000"),
        ("image_process_fn=ride", "show_display=False, image_process_fn=ride"),
    )
    with user_core() as core:
        demo_core(core)
        with Bleaching(core):
            began_s = time.monotonic()
            space = {}
            exec(text, space)
            took_s = time.monotonic() - began_s
        result = space["result"]
        return {"frames": result.frames, "took_s": took_s, "marks": marks(result.run)}


def positions(page):
    """Bleach two positions."""
    Path("camera.toml").write_text(CAMERA.format(watch="bleached_to = 0.5"))
    text = script(page, "set_xy_position")
    with user_core() as core:
        demo_core(core)
        with Bleaching(core):
            exec(text, {})
        runs = sorted(Path("runs").iterdir())
        return {
            "marks": [marks(run) for run in runs],
            "frames": [len(read_run(run).frames) for run in runs],
            "at": [core.get_x_position(), core.get_y_position()],
        }


def exposure(page):
    """Poor from the start, whatever the exposure: these beads do not care for it."""
    Path("camera.toml").write_text(CAMERA.format(watch="imprecise_above_um = 1e-3"))
    text = replaced(script(page, "imprecise"), ("LONGEST_MS = 40.0", "LONGEST_MS = 20.0"))
    with user_core() as core:
        demo_core(core)
        exec(text, {})
        runs = [read_run(run) for run in sorted(Path("runs").iterdir())]
        return {
            "marks": [marks(run.folder) for run in runs],
            "exposure_ms": core.get_exposure(),
            "of_runs_ms": [1e3 * float(run.frames["exposure_s"][0]) for run in runs],
        }


if __name__ == "__main__":
    print("\n" + json.dumps(globals()[sys.argv[1]](sys.argv[2])))  # noqa: T201
