"""One axis of the step of `stepkernels`: a Gaussian is conditioned on one spot.

Where the error along x and y is not correlated, the step falls apart into its axes (the state is
the position at the END of an exposure, h = 2 D te, V the spot's variance):

    S = P + h/3 + V,  C = P + h/2,  G = C / S,  r = x - m
    m' = m + G r
    P' = (1 - G)^2 P + h [(1 - G/2)^2 + G^2 / 12] + G^2 V

For callers that hold many Gaussians of one track (windows of recent states) and have no use for
lanes of four states. With h = 0 it is the ordinary Kalman filter. Held against `columnkernels` in
`tests/oracle`.
"""

from __future__ import annotations

from livespt.jit import inlined


@inlined
def gain(P: float, h: float, V: float) -> tuple[float, float]:
    """Return G and 1 / S."""
    inverse = 1.0 / (P + h / 3.0 + V)
    return (P + 0.5 * h) * inverse, inverse


@inlined
def condition(
    m: float, P: float, h: float, x: float, V: float
) -> tuple[float, float, float, float]:
    """Return m', P', 1 / S and r."""
    G, inverse = gain(P, h, V)
    r = x - m
    A, H = 1.0 - G, 1.0 - 0.5 * G
    return m + G * r, A * A * P + h * (H * H + G * G / 12.0) + G * G * V, inverse, r
