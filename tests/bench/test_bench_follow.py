"""How fast a growing data set can be followed on this machine, and how soon: `make bench`.

ndstorage writes in a process of its own; files lie in the page cache, as they do while they grow.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from livespt.sources import open_source
from livespt.sources.datasets import DataSet
from livespt.types import Frame

pytestmark = [pytest.mark.bench, pytest.mark.timeout(300)]

WRITER = Path(__file__).parents[1] / "flow" / "ndtiff_writer.py"


def start_writer(folder, **given):
    command = [sys.executable, str(WRITER), str(folder), json.dumps(given)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("side, n", [(512, 1500), (2048, 110)])
def test_how_many_frames_a_second_can_be_followed(tmp_path, side, n):
    start_writer(tmp_path, n=n, shape=[side, side], pause_s=0.0).communicate()
    times = []
    for _ in range(3):
        data, found = DataSet(tmp_path / "run_1"), 0
        began_s, cpu_s = time.perf_counter(), time.thread_time()
        while (image := data.next_image()) is not None:
            image.file.read(image.page)
            found += 1
        times.append((time.thread_time() - cpu_s, time.perf_counter() - began_s))
        data.close()
        assert found == n
    cpu_s, wall_s = min(times)
    rate = f"{n / wall_s:.0f} frames/s, {n * side**2 * 2e-6 / wall_s:.0f} MB/s"
    print(f"\nfollow, {side} x {side}: {rate}; {1e3 * cpu_s / n:.2f} ms of CPU a frame")  # noqa: T201


@pytest.mark.parametrize("side, fps", [(512, 100), (512, 1000), (2048, 30)])
def test_how_soon_an_image_is_a_frame(tmp_path, side, fps):
    """From just before the writer is given the image until its pixels are ours."""
    n = min(10 * fps, 3000)
    given = {"n": n, "shape": [side, side], "pause_s": 1 / fps, "delay_s": 0.5}
    writer = start_writer(tmp_path, **given)
    options = {"path": str(tmp_path / "run_1"), "interval_s": 1 / fps}
    source, late_s = open_source("follow", options), []
    take = source._take

    def watched(image):
        items, at_end = take(image)
        clock_s = time.monotonic() - time.perf_counter()
        (frame,) = (item for item in items if isinstance(item, Frame))
        late_s.append(frame.arrived_s + clock_s - image.tags["handed_over_s"])
        return items, at_end

    source._take = watched
    cpu_s = time.process_time()
    n_found = sum(isinstance(item, Frame) for item in source.frames())
    cpu_s = time.process_time() - cpu_s
    took_s = json.loads(writer.communicate()[0])["took_s"]
    assert n_found == n
    p50, p99 = (1e3 * np.percentile(late_s, q) for q in (50, 99))
    print(  # noqa: T201
        f"\nfollow, {side} x {side} at {n / took_s:.0f} frames/s: all {n}; latency p50 {p50:.2f} "
        f"ms, p99 {p99:.2f} ms; {100 * cpu_s / took_s:.1f} % of a core"
    )
