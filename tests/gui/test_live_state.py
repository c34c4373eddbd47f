"""The state behind both faces follows the run, and the verdict follows the data."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from messages import Scene

from livespt.dashboard import words
from livespt.dashboard.quality import judge, judge_state
from livespt.dashboard.state import N_EVENTS, LiveState, Quality
from livespt.wire.schema import SnapshotMessage


def state_after(scene: Scene, n_frames: int = 20) -> LiveState:
    state = LiveState()
    state.update(scene.hello())
    for _ in range(n_frames):
        state.update(scene.estimate())
    state.update(scene.status())
    return state


def test_a_new_run_empties_the_state():
    state = state_after(Scene(run="run-a"))
    state.update(Scene(n_states=3, run="run-b").hello())
    assert state.run == "run-b"
    assert state.n_states == 3
    assert state.estimate is None
    assert len(state.answers) == 0
    assert not state.events


def test_a_publisher_that_counts_from_the_start_again_empties_the_state():
    state = state_after(Scene(run="same"), 20)
    state.update(Scene(run="same").estimate())
    assert len(state.answers) == 1


def test_messages_without_a_stamp_are_understood_too():
    """The pipeline's own listeners get messages before the publisher stamps them."""
    scene, state = Scene(run=""), LiveState()
    plain = {"seq": 0}
    state.update(msgspec.structs.replace(scene.status("compiling"), **plain))
    hello = msgspec.structs.replace(scene.hello(), **plain)
    state.update(hello)
    for _ in range(5):
        state.update(msgspec.structs.replace(scene.estimate(), **plain))
    state.update(hello)  # the same once more
    assert state.title == "run-a"  # its folder's name
    assert state.run_state == "compiling"
    assert len(state.answers) == 5
    state.update(msgspec.structs.replace(hello, folder="runs/another"))
    assert len(state.answers) == 0


def test_an_image_of_the_last_run_does_not_bring_it_back():
    state = state_after(Scene(run="run-b"))
    state.update(Scene(run="run-a").image())
    assert state.run == "run-b"
    assert state.image is None


def test_an_image_that_overtakes_or_lags_changes_nothing_else():
    scene = Scene()
    late = scene.image()
    state = state_after(scene)
    state.update(late)
    assert state.image is late
    assert len(state.answers) == 20


def test_a_snapshot_fills_the_state_and_its_repeat_adds_nothing():
    scene = Scene()
    parts = {"hello": scene.hello(), "estimate": scene.estimate(), "status": scene.status()}
    events = [scene.event("missing", "3 frames lost", 3), scene.event("overflow", "full", 9)]
    snapshot = SnapshotMessage(seq=scene.seq, run=scene.run, events=events, **parts)
    state = LiveState()
    for _ in range(2):
        state.update(snapshot)
    assert state.hello is parts["hello"]
    assert len(state.answers) == 1
    assert len(state.events) == 2
    assert {drop.name: drop.n for drop in state.drops}["overflow"] == 1


def test_events_and_curves_are_bounded():
    scene, state = Scene(n_tracks=3), LiveState(capacity=64)
    for i in range(1500):
        state.update(scene.estimate())
        state.update(scene.event("note", f"event {i}"))
    assert len(state.events) == N_EVENTS
    assert len(state.answers) <= 65
    assert len(state.figures) <= 65


def test_bounds_that_are_not_known_yet_still_draw():
    scene, state = Scene(), LiveState()
    message = scene.estimate()
    wide = [(0.0, math.inf)] * 2
    model = msgspec.structs.replace(message.model, D_95=wide)
    state.update(msgspec.structs.replace(message, model=model))
    _, rows = state.answers.rows()
    assert len(rows) == 1
    assert np.isfinite(rows).all()
    assert words.span(wide[0], model.D_um2_s[0]).endswith("∞")


def test_frames_without_spots_do_not_spoil_the_figures():
    state = state_after(Scene())
    before = state.quality
    empty = {"n_spots": 0, "median_sd_um": 0.0, "sbr": 0.0, "median_photons": 0.0}
    scene = Scene()
    scene.seq = 1000
    state.update(msgspec.structs.replace(scene.estimate(), **empty))
    assert state.quality == before


@pytest.mark.parametrize(
    ("changes", "level", "why"),
    [
        ({}, "good", ""),
        ({"sbr": 1.5}, "fair", "background"),
        ({"sbr": 0.5}, "poor", "background"),
        ({"precision_um": 0.08}, "fair", "slow state's steps"),
        ({"precision_um": 0.4}, "poor", "slow state's steps"),
        ({"n_spots": 0.0}, "unknown", ""),
    ],
)
def test_the_verdict_names_what_spoils_the_data(changes, level, why):
    scene = Scene(2)
    quality = Quality(0.024, 300.0, 5.0, 4.2, 30.0)._replace(**changes)
    verdict = judge(quality, scene.hello(), scene.model(50_000))
    assert verdict.level == level
    assert why in "; ".join(verdict.reasons)


def test_a_fast_state_smeared_by_the_exposure_is_named():
    scene = Scene(2)
    model = msgspec.structs.replace(scene.model(50_000), D_um2_s=[0.08, 8.0])
    verdict = judge(Quality(0.024, 300.0, 5.0, 4.2, 30.0), scene.hello(), model)
    assert "the fast state is smeared" in verdict.reasons


@pytest.mark.parametrize("text", ["", "not toml [", "optics = 3", "[optics]\nsigma_um = 'wide'"])
def test_a_config_that_cannot_be_read_is_judged_without_the_blur(text):
    scene = Scene(2)
    hello = msgspec.structs.replace(scene.hello(), config_toml=text)
    verdict = judge(Quality(0.024, 300.0, 5.0, 4.2, 30.0), hello, scene.model(50_000))
    assert verdict.level == "good"


def test_few_steps_are_never_called_good():
    scene = Scene(2)
    verdict = judge(Quality(0.024, 300.0, 5.0, 4.2, 30.0), scene.hello(), scene.model(40))
    assert verdict.level == "fair"
    assert "40 steps so far" in verdict.reasons


def test_nothing_is_judged_before_a_run():
    assert judge_state(LiveState()).level == "unknown"


def test_numbers_have_the_digits_that_their_interval_supports():
    assert words.estimate(0.08213, (0.075, 0.090)) == "0.0821"
    assert words.estimate(1.234, (0.5, 2.0)) == "1.23"
    assert words.span((0.075, 0.090), 0.08213) == "0.0750 – 0.0900"
    assert words.headline(0.020813) == "0.0208"
    assert words.headline(1.953) == "1.95"
    assert words.headline(123.4) == "123"
    assert words.clock(3725) == "1:02:05"
    assert words.size(1_234_567) == "1.2 MB"
