"""Alarms as their reader sees them: what changed, since when, and how often it is told."""

from __future__ import annotations

import numpy as np
import pytest

from livespt.infer.marks import START, WINDOW, Block, Mark
from livespt.infer.series import LAGS, MOST_BLOCKS, Series, mean_variance
from livespt.infer.watch import NAMES, Pace, Watch, message
from livespt.sections import WatchConfig
from livespt.types import EVENT_KINDS, EVENT_NAMES, SPOT_DTYPE, FitStatus, Links, Spots

DT_S = 0.05
BLOCK = 5  # frames
ONE_AN_HOUR = WatchConfig(false_alarms_per_hour=1.0)
STILL = Pace(0, 0.0, 1.0, afresh=False)


def a_frame(index, n=20, seed=0, **factors):
    """Independent spots of 20 nm, 300 photons and 2 photons of background, 10 % apart."""
    rng = np.random.default_rng([seed, index])
    n = rng.poisson(n)
    table = np.zeros(n, SPOT_DTYPE)
    for name, value in {"photons": 300.0, "bg_photons": 2.0, "sigma_um": 0.12, "sd": 0.02}.items():
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
    watch, told = Watch(DT_S, WatchConfig(false_alarms_per_hour=rate)), []
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
        ({"sigma_um": 1.2}, "width", "width rose to 1"),
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
    assert event.name == name
    assert event.name in EVENT_NAMES
    assert event.after / event.before == pytest.approx(*expected(after))
    assert abs(event.frame - 400) <= 2 * BLOCK
    assert event.t_s == pytest.approx(event.frame * DT_S)
    assert event.frame + event.n_frames - 1 == frame


def expected(after):
    """The ratio that was drawn, to 20 %: medians and counts of a second scatter by less."""
    (ratio,) = after.values()
    return (ratio / 20 if "n" in after else ratio), 0.2


def test_what_is_no_news_is_not_told():
    """3 % less light in a stream long enough to prove it."""
    assert watch_all(3000, 1500, photons=0.97) == []


def test_a_slow_fall_is_told_in_steps():
    watch, told = Watch(DT_S, ONE_AN_HOUR), []
    for i in range(2000):
        now = a_frame(i, n=200 * np.exp(-i / 1000))
        told += [event.message for event in watch.step(now, STILL).values()]
    assert 1 <= len(told) <= 8
    assert all(text.startswith("density fell to ") for text in told)


def test_no_spots_at_all_are_a_change_of_density_alone():
    watch, told = Watch(DT_S, ONE_AN_HOUR), {}
    for i in range(600):
        told |= watch.step(a_frame(i, n=0 if i >= 400 else 20), STILL)
    assert list(told) == ["density"]
    assert "density fell to 0 %" in told["density"].message


def test_only_good_fits_are_watched_and_zero_an_hour_watches_nothing():
    watch = Watch(DT_S, ONE_AN_HOUR)
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


# --- marks -----------------------------------------------------------------------------------

MARKED = WatchConfig(
    bleached_to=0.4, focus_lost=0.2, dense_above=0.1, imprecise_above_um=0.03,
    false_alarms_per_hour=0.0,
)  # fmt: skip


def marks_of(now, n_frames=600, config=MARKED):
    """Return (frame, event) of each mark that `now(frame)`, factors and a p_link, passes."""
    watch, told = Watch(DT_S, config), []
    for i in range(n_frames):
        factors = dict(now(i))
        p_link = factors.pop("p_link", 1.0)
        spots = a_frame(i, **factors)
        n = len(spots.table)
        links = Links(i, np.arange(n), np.full(n, p_link), np.empty(0, np.int64))
        events = watch.step(spots, STILL, links)
        assert all(event.kind == "mark" for event in events.values())  # no alarms are wanted
        told += [(i, event) for event in events.values()]
    return told


@pytest.mark.parametrize(
    ("after", "name", "level", "words"),
    [
        ({"n": 14}, "bleached", 14.0, "bleached to "),
        ({"sigma_um": 1.3}, "defocused", 0.156, "out of focus: spots "),
        ({"p_link": 0.85}, "dense", 0.15, "too dense to link surely: 10 % of the links"),
        ({"sd": 2.0}, "imprecise", 0.04, "precision is poor: s.d. "),
    ],
)
def test_a_mark_is_told_once_when_a_mean_of_seconds_is_beyond_it(after, name, level, words):
    told = marks_of(lambda i: {"n": 40} | (after if i >= 300 else {}))
    ((frame, event),) = told
    assert 300 < frame <= 300 + (WINDOW + 1) * BLOCK
    assert event.name == name
    assert event.name in EVENT_NAMES
    assert event.message.startswith(words)
    assert event.after == pytest.approx(level, rel=0.35)  # a third of the mean may be of before
    assert event.n_frames == WINDOW * BLOCK
    assert event.frame + event.n_frames - 1 == frame


@pytest.mark.parametrize("n_bad", [1, 2 * BLOCK])
def test_some_bad_frames_pass_no_mark(n_bad):
    bad = {"n": 4, "sigma_um": 1.5, "p_link": 0.5, "sd": 2.0}
    assert marks_of(lambda i: {"n": 40} | (bad if 300 <= i < 300 + n_bad else {})) == []


def test_a_mark_is_told_again_only_after_the_level_came_half_of_the_way_back():
    def now(i, back):
        return {"n": 40 if i < 300 else back if 550 <= i < 800 else 10}

    told = {back: marks_of(lambda i, n=back: now(i, n), 1000) for back in (18, 36)}
    assert [len(told[back]) for back in (18, 36)] == [1, 2]


def test_a_fall_of_few_molecules_that_may_be_chance_passes_no_mark():
    """3 spots a frame and then 1, all of one second the same: no proof of anything."""
    mark = Mark(0.4, of_start=True, alpha=1e-6)
    blocks = [Block(15, 5, 2 * 3.375**0.5, 1.0)] * START + [Block(5, 5, 2 * 1.375**0.5, 1.0)] * 40
    assert all(mark.add(block, told=False) is None for block in blocks)
    assert mark.add(blocks[-1], told=True) is not None  # where the alarm has found proof


def test_marks_that_are_not_set_are_not_told():
    config = WatchConfig(dense_above=0.0)
    watch = Watch(DT_S, config)
    bad = {"n": 40, "sd": 4.0}
    events = [watch.step(a_frame(i, **bad), STILL) for i in range(400)]
    assert not any(events)


def test_the_width_of_guided_spots_says_nothing():
    def guided(i):
        spots = a_frame(i, n=40, sigma_um=2.0 if i >= 300 else 1.0)
        spots.table["guided"] = 1
        return spots

    watch = Watch(DT_S, WatchConfig(focus_lost=0.2))
    assert not any(watch.step(guided(i), STILL) for i in range(500))
