"""Control in a whole run: simulated laser, the guard's own process, wire, journal, dry run."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from livespt.cli import main
from livespt.config import ConfigError, load, parse
from livespt.control import LOG_FILE, ControlError, read_log
from livespt.control.law import Wish
from livespt.journal import read_run
from livespt.rehearse import advise
from livespt.session import Session
from livespt.sources.stamped import StampedSource
from livespt.types import Frame, SourceInfo
from livespt.wire import Subscriber, schema

pytestmark = pytest.mark.alone

ROOT = Path(__file__).parents[2]


def a_config(folder: Path, seconds: float, **control):
    """Return the ready config, for a busy machine: data may be late."""
    config = load(ROOT / "configs" / "closed-loop.toml")
    raw = msgspec.to_builtins(config)
    raw["journal"] |= {"folder": str(folder)}
    raw["wire"] |= {"publish": "tcp://127.0.0.1:*", "command": "tcp://127.0.0.1:*"}
    raw["stop_after_s"] = seconds
    raw.pop("stop_after_frames")
    raw["source"]["options"] |= {"photons_tau_s": 0.0}
    raw["control"] |= control
    raw["control"]["actuator"]["options"]["limits"] |= {"stale_s": 5.0, "heartbeat_s": 5.0}
    return parse(_plain(raw))


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    return value


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One run of six seconds, from a third of the power that its target needs."""
    messages: list[schema.AnyMessage] = []
    config = a_config(tmp_path_factory.mktemp("runs"), 6.0)
    with Session(config, listeners=[messages.append]) as session:
        result = session.run()
    return result, messages


def test_the_target_is_reached_and_the_summary_says_so(finished):
    result, _ = finished
    found = result.as_json()["control"]
    assert found["mode"] == "auto"
    assert found["faults"] == []
    assert found["reached_s"] <= 6.0
    assert 1 <= found["writes"] <= 7
    assert found["power"] == 0.0  # safe, once the stream has ended
    assert 0 < found["dose"] < 60.0
    assert found["dose"] + found["dose_left"] == pytest.approx(60.0)
    summary = json.loads((Path(result.run) / "summary.json").read_text())
    assert summary["control"] == found


def test_frames_know_their_light_and_the_journal_who_changed_it_and_why(finished):
    result, _ = finished
    run = read_run(result.run)
    powers = run.frames["excitation"]
    assert powers[0] == pytest.approx(0.33)
    assert powers[-1] > 0.6
    told = [event.message for event in run.events if event.kind == "control"]
    assert told[0].startswith("armed at 0.33 x")
    assert any("asked for 0.66 x" in message for message in told)
    log = read_log(Path(result.run) / LOG_FILE)
    assert "write" in str(log)


def test_the_wire_carries_the_standing_of_the_light(finished):
    _, messages = finished
    standing = [m for m in messages if isinstance(m, schema.ControlMessage)]
    assert len(standing) > 6
    assert {m.state for m in standing} == {"armed", "idle"}
    assert standing[-1].reached_s is not None
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(standing[0]), type=schema.AnyMessage)
    assert again == standing[0]


def test_a_dry_run_on_the_recording_wishes_as_the_run_did_and_writes_nothing(finished, capsys):
    result, _ = finished
    folder = Path(result.run)
    before = sorted(path.name for path in folder.iterdir())
    windows = list(advise(folder, load(ROOT / "configs" / "closed-loop.toml")))
    asked = [e.message for e in read_run(folder).events if "asked for" in e.message]
    wished = [advice for advice in windows if advice.power is not None]
    assert len(wished) >= len(asked) - 1
    assert f"asked for {wished[0].power:.3g} x" in asked[0]
    assert main(["advise", str(folder), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["windows"][0]["wish"] == pytest.approx(wished[0].power)
    assert sorted(path.name for path in folder.iterdir()) == before


class Greedy:
    """A law of one's own."""

    def decide(self, look, status) -> Wish:
        return Wish(1e9, "all of it")


def test_a_law_of_ones_own_stands_behind_the_guard_and_the_wire_can_only_lower_it(tmp_path):
    config = a_config(tmp_path, 30.0, law="", limits={"max": 2.0})
    with Session(config, law=Greedy()) as session:
        wire = session.wire
        assert wire is not None
        session.warm_up()
        thread = threading.Thread(target=session.run)
        thread.start()
        with Subscriber(wire.publish_address, wire.command_address) as live:
            power = wait_for(live, lambda m: m.power >= 0.6)
            assert live.lower_power(0.5).ok
            assert wait_for(live, lambda m: m.power < 0.6 * power) <= 0.55 * power
            assert live.power_off("enough").ok
            assert wait_for(live, lambda m: m.state == "idle" and m.power == 0) == 0
            assert live.stop_run().ok
        thread.join(20)
    run = read_run(session.folder)
    assert run.frames["excitation"].max() <= 2.0


def wait_for(live: Subscriber, wanted) -> float:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        message = live.recv(1.0)
        if isinstance(message, schema.ControlMessage) and wanted(message):
            return message.power
    raise AssertionError("it did not come to that")


@pytest.mark.parametrize(
    "command", [{"type": "lower", "factor": 2.0}, {"type": "lower", "factor": 0.0},
                {"type": "lower"}, {"type": "raise", "factor": 0.5},
                {"type": "off", "power": 1.0}],
)  # fmt: skip
def test_no_command_can_raise_the_light(command):
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode(command), type=schema.AnyCommand)


@pytest.mark.parametrize(
    ("control", "words"),
    [
        ({"target_sd_um": 0.0}, "control.target_sd_um: not given"),
        ({"goal": "sbr"}, "control.target_sbr: not given"),
        ({"bleach_budget": 0.5}, "control.bleach_per_dose: not given"),
        ({"limits": {"max": 1e3}}, "control.limits.max: 1000 is wider than the machine's"),
        ({"law": "mine"}, "control.law: no law 'mine'"),
    ],
)
def test_bad_input_is_refused_before_anything_is_left_behind(tmp_path, control, words):
    with pytest.raises((ConfigError, ControlError)) as caught:
        Session(a_config(tmp_path, 1.0, **control))
    assert words in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_camera_slower_than_the_guard_waits_is_refused(tmp_path):
    config = a_config(tmp_path, 1.0, limits={"stale_s": 0.03})
    with pytest.raises(ControlError, match=r'"Laser.Power".stale_s: 0.03 s, but the newest data'):
        Session(config)
    assert list(tmp_path.iterdir()) == []


def test_frames_of_a_source_that_does_not_know_its_light_are_stamped():
    class Source:
        info = SourceInfo("camera", (2, 2), 0.02, 0.01, None, True)

        def frames(self):
            yield Frame(0, 0.0, np.zeros((2, 2), np.uint16), 0.01)

        def close(self):
            pass

    asked = []

    def light(since_s, until_s):
        asked.append(until_s - since_s)
        return 2.5

    (frame,) = StampedSource(Source(), light).frames()
    assert isinstance(frame, Frame)
    assert frame.excitation == 2.5
    assert asked == [pytest.approx(0.03)]
