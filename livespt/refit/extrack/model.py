"""ExTrack's parameters as the tables that the kernels take (SCIENCE 5).

`p_ij` are rates per frame; with n sub-steps P_ij = 1 - exp(-p_ij / n), P_ii = 1 - sum. The mean of
D over a frame is that over its sub-steps, each the mean of the two states at its ends. p_stay is
the probability that a step keeps within the cell's dimensions, averaged over where it begins:

    p_stay(d) = prod over L of mean over x in (0, L) of Phi((L - x) / d) - Phi(-x / d)

with the mean taken over 1000 midpoints, as ExTrack does. A track of T rows is seen again after
rows L_min ... T - 1 (p_stay (1 - pBL) each); one shorter than the longest ended: it left or it
bleached.

Where ExTrack 1.6.3 differs: with sub-steps its probability of the end reads p_stay of a sequence
that passed through state 0; here it is that of the sequence itself.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

from livespt.refit.extrack.arrays import Array, Tables
from livespt.refit.result import RefitError

#: Points over which p_stay is averaged.
N_POINTS = 1000
#: Least localization error (um) of the affine law, as ExTrack's.
LEAST_UM = 1e-6


class Frame(NamedTuple):
    """What turns parameters into tables.

    Attributes
    ----------
    n_states, n_sub : int
    interval_s : float
        Nominal time between frames, for p_stay.
    cell_um : tuple of float
        Dimensions that a molecule can leave.
    """

    n_states: int
    n_sub: int
    interval_s: float
    cell_um: tuple[float, ...]


def check_names(names: Sequence[str], n_states: int) -> None:
    """Refuse parameters that do not make a model of so many states.

    Raises
    ------
    RefitError
        What is missing, by name.
    """
    wanted = [f"D{k}" for k in range(n_states)] + [f"F{k}" for k in range(n_states)]
    wanted += [f"p{i}{j}" for i, j in itertools.permutations(range(n_states), 2)] + ["pBL"]
    missing = [name for name in wanted if name not in names]
    if missing:
        raise RefitError(f"params: {n_states} states need {', '.join(missing)}")
    extra = [name for name in names if re.fullmatch(r"D\d", name) and int(name[1:]) >= n_states]
    if extra:
        raise RefitError(f"params: {', '.join(extra)} beyond nb_states = {n_states}")


def switching(values: Mapping[str, float], n_states: int, n_sub: int) -> Array:
    """Return the matrix of a sub-step (K, K)."""
    P = np.zeros((n_states, n_states))
    for i, j in itertools.permutations(range(n_states), 2):
        P[i, j] = -np.expm1(-values[f"p{i}{j}"] / n_sub)
    np.fill_diagonal(P, 1.0 - P.sum(axis=1))
    return P


def p_stay(sd_um: Array, cell_um: Sequence[float]) -> Array:
    """Return the probability of a step of that s.d. staying within the cell."""
    stay = np.ones_like(sd_um)
    for side in cell_um:
        x = (np.arange(N_POINTS)[:, None] + 0.5) * (side / N_POINTS)
        sd = sd_um + 1e-200
        stay *= (ndtr((side - x) / sd) - ndtr(-x / sd)).mean(axis=0)
    return stay


def make_tables(values: Mapping[str, float], frame: Frame) -> Tables | None:
    """Return the tables; None where the parameters are no model (a probability below 0)."""
    K, n = frame.n_states, frame.n_sub
    P = switching(values, K, n)
    F = np.array([values[f"F{k}"] for k in range(K)])
    D = np.array([values[f"D{k}"] for k in range(K)])
    bleach = values["pBL"]
    if P.min() < 0 or F.min() < 0 or D.min() < 0 or not 0 <= bleach <= 1:
        return None
    digits = np.arange(K ** (n + 1))[:, None] // K ** np.arange(n + 1) % K  # newest first
    step = P[digits[:, 1:], digits[:, :-1]].prod(axis=1)
    sub_D = D[digits[: K**n, :n]].mean(axis=1)
    stay = p_stay(np.sqrt(2 * sub_D * frame.interval_s), frame.cell_um)
    again = stay * (1 - bleach)
    ends = (step.reshape(K, -1) * (bleach + (1 - stay) * (1 - bleach))).sum(axis=1)
    return Tables(
        start=F[digits[:, n]] * step,
        step=step,
        survive=step * np.tile(again, K),
        D_um2_s=(0.5 * (D[digits[:, 1:]] + D[digits[:, :-1]])).mean(axis=1),
        end=ends,
    )


def error_names(names: Sequence[str]) -> list[str]:
    """Return the parameters that make the localization error: one, one per axis, or its law."""
    if "slope_LocErr" in names:
        return ["slope_LocErr", "offset_LocErr"]
    return sorted(name for name in names if re.fullmatch(r"LocErr\d?", name))


def error_variance(
    values: Mapping[str, float], given_um: Array | None, shape: tuple[int, int]
) -> Array:
    """Return the variance of each row's coordinates (n, d).

    Raises
    ------
    RefitError
        `input_LocErr` is missing, or there is one parameter too few for the axes.
    """
    names = error_names(list(values))
    if names[:1] == ["slope_LocErr"] or not names:
        if given_um is None:
            raise RefitError("input_LocErr: needed, as params hold no LocErr")
        sd = given_um
        if names:
            sd = np.maximum(sd * values[names[0]] + values[names[1]], LEAST_UM)
        return sd * sd
    if given_um is not None:
        raise RefitError("input_LocErr: given, but params fit LocErr; expected one of the two")
    sd = np.array([values[name] for name in names])
    if sd.size not in (1, shape[1]):
        raise RefitError(f"params: {sd.size} of LocErr for {shape[1]} dimensions")
    return np.ascontiguousarray(np.broadcast_to(sd * sd, shape))
