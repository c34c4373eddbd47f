"""Publisher and subscriber over real sockets: joining late, holes, commands, refusals."""

import threading
import time

import msgspec
import numpy as np
import pytest
import zmq

from livespt.wire import Publisher, Subscriber, WireError
from livespt.wire.ledger import Ledger, parts_of
from livespt.wire.schema import (
    MAX_COMMAND_BYTES,
    VERSION,
    CommandReply,
    EventMessage,
    HelloMessage,
    ImageMessage,
    SnapshotCommand,
    SnapshotMessage,
    StatusMessage,
    StopCommand,
    Table,
)

pytestmark = pytest.mark.alone

FREE = "tcp://127.0.0.1:*"


def hello():
    return HelloMessage(
        livespt="0",
        config_toml="",
        source="test",
        shape=(4, 4),
        interval_s=0.01,
        exposure_s=0.01,
        pixel_um=0.1,
        n_states=2,
    )


def event(i):
    return EventMessage(kind="note", t_s=float(i), frame=i, n_frames=0, message=f"event {i}")


def image(i, side=4):
    adu = np.zeros((side, side), np.uint16)
    return ImageMessage(frame=i, t_s=float(i), binning=1, adu=Table.of(adu))


def status(state="running"):
    numbers = dict.fromkeys(StatusMessage.__struct_fields__, 0)
    for name in ("v", "seq", "nth", "run", "note", "progress", "state"):
        del numbers[name]
    return StatusMessage(state=state, **numbers)


@pytest.fixture
def pub():
    with Publisher(FREE, FREE, run="r1") as publisher:
        yield publisher


def join(pub, **options):
    return Subscriber(pub.publish_address, pub.command_address, **options)


def until_quiet(live, quiet_s=0.4):
    got = []
    while (message := live.recv(quiet_s)) is not None:
        got.append(message)
    return got


