"""A stand-in for Micro-Manager's Java server, over the real core: its REQ/REP protocol, no Java.

    python mm_java_peer.py PORT

It answers what pycromanager's bridge asks, in the forms that Java gives: enumerations and vectors
are objects of their own, an image is an object whose pixels come flat and as raw bytes.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import zmq

CORE, VECTOR, ENUM, IMAGE = ("mmcorej.CMMCore", "mmcorej.StrVector", "mmcorej.Type", "TaggedImage")
RECTANGLE = "java.awt.Rectangle"
TEXT, INT = "java.lang.String", "int"
#: Arguments of the core's methods, as Java declares them.
METHODS = {
    "getLoadedDevices": [],
    "getDeviceType": [TEXT],
    "setCameraDevice": [TEXT],
    "getCameraDevice": [],
    "hasProperty": [TEXT, TEXT],
    "getAllowedPropertyValues": [TEXT, TEXT],
    "setProperty": [TEXT, TEXT, TEXT],
    "getProperty": [TEXT, TEXT],
    "getDeviceLibrary": [TEXT],
    "getDeviceName": [TEXT],
    "loadDevice": [TEXT, TEXT, TEXT],
    "initializeDevice": [TEXT],
    "unloadDevice": [TEXT],
    "getDevicePropertyNames": [TEXT],
    "getPropertyType": [TEXT, TEXT],
    "isPropertyReadOnly": [TEXT, TEXT],
    "hasPropertyLimits": [TEXT, TEXT],
    "getPropertyLowerLimit": [TEXT, TEXT],
    "getPropertyUpperLimit": [TEXT, TEXT],
    "setROI": [INT, INT, INT, INT],
    "clearROI": [],
    "setExposure": ["double"],
    "getExposure": [],
    "setCircularBufferMemoryFootprint": [INT],
    "getBytesPerPixel": [],
    "getNumberOfComponents": [],
    "getImageWidth": [],
    "getImageHeight": [],
    "getPixelSizeUm": [],
    "getROI": [],
    "getImageBitDepth": [],
    "startSequenceAcquisition": [INT, "double", "boolean"],
    "stopSequenceAcquisition": [],
    "isSequenceRunning": [],
    "isBufferOverflowed": [],
    "getBufferTotalCapacity": [],
    "getRemainingImageCount": [],
    "popNextTaggedImage": [],
}
APIS = {
    CORE: METHODS,
    VECTOR: {"size": [], "get": [INT]},
    ENUM: {"swigValue": []},
    IMAGE: {},
    RECTANGLE: {},
}


class Vector(list):
    """A StrVector."""

    size, get = list.__len__, list.__getitem__


class Enum(int):
    """A SWIG enumeration."""

    def swigValue(self):
        """Return the number."""
        return int(self)


class Peer:
    """Objects by their number, and an answer to each command."""

    def __init__(self, core):
        self.objects = {}
        self.core = core
        self.parts = []  # raw bytes of this answer

    def answer(self, ask):
        """Return the answer to one message."""
        self.parts = []
        try:
            return getattr(self, "do_" + ask["command"].replace("-", "_"))(ask)
        except Exception as error:  # noqa: BLE001 (as the server does: the client raises it)
            return {"type": "exception", "value": f"java.lang.Exception: {error}"}

    def do_connect(self, ask):
        return {"type": "none", "version": "5.1.0"}

    def do_get_constructors(self, ask):
        return {"type": "none", "api": [{"name": CORE, "arguments": []}]}

    def do_constructor(self, ask):
        return self.shadow(CORE, self.core)

    def do_destructor(self, ask):
        self.objects.pop(ask["hash-code"])
        return {"type": "none"}

    def do_run_method(self, ask):
        name = ask["name"]
        target = self.objects[ask["hash-code"]]
        if name == "popNextTaggedImage":
            return self.shadow(IMAGE, self.core.popNextImageAndMD(), ["pix", "tags"])
        value = getattr(target, name)(*ask["arguments"])
        if name in ("getDeviceType", "getPropertyType"):
            return self.shadow(ENUM, Enum(value))
        if name == "getROI":
            sides = ("x", "y", "width", "height")
            return self.shadow(RECTANGLE, dict(zip(sides, value, strict=True)), sides)
        if isinstance(value, tuple | list):
            return self.shadow(VECTOR, Vector(value))
        kind = "null" if value is None else "string" if isinstance(value, str) else "primitive"
        return {"type": kind, "value": value}

    def do_get_field(self, ask):
        target = self.objects[ask["hash-code"]]
        if isinstance(target, dict):
            return {"type": "primitive", "value": target[ask["name"]]}
        pixels, tags = target
        if ask["name"] == "tags":
            text = json.dumps({key: str(tags[key]) for key in tags})
            return {"type": "object", "class": "JSONObject", "value": text}
        self.parts = [(1).to_bytes(4, sys.byteorder), np.ascontiguousarray(pixels).tobytes()]
        kind = "byte-array" if pixels.dtype.itemsize == 1 else "short-array"
        return {"type": kind, "value": "@1"}

    def shadow(self, kind, target, fields=()):
        """Describe an object that stays here."""
        number = str(len(self.objects) + 1 + max(map(int, self.objects), default=0))
        self.objects[number] = target
        api = [
            {"name": name, "arguments": arguments, "return-type": "java.lang.Object"}
            for name, arguments in APIS[kind].items()
        ]
        return {
            "type": "unserialized-object",
            "class": kind,
            "hash-code": number,
            "fields": list(fields),
            "interfaces": [],
            "api": api,
        }


def demo_core():
    """Load the demonstration's devices."""
    import mm_test_adapters
    from pymmcore_plus import CMMCorePlus

    folder = mm_test_adapters.device_adapter_path()
    core = CMMCorePlus(mm_path=folder, adapter_paths=[folder])
    core.loadSystemConfiguration(f"{folder}/MMConfig_demo.cfg")
    return core


def serve(port):
    """Answer until the process is ended."""
    peer = Peer(demo_core())
    socket = zmq.Context.instance().socket(zmq.REP)
    socket.bind(f"tcp://127.0.0.1:{port}")
    print("ready", flush=True)  # noqa: T201
    while True:
        answer = peer.answer(json.loads(socket.recv_multipart()[0].decode("iso-8859-1")))
        socket.send_multipart([json.dumps(answer).encode("iso-8859-1"), *peer.parts])


if __name__ == "__main__":
    serve(int(sys.argv[1]))
