"""The table of slots against a dictionary."""

from __future__ import annotations

import numpy as np
import pytest

from livespt.infer.slotkernels import NONE, TWICE
from livespt.infer.slots import Slots


@pytest.mark.parametrize("stride", [1, 1 << 16, 1 << 33])
def test_names_keep_their_slots_until_they_end(stride):
    """Births and deaths in any order; names that look for the same places are told apart."""
    rng, slots, known, born = np.random.default_rng(1), Slots(16), {}, 0
    for _ in range(400):
        new = np.arange(born, born + rng.integers(0, 4)) * stride
        born += new.size
        seen = rng.permutation(np.concatenate([np.array([*known], np.int64), new]))
        found, n_new = slots.find(seen)
        assert n_new == new.size
        assert found.tolist() == [known.get(name, NONE) for name in seen.tolist()]
        while slots.n_free < n_new:
            slots.grow()
        slots.give(seen, found)
        known = dict(zip(seen.tolist(), found.tolist(), strict=True))
        assert len(set(known.values())) == len(known)
        ended = rng.permutation(seen)[: rng.integers(0, 4)]
        gone = slots.free(np.append(ended, 10**12 + 7))  # one that was never there
        assert gone.tolist() == [known.pop(name) for name in ended.tolist()]
        assert slots.items() == known
    assert slots.capacity >= 32


def test_a_name_that_comes_twice_is_told():
    slots = Slots(4)
    assert slots.find(np.array([5, 6, 5]))[1] == TWICE
    found, n_new = slots.find(np.array([5, 6]))
    assert n_new == 2  # what was refused left no trace
    slots.give(np.array([5, 6]), found)
    assert slots.find(np.array([6, 6]))[1] == TWICE
    assert slots.find(np.array([6, 5]))[0].tolist() == [found[1], found[0]]
