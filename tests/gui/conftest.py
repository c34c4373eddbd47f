"""A real publisher, and a window that listens to it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # messages.py, the factory

from livespt.dashboard.feed import Feed
from livespt.wire import Publisher

ANY_PORT = "tcp://127.0.0.1:*"


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with Publisher(ANY_PORT, ANY_PORT, run="run-a") as made:
        yield made


@pytest.fixture
def feed(publisher: Publisher) -> Iterator[Feed]:
    with Feed(publisher.publish_address, publisher.command_address) as made:
        yield made


@pytest.fixture
def window(qtbot, feed: Feed) -> Iterator:
    from livespt.dashboard.window import DashboardWindow

    made = DashboardWindow(feed)
    qtbot.addWidget(made)
    made.show()
    yield made
    made.close()


@pytest.fixture
def show(qtbot, window, publisher: Publisher) -> Callable:
    """Publish messages and wait until the window has the last of them."""

    def _show(*messages) -> None:
        for message in messages:
            publisher.send(message)
        last = messages[-1]
        name = type(last).__struct_config__.tag
        qtbot.waitUntil(lambda: _is_there(window.state, name, last), timeout=10_000)
        window.draw()

    return _show


def _is_there(state, name: str, sent) -> bool:
    if name == "event":
        return any(event.message == sent.message for event in state.events)
    got = getattr(state, name)
    return got is not None and all(
        getattr(got, key) == getattr(sent, key)
        for key in sent.__struct_fields__
        if key not in ("seq", "nth", "run", "v")
    )
