"""The wire in trouble: a publisher that is killed, a peer that talks nonsense or stands still."""

import os
import signal
import subprocess
import sys
import time

import msgspec
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from livespt.wire import Publisher, Subscriber
from livespt.wire.schema import CommandReply, EventMessage

pytestmark = pytest.mark.alone

FREE = "tcp://127.0.0.1:*"

TALKER = """
import sys, time
from livespt.wire import Publisher
from livespt.wire.schema import EventMessage
with Publisher("tcp://127.0.0.1:*", "tcp://127.0.0.1:*") as pub:
    print(pub.publish_address, pub.command_address, flush=True)
    while True:
        pub.send(EventMessage(kind="note", t_s=0.0, frame=0, n_frames=0, message=""))
        time.sleep(0.01)
"""


@pytest.fixture
def talker():
    process = subprocess.Popen([sys.executable, "-c", TALKER], stdout=subprocess.PIPE, text=True)
    yield process, process.stdout.readline().split()
    process.kill()
    process.communicate()


def test_a_publisher_that_is_killed_ends_the_loop_of_who_asked_for_it(talker):
    process, addresses = talker
    with Subscriber(*addresses) as live:
        assert live.recv(10) is not None
        process.kill()
        started = time.monotonic()
        for _ in live.messages(silence_s=2.5):
            pass
        assert 2 < time.monotonic() - started < 20
        assert live.silent_s > 2.5


@pytest.mark.skipif(os.name == "nt", reason="stops a process")
def test_a_publisher_that_stands_still_is_noticed_and_met_again_without_loss(talker):
    process, addresses = talker
    with Subscriber(*addresses) as live:
        while not live._ledger.joined:
            assert live.recv(10) is not None
        os.kill(process.pid, signal.SIGSTOP)
        while live.recv(0.5) is not None:
            pass
        time.sleep(1.2)
        assert live.recv(0.1) is None
        assert live.silent_s > 1.5
        os.kill(process.pid, signal.SIGCONT)
        assert all(live.recv(10) is not None for _ in range(50))
        assert live.lost == 0


@pytest.fixture(scope="module")
def server():
    with Publisher(FREE, FREE) as pub:
        pub.send(EventMessage(kind="note", t_s=0.0, frame=0, n_frames=0, message="m"))
        with zmq.Context() as context, context.socket(zmq.REQ) as socket:
            socket.connect(pub.command_address)
            yield pub, socket


nested = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats()
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
almost = st.fixed_dictionaries(
    {"type": st.sampled_from(["stop", "snapshot", "set_power"])}, optional={"reason": nested}
)
bodies = st.binary(max_size=300) | (nested | almost).map(msgspec.msgpack.encode)


@settings(max_examples=300, deadline=None)
@given(parts=st.lists(bodies, min_size=1, max_size=3))
def test_whatever_is_sent_for_a_command_is_answered(server, parts):
    pub, socket = server
    socket.send_multipart(parts)
    assert socket.poll(10_000), "no answer"
    reply = msgspec.msgpack.decode(socket.recv_multipart()[-1], type=CommandReply)
    taken = pub.poll_commands()
    assert len(taken) <= 1
    if taken:
        assert reply.ok
    if not reply.ok:
        assert "\n" not in reply.message
