"""What the law wishes for, window by window, and what the controller and the guard make of it.

The light is a formula here, sd = 10 nm P^-gain, so that each claim has an exact answer; controller
and guard are the real ones, on a clock of their own.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

from livespt.control.budget import Budget, dose_for
from livespt.control.controller import Controller, Plan
from livespt.control.law import Bounds, TargetLaw, Wish, open_law
from livespt.control.lit import Lit
from livespt.control.response import Response, gain_of_precision
from livespt.control.status import GuardStatus
from livespt.control.windows import Look, Windows
from livespt.types import SPOT_DTYPE, Estimates, Event, Frame, Links, Spots, track_dtype

sys.path.insert(0, str(Path(__file__).parents[1]))  # control_scene.py

from control_scene import BOUNDS, Door, Lamp

INTERVAL_S = 0.02
NOW = GuardStatus(0.0, 1.0, 1.0, "armed", (), 0, 0.0, math.inf)


def a_frame(index: int, sd_um: float, n: int = 20, status: int = 0, power: float = 1.0):
    """Return frame, spots, links and estimates of `n` molecules tracked for long."""
    table = np.zeros(n, SPOT_DTYPE)
    table["var_x_um2"] = table["var_y_um2"] = sd_um**2
    table["photons"], table["bg_photons"], table["sigma_um"] = 500.0 * power, 3.0 * power, 0.1
    table["status"] = status
    tracks = np.zeros(n if status == 0 else 0, track_dtype(1))
    tracks["track_id"] = tracks["spot"] = np.arange(len(tracks))
    tracks["n_spots"] = 10
    t_s = index * INTERVAL_S
    frame = Frame(index, t_s, np.zeros((2, 2), np.uint16), 0.01, power)
    spots = Spots(index, t_s, 0.01, power, table)
    none = np.zeros(0)
    links = Links(index, np.arange(n), np.ones(n), none.astype(np.int64))
    return frame, spots, links, Estimates(index, t_s, tracks, None)  # type: ignore[arg-type]


def windows_of(n_frames: int, *, power=lambda i: 1.0, events=(), **about) -> list[Look]:
    windows = Windows(0.1, INTERVAL_S)
    for event in events:
        windows.event(event)
    looks = []
    for i in range(n_frames):
        _, spots, _, estimates = a_frame(i, 0.01, **about)
        look = windows.see(spots, estimates, power(i))
        looks += [look] if look else []
    return looks


# --- windows ---------------------------------------------------------------------------------


def test_a_second_of_frames_is_a_window_with_its_medians():
    looks = windows_of(100)
    assert [look.t_s for look in looks] == pytest.approx([1.0, 2.0])
    assert looks[0].n_spots == 1000
    assert looks[0].sd_um == pytest.approx(0.01)
    assert looks[0].sbr == pytest.approx(500 / (4 * math.pi * 3.0))
    assert looks[0].trouble == ""


def test_no_window_mixes_two_powers():
    looks = windows_of(110, power=lambda i: 1.0 if i < 55 else 2.0)
    assert [look.power for look in looks] == [1.0, 2.0]
    assert looks[1].t_s == pytest.approx(2.1)  # a whole second after the step


def test_young_tracks_do_not_count():
    windows = Windows(0.1, INTERVAL_S)
    for i in range(150):
        _, spots, _, estimates = a_frame(i, 0.01)
        estimates.table["n_spots"] = 2
        look = windows.see(spots, estimates, 1.0)
    assert look is not None
    assert look.trouble == "sparse"


def test_few_spots_make_longer_windows_and_too_few_are_said_to_be_sparse():
    frames = [i % 5 == 0 for i in range(150)]  # one molecule in each fifth frame: 10 a second
    windows, looks = Windows(0.1, INTERVAL_S), []
    for i, there in enumerate(frames):
        _, spots, _, estimates = a_frame(i, 0.01, n=1 if there else 0)
        look = windows.see(spots, estimates, 1.0)
        looks += [look] if look else []
    assert [(look.n_spots, look.trouble) for look in looks] == [(30, "")]
    assert looks[0].span_s == pytest.approx(2.92, abs=0.1)
    assert [look.trouble for look in windows_of(150, n=0)] == ["sparse"]


def test_lost_frames_and_saturated_pixels_are_trouble():
    lost = Event("shed", 0.0, 0, 10, "")
    assert windows_of(50, events=[lost])[0].trouble == "gappy"
    assert windows_of(150, status=5)[0].trouble == "saturated"


# --- response --------------------------------------------------------------------------------


def test_the_gain_before_all_trying_is_that_of_the_bound():
    """Between a background that grows with the light, and one that does not (SCIENCE 1)."""

    def sd(power: float, constant: bool) -> float:
        t = 0.5 / 2.0 * (1 / power if constant else 1.0)  # SBR 2 at power 1
        return math.sqrt((1 + 4 * t + math.sqrt(2 * t / (1 + 4 * t))) / power)

    low, high = (
        -(math.log(sd(1.001, constant)) - math.log(sd(1.0, constant))) / math.log(1.001)
        for constant in (False, True)
    )
    mean, spread = gain_of_precision(2.0)
    assert low == pytest.approx(0.5, abs=1e-3)
    assert mean == pytest.approx((low + high) / 2, abs=2e-3)
    assert mean - spread < low < high < mean + spread


@pytest.mark.parametrize("gain", [0.0, 0.5, 1.0])
def test_the_gain_is_learned_from_large_steps(gain):
    response = Response((0.5, 0.3))
    for i in range(6):
        power = 2.0 ** (i % 3)
        response.see(float(i), power, gain * math.log(power), 0.01)
    assert response.gain == pytest.approx(gain, abs=3 * response.sd_gain)
    assert response.gain == pytest.approx(gain, abs=0.1)


def test_fading_is_taken_for_drift_and_not_for_a_lack_of_gain():
    response = Response((0.5, 0.1))
    power, fade = 1.0, 0.0
    for i in range(60):
        quality = 0.5 * math.log(power) - fade
        response.see(float(i), power, quality, 0.01)
        fade += 0.02
        power *= 1.1 if i % 3 == 2 else 1.0
    assert response.drift_per_s == pytest.approx(-0.02, abs=0.01)
    assert response.gain == pytest.approx(0.5, abs=0.15)


# --- law -------------------------------------------------------------------------------------


def looks_like(power: float, sd_um: float, t_s: float, **about) -> Look:
    return Look(t_s, 1.0, power, 50, 500, sd_um, 10.0, 500.0, 3.0, 0.01, **about)


def follow(law: TargetLaw, sd_of, power: float, n: int) -> list[float]:
    """Let every wish come true; return the powers."""
    powers = [power]
    for i in range(n):
        wish = law.decide(looks_like(power, sd_of(power), float(i + 1)), NOW)
        power = power if wish.power is None else wish.power
        powers.append(power)
    return powers


@pytest.mark.parametrize("gain", [0.5, 0.75, 1.0])
@pytest.mark.parametrize("start", [1 / 9, 1 / 3, 3.0, 9.0])
def test_the_target_is_met_in_a_few_steps_at_any_gain(gain, start):
    def sd_um(power: float) -> float:
        return 0.01 * power**-gain

    powers = follow(TargetLaw(0.01, BOUNDS), sd_um, start, 8)
    found = np.array([sd_um(power) / 0.01 for power in powers])
    assert abs(found[5:] - 1).max() < 0.1
    beyond = 1 / found if start < 1 else found
    assert beyond.max() <= 1.2


def test_steps_up_are_bounded_and_steps_down_are_larger():
    up = TargetLaw(0.001, BOUNDS).decide(looks_like(1.0, 0.01, 1.0), NOW)
    down = TargetLaw(0.1, BOUNDS).decide(looks_like(1.0, 0.01, 1.0), NOW)
    assert up.power == pytest.approx(2.0)
    assert down.power == pytest.approx(1 / 3)


def test_within_the_deadband_nothing_is_done_and_once_begun_it_is_gone_through_with():
    law = TargetLaw(0.01, BOUNDS, deadband=0.05)
    assert law.decide(looks_like(1.0, 0.0104, 1.0), NOW).power is None
    assert law.decide(looks_like(1.0, 0.0108, 2.0), NOW).power is not None
    assert law.decide(looks_like(1.1, 0.0104, 3.0), NOW).power is not None
    assert law.decide(looks_like(1.2, 0.0101, 4.0), NOW).power is None


@pytest.mark.parametrize("trouble", ["sparse", "gappy", "saturated", "stale"])
def test_on_bad_data_it_never_raises_holds_a_little_and_then_falls_towards_safe(trouble):
    law, wishes = TargetLaw(0.001, BOUNDS._replace(safe=0.05)), []
    for i in range(40):
        power = next((w for w in reversed(wishes) if w is not None), 1.0)
        look = looks_like(power, 0.01, float(i), trouble=trouble)
        wishes.append(law.decide(look, NOW._replace(power=power)).power)
    assert wishes[:3] == [None] * 3
    fallen = [w for w in wishes[3:] if w is not None]
    assert np.all(np.diff([1.0, *fallen]) < 0)
    assert fallen[-1] == pytest.approx(0.05)


def test_where_more_light_gives_nothing_it_stops_and_says_so():
    law, power, said = TargetLaw(0.001, BOUNDS), 1.0, []
    for i in range(25):
        wish = law.decide(looks_like(power, 0.01, float(i)), NOW)
        said.append(wish.why)
        power = power if wish.power is None else wish.power
    assert power <= 4.0
    assert any("background-limited" in why for why in said)
    late = law.decide(looks_like(power, 0.01, 60.0), NOW)
    assert late.power is not None  # tried once more, after a while
    assert late.power <= 1.5 * power


def test_an_sbr_that_follows_the_light_is_brought_to_its_target():
    law, power = TargetLaw(4.0, BOUNDS, goal="sbr"), 1.0
    for i in range(8):
        look = looks_like(power, 0.01, float(i))._replace(sbr=2.0 * power)
        wish = law.decide(look, NOW)
        power = power if wish.power is None else wish.power
    assert power == pytest.approx(2.0, rel=0.05)


# --- budget ----------------------------------------------------------------------------------


def test_a_budget_is_spread_over_the_run_and_never_overspent():
    budget, dose, powers = Budget(10.0, 20.0), 0.0, []
    for i in range(400):
        power = min(5.0, budget.cap(budget.left(dose), 0.1 * i))
        dose += 0.1 * power
        powers.append(power)
    assert dose <= 10.0
    assert powers[100] == pytest.approx(0.5)
    assert 0 < powers[-1] < 0.01


def test_what_was_saved_may_be_spent_later():
    budget = Budget(10.0, 20.0)
    assert budget.cap(budget.left(1.0), 10.0) == pytest.approx(0.9)
    assert budget.cap(budget.left(0.0, guards_left=2.0), 10.0) == pytest.approx(0.2)
    assert Budget().cap(math.inf, 5.0) == math.inf


def test_the_dose_that_bleaches_a_share():
    assert dose_for(0.5, 0.1) == pytest.approx(math.log(2) / 0.1)


# --- controller, over the real guard ---------------------------------------------------------


class Bench:
    """Frames of a formula through controller and guard; a second is fifty frames."""

    def __init__(self, law, *, power=1.0, dose=None, planned_s=math.inf, mode="auto") -> None:
        self.lamp, self.now = Lamp(power), [0.0]
        self.door = Door(self.lamp, dose, self.now)
        self.told: list[Event] = []
        self.index = 0
        self.controller = Controller(
            self.door,
            law,
            Windows(0.1, INTERVAL_S),
            Plan(mode, "precision", getattr(law, "target", 0.0), "x", 1.0),
            budget=Budget(math.inf if dose is None else dose, planned_s),
            tell=self.told.append,
            clock=lambda: self.now[0],
            beat_s=0.0,
        )

    def run(self, seconds: float) -> Bench:
        for _ in range(round(seconds / INTERVAL_S)):
            self.now[0] = self.index * INTERVAL_S
            self.door.guard.tick()
            power = self.lamp.power
            sd_um = 0.01 * max(power, 1e-3) ** -0.5
            self.controller.send(*a_frame(self.index, sd_um, power=power))
            self.index += 1
        return self


class Wants:
    """A law of one's own."""

    def __init__(self, power: float) -> None:
        self.power = power

    def decide(self, look, status) -> Wish:
        return Wish(self.power, "because")


