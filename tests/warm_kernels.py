"""Compiles, in a process of its own, kernels that later tests need; `conftest` starts it.

On a clean machine the compiler takes more than half of the time of the default tests. The first
of them compile the localizer, meanwhile this compiles the rest: on two cores they take turns.
"""

from __future__ import annotations

import numpy as np

from livespt.camera import Ideal
from livespt.infer import OnlineFilter, PixelFilter, warm_up_smoother
from livespt.link import Linker
from livespt.refit import Regions, refit
from livespt.refit.extrack import param_fitting


def main() -> None:
    """Compile and forget."""
    Linker(1.0).warm_up()
    OnlineFilter(2, 1.0).warm_up()
    warm_up_smoother(2, 1.0)
    follow = PixelFilter(Ideal(), 0.1, 0.1, 100.0, 5.0)
    follow.step(np.full((9, 9), 5, np.uint16), (0, 0), 0.0, 0.01)
    param_fitting([np.array([[0.0, 0.0], [0.1, 0.0], [0.1, 0.2]])] * 4, 0.02)
    n, adu = np.arange(6), np.full((6, 9, 9), 5, np.uint16)
    refit(
        Regions(
            adu, np.zeros((6, 2), np.int64), n, 0.1 * n, 0.01, Ideal(), 0.1, 0.1, 99.0, 5.0, ""
        ),
        "l-ml",
    )


if __name__ == "__main__":
    main()
