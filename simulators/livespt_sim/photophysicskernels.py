# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""Blinking and bleaching in continuous time."""

from __future__ import annotations

from livespt.jit import kernel
from livespt_sim.randomkernels import exponential, uniform


@kernel
def emit(on, alive, durations, lit, rates, rng, on_fraction):
    """Let molecules blink and bleach through the sub-steps of `durations`.

    `on` and `alive` (n,) are updated; `on_fraction` (n, S) receives the part of each sub-step in
    which the molecule could emit. `lit` (S,) says where the light is on: bleaching needs light.
    `rates` = (off, on, bleach) per second, the last at the present excitation.
    """
    off_rate, on_rate, bleach_rate = rates
    r = rng[0]
    for i in range(on.shape[0]):
        for j in range(durations.shape[0]):
            left = durations[j]
            bright = 0.0
            while alive[i] and left > 0.0:
                bleach = bleach_rate if lit[j] and on[i] else 0.0
                blink = off_rate if on[i] else on_rate
                stay = left
                if bleach + blink > 0.0:
                    r, wait = exponential(r)
                    stay = min(left, wait / (bleach + blink))
                if on[i]:
                    bright += stay
                left -= stay
                if left <= 0.0:
                    break
                r, u = uniform(r)
                if u * (bleach + blink) < bleach:
                    alive[i] = False
                else:
                    on[i] = not on[i]
            on_fraction[i, j] = bright / durations[j] if durations[j] > 0.0 else 0.0
    rng[0] = r
