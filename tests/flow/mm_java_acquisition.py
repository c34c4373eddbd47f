"""A stand-in for Micro-Manager's acquisition engine behind the bridge, over the real core: no Java.

    python mm_java_acquisition.py PORT

It speaks what pycromanager's `JavaBackendAcquisition` asks of it: a factory on a socket of its own,
events pulled, images pushed through the process function and pulled back, saved as NDTiff, and a
notification for each. Acquisitions are hardware sequences of the core's camera.
"""

from __future__ import annotations

import atexit
import json
import socket
import subprocess
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import zmq
from mm_java_peer import APIS, CORE, INT, TEXT, Peer, demo_core

BOOL, REAL = "boolean", "double"
FACTORY = "org.micromanager.remote.RemoteAcquisitionFactory"
PROCESSOR = "org.micromanager.remote.RemoteImageProcessor"
NOTIFIER = "org.micromanager.remote.RemoteNotificationHandler"
ACQUISITION, SINK, STORAGE = "RemoteAcquisition", "DataSink", "Storage"
APIS |= {
    FACTORY: {"createAcquisition": [TEXT, TEXT, BOOL, INT, BOOL]},
    PROCESSOR: {"startPull": [], "startPush": [], "getPullPort": [], "getPushPort": []},
    NOTIFIER: {"getPort": [], "start": [], "notificationHandlingComplete": []},
    ACQUISITION: {
        "getDataSink": [],
        "getEventPort": [],
        "addImageProcessor": [PROCESSOR],
        "isFinished": [],
        "areEventsFinished": [],
        "blockUntilEventsFinished": [REAL],
        "waitForCompletion": [],
        "checkForExceptions": [],
        "abort": [],
    },
    SINK: {"getStorage": [], "isFinished": []},
    STORAGE: {"getDiskLocation": [], "getSummaryMetadata": []},
}
ARGUMENTS = {FACTORY: [CORE], NOTIFIER: [ACQUISITION]}


def free_port():
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def pull(port):
    """Receive from a port that pycromanager binds."""
    made = zmq.Context.instance().socket(zmq.PULL)
    made.connect(f"tcp://127.0.0.1:{port}")
    return made


def push(port):
    """Send on a port that pycromanager connects to."""
    made = zmq.Context.instance().socket(zmq.PUSH)
    made.bind(f"tcp://127.0.0.1:{port}")
    return made


def encode(message, *parts):
    """Return a message as the bridge sends it."""
    return [json.dumps(message).encode("iso-8859-1"), *parts]


class Processor:
    """Sends images to the user's process function and takes them back."""

    def __init__(self):
        self.pull_port, self.push_port = free_port(), free_port()

    def startPull(self):
        self.back = pull(self.pull_port)

    def startPush(self):
        self.out = push(self.push_port)

    def getPullPort(self):
        return self.pull_port

    def getPushPort(self):
        return self.push_port

    def process(self, pixels, tags):
        array = {"type": "short-array", "value": "@1"}
        name = (1).to_bytes(4, sys.byteorder)
        self.out.send_multipart(encode({"metadata": tags, "pixels": array}, name, pixels.tobytes()))
        head, _, raw = self.back.recv_multipart()
        message = json.loads(head.decode("iso-8859-1"))
        return np.frombuffer(raw, np.uint16).reshape(pixels.shape), message["metadata"]

    def finish(self):
        self.out.send_multipart(encode({"special": "finished"}))
        self.back.recv_multipart()


class Notifier:
    """Sends notifications."""

    def __init__(self, acquisition):
        self.port = free_port()
        self.out = push(self.port)
        acquisition.notifier = self

    def getPort(self):
        return self.port

    def start(self):
        pass

    def notificationHandlingComplete(self):
        pass

    def send(self, kind, milestone, payload=None):
        message = {"type": kind, "milestone": milestone}
        self.out.send_multipart(
            encode(message if payload is None else message | {"payload": payload})
        )


