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


def test_a_bleached_sample_stops_its_run(tmp_path):
    """Half after 7 s: 45 % in the mean over 4 s, and with 60 molecules 40 % before it is sure."""
    result, heard, folder, truth = run(
        tmp_path, {"bleached_to": 0.45}, bleach_per_s=0.2, replace=False
    )
    (event,) = heard
    assert result.failed == ""
    assert event.name == "bleached"
    assert event in folder.events
    n = np.bincount(truth["frame"][truth["in_view"]])
    left = n[event.frame : event.frame + event.n_frames].mean() / n[:40].mean()
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
    (event,) = heard
    assert event.name == "defocused"
    assert event.before == pytest.approx(0.1, rel=0.15)
    at_s = (event.frame + event.n_frames - 1) * INTERVAL_S
    assert 6 < at_s < 12
