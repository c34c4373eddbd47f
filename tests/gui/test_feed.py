"""The feed brings a run's messages over, holds little, and outlives the publisher."""

from __future__ import annotations

import time

import pytest
from messages import Scene

from livespt.dashboard import feed as feed_module
from livespt.dashboard.feed import Feed
from livespt.wire import Publisher, WireError
from livespt.wire.schema import EstimateMessage, ImageMessage, StopCommand

pytestmark = pytest.mark.alone


def take_until(feed: Feed, is_enough, timeout_s: float = 10.0) -> list:
    got, end = [], time.monotonic() + timeout_s
    while not is_enough(got):
        assert time.monotonic() < end, f"only {len(got)} messages came: {[type(m) for m in got]}"
        got += feed.take()
        time.sleep(0.01)
    return got


def frames_of(messages: list) -> list[int]:
    return [m.frame for m in messages if isinstance(m, EstimateMessage)]


def test_messages_come_in_order_and_images_with_them(publisher, feed):
    scene = Scene(n_tracks=5)
    publisher.send(scene.hello())
    take_until(feed, lambda got: got)
    for _ in range(50):
        publisher.send(scene.estimate())
    publisher.send(scene.image())
    got = take_until(
        feed,
        lambda got: 50 in frames_of(got) and any(isinstance(m, ImageMessage) for m in got),
    )
    assert frames_of(got) == sorted(set(frames_of(got)))
    assert feed.lost == 0


def test_a_window_that_does_not_look_costs_bounded_memory_and_is_told(publisher, feed, monkeypatch):
    monkeypatch.setattr(feed_module, "INBOX_MESSAGES", 20)
    scene = Scene(n_tracks=2)
    publisher.send(scene.hello())
    take_until(feed, lambda got: got)
    for _ in range(200):
        publisher.send(scene.estimate())
        time.sleep(0.001)
    end = time.monotonic() + 10
    while feed.lost < 100 and time.monotonic() < end:
        time.sleep(0.02)
    time.sleep(0.2)
    got = frames_of(feed.take(10_000))
    assert len(got) <= 20
    assert got[-1] == 200  # the newest are kept
    assert feed.lost >= 150


def test_one_portion_is_bounded(publisher, feed):
    scene = Scene(n_tracks=2)
    publisher.send(scene.hello())
    take_until(feed, lambda got: got)
    for _ in range(60):
        publisher.send(scene.estimate())
    time.sleep(0.5)
    assert len(feed.take(10)) <= 11


def test_stop_reaches_the_run_and_its_answer_is_told(publisher, feed):
    feed.stop_run("enough")
    end = time.monotonic() + 10
    commands: list = []
    while not (commands and feed.reply == "the run is stopping"):
        assert time.monotonic() < end
        commands += publisher.poll_commands()
        time.sleep(0.02)
    assert commands == [StopCommand("enough")]


def test_without_a_publisher_there_is_silence_and_a_stop_says_so():
    with Feed("tcp://127.0.0.1:9", "tcp://127.0.0.1:9") as feed:
        assert feed.take() == []
        feed.stop_run()
        end = time.monotonic() + 10
        while not feed.reply.startswith("not stopped"):
            assert time.monotonic() < end
            time.sleep(0.05)
        assert feed.lost == 0


def test_a_second_publisher_at_the_same_address_is_met():
    with Publisher("tcp://127.0.0.1:*", "tcp://127.0.0.1:*", run="first") as publisher:
        addresses = publisher.publish_address, publisher.command_address
        feed = Feed(*addresses)
        feed.__enter__()
        publisher.send(Scene(run="first").hello())
        take_until(feed, lambda got: any(m.run == "first" for m in got))
    with Publisher(*addresses, run="second") as publisher:
        publisher.send(Scene(run="second").hello())
        take_until(feed, lambda got: any(m.run == "second" for m in got))
    feed.close()
    feed.close()  # twice is once


def test_a_malformed_address_is_refused_by_name():
    with pytest.raises(WireError, match="nowhere"):
        Feed("nowhere", "tcp://127.0.0.1:9")
