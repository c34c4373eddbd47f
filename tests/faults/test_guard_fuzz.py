"""Whatever is said to the guard, in whatever order: what it writes keeps to the limits.

Inputs are wishes (good, absurd, NaN), beats, arming, disarming, faults of the device and of the
disk, and time that passes unevenly. A checker of its own holds each write against the limits.
"""

from __future__ import annotations

import itertools
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from livespt.control import ControlError
from livespt.control.limits import Limits
from livespt.control.messages import MAX_BYTES, Ask, Decoder, ToGuard, encode
from livespt.control.power import PowerCalibration

sys.path.insert(0, str(Path(__file__).parents[1]))  # guard_bench.py

from guard_bench import Bench, Write

TABLE = PowerCalibration((0.0, 1.0, 4.0, 10.0), (0.0, 0.2, 6.0, 9.0))
#: Limits to fuzz under: plain, with a steep calibration, with duty and dose.
CASES = [
    {},
    {"table": TABLE, "step_up": 1.3},
    {"writes_per_s": 0.3, "step_up": 5.0, "safe": 0.0},
    {"duty": 0.1, "duty_s": 5.0, "max": 3.0, "safe": 0.0},
    {"dose": 40.0, "safe": 0.0},
    {"dose": 40.0, "safe": 0.0, "table": TABLE},
]
ABSURD = (math.nan, math.inf, -math.inf, 1e308, -1e308, 5e-324, 0.0, -0.0, -1.0)


def fuzz(bench: Bench, rng: np.random.Generator, n: int, hands: bool) -> None:
    """Give `n` random inputs; `hands` also change the device from outside."""
    kinds = rng.choice(8, n, p=[0.25, 0.3, 0.33, 0.04, 0.01, 0.03, 0.02, 0.02])
    draws = rng.random((n, 2))
    for kind, (u, v) in zip(kinds.tolist(), draws.tolist(), strict=True):
        _one(bench, int(kind), u, v, hands)


def _one(bench: Bench, kind: int, u: float, v: float, hands: bool) -> None:
    guard, device = bench.guard, bench.device
    match kind:
        case 0:
            guard.ask(ABSURD[int(v * len(ABSURD))] if u < 0.02 else 12 * u - 1, "fuzz")
        case 1:
            guard.beat(bench.now_s - 0.1 * u if v < 0.98 else ABSURD[int(u * len(ABSURD))])
        case 2:
            bench.now_s += 0.3 * u * u  # a tick that is late, at the most by less than the reserve
            device.shine()
            guard.tick()
        case 3:
            try:
                guard.arm()
            except ControlError:
                return
        case 4:
            guard.disarm()
        case 5:
            device.broken = u < 0.1
            bench.disk_full = v < 0.1
        case 6:
            device.lag_s, device.slow_s = 0.12 * u, 0.01 * v
        case 7 if hands:
            device.reads = 1.0 if u < 0.9 else 1 + 0.4 * (v - 0.5)
            if u < 0.3:
                device.value = 12 * v


def check(writes: list[Write], limits: Limits) -> None:
    """Hold every write against the limits."""
    value = np.array([w.value for w in writes])
    was = np.array([w.was for w in writes])
    t_s = np.array([w.t_s for w in writes])
    safe = value == limits.safe
    assert (safe | ((value >= limits.min) & (value <= limits.max))).all()
    rises = (value > was + 1e-9) & ~safe
    assert (np.diff(t_s[rises]) >= max(1.0, 1 / limits.writes_per_s) - 1e-9).all()
    before = np.array([limits.power(v) for v in was[rises]])
    after = np.array([limits.power(v) for v in value[rises]])
    most = np.maximum(before * limits.step_up, limits.min_power)
    assert (after <= most * (1 + 1e-9)).all()


def run_case(case: dict, seed: int, n: int, hands: bool) -> Bench:
    bench = Bench(**case)
    fuzz(bench, np.random.default_rng(seed), n, hands)
    check(bench.writes, bench.limits)
    return bench


@pytest.mark.parametrize("case", range(len(CASES)))
@pytest.mark.parametrize("seed", [1, 2])
def test_no_write_leaves_the_limits_under_random_input(case, seed):
    """12 x 2,000 inputs. Devices that obey: what the hand does is not the guard's step."""
    bench = run_case(CASES[case], seed, 2000, hands=False)
    assert len(bench.writes) > 10


