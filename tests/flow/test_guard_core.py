"""The guard on the real MMCore: in a core of its own, and over the bridge of one that runs.

The demonstration's analogue output, 0 to 10 V, stands for the laser. What stands at it is read back
on a way of the test's own.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

pytest.importorskip("pymmcore_plus")
pytest.importorskip("mm_test_adapters")

from livespt.control import LOG_FILE, ControlError, GuardHandle, read_log
from livespt.control.mmcore import CoreProperty
from livespt.core import BridgeDoor, CoreError
from livespt.sections import ActuatorConfig, TightenConfig

pytestmark = pytest.mark.alone

ROOT = Path(__file__).parents[2]
PEER = Path(__file__).with_name("mm_java_peer.py")
LASER = str(ROOT / "configs" / "demo-laser.cfg")
NAME = "Laser.Voltage"
TABLE = f'[property."{NAME}"]\nunit = "V"\nmin = 0.5\nmax = 5.0\nsafe = 0.1\n'
CALIBRATION = "value,power_mW,sd_mW\n0.1,0.0,0.0\n1,0.5,0.02\n5,20,0.5\n"


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch) -> Path:
    """The limits of this machine."""
    path = tmp_path / "limits.toml"
    path.write_text(TABLE)
    (tmp_path / "laser.csv").write_text(CALIBRATION)
    monkeypatch.setenv("LIVESPT_LIMITS", str(path))
    return path


def own(folder: Path, name: str = NAME, unit: str = "", config: str = LASER, **tighter):
    """A guard whose core is its own."""
    chosen = ActuatorConfig(
        kind="micromanager", property=name, unit=unit, options={"config": config}
    )
    return GuardHandle(chosen, tighten=TightenConfig(**tighter), folder=folder)


@contextmanager
def beating(handle: GuardHandle) -> Iterator[None]:
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(0.03):
            handle.beat(time.monotonic())

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def until(what, within_s: float = 5.0) -> float:
    start_s = time.monotonic()
    while not what():
        assert time.monotonic() - start_s < within_s
        time.sleep(0.002)
    return time.monotonic() - start_s


def test_a_guard_with_a_core_of_its_own_sets_the_real_device(tmp_path, machine):
    machine.write_text(TABLE + 'calibration = "laser.csv"\n')
    with own(tmp_path, unit="mW", max=4.0) as handle, beating(handle):
        assert handle.real
        assert handle.limits.max_power == pytest.approx(0.5 + 0.75 * 19.5)
        assert handle.status.n_writes == 0
        handle.arm()
        handle.ask(1.0, "some light")
        until(lambda: handle.status.value > 0.4)
        # from the dark the lowest is next: 0.5 V, which gives 0.5 * 0.4 / 0.9 mW
        assert handle.status.value == pytest.approx(0.5, abs=1e-4)
        assert handle.status.power == pytest.approx(0.2222, abs=1e-3)
        time.sleep(0.3)
        assert handle.status.state == "armed"  # the core's four decimals are no fault
    writes = [e for e in read_log(tmp_path / LOG_FILE).entries if e["kind"] in ("write", "safe")]
    assert [e["value"] for e in writes] == [0.5, 0.1]


def test_what_cannot_be_controlled_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(ControlError, match=r"property: 'Lazer\.Voltage': no device 'Lazer'"):
        own(tmp_path, "Lazer.Voltage")
    with pytest.raises(ControlError, match=r"nowhere\.cfg: no such Micro-Manager configuration"):
        own(tmp_path, config="nowhere.cfg")
    assert not (tmp_path / LOG_FILE).exists()


# --- a Micro-Manager that runs -----------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running(port: int) -> Iterator[tuple[subprocess.Popen, BridgeDoor]]:
    """A peer that speaks the bridge's protocol over a real core; and a way into it for the test."""
    with subprocess.Popen([sys.executable, str(PEER), str(port)], stdout=subprocess.PIPE) as peer:
        try:
            assert peer.stdout is not None
            peer.stdout.readline()
            with closing(BridgeDoor(port, timeout_s=2.0)) as door:
                door.call("loadDevice", "Laser", "DemoCamera", "D-DA")
                door.call("initializeDevice", "Laser")
                yield peer, door
        finally:
            peer.kill()


def over(port: int, folder: Path) -> GuardHandle:
    chosen = ActuatorConfig(kind="running", property=NAME, options={"port": port, "timeout_s": 0.4})
    return GuardHandle(chosen, folder=folder)


def volts(door: BridgeDoor) -> float:
    return float(door.call("getProperty", "Laser", "Voltage"))


def hand(door: BridgeDoor) -> None:
    door.call("setProperty", "Laser", "Voltage", "3.3")


