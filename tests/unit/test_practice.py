"""The loop practises before the first frame, and nothing of it stays."""

from __future__ import annotations

import numpy as np
import pytest

from livespt.config import parse
from livespt.practice import N_FRAMES, made_up, practise
from livespt.sections import Config
from livespt.stages import open_stages
from livespt.types import FitStatus, Frame


@pytest.fixture
def stages():
    options = {"scene": "demo", "height_px": 96, "width_px": 128, "prerender": 4, "seed": 1}
    opened = open_stages(parse({"source": {"kind": "simulated", "options": options}}, "c", Config))
    yield opened
    opened.source.close()


def test_practice_frames_hold_molecules_that_the_localizer_finds(stages):
    spots = stages.localizer(Frame(0, 0.0, made_up(stages), 0.01))
    found = np.count_nonzero(spots.table["status"] == FitStatus.OK)
    assert 7 <= found <= 14  # 14 are drawn; some lie together or at the edge


def test_practice_goes_all_the_way_and_leaves_no_trace(stages, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    seen = []
    localize = stages.localizer
    practise(stages._replace(localizer=lambda frame: seen.append(frame) or localize(frame)))
    assert len(seen) == N_FRAMES
    assert list(tmp_path.iterdir()) == []
    assert stages.online.model().n_steps == 0
    frame = Frame(0, 0.0, made_up(stages), 0.01)  # before those of the practice: still the first
    links = stages.linker.step(stages.localizer(frame))
    assert links.track_id.max() == len(links.track_id) - 1
