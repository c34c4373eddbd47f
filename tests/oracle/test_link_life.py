"""What gaps say of blinking and bleaching, against every path that could have made them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from livespt.link import life_kernels as life

RATES = np.array([0.9, 0.05, 0.4, 0.03])
ON, OFF, GONE = range(3)


def chain(rates):
    """Return the transition matrix of on, off, gone."""
    _, p_off, p_on, p_bleach = rates
    stay = 1 - p_bleach
    return np.array(
        [
            [stay * (1 - p_off), stay * p_off, p_bleach],
            [stay * p_on, stay * (1 - p_on), p_bleach],
            [0.0, 0.0, 1.0],
        ]
    )


def paths(rates, gap, found):
    """Yield each path of states after the last spot and its probability with what was seen."""
    T, p_detect = chain(rates), rates[0]
    seen = [False] * gap + [True] * found
    for states in itertools.product(range(3), repeat=len(seen)):
        p, before = 1.0, ON
        for state, yes in zip(states, seen, strict=True):
            lit = p_detect if state == ON else 0.0
            p *= T[before, state] * (lit if yes else 1 - lit)
            before = state
        yield (ON, *states), seen, p


def naive_counts(rates, gaps):
    """Sum over all paths how often each event came (yes) and did not (no)."""
    yes, no = np.zeros(4), np.zeros(4)
    for (row, gap), weight in np.ndenumerate(gaps):
        if weight == 0:
            continue
        every = list(paths(rates, gap, row == 0))
        total = sum(p for _, _, p in every)
        for states, seen, p in every:
            share = weight * p / total
            for a, b, found in zip(states[:-1], states[1:], seen, strict=True):
                if a == GONE:
                    continue
                (yes if b == GONE else no)[life.BLEACH] += share
                if b == GONE:
                    continue
                event, back = (life.OFF, b == ON) if a == ON else (life.ON, b == OFF)
                (no if back else yes)[event] += share
                if b == ON:
                    (yes if found else no)[life.DETECT] += share
    return yes, no


def test_one_round_counts_every_path():
    """Exact: the same sums in another order."""
    rng = np.random.default_rng(0)
    gaps = rng.uniform(1, 50, (2, 6))
    gaps[0, 0], gaps[1, 0] = 1000.0, 0.0  # within the bounds of what is believed
    rates, prior, events = RATES.copy(), np.array([0.8, 0.1, 0.3, 0.05]), np.full(4, 7.0)
    yes, no = naive_counts(RATES, gaps)
    life.relearn(gaps, prior, events, 1, rates)
    np.testing.assert_allclose(rates, (7 * prior + yes) / (7 + yes + no), rtol=1e-12)


def drawn_gaps(n, rng, longest=31, patience=6):
    """Draw the gaps of molecules that are followed until unseen in `patience` frames."""
    gaps, T = np.zeros((2, longest + 1)), chain(RATES)
    for _ in range(n):
        state, gap = ON, 0
        while gap < patience:
            state = rng.choice(3, p=T[state])
            if state == ON and rng.random() < RATES[0]:
                gaps[0, gap] += 1
                gap = 0
            else:
                gap += 1
        gaps[1, gap] += 1
    return gaps


@pytest.mark.parametrize("factor", [3.0, 1 / 3])
def test_a_wrong_start_is_forgotten(factor):
    """From 300 molecules seen 30 times each; 5 s.d. of counts, and what is left of the prior."""
    gaps = drawn_gaps(300, np.random.default_rng(1))
    start = np.clip([1 - 0.1 * factor, *(RATES[1:] * factor)], life.LEAST, life.MOST)
    rates = start.copy()
    life.relearn(gaps, start, np.array([200.0, 200.0, 10.0, 200.0]), 200, rates)
    assert np.abs(rates - RATES) == pytest.approx(np.zeros(4), abs=0.09)
    assert np.abs(rates[[0, 1, 3]] - RATES[[0, 1, 3]]).max() < 0.02


def test_what_was_given_stays():
    gaps = drawn_gaps(20, np.random.default_rng(2))
    rates, given = RATES.copy(), np.array([0.5, 0.3, 0.9, 0.2])
    rates[1] = given[1]
    life.relearn(gaps, given, np.array([1.0, np.inf, 1.0, 1.0]), 5, rates)
    assert rates[1] == 0.3
    assert rates[0] != RATES[0]


def test_without_gaps_the_assumed_rates_hold():
    rates = np.array([0.7, 0.2, 0.3, 0.1])
    life.relearn(np.zeros((2, 4)), RATES, np.full(4, 10.0), 3, rates)
    np.testing.assert_allclose(rates, RATES, rtol=1e-15)