def test_the_target_is_reached_with_one_write_a_second_at_most():
    bench = Bench(TargetLaw(0.01, BOUNDS), power=0.2).run(10)
    found = bench.controller.as_json()
    assert bench.lamp.power == pytest.approx(1.0, rel=0.1)
    assert found["reached_s"] <= 5.0
    assert found["writes"] <= 5
    asked = [event.t_s for event in bench.told if "asked for" in event.message]
    assert np.diff(asked).min() >= 1.0


def test_advice_writes_nothing():
    bench = Bench(TargetLaw(0.01, BOUNDS), power=0.2, mode="advise").run(5)
    assert bench.controller.as_json()["writes"] == 0
    assert bench.lamp.power == 0.2
    assert any("would ask for" in event.message for event in bench.told)


def test_a_law_that_asks_for_a_billion_is_held_to_the_limits():
    bench = Bench(Wants(1e9)).run(12)
    assert bench.lamp.power == 20.0
    assert bench.controller.as_json()["faults"] == []


def test_a_law_that_asks_for_nothing_that_is_a_number_is_a_fault_and_the_light_is_safe():
    bench = Bench(Wants(math.nan)).run(3)
    found = bench.controller.as_json()
    assert bench.lamp.power == BOUNDS.safe
    assert found["faults"][0].startswith("asked")
    assert bench.controller.standing.state == "fault"


