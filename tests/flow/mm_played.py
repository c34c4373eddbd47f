"""The simulated microscope inside a real core, in a process of its own.

python mm_played.py '[["NAME", {"argument": value}], ...]'   prints a line "FOUND {...}" for each
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

import numpy as np

from livespt.config import ConfigError, parse
from livespt.journal import read_run
from livespt.session import Session
from livespt.sources import BufferedSource
from livespt.types import Event, Frame
from livespt.wire import schema
from livespt_sim.core import open_source
from livespt_sim.source import there_and_back

SMALL = {
    "scene": "demo",
    "height_px": 48,
    "width_px": 64,
    "molecules": 4.0,
    "interval_s": 0.004,
    "exposure_s": 0.004,
    "prerender": 7,
}


def stream(n_frames=60, pause_at=-1, pause_s=0.0, **options):
    """Play a small loop; compare every frame that comes out with the one that was rendered."""
    source = open_source({**SMALL, "n_frames": n_frames, **options})
    source.warm_up()
    memory = [frame.adu.copy() for frame in source._scene.memory]
    same, index, t_s, events = [], [], [], []
    for item in source.frames():
        if isinstance(item, Event):
            events.append([item.kind, item.frame, item.n_frames])
            continue
        index.append(item.index)
        t_s.append(item.t_s)
        same.append(bool((item.adu == memory[there_and_back(item.index, len(memory))]).all()))
        if len(index) == pause_at:
            time.sleep(pause_s)
    return {
        "index": index,
        "events": events,
        "same": same,
        "interval_s": float(np.median(np.diff(t_s))),
        "info": source.info._asdict(),
        "loaded": source._tap._door.core.getLoadedDevices(),
    }


def copies():
    """Say whether the ring and the core share memory with what comes out."""
    source = open_source({**SMALL, "n_frames": 3})
    buffered = BufferedSource(source, 8)
    source.warm_up()
    frames = [item for item in buffered.frames() if isinstance(item, Frame)]
    return {
        "slots": len(buffered.ring._slots),
        "writable": [f.adu.flags.writeable for f in frames],
        "shared": [
            bool(np.shares_memory(f.adu, g.adu)) for f in frames for g in source._scene.memory
        ],
    }


def refusals(cases):
    """Try options that cannot work; return what is said."""
    said = []
    for options in cases:
        try:
            open_source({**SMALL, **options}).close()
            said.append("accepted")
        except ConfigError as error:
            said.append(str(error))
    return {"said": said}


def resident_mb():
    """Return the memory that this process holds now, in MB; Linux only."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 1e6


class Memory(threading.Thread):
    """Notes this process' memory each second."""

    def __init__(self):
        super().__init__(daemon=True)
        self.over = threading.Event()
        self.mb = []

    def run(self):
        while not self.over.wait(1.0):
            self.mb.append(resident_mb())


def live(folder, config, seconds):
    """Run the whole live path; report what the issue asks of it."""
    options = {**config, "stop_after_s": seconds, "journal": {"folder": folder}}
    options["wire"] = {
        **config.get("wire", {}),
        "publish": "tcp://127.0.0.1:*",
        "command": "tcp://127.0.0.1:*",
    }
    memory, latency_ms, events = Memory(), [], []

    def listen(message):
        if isinstance(message, schema.EstimateMessage):
            latency_ms.append(message.latency_ms)
        elif isinstance(message, schema.EventMessage):
            events.append([message.kind, message.frame, message.message])

    with Session(parse(options), listeners=[listen]) as session:
        session.warm_up()
        ended = session._end_stream

        def end_stream():
            memory.over.set()  # the final pass takes memory of its own
            ended()

        session._end_stream = end_stream
        memory.start()
        result = session.run()
    run = read_run(result.run)
    return {
        "frames": result.frames,
        "latency_ms": result.latency_ms,
        "latencies_ms": latency_ms,
        "contiguous": bool((np.diff(run.frames["frame"]) == 1).all()),
        "memory_mb": memory.mb,
        "events": events,
        "n_spots": result.localization["n_spots"],
        "recall": result.localization["recall"],
        "D_um2_s": result.live.D_um2_s.tolist(),
        "true_D_um2_s": result.truth["D_um2_s"],
        "failed": result.failed,
    }


if __name__ == "__main__":
    for name, arguments in json.loads(sys.argv[1]):
        print("\nFOUND " + json.dumps(globals()[name](**arguments)), flush=True)  # noqa: T201
