"""Compiles the kernels that the tests need, in two processes side by side; `make test` calls it.

On a clean machine the compiler takes more than half of the time of the default tests. Left to the
tests, two workers would compile the same kernels at the same time, and tests of real time would
wait for the compiler.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from livespt.camera import Emccd, Ideal
from livespt.infer import OnlineFilter, PixelFilter, warm_up_smoother
from livespt.jit import cache_dir, code_dir
from livespt.link import Linker
from livespt.localize import Guide, Localizer, fit_rois
from livespt.refit import Regions, refit
from livespt.refit.extrack import param_fitting

SHAPE = (48, 64)
ROIS = np.random.default_rng(1).poisson(50.0, (4, 9, 9)).astype(np.uint16)


def frame_fits() -> None:
    """Detection and the live fit."""
    Localizer(Ideal(), 0.1, 0.13, SHAPE).warm_up()


def tracks() -> None:
    """The filter, the smoother and the linker."""
    OnlineFilter(2, 1.0).warm_up()
    warm_up_smoother(2, 1.0)
    Linker(1.0).warm_up()


def windows() -> None:
    """ExTrack's method and its slopes."""
    param_fitting([np.array([[0.0, 0.0], [0.1, 0.0], [0.1, 0.2]])] * 4, 0.02)


def region_fits() -> None:
    """Fits of regions that are given."""
    fit_rois(ROIS, Ideal(), 1.3)


def posterior_fits() -> None:
    """Fits under priors, of every shape."""
    fit_rois(ROIS, Ideal(), 1.3, model="auto", method="map")


def pixels() -> None:
    """The filter on pixels, and the refits on it."""
    follow = PixelFilter(Ideal(), 0.1, 0.1, 100.0, 5.0)
    follow.step(np.full((9, 9), 5, np.uint16), (0, 0), 0.0, 0.01)
    n, adu = np.arange(6), np.full((6, 9, 9), 5, np.uint16)
    corners = np.zeros((6, 2), np.int64)
    regions = Regions(adu, corners, n, 0.1 * n, 0.01, Ideal(), 0.1, 0.1, 99.0, 5.0, "")
    for method in ("l-ml", "u-em", "smc-em"):
        refit(regions, method)


def guided_fits() -> None:
    """Places that tracks predict."""
    Guide(Ideal(), 0.1, 0.13, SHAPE).warm_up()


def pair_fits() -> None:
    """Two spots in one region."""
    Localizer(Emccd(50.0, 2.0, 10.0, 200.0), 0.1, 0.13, SHAPE, overlap="pair").warm_up()


#: Neighbours share little, so that hardly a kernel is compiled in both processes.
JOBS = (
    frame_fits,
    tracks,
    windows,
    pixels,
    region_fits,
    posterior_fits,
    guided_fits,
    pair_fits,
)


def timed(number: int) -> tuple[str, float]:
    """Do one job; return its name and how long it took."""
    began_s = time.perf_counter()
    JOBS[number]()
    return JOBS[number].__name__, time.perf_counter() - began_s


def main() -> None:
    """Do all that this version of the kernels has not had done already."""
    package = Path(sys.modules["livespt"].__file__ or "").parent
    mine = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]
    done = code_dir(package, cache_dir()) / f"warmed-{mine}"
    if done.exists():
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=spawn) as pool:
        for name, took_s in pool.map(timed, range(len(JOBS))):
            sys.stdout.write(f"compiled {name} in {took_s:.0f} s\n")
            sys.stdout.flush()
    done.touch()


if __name__ == "__main__":
    main()
