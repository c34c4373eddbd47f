"""The publisher: answers out, commands in, and never in the pipeline's way.

Two PUB sockets and one ROUTER:

- *publish* carries all messages but images, with a queue of `QUEUE_MESSAGES` for each subscriber;
- *images* go over a socket of their own with a queue of `QUEUE_IMAGES`: one image may weigh as
  much as a thousand estimates, and a stuck onlooker must not hold gigabytes. Its address is part
  of every snapshot;
- *command* is served by a small thread: it answers snapshots itself and keeps the other commands
  until the pipeline asks for them with `poll_commands`.

`send` never blocks. A message is first offered to all subscribers without loss; if one of them is
full, that is counted and the message sent to those with room. ZeroMQ then leaves the full one out
until it has read half of its queue, and does not tell how many it missed: `dropped` is a lower
bound, and each subscriber knows its own losses exactly from `nth`.

Loopback only: a bind elsewhere is refused until keys and an allow-list are supported.
"""

from __future__ import annotations

import ipaddress
import secrets
import threading
from collections import Counter, deque
from types import TracebackType

import msgspec
import zmq

from livespt.wire.schema import (
    MAX_COMMAND_BYTES,
    VERSION,
    AnyCommand,
    CommandReply,
    ControlMessage,
    EstimateMessage,
    EventMessage,
    FinalMessage,
    HelloMessage,
    ImageMessage,
    Message,
    SnapshotCommand,
    SnapshotMessage,
    StatusMessage,
    WireError,
)

QUEUE_MESSAGES = 1000
QUEUE_IMAGES = 2
SNAPSHOT_EVENTS = 100
#: How long a close waits for subscribers to take what is queued.
LINGER_MS = 1000
_POLL_MS = 100
_MAX_PENDING_COMMANDS = 64
_MAX_ENVELOPE = 4


class Publisher:
    """Publish one run's messages and take its commands; a context manager.

    Parameters
    ----------
    publish, command : str
        Addresses to bind; a port ``*`` takes any free one (see `publish_address`).
    run : str
        The run's name, unique to it: stamped on every message. Made up if empty.

    Attributes
    ----------
    publish_address, command_address, image_address : str
        Where the sockets are really bound.
    dropped_by_topic : Counter
        Messages that a subscriber had no room for, by topic; a lower bound (see above).

    Raises
    ------
    WireError
        An address is taken, malformed, or not on this machine's loopback.
    """

    def __init__(
        self,
        publish: str = "tcp://127.0.0.1:5570",
        command: str = "tcp://127.0.0.1:5571",
        run: str = "",
    ) -> None:
        check_loopback("wire.publish", publish)
        check_loopback("wire.command", command)
        self.run = run or f"run-{secrets.token_hex(4)}"
        self.dropped_by_topic: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._encoder = msgspec.msgpack.Encoder()
        self._seq = 0
        self._nth: Counter[str] = Counter()
        self._newest: dict[type[Message], Message] = {}
        self._events: deque[EventMessage] = deque(maxlen=SNAPSHOT_EVENTS)
        self._commands: deque[AnyCommand] = deque(maxlen=_MAX_PENDING_COMMANDS)
        self._closing = threading.Event()
        self._context = zmq.Context()
        try:
            self._open(publish, command)
        except WireError:
            self._context.destroy(linger=0)
            raise
        self._server = threading.Thread(target=self._serve, name="livespt-command", daemon=True)
        self._server.start()

    def _open(self, publish: str, command: str) -> None:
        self._pub = self._socket(zmq.PUB, QUEUE_MESSAGES, LINGER_MS)
        self._images = self._socket(zmq.PUB, QUEUE_IMAGES, 0)
        self._router = self._socket(zmq.ROUTER, _MAX_PENDING_COMMANDS, LINGER_MS)
        self._router.set(zmq.MAXMSGSIZE, 2 * MAX_COMMAND_BYTES)
        self.publish_address = _bind(self._pub, "wire.publish", publish)
        self.command_address = _bind(self._router, "wire.command", command)
        self.image_address = _bind(self._images, "wire images", _beside(self.publish_address))

    def _socket(self, kind: int, queue: int, linger_ms: int) -> zmq.Socket:
        socket = self._context.socket(kind)
        socket.set(zmq.SNDHWM, queue)
        socket.set(zmq.RCVHWM, queue)
        socket.set(zmq.LINGER, linger_ms)
        return socket

    @property
    def dropped(self) -> int:
        """Messages that a subscriber had no room for: 0 or a lower bound of those lost."""
        return self.dropped_by_topic.total()

    def send(self, message: Message) -> None:
        """Stamp `message` with seq, nth, run and version, and offer it to all subscribers.

        Never blocks and may be called from any thread. After `close` it does nothing.
        """
        with self._lock:
            if self._closing.is_set():
                return
            message = self._stamp(message)
            self._remember(message)
            socket = self._images if isinstance(message, ImageMessage) else self._pub
            parts = [message.topic.encode(), self._encoder.encode(message)]
            if not _offer(socket, parts):
                self.dropped_by_topic[message.topic] += 1

    def poll_commands(self) -> list[AnyCommand]:
        """Return the commands that came since the last call (snapshots are answered already)."""
        commands = []
        while self._commands:
            commands.append(self._commands.popleft())
        return commands

    def snapshot(self) -> SnapshotMessage:
        """Return the newest of each kind and the last events."""
        with self._lock:
            return self._snapshot()

    def close(self) -> None:
        """Let subscribers take what is queued (for `LINGER_MS` at most) and free the ports."""
        with self._lock:
            if self._closing.is_set():
                return
            self._closing.set()
        self._server.join()
        for socket in (self._pub, self._images, self._router):
            socket.close()
        self._context.term()

    def __enter__(self) -> Publisher:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _stamp(self, message: Message) -> Message:
        self._seq += 1
        self._nth[message.topic] += 1
        return msgspec.structs.replace(
            message, v=VERSION, seq=self._seq, nth=self._nth[message.topic], run=self.run
        )

    def _remember(self, message: Message) -> None:
        if isinstance(message, EventMessage):
            self._events.append(message)
        else:
            self._newest[type(message)] = message

    def _snapshot(self) -> SnapshotMessage:
        newest = self._newest
        return SnapshotMessage(
            seq=self._seq,
            run=self.run,
            hello=newest.get(HelloMessage),  # type: ignore[arg-type]
            estimate=newest.get(EstimateMessage),  # type: ignore[arg-type]
            status=newest.get(StatusMessage),  # type: ignore[arg-type]
            image=newest.get(ImageMessage),  # type: ignore[arg-type]
            final=newest.get(FinalMessage),  # type: ignore[arg-type]
            control=newest.get(ControlMessage),  # type: ignore[arg-type]
            events=list(self._events),
            image_address=self.image_address,
        )

    def _serve(self) -> None:
        """Answer commands until closed; runs on its own thread and owns the ROUTER."""
        while not self._closing.is_set():
            if not self._router.poll(_POLL_MS):
                continue
            peer, *envelope, body = self._router.recv_multipart()
            if len(envelope) > _MAX_ENVELOPE:
                continue
            reply = msgspec.msgpack.encode(self._answer(body))
            try:
                self._router.send_multipart([peer, *envelope, reply], zmq.NOBLOCK)
            except zmq.ZMQError:  # who asked has gone or does not read: nobody waits for this
                continue

    def _answer(self, body: bytes) -> CommandReply:
        if len(body) > MAX_COMMAND_BYTES:
            limit = f"at most {MAX_COMMAND_BYTES} are read"
            return CommandReply(False, f"command of {len(body)} bytes refused; {limit}")
        try:
            command = msgspec.msgpack.decode(body, type=AnyCommand)
        except (msgspec.MsgspecError, RecursionError) as error:
            return CommandReply(False, f"not a command: {error}")
        if isinstance(command, SnapshotCommand):
            return CommandReply(True, snapshot=self.snapshot())
        self._commands.append(command)
        return CommandReply(True, f"{type(command).__name__} taken")


