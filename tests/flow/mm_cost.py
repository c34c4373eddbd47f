"""What riding along costs a user's acquisition: with and without, in turn, on the real core.

python mm_cost.py '{"n": 500, "repeats": 5}'   prints one JSON line, the last

Each repeat acquires twice, in alternate order; the cost is the median over repeats of the ratio of
the two durations, so that what changes slowly (the disk's cache, the clock) falls out.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from mm_plugin import beads, config

from livespt.micromanager import ride_along


def acquire(folder, n, **hooks):
    """Acquire n images; return the seconds from the first event to the last saved image."""
    from pycromanager import Acquisition, multi_d_acquisition_events

    events = multi_d_acquisition_events(num_time_points=n, time_interval_s=0)
    with Acquisition(folder, "cost", **hooks) as acquisition:
        began_s = time.perf_counter()
        acquisition.acquire(events)
    took_s = time.perf_counter() - began_s
    data = acquisition.get_dataset()
    n_saved = len(data.get_image_coordinates_list())
    data.close()
    assert n_saved == n
    return took_s


def pair(core, n, way, first, apart):
    """Acquire with us and without; return (with, without) in seconds, and what we did."""
    took = {}
    for ours in (first, not first):
        with tempfile.TemporaryDirectory() as folder:
            if not ours:
                took[False] = acquire(f"{folder}/data", n)
                continue
            with ride_along(config(folder), core, interval_s=0.01, apart=apart) as live:
                hook = {way: getattr(live, way)}
                took[True] = acquire(f"{folder}/data", n, **hook)
            result = live.result(60)
    return took[True], took[False], result.frames, result.latency_ms


def cost(n=500, repeats=5, way="image_process_fn", exposure_ms=9.0, fast=False, apart=True):
    """Measure the cost of one way, paired."""
    with beads(exposure_ms) as core:
        if fast:
            core.set_property("Camera", "FastImage", "1")
        found = [pair(core, n, way, bool(i % 2), apart) for i in range(repeats + 1)][1:]
    ours, alone = np.array([one[:2] for one in found]).T
    return {
        "way": way,
        "frames_per_s_alone": float(n / np.median(alone)),
        "frames_per_s_with_us": float(n / np.median(ours)),
        "ratio": float(np.median(alone / ours)),  # of throughputs
        "ratios": np.round(alone / ours, 4).tolist(),
        "counts": [one[2] for one in found],
        "latency_ms": [one[3] for one in found],
    }


if __name__ == "__main__":
    print("\n" + json.dumps(cost(**json.loads(sys.argv[1]))))  # noqa: T201
