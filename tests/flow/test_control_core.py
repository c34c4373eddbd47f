"""Control over the real MMCore: DemoCamera in this process, a D-DA as the guard's laser."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

pytest.importorskip("pymmcore_plus")
pytest.importorskip("mm_test_adapters")

from livespt.cli import main
from livespt.config import parse
from livespt.control import LOG_FILE, ControlError, read_log
from livespt.control.law import Wish
from livespt.journal import read_run
from livespt.session import Session

pytestmark = pytest.mark.alone

ROOT = Path(__file__).parents[2]
NAME = "Laser.Voltage"
TABLE = f"""
[property."{NAME}"]
unit = "V"
min = 0.5
max = 5.0
safe = 0.1
heartbeat_s = 2.0
stale_s = 2.0
"""


class Greedy:
    """Always more."""

    def decide(self, look, status) -> Wish:
        return Wish(9.0, "more")


def a_config(folder: Path, **control):
    raw = {
        "stop_after_s": 5.0,
        "source": {
            "kind": "mmcore",
            "options": {
                "exposure_ms": 19.0,
                "interval_ms": 20.0,
                "properties": {"Camera.Mode": "Fluorescent Beads"},
            },
        },
        "camera": {"model": "ideal"},
        "optics": {"pixel_um": 0.1, "sigma_um": 0.1},
        "infer": {"n_states": 1},
        "wire": {"enabled": False},
        "journal": {"folder": str(folder / "runs")},
        "control": {
            "mode": "auto",
            "reference_power": 1.0,
            "actuator": {
                "kind": "micromanager",
                "property": NAME,
                "options": {"config": str(ROOT / "configs" / "demo-laser.cfg")},
            },
        }
        | control,
    }
    return parse(raw)


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch) -> None:
    """The limits of this machine."""
    path = tmp_path / "limits.toml"
    path.write_text(TABLE)
    monkeypatch.setenv("LIVESPT_LIMITS", str(path))


@pytest.mark.long
def test_armed_the_laser_is_raised_within_limits_and_frames_know_it(tmp_path):
    with Session(a_config(tmp_path), law=Greedy(), arm=True) as session:
        result = session.run()
    assert result.failed == ""
    found = result.as_json()["control"]
    assert found["faults"] == []
    assert found["writes"] >= 3
    assert found["power"] == pytest.approx(0.1)
    light = read_run(result.run).frames["excitation"]
    assert light[0] == 0.0  # as the device was found
    assert set(np.round(light[np.diff(light, prepend=-1) == 0], 3)) >= {0.0, 0.5, 1.0}
    log = read_log(Path(result.run) / LOG_FILE)
    written = [entry["value"] for entry in log.entries if entry["kind"] == "write"]
    assert written[:2] == [0.5, 1.0]


def test_without_arm_a_real_laser_is_only_advised_on(tmp_path):
    config = msgspec.structs.replace(a_config(tmp_path), stop_after_s=2.0)
    with Session(config, law=Greedy()) as session:
        result = session.run()
    found = result.as_json()["control"]
    assert found["mode"] == "advise"
    assert found["writes"] == 0
    told = [event.message for event in read_run(result.run).events if event.kind == "control"]
    assert told[0].startswith("not armed (--arm)")
    assert any("would ask for 9 V" in message for message in told)


def test_a_laser_without_limits_is_refused_and_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("LIVESPT_LIMITS", str(tmp_path / "none.toml"))
    with pytest.raises(ControlError, match=r"none\.toml"):
        Session(a_config(tmp_path), law=Greedy(), arm=True)
    assert list((tmp_path / "runs").iterdir()) == []


def test_check_refuses_a_control_without_a_target(tmp_path, capsys):
    path = tmp_path / "run.toml"
    path.write_text('[control]\nmode = "auto"\n')
    assert main(["check", str(path)]) == 2
    assert "control.target_sd_um: not given" in capsys.readouterr().err
