"""The live path, end to end, on the simulated microscope."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import tomllib

import msgspec
import numpy as np
import pytest

from livespt.camera import Ideal
from livespt.cli import main
from livespt.config import parse
from livespt.journal import Journal, JournalError, read_parquet, read_run
from livespt.link import Linker
from livespt.offline import replay_stages
from livespt.refit import read_tracks, refit
from livespt.sections import LinkConfig
from livespt.session import Session
from livespt.types import Frame, SourceInfo
from livespt.wire import Subscriber, schema

SECONDS = 4.0
OPTIONS = {"scene": "demo", "seed": 5, "n_frames": 200, "paced": False}


def run_config(folder, workers: int = 2, **options):
    return parse(
        {
            "source": {"kind": "simulated", "options": OPTIONS | options},
            "localize": {"workers": workers},
            "journal": {"folder": str(folder), "name": "flow"},
            "wire": {"publish": "tcp://127.0.0.1:*", "command": "tcp://127.0.0.1:*"},
        }
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One run, with every message it sent."""
    messages: list[schema.AnyMessage] = []
    config = run_config(tmp_path_factory.mktemp("runs"))
    with Session(config, listeners=[messages.append]) as session:
        result = session.run()
    return result, messages


def test_every_frame_is_analysed_and_answered(finished):
    result, messages = finished
    assert result.frames == {"in": 200, "processed": 200, "shed": 0, "missing": 0}
    estimates = [m for m in messages if isinstance(m, schema.EstimateMessage)]
    assert [m.frame for m in estimates] == list(range(200))


def test_the_answer_is_near_the_truth(finished):
    result, _ = finished
    truth = np.array(result.truth["D_um2_s"])
    for model in (result.live, result.final):
        assert model is not None
        # 200 frames: the s.d. of ln D is near 0.05; four of them
        np.testing.assert_allclose(np.log(model.D_um2_s), np.log(truth), atol=0.2)


def test_recorded_spots_give_the_live_answers_bit_for_bit(finished):
    result, _ = finished
    run = read_run(result.run)
    estimates, models, links = [], [], []
    for _, linked, answer in replay_stages(run):
        estimates.append(answer.table)
        models.append(answer.model)
        links.append(linked.track_id)
    again = np.concatenate(estimates)
    recorded = run.estimates
    assert np.array_equal(np.concatenate(links), run.links["track_id"])
    assert len(again) == len(recorded) > 1000
    for name in again.dtype.names:
        assert again[name].tobytes() == recorded[name].tobytes(), name
    for name in ("D_um2_s", "D_95", "occupancy", "p_switch_95", "error_scale_95"):
        replayed = np.array([getattr(model, name) for model in models])
        assert replayed.tobytes() == run.models[name].tobytes(), name


def test_with_a_lag_every_frame_is_answered_whole_with_settled_identities(finished, tmp_path):
    """Crowded, so that identities are revised; once more from the spots, bit for bit."""
    messages: list[schema.AnyMessage] = []
    config = run_config(tmp_path, molecules=150.0, n_frames=60)
    config = msgspec.structs.replace(config, link=LinkConfig(lag=2))
    with Session(config, listeners=[messages.append]) as session:
        result = session.run()
    assert result.frames == {"in": 60, "processed": 60, "shed": 0, "missing": 0}
    told = [m for m in messages if isinstance(m, schema.EstimateMessage)]
    assert [m.frame for m in told] == list(range(60))
    assert all(m.revised is None for m in told)
    run = read_run(result.run)
    tracks = np.concatenate([m.tracks.array()["track_id"] for m in told])
    assert np.array_equal(tracks, run.links["track_id"][run.links["track_id"] >= 0])
    linker = Linker(0.02, field_um=(25.6, 25.6), overrides=LinkConfig(lag=2))
    first = np.concatenate([linker.step(spots).track_id for spots, _ in run.iter_spots()])
    assert np.count_nonzero(first != run.links["track_id"]) > 20
    replayed = list(replay_stages(run))
    again = np.concatenate([answer.table for *_, answer in replayed])
    assert again["D_um2_s"].tobytes() == run.estimates["D_um2_s"].tobytes()
    assert replayed[-1][2].model.p_switch.tobytes() == result.live.p_switch.tobytes()


def test_one_worker_equals_two(finished, tmp_path):
    two, _ = finished
    with Session(run_config(tmp_path, workers=1)) as session:
        one = session.run()
    a, b = read_run(one.run), read_run(two.run)
    assert a.spots.tobytes() == b.spots.tobytes()
    assert a.links.tobytes() == b.links.tobytes()
    assert a.estimates.tobytes() == b.estimates.tobytes()
    assert one.final.D_um2_s.tobytes() == two.final.D_um2_s.tobytes()


def test_the_run_folder_is_whole(finished):
    result, _ = finished
    run = read_run(result.run)
    assert run.status == "finished"
    assert run.problems() == []
    tracks = read_parquet(run.folder / "tracks.parquet")
    assert np.isfinite(tracks["x_um"]).all()
    np.testing.assert_allclose(tracks["p_state"].sum(axis=1), 1, atol=1e-9)
    final = json.loads((run.folder / "final.json").read_text())
    assert final["final"]["D_um2_s"] == result.final.D_um2_s.tolist()
    assert parse(tomllib.loads(run.config)).optics.pixel_um > 0


def test_a_run_folder_is_refitted_to_the_answer_of_its_final_pass(finished):
    result, _ = finished
    data = read_tracks(result.run)
    assert data.interval_s == pytest.approx(result.final.interval_s)
    found = refit(data, "history")
    for k, final in enumerate(result.final.D_um2_s):
        D = found.parameter(f"D_um2_s[{k}]")
        assert abs(D.value - final) < 0.3 * D.sd  # the priors' centres differ


