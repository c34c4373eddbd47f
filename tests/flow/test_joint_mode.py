"""Joint mode, end to end: dim molecules, live and replayed."""

from __future__ import annotations

import numpy as np
import pytest

from livespt.config import parse
from livespt.journal import read_run
from livespt.offline import replay_recorded, replay_stages
from livespt.session import Session
from livespt.types import FitStatus
from livespt.wire import schema

OPTIONS = {"scene": "dim", "seed": 4, "photons": 55.0, "n_frames": 120, "paced": False}


def run_config(folder, *, joint: bool = True, workers: int = 2):
    return parse(
        {
            "source": {"kind": "simulated", "options": OPTIONS},
            "localize": {"joint": joint, "workers": workers},
            "journal": {"folder": str(folder), "name": "joint"},
            "wire": {"publish": "tcp://127.0.0.1:*", "command": "tcp://127.0.0.1:*"},
        }
    )


@pytest.fixture(scope="module")
def guided(tmp_path_factory):
    """One run in joint mode, and what it sent."""
    messages: list[schema.AnyMessage] = []
    config = run_config(tmp_path_factory.mktemp("runs"))
    with Session(config, listeners=[messages.append]) as session:
        result = session.run()
    return result, messages


def test_recorded_spots_give_the_live_answers_bit_for_bit(guided):
    result, _ = guided
    run = read_run(result.run)
    replayed = list(replay_stages(run))
    links = np.concatenate([linked.track_id for _, linked, _ in replayed])
    again = np.concatenate([answer.table for *_, answer in replayed])
    assert np.count_nonzero(run.spots["guided"]) > 50
    assert np.array_equal(links, run.links["track_id"])
    for name in again.dtype.names:
        assert again[name].tobytes() == run.estimates[name].tobytes(), name
    final = replay_recorded(run.folder).final
    assert final.D_um2_s.tobytes() == result.final.D_um2_s.tobytes()


def test_one_worker_equals_two(guided, tmp_path):
    two, _ = guided
    with Session(run_config(tmp_path, workers=1)) as session:
        one = session.run()
    a, b = read_run(one.run), read_run(two.run)
    for stream in ("spots", "links", "estimates"):
        assert getattr(a, stream).tobytes() == getattr(b, stream).tobytes()


def test_the_blind_rows_are_those_of_a_run_without_joint_mode(guided, tmp_path):
    """And dim molecules are held: fewer, longer tracks."""
    joint = read_run(guided[0].run)
    with Session(run_config(tmp_path, joint=False)) as session:
        blind = read_run(session.run().run)
    found_blind = joint.spots[joint.spots["guided"] == 0]
    assert found_blind.tobytes() == blind.spots.tobytes()
    n_tracks = [run.links["track_id"].max() for run in (joint, blind)]
    assert n_tracks[0] < n_tracks[1]


def test_guided_rows_are_whole_and_begin_no_track(guided):
    run = read_run(guided[0].run)
    spots, track_id = run.spots, run.links["track_id"]
    here = spots["guided"] == 1
    assert np.all(spots["status"][here] == FitStatus.OK)
    for name in spots.dtype.names:
        assert np.isfinite(spots[name][here]).all(), name
    linked = track_id >= 0
    _, first = np.unique(track_id[linked], return_index=True)
    assert not spots["guided"][linked][first].any()


def test_messages_count_the_guided_fits(guided):
    result, messages = guided
    told = sum(m.n_guided for m in messages if isinstance(m, schema.EstimateMessage))
    assert told == np.count_nonzero(read_run(result.run).spots["guided"])
