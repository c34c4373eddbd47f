"""The whole live path on the real MMCore, each run in a process of its own.

python mm_live.py NAME '{"argument": value}'   prints one JSON line, the last
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from mm_scenarios import user_core
from mm_stage_walk import StageWalk

from livespt.config import parse
from livespt.infer import smooth_run
from livespt.journal import read_run, track_rows
from livespt.session import Session

NO_WIRE = {"enabled": False}


def walk(n_frames=600, D_um2_s=0.05, seed=3):
    """Drive a Brownian walk through the XY stage and infer it from the images."""
    with user_core() as core, tempfile.TemporaryDirectory() as folder:
        source = StageWalk(
            core, D_um2_s=D_um2_s, n_frames=n_frames, seed=seed, roi=(0, 0, 256, 256)
        )
        config = parse(
            {
                "camera": {"model": "ideal"},
                "optics": {"pixel_um": 0.1, "sigma_um": 0.095},
                "infer": {"n_states": 1},
                "journal": {"folder": folder},
                "wire": NO_WIRE,
            }
        )
        with Session(config, source=source) as session:
            result = session.run()
        rows = track_rows(read_run(result.run))
        # all beads move as one: the interval that a walk deserves is that of a single bead
        longest = np.bincount(rows["track_id"]).argmax()
        one = smooth_run(rows[rows["track_id"] == longest], result.final)
        return {
            "frames": result.frames,
            "true": D_um2_s,
            "realised": source.realised_D_um2_s,
            "beads": result.final.D_um2_s.tolist(),
            "beads_95": result.final.D_95.tolist(),
            "one_n": int((rows["track_id"] == longest).sum()),
            "one": one.model.D_um2_s.tolist(),
            "one_95": one.model.D_95.tolist(),
        }


def stream(n_frames=300):
    """Analyse DemoCamera's own stream at about 100 frames/s."""
    with tempfile.TemporaryDirectory() as folder:
        options = {"exposure_ms": 9.0, "properties": {"Camera.Mode": "Fluorescent Beads"}}
        config = parse(
            {
                "source": {"kind": "micromanager", "options": options},
                "camera": {"model": "ideal"},
                "optics": {"pixel_um": 0.1, "sigma_um": 0.095},
                "infer": {"n_states": 1},
                "journal": {"folder": folder},
                "wire": NO_WIRE,
                "stop_after_frames": n_frames,
            }
        )
        with Session(config) as session:
            result = session.run()
        run = read_run(result.run)
        return {
            "frames": result.frames,
            "latency_ms": result.latency_ms,
            "rate": n_frames / result.seconds["stream"],
            "contiguous": bool((np.diff(run.frames["frame"]) == 1).all()),
            "events": [[e.kind, e.message] for e in run.events],
            "n_spots": result.localization["n_spots"],
        }


if __name__ == "__main__":
    print("\n" + json.dumps(globals()[sys.argv[1]](**json.loads(sys.argv[2]))))  # noqa: T201
