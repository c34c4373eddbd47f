"""To the summit of a likelihood within bounds: scoring on the tracks' own slopes.

With s_i the slope of track i, g = sum s_i and J = sum s_i s_i' (Berndt, Hall, Hall, Hausman 1974),
a step solves (J + lambda diag J) d = g over the parameters that no bound holds (Levenberg,
Marquardt), and is cut where it would leave the bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from livespt.refit.extrack.arrays import Array

#: The summit is reached where a full step would gain less log-likelihood than this.
ENOUGH = 1e-4
#: Passes over the data at most.
MOST_PASSES = 400
#: Largest lambda: a step this small that does not climb will not.
STIFF = 1e12

#: A step is stretched up to so many times, and only while it gains more than this.
LONGEST, SMALL = 100.0, 0.5

Evaluate = Callable[[Array, bool], tuple[float, Array]]


class Summit(NamedTuple):
    """Where the climb ended.

    Attributes
    ----------
    x : (q,) float64
    loglik : float
    scores : (n_tracks, q) float64
    held : (q,) bool
        Parameters that a bound holds.
    converged : bool
    n_passes, n_steps : int
    """

    x: Array
    loglik: float
    scores: Array
    held: NDArray[np.bool_]
    converged: bool
    n_passes: int
    n_steps: int


def climb(
    x: Array, bounds: tuple[Array, Array], evaluate: Evaluate, enough: float = ENOUGH
) -> Summit:
    """Climb from x.

    Parameters
    ----------
    x : (q,) float64
    bounds : two of (q,) float64
    evaluate : callable
        Takes x and whether slopes are wanted; returns the log-likelihood (-inf where there is no
        model) and the slope of each track (n_tracks, q).
    enough : float
        Converged when a full step would gain less.
    """
    loglik, scores = evaluate(x, True)
    stiffness, passes, steps = 1.0, 1, 0
    while passes < MOST_PASSES:
        gradient, information = scores.sum(axis=0), scores.T @ scores
        held = held_by(x, gradient, bounds)
        if held.all() or gradient @ _step(gradient, information, held, 0.0) < 2 * enough:
            return Summit(x, loglik, scores, held, True, passes, steps)
        best, tried = None, 0
        while best is None and stiffness < STIFF:
            step = _step(gradient, information, held, stiffness)
            best, tried = stretch(x, step, bounds, loglik, evaluate)
            passes += tried
            stiffness = stiffness / 8.0 if best is not None else max(stiffness * 8.0, 1e-3)
        if best is None:
            break
        x, steps, passes = best, steps + 1, passes + 1
        loglik, scores = evaluate(x, True)
    held = held_by(x, scores.sum(axis=0), bounds)
    return Summit(x, loglik, scores, held, False, passes, steps)


def stretch(
    x: Array, step: Array, bounds: tuple[Array, Array], loglik: float, evaluate: Evaluate
) -> tuple[Array | None, int]:
    """Go along a step, and on in the same direction while that climbs; None if it does not.

    Far below the summit the slopes of single tracks scatter widely, and J makes steps too short.
    """
    best, passes, length = None, 0, 1.0
    while length < LONGEST:
        trial = np.clip(x + length * step, *bounds)
        found = evaluate(trial, False)[0]
        passes += 1
        if not found > loglik:
            break
        gained, best, loglik, length = found - loglik, trial, found, 2.0 * length
        if gained < SMALL:
            break
    return best, passes


def held_by(x: Array, gradient: Array, bounds: tuple[Array, Array]) -> NDArray[np.bool_]:
    """Tell which parameters lie at a bound and would go beyond it."""
    low, high = bounds
    near = 1e-12 * np.maximum(np.abs(x), 1e-300)
    return ((x <= low + near) & (gradient <= 0)) | ((x >= high - near) & (gradient >= 0))


def _step(gradient: Array, information: Array, held: NDArray[np.bool_], stiffness: float) -> Array:
    step, free = np.zeros_like(gradient), ~held
    diagonal = np.maximum(np.diag(information)[free], 1e-300)
    scale = 1.0 / np.sqrt(diagonal)  # solved in units of each parameter's own error
    system = information[np.ix_(free, free)] * np.outer(scale, scale)
    system[np.diag_indices_from(system)] += stiffness
    step[free] = scale * np.linalg.lstsq(system, scale * gradient[free], rcond=1e-12)[0]
    return step
