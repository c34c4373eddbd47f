"""What the Micro-Manager tests do, each in a process of its own: there is one core per process.

python mm_scenarios.py NAME '{"argument": value}'   prints one JSON line, the last
"""

from __future__ import annotations

import atexit
import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from livespt.sources import BufferedSource, open_source
from livespt.types import Event, Frame, LivesptError


def summary(items):
    """Condense a stream: what came, what is said to be lost, and the pace."""
    frames = [item for item in items if isinstance(item, Frame)]
    events = [item for item in items if isinstance(item, Event)]
    t_s = np.array([f.t_s for f in frames])
    return {
        "n_frames": len(frames),
        "index": [f.index for f in frames],
        "shapes": sorted({f.adu.shape for f in frames}),
        "events": [[e.kind, e.frame, e.n_frames, e.message] for e in events],
        "interval_s": float(np.median(np.diff(t_s))) if len(t_s) > 1 else 0.0,
        "runs_forward": bool(np.all(np.diff(t_s) > 0)),
        "differ": bool(len(frames) > 1 and (frames[0].adu != frames[-1].adu).any()),
    }


def condense(frame):
    """Keep what `summary` needs, not the pixels of thousands of frames."""
    return frame._replace(adu=frame.adu[:1, :1].copy()) if isinstance(frame, Frame) else frame


def stream(kind, options, pause_at=-1, pause_s=0.0):
    """Run a camera behind the ring; the analysis pauses once where asked to."""
    source = BufferedSource(open_source(kind, options), 256, "oldest")
    items = []
    cpu_s = time.process_time()
    began_s = time.perf_counter()
    for item in source.frames():
        items.append(condense(item))
        if len(items) == pause_at:
            time.sleep(pause_s)
    took_s = time.perf_counter() - began_s
    return {
        **summary(items),
        "counters": source.counters._asdict(),
        "rate": len(items) / took_s,
        "cpu": (time.process_time() - cpu_s) / took_s,
        "info": source.info._asdict(),
    }


def overflow(kind, options, pause_at=50, pause_s=0.5):
    """Stop taking images for a while, so that the core's own small buffer runs over."""
    items = []
    for item in open_source(kind, options).frames():
        items.append(condense(item))
        if len(items) == pause_at:
            time.sleep(pause_s)
    return summary(items)


def reopen():
    """Open, run and close twice, then let pycromanager acquire with a core of its own."""
    counts = []
    for _ in range(2):
        source = open_source("micromanager", {"n_frames": 20, "exposure_ms": 5.0})
        counts.append(sum(isinstance(item, Frame) for item in source.frames()))
    with user_core(), tempfile.TemporaryDirectory() as folder:
        counts.append(acquire(folder, 10, None)[0])
    return {"counts": counts}


def borrowed():
    """Tap a core that the user started: it is left running."""
    with user_core() as core:
        source = open_source("micromanager", {"n_frames": 20, "exposure_ms": 5.0})
        n = sum(isinstance(item, Frame) for item in source.frames())
        core.snap_image()
        refused = refusal("micromanager", {"config": "other.cfg"})
        return {"n": n, "alive": list(core.get_image().shape), "refused": refused}


def plus_tap():
    """Tap a CMMCorePlus that the user set up."""
    import mm_test_adapters
    from pymmcore_plus import CMMCorePlus

    from livespt.sources.camera_setup import CameraOptions
    from livespt.sources.mmcore import tap

    folder = mm_test_adapters.device_adapter_path()
    core = CMMCorePlus(mm_path=folder, adapter_paths=[folder])
    core.loadSystemConfiguration(f"{folder}/MMConfig_demo.cfg")
    items = list(tap(core, CameraOptions(n_frames=20, exposure_ms=5.0)).frames())
    return {**summary(items), "loaded": len(core.getLoadedDevices())}


def ride(n=150, axes=None, shape=(512, 512), slow=False):
    """Ride along in a real Acquisition, and compare what was saved with what analysis saw."""
    from livespt.sources.ridealong import RideAlong

    with user_core() as core:
        along = RideAlong.beside(core, interval_s=0.01, ring_frames=8 if slow else 256, axes=axes)
        assert along.info.shape == (512, 512)
        if tuple(shape) != along.info.shape:
            along = RideAlong(tuple(shape), interval_s=0.01, exposure_s=0.009)
        seen = []

        def watch():
            for item in along.frames():
                seen.append(item._replace(adu=item.adu.copy()) if isinstance(item, Frame) else item)
                if slow:
                    time.sleep(0.05)

        watcher = threading.Thread(target=watch)
        watcher.start()
        with tempfile.TemporaryDirectory() as folder:
            with along:
                n_saved, saved = acquire(folder, n, along.image_process_fn)
            watcher.join()
    frames = [item for item in seen if isinstance(item, Frame)]
    # Every frame that analysis saw is a saved image, bit for bit.
    same = all((frame.adu == saved[frame.index]).all() for frame in frames)
    counters = along.counters._asdict()
    return {**summary(seen), "n_saved": n_saved, "same": same, "counters": counters}


