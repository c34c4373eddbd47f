"""The guard as a state machine: what it grants, what it refuses, and what makes it flee."""

from __future__ import annotations

import itertools
import math
import sys
from pathlib import Path

import pytest

from livespt.control import ControlError
from livespt.control.guard import Guard

sys.path.insert(0, str(Path(__file__).parents[1]))  # guard_bench.py

from guard_bench import LIMITS, Bench


@pytest.fixture
def bench():
    return Bench()


def test_nothing_is_written_before_arming(bench):
    bench.guard.ask(3.0, "too early")
    bench.run(2.0)
    assert bench.writes == []
    assert bench.guard.status.state == "idle"


def test_a_wish_is_granted_in_one_write_of_at_most_the_step(bench):
    bench.guard.arm()
    bench.guard.ask(9.0, "more light")
    bench.run(3.0)
    assert [w.value for w in bench.writes] == [2.0]  # from 1, at most twice as much
    assert bench.guard.status.power == 2.0


def test_raises_are_a_second_apart_and_lowering_waits_for_nothing(bench):
    bench.guard.arm()
    for _ in range(40):
        bench.guard.ask(9.0, "more")
        bench.run(0.1)
    times = [w.t_s for w in bench.writes]
    assert len(times) == 4
    assert min(b - a for a, b in itertools.pairwise(times)) >= 1.0
    bench.guard.ask(0.2, "less")
    bench.run(0.05)
    assert bench.device.value == pytest.approx(0.2)


def test_a_wish_beyond_the_limits_is_cut_to_them(bench):
    bench.guard.arm()
    bench.guard.ask(-5.0, "dark")
    bench.run(0.1)
    assert bench.device.value == LIMITS.min


def test_a_law_may_start_from_the_dark(bench):
    bench.device.value = 0.0
    bench.guard.arm()
    bench.guard.ask(5.0, "light")
    bench.run(1.2)
    assert bench.device.value == LIMITS.min  # a factor of nothing is nothing: the lowest is next


def test_light_above_the_maximum_is_lowered_when_armed(bench):
    bench.device.value = 15.0
    bench.guard.arm()
    assert bench.device.value == LIMITS.max


@pytest.mark.parametrize("power", [math.nan, math.inf, -math.inf])
def test_a_wish_that_is_no_number_is_a_fault(bench, power):
    bench.guard.arm()
    bench.guard.ask(power, "a bug")
    assert bench.device.value == LIMITS.safe
    assert bench.faults() == ["asked"]


def test_silence_is_a_fault(bench):
    bench.guard.arm()
    bench.run(0.25)
    assert bench.guard.status.state == "armed"
    bench.run(0.5, beats=False)
    assert bench.faults() == ["heartbeat"]
    assert bench.writes[-1].t_s - bench.last_beat_s <= LIMITS.heartbeat_s + 0.03


def test_old_data_is_a_fault_although_analysis_lives(bench):
    bench.guard.arm()
    stopped_s = bench.now_s
    bench.run(0.5, newest_s=stopped_s)
    assert bench.faults() == ["stale"]
    assert bench.writes[-1].t_s - stopped_s <= LIMITS.stale_s + 0.03


@pytest.mark.parametrize("newest_s", [math.nan, math.inf, 1e9])
def test_data_of_no_time_or_of_the_future_is_a_fault(bench, newest_s):
    bench.guard.arm()
    bench.guard.beat(newest_s)
    assert bench.faults() == ["stale"]


def test_a_reading_ten_percent_off_after_a_write_is_a_fault(bench):
    bench.guard.arm()
    bench.device.reads = 1.1
    bench.guard.ask(0.5, "less")
    bench.run(0.4)
    assert "read-back" in bench.faults()
    assert bench.device.value == LIMITS.safe


def test_a_device_may_take_its_time_to_settle(bench):
    bench.device.lag_s = 0.08
    bench.guard.arm()
    bench.guard.ask(0.5, "less")
    bench.run(1.0)
    assert bench.guard.status.state == "armed"
    bench.device.lag_s = 0.2
    bench.guard.ask(0.3, "less")
    bench.run(0.3)
    assert "read-back" in bench.faults()


def test_many_wishes_do_not_hide_that_none_is_read_back(bench):
    bench.guard.arm()
    bench.device.reads = 1.1
    for n in range(30):
        bench.guard.ask(0.9 - 0.01 * n, "less and less")
        bench.run(0.04)
    assert bench.faults() == ["read-back"]
    safe = next(w for w in bench.writes if w.value == LIMITS.safe)
    assert safe.t_s - bench.writes[0].t_s <= 0.4


