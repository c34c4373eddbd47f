"""What the tests of `livespt.micromanager` do, each in a process of its own.

python mm_plugin.py '[["NAME", {"argument": value}], ...]'   prints a line "FOUND {...}" for each
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from mm_scenarios import user_core

from livespt.camera import Scmos
from livespt.core import door_of
from livespt.journal import read_run, track_rows
from livespt.micromanager import attach, describe, follow_mda, ride_along
from livespt.micromanager.checks import excitation_notes
from livespt.types import LivesptError

#: DemoCamera's beads, at the 0.1 um that its noiseless images suit.
OPTICS = {"pixel_um": 0.1, "sigma_um": 0.095}


def config(folder, **sections):
    """Return a small quiet config that writes into `folder`."""
    return {
        "camera": {"model": "ideal"},
        "optics": OPTICS,
        "infer": {"n_states": 1},
        "journal": {"folder": str(folder)},
        "wire": {"enabled": False},
        **sections,
    }


def frames_of(result):
    """Return what a run's journal has of its frames, events and tracks."""
    run = read_run(result.run)
    rows = track_rows(run)
    return {
        "folder": Path(result.run).name,
        "frames": run.frames["frame"].tolist(),
        "counts": result.frames,
        "n_spots": len(run.spots),
        "longest": int(np.bincount(rows["track_id"]).max()) if len(rows) else 0,
        "events": [[e.kind, e.message] for e in run.events],
        "failed": result.failed,
    }


@contextlib.contextmanager
def beads(exposure_ms=9.0, roi=()):
    """Start pycromanager's core, its camera showing beads."""
    with user_core(exposure_ms) as core:
        core.set_property("Camera", "Mode", "Fluorescent Beads")
        if roi:
            core.set_roi(*roi)
        yield core
        core.clear_roi()


@contextlib.contextmanager
def plus_core(unicore=False, exposure_ms=9.0):
    """Start pymmcore-plus' core, its camera showing beads."""
    import mm_test_adapters
    from pymmcore_plus import CMMCorePlus

    folder = mm_test_adapters.device_adapter_path()
    kind = CMMCorePlus
    if unicore:
        from pymmcore_plus.experimental.unicore import UniMMCore as kind
    core = kind(mm_path=folder, adapter_paths=[folder])
    core.loadSystemConfiguration(f"{folder}/MMConfig_demo.cfg")
    core.setProperty("Camera", "Mode", "Fluorescent Beads")
    core.setExposure(exposure_ms)
    yield core
    time.sleep(0.2)
    core.unloadAllDevices()


def refused(make, *arguments, **options):
    """Return the one line with which something is refused."""
    try:
        made = make(*arguments, **options)
    except LivesptError as error:
        return str(error)
    made.close()
    return "accepted"


def excitation(core, name):
    """Return what is noted of the excitation property that a config names."""
    actuator = SimpleNamespace(property=name)
    named = SimpleNamespace(control=SimpleNamespace(actuator=actuator))
    return excitation_notes(named, door_of(core))


def attach_snake(n=60):
    """Attach to pycromanager's core, then use it again."""
    with beads(roi=(0, 0, 256, 256)) as core, tempfile.TemporaryDirectory() as folder:
        with attach(core, config(folder), n_frames=n) as live:
            found = frames_of(live.result(60))
            newest = live.estimates
        lasers = [excitation(core, name) for name in ("LED.State", "LED.Volts", "Lamp.Power")]
        core.snap_image()
        core.start_continuous_sequence_acquisition(0)
        busy = refused(attach, core, config(folder))
        core.stop_sequence_acquisition()
        return {
            **found,
            "newest": newest.frame,
            "processed": live.counters.frames_processed,
            "alive": list(core.get_image().shape),
            "busy": busy,
            "lasers": lasers,
            "no_core": refused(attach, "COM3", config(folder)),
            "no_key": refused(attach, core, config(folder), exposure=3),
        }