def running(n=50, **options):
    """Tap a Micro-Manager that runs in another process, over its bridge."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = str(Path(__file__).with_name("mm_java_peer.py"))
    peer = subprocess.Popen([sys.executable, script, str(port)], stdout=subprocess.PIPE)
    atexit.register(peer.kill)  # after the bridge's own farewells, which are registered later
    assert peer.stdout is not None
    peer.stdout.readline()
    options = {"backend": "running", "port": port, **options}
    refused = refusal("micromanager", {**options, "camera": "Prime95B"})
    source = open_source("micromanager", {**options, "n_frames": n})
    return {**summary(list(source.frames())), "refused": refused, "info": source.info._asdict()}


def swallowed(n=10):
    """What a process function that returns None does to the user's saving."""
    with user_core(), tempfile.TemporaryDirectory() as folder:
        return {"n_saved": acquire(folder, n, lambda image, metadata: None)[0]}


def ndtiff_roundtrip(n=40):
    """Let pycromanager save a movie, then replay it."""
    with user_core(), tempfile.TemporaryDirectory() as folder:
        _, saved = acquire(folder, n, None)
        source = open_source("replay", {"path": f"{folder}/run_1"})
        items = list(source.frames())
        frames = [item for item in items if isinstance(item, Frame)]
        same = all((f.adu == image).all() for f, image in zip(frames, saved, strict=True))
        out = {**summary(items), "same": same, "nominal_s": source.info.interval_s}
        source.close()
    return out


def follow_acquisition(n=100, channels=()):
    """Follow the files of a real Acquisition while it runs, and compare with what it saved."""
    with user_core() as core, tempfile.TemporaryDirectory() as folder:
        assert core.get_exposure() == 9.0
        seen, ended_s = [], []

        def watch():
            axes = {"channel": channels[0]} if channels else {}
            source = open_source("follow", {"path": f"{folder}/run_1", "axes": axes})
            seen.append(source)
            seen.extend(source.frames())

        watcher = threading.Thread(target=watch)
        watcher.start()
        events = {"channel_group": "Channel", "channels": list(channels)} if channels else {}
        n_saved, saved = acquire(folder, n, None, on_end=ended_s.append, **events)
        watcher.join()
        source, items = seen[0], seen[1:]
        frames = [item for item in items if isinstance(item, Frame)]
        same = all((f.adu == image).all() for f, image in zip(frames, saved, strict=True))
        return {
            **summary(items),
            "n_saved": n_saved,
            "same": same,
            "before_the_end": sum(f.arrived_s < ended_s[0] for f in frames),
            "info": source.info._asdict(),
        }


def stall():
    """Make the real camera fall silent, by an exposure that outlasts all patience."""
    source = open_source("mmcore", {"exposure_ms": 5.0})
    core, items, silence = source._door.core, [], threading.Event()

    def slow_down():
        core.stopSequenceAcquisition()
        core.setExposure(1500.0)
        core.startSequenceAcquisition(10**6, 0.0, True)

    for item in source.frames():
        items.append(condense(item))
        if len(items) == 30:
            with source._lock:  # between two polls, as another program would by chance
                slow_down()
        if isinstance(item, Event) and item.kind == "resumed":
            silence.set()
            break
    return {**summary(items), "resumed": silence.is_set()}


def shape_change():
    """Change the region while the camera runs, as someone at the keyboard might."""
    source = open_source("micromanager", {"exposure_ms": 5.0})
    core, items = source._door.core, []
    for item in source.frames():
        items.append(condense(item))
        if len(items) == 10:
            core.stop_sequence_acquisition()
            while core.get_remaining_image_count():
                core.pop_next_tagged_image()
            core.set_roi(0, 0, 128, 64)
            core.start_sequence_acquisition(10**6, 0.0, True)
    return summary(items)


def stopped_by_others():
    """Stop the camera behind the tap's back."""
    source = open_source("micromanager", {"exposure_ms": 5.0})
    items = []
    for item in source.frames():
        items.append(condense(item))
        if len(items) == 10:
            source._door.core.stop_sequence_acquisition()
    return summary(items)


def camera_lost():
    """Unload the camera in mid-run."""
    source = open_source("mmcore", {"exposure_ms": 5.0})
    buffered = BufferedSource(source, 64)
    items, error = [], ""
    try:
        for item in buffered.frames():
            items.append(condense(item))
            if len(items) == 10:
                with source._lock:
                    source._door.core.stopSequenceAcquisition()
                    time.sleep(0.1)
                    source._door.core.unloadDevice("Camera")
    except LivesptError as caught:
        error = str(caught)
    return {**summary(items), "error": error}


