"""A core over the bridge of a Micro-Manager that runs, in which every call has an end.

pycromanager's own bridge waits for ever where Micro-Manager has died. Neither who guards a laser
nor who takes frames can: here each call is given up after a while, at once where nobody listens any
more, and the next one connects anew, so that a Micro-Manager that was started again is found. The
protocol is the same, version 5.1 of pyjavaz's server: one JSON text asks, one answers, and the
pixels of an image come behind it as they are.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import zmq
from numpy.typing import NDArray

from livespt.core.base import CoreError, one_line

_CORE = "mmcorej.CMMCore"
_JAVA = {bool: "boolean", int: "int", float: "double", str: "java.lang.String"}
#: For the first answer of all, and for any other.
OPEN_S = 3.0
CALL_S = 0.2
#: For a camera, which may take seconds to be set up or started.
CAMERA_S = 5.0
#: How often to look, while an answer is waited for, whether anybody listens at all.
_LOOK_S = 0.25
#: What Java's types of arguments are given as.
_TAKEN = {
    "boolean": (bool,), "int": (int,), "long": (int,), "short": (int,), "double": (float, int),
    "float": (float, int), "java.lang.String": (str,),
}  # fmt: skip
_PIXELS = {"byte-array": np.uint8, "short-array": np.uint16}


class BridgeDoor:
    """Methods of the core of a Micro-Manager whose server is switched on.

    Parameters
    ----------
    port : int
    timeout_s : float
        For each message and its answer.

    Raises
    ------
    CoreError
        Nothing answers there.
    """

    def __init__(self, port: int, timeout_s: float = CALL_S) -> None:
        self._port, self._timeout_s = port, timeout_s
        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] | None = None
        self._core = ""  # the core's number among the server's objects
        self._api: dict[str, list[list[str]]] = {}  # its methods' types of arguments
        self._raw: list[bytes] = []  # what came behind the last answer
        try:
            self._enter(max(OPEN_S, timeout_s))
        except CoreError as error:
            self.close()
            why = one_line(error.__cause__ or error)
            raise CoreError(
                f"port: no Micro-Manager answers at 127.0.0.1:{port} ({why}): "
                "in Micro-Manager, switch on Tools > Options > Run server on port"
            ) from None

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method by its C++ name.

        Raises
        ------
        CoreError
            No answer in time, or a refusal. The next call connects anew.
        """
        try:
            if self._socket is None:
                self._enter(self._timeout_s)
            return self._plain(self._run(self._core, method, *arguments))
        except CoreError:
            self._leave()
            raise

    def pop(self) -> tuple[NDArray, Mapping[str, Any]]:
        """Take the oldest image, its pixels in one row, and its tags.

        Raises
        ------
        CoreError
            As from `call`; there is no image, or one that is no plain counts.
        """
        try:
            if self._socket is None:
                self._enter(self._timeout_s)
            number = self._run(self._core, "popNextTaggedImage")["hash-code"]
            tags = json.loads(self._field(number, "tags")["value"])
            kind = self._field(number, "pix")["type"]
            if kind not in _PIXELS or not self._raw:
                raise CoreError(f"pixels come as {kind}, expected one of {', '.join(_PIXELS)}")
            pixels = np.frombuffer(self._raw[-1], _PIXELS[kind])
            self._ask({"command": "destructor", "hash-code": number})
        except (KeyError, TypeError, ValueError) as error:
            self._leave()
            raise CoreError(f"no image {self._where}: {one_line(error)}") from None
        except CoreError:
            self._leave()
            raise
        return pixels, tags

    def close(self) -> None:
        """Hang up."""
        self._leave()
        self._context.destroy(linger=0)

    @property
    def _where(self) -> str:
        return f"from Micro-Manager at 127.0.0.1:{self._port}"

    def _knock(self, timeout_s: float) -> None:
        """Make sure that somebody listens."""
        try:
            socket.create_connection(("127.0.0.1", self._port), timeout_s).close()
        except OSError as error:
            raise CoreError(f"no answer {self._where}: {one_line(error)}") from error

    def _enter(self, timeout_s: float) -> None:
        self._knock(timeout_s)  # says so at once, where nobody is there at all
        link = self._socket = self._context.socket(zmq.REQ)
        link.setsockopt(zmq.LINGER, 0)
        link.connect(f"tcp://127.0.0.1:{self._port}")
        self._ask({"command": "connect", "debug": False}, timeout_s)
        new = {
            "command": "constructor",
            "classpath": _CORE,
            "argument-types": [],
            "argument-deserialization-types": [],
            "arguments": [],
        }
        core = self._ask(new)
        self._core, self._api = core["hash-code"], {}
        for method in core["api"]:
            self._api.setdefault(method["name"], []).append(list(method["arguments"]))

    def _leave(self) -> None:
        if self._socket is not None:
            self._socket.close(linger=0)
            self._socket = None

    def _run(self, target: str, method: str, *arguments: Any) -> dict[str, Any]:
        types = self._types(target, method, arguments)
        message = {
            "command": "run-method",
            "static": False,
            "hash-code": target,
            "name": method,
            "argument-types": types,
            "argument-deserialization-types": types,
            "arguments": list(arguments),
        }
        return self._ask(message)

    def _types(self, target: str, method: str, arguments: tuple[Any, ...]) -> list[str]:
        """Return the arguments' types as Java declares them: a count may be an int or a long."""
        for types in self._api.get(method, []) if target == self._core else []:
            if len(types) == len(arguments) and all(
                type(value) in _TAKEN.get(kind, ())
                for kind, value in zip(types, arguments, strict=True)
            ):
                return types
        return [_JAVA[type(argument)] for argument in arguments]

    def _field(self, number: str, name: str) -> dict[str, Any]:
        return self._ask({"command": "get-field", "hash-code": number, "name": name})

    def _ask(self, message: dict[str, Any], timeout_s: float | None = None) -> dict[str, Any]:
        """Send one message; return its answer."""
        link, timeout_s = self._socket, timeout_s or self._timeout_s
        assert link is not None
        try:
            link.send(json.dumps(message).encode("iso-8859-1"))
            self._wait(link, timeout_s)
            text, *self._raw = link.recv_multipart()
            answer = json.loads(text.decode("iso-8859-1"))
        except (zmq.ZMQError, ValueError) as error:
            raise CoreError(one_line(error)) from None
        if not isinstance(answer, dict) or answer.get("type") == "exception":
            why = answer.get("value") if isinstance(answer, dict) else answer
            raise CoreError(" ".join(str(why).split()))
        return answer

    def _wait(self, link: zmq.Socket[bytes], timeout_s: float) -> None:
        """Wait for an answer, no longer than somebody is there to give it."""
        until_s = time.monotonic() + timeout_s
        left_s = timeout_s
        while not link.poll(round(1e3 * min(left_s, _LOOK_S)), zmq.POLLIN):
            left_s = until_s - time.monotonic()
            if left_s < 1e-3:
                raise CoreError(f"no answer within {timeout_s:g} s {self._where}")
            self._knock(_LOOK_S)

    def _plain(self, answer: dict[str, Any]) -> Any:
        """Turn an answer into a plain value: Java's enumerations and vectors stay over there."""
        if answer["type"] != "unserialized-object":
            return answer.get("value")
        number = answer["hash-code"]
        methods = {method["name"] for method in answer["api"]}
        if {"x", "y", "width", "height"} <= set(answer.get("fields", ())):  # a rectangle
            sides = ("x", "y", "width", "height")
            value: Any = [self._field(number, side).get("value") for side in sides]
        elif "swigValue" in methods:
            value = self._plain(self._run(number, "swigValue"))
        else:
            size = int(self._plain(self._run(number, "size")))
            value = [self._plain(self._run(number, "get", i)) for i in range(size)]
        self._ask({"command": "destructor", "hash-code": number})
        return value
