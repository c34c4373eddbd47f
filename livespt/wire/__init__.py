"""Answers out, commands in: a versioned schema over ZeroMQ.

`Publisher` is the run's end, `Subscriber` everybody else's; `schema` says what travels and
`messages` turns the pipeline's types into it.
"""

from livespt.wire.messages import (
    estimate_message,
    event_from,
    event_message,
    model_from,
    model_message,
    signal_to_background,
)
from livespt.wire.publish import Publisher
from livespt.wire.schema import WireError
from livespt.wire.subscribe import Subscriber

__all__ = [
    "Publisher",
    "Subscriber",
    "WireError",
    "estimate_message",
    "event_from",
    "event_message",
    "model_from",
    "model_message",
    "signal_to_background",
]
