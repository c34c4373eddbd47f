"""A script's handlers: in order, off the stream's thread, and never in its way."""

from __future__ import annotations

import logging
import threading
import time

import pytest

from livespt.reactions import ReactionError, Reactions
from livespt.types import Event
from livespt.wire import Publisher, Subscriber, event_message
from livespt.wire.schema import StatusMessage

pytestmark = pytest.mark.alone

BLEACHED = Event("mark", 1.0, 50, 80, "bleached to 30 %", "bleached", 30.0, 9.0)
SHED = Event("shed", 2.0, 60, 3, "3 frames skipped")


def given(reactions, *events):
    for event in events:
        reactions.listener(event_message(event))
    assert reactions.wait(10)


def test_handlers_get_events_by_name_by_kind_and_all_in_order():
    reactions, heard = Reactions(), []

    @reactions.on("bleached", "defocused")
    def by_name(event):
        heard.append(("name", event))

    @reactions.on("shed", "mark")
    def by_kind(event):
        heard.append(("kind", event))

    reactions.on("*")(lambda event: heard.append(("all", event)))
    given(reactions, SHED, BLEACHED, Event("note", 3.0, -1, 0, "x"))
    assert [(how, event.kind) for how, event in heard] == [
        ("kind", "shed"), ("all", "shed"),
        ("name", "mark"), ("kind", "mark"), ("all", "mark"),
        ("all", "note"),
    ]  # fmt: skip
    assert heard[2][1] == BLEACHED


def test_a_slow_handler_holds_nobody_up_and_what_finds_no_room_is_counted_and_said():
    go, said, heard = threading.Event(), [], []
    reactions = Reactions(queue=10, report=said.append)

    @reactions.on("shed")
    def slow(event):
        go.wait(10)
        heard.append((event.frame, threading.current_thread().name))

    began_s = time.perf_counter()
    for i in range(50):
        reactions.listener(event_message(SHED._replace(frame=i)))
    assert time.perf_counter() - began_s < 1.0  # handlers alone would take 10 s
    assert not reactions.wait(0.01)
    go.set()
    assert reactions.wait(10)
    # the one in its handler, and ten that wait; which of the first eleven was taken first is timing
    assert [frame for frame, _ in heard][:10] == list(range(10))
    assert len(heard) + reactions.dropped == 50
    assert reactions.dropped in (39, 40)
    assert {thread for _, thread in heard} == {"reactions"}
    assert "'shed' found no room before slow: handlers are too slow" in said[0]
    assert threading.active_count() == len(threading.enumerate())


def test_a_handler_that_fails_is_reported_and_the_next_event_finds_it_in_its_place(caplog):
    reactions, heard = Reactions(), []

    @reactions.on("shed")
    def clumsy(event):
        heard.append(event)
        raise SystemExit("enough") if len(heard) > 1 else ValueError("no stage\nthere")

    with caplog.at_level(logging.WARNING, "livespt.reactions"):
        given(reactions, SHED, SHED, SHED)
    assert len(heard) == reactions.failed == 3
    assert caplog.messages[0] == "reactions: clumsy failed at 'shed': ValueError: no stage"
    assert caplog.messages[1].endswith("SystemExit: enough")


def test_a_report_that_fails_is_logged(caplog):
    def report(text):
        raise OSError("disk full")

    reactions = Reactions(report=report)
    reactions.on("shed")(lambda event: 1 / 0)
    given(reactions, SHED)
    assert "ZeroDivisionError" in caplog.text
    assert "disk full" in caplog.text


def test_a_handler_may_be_limited_to_one_event_in_a_while():
    reactions, often, seldom = Reactions(), [], []
    reactions.on("shed")(often.append)
    reactions.on("shed", every_s=0.3)(seldom.append)
    given(reactions, *[SHED._replace(frame=i) for i in range(5)])
    time.sleep(0.35)
    given(reactions, SHED._replace(frame=9))
    assert len(often) == 6
    assert [event.frame for event in seldom] == [0, 9]


def test_an_event_that_never_happens_is_refused_with_the_nearest():
    with pytest.raises(ReactionError, match="no event 'bleach'; did you mean 'bleached'"):
        Reactions().on("bleach")
    with pytest.raises(ReactionError, match="known: "):
        Reactions().on()


def test_leaving_waits_for_what_is_begun_and_a_handler_does_not_wait_for_itself():
    done = []
    with Reactions() as reactions:

        @reactions.on("shed")
        def late(event):
            time.sleep(0.05)
            done.append(reactions.wait())

        reactions.listener(event_message(SHED))
    assert done == [False]


def test_events_are_followed_from_another_process_to_the_runs_end():
    """Over real sockets; the handler's own command goes back over them."""
    status = dict.fromkeys(
        (f for f in StatusMessage.__struct_fields__ if f not in ("v", "run", "note", "state")), 0
    )
    with (
        Publisher("tcp://127.0.0.1:*", "tcp://127.0.0.1:*", run="r") as wire,
        Subscriber(wire.publish_address, wire.command_address, ["event", "status"]) as live,
    ):
        reactions, heard = Reactions(), []

        @reactions.on("bleached")
        def stop(event):
            heard.append(event)
            live.stop_run(event.message)

        follower = threading.Thread(target=reactions.follow, args=(live,))
        follower.start()
        wire.send(event_message(BLEACHED))
        deadline, commands = time.monotonic() + 20, []
        while not commands and time.monotonic() < deadline:
            commands = wire.poll_commands()
            time.sleep(0.01)
        while follower.is_alive() and time.monotonic() < deadline:
            wire.send(StatusMessage(**status, state="done"))
            follower.join(0.1)
        assert not follower.is_alive()
    assert [command.reason for command in commands] == ["bleached to 30 %"]
    assert heard == [BLEACHED]
