"""The simulator's fast readout draws exactly what `livespt.camera` scores."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from livespt.camera import Emccd, Ideal, Scmos
from livespt_sim.readout import Readout

BACKGROUND, LIGHT = 1.3, 2.2
CAMERAS = [
    Ideal(),
    Scmos(2.2, 100.0, 1.2),
    Scmos(0.46, 100.0, 2.5),
    Emccd(50.0, 2.0, 10.0, 200.0),
    Emccd(30.0, 1.6, 5.0, 100.0),
]


@pytest.mark.parametrize("tabulate", [True, False])
@pytest.mark.parametrize("camera", CAMERAS, ids=lambda c: f"{type(c).__name__}")
def test_counts_follow_the_cameras_own_likelihood(camera, tabulate):
    """Pixels without photons (drawn from the table) and with (read out) together, by chi-square."""
    shape = (250, 200)
    rng = np.random.default_rng(31)
    photons = rng.poisson(LIGHT, shape).astype(np.int32)
    lit = np.flatnonzero(photons)
    readout = Readout(camera, shape, tabulate=tabulate)
    adu = readout(photons, lit, BACKGROUND, np.array([17], np.uint64))
    counts = np.arange(int(adu.max()) + 200)
    rate = np.full(len(counts), BACKGROUND + LIGHT)
    q = np.exp(camera.loglik(counts, rate))
    assert q.sum() == pytest.approx(1, abs=1e-5)
    expected, seen = pooled(q * adu.size, np.bincount(adu.ravel(), minlength=len(counts)))
    assert len(expected) > 8
    assert stats.chisquare(seen, expected * seen.sum() / expected.sum()).pvalue > 0.002


def test_each_pixel_of_a_map_has_its_own_gain_offset_and_noise():
    rng = np.random.default_rng(2)
    shape, n = (12, 15), 3000
    camera = Scmos(
        rng.uniform(1, 3, shape), rng.uniform(90, 110, shape), rng.uniform(0.5, 9, shape)
    )
    readout = Readout(camera, shape, tabulate=True)
    state, dark = np.array([5], np.uint64), np.zeros(shape, np.int32)
    none = np.zeros(0, np.int64)
    stack = np.stack([readout(dark, none, 3.0, state) for _ in range(n)]).astype(float)
    variance = camera.gain_adu_per_e**2 * (3.0 + camera.var_e2) + 1 / 12
    z = (stack.mean(axis=0) - camera.offset_adu - 3.0 * camera.gain_adu_per_e) / np.sqrt(
        variance / n
    )
    assert np.sum(z**2) == pytest.approx(z.size, abs=4 * np.sqrt(2 * z.size))
    assert stack.var(axis=0) == pytest.approx(variance, rel=5 * np.sqrt(2.5 / n))


def test_a_new_background_is_followed_at_once():
    for camera in (Ideal(), Scmos(2.0, 100.0, 1.0), Emccd(50.0, 2.0, 10.0, 200.0)):
        shape = (100, 100)
        readout = Readout(camera, shape, tabulate=True)
        state, dark = np.array([5], np.uint64), np.zeros(shape, np.int32)
        none = np.zeros(0, np.int64)
        gain = getattr(camera, "gain_adu_per_e", 1.0)
        offset = getattr(camera, "offset_adu", 0.0)
        for rate in (2.0, 5.0, 2.0):
            mean = (readout(dark, none, rate, state).mean() - offset) / gain
            assert mean == pytest.approx(rate, abs=4 * np.sqrt(2 * (rate + 1) / dark.size))


def pooled(expected, seen, least=25.0):
    """Pool neighbouring cells until each expects `least`."""
    cell, filled = np.zeros(len(expected), int), 0.0
    for i in range(1, len(expected)):
        filled += expected[i - 1]
        cell[i] = cell[i - 1] + (filled >= least)
        filled *= filled < least
    if expected[cell == cell[-1]].sum() < least:
        cell = np.minimum(cell, cell[-1] - 1)
    return np.bincount(cell, expected), np.bincount(cell, seen)
