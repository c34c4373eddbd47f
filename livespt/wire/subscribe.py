"""The subscriber: a live run in five lines.

    from livespt.wire import Subscriber

    with Subscriber() as live:
        for message in live:
            print(message)

Joining a run that is already going loses nothing that matters: the subscriber asks for a snapshot
at once (the hello, the newest of each kind, the last events), and once more when the first live
message shows that its subscription has taken hold. Every message sent after that second snapshot
arrives over the subscription, so what was said between the two cannot slip through. A publisher
that comes later, or that is replaced by another run, is met in the same way.

Not thread-safe, but for `stop_run`, `lower_power` and `power_off`: any thread may call these.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from types import TracebackType

import msgspec
import zmq

from livespt.wire.ledger import Ledger, parts_of
from livespt.wire.schema import (
    VERSION,
    AnyCommand,
    AnyMessage,
    CommandReply,
    ControlMessage,
    EstimateMessage,
    EventMessage,
    FinalMessage,
    HelloMessage,
    ImageMessage,
    LowerCommand,
    OffCommand,
    SnapshotCommand,
    StatusMessage,
    StopCommand,
    WireError,
)

QUEUE_MESSAGES = 1000
QUEUE_IMAGES = 2
#: A stream silent for so long is asked whether it is still there.
SILENCE_S = 1.0
#: States of `StatusMessage` after which nothing more comes.
LAST_STATES = ("done", "failed")
_SLICE_MS = 100
_KINDS = {
    kind.topic.partition(".")[2]: kind
    for kind in (
        HelloMessage,
        EstimateMessage,
        StatusMessage,
        EventMessage,
        ImageMessage,
        FinalMessage,
        ControlMessage,
    )
}


class _Header(msgspec.Struct):
    v: int = -1


class Subscriber:
    """Listen to a run, from now on or from the middle; a context manager and an iterator.

    Parameters
    ----------
    publish, command : str
        The publisher's addresses. It need not be there yet.
    topics : iterable of str, optional
        Which of "hello", "estimate", "status", "event", "image", "final", "control" to receive;
        all if None.

    Attributes
    ----------
    hello : HelloMessage or None
        The run's beginning, as soon as it is known.

    Raises
    ------
    WireError
        An unknown topic or a malformed address.
    """

    def __init__(
        self,
        publish: str = "tcp://127.0.0.1:5570",
        command: str = "tcp://127.0.0.1:5571",
        topics: Iterable[str] | None = None,
    ) -> None:
        self.topics = frozenset(_KINDS if topics is None else topics)
        if unknown := sorted(self.topics - set(_KINDS)):
            raise WireError(f"topics: unknown '{unknown[0]}' (known: {', '.join(_KINDS)})")
        self.publish, self.command = publish, command
        self.hello: HelloMessage | None = None
        self._decoder = msgspec.msgpack.Decoder(AnyMessage)
        self._ledger = Ledger()
        self._inbox: deque[AnyMessage] = deque()
        self._held: AnyMessage | None = None  # the first live message, until its snapshot is here
        self._request = 0
        self._asked_s = -math.inf
        self._wanted = True  # a snapshot is due
        self._image_address = ""
        self._heard_s = self._held_s = time.monotonic()
        self._context = zmq.Context()
        try:
            self._open()
        except WireError:
            self._context.destroy(linger=0)
            raise

    def _open(self) -> None:
        self._sub = self._subscription(self.topics - {"image"}, QUEUE_MESSAGES)
        self._images = self._subscription(self.topics & {"image"}, QUEUE_IMAGES)
        _connect(self._sub, "publish", self.publish)
        self._dealer = self._requester(self._context, zmq.DEALER)
        self._poller = zmq.Poller()
        for socket in (self._sub, self._images, self._dealer):
            self._poller.register(socket, zmq.POLLIN)

    @property
    def lost(self) -> int:
        """Messages sent and never received, images not counted."""
        return self.lost_by_topic.total() - self.lost_by_topic["image"]

    @property
    def lost_by_topic(self) -> Counter[str]:
        """The same by kind ("estimate", ...), images too."""
        return self._ledger.lost

    @property
    def silent_s(self) -> float:
        """Seconds since the publisher was last heard (it answers at least every second)."""
        return time.monotonic() - self._heard_s

    def recv(self, timeout_s: float | None = None) -> AnyMessage | None:
        """Return the next message, or None after `timeout_s` (None waits for ever).

        Raises
        ------
        WireError
            What came is of another schema version, or no message at all.
        """
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._inbox:
            left_s = None if end is None else end - time.monotonic()
            if not self._pump(left_s) and left_s is not None and left_s <= 0:
                return None
        return self._inbox.popleft()

    def messages(self, silence_s: float | None = None) -> Iterator[AnyMessage]:
        """Yield messages until the run's last status, or until the publisher is silent.

        A publisher with nothing to say still answers every second, so that `silence_s` of 3 or
        more means that it is gone. Without the topic "status" only silence ends it.
        """
        while True:
            message = self.recv(SILENCE_S if silence_s is None else min(SILENCE_S, silence_s))
            if message is not None:
                yield message
            if isinstance(message, StatusMessage) and message.state in LAST_STATES:
                return
            if message is None and silence_s is not None and self.silent_s > silence_s:
                return

    def __iter__(self) -> Iterator[AnyMessage]:
        return self.messages()

    def wait_for_hello(self, timeout_s: float = 10.0) -> HelloMessage:
        """Return the run's hello; other messages stay for `recv`.

        Raises
        ------
        WireError
            No run answered in time.
        """
        end = time.monotonic() + timeout_s
        while self.hello is None:
            left_s = end - time.monotonic()
            if left_s <= 0:
                raise WireError(f"{self.command}: no run answered within {timeout_s:g} s")
            self._pump(left_s)
        return self.hello

    def stop_run(self, reason: str = "", timeout_s: float = 2.0) -> CommandReply:
        """Ask the run to end in good order; return whether that was taken.

        Raises
        ------
        WireError
            Nobody answered in time.
        """
        return self._command(StopCommand(reason), timeout_s)

    def lower_power(self, factor: float, timeout_s: float = 2.0) -> CommandReply:
        """Hold the excitation to `factor` (below 1) of what it is; it cannot be raised from here.

        Raises
        ------
        WireError
            Nobody answered in time.
        """
        return self._command(LowerCommand(factor), timeout_s)

    def power_off(self, reason: str = "", timeout_s: float = 2.0) -> CommandReply:
        """Take the excitation to its safe value for the rest of the run.

        Raises
        ------
        WireError
            Nobody answered in time.
        """
        return self._command(OffCommand(reason), timeout_s)

    def _command(self, command: AnyCommand, timeout_s: float) -> CommandReply:
        with zmq.Context() as context, self._requester(context, zmq.REQ) as socket:
            socket.send(msgspec.msgpack.encode(command), zmq.NOBLOCK)
            if not socket.poll(round(1000 * timeout_s)):
                raise WireError(f"{self.command}: no run answered within {timeout_s:g} s")
            return self._decode_reply(socket.recv())

    def close(self) -> None:
        """Leave; what was not received is forgotten."""
        self._context.destroy(linger=0)

    def __enter__(self) -> Subscriber:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _pump(self, timeout_s: float | None) -> bool:
        """Wait up to `timeout_s` (or a slice of time) and take what is there."""
        if self._wanted or self.silent_s > SILENCE_S:
            self._ask()
        left_ms = _SLICE_MS if timeout_s is None else math.ceil(1000 * max(timeout_s, 0))
        wait_ms = min(_SLICE_MS, left_ms)
        if self._held is not None:  # the subscription waits in its queue until the snapshot is here
            ready = self._dealer.poll(wait_ms)
            if ready:
                self._take_reply()
            elif time.monotonic() - self._held_s > SILENCE_S:
                self._release()  # the command address does not answer: go on without
            return bool(ready)
        polled = dict(self._poller.poll(wait_ms))
        if self._sub in polled:
            self._take(self._decode(self._sub.recv_multipart()[-1]))
        elif self._images in polled:
            self._take_image(self._decode(self._images.recv_multipart()[-1]))
        elif self._dealer in polled:  # last, so that what was sent before it comes before it
            self._take_reply()
        return bool(polled)

    def _ask(self) -> None:
        """Ask for a snapshot, at most once in `SILENCE_S`."""
        now = time.monotonic()
        if now - self._asked_s < SILENCE_S:
            return
        request = b"%d" % (self._request + 1)
        command = msgspec.msgpack.encode(SnapshotCommand())
        with contextlib.suppress(zmq.Again):  # nobody there yet: the next slice tries again
            self._dealer.send_multipart([request, b"", command], zmq.NOBLOCK)
            self._request += 1
            self._asked_s = now

    def _take(self, message: AnyMessage) -> None:
        self._heard_s = time.monotonic()
        if message.run != self._ledger.run:
            self._begin(message.run)
        if self._ledger.joined:
            self._deliver(message)
            return
        self._held, self._held_s = message, self._heard_s
        self._wanted, self._asked_s = True, -math.inf

    def _take_image(self, message: AnyMessage) -> None:
        if message.run == self._ledger.run:
            self._heard_s = time.monotonic()
            self._deliver(message)

    def _take_reply(self) -> None:
        request, *_, body = self._dealer.recv_multipart()
        snapshot = self._decode_reply(body).snapshot
        if snapshot is None or request != b"%d" % self._request:
            return
        self._wanted = False
        self._heard_s = time.monotonic()
        if snapshot.run != self._ledger.run:
            if self._held is not None:  # the last word of the run before
                self._deliver(self._held)
                self._held = None
            self._begin(snapshot.run)
            self._wanted = False
        self._see_images(snapshot.image_address)
        for part in parts_of(snapshot):
            self._deliver(part)  # type: ignore[arg-type]
        if self._held is not None:
            self._release()

    def _release(self) -> None:
        """Let the held message through; from now on a jump in the numbers is a loss."""
        held, self._held = self._held, None
        if self._request and not self._wanted:
            self._ledger.join(self.topics)
        if held is not None:
            self._deliver(held)
        self._ledger.joined = True
        self._wanted = False

    def _begin(self, run: str) -> None:
        self._ledger.begin(run)
        self.hello = None
        self._wanted = True

    def _deliver(self, message: AnyMessage) -> None:
        if isinstance(message, HelloMessage):
            self.hello = message
        if message.topic.partition(".")[2] in self.topics and self._ledger.accept(message):
            self._inbox.append(message)

    def _see_images(self, address: str) -> None:
        if "image" not in self.topics or address == self._image_address:
            return
        if self._image_address:
            self._images.disconnect(self._image_address)
        self._image_address = address
        if address:
            _connect(self._images, "images", address)

    def _subscription(self, topics: Iterable[str], queue: int) -> zmq.Socket:
        socket = self._context.socket(zmq.SUB)
        socket.set(zmq.RCVHWM, queue)
        for topic in topics:
            socket.set(zmq.SUBSCRIBE, _KINDS[topic].topic.encode())
        return socket

    def _requester(self, context: zmq.Context, kind: int) -> zmq.Socket:
        socket = context.socket(kind)
        socket.set(zmq.LINGER, 0)
        if kind == zmq.DEALER:
            socket.set(zmq.IMMEDIATE, 1)  # queue nothing for a publisher that is not there
        _connect(socket, "command", self.command)
        return socket

    def _decode(self, body: bytes) -> AnyMessage:
        try:
            message = self._decoder.decode(body)
        except (msgspec.MsgspecError, RecursionError) as error:
            self._check_version(body)
            raise WireError(f"{self.publish}: not a livespt message: {error}") from None
        if message.v != VERSION:
            self._check_version(body)
        return message

    def _decode_reply(self, body: bytes) -> CommandReply:
        try:
            reply = msgspec.msgpack.decode(body, type=CommandReply)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise WireError(f"{self.command}: not a livespt reply: {error}") from None
        if reply.snapshot is not None and reply.snapshot.v != VERSION:
            raise WireError(_version_clash(self.command, reply.snapshot.v))
        return reply

    def _check_version(self, body: bytes) -> None:
        with contextlib.suppress(msgspec.MsgspecError, RecursionError):
            version = msgspec.msgpack.decode(body, type=_Header).v
            if version not in (VERSION, -1):
                raise WireError(_version_clash(self.publish, version))


def _version_clash(address: str, version: int) -> str:
    return (
        f"{address}: speaks schema version {version}, this subscriber {VERSION}; "
        "install the same livespt on both sides"
    )


def _connect(socket: zmq.Socket, key: str, address: str) -> None:
    try:
        socket.connect(address)
    except zmq.ZMQError as error:
        raise WireError(f"{key}: cannot connect to '{address}': {error}") from None