def test_messages_tell_of_compiling_running_and_the_end(finished):
    _, messages = finished
    states = [m.state for m in messages if isinstance(m, schema.StatusMessage)]
    assert states[0] == "compiling"
    assert "finishing" in states
    assert states[-1] == "done"
    assert any(isinstance(m, schema.FinalMessage) for m in messages)
    assert any(isinstance(m, schema.ImageMessage) for m in messages)


@pytest.mark.alone
def test_a_stop_ends_in_good_order(tmp_path):
    config = run_config(tmp_path, n_frames=100_000)

    def stop_at_50(message):
        if isinstance(message, schema.EstimateMessage) and message.frame == 50:
            session.stop()

    with Session(config, listeners=[stop_at_50]) as session:
        result = session.run()
    assert 50 < result.frames["processed"] < 100
    assert result.final is not None
    assert not result.failed
    assert read_run(result.run).status == "finished"


class ThreeFrames:
    """A paced camera that sends three frames and then nothing, until closed."""

    info = SourceInfo("silent", (64, 64), 0.02, 0.02, None, paced=True)
    camera, pixel_um, sigma_um = Ideal(), 0.1, 0.1

    def __init__(self) -> None:
        self._closed = threading.Event()

    def frames(self):
        for i in range(3):
            yield Frame(i, 0.02 * i, np.full((64, 64), 3, np.uint16), 0.02)
        self._closed.wait()

    def close(self) -> None:
        self._closed.set()


@pytest.mark.alone
def test_a_stop_over_the_wire_reaches_a_silent_camera(tmp_path):
    statuses = []

    def obey(message):
        if isinstance(message, schema.StatusMessage) and message.frames_in == 3:
            statuses.append(message)
            if len(statuses) == 3:  # told of the silence three times: enough
                with Subscriber(session.wire.publish_address, session.wire.command_address) as live:
                    live.stop_run("silent")

    config = run_config(tmp_path)
    with Session(config, source=ThreeFrames(), listeners=[obey]) as session:
        result = session.run()
    assert result.frames["processed"] == 3
    assert not result.failed


@pytest.mark.alone
def test_a_silent_camera_is_not_waited_for_beyond_the_time_asked(tmp_path):
    config = msgspec.structs.replace(run_config(tmp_path), stop_after_s=1.0)
    with Session(config, source=ThreeFrames()) as session:
        result = session.run()
    assert result.frames["processed"] == 3
    assert result.seconds["stream"] < 5


def test_a_camera_that_fails_to_close_costs_neither_answer_nor_folder(tmp_path):
    class Stuck(ThreeFrames):
        def frames(self):
            yield from (Frame(i, 0.02 * i, np.full((64, 64), 3, np.uint16), 0.02) for i in range(9))

        def close(self) -> None:
            raise RuntimeError("cable")

    session = Session(run_config(tmp_path), source=Stuck())
    result = session.run()
    assert "cable" in result.failed
    assert result.final is not None
    run = read_run(result.run)
    assert run.status == "finished"
    assert [event.kind for event in run.events] == ["failed"]
    with pytest.raises(RuntimeError, match="cable"):
        session.close()


def test_a_journal_that_fails_costs_no_answer(tmp_path, monkeypatch):
    def full(self, *_, **__):
        raise JournalError("runs: cannot be written: No space left on device")

    config = run_config(tmp_path, n_frames=60)
    with Session(config) as session:
        session.warm_up()
        monkeypatch.setattr(Journal, "commit", full)
        result = session.run()
    assert "No space left" in result.failed
    assert result.live is not None
    assert result.frames["processed"] == 60


def test_a_frame_that_comes_twice_is_not_analysed_twice(tmp_path):
    class Stammering(ThreeFrames):
        info = SourceInfo("stammering", (64, 64), 0.02, 0.02, None, paced=False)

        def frames(self):
            for i in (0, 1, 1, 2, 0, 3):
                yield Frame(i, 0.02 * i, np.full((64, 64), 3, np.uint16), 0.02)

    with Session(run_config(tmp_path), source=Stammering()) as session:
        result = session.run()
    assert result.frames == {"in": 6, "processed": 4, "shed": 2, "missing": 0}
    assert not result.failed


@pytest.mark.alone
def test_demo_prints_one_object_and_needs_no_screen(tmp_path, capsys):
    code = main(
        ["demo", "--json", "--seed", "2", "--seconds", str(SECONDS), "--out", str(tmp_path)]
    )
    out = capsys.readouterr().out
    answer = json.loads(out)  # the whole of stdout is the object
    assert code == 0
    assert {"truth", "live", "final", "localization", "frames", "latency_ms", "run"} <= set(answer)
    for side in ("live", "final"):
        assert len(answer[side]["D_95"]) == len(answer[side]["occupancy_95"]) == 2
        assert answer[side]["D_um2_s"] == sorted(answer[side]["D_um2_s"])
    assert answer["frames"] == {"in": 200, "processed": 200, "shed": 0, "missing": 0}
    assert answer["localization"]["rmse_over_crlb"] < 1.1
    assert os.path.isdir(answer["run"])


def test_replay_of_a_run_folder_prints_the_same_live_answer(finished, capsys):
    result, _ = finished
    assert main(["replay", result.run, "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["live"] == result.as_json()["live"]
    assert again["final"] == result.as_json()["final"]
    assert "truth" not in again


def test_importing_the_command_line_loads_no_qt_and_no_camera_library():
    program = (
        "import sys, livespt.cli, livespt.session; "
        "bad = {'PySide6', 'pyqtgraph', 'pycromanager', 'pymmcore', 'pandas'} & set(sys.modules); "
        "print(sorted(bad))"
    )
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]"