def attach_plus(n=60, unicore=False):
    """Attach to pymmcore-plus' core; stop it by hand."""
    with plus_core(unicore) as core, tempfile.TemporaryDirectory() as folder:
        core.setROI(0, 0, 256, 256)
        with attach(core, config(folder), exposure_ms=5.0) as live:
            while live.counters.frames_processed < n:
                time.sleep(0.01)
            live.stop()
            result = live.result(60)
        return {**frames_of(result), "loaded": len(core.getLoadedDevices())}


def positions(n=8):
    """Ride along over 2 positions x 2 channels x n times, a run for each position."""
    from pycromanager import Acquisition, multi_d_acquisition_events

    events = multi_d_acquisition_events(
        num_time_points=n,
        time_interval_s=0,
        channel_group="Channel",
        channels=["DAPI", "FITC"],
        xy_positions=[[0.0, 0.0], [300.0, 0.0]],
        position_labels=["left", "right"],
    )
    with beads(roi=(0, 0, 256, 256)) as core, tempfile.TemporaryDirectory() as folder:
        ride = ride_along(
            config(folder), core, axes={"channel": "FITC"}, per="position", interval_s=0.2
        )
        with (
            ride as live,
            Acquisition(folder, "user", image_process_fn=live.image_process_fn) as acquisition,
        ):
            acquisition.acquire(events)
        saved = len(acquisition.get_dataset().index)
        acquisition.get_dataset().close()
        results = live.results(60)
        return {
            "saved": saved,
            "passed": live.n_passed,
            "runs": {name: frames_of(result) for name, result in results.items()},
        }


def mixed(n=6):
    """Ride along in two channels without choosing one."""
    from pycromanager import Acquisition, multi_d_acquisition_events

    events = multi_d_acquisition_events(
        num_time_points=n, time_interval_s=0, channel_group="Channel", channels=["DAPI", "FITC"]
    )
    with beads(roi=(0, 0, 256, 256)) as core, tempfile.TemporaryDirectory() as folder:
        with (
            ride_along(config(folder), core, interval_s=0.1) as live,
            Acquisition(folder, "user", image_process_fn=live.image_process_fn) as acquisition,
        ):
            acquisition.acquire(events)
        saved = len(acquisition.get_dataset().index)
        acquisition.get_dataset().close()
        return {**frames_of(live.result(60)), "saved": saved, "passed": live.n_passed}


def hooked(n=200, signal_at=0, signal_name=""):
    """Ride along by the process function; send a signal to the process of the analysis."""
    import os
    import signal

    from pycromanager import Acquisition, multi_d_acquisition_events

    def image_process_fn(image, metadata):
        if signal_name and metadata["Axes"]["time"] == signal_at:
            os.kill(live._process.pid, getattr(signal, signal_name))
        return live.image_process_fn(image, metadata)

    with beads(4.0, roi=(0, 0, 256, 256)) as core, tempfile.TemporaryDirectory() as folder:
        live = ride_along(config(folder), core, interval_s=0.01)
        with Acquisition(folder, "user", image_process_fn=image_process_fn) as acquisition:
            acquisition.acquire(multi_d_acquisition_events(num_time_points=n, time_interval_s=0))
        saved = len(acquisition.get_dataset().index)
        acquisition.get_dataset().close()
        if signal_name == "SIGSTOP":
            os.kill(live._process.pid, signal.SIGCONT)
        live.close()
        found = {"saved": saved, "n_shed": live.n_shed}
        try:
            result = live.result(60)
        except LivesptError as error:
            return {**found, "why": str(error)}
        run = live.runs[""]
        return {
            **frames_of(result),
            **found,
            "newest": live.estimates.frame,
            "processed": live.counters.frames_processed,
            "folders": [str(run.folder), result.run],
            "running": run.running,
        }


def orphan(folder, n=60):
    """Ride along, and end this process amid the acquisition, with nothing in order."""
    import os

    from pycromanager import Acquisition, multi_d_acquisition_events

    def image_process_fn(image, metadata):
        if metadata["Axes"]["time"] == n:
            os._exit(9)
        return live.image_process_fn(image, metadata)

    with beads(4.0, roi=(0, 0, 256, 256)) as core:
        live = ride_along(config(folder), core, interval_s=0.01)
        with Acquisition(folder, "user", image_process_fn=image_process_fn) as acquisition:
            acquisition.acquire(multi_d_acquisition_events(num_time_points=500, time_interval_s=0))


