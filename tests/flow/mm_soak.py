"""A camera in the real core at 100 frames/s for as long as asked, through the whole live path.

python mm_soak.py '{"seconds": 600, "kind": "demo"}'   prints one JSON line, the last

`kind` is "demo" (pycromanager's core, DemoCamera) or "unicore" (pymmcore-plus' UniMMCore with a
camera written in Python, beside the demonstration's devices).
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from mm_plugin import beads, config

from livespt.journal import read_run
from livespt.micromanager import attach

SHAPE = (256, 256)


def python_camera():
    """Return a camera device in Python: spots that lie still, 100 frames/s by its own clock."""
    from pymmcore_plus.experimental.unicore import CameraDevice

    rng = np.random.default_rng(1)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    scene = np.full(SHAPE, 5.0)
    for cy, cx in rng.uniform(10, SHAPE[0] - 10, (20, 2)):
        scene += 60 * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * 0.95**2))
    images = rng.poisson(scene, (32, *SHAPE)).astype(np.uint16)

    class Camera(CameraDevice):
        """Plays images over and over."""

        _exposure = 9.0

        def get_exposure(self):
            return self._exposure

        def set_exposure(self, exposure):
            self._exposure = exposure

        def shape(self):
            return SHAPE

        def dtype(self):
            return np.uint16

        def start_sequence(self, n, get_buffer):
            start_s = time.perf_counter()
            for i in range(n):
                due_s = start_s + 0.01 * i
                while (wait_s := due_s - time.perf_counter()) > 0:
                    time.sleep(min(wait_s, 0.005))
                get_buffer(SHAPE, np.dtype(np.uint16))[:] = images[i % len(images)]
                yield {}

    return Camera()


@contextlib.contextmanager
def unicore():
    """Start UniMMCore with the camera above."""
    import mm_test_adapters
    from pymmcore_plus.experimental.unicore import UniMMCore

    folder = mm_test_adapters.device_adapter_path()
    core = UniMMCore(mm_path=folder, adapter_paths=[folder])
    core.loadSystemConfiguration(f"{folder}/MMConfig_demo.cfg")
    core.loadPyDevice("PyCam", python_camera())
    core.initializeDevice("PyCam")
    core.setCameraDevice("PyCam")
    core.setExposure(9.0)
    yield core
    time.sleep(0.2)
    core.unloadAllDevices()


def memory_mb():
    """Return the most memory that this process ever held."""
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def soak(seconds=600.0, kind="demo"):
    """Run the camera; return what was lost, the pace, the latency and the memory."""
    started = beads(9.0, (0, 0, *SHAPE)) if kind == "demo" else unicore()
    with started as core, tempfile.TemporaryDirectory() as folder:
        chosen = config(folder, stop_after_s=seconds)
        with attach(core, chosen, interval_ms=10.0, buffer_mb=64) as live:
            while live.counters.t_s < min(10.0, seconds / 3) and live.running:
                time.sleep(0.1)
            early_mb = memory_mb()
            result = live.result(seconds + 120)
            ring = live.session._stream.counters._asdict()
        run = read_run(result.run)  # read from the folder while it is there
        numbers, t_s = run.frames["frame"], run.frames["t_s"]
        return {
            "kind": kind,
            "frames": result.frames,
            "ring": ring,
            "first": int(numbers[0]),
            "contiguous": bool((np.diff(numbers) == 1).all()),
            "rate": (len(numbers) - 1) / float(t_s[-1] - t_s[0]),
            "events": [[e.kind, e.message] for e in run.events],
            "latency_ms": result.latency_ms,
            "n_spots": len(run.spots),
            "early_mb": early_mb,
            "final_mb": memory_mb(),
            "failed": result.failed,
        }


if __name__ == "__main__":
    print("\n" + json.dumps(soak(**json.loads(sys.argv[1]))), flush=True)  # noqa: T201
    # UniMMCore's threads now and then abort the interpreter's own end ("exception not rethrown").
    os._exit(0)
