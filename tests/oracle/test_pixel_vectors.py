"""Sixteen pixels side by side against the same arithmetic on arrays."""

from __future__ import annotations

import numpy as np

from livespt import vector_pixels as px
from livespt.jit import kernel

N = px.WIDTH


@kernel
def floats(a, b, bound, out):
    """Fill `out` with what each function that returns pixels makes of two sixteens."""
    v, w = px.load(a, np.uint64(1)), px.load(b, np.uint64(0))
    results = (
        v + w, v - w, v * w, 2.0 * v, px.least(v, w), px.most(v, w),
        px.keep_below(v, px.spread(bound), px.spread(-1.0)), px.one_before(w, v),
        px.one_after(v, w), px.two_before(w, v), px.count_up(),
    )  # fmt: skip
    for k in range(len(results)):
        px.store(out, np.uint64(k * N), results[k])


@kernel
def counts(words, shorts, out):
    """Fill `out` with the lower halves of sixteen words, the words, and sixteen counts."""
    px.fetch(shorts, np.uint64(1))
    px.store(out, np.uint64(0), px.load_low(words, np.uint64(1)))
    px.store(out, np.uint64(N), px.load_words(words, np.uint64(1)))
    px.store(out, np.uint64(2 * N), px.load_counts(shorts, np.uint64(1)))


@kernel
def bits(a, b):
    """Return bits, the first that is set, how many are, and a sum."""
    v, w = px.load(a, np.uint64(0)), px.load(b, np.uint64(0))
    some = px.above(v, w)
    return some, px.not_below(v, w), px.first_of(some), px.count_of(some), px.add_up(v)


def test_sixteen_floats_are_worked_at_one_by_one(rng):
    a, b = (rng.normal(size=N + 1).astype(np.float32) for _ in range(2))
    v, w, out = a[1:], b[:N], np.zeros(11 * N, np.float32)
    floats(a, b, np.float32(0.3), out)
    expected = [
        v + w, v - w, v * w, 2 * v, np.minimum(v, w), np.maximum(v, w), np.where(v < 0.3, v, -1),
        np.r_[w[-1], v[:-1]], np.r_[v[1:], w[0]], np.r_[w[-2:], v[:-2]], np.arange(16),
    ]  # fmt: skip
    np.testing.assert_allclose(out.reshape(11, N), expected, rtol=1e-6)


def test_counts_words_and_their_lower_halves_come_whole(rng):
    words = rng.integers(-(2**31), 2**31, N + 1, dtype=np.int32)
    shorts, out = rng.integers(0, 2**16, N + 1, dtype=np.uint16), np.zeros(3 * N, np.float32)
    counts(words, shorts, out)
    lower = 1 + words[1:] % 2**16 / 2**23
    expected = [lower, words[1:].astype(np.float32), shorts[1:]]
    np.testing.assert_array_equal(out.reshape(3, N), expected)


def test_bits_say_which_pixels_are_above(rng):
    a, b = (rng.integers(-2, 3, N).astype(np.float32) for _ in range(2))
    above, not_below, first, count, total = bits(a, b)
    which = [bool(above >> k & 1) for k in range(N)]
    assert which == list(a > b)
    assert [bool(not_below >> k & 1) for k in range(N)] == list(a >= b)
    assert (first, count) == (which.index(True), sum(which))
    assert total == a.sum()
