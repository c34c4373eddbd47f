"""A core over the bridge of a Micro-Manager that runs, in which every call has an end.

pycromanager's own bridge (`livespt.core.connect`) waits for ever where Micro-Manager has died. Who
guards a laser cannot: here each call is given up after a while, and the next one connects anew, so
that a Micro-Manager that was started again is found. The protocol is the same, version 5.1 of
pyjavaz's server: one JSON text asks, one answers. Images do not come this way.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from typing import Any

import zmq
from numpy.typing import NDArray

from livespt.core.base import CoreError, one_line

_CORE = "mmcorej.CMMCore"
_JAVA = {bool: "boolean", int: "int", float: "double", str: "java.lang.String"}
#: For the first answer of all, and for any other.
OPEN_S = 3.0
CALL_S = 0.2


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
        try:
            self._enter(max(OPEN_S, timeout_s))
        except CoreError as error:
            self.close()
            raise CoreError(
                f"port: no Micro-Manager answers at 127.0.0.1:{port} ({one_line(error)}): "
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
        """Refuse: images do not come this way."""
        raise CoreError("this way into a core brings no images")

    def close(self) -> None:
        """Hang up."""
        self._leave()
        self._context.destroy(linger=0)

    def _enter(self, timeout_s: float) -> None:
        try:  # at once, where nobody is there at all
            socket.create_connection(("127.0.0.1", self._port), timeout_s).close()
        except OSError as error:
            raise CoreError(f"no answer: {one_line(error)}") from None
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
        self._core = self._ask(new)["hash-code"]

    def _leave(self) -> None:
        if self._socket is not None:
            self._socket.close(linger=0)
            self._socket = None

    def _run(self, target: str, method: str, *arguments: Any) -> dict[str, Any]:
        types = [_JAVA[type(argument)] for argument in arguments]
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

    def _ask(self, message: dict[str, Any], timeout_s: float | None = None) -> dict[str, Any]:
        """Send one message; return its answer."""
        link, timeout_s = self._socket, timeout_s or self._timeout_s
        assert link is not None
        try:
            link.send(json.dumps(message).encode("iso-8859-1"))
            if not link.poll(round(1e3 * timeout_s), zmq.POLLIN):
                raise CoreError(f"no answer within {timeout_s:g} s")
            answer = json.loads(link.recv_multipart()[0].decode("iso-8859-1"))
        except (zmq.ZMQError, ValueError) as error:
            raise CoreError(one_line(error)) from None
        if not isinstance(answer, dict) or answer.get("type") == "exception":
            why = answer.get("value") if isinstance(answer, dict) else answer
            raise CoreError(" ".join(str(why).split()))
        return answer

    def _plain(self, answer: dict[str, Any]) -> Any:
        """Turn an answer into a plain value: Java's enumerations and vectors stay over there."""
        if answer["type"] != "unserialized-object":
            return answer.get("value")
        number = answer["hash-code"]
        methods = {method["name"] for method in answer["api"]}
        if "swigValue" in methods:
            value = self._plain(self._run(number, "swigValue"))
        else:
            size = int(self._plain(self._run(number, "size")))
            value = [self._plain(self._run(number, "get", i)) for i in range(size)]
        self._ask({"command": "destructor", "hash-code": number})
        return value
