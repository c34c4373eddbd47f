"""Fits per second under priors, two widths, an EMCCD, 9 x 9 pixels: `make bench`.

The paper's own code does 9 a second. Times are of the thread, so that other work on the machine
counts less; the scalar maximum-likelihood fit beside it tells how fast the machine is.
"""

from __future__ import annotations

import time

import numpy as np
import pytest

from livespt import psf
from livespt.camera import Emccd
from livespt.localize import fit as fitting
from livespt.localize import fit_rois, posterior
from livespt.localize.posterior import prior_kernels

pytestmark = pytest.mark.bench

CAMERA, SIGMA0, SIDE, N = Emccd(50.0, 2.0, 10.0, 100.0), 1.2, 9, 8000


def best_us(call, repeats=7):
    """Return the least time of a call, us per spot; the first call compiles."""
    call()
    times = []
    for _ in range(repeats):
        began_s = time.thread_time()
        call()
        times.append(time.thread_time() - began_s)
    return 1e6 * min(times) / N


def test_asymmetric_map_fits_per_second():
    rng = np.random.default_rng(1)
    at = rng.uniform(3.5, 4.5, (N, 2))
    widths = (1.7, 1.4)
    rate = np.stack([1.0 + psf.spot_image(x, y, 300.0, widths, (SIDE, SIDE)) for x, y in at])
    adu = CAMERA.sample(rate, rng)
    maps = fitting._region_maps(CAMERA, N, SIDE)
    regions, bounds = posterior.make_regions(N, SIDE), posterior.bounds_for(N, SIDE)
    starts, bad = np.empty((N, 5)), np.zeros(N, np.bool_)
    table, work = posterior.moments_for(CAMERA), posterior.make_workspace()
    model = posterior.model_of(SIDE, SIGMA0, "asymmetric", "map", False)
    flat = adu.reshape(N, -1)

    def prepare():
        prior_kernels.prepare_many(flat, maps, table, SIGMA0, regions, starts, bad, work.starts)

    def climb():
        return posterior.fit_regions(regions, starts, bounds, np.ones(N), CAMERA, model, work)

    first = best_us(prepare)
    us = {
        "prepare and find starts": first,
        "asymmetric MAP + Laplace from starts": best_us(climb),
        "fit_rois, asymmetric MAP": best_us(
            lambda: fit_rois(adu, CAMERA, SIGMA0, model="asymmetric", method="map")
        ),
        "fit_rois, MLE": best_us(lambda: fit_rois(adu, CAMERA, SIGMA0)),
    }
    passes = climb().passes.mean()
    print(f"\nEMCCD {SIDE} x {SIDE}, {passes:.2f} passes by the true Hessian")  # noqa: T201
    for name, value in us.items():
        print(f"  {name}: {value:.2f} us a spot, {1e3 / value:.0f} k/s")  # noqa: T201
    # a bound for a busy machine: what is aimed at is 150 k/s on an idle one
    assert us["asymmetric MAP + Laplace from starts"] < 25.0