def refusals():
    """What a ride-along cannot do is raised by the call, in whichever process it was found."""
    with beads() as core, tempfile.TemporaryDirectory() as folder:
        core.set_property("Camera", "Binning", "2")
        binned = config(folder, camera=_calibrated(Path(folder)))
        found = {}
        for apart in (True, False):
            given = [
                (binned, {}),
                (config(folder), {"ring": 3}),
            ]
            found[str(apart)] = [
                refused(ride_along, one, core, apart=apart, **options) for one, options in given
            ]
        core.set_property("Camera", "Binning", "1")
        return found


def notified(n=60, on_disk=True, apart=True):
    """Ride along by notifications: the images are read back from what is saved."""
    from pycromanager import Acquisition, multi_d_acquisition_events

    with beads(roi=(0, 0, 256, 256)) as core, tempfile.TemporaryDirectory() as folder:
        with (
            ride_along(config(folder), core, interval_s=0.01, apart=apart) as live,
            Acquisition(
                folder if on_disk else None,
                "user",
                notification_callback_fn=live.notification_callback_fn,
            ) as acquisition,
        ):
            live.read_from(acquisition)
            again = refused(live.read_from, acquisition)
            acquisition.acquire(multi_d_acquisition_events(num_time_points=n, time_interval_s=0))
        acquisition.get_dataset().close()
        found = {**frames_of(live.result(60)), "again": again, "shed": live.n_shed}
        return {**found, "newest": live.estimates.frame}


def mda(n=60, sequenced=True, per=(), positions=0):
    """Follow an acquisition of pymmcore-plus."""
    import useq

    with plus_core() as core, tempfile.TemporaryDirectory() as folder:
        core.setROI(0, 0, 256, 256)
        core.mda.engine.use_hardware_sequencing = sequenced
        plan = {"interval": 0, "loops": n}
        places = [useq.Position(x=300.0 * i, y=0.0, name=f"well {i}") for i in range(positions)]
        sequence = useq.MDASequence(
            time_plan=plan, stage_positions=places, axis_order="pt" if sequenced else "tpc"
        )
        triggered = []
        core.mda.events.frameReady.connect(
            lambda image, event, meta: triggered.append(bool(meta.get("hardware_triggered")))
        )
        with follow_mda(core, config(folder), per=per, interval_s=0.01) as live:
            core.mda.run(sequence)
            results = live.results(60)  # ended by the sequence itself
        return {
            "runs": {name: frames_of(result) for name, result in results.items()},
            "triggered": sum(triggered),
            "n": len(triggered),
        }


def mda_qt(n=40):
    """Follow an acquisition whose signals are Qt's, in a program that does not look at events."""
    import useq
    from PySide6.QtCore import QCoreApplication

    application = QCoreApplication([])  # the core then chooses Qt's signals
    with plus_core() as core, tempfile.TemporaryDirectory() as folder:
        core.setROI(0, 0, 256, 256)
        with follow_mda(core, config(folder), interval_s=0.01) as live:
            plan = {"interval": 0, "loops": n}
            core.run_mda(useq.MDASequence(time_plan=plan)).join()
            found = frames_of(live.result(60))
        found["signals"] = type(core.mda.events).__name__
    del application
    return found


