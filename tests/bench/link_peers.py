"""The peers that link: each takes a scene and returns track numbers per frame, -1 for none.

Each gets its own public functions and, where it has a radius or a cost limit, the best of a few
tried on a scene that is not scored (`best`).
"""

from __future__ import annotations

import importlib.util
import warnings

import numpy as np

#: Squares of these are laptrack's cost limits; um.
RADII_UM = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2)
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
    """Bayesian belief over hypotheses; a random walk as the motion model."""
    import btrack as bt
    from btrack.config import TrackerConfig
    from btrack.models import MotionModel

    eye, scale = np.eye(6), 10.0  # its defaults are for pixels: 0.1 um a pixel
    sd = radius_um * scale / 3
    motion = MotionModel(
        name="walk",
        measurements=3,
        states=6,
        A=eye,
        H=np.eye(3, 6),
        P=0.1 * eye,
        R=0.09 * np.eye(3),
        G=sd * np.array([[1.0, 1.0, 0.0, 0.0, 0.0, 0.0]]),
        Q=np.diag([sd**2, sd**2, 1e-3, 1e-3, 1e-3, 1e-3]),
        dt=1.0,
        accuracy=7.5,
        max_lost=MEMORY,
        prob_not_assign=0.001,
    )
    at = positions(scene)
    rows = {"t": [], "x": [], "y": [], "z": []}
    for frame, p in enumerate(at):
        rows["t"] += [frame] * len(p)
        rows["x"] += (p[:, 0] * scale).tolist()
        rows["y"] += (p[:, 1] * scale).tolist()
        rows["z"] += [0.0] * len(p)
    objects = bt.io.objects_from_dict({k: np.array(v) for k, v in rows.items()})
    size = 40.0 * scale
    config = TrackerConfig(
        motion_model=motion,
        max_search_radius=radius_um * scale,
        volume=((0, size), (0, size), (-1e5, 1e5)),
    )
    with bt.BayesianTracker(verbose=False) as tracker:
        tracker.configure(config)
        tracker.append(objects)
        tracker.track(step_size=len(at))
        refs = tracker.refs
    first = np.concatenate([[0], np.cumsum([len(p) for p in at])])
    ids = np.full(first[-1], -1)
    for number, track in enumerate(refs):
        for ref in track:
            if ref >= 0:  # below 0: a place it made up for a gap
                ids[ref] = number
    return np.split(ids, first[1:-1])


def loads_btrack():
    """Say whether btrack's compiled part loads (its wheel wants the C++ library of GCC 13)."""
    if not importlib.util.find_spec("btrack"):
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from btrack.libwrapper import get_library

            get_library()
    except Exception:  # noqa: BLE001 (it raises a bare Exception)
        return False
    return True


def usable():
    """Return the peers that can be run here, by name."""
    found = {}
    for name, function in (("trackpy", trackpy), ("laptrack", laptrack)):
        if importlib.util.find_spec(name):
            found[name] = function
    if loads_btrack():
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
