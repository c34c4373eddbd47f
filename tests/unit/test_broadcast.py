"""Estimates for eyes: as often as asked for, none of them old, every frame counted."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest

from livespt.pipeline import Counters
from livespt.sinks import BroadcastSink
from livespt.types import REVISION_DTYPE, SPOT_DTYPE, Estimates, Event, Frame, Links, Model, Spots
from livespt.types import track_dtype as tracks
from livespt.wire.schema import AnyMessage, EstimateMessage, EventMessage

TICK_S = 2.0**-10  # a power of two: sums of it are exact
ADU = np.zeros((4, 4), np.uint16)
ONE_STATE = Model(
    D_um2_s=np.ones(1),
    D_95=np.ones((1, 2)),
    occupancy=np.ones(1),
    occupancy_95=np.ones((1, 2)),
    p_switch=np.ones((1, 1)),
    p_switch_95=np.ones((1, 1, 2)),
    rate_per_s=np.zeros((1, 1)),
    error_scale=1.0,
    error_scale_95=np.ones(2),
    occupancy_lag=np.ones((1, 1)),
    lags=np.zeros(1, np.int64),
    interval_s=0.001,
    n_steps=0,
    n_tracks=0,
    status="warming",
)


def send(sink, index, n_revised=0):
    """Give the sink the answer after one frame."""
    links = Links(index, np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int64))
    links = links._replace(revised=np.zeros(n_revised, REVISION_DTYPE))
    spots = Spots(index, 0.001 * index, 0.001, 1.0, np.zeros(0, SPOT_DTYPE))
    frame = Frame(index, 0.001 * index, ADU, 0.001, arrived_s=time.perf_counter())
    estimates = Estimates(index, 0.001 * index, np.zeros(0, tracks(1)), ONE_STATE)
    sink.send(frame, spots, links, estimates)


def told(messages):
    return [(m.frame, m.n_frames) for m in messages if isinstance(m, EstimateMessage)]


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on by `TICK_S` each time that somebody looks."""
    ticks = itertools.count(1)
    monkeypatch.setattr("livespt.sinks.time.perf_counter", lambda: TICK_S * next(ticks))


def test_unless_asked_otherwise_every_estimate_is_told():
    messages: list[AnyMessage] = []
    sink = BroadcastSink([messages.append], pixel_um=0.1, image_every_s=0)
    for index in range(20):
        send(sink, index)
    sink.tick(Counters())
    assert told(messages) == [(index, 1) for index in range(20)]


@pytest.mark.usefixtures("clock")
def test_of_fast_estimates_the_newest_is_told_and_stands_for_all():
    messages: list[AnyMessage] = []
    sink = BroadcastSink(
        [messages.append], pixel_um=0.1, image_every_s=0, estimate_every_s=20 * TICK_S
    )
    for index in range(100):  # two looks at the clock for each: the frame's arrival, the sink's
        send(sink, index)
    estimates = told(messages)
    assert [frame for frame, _ in estimates] == [0, 10, 20, 30, 40, 50, 60, 70, 80, 90]
    assert [n for _, n in estimates] == [1] + 9 * [10]
    sink.tick(Counters())  # what is left comes with the next tick, and so at the end of a run
    assert told(messages)[10:] == [(99, 9)]
    sink.tick(Counters())
    assert sum(n for _, n in told(messages)) == 100


@pytest.mark.usefixtures("clock")
def test_events_and_revisions_do_not_wait():
    messages: list[AnyMessage] = []
    sink = BroadcastSink([messages.append], pixel_um=0.1, image_every_s=0, estimate_every_s=10.0)
    send(sink, 0)
    send(sink, 1)
    sink.event(Event("note", 0.001, 1, 0, "a line"))
    assert isinstance(messages[-1], EventMessage)
    send(sink, 2, n_revised=3)
    assert told(messages) == [(0, 1), (2, 2)]
    (message,) = (m for m in messages if isinstance(m, EstimateMessage) and m.frame == 2)
    assert message.revised is not None
    assert len(message.revised.array()) == 3
