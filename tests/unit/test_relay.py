"""Refits that run behind the stream: no frame waits, and speed changes no answer."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from livespt.infer.arrays import Seen
from livespt.infer.motion import InferError
from livespt.infer.relay import Relay
from livespt.infer.states import StateFilter
from livespt.sections import InferConfig

INTERVAL_S, SD_UM, N = 0.004, 0.03, 20
SLOTS = {100 + i: i for i in range(N)}
NONE = np.empty(0, np.int64)


def a_filter():
    return StateFilter(2, INTERVAL_S, InferConfig(), 32)


def frames(n=60, seed=0):
    """Half the molecules slow, half fast."""
    rng = np.random.default_rng(seed)
    sd = np.sqrt(2 * np.array([0.2, 4.0])[np.arange(N) % 2] * INTERVAL_S)
    x = np.cumsum(rng.normal(0, 1, (n, N, 2)) * sd[:, None], axis=0)
    x += rng.normal(0, SD_UM, x.shape)
    for i in range(n):
        spot = np.column_stack([x[i], np.full((N, 2), SD_UM**2), np.zeros(N)])
        yield Seen(i, i * INTERVAL_S, 1e-6, np.arange(N), spot, np.ones(N))


def take(relay, seen):
    relay.step(np.array(list(SLOTS)), seen)
    relay.close(NONE, seen.frame)
    relay.refit(SLOTS.copy, seen.t_s)


def bits(filter_):
    at = filter_.learner
    return at.theta.tobytes(), at.information.tobytes(), filter_.bank.F[:N].tobytes()


def test_after_its_turn_all_is_as_if_the_frame_had_waited():
    relay, waiting, taken_over = Relay(a_filter()), a_filter(), 0
    for seen in frames(90):
        runner = relay._next
        for each in (relay, waiting):
            each.step(np.array(list(SLOTS)), seen)
            each.close(NONE, seen.frame)
        assert (bits(relay.live) == bits(waiting)) == (relay._next is None)
        taken_over += runner is not relay._next
        relay.refit(SLOTS.copy, seen.t_s)
        if relay._next is not runner and relay._next:
            assert waiting.learner.is_refit_due
            waiting.refit(SLOTS)
    assert taken_over >= 2


def test_a_slow_refit_changes_no_answer(monkeypatch):
    def run():
        relay, said = Relay(a_filter()), []
        for seen in frames(30):
            take(relay, seen)
            said.append(bits(relay.live))
        return said

    quick, refit = run(), StateFilter.refit
    monkeypatch.setattr(StateFilter, "refit", lambda *a: (time.sleep(0.05), refit(*a)))
    assert run() == quick


def test_frames_before_its_turn_do_not_wait(monkeypatch):
    may_go, refit = threading.Event(), StateFilter.refit
    monkeypatch.setattr(StateFilter, "refit", lambda *a: (may_go.wait(30), refit(*a)))
    relay, passed = Relay(a_filter()), 0
    for seen in frames():
        if relay._next and seen.t_s >= relay._next.turn_s:
            break
        take(relay, seen)
        assert not relay.live.learner.settled
        passed += relay._next is not None
    assert passed >= 3
    may_go.set()
    take(relay, seen)
    assert relay.live.learner.settled


def test_a_refit_is_given_up_where_all_is_forgotten():
    relay, seen_all = Relay(a_filter()), iter(frames())
    while relay._next is None:
        take(relay, next(seen_all))
    relay.forget()
    assert relay._next is None
    assert relay.live.learner.n_steps == 0
    for seen in seen_all:
        take(relay, seen)
    assert relay.live.learner.settled


def test_a_refit_that_fails_is_told_at_its_turn(monkeypatch):
    def fail(*_):
        raise InferError("no summit")

    monkeypatch.setattr(StateFilter, "refit", fail)
    relay = Relay(a_filter())
    with pytest.raises(InferError, match="no summit"):
        for seen in frames():
            take(relay, seen)
    assert relay.live.learner.n_steps > 0


def test_tracks_that_end_and_slots_that_grow_are_followed_behind():
    relay, last = Relay(a_filter()), -1
    for seen in frames(40):
        take(relay, seen)
        if relay._next and relay.live.bank.n_spots.size == 32:
            last = seen.frame
            relay.close(np.array([0, 1]), last)
            relay.grow()
    assert relay.live.learner.settled
    assert relay.live.bank.n_spots.size == 64
    assert relay.live.bank.n_spots[:3].tolist() == [39 - last, 39 - last, 40]