class Acquisition:
    """Runs what is asked for, its own sink and storage."""

    def __init__(self, core, directory, name):
        from ndstorage.ndtiff_dataset import NDTiffDataset

        self.core, self.processor = core, None
        self.data = NDTiffDataset(directory, name=name, writable=True)
        self.data.initialize({"PixelType": "GRAY16"})
        self.port, self.over = free_port(), threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def getDataSink(self):
        return Sink(self.data)

    def getEventPort(self):
        return self.port

    def addImageProcessor(self, processor):
        self.processor = processor

    def isFinished(self):
        return self.over.is_set()

    areEventsFinished = isFinished

    def blockUntilEventsFinished(self, timeout_s):
        self.over.wait(timeout_s)

    def waitForCompletion(self):
        self.over.wait()

    def checkForExceptions(self):
        pass

    def abort(self):
        self.core.stopSequenceAcquisition()

    def _run(self):
        events = pull(self.port)
        while True:
            asked = json.loads(events.recv_multipart()[0].decode("iso-8859-1"))["events"]
            if "special" in asked[0]:
                break
            self._sequence(asked)
        if self.processor:
            self.processor.finish()
        self.data.finish()
        self.notifier.send("global", "acq_events_finished")
        self.notifier.send("image", "data_sink_finished")
        self.over.set()

    def _sequence(self, events):
        self.core.startSequenceAcquisition(len(events), 0.0, True)
        for event in events:
            while not self.core.getRemainingImageCount():
                threading.Event().wait(0.001)
            pixels, found = self.core.popNextImageAndMD()
            tags = {key: found[key] for key in found} | {"Axes": event["axes"]}
            tags |= {"Width": pixels.shape[1], "Height": pixels.shape[0], "BitDepth": 16}
            if self.processor:
                pixels, tags = self.processor.process(np.ascontiguousarray(pixels), tags)
            self.data.put_image(event["axes"], pixels, tags)
            entry = self.data.index[frozenset(event["axes"].items())]
            text = entry.as_byte_buffer().getvalue().decode("iso-8859-1")
            self.notifier.send("image", "image_saved", text)


class Sink:
    """What is saved."""

    def __init__(self, data):
        self.data = data

    def getStorage(self):
        return self

    def isFinished(self):
        return self.data.is_finished()

    def getDiskLocation(self):
        return self.data.path

    def getSummaryMetadata(self):
        return {"PixelType": "GRAY16"}


class Factory:
    """Makes acquisitions."""

    def __init__(self, core):
        self.core = core

    def createAcquisition(self, directory, name, viewer, queue_size, debug):
        return Acquisition(self.core, directory, name)


KINDS = {Acquisition: ACQUISITION, Processor: PROCESSOR}


class EnginePeer(Peer):
    """The core's peer, with the engine's objects."""

    def do_get_constructors(self, ask):
        name = ask["classpath"]
        return {"type": "none", "api": [{"name": name, "arguments": ARGUMENTS.get(name, [])}]}

    def do_constructor(self, ask):
        name = ask["classpath"]
        given = [self.objects[one["hash-code"]] for one in ask["arguments"]]
        made = {CORE: lambda: self.core, FACTORY: Factory, PROCESSOR: Processor, NOTIFIER: Notifier}
        found = self.shadow(name, made[name](*given))
        if ask.get("new-port"):
            found["port"] = free_port()
            threading.Thread(target=answer, args=(self, found["port"]), daemon=True).start()
        return found

    def do_run_method(self, ask):
        target = self.objects[ask["hash-code"]]
        if target is self.core or not type(target).__module__.startswith(("__main__", "mm_java_a")):
            return super().do_run_method(ask)
        given = [
            self.objects[one["hash-code"]] if isinstance(one, dict) else one
            for one in ask["arguments"]
        ]
        value = getattr(target, ask["name"])(*given)
        if isinstance(value, dict):
            return {"type": "object", "class": "JSONObject", "value": json.dumps(value)}
        if isinstance(value, Sink):
            return self.shadow(SINK if ask["name"] == "getDataSink" else STORAGE, value)
        if isinstance(value, Acquisition):
            return self.shadow(ACQUISITION, value)
        kind = "null" if value is None else "string" if isinstance(value, str) else "primitive"
        return {"type": kind, "value": value}

    def shadow(self, kind, target, fields=()):
        """Describe an object, and that it is of its own kind."""
        return super().shadow(kind, target, fields) | {"interfaces": [kind]}


def answer(peer, port):
    """Answer on one port until the process is ended."""
    served = zmq.Context.instance().socket(zmq.REP)
    served.bind(f"tcp://127.0.0.1:{port}")
    print("ready", flush=True)  # noqa: T201
    while True:
        ask = json.loads(served.recv_multipart()[0].decode("iso-8859-1"))
        found = peer.answer(ask)
        served.send_multipart([json.dumps(found).encode("iso-8859-1"), *peer.parts])


def peer(processes=None):
    """Run the peer in a process of its own, until this one ends; return its port.

    The process is added to the list `processes`, where one is given.
    """
    port = free_port()
    served = subprocess.Popen([sys.executable, __file__, str(port)], stdout=subprocess.PIPE)
    atexit.register(served.kill)  # after the bridge's own farewells, which are registered later
    if processes is not None:
        processes.append(served)
    assert served.stdout is not None
    served.stdout.readline()
    return port


if __name__ == "__main__":
    answer(EnginePeer(demo_core()), int(sys.argv[1]))
