"""Real molecules, linked by others (quot's tracks of HaloTag-NLS, about 10 um2/s and bound)."""

import numpy as np

from livespt.link import Linker
from livespt.types import SPOT_DTYPE, Spots

INTERVAL_S = 0.00748
PIXEL_UM = 0.16


def pairs_of(track):
    """Return the set of (spot, next spot) of each track; spots are in order of time."""
    order = np.argsort(track, kind="stable")
    same = track[order[1:]] == track[order[:-1]]
    return set(zip(order[:-1][same].tolist(), order[1:][same].tolist(), strict=True))


def test_links_that_others_made_in_a_real_cell_are_found(shared_data):
    """Their links were made with a search radius and without gaps; ours bridge gaps besides.

    At least 95 % of theirs are found; both parts seen by others (bound, about 10 um2/s) are
    among the modes learned.
    """
    rows = np.genfromtxt(
        shared_data / "real-u2os-halotag-nls-tracks.csv", delimiter=",", names=True
    )
    rows = rows[np.argsort(rows["frame"], kind="stable")]
    table = np.zeros(len(rows), SPOT_DTYPE)
    for axis in "xy":
        table[f"{axis}_um"] = PIXEL_UM * rows[axis]
        table[f"var_{axis}_um2"] = (PIXEL_UM * np.clip(rows[f"{axis}_err"], 0.05, 2.0)) ** 2
    n_frames = int(rows["frame"][-1]) + 1
    edge = np.searchsorted(rows["frame"], np.arange(n_frames + 1))
    linker, found = Linker(INTERVAL_S), np.zeros(len(rows), int)
    for frame in range(n_frames):
        here = slice(edge[frame], edge[frame + 1])
        links = linker.step(Spots(frame, frame * INTERVAL_S, INTERVAL_S, 1.0, table[here]))
        found[here] = links.track_id
    theirs, ours = pairs_of(rows["trajectory"]), pairs_of(found)
    assert len(theirs) > 1000
    assert len(theirs & ours) > 0.95 * len(theirs)
    motion = linker.motion
    assert motion.occupancy[motion.D_um2_s > 5].sum() > 0.3
    assert motion.occupancy[motion.D_um2_s < 0.1].sum() > 0.1