def close_early():
    """Close a camera that would run forever, from another thread."""
    source = BufferedSource(open_source("micromanager", {"exposure_ms": 5.0}), 64)
    threading.Timer(0.5, source.close).start()
    n = sum(isinstance(item, Frame) for item in source.frames())
    return {"n": n, "alive": source._thread.is_alive()}


def refusals(cases):
    """Try options that cannot work; return what is said."""
    return {"said": [refusal(kind, options) for kind, options in cases]}


def refusal(kind, options):
    """Return the one line with which a source is refused."""
    try:
        open_source(kind, options).close()
    except LivesptError as error:
        return str(error)
    return "accepted"


def without(packages, kind, options):
    """Say what happens where `packages` are not installed."""
    kept = {name: sys.modules.get(name) for name in packages}
    sys.modules.update(dict.fromkeys(packages))  # None: an import of it fails
    said = refusal(kind, options)
    for name, module in kept.items():
        sys.modules.pop(name) if module is None else sys.modules.update({name: module})
    return {"said": said}


def walk(n=60, **options):
    """Drive the stage walk; follow the brightest bead by its centroid."""
    from mm_stage_walk import StageWalk

    with user_core() as core:
        source = StageWalk(core, n_frames=n, background_e=0.0, **options)
        frames = [frame.adu.astype(float) for frame in source.frames()]
    path_px = follow(frames)
    stage = np.array(source.stage_um)
    slope = [
        float(np.polyfit(stage[:, k] - stage[0, k], path_px[:, k] - path_px[0, k], 1)[0])
        for k in (0, 1)
    ]
    residual = (path_px - path_px[0]) - (stage - stage[0]) * slope
    return {
        "slope": slope,
        "worst_px": float(np.abs(residual).max()),
        "D_um2_s": source.D_um2_s,
        "realised_D_um2_s": source.realised_D_um2_s,
        "background": float(np.median(frames[0])),
        "peak": float(frames[0].max()),
    }


def follow(frames, half=6):
    """Return (x, y) of one lonely bead in each frame, by centroid from where it was."""
    from scipy import ndimage

    smooth = ndimage.gaussian_filter(frames[0], 1.0)
    tops = np.argwhere((smooth == ndimage.maximum_filter(smooth, 41)) & (smooth > 20))
    middle = np.array(frames[0].shape) / 2
    y, x = tops[np.argmin(np.abs(tops - middle).max(1))].astype(float)
    grid = np.arange(-half, half + 1)
    path = []
    for frame in frames:
        for _ in range(8):  # re-centre until the window stands on the bead
            cy, cx = round(y), round(x)
            part = frame[cy - half : cy + half + 1, cx - half : cx + half + 1]
            y, x = cy + (part.sum(1) @ grid) / part.sum(), cx + (part.sum(0) @ grid) / part.sum()
        path.append((x, y))
    return np.array(path)


@contextlib.contextmanager
def user_core(exposure_ms=9.0):
    """Start the real core as a user of pycromanager does, and stop it in the end."""
    import mm_test_adapters
    from pycromanager import Core, start_headless, stop_headless

    from livespt.core.base import SETTLE_S
    from livespt.core.snake import _forget_engine

    folder = mm_test_adapters.device_adapter_path()
    start_headless(folder, f"{folder}/MMConfig_demo.cfg", python_backend=True)
    core = Core()
    core.set_exposure(exposure_ms)
    yield core
    time.sleep(SETTLE_S)
    stop_headless()
    _forget_engine()


def acquire(folder, n, image_process_fn, on_end=None, **events):
    """Run a pycromanager Acquisition; return how many images it saved, and the first channel's."""
    from pycromanager import Acquisition, multi_d_acquisition_events

    options = {} if image_process_fn is None else {"image_process_fn": image_process_fn}
    with Acquisition(directory=folder, name="run", **options) as acquisition:
        acquisition.acquire(
            multi_d_acquisition_events(num_time_points=n, time_interval_s=0, **events)
        )
    if on_end is not None:
        on_end(time.perf_counter())
    data = acquisition.get_dataset()
    n_saved = len(data.index)
    where = {"channel": events["channels"][0]} if events else {}
    n_times = len(data.index) // len(events.get("channels", "1"))
    images = [np.array(data.read_image(time=i, **where)) for i in range(n_times)]
    data.close()
    return n_saved, images


def closed_door():
    """Load a core of our own, close it, and listen for its news before and afterwards."""
    from livespt.core import load_core
    from livespt.core.places import adapter_folder, config_file

    door, heard = load_core(), []
    door.core.events.propertyChanged.connect(lambda *what: heard.append(what))
    config = str(config_file("", adapter_folder("auto")))

    def news():
        before = len(heard)
        door.core.loadSystemConfiguration(config)
        time.sleep(0.3)
        return len(heard) - before

    told = news()
    door.close()
    return {"open": told, "closed": news()}


def main(scenarios):
    """Run each scenario in turn; print what it found."""
    for name, arguments in scenarios:
        print("\nFOUND " + json.dumps(globals()[name](**arguments)), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
