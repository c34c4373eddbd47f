# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""What a fitted width, and the noise of the likelihood's own curvature, cost a position.

The inverse information J^-1 is the variance of a fit to first order in the noise. To the second, in
background noise, that of the position x of a spot with free width sigma is

    var(x) = C_xx (1 + 2 (C_ss + C_xx) / sigma^2),   C = J^-1

(derivation: docs/decisions/0030). A width that is wrong by a share e makes the matched filter
((1 + e) + 1/(1 + e))^4 / 16 = 1 + 2 e^2 times as noisy; noise in the likelihood's curvature along x
does the rest. J^-1 at the fit instead of at the truth is right to this order. Where the noise is
the spot's own, the share is below 3/N and does no harm.

Symbols: x, y, sigma as in `fit_kernels`; growth is the factor on the s.d.
"""

from __future__ import annotations

import math

import numpy as np

from livespt.jit import lanes

_ONE = np.float32(1.0)  # so that a kernel in float32 stays in it


@lanes
def growth(variance, width_variance, per_width, free):
    """Return the factor on a position's s.d.: 1 where the width is held (`free` 0, else 1).

    `variance` and `width_variance` are those of J^-1, `per_width` is 1/sigma.
    """
    share = free * (variance + width_variance) * per_width * per_width
    return math.sqrt(_ONE + share + share)
