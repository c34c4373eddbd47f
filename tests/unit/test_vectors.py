"""Numbers side by side: compiled, each function does what its plain form does."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from livespt.jit import lanes
from livespt.vector_bits import doubled, in_octave, octave, signed
from livespt.vector_rows import (
    deal_counts,
    fetch_line,
    gather_rows,
    load_counts,
    look_up,
    write_rows,
)
from livespt.vectors import (
    add_up,
    any_below,
    exponent,
    least,
    load,
    mantissa,
    most,
    pick,
    power_of_two,
    root,
    size,
    spread,
    store,
    store_some,
    whole,
)

pytestmark = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="compares compiled with plain")
KINDS = [(np.float64, 8), (np.float32, 16)]


def arithmetic(w, table, n):
    """Put results of every function of two values into the rows of `w` after the second."""
    a, b = load(w, 0), load(w, n)
    results = (
        a + b * 2.0 - a / b,
        -a,
        least(a, b),
        most(a, b),
        size(b),
        root(a),
        pick(a, b, a, b * b),
        whole(a * 7.5),
        exponent(a),
        mantissa(a),
        octave(a),
        in_octave(a),
        power_of_two(whole(b)),
        doubled(a, whole(b)),
        signed(a, b),
        look_up(table, whole(least(a, spread(w[0]) * 0.0 + 9.0))),
    )
    at = 2 * n
    for v in results:
        store(w, at, v)
        at += n
    store_some(w, at, a, b)
    w[at + n] = add_up(a)
    w[at + n + 1] = 1.0 if any_below(b, 0.0) else 0.0
    w[at + n + 2] = 1.0 if any_below(a, 0.0) else 0.0


@pytest.mark.parametrize(("kind", "n"), KINDS)
def test_compiled_values_are_the_plain_ones(kind, n, rng):
    ours = np.zeros(20 * n, kind)
    ours[:n], ours[n : 2 * n] = rng.uniform(0.01, 20.0, n), rng.normal(0.0, 5.0, n)
    theirs, table = ours.copy(), rng.normal(size=10).astype(kind)
    numba.njit(arithmetic)(ours, table, n)
    arithmetic(theirs, table, n)
    np.testing.assert_allclose(ours, theirs, rtol=3e-7 if kind == np.float32 else 1e-15)


def turned(w, cells, out, which, counts, dealt):
    """Read and write sixteen places of eight; deal counts."""
    v = gather_rows(cells, load(w, 0))
    for k in range(out.shape[0]):
        fetch_line(out, k)
    write_rows(out, which, 0, 1, v)
    deal_counts(counts, which, 0, 2, dealt, (3, 20))
    store(w, 16, load_counts(dealt, 3))


@pytest.mark.parametrize("n", [16, 5])
def test_rows_are_turned_as_number_by_number(n, rng):
    w, cells = np.zeros(32, np.float32), rng.normal(size=800).astype(np.float32)
    w[:16] = rng.integers(0, 790, 16)
    which, counts = rng.permutation(n), rng.integers(0, 65536, (n, 20)).astype(np.uint16)
    both = [(w.copy(), np.zeros((n, 10)), np.zeros(400, np.uint16)) for _ in range(2)]
    for step, (work, out, dealt) in zip((numba.njit(turned), turned), both, strict=True):
        step(work, cells, out, which, counts, dealt)
    for ours, theirs in zip(*both, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert both[0][1].any()


def test_a_kernel_of_the_lanes_may_be_handed_values(rng):
    @lanes
    def twice(v):
        return v + v

    @numba.njit
    def run(w):
        store(w, 0, twice(load(w, 0)))

    w = rng.normal(size=16).astype(np.float32)
    expected = 2 * w
    run(w)
    np.testing.assert_array_equal(w, expected)
