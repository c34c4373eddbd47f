"""Alarms as their reader sees them: what changed, since when, and how often it is told."""

from __future__ import annotations

import numpy as np
import pytest

from livespt.infer.series import LAGS, MOST_BLOCKS, Series, mean_variance
from livespt.infer.watch import NAMES, Pace, Watch, message
from livespt.types import EVENT_KINDS, SPOT_DTYPE, FitStatus, Spots

DT_S = 0.05
BLOCK = 5  # frames
STILL = Pace(0, 0.0, 1.0, afresh=False)


def a_frame(index, n=20, seed=0, **factors):
    """Independent spots of 20 nm, 300 photons and 2 photons of background, 10 % apart."""
    rng = np.random.default_rng([seed, index])
    n = rng.poisson(n)
    table = np.zeros(n, SPOT_DTYPE)
    for name, value in {"photons": 300.0, "bg_photons": 2.0, "sd": 0.02}.items():
        column = value * factors.get(name, 1.0) * np.exp(rng.normal(0, 0.1, n))
        for field in ("var_x_um2", "var_y_um2") if name == "sd" else (name,):
            table[field] = column**2 if name == "sd" else column
    return Spots(index, index * DT_S, DT_S, 1.0, table)


def a_pace(index, factor=1.0):
    """20 steps of unit information on ln D each, with noise."""
    noise = np.random.default_rng(index).normal(0, np.sqrt(20))
    return Pace(20, 20 * (factor - 1) + noise, 1.0, afresh=False)


def watch_all(n_frames, at, pace=a_pace, rate=1.0, **after):
    """Let a stream change at frame `at`; return (frame of the alarm, name, event)."""
    watch, told = Watch(DT_S, rate), []
    for i in range(n_frames):
        changed = after if i >= at else {}
        factor = changed.get("D", 1.0)
        rest = {k: v for k, v in changed.items() if k != "D"}
        events = watch.step(a_frame(i, **rest), pace(i, factor))
        told += [(i, name, event) for name, event in events.items()]
    return told


@pytest.mark.parametrize(
    ("after", "name", "words"),
    [
        ({"D": 2.0}, "D", "D rose to "),
        ({"D": 0.5}, "D", "D fell to "),
        ({"n": 40}, "density", "density rose to "),
        ({"sd": 1.5}, "precision", "precision became worse: s.d. 20"),
        ({"photons": 0.5}, "photons", "photons fell to 5"),
        ({"bg_photons": 1.5}, "background", "background rose to 15"),
    ],
)
def test_a_step_is_told_once_with_what_and_when(after, name, words):
    told = watch_all(800, 400, **after)
    assert [t[1] for t in told] == [name]
    frame, _, event = told[0]
    assert frame < 400 + 5 * BLOCK
    assert event.kind == "changed"
    assert event.kind in EVENT_KINDS
    assert event.message.startswith(words)
    assert abs(event.frame - 400) <= 2 * BLOCK
    assert event.t_s == pytest.approx(event.frame * DT_S)
    assert event.frame + event.n_frames - 1 == frame


def test_what_is_no_news_is_not_told():
    """3 % less light in a stream long enough to prove it."""
    assert watch_all(3000, 1500, photons=0.97) == []


def test_a_slow_fall_is_told_in_steps():
    watch, told = Watch(DT_S, 1.0), []
    for i in range(2000):
        now = a_frame(i, n=200 * np.exp(-i / 1000))
        told += [event.message for event in watch.step(now, STILL).values()]
    assert 1 <= len(told) <= 8
    assert all(text.startswith("density fell to ") for text in told)


def test_no_spots_at_all_are_a_change_of_density_alone():
    watch, told = Watch(DT_S, 1.0), {}
    for i in range(600):
        told |= watch.step(a_frame(i, n=0 if i >= 400 else 20), STILL)
    assert list(told) == ["density"]
    assert "density fell to 0 %" in told["density"].message


def test_only_good_fits_are_watched_and_zero_an_hour_watches_nothing():
    watch = Watch(DT_S, 1.0)
    for i in range(600):
        spots = a_frame(i)
        bad = a_frame(i, seed=1, photons=50.0 if i >= 300 else 1.0).table
        bad["status"] = FitStatus.DIM
        spots = spots._replace(table=np.concatenate([spots.table, bad]))
        assert watch.step(spots, STILL) == {}
    assert watch_all(800, 400, rate=0.0, photons=0.1, n=100) == []


def test_a_fit_begun_anew_is_not_compared_with_the_last():
    def pace(i, factor):
        return a_pace(i, factor)._replace(afresh=i == 400)

    assert watch_all(800, 400, pace=pace, D=3.0) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_message_is_one_line(name):
    series = Series(1e-3)
    for i in range(40):
        series.add(float(i % 2), 0.1, 0.0)
    change = None
    while change is None:
        change = series.add(9.0, 0.1, 0.0)
    assert "\n" not in message(name, change)
    assert change.before == pytest.approx(0.5, abs=0.2)
    assert change.after == pytest.approx(9.0, abs=2.0)


def test_memory_is_bounded_and_a_constant_is_no_change(monkeypatch):
    monkeypatch.setattr("livespt.infer.series.MOST_BLOCKS", 256)
    series = Series(1e-3)
    for _ in range(2000):
        assert series.add(1e6, 0.0, 1e-6) is None
    assert series.n_blocks <= 256 < MOST_BLOCKS
    assert len(series._sums) <= 512


@pytest.mark.parametrize("f", [0.0, 0.5, 0.9])
def test_variance_of_a_mean_is_that_of_its_correlations(f):
    """Between the lags a straight line in ln k stands for f^k: within 15 %."""
    n = np.array([1.0, 4.0, 16.0, 64.0])
    expected = [np.sum(f ** np.abs(np.subtract.outer(a, a))) / m**2
                for m in n for a in [np.arange(m)]]  # fmt: skip
    r = np.tile(f ** LAGS.astype(float), (4, 1))
    np.testing.assert_allclose(mean_variance(n, r), expected, rtol=0.15)
