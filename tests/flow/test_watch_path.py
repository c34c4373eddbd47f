"""Alarms and a number of states that changes, through the loop to the journal and the listeners."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from livespt.dashboard.state import LiveState
from livespt.infer import OnlineFilter
from livespt.journal import Journal, read_run
from livespt.pipeline import Chain, Pipeline
from livespt.sections import WatchConfig
from livespt.sinks import BroadcastSink, JournalSink
from livespt.types import Frame, SourceInfo

_spec = importlib.util.spec_from_file_location(
    "watch_scene", Path(__file__).parents[1] / "statistics" / "watch_scene.py"
)
scenes = sys.modules["watch_scene"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(scenes)

N_FRAMES, DIM_FROM = 400, 300


class TrueLinker:
    """Gives each frame the links that the scene knows."""

    def __init__(self, links):
        self._links = links

    def step(self, spots):
        return self._links[spots.frame]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Three states where two were thought of; from frame 300 on the light is a third."""
    scene = scenes.Scene(n=80, D_um2_s=(0.02, 0.2, 2.0), p_bleach=1e-3)
    dim = scene._replace(photons=100.0)
    stream = scenes.stream(lambda n: dim if n >= DIM_FROM else scene, N_FRAMES, 2)
    spots, links = zip(*stream, strict=True)
    online = OnlineFilter("auto", scenes.DT_S, watch=WatchConfig(false_alarms_per_hour=10.0))
    info = SourceInfo("scene", (4, 4), scenes.DT_S, 1e-6, N_FRAMES, paced=False)
    messages = []
    with Journal(tmp_path_factory.mktemp("runs"), "", info, n_states=4) as journal:
        sinks = [
            JournalSink(journal),
            BroadcastSink([messages.append], pixel_um=0.1, image_every_s=0),
        ]
        chain = Chain(lambda frame: spots[frame.index], TrueLinker(links), online)
        pipeline = Pipeline(chain, sinks, workers=1)
        adu = np.zeros((4, 4), np.uint16)
        pipeline.run(Frame(n, n * scenes.DT_S, adu, 1e-6) for n in range(N_FRAMES))
    return read_run(journal.folder), messages, pipeline.last


def test_the_alarm_is_in_the_journal_and_went_to_whoever_listens(run):
    folder, messages, _ = run
    kinds = folder.rows("events")["kind"].tolist()
    assert kinds == [m.kind for m in messages if type(m).__name__ == "EventMessage"]
    assert {"changed", "note"} <= set(kinds)
    told = [e for e in folder.rows("events") if e["message"].startswith("photons fell to ")]
    assert len(told) == 1
    assert abs(told[0]["frame"] - DIM_FROM) < 30
    assert told[0]["name"] == "photons"
    assert told[0]["after"] / told[0]["before"] == pytest.approx(1 / 3, rel=0.2)
    (note,) = (e for e in folder.events if e.kind == "note")
    assert (note.name, note.before, note.after) == ("n_states", 2.0, 3.0)


def test_the_number_of_states_changes_everywhere_at_once(run):
    folder, messages, last = run
    assert len(last.model.D_um2_s) == 3
    sizes = [len(m.model.D_um2_s) for m in messages if type(m).__name__ == "EstimateMessage"]
    assert sizes == sorted(sizes)
    assert set(sizes) == {2, 3}
    written = [len(folder.model(i).D_um2_s) for i in range(N_FRAMES)]
    assert written == sizes
    np.testing.assert_array_equal(folder.model().D_95, last.model.D_95)
    assert folder.estimates["p_state"].shape[1] == 4
    np.testing.assert_allclose(folder.estimates["p_state"].sum(axis=1), 1)


def test_a_view_follows_the_number_of_states(run):
    _, messages, _ = run
    state = LiveState()
    seen = set()
    for seq, message in enumerate(messages):
        state.update(type(message)(**{**_fields(message), "seq": seq + 1}))
        seen.add(state.n_states)
    assert seen == {0, 2, 3} or seen == {2, 3}
    assert state.answers.width == 18
    assert state.events[-1].kind in ("changed", "note")


def _fields(message):
    return {name: getattr(message, name) for name in message.__struct_fields__}
