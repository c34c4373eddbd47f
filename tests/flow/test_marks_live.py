"""Marks on the simulated microscope, from its pixels to a script's handler and the journal."""

from __future__ import annotations

import numpy as np
import pytest

from livespt.config import parse
from livespt.journal import read_run
from livespt.reactions import Reactions
from livespt.session import Session

INTERVAL_S = 0.02


def run(folder, watch, n_frames=1500, **options):
    """Run until the first mark stops it; return the result, the event and the journal."""
    small = {
        "height_px": 128,
        "width_px": 128,
        "molecules": 60.0,
        "D_um2_s": [0.05],
        "interval_s": INTERVAL_S,
        "exposure_s": 0.01,
        "n_frames": n_frames,
        "paced": False,
        "truth_rows": 200_000,
    }
    config = parse(
        {
            "source": {"kind": "simulated", "options": {**small, **options}},
            "infer": {"n_states": 1},
            "watch": watch,
            "wire": {"enabled": False},
            "journal": {"folder": str(folder)},
        }
    )
    reactions, heard = Reactions(), []
    with reactions, Session(config, listeners=[reactions.listener]) as session:
        reactions.report = session.note

        @reactions.on("mark")
        def end(event):
            heard.append(event)
            session.stop()
            raise RuntimeError("the handler's own trouble")

        result = session.run()
        truth = session._stages.source.truth().table
    return result, heard, read_run(result.run), truth


def told_at(heard, name):
    """Return when the only mark was told, in s, and what it said."""
    (event,) = heard
    assert event.name == name
    return (event.frame + event.n_frames) * INTERVAL_S, event


def share_left(truth, event):
    """Return how many molecules shone over the frames that decided, of those of the start."""
    n = np.bincount(truth["frame"][truth["in_view"]])
    return n[event.frame : event.frame + event.n_frames].mean() / n[:40].mean()


def test_a_bleached_sample_stops_its_run(tmp_path):
    """Half after 7 s: 45 % in the mean over 4 s, and with 60 molecules 40 % before it is sure."""
    result, heard, folder, truth = run(
        tmp_path, {"bleached_to": 0.45}, bleach_per_s=0.2, replace=False
    )
    _, event = told_at(heard, "bleached")
    assert result.failed == ""
    assert event in folder.events
    left = share_left(truth, event)
    assert left == pytest.approx(event.after / event.before, abs=0.1)
    assert 0.25 < left < 0.5
    notes = [e.message for e in folder.events if e.kind == "note"]
    assert any("end failed at 'bleached': RuntimeError: the handler's" in note for note in notes)
    assert folder.events[-1].kind in ("note", "stopped")


def test_a_focus_that_drifts_is_told_by_the_spots_width(tmp_path):
    """The width grows as sqrt(1 + (z / .4 um)^2): by 20 % at z = .27 um, at 5.3 s."""
    _, heard, _, _ = run(
        tmp_path, {"focus_lost": 0.2}, depth_um=0.4, focus_drift_um_s=0.05, photons=800.0,
    )  # fmt: skip
    at_s, event = told_at(heard, "defocused")
    assert event.before == pytest.approx(0.1, rel=0.15)
    assert 6 < at_s < 12


CROWD = {"molecules": 250.0, "D_um2_s": [1.0], "photons": 800.0}


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 6))
def test_each_mark_is_told_in_time_at_any_seed(tmp_path, seed):
    """Bleaching by e in 20 s: .45 after 16 s; 3 nm a frame of drift: 20 % at 5.3 s; a crowd.

    Means are over 4 s, the start over 2 s: bleaching was told at 21 to 24 s (molecules that wander
    in bleach later), the drift at 7.4 s, the crowd at 5.8 s.
    """
    options = {"bleach_per_s": 0.1, "replace": False, "molecules": 100.0, "seed": seed}
    _, heard, _, truth = run(tmp_path, {"bleached_to": 0.45, "dense_above": 0.0}, 2500, **options)
    at_s, event = told_at(heard, "bleached")
    assert 12 < at_s < 28
    assert 0.3 < share_left(truth, event) < 0.52
    drift = {"depth_um": 0.4, "focus_drift_um_s": 0.05, "photons": 800.0, "seed": seed}
    _, heard, _, _ = run(tmp_path, {"focus_lost": 0.2, "dense_above": 0.0}, **drift)
    assert 6 < told_at(heard, "defocused")[0] < 12
    _, heard, _, _ = run(tmp_path, {}, 600, seed=seed, **CROWD)
    assert told_at(heard, "dense")[0] < 8


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 4))
def test_where_nothing_changes_no_mark_is_told(tmp_path, seed):
    """Five minutes each, with blinking and bleaching that is made good: .1 an hour are allowed."""
    marks = {"bleached_to": 0.6, "focus_lost": 0.1, "imprecise_above_um": 0.03}
    life = {"bleach_per_s": 0.1, "off_per_s": 0.3, "on_per_s": 5.0, "seed": seed}
    _, heard, folder, _ = run(tmp_path, marks, 15000, **life)
    assert heard == []
    assert len(folder.frames) == 15000