def test_a_law_that_fails_ends_the_control_and_not_the_run():
    class Fails:
        def decide(self, look, status):
            raise ZeroDivisionError("by nothing")

    bench = Bench(Fails()).run(3)
    assert bench.lamp.power == BOUNDS.safe
    assert "ZeroDivisionError: by nothing" in bench.controller.as_json()["faults"][0]


def test_the_budget_holds_any_law_down():
    bench = Bench(Wants(20.0), dose=10.0, planned_s=10.0).run(14)
    assert bench.controller.as_json()["dose"] <= 10.0
    assert bench.controller.as_json()["dose"] > 8.0


def test_from_outside_the_light_can_only_be_lowered():
    bench = Bench(Wants(20.0), power=1.0).run(0.5)
    bench.controller.lower(0.5)
    bench.run(8)
    assert bench.lamp.power == pytest.approx(0.5)
    bench.controller.off()
    bench.run(3)
    assert bench.lamp.power == BOUNDS.safe
    assert not bench.controller.armed


def test_at_the_end_the_light_is_safe_and_further_ends_do_nothing():
    bench = Bench(TargetLaw(0.01, BOUNDS)).run(2)
    bench.controller.end()
    assert bench.lamp.power == BOUNDS.safe
    bench.controller.end()
    assert [e.message for e in bench.told if "disarmed" in e.message] == [
        "disarmed, safe power: the stream has ended"
    ]


def test_a_law_is_found_by_its_name_or_said_not_to_be_there():
    from livespt.control import ControlError

    with pytest.raises(ControlError, match=r"control\.law: no law 'mine'"):
        open_law("mine", {}, Bounds(0.1, 1.0, 0.0))


# --- what light stood when -------------------------------------------------------------------


def test_a_frame_gets_the_mean_of_the_light_that_stood_while_it_was_exposed():
    lit = Lit(1.0)
    lit.note(NOW._replace(t_s=10.0, power=3.0))
    lit.note(NOW._replace(t_s=20.0, power=2.0))
    assert lit.mean(5.0, 9.0) == 1.0
    assert lit.mean(9.0, 11.0) == pytest.approx(2.0)
    assert lit.mean(12.0, 13.0) == 3.0
    assert lit.mean(21.0, 22.0) == 2.0
    assert lit.mean(5.0, 25.0) == pytest.approx((5 * 1 + 10 * 3 + 5 * 2) / 20)