def check_loopback(key: str, address: str) -> None:
    """Refuse an address that other machines could reach.

    Raises
    ------
    WireError
        The address is not ``tcp://<loopback>:<port>`` or ``ipc://<path>``.
    """
    transport, _, rest = address.partition("://")
    if transport == "ipc" and rest:
        return
    host, _, port = rest.rpartition(":")
    if transport != "tcp" or not host or not (port == "*" or port.isdigit()):
        raise WireError(f"{key}: '{address}' is no address; expected tcp://127.0.0.1:<port>")
    if not _is_loopback(host.strip("[]")):
        raise WireError(
            f"{key}: '{address}' is open to other machines, which needs keys that this version "
            "does not support; use tcp://127.0.0.1:<port> (and a tunnel)"
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _bind(socket: zmq.Socket, key: str, address: str) -> str:
    try:
        socket.bind(address.replace("//localhost:", "//127.0.0.1:"))
    except zmq.ZMQError as error:
        taken = error.errno == zmq.EADDRINUSE
        why = "already taken (is another run going?)" if taken else str(error)
        raise WireError(f"{key}: {address}: {why}") from None
    return str(socket.get_string(zmq.LAST_ENDPOINT)).rstrip("\0")


def _beside(address: str) -> str:
    """Return an address of the same kind for the images: any free port of the same host."""
    transport, _, rest = address.partition("://")
    return f"ipc://{rest}-images" if transport == "ipc" else f"tcp://{rest.rpartition(':')[0]}:*"


def _offer(socket: zmq.Socket, parts: list[bytes]) -> bool:
    """Send to all subscribers with room; return whether that was all of them."""
    socket.set(zmq.XPUB_NODROP, 1)  # a full subscriber now shows as EAGAIN
    try:
        socket.send_multipart(parts, zmq.NOBLOCK)
    except zmq.Again:
        socket.set(zmq.XPUB_NODROP, 0)
        socket.send_multipart(parts, zmq.NOBLOCK)
        return False
    return True
