"""What Micro-Manager refuses, and what befalls a camera in mid-run: one line, or a typed event."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("pycromanager")

from livespt.core import BridgeDoor, CoreError, connect
from livespt.sources.camera_setup import CameraOptions
from livespt.sources.coretap import CoreTap
from livespt.types import Frame, LivesptError

pytestmark = pytest.mark.alone

_spec = importlib.util.spec_from_file_location(
    "test_mm_core", Path(__file__).parents[1] / "flow" / "test_mm_core.py"
)
_core = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_core)
run_all = _core.run_all


def run(name: str, **arguments) -> dict:
    return run_all({name: (name, arguments)})[name]


MISSING = [
    ("micromanager", ["pycromanager"], "pycromanager"),
    ("mmcore", ["pymmcore_plus"], "pymmcore_plus"),
    ("mmcore", ["mm_test_adapters"], "adapters"),
]
SCENARIOS = {
    "stall": ("stall", {}),
    "shape": ("shape_change", {}),
    "stopped": ("stopped_by_others", {}),
    "lost": ("camera_lost", {}),
    **{
        packages[0]: ("without", {"packages": packages, "kind": kind, "options": {}})
        for kind, packages, _ in MISSING
    },
}


@pytest.fixture(scope="module")
def found() -> dict:
    """What the scenarios found, all run in one process."""
    return run_all(SCENARIOS)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_what_is_not_there_is_named_in_one_line(tmp_path):
    bad_config = tmp_path / "bad.cfg"
    bad_config.write_text("Device,Cam,NoSuchAdapter,NoCamera\n")
    empty = tmp_path / "empty"
    empty.mkdir()
    cases = [
        ({"camera": "Prime95B"}, ["'Prime95B'", "loaded: Camera"]),
        ({"config": "nowhere.cfg"}, ["nowhere.cfg", "no such"]),
        ({"config": str(bad_config)}, [str(bad_config), "NoSuchAdapter"]),
        ({"adapters": "/no/adapters"}, ["/no/adapters", "no such folder"]),
        ({"adapters": str(empty)}, [str(empty), "no such Micro-Manager configuration"]),
        ({"properties": {"Laser.Power": 3}}, ["no device 'Laser'"]),
        ({"properties": {"Camera.Foo": 3}}, ["no property 'Foo'"]),
        ({"properties": {"Camera.Mode": "Foo"}}, ["'Foo'", "Fluorescent Beads"]),
        ({"properties": {"Camera.BeadSize": 99}}, ["Camera.BeadSize = 99"]),
        ({"properties": {"Camera.PixelType": "32bitRGB"}}, ["Camera", "4 x 1 bytes"]),
        ({"binning": 3}, ["Binning", "'3'", "allowed: 1, 2, 4, 8"]),
        ({"roi": [0, 0, 600, 10]}, ["roi", "512 x 512"]),
        ({"roi": [0, 0]}, ["roi", "x, y, width, height"]),
        ({"exposure_ms": 9.0, "interval_ms": 5.0}, ["interval_ms", "exposure"]),
    ]
    # The doors share all but the way in: through pycromanager only what concerns that.
    cases = [("mmcore", *case) for case in cases] + [("micromanager", *case) for case in cases[:5]]
    found = run("refusals", cases=[(kind, options) for kind, options, _ in cases])
    for (_, options, expected), said in zip(cases, found["said"], strict=True):
        assert "\n" not in said, options
        for part in expected:
            assert part in said, (options, said)


def test_no_running_micromanager_is_one_line_that_says_what_to_do():
    port = free_port()
    (said,) = run("refusals", cases=[("micromanager", {"backend": "running", "port": port})])[
        "said"
    ]
    assert str(port) in said
    assert "Run server on port" in said


@pytest.mark.parametrize("kind, packages, named", MISSING)
def test_a_missing_package_is_one_line_with_the_extra(found, kind, packages, named):
    said = found[packages[0]]["said"]
    assert named in said
    assert "pip install 'livespt[micromanager]'" in said
    assert "\n" not in said


def test_a_camera_that_falls_silent_is_said_and_so_is_its_return(found):
    kinds = [event[0] for event in found["stall"]["events"]]
    assert kinds.index("stalled") < kinds.index("resumed")
    assert found["stall"]["runs_forward"]


def test_a_change_of_shape_ends_the_stream_with_an_event(found):
    assert found["shape"]["n_frames"] >= 10
    assert [event[0] for event in found["shape"]["events"]][-1] == "shape"
    assert "(64, 128)" in found["shape"]["events"][-1][3]


def test_a_camera_stopped_by_someone_else_is_said(found):
    assert found["stopped"]["events"][-1][0] == "ended"
    assert "not on our request" in found["stopped"]["events"][-1][3]


def test_a_camera_that_is_unloaded_under_way_is_never_silent(found):
    lost = found["lost"]
    assert lost["n_frames"] >= 10
    assert lost["error"] or lost["events"][-1][0] == "ended"
    assert "\n" not in lost["error"]


#: How long a stream may still take: nobody listens any more, or nobody answers. Half a second for
#: each of two calls, that for an image and that which stops the camera, and one for a busy machine.
ENDS_S = 2.0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows stops no process")
@pytest.mark.parametrize("how", ["SIGKILL", "SIGSTOP"])
def test_a_micromanager_that_dies_in_mid_stream_ends_the_stream_in_time(how):
    """Killed, nobody listens: told at the next look. Stopped, it never answers: told in time."""
    with running_peer() as (peer, port):
        door = connect(port) if how == "SIGKILL" else BridgeDoor(port, 0.5)
        tap = CoreTap(door, CameraOptions(exposure_ms=5.0, roi=[0, 0, 64, 64]))
        frames = tap.frames()
        taken = [next(frames) for _ in range(20)]
        assert all(isinstance(item, Frame) and item.adu.shape == (64, 64) for item in taken)
        os.kill(peer.pid, getattr(signal, how))
        died_s = time.monotonic()
        with pytest.raises(LivesptError, match=f"no answer .*127.0.0.1:{port}"):
            for _ in frames:
                pass
        assert time.monotonic() - died_s < ENDS_S
        if how == "SIGKILL":
            with pytest.raises(CoreError, match=f"no Micro-Manager answers at 127.0.0.1:{port}"):
                connect(port)


@contextmanager
def running_peer():
    """A stand-in for Micro-Manager's server over a real core, in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = Path(__file__).parents[1] / "flow" / "mm_java_peer.py"
    peer = subprocess.Popen([sys.executable, str(script), str(port)], stdout=subprocess.PIPE)
    assert peer.stdout is not None
    try:
        peer.stdout.readline()
        yield peer, port
    finally:
        peer.kill()
        peer.wait()
        peer.stdout.close()