@pytest.mark.long
@pytest.mark.parametrize("case", range(len(CASES)))
@pytest.mark.parametrize("hands", [False, True])
def test_no_write_leaves_the_limits_in_a_million_inputs(case, hands):
    """12 x 85,000 inputs, in 85 lives of the guard each."""
    n_writes = 0
    for seed in range(85):
        bench = Bench(**CASES[case])
        fuzz(bench, np.random.default_rng([seed, case, hands]), 1000, hands)
        inside(bench.writes, bench.limits) if hands else check(bench.writes, bench.limits)
        n_writes += len(bench.writes)
    assert n_writes > 1000


def inside(writes: list[Write], limits: Limits) -> None:
    """Hold the values alone against the limits: steps are measured from what was believed."""
    assert all(w.value == limits.safe or limits.min <= w.value <= limits.max for w in writes)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("case", [4, 5])
def test_the_true_dose_never_exceeds_its_budget(case, seed):
    """The device adds up its own light, over every arming of the run."""
    bench = Bench(**CASES[case])
    rng = np.random.default_rng(seed)
    armed = 0.0
    for u in rng.random(3000).tolist():
        before = bench.device.dose
        counted = bench.guard.state == "armed" or bench.guard.busy
        if u < 0.02:
            bench.device.value = bench.limits.safe
            with_arming(bench)
        bench.guard.ask(10 * u, "as bright as can be")
        bench.now_s += 0.04 + 0.2 * u * u
        bench.device.shine()
        bench.guard.beat(bench.now_s)
        bench.guard.tick()
        if counted:
            armed += bench.device.dose - before
    assert bench.guard.spent.dose <= 40.0
    if bench.limits.table is None:  # the device adds up its setting, which then is the power
        assert 30.0 < armed <= 40.0 + 1e-6


def with_arming(bench: Bench) -> None:
    """Arm, or be refused."""
    try:
        bench.guard.arm()
    except ControlError as error:
        assert "dose" in str(error)  # noqa: PT017


def test_every_write_was_logged_under_random_input():
    bench = Bench()
    rng = np.random.default_rng(5)
    for _ in range(3000):
        _one(bench, int(rng.choice([0, 1, 2, 3])), *rng.random(2).tolist(), hands=False)
    assert len(bench.writes) > 30
    assert all(w.logged == w.value for w in bench.writes)


def test_random_bytes_never_make_a_message_and_never_more_than_an_error():
    """20,000 garbled conversations: a good message, then bytes changed, cut out or put in."""
    rng = np.random.default_rng(9)
    good = encode(Ask(1.5, "more light")) + encode(Ask(0.5, "less light"))
    refused = 0
    for n in range(20_000):
        data = bytearray(rng.bytes(int(rng.integers(1, 40))) if n % 2 else good)
        for at in rng.integers(0, len(data), int(rng.integers(1, 4))).tolist():
            data[at] = int(rng.integers(256))
        decoder = Decoder(ToGuard)
        try:
            for piece in (bytes(data[:7]), bytes(data[7:])):
                assert all(type(m).__name__ != "bytes" for m in decoder.feed(piece))
        except ControlError:
            refused += 1
    assert refused > 10_000


def test_messages_arrive_however_they_are_cut():
    sent = [Ask(math.inf, "x"), Ask(2.0, "why"), Ask(-1e300)]
    data = b"".join(map(encode, sent))
    for size in (1, 2, 3, 5, len(data)):
        decoder = Decoder(ToGuard)
        cut = [data[i : i + size] for i in range(0, len(data), size)]
        assert list(itertools.chain.from_iterable(map(decoder.feed, cut))) == sent


def test_a_message_that_is_too_long_is_refused_before_it_is_read():
    with pytest.raises(ControlError, match=f"at most {MAX_BYTES}"):
        Decoder(ToGuard).feed((MAX_BYTES + 1).to_bytes(4, "big"))
    with pytest.raises(ControlError, match="at most"):
        encode(Ask(1.0, "x" * MAX_BYTES))
