# ruff: noqa: ANN001, ANN201 (numba infers the types of kernels)
"""Blinking and bleaching in continuous time: a chain of light states that may end."""

from __future__ import annotations

from livespt.jit import kernel
from livespt_sim.randomkernels import exponential, uniform


@kernel
def emit(light, alive, durations, lit, tables, rng, fraction):
    """Let molecules change their light states through the sub-steps of `durations`.

    `light` (n,) and `alive` (n,) are updated; `fraction` (n, S) receives the mean relative
    brightness over each sub-step. `lit` (S,) says where the light is on. `tables` = relative
    brightness (P,); rates of leaving in the dark and in the light (2, P); cumulative chances of
    where to (2, P, P + 1), the last being the end.
    """
    brightness, exit_rate, jump_cdf = tables
    n_states = brightness.shape[0]
    r = rng[0]
    for i in range(light.shape[0]):
        k = light[i]
        for j in range(durations.shape[0]):
            left = durations[j]
            now = 1 if lit[j] else 0
            bright = 0.0
            while alive[i] and left > 0.0:
                stay = left
                if exit_rate[now, k] > 0.0:
                    r, wait = exponential(r)
                    stay = min(left, wait / exit_rate[now, k])
                bright += brightness[k] * stay
                left -= stay
                if left <= 0.0:
                    break
                r, u = uniform(r)
                goes = 0
                while goes < n_states and u >= jump_cdf[now, k, goes]:
                    goes += 1
                if goes == n_states:
                    alive[i] = False
                else:
                    k = goes
            fraction[i, j] = bright / durations[j] if durations[j] > 0.0 else 0.0
        light[i] = k
    rng[0] = r
