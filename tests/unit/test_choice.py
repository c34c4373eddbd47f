"""How many states: what the choice does with what the candidates foretell, and on real steps."""

from __future__ import annotations

import numpy as np
import pytest

from livespt.infer import InferError, OnlineFilter
from livespt.infer.choice import FRAMES, STEPS, SURE, Choice
from livespt.sections import InferConfig
from livespt.types import SPOT_DTYPE, Links, Spots

INTERVAL_S, SD_UM = 0.02, 0.02
NONE = np.empty(0, np.int64)


def run(choice, gains, n_frames, noise=1.0, seed=0):
    """Let k states foretell `gains[k]` nats a frame; return (frame, why) of each change."""
    rng, told = np.random.default_rng(seed), []
    for i in range(n_frames):
        common = rng.normal(0, 100)  # what no candidate can know
        loglik = {k: common + gains[k] + rng.normal(0, noise) for k in choice.wanted}
        why = choice.step(loglik, {k: STEPS * k for k in choice.wanted})
        told += [(i, why)] * bool(why)
    return told


@pytest.mark.parametrize(
    ("gains", "found"),
    [
        ({1: 0, 2: -0.1, 3: -0.2, 4: -0.3}, 1),
        ({1: -5, 2: 0, 3: -0.1, 4: -0.2}, 2),
        ({1: -9, 2: -5, 3: 0, 4: -0.1}, 3),
        ({1: -9, 2: -5, 3: -3, 4: 0}, 4),
    ],
)
def test_the_smallest_number_that_none_beats(gains, found):
    choice = Choice(2)
    told = run(choice, gains, 400)
    assert choice.n_states == found
    assert len(told) == abs(found - 2)  # one by one, and never back
    assert set(choice.wanted) == {found - 1, found, found + 1} & {1, 2, 3, 4}


def test_noise_alone_never_climbs():
    """Differences of no mean and s.d. 14 a frame: 10 nats are nothing, 3 s.e. are asked for."""
    climbs = 0
    for seed in range(20):
        choice = Choice(1)
        climbs += bool(run(choice, dict.fromkeys((1, 2, 3, 4), 0.0), 300, noise=10.0, seed=seed))
    assert climbs <= 2  # over 300 looks, 3 s.e. are passed in 2 % of such walks or so


def test_a_choice_waits_until_candidates_have_learned():
    choice = Choice(2)
    for _ in range(100):
        assert choice.step({1: 0, 2: 0, 3: 50.0}, {1: 9999, 2: 9999, 3: 3 * STEPS - 1}) in (
            "",
            "1 state in use: 2 foretell the steps no better",
        )
    assert choice.n_states == 1
    choice = Choice(2)
    for _ in range(FRAMES):
        choice.step({1: -99.0, 2: 0, 3: 2 * SURE}, dict.fromkeys((1, 2, 3), 3 * STEPS))
    assert choice.n_states == 3
    choice.forget()
    assert run(choice, {2: 0, 3: -9, 4: -9}, FRAMES - 1) == []


def walk(D, n_frames, seed=0, n_tracks=60):
    """Molecules that keep their state."""
    rng = np.random.default_rng(seed)
    sd = np.sqrt(2 * np.asarray(D)[np.arange(n_tracks) % len(D)] * INTERVAL_S)
    path = np.cumsum(rng.normal(0, 1, (n_frames, n_tracks, 2)) * sd[:, None], axis=0)
    return path + rng.normal(0, SD_UM, path.shape)


def a_frame(index, xy):
    table = np.zeros(len(xy), SPOT_DTYPE)
    table["x_um"], table["y_um"] = xy.T
    table["var_x_um2"] = table["var_y_um2"] = SD_UM**2
    spots = Spots(index, index * INTERVAL_S, 1e-6, 1.0, table)
    return spots, Links(index, np.arange(len(xy)), np.ones(len(xy)), NONE)


@pytest.mark.parametrize("D", [(0.3,), (0.05, 0.5), (0.02, 0.2, 2.0)])
def test_the_filter_finds_its_states_and_says_so(D):
    online, notes = OnlineFilter("auto", INTERVAL_S), []
    for i, xy in enumerate(walk(D, 120)):
        estimates = online.step(*a_frame(i, xy))
        k = len(estimates.model.D_um2_s)
        assert estimates.table["p_state"].shape == (60, k)
        assert (estimates.table["n_spots"] == i + 1).all()
        notes += [event.kind for event in estimates.events]
    assert online.n_states == len(D) == len(online.model().D_um2_s)
    assert notes == ["note"] * abs(len(D) - 2)
    np.testing.assert_allclose(online.model().D_um2_s, D, rtol=0.25)


def test_a_fixed_number_answers_as_it_does_alone():
    """Where two states stay in use, the answer of "auto" is that of `n_states = 2`, to the bit."""
    path = walk((0.05, 0.5), 60)
    both = [OnlineFilter(k, INTERVAL_S) for k in ("auto", 2)]
    for i, xy in enumerate(path):
        found, alone = (online.step(*a_frame(i, xy)) for online in both)
        assert found.table.tobytes() == alone.table.tobytes()
    np.testing.assert_array_equal(found.model.D_95, alone.model.D_95)


def test_auto_takes_no_first_guess():
    with pytest.raises(InferError, match=r"infer\.D_um2_s: 2 values for auto states"):
        OnlineFilter("auto", INTERVAL_S, config=InferConfig(n_states="auto", D_um2_s=[0.1, 1.0]))
