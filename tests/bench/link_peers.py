"""The peers that link: each takes a scene and returns track numbers per frame, -1 for none.

Each gets its own public functions and, where it has a radius or a cost limit, the best of a few
tried on a scene that is not scored (`best`).
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np

#: Squares of these are laptrack's cost limits; um.
RADII_UM = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2)
#: The interpreter that has btrack: `make bench` lays its environment beside the other peers'.
_BESIDE = Path(sys.prefix).parent / "btrack"
BTRACK = Path(os.environ.get("LIVESPT_BTRACK", _BESIDE / ("Scripts" if os.name == "nt" else "bin")))
BTRACK = BTRACK / ("python.exe" if os.name == "nt" else "python")
#: Frames that a spot may be missed.
MEMORY = 2


def positions(scene):
    """Return (x, y) in um of each frame's spots."""
    return [np.stack([s.table["x_um"], s.table["y_um"]], 1) for s in scene.spots]


def trackpy(scene, radius_um):
    """Crocker and Grier's algorithm, on the stream."""
    import trackpy as tp

    tp.quiet()
    links = tp.link_iter(iter(positions(scene)), radius_um, memory=MEMORY)
    return [np.asarray(ids) for _, ids in links]


def laptrack(scene, radius_um):
    """Jaqaman's linear assignment with gap closing."""
    from laptrack import LapTrack

    limit = radius_um**2
    tracker = LapTrack(
        cutoff=limit,
        gap_closing_cutoff=limit,
        gap_closing_max_frame_count=MEMORY,
        splitting_cutoff=False,
        merging_cutoff=False,
    )
    at = positions(scene)
    graph = tracker.predict(at)
    ids = [np.full(len(p), -1) for p in at]
    import networkx

    for number, part in enumerate(networkx.connected_components(graph.to_undirected())):
        for frame, row in part:
            ids[frame][row] = number
    return ids


def btrack(scene, radius_um):
    """Bayesian belief over hypotheses; in a process of its own, which says what it took."""
    at = positions(scene)
    n = [len(p) for p in at]
    with tempfile.TemporaryDirectory() as folder:
        spots, tracks = Path(folder, "spots.npz"), Path(folder, "tracks.npz")
        np.savez(spots, at=np.concatenate(at), frame=np.repeat(np.arange(len(at)), n))
        script = Path(__file__).with_name("btrack_peer.py")
        command = [str(BTRACK), str(script), str(spots), str(radius_um), str(tracks)]
        subprocess.run(command, check=True, capture_output=True, env=_plain())
        with np.load(tracks) as answer:
            ids, seconds = answer["ids"], float(answer["seconds"])
    return Elsewhere(np.split(ids, np.cumsum(n)[:-1]), seconds)


class Elsewhere(list):
    """Tracks that another process found, and the CPU time it took."""

    def __init__(self, ids, seconds):
        super().__init__(ids)
        self.seconds = seconds


def _plain():
    """Return the environment without what belongs to this interpreter."""
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}


def why_not_btrack():
    """Say why btrack cannot be run here; "" where it can.

    Its compiled part has to load: the wheel of 0.7 wants the C++ library of GCC 13, that of 0.6.5
    an older one, but pydantic below 2, which laptrack refuses. So it has its own environment.
    """
    if not BTRACK.exists():
        return f"no environment of its own at {BTRACK.parent.parent.name}"
    load = "from btrack.libwrapper import get_library; get_library()"
    said = subprocess.run(
        [str(BTRACK), "-c", load], capture_output=True, text=True, env=_plain(), check=False
    )
    return (said.stderr.strip().splitlines() or ["it does not load"])[-1] if said.returncode else ""


def usable():
    """Return the peers that can be run here, by name."""
    found = {}
    for name, function in (("trackpy", trackpy), ("laptrack", laptrack)):
        if importlib.util.find_spec(name):
            found[name] = function
    if not why_not_btrack():
        found["btrack"] = btrack
    return found


def best(peer, scene, score):
    """Return the radius (um) at which `peer` scores best on `scene`; failures score 0."""
    scores = []
    for radius_um in RADII_UM:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                scores.append(score(scene, peer(scene, radius_um)))
        except Exception:  # noqa: BLE001 (trackpy's SubnetOversize and whatever else they raise)
            scores.append(0.0)
    return RADII_UM[int(np.argmax(scores))]
