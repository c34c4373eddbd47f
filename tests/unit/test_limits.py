"""The machine's limits and the power calibration: what is read, and what is refused by its key."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from livespt.control import ControlError, limits_path, machine_limits, read_limits, read_log
from livespt.control.limits import Limits, check_range, check_unit, tighten
from livespt.control.log import FileLog, seal
from livespt.control.power import read_calibration
from livespt.sections import TightenConfig

NAME = "Laser.Voltage"
GOOD = f"""
version = 1
[property."{NAME}"]
unit = "V"
min = 0.5
max = 5
safe = 0.0
dose = 100.0
"""
TABLE = "value,power_mW,sd_mW\n# measured on a Monday\n0, 0, 0\n1, 0.5, 0.01\n\n5, 20, 0.4\n"


@pytest.fixture
def path(tmp_path, monkeypatch) -> Path:
    path = tmp_path / "limits.toml"
    path.write_text(GOOD)
    (tmp_path / "laser.csv").write_text(TABLE)
    monkeypatch.setenv("LIVESPT_LIMITS", str(path))
    return path


def with_line(path: Path, line: str) -> Limits:
    path.write_text(GOOD + line + "\n")
    return machine_limits(NAME)


def test_the_file_that_the_environment_names_is_read(path):
    assert limits_path() == path
    limits = machine_limits(NAME)
    assert (limits.min, limits.max, limits.safe, limits.dose) == (0.5, 5.0, 0.0, 100.0)
    assert (limits.name, limits.origin, limits.power_unit) == (NAME, str(path), "V")
    assert limits.power(3.3) == limits.value(3.3) == 3.3


def test_a_calibration_turns_settings_into_milliwatts_and_back(path):
    limits = with_line(path, 'calibration = "laser.csv"')
    assert limits.power_unit == "mW"
    assert limits.power(3.0) == pytest.approx(10.25)
    assert limits.value(10.25) == pytest.approx(3.0)
    assert (limits.min_power, limits.max_power, limits.safe_power) == (0.25, 20.0, 0.0)


def test_limits_travel_to_the_guard_and_back_unchanged(path):
    limits = with_line(path, 'calibration = "laser.csv"')
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(limits), type=Limits) == limits


REFUSED = {
    "not TOML": ("[property", "limits.toml: not valid TOML"),
    "another version": (GOOD.replace("version = 1", "version = 2"), r"limits.toml\.version"),
    "an unknown table": (GOOD + "\n[laser]\n", "unknown key 'laser'"),
    "no table": ("property = 3", r"limits.toml\.property: expected `object`"),
    "a property that is no table": ('[property]\n"Laser.Voltage" = 3', "expected a table"),
    "an unknown key": (GOOD + "maximum = 3", "unknown key 'maximum'"),
    "a key misspelt": (GOOD + "step_upp = 3.0", "'step_upp'; did you mean 'step_up'"),
    "a missing key": (GOOD.replace("safe = 0.0", ""), "missing required field `safe`"),
    "no unit of ours": (GOOD.replace('"V"', '"kV"'), r"\.unit: invalid enum value 'kV'"),
    "text for a number": (GOOD.replace("max = 5", 'max = "5 V"'), r"\.max: expected `float`"),
    "not finite": (GOOD.replace("dose = 100.0", "dose = inf"), r"\.dose: inf; expected a finite"),
    "NaN": (GOOD.replace("max = 5", "max = nan"), r"\.max: nan; expected a finite"),
    "min above max": (GOOD.replace("min = 0.5", "min = 6.0"), r"\.min: 6; expected less than max"),
    "min of zero": (GOOD.replace("min = 0.5", "min = 0.0"), r"\.min: expected `float` > 0"),
    "safe above max": (GOOD.replace("safe = 0.0", "safe = 6.0"), r"\.safe: 6; expected at most"),
    "too many writes": (GOOD + "writes_per_s = 2.0", r"\.writes_per_s: expected `float` <= 1"),
    "a timeout of minutes": (GOOD + "stale_s = 120.0", r"\.stale_s: expected `float` <= 5"),
    "a duty of nothing": (GOOD + "duty = 0.05", r"\.duty: 0.05 of the highest power is less"),
    "no such calibration": (GOOD + 'calibration = "no.csv"', "no.csv: the power calibration"),
    "mW calibrated": (
        GOOD.replace('"V"', '"mW"') + 'calibration = "laser.csv"',
        r"\.calibration: the property's unit is mW already",
    ),
    "beyond the calibration": (
        GOOD.replace("max = 5", "max = 6") + 'calibration = "laser.csv"',
        r"\.calibration: laser.csv covers 0 to 5 V; expected min = 0.5 to max = 6",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_file_is_refused_by_its_key(path, case):
    text, words = REFUSED[case]
    path.write_text(text)
    with pytest.raises(ControlError, match=words):
        read_limits(path)


def test_a_file_that_is_missing_or_torn_is_named(path):
    path.write_bytes(GOOD.encode()[:-3] + b"\xff\xfe")
    with pytest.raises(ControlError, match=r"limits\.toml: cannot be read"):
        machine_limits(NAME)
    path.unlink()
    with pytest.raises(ControlError, match=r"limits\.toml: no such file"):
        machine_limits(NAME)


def test_a_property_without_limits_is_refused_with_those_that_have_them(path):
    with pytest.raises(ControlError, match=r'no table \[property."Laser.Power"\] \(there: Laser.V'):
        machine_limits("Laser.Power")


CALIBRATIONS = {
    "no header": ("0,0\n1,1\n", r"begins with \['0', '0'\]; expected value,power_mW"),
    "one row": ("value,power_mW\n1,1\n", "1 rows; expected two"),
    "text": ("value,power_mW\n0,0\n1,much\n", "line 3: expected a number for each column"),
    "a hole": ("value,power_mW\n0,0\n1\n", "line 3: expected a number for each column"),
    "NaN": ("value,power_mW\n0,0\n1,nan\n", "line 3: expected a number"),
    "falling power": ("value,power_mW\n0,0\n1,2\n2,1\n", "power_mW: 1 after 2; expected rising"),
    "a value twice": ("value,power_mW\n0,0\n1,1\n1,2\n", "value: 1 after 1; expected rising"),
    "negative": ("value,power_mW\n0,-1\n1,1\n", "below 0"),
    "badly known": ("value,power_mW,sd_mW\n0,0,0\n1,1,0.5\n", "line 3: sd_mW: 0.5 for 1 mW"),
    "bytes": ("value,power_mW\n\x00\udcff\n", "cannot be read"),
}


@pytest.mark.parametrize("case", CALIBRATIONS)
def test_a_bad_calibration_is_refused_by_its_line(tmp_path, case):
    text, words = CALIBRATIONS[case]
    path = tmp_path / "laser.csv"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ControlError, match=words):
        read_calibration(path)


def test_units_are_never_taken_for_each_other(path):
    volts = machine_limits(NAME)
    check_unit(volts, "")
    check_unit(volts, "V")
    with pytest.raises(ControlError, match=r"unit: 'mW', but .*names no power calibration"):
        check_unit(volts, "mW")
    with pytest.raises(ControlError, match="unit: '%', but powers are in 'V'"):
        check_unit(volts, "%")
    with pytest.raises(ControlError, match="unit: 'V', but powers are in 'mW'"):
        check_unit(with_line(path, 'calibration = "laser.csv"'), "V")


def test_limits_that_the_device_cannot_reach_are_refused(path):
    check_range(machine_limits(NAME), 0.0, 10.0)
    with pytest.raises(ControlError, match=r"\.max: 5 V; the device takes 0 to 4"):
        check_range(machine_limits(NAME), 0.0, 4.0)


def test_a_run_narrows_every_limit_and_widens_none(path):
    limits = machine_limits(NAME)
    narrower = {"min": 1.0, "max": 4.0, "step_up": 1.5, "writes_per_s": 0.5, "duty": 0.5}
    narrower |= {"dose": 50.0, "heartbeat_s": 0.2, "stale_s": 0.2}
    narrowed = tighten(limits, TightenConfig(**narrower))
    assert {key: getattr(narrowed, key) for key in narrower} == narrower
    for key, value in narrower.items():
        wider = value / 4 if key == "min" else value * 20
        with pytest.raises(ControlError, match=rf"control\.limits\.{key}: .* wider than the mach"):
            tighten(limits, msgspec.structs.replace(TightenConfig(), **{key: wider}))
    with pytest.raises(ControlError, match=r"control\.limits\.min: 4.5; expected less than max"):
        tighten(limits, TightenConfig(min=4.5, max=4.0))
    with pytest.raises(ControlError, match="max: nan"):
        tighten(limits, TightenConfig(max=float("nan")))


# --- the log -----------------------------------------------------------------------------------


def test_the_log_gives_back_what_was_noted(tmp_path):
    log = FileLog(tmp_path)
    log.note("write", 1.0, value=2.0, why='more "light"\n')
    log.note("safe", 2.0, sync=False, value=0.0)
    log.close()
    read = read_log(tmp_path / "control.jsonl")
    assert [(e["n"], e["kind"], e["value"]) for e in read.entries] == [
        (0, "write", 2.0),
        (1, "safe", 0.0),
    ]
    assert read.entries[0]["why"] == 'more "light"\n'
    assert (read.torn, read.problems) == (False, [])


def test_a_torn_tail_is_passed_over_wherever_it_is_torn(tmp_path):
    path = tmp_path / "control.jsonl"
    whole = b"".join(seal({"n": n, "kind": "write", "value": float(n)}) for n in range(3))
    start = len(seal({"n": 0, "kind": "write", "value": 0.0})) * 2
    for end in range(start + 1, len(whole)):
        path.write_bytes(whole[:end])
        read = read_log(path)
        assert [e["n"] for e in read.entries] == [0, 1]
        assert read.torn


def test_no_flipped_bit_goes_unseen(tmp_path):
    path = tmp_path / "control.jsonl"
    line = seal({"n": 0, "kind": "write", "value": 1.25})
    for at in range(8 * (len(line) - 1)):
        changed = bytearray(line + seal({"n": 1, "kind": "safe", "value": 0.0}))
        changed[at // 8] ^= 1 << at % 8
        path.write_bytes(changed)
        read = read_log(path)
        assert [e["n"] for e in read.entries] == [1]
        assert read.problems


def test_a_log_goes_on_after_a_torn_line(tmp_path):
    (tmp_path / "control.jsonl").write_bytes(seal({"n": 0, "kind": "arm"}) + b'{"n":1,"ki')
    log = FileLog(tmp_path)
    log.note("arm", 5.0)
    log.close()
    read = read_log(tmp_path / "control.jsonl")
    assert [e["kind"] for e in read.entries] == ["arm", "arm"]
    assert len(read.problems) == 1
