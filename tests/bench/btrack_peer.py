"""btrack in an environment of its own: ``python btrack_peer.py SPOTS.npz RADIUS_UM TRACKS.npz``.

`SPOTS` has ``at`` (n, 2) in um and ``frame`` (n,); `TRACKS` gets ``ids`` (n,), -1 for none, and the
CPU time ``seconds`` of the thread, from the positions to the tracks.
"""

import sys
import time

import btrack as bt
import numpy as np
from btrack.config import TrackerConfig
from btrack.models import MotionModel

#: Frames that a spot may be missed.
MEMORY = 2
#: Its defaults are for pixels: 0.1 um a pixel.
SCALE = 10.0
SIDE_UM = 40.0


def model(radius_um):
    """Return a random walk as the motion model."""
    sd = radius_um * SCALE / 3
    return MotionModel(
        name="walk",
        measurements=3,
        states=6,
        A=np.eye(6),
        H=np.eye(3, 6),
        P=0.1 * np.eye(6),
        R=0.09 * np.eye(3),
        G=sd * np.array([[1.0, 1.0, 0.0, 0.0, 0.0, 0.0]]),
        Q=np.diag([sd**2, sd**2, 1e-3, 1e-3, 1e-3, 1e-3]),
        dt=1.0,
        accuracy=7.5,
        max_lost=MEMORY,
        prob_not_assign=0.001,
    )


def track(at, frame, radius_um):
    """Return the track of each spot."""
    columns = {"t": frame, "x": at[:, 0] * SCALE, "y": at[:, 1] * SCALE, "z": np.zeros(len(at))}
    size = SIDE_UM * SCALE
    config = TrackerConfig(
        motion_model=model(radius_um),
        max_search_radius=radius_um * SCALE,
        volume=((0, size), (0, size), (-1e5, 1e5)),
    )
    with bt.BayesianTracker(verbose=False) as tracker:
        tracker.configure(config)
        tracker.append(bt.io.objects_from_dict(columns))
        tracker.track(step_size=int(frame.max()) + 1)
        ids = np.full(len(at), -1)
        for number, spots in enumerate(tracker.refs):
            for spot in spots:
                if spot >= 0:  # below 0: a place it made up for a gap
                    ids[spot] = number
    return ids


def main():
    """Track the spots of one file."""
    with np.load(sys.argv[1]) as given:
        at, frame = given["at"], given["frame"]
    began = time.thread_time()
    ids = track(at, frame, float(sys.argv[2]))
    np.savez(sys.argv[3], ids=ids, seconds=time.thread_time() - began)


if __name__ == "__main__":
    main()
