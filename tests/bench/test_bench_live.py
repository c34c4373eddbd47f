"""How fast the live path is on this machine: `make bench`.

Ratios between machines are what they are; the figures that matter are frames shed and latency.
"""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from livespt.config import load, parse
from livespt.journal import read_run
from livespt.offline import replay_stages
from livespt.session import Session
from livespt.stages import open_stages
from livespt.types import Frame

pytestmark = [pytest.mark.bench, pytest.mark.timeout(600)]

SECONDS = 20.0
ROOT = Path(__file__).parents[2]


def config_of(folder, **options):
    """512 x 512, 200 molecules, 200 frames/s, rendered before the start."""
    frames = int(SECONDS * 200)
    source = {"scene": "throughput", "seed": 1, "prerender": frames, "n_frames": frames}
    return parse(
        {
            "source": {"kind": "simulated", "options": source | options},
            "journal": {"folder": str(folder)},
            "wire": {"publish": "tcp://127.0.0.1:*", "command": "tcp://127.0.0.1:*"},
        }
    )


def test_two_hundred_frames_a_second_of_two_hundred_molecules(tmp_path):
    with Session(config_of(tmp_path)) as session:
        result = session.run()
    print(f"\nlive, 512 x 512, 200 molecules, 200 frames/s, {SECONDS:g} s: {result.frames}")  # noqa: T201
    print(f"latency p50 {result.latency_ms['p50']:.1f} ms, p99 {result.latency_ms['p99']:.1f} ms")  # noqa: T201
    assert result.frames["shed"] == 0


def test_stages_one_by_one(tmp_path):
    """Localize on one thread; link and infer from the recorded spots."""
    config = config_of(tmp_path, prerender=0, n_frames=300, paced=False)
    stages = open_stages(config)
    stages.localizer.warm_up()
    frames = [item for item in stages.source.frames() if isinstance(item, Frame)]
    times = []
    for frame in frames:
        began_s = time.perf_counter()
        spots = stages.localizer(frame)
        times.append(time.perf_counter() - began_s)
    n_spots, ms = len(spots.table), 1e3 * float(np.median(times))
    print(f"\nlocalize: {ms:.2f} ms a frame, {n_spots} spots")  # noqa: T201
    with Session(config) as session:
        folder = session.run().run
    began_s = time.perf_counter()
    n_frames = sum(1 for _ in replay_stages(read_run(folder)))
    print(f"link + infer: {1e3 * (time.perf_counter() - began_s) / n_frames:.2f} ms a frame")  # noqa: T201
    assert n_frames == 300


@pytest.mark.long
def test_a_thousand_frames_a_second_of_a_small_field(tmp_path):
    """Needs the machine to itself. Limits: nothing shed, 99 % of the answers out within 5 ms."""
    config = load(ROOT / "configs" / "fast-small-field.toml")
    config = msgspec.structs.replace(
        config,
        journal=msgspec.structs.replace(config.journal, folder=str(tmp_path)),
        wire=msgspec.structs.replace(
            config.wire, publish="tcp://127.0.0.1:*", command="tcp://127.0.0.1:*"
        ),
    )
    with Session(config) as session:
        result = session.run()
    print(f"\nlive, 512 x 512, 100 molecules, 1,000 frames/s: {result.frames}")  # noqa: T201
    print(f"latency p50 {result.latency_ms['p50']:.2f} ms, p99 {result.latency_ms['p99']:.2f} ms")  # noqa: T201
    assert result.frames["processed"] == 20_000
    assert result.frames["shed"] == 0
    assert result.latency_ms["p99"] <= 5.0