def facts(binning=1, roi=(), pixel_type="16bit", **sections):
    """What is read from the core, and held against config and calibration."""
    with user_core() as core, tempfile.TemporaryDirectory() as folder:
        if binning != 1:
            core.set_property("Camera", "Binning", str(binning))
        core.set_property("Camera", "PixelType", pixel_type)
        if roi:
            core.set_roi(*roi)
        if "calibration" in sections:
            sections = {"camera": _calibrated(Path(folder), **sections.pop("calibration"))}
        found = {"facts": describe(core)._asdict(), "why": "accepted"}
        try:
            with attach(core, config(folder, **sections), n_frames=3) as live:
                found |= frames_of(live.result(60))
                kept = live.session.config
            found["pixel_um"] = kept.optics.pixel_um
            found["saturation_adu"] = kept.camera.saturation_adu
        except LivesptError as error:
            found["why"] = str(error)
        core.set_property("Camera", "Binning", "1")
        core.set_property("Camera", "PixelType", "16bit")
        core.clear_roi()
        return found


def _calibrated(folder, shape=(512, 512), **about):
    from livespt.camera_file import CameraFile, write_camera_file

    made = Scmos(np.full(shape, 1.0), np.full(shape, 0.0), np.full(shape, 1.0))
    values = {
        "gain_adu_per_e": made.gain_adu_per_e,
        "offset_adu": made.offset_adu,
        "var_e2": made.var_e2,
    }
    path = folder / "camera.npz"
    write_camera_file(path, CameraFile("scmos", values, about=about))
    return {"model": "scmos", "calibration": str(path)}


def java_gone():
    """Attach to a core in another process, which is killed amid the run."""
    from mm_java_acquisition import peer
    from mmpycorex.core import ZMQRemoteMMCoreJ
    from pyjavaz import server_terminated

    port = peer(served := [])
    with tempfile.TemporaryDirectory() as folder:
        core = ZMQRemoteMMCoreJ(port=port, timeout=5000)
        core.set_property("Camera", "Mode", "Fluorescent Beads")
        core.set_roi(0, 0, 256, 256)
        with attach(core, config(folder), exposure_ms=20.0) as live:
            while live.counters.frames_processed < 10:
                time.sleep(0.01)
            served[0].kill()
            began_s = time.perf_counter()
            found = frames_of(live.result(60))
        took_s = time.perf_counter() - began_s
        server_terminated(port)  # else the user's own core says farewell for ever
        return {**found, "took_s": took_s}


def java(n=40):
    """Attach to a core in another process, over the bridge's protocol."""
    from mm_java_acquisition import peer
    from mmpycorex.core import ZMQRemoteMMCoreJ

    port = peer()
    with tempfile.TemporaryDirectory() as folder:
        core = ZMQRemoteMMCoreJ(port=port, timeout=5000)
        core.set_property("Camera", "Mode", "Fluorescent Beads")
        core.set_roi(0, 0, 256, 256)
        with attach(core, config(folder), exposure_ms=20.0, n_frames=n) as live:
            found = frames_of(live.result(60))
        return {**found, "facts": describe(core)._asdict()}


def java_ride(n=40, notify=False):
    """Ride along in an acquisition of the Java backend."""
    from mm_java_acquisition import peer
    from mmpycorex.core import ZMQRemoteMMCoreJ
    from pycromanager import JavaBackendAcquisition, multi_d_acquisition_events

    port = peer()
    with tempfile.TemporaryDirectory() as folder:
        core = ZMQRemoteMMCoreJ(port=port, timeout=5000)
        core.set_property("Camera", "Mode", "Fluorescent Beads")
        core.set_roi(0, 0, 256, 256)
        core.set_exposure(20.0)
        with ride_along(config(folder), core, interval_s=0.02) as live:
            hook = (
                {"notification_callback_fn": live.notification_callback_fn}
                if notify
                else {"image_process_fn": live.image_process_fn}
            )
            with JavaBackendAcquisition(
                folder, "user", show_display=False, port=port, **hook
            ) as acquisition:
                if notify:
                    live.read_from(acquisition)
                acquisition.acquire(
                    multi_d_acquisition_events(num_time_points=n, time_interval_s=0)
                )
            acquisition.get_dataset().close()
        return {**frames_of(live.result(60)), "threads": threading.active_count()}


def main(scenarios):
    """Run each scenario in turn; print what it found."""
    for name, arguments in scenarios:
        print("\nFOUND " + json.dumps(globals()[name](**arguments)), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
