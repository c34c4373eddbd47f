"""What every refit returns, whatever its method."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from livespt.types import LivesptError


class RefitError(LivesptError):
    """A refit cannot use what it was given; the message names it and says what was expected."""


class Parameter(NamedTuple):
    """One fitted number.

    Attributes
    ----------
    name : str
        As `D_um2_s[0]`, `p_switch[0,1]`, `occupancy[1]`, `sd_um`, `photons`.
    value : float
    sd : float or None
        Standard error; None where the method gives none (it is then said in `Refit.message`).
    low, high : float or None
        95 % interval.
    unit : str
        "" for a pure number.
    fixed : bool
        Given, not fitted.
    """

    name: str
    value: float
    sd: float | None = None
    low: float | None = None
    high: float | None = None
    unit: str = ""
    fixed: bool = False


def positions_dtype(n_states: int) -> np.dtype:
    """Return the dtype of `Refit.positions`, one row per position that the fit used."""
    return np.dtype(
        [
            ("track", "i8"),
            ("frame", "i8"),
            ("x_um", "f8"),  # refined, given the whole track
            ("y_um", "f8"),
            ("var_x_um2", "f8"),
            ("var_y_um2", "f8"),
            ("cov_xy_um2", "f8"),
            ("p_state", "f8", (n_states,)),
        ]
    )


class Refit(NamedTuple):
    """The answer of a refit.

    Attributes
    ----------
    method : str
        Its name in `METHODS`.
    parameters : tuple of Parameter
        States are ordered by D.
    loglik : float or None
        Log-likelihood (nats) at the answer; None for methods without one.
    status : {"ok", "not converged", "too few data"}
    message : str
        What a reader should know: why it stopped, what the method does not give.
    n_iterations : int
    n_tracks, n_positions : int
        Used.
    left_out : dict of str to int
        What was not used, by reason ("one position": 12).
    positions : structured array or None
        `positions_dtype`; None for methods that refine nothing.
    evidence : dict of str to float
        For the choice of a model: "aic", "bic", "n_parameters", or a bound on the log evidence.
    tables : dict of str to list
        More, by method (curves, per-track fits): plain lists and numbers.
    seconds : float
        Time of the fit itself.
    provenance : dict
        `livespt` (version), `source`, `settings`, `seed`: enough to run it again.
    """

    method: str
    parameters: tuple[Parameter, ...]
    loglik: float | None
    status: str
    message: str
    n_iterations: int
    n_tracks: int
    n_positions: int
    left_out: dict[str, int]
    positions: NDArray[np.void] | None
    evidence: dict[str, float]
    tables: dict[str, Any]
    seconds: float
    provenance: dict[str, Any]

    def parameter(self, name: str) -> Parameter:
        """Return the parameter of that name.

        Raises
        ------
        RefitError
            There is none.
        """
        for parameter in self.parameters:
            if parameter.name == name:
                return parameter
        names = ", ".join(parameter.name for parameter in self.parameters)
        raise RefitError(f"{self.method}: no parameter '{name}' (has: {names})")

    def as_json(self) -> dict[str, Any]:
        """Return plain lists and numbers, as ``--json`` prints them; positions go to files."""
        plain = self._asdict()
        plain["parameters"] = [p._asdict() for p in self.parameters]
        del plain["positions"]
        return plain

    def lines(self) -> list[str]:
        """Return what a person wants to know."""
        left_out = ", ".join(f"{n} ({reason})" for reason, n in self.left_out.items() if n)
        return [
            f"{self.method}: {self.status}, {self.n_iterations} iterations, {self.seconds:.2f} s",
            f"{self.n_tracks} tracks, {self.n_positions} positions"
            + (f"; left out: {left_out}" if left_out else ""),
            *(_line(parameter) for parameter in self.parameters),
            *([f"log-likelihood {self.loglik:.2f}"] if self.loglik is not None else []),
            *(f"{name} {value:.6g}" for name, value in self.evidence.items()),
            *([self.message] if self.message else []),
        ]


def _line(parameter: Parameter) -> str:
    unit = f" {parameter.unit}" if parameter.unit else ""
    text = f"{parameter.name} = {parameter.value:.5g}{unit}"
    if parameter.fixed:
        return f"{text} (given)"
    if parameter.low is not None and parameter.high is not None:
        return f"{text} ({parameter.low:.5g} to {parameter.high:.5g})"
    return text if parameter.sd is None else f"{text} +- {parameter.sd:.2g}"