def test_a_change_by_hand_ends_control_and_the_hand_is_not_fought(bench):
    bench.guard.arm()
    bench.run(0.2)
    bench.device.value = 4.0
    bench.run(0.2)
    assert bench.faults() == ["manual"]
    assert bench.device.value == LIMITS.safe
    bench.device.value = 3.0  # the hand insists
    bench.run(5.0)
    assert bench.device.value == 3.0
    assert len(bench.writes) == 1


def test_a_hand_that_takes_the_light_down_is_left_alone(bench):
    bench.guard.arm()
    bench.run(0.2)
    bench.device.value = 0.0
    bench.run(1.0)
    assert bench.faults() == ["manual"]
    assert bench.writes == []


def test_a_driver_that_fails_is_tried_until_the_light_is_safe(bench):
    bench.guard.arm()
    bench.device.broken = True
    bench.run(0.3)
    assert bench.faults() == ["driver"]
    assert bench.guard.busy
    with pytest.raises(ControlError, match="does not answer"):
        bench.guard.arm()
    bench.device.broken = False
    bench.run(0.1)
    assert bench.device.value == LIMITS.safe
    assert not bench.guard.busy


def test_a_fault_stays_until_armed_anew(bench):
    bench.guard.arm()
    bench.guard.ask(math.nan)
    bench.guard.ask(3.0, "go on")
    bench.run(3.0)
    assert bench.device.value == LIMITS.safe
    assert bench.guard.status.state == "fault"
    bench.guard.arm()
    assert bench.guard.status.faults == ()
    bench.guard.ask(3.0, "go on")
    bench.run(1.2)
    assert bench.device.value == LIMITS.min


def test_several_faults_are_all_told(bench):
    bench.guard.arm()
    bench.guard.ask(math.nan)
    bench.guard.beat(math.nan)
    bench.device.broken = True
    bench.run(0.1)
    assert bench.faults() == ["asked", "stale", "driver"]


def test_a_guard_that_was_held_up_does_not_go_on_as_if_nothing_was(bench):
    bench.guard.arm()
    bench.now_s += 3.0
    bench.guard.beat(bench.now_s)
    bench.guard.tick()
    assert bench.faults() == ["late"]


def test_disarming_goes_to_the_safe_value(bench):
    bench.guard.arm()
    bench.run(0.1)
    bench.guard.disarm()
    assert bench.device.value == LIMITS.safe
    assert bench.guard.status.state == "idle"
    assert bench.guard.status.faults == ()


def test_the_dose_is_never_exceeded_and_arming_anew_gives_no_more():
    bench = Bench(dose=10.0, safe=0.0)
    bench.guard.arm()
    bench.run(20.0)
    assert bench.faults() == ["dose"]
    assert 9.4 <= bench.device.dose <= 10.0  # power 1, less half a second's reserve
    assert bench.guard.status.dose_left < 0.6
    bench.device.value = 1.0
    with pytest.raises(ControlError, match="left; too little"):
        bench.guard.arm()


def test_the_duty_lowers_the_light_when_it_is_used_up():
    bench = Bench(duty=0.2, duty_s=10.0, max=2.0)
    bench.guard.arm()
    bench.guard.ask(2.0, "full")
    bench.run(60.0)
    assert bench.guard.status.state == "armed"
    assert bench.device.value == pytest.approx(0.4)
    bench.guard.ask(2.0, "full")
    bench.run(2.0)
    assert bench.device.value == pytest.approx(0.4)
    assert bench.device.dose <= 0.4 * (62.0 + 10.0)


def test_every_write_is_logged_before_it_is_made(bench):
    bench.guard.arm()
    for power in (2.0, 0.4, 0.3):
        bench.guard.ask(power, "a wish")
        bench.run(1.2)
    bench.guard.disarm()
    assert len(bench.writes) == 4
    assert all(w.logged == w.value for w in bench.writes)


def test_a_log_that_fails_forbids_a_wish_and_not_the_way_to_safety(bench):
    bench.guard.arm()
    bench.run(1.0)
    bench.disk_full = True
    bench.guard.ask(2.0, "more")
    bench.run(0.2)
    assert bench.faults() == ["log"]
    assert [w.value for w in bench.writes] == [LIMITS.safe]
    with pytest.raises(ControlError, match="not armed without it"):
        bench.guard.arm()


def test_a_device_that_reads_no_number_is_refused_and_a_fault_later(bench):
    bench.guard.arm()
    bench.device.reads = math.nan
    bench.run(0.2)
    assert bench.faults() == ["driver"]
    with pytest.raises(ControlError, match="reads nan"):
        Guard(bench.device, LIMITS, bench, bench.clock)