def unload(door: BridgeDoor) -> None:
    """Take the device away for a while; it comes back dark."""
    door.call("unloadDevice", "Laser")
    time.sleep(0.1)
    door.call("loadDevice", "Laser", "DemoCamera", "D-DA")
    door.call("initializeDevice", "Laser")


RUNNING_FAULTS = {"manual": hand, "driver": unload}
REFUSED = {
    "Lazer.Voltage": r"no device 'Lazer' \(loaded: .*Laser",
    "Laser.Volts": r"'Laser' has no 'Volts' \(it has: .*Voltage",
    "Laser": "property: 'Laser",
    "Laser.Real Voltage": "can be read only",
    "Laser.Trigger": "holds text; expected a number",
}


def armed(door: BridgeDoor, handle: GuardHandle) -> None:
    """Arm with light on; again, where a busy machine has let the guard fall silent."""
    while True:
        door.call("setProperty", "Laser", "Voltage", "1.0")
        handle.arm()
        time.sleep(0.1)
        if handle.status.state == "armed":
            return
        until(lambda: volts(door) <= 0.1)


def trials(door: BridgeDoor, handle: GuardHandle, kind: str, n: int) -> list[float]:
    """Make one fault `n` times in a Micro-Manager that runs; return how long the light was on."""
    took = []
    while len(took) < n:
        armed(door, handle)
        start_s = time.monotonic()
        RUNNING_FAULTS[kind](door)
        until(lambda: volts(door) <= 0.1)
        dark_s = time.monotonic()
        until(lambda: handle.status.state == "fault")
        if any(fault.split(":")[0] in (kind, "driver") for fault in handle.status.faults):
            took.append(dark_s - start_s)  # else a busy machine held this process up
        time.sleep(0.1)
    half, most = 1e3 * sorted(took)[n // 2], 1e3 * max(took)
    print(f"{kind}: n {n}, median {half:.0f} ms, max {most:.0f} ms")  # noqa: T201
    return took


def in_a_running_micromanager(port: int, door: BridgeDoor, folder: Path, n: int) -> list[float]:
    with over(port, folder) as handle, beating(handle):
        assert handle.status.n_writes == 0
        return [s for kind in RUNNING_FAULTS for s in trials(door, handle, kind, n)]


@pytest.fixture(scope="module")
def there() -> Iterator[tuple[int, BridgeDoor]]:
    """A Micro-Manager that runs, for all that leave it running."""
    port = free_port()
    with running(port) as (_, door):
        yield port, door


@pytest.mark.parametrize("name", REFUSED)
def test_a_property_that_cannot_be_controlled_is_refused_by_name(there, name):
    with pytest.raises(CoreError, match=REFUSED[name]):
        CoreProperty(there[1], name)


def test_a_number_is_cut_to_what_the_core_writes_and_read_back_as_it_was_sent(there):
    _, door = there
    laser = CoreProperty(door, NAME)
    assert laser.span == (0.0, 10.0)
    for value in (1 / 3, 2.71828182, 5.0, 0.99999, 4.1, 0.3):
        sent = laser.write(value)
        assert value - 1e-4 < sent <= value
        assert laser.read() == sent == volts(door)
    assert laser.resolution == 1e-4
    with pytest.raises(CoreError, match=r"Laser\.Voltage: .*11"):
        laser.write(11.0)
    gain = CoreProperty(door, "Camera.Gain")  # a whole number, -5 to 8
    assert gain.write(3.7) == gain.read() == 3.0


def test_a_hand_or_a_lost_device_in_a_running_micromanager_ends_in_safe_light(there, tmp_path):
    took = in_a_running_micromanager(*there, tmp_path, 3)
    assert sorted(took)[3] < 0.5  # the median: a busy machine holds up the watcher too


@pytest.mark.long
def test_so_do_a_hundred_of_each(there, tmp_path):
    assert max(in_a_running_micromanager(*there, tmp_path, 100)) < 0.5


@pytest.mark.long
def test_a_micromanager_that_dies_is_a_fault_and_one_that_comes_back_is_made_safe(tmp_path):
    port = free_port()
    with running(port) as (peer, door):
        handle = over(port, tmp_path)
        handle.arm()
        with beating(handle):
            handle.ask(0.6, "some light")
            until(lambda: volts(door) == 0.5)
            os.kill(peer.pid, signal.SIGKILL)
            lost = "driver: read: Laser.Voltage: no answer"
            until(lambda: any(fault.startswith(lost) for fault in handle.status.faults))
            with pytest.raises(ControlError, match="no answer"):
                handle.arm()
    with running(port) as (_, door):
        door.call("setProperty", "Laser", "Voltage", "4.0")
        until(lambda: volts(door) == 0.1)
        handle.close()


def test_nothing_that_answers_is_said_at_once():
    with pytest.raises(CoreError, match="no Micro-Manager answers"):
        BridgeDoor(free_port())
