"""How fast and how good the linker is, with trackpy, laptrack and btrack beside it: `make bench`.

All see the same spots and take turns, btrack in a process of its own; times are the CPU time of
the thread.
Each peer has the radius that did best on another scene; the linker has no setting. The table goes
to ``bench/link.md`` and ``.json``. The asserts only guard floors that no noise reaches.
"""

from __future__ import annotations

import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from livespt.link import Linker
from livespt.sections import LinkConfig

sys.path.insert(0, str(Path(__file__).parents[1] / "statistics"))  # link_scene.py
sys.path.insert(0, str(Path(__file__).parent))

import link_peers
import link_scene
from ledger import Ledger, Row

pytestmark = [
    pytest.mark.bench,
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings("ignore"),  # the peers' own
]

PEERS = link_peers.usable()
#: molecules: name, frames for us and trackpy, frames for the slow ones, targets of JSC and ms.
SCENES = {
    50: ("low", 100, 100, (0.875, 0.05), (0.885, 0.2)),
    200: ("medium", 100, 40, (0.74, 0.12), (0.79, 1.0)),
    1000: ("high", 100, 8, (0.53, 0.6), (0.57, 5.0)),
}
FIELD_UM = (link_scene.FIELD_UM,) * 2


@pytest.fixture(scope="module")
def ledger():
    """The table of this run."""
    missing = {"trackpy", "laptrack", "btrack"} - set(PEERS)
    why = {"btrack": link_peers.why_not_btrack()}
    without = "".join(f" (not to be run here: {m} {why.get(m, '')})" for m in sorted(missing))
    found = Ledger(", ".join(PEERS) + without, name="link")
    yield found
    print(f"\n{found.markdown()}\n{found.write()}")  # noqa: T201


def ours(scene, lag, field_um=FIELD_UM):
    """Link a scene; return the final tracks."""
    linker = Linker(link_scene.INTERVAL_S, field_um=field_um, overrides=LinkConfig(lag=lag))
    ids = []
    for spots in scene.spots:
        links = linker.step(spots)
        ids.append(links.track_id)
        for frame, row, track, _ in links.revised.tolist():
            ids[frame][row] = track
    return ids


def ms_a_frame(job, scene, rounds):
    """Return the least CPU time of a run over a scene, per frame, and its answer."""
    taken, answer = [], None
    for _ in range(rounds):
        began = time.thread_time()
        answer = job(scene)
        seconds = getattr(answer, "seconds", time.thread_time() - began)  # of another process
        taken.append(1e3 * seconds / len(scene.spots))
    return min(taken), answer


def rmse_nm(scene, ids):
    """Return the error of the spots in tracks, against the molecule that each belongs to."""
    square = []
    for spots, owner, (who, where), found in zip(*scene, ids, strict=True):
        true = dict(zip(who.tolist(), where, strict=True))
        for row in np.flatnonzero((owner >= 0) & (found >= 0)):
            at = spots.table[["x_um", "y_um"]][row]
            square.append(((np.array([*at.tolist()]) - true[int(owner[row])]) ** 2).sum())
    return 1e3 * float(np.sqrt(np.mean(square)))


def jsc(scene, ids):
    return link_scene.isbi(scene, ids).jsc


def note(scene, ids):
    scores = link_scene.isbi(scene, ids)
    return (
        f"alpha {scores.alpha:.3f}, JSC_theta {scores.jsc_theta:.3f}, "
        f"RMSE {rmse_nm(scene, ids):.1f} nm, {len(ids)} frames"
    )


@pytest.mark.parametrize("n", SCENES)
def test_linkers(ledger, n):
    name, n_frames, n_slow, *targets = SCENES[n]
    Linker(1.0).warm_up()
    scene = link_scene.make_scene(n, n_frames, 1)
    spared = link_scene.make_scene(n, min(n_frames, n_slow), 77)
    theirs, score = 0.0, 0.0
    for peer_name, peer in PEERS.items():
        few = scene if peer_name == "trackpy" else link_scene.make_scene(n, n_slow, 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            radius_um = link_peers.best(peer, spared, jsc)
            ms, ids = ms_a_frame(lambda s, p=peer, r=radius_um: p(s, r), few, 2)
        if peer_name == "trackpy":
            theirs, score = ms, jsc(scene, ids)
        beside = jsc(few, ours(few, 0))  # fewer frames are easier: say what we do on them
        said = f"{note(few, ids)}, radius {radius_um} um; livespt on these at lag 0 {beside:.3f}"
        ledger.add(Row(f"{name} density, {peer_name}, JSC", "", jsc(few, ids), note=said))
        ledger.add(Row(f"{name} density, {peer_name}", "ms", ms, above=False))
    for lag, (aim, aim_ms) in zip((0, 2), targets, strict=True):
        ms, ids = ms_a_frame(lambda s, k=lag: ours(s, k), scene, 5)
        figure = f"{name} density, livespt at lag {lag}"
        found = ledger.add(
            Row(f"{figure}, JSC", "", jsc(scene, ids), aim, score, note=note(scene, ids))
        )
        ledger.add(Row(figure, "ms", ms, aim_ms, theirs, above=False))
        assert found.ours >= 0.9 * aim
        assert ms < 10 * aim_ms


def test_ten_thousand_molecules(ledger):
    """At the high scene's density, in a larger field."""
    side_um = link_scene.FIELD_UM * np.sqrt(10)
    scene = link_scene.make_scene(10_000, 12, 1, field_um=side_um)
    for lag, aim in ((0, 10.0), (2, 0.0)):
        ms, _ = ms_a_frame(lambda s, k=lag: ours(s, k, (side_um, side_um)), scene, 3)
        row = ledger.add(Row(f"10,000 molecules, livespt at lag {lag}", "ms", ms, aim, above=False))
        assert row.ours < 200