def settle(pub, live):
    """Return when the subscription is known to work (a live message has come through)."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        pub.send(event(-1))
        if live.recv(0.05) is not None and live._ledger.joined:
            return until_quiet(live)
    raise AssertionError("never joined")


def raw_command(pub, *parts):
    context = zmq.Context()
    socket = context.socket(zmq.REQ)
    socket.set(zmq.LINGER, 0)
    socket.connect(pub.command_address)
    try:
        socket.send_multipart(parts)
        assert socket.poll(5000), "no reply"
        return msgspec.msgpack.decode(socket.recv(), type=CommandReply)
    finally:
        context.destroy(linger=0)


def test_addresses_tell_the_truth(pub):
    assert pub.publish_address.startswith("tcp://127.0.0.1:")
    assert not pub.publish_address.endswith("*")
    assert pub.command_address != pub.publish_address


def test_a_late_joiner_gets_the_hello_and_the_newest_of_each_kind(pub):
    pub.send(hello())
    for i in range(130):
        pub.send(event(i))
        pub.send(image(i))
    pub.send(status())
    with join(pub) as live:
        got = until_quiet(live)
    assert isinstance(got[0], HelloMessage)
    assert [m.frame for m in got if isinstance(m, EventMessage)] == list(range(30, 130))
    assert [m.frame for m in got if isinstance(m, ImageMessage)] == [129]
    assert sum(isinstance(m, StatusMessage) for m in got) == 1
    assert [m.seq for m in got] == sorted(m.seq for m in got)
    assert live.lost == 0


def test_joining_a_busy_stream_misses_and_doubles_nothing(pub):
    pub.send(hello())
    n = 1500

    def talk():
        for i in range(n):
            pub.send(event(i))
            time.sleep(0.0005)
        pub.send(status("done"))

    talker = threading.Thread(target=talk)
    talker.start()
    time.sleep(0.1)
    with join(pub) as live:
        frames = [m.frame for m in live if isinstance(m, EventMessage)]
        lost = live.lost
    talker.join()
    assert lost == 0
    assert frames == list(range(frames[0], n))


def test_the_loop_of_five_lines_ends_with_the_run(pub):
    pub.send(hello())
    pub.send(status("done"))
    with join(pub) as live:
        kinds = [type(message) for message in live]
    assert kinds == [HelloMessage, StatusMessage]


def test_a_subscriber_may_come_before_the_publisher():
    with Publisher(FREE, FREE) as first:
        addresses = first.publish_address, first.command_address
    with Subscriber(*addresses) as live:
        assert live.recv(0.2) is None
        with Publisher(*addresses) as second:
            second.send(hello())
            assert live.wait_for_hello(10).run == second.run


def test_the_next_run_at_the_same_address_is_met_with_its_own_hello():
    with Publisher(FREE, FREE, run="one") as first:
        first.send(hello())
        addresses = first.publish_address, first.command_address
        live = Subscriber(*addresses)
        settle(first, live)
        assert live.hello.run == "one"
    with live, Publisher(*addresses, run="two") as second:
        second.send(hello())
        end = time.monotonic() + 10
        while time.monotonic() < end and (live.hello is None or live.hello.run != "two"):
            live.recv(0.1)
        assert live.hello.run == "two"
        assert live.lost == 0


def test_topics_can_be_chosen_and_a_chosen_topic_has_no_false_holes(pub):
    with join(pub, topics=["event"]) as live:
        settle(pub, live)
        for i in range(50):
            pub.send(status())
            pub.send(event(i))
        got = until_quiet(live)
        assert [m.frame for m in got] == list(range(50))
        assert live.lost == 0


def test_an_unknown_topic_is_named():
    with pytest.raises(WireError, match="topics: unknown 'estimates'"):
        Subscriber(topics=["estimates"])


def test_holes_are_counted():
    ledger = Ledger()
    ledger.begin("r")
    assert ledger.accept(msgspec.structs.replace(event(0), nth=9))  # the past of a late joiner
    ledger.join(["event"])
    assert ledger.accept(msgspec.structs.replace(event(1), nth=13))
    assert ledger.lost["event"] == 3
    assert not ledger.accept(msgspec.structs.replace(event(1), nth=13))
    assert ledger.lost["event"] == 3


def test_a_subscriber_that_does_not_read_never_blocks_the_publisher_and_it_knows_its_losses(pub):
    with join(pub, topics=["event"]) as live:
        settle(pub, live)
        text = "x" * 20_000
        slowest = 0.0
        n = 5000  # 100 MB: beyond both queues and the kernel's buffers
        for i in range(n):
            started = time.perf_counter()
            pub.send(msgspec.structs.replace(event(i), message=text))
            slowest = max(slowest, time.perf_counter() - started)
        dropped = pub.dropped
        assert dropped > 0
        assert pub.dropped_by_topic["livespt.event"] == dropped
        assert slowest < 0.5  # it never waits for the reader; the margin is for a busy machine
        got = until_quiet(live)
        pub.send(event(n))  # shows the hole at the end, if there is one
        last = until_quiet(live)
        assert last[-1].frame == n
        assert live.lost >= dropped
        assert live.lost == n - len(got)


def test_images_that_nobody_takes_hold_no_memory_and_cost_no_estimate(pub):
    with join(pub) as live:
        settle(pub, live)
        pub.send(image(0, 1024))
        assert any(isinstance(m, ImageMessage) for m in until_quiet(live))
        for i in range(40):
            pub.send(image(i, 1024))
            pub.send(event(i))
        assert pub.dropped_by_topic["livespt.image"] > 0
        got = until_quiet(live)
        assert [m.frame for m in got if isinstance(m, EventMessage)] == list(range(40))
        assert live.lost == 0


def test_stop_reaches_the_pipeline_with_its_reason(pub):
    with join(pub) as live:
        assert live.stop_run("enough").ok
    assert pub.poll_commands() == [StopCommand("enough")]
    assert pub.poll_commands() == []


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "not a command"),
        (b"\xff\x00garbage", "not a command"),
        (msgspec.msgpack.encode({"type": "fire_laser", "power": 9000}), "fire_laser"),
        (msgspec.msgpack.encode({"type": "stop", "extra": 1}), "extra"),
        (b"\x81" * 5000, "not a command"),
        (b"x" * (MAX_COMMAND_BYTES + 1), "refused"),
    ],
)
def test_a_malformed_command_is_answered_and_does_nothing(pub, body, why):
    reply = raw_command(pub, body)
    assert not reply.ok
    assert why in reply.message
    assert pub.poll_commands() == []


def test_a_giant_command_leaves_the_server_standing(pub):
    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.connect(pub.command_address)
    socket.send_multipart([b"", b"x" * 10_000_000])
    socket.send_multipart([b"y"] * 1000)
    time.sleep(0.2)
    context.destroy(linger=0)
    assert raw_command(pub, msgspec.msgpack.encode(SnapshotCommand())).ok


def test_a_taken_port_is_named(pub):
    with pytest.raises(WireError, match=f"wire.command: {pub.command_address}: already taken"):
        Publisher(FREE, pub.command_address)
    with pytest.raises(WireError, match=f"wire.publish: {pub.publish_address}: already taken"):
        Publisher(pub.publish_address, FREE)


@pytest.mark.parametrize(
    "address", ["tcp://*:5570", "tcp://0.0.0.0:5570", "tcp://192.0.2.1:5570", "tcp://[::]:5570"]
)
def test_no_bind_beyond_loopback(address):
    with pytest.raises(WireError, match="open to other machines"):
        Publisher(address, FREE)
    with pytest.raises(WireError, match="open to other machines"):
        Publisher(FREE, address)


@pytest.mark.parametrize("address", ["", "5570", "tcp://127.0.0.1", "udp://127.0.0.1:1", "ipc://"])
def test_no_address_is_said_so(address):
    with pytest.raises(WireError, match="is no address"):
        Publisher(address, FREE)


def test_another_schema_version_is_refused_in_one_line():
    context = zmq.Context()
    other = context.socket(zmq.PUB)
    other.bind(FREE)
    address = other.get_string(zmq.LAST_ENDPOINT)
    body = msgspec.msgpack.encode({"type": "hello", "v": VERSION + 1, "new": 1})
    try:
        with Subscriber(address, "tcp://127.0.0.1:9") as live:
            for _ in range(100):  # until the subscription has taken hold
                other.send_multipart([b"livespt.hello", body])
                if live._sub.poll(50):
                    break
            with pytest.raises(WireError, match=f"schema version {VERSION + 1}.*{VERSION}"):
                live.recv(1)
    finally:
        context.destroy(linger=0)


def test_without_a_command_address_the_stream_still_comes(pub):
    with Subscriber(pub.publish_address, "tcp://127.0.0.1:9", topics=["event"]) as live:
        end = time.monotonic() + 10
        message = None
        while message is None and time.monotonic() < end:
            pub.send(event(3))
            message = live.recv(0.05)
        assert message.frame == 3
        assert live.lost == 0


def test_nobody_there_is_said_in_one_line():
    with Subscriber("tcp://127.0.0.1:9", "tcp://127.0.0.1:9") as live:
        with pytest.raises(WireError, match=r"no run answered within 0\.2 s"):
            live.wait_for_hello(0.2)
        with pytest.raises(WireError, match="no run answered"):
            live.stop_run(timeout_s=0.2)
        assert list(live.messages(silence_s=0.1)) == []


def test_snapshot_parts_come_in_the_order_sent():
    snapshot = SnapshotMessage(
        hello=msgspec.structs.replace(hello(), seq=1),
        status=msgspec.structs.replace(status(), seq=9),
        events=[msgspec.structs.replace(event(i), seq=s) for i, s in enumerate((4, 7))],
    )
    assert [part.seq for part in parts_of(snapshot)] == [1, 4, 7, 9]


def test_a_closed_publisher_frees_its_ports_and_takes_no_more():
    with Publisher(FREE, FREE) as first:
        addresses = first.publish_address, first.command_address
    first.send(event(0))
    first.close()
    with Publisher(*addresses) as again:
        assert again.publish_address == addresses[0]
