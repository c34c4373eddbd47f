"""Many molecules, each fitted alone from its pixels; D averaged over them.

The average is weighed by the steps of each molecule, as if all steps came from one; its standard
error is the spread between molecules, which holds whether or not they are all alike.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from livespt.refit.looks import AXES, Array
from livespt.refit.pointmass import SLOWEST_UM2_S
from livespt.refit.regions import Molecules, Regions
from livespt.refit.result import Parameter, Refit, RefitError

#: Threads; the answer does not depend on them.
WORKERS = 8


class One(NamedTuple):
    """A molecule and its answer."""

    track: int
    found: Refit

    @property
    def weight(self) -> int:
        """Steps."""
        return self.found.n_positions - 1

    @property
    def counts(self) -> bool:
        """It settled, or D along an axis is too small to tell from 0."""
        D = [self.found.parameter(f"D_{axis}_um2_s").value for axis in AXES]
        return self.found.status == "ok" or min(D) <= 1.05 * SLOWEST_UM2_S


def fit_each(data: Molecules, fit: Callable[..., Refit], settings: dict[str, Any]) -> Refit:
    """Fit every molecule by `fit`, and average.

    Molecules that the method refuses are left out and counted; those that did not settle are not
    averaged.

    Raises
    ------
    RefitError
        None could be fitted.
    """
    jobs = list(_jobs(data, fit, settings))
    with ThreadPoolExecutor(min(WORKERS, max(len(jobs), 1))) as pool:
        tried = list(pool.map(lambda job: _tried(fit, *job), jobs))
    refused = [one for one in tried if isinstance(one, RefitError)]
    ones = [
        One(track, found)
        for track, found in zip(data.track, tried, strict=True)
        if isinstance(found, Refit)
    ]
    if not ones:
        why = f": {refused[0]}" if refused else ""
        raise RefitError(f"{data.source}: no molecule could be fitted{why}")
    return _answer(data, ones, len(refused))


def _jobs(
    data: Molecules, fit: Callable[..., Refit], settings: dict[str, Any]
) -> Iterator[tuple[Regions, dict[str, Any]]]:
    """Yield each molecule with its settings; chance is drawn anew for each."""
    draws = "rng" in inspect.signature(fit).parameters and "rng" not in settings
    shared = {name: value for name, value in settings.items() if not (draws and name == "seed")}
    for i, regions in enumerate(data.regions):
        own = {"rng": np.random.default_rng([settings.get("seed", 0), i])} if draws else {}
        yield regions, shared | own


def _tried(
    fit: Callable[..., Refit], regions: Regions, settings: dict[str, Any]
) -> Refit | RefitError:
    try:
        return fit(regions, **settings)
    except RefitError as error:
        return error


def _answer(data: Molecules, ones: Sequence[One], n_refused: int) -> Refit:
    kept = [one for one in ones if one.counts]
    unsettled = len(ones) - len(kept)
    left_out = dict(data.left_out)
    for one in ones:
        for reason, n in one.found.left_out.items():
            left_out[reason] = left_out.get(reason, 0) + n
    left_out["molecules that the method refused"] = n_refused
    left_out["molecules whose fit did not settle"] = unsettled
    logs = [one.found.loglik for one in kept if one.found.loglik is not None]
    few = f"; {unsettled} more did not settle" if unsettled else ""
    return Refit(
        method="",
        parameters=tuple(_averages(kept or ones)),
        loglik=sum(logs) if logs and len(logs) == len(kept) else None,
        status="ok" if len(kept) > 1 else "too few data" if kept else "not converged",
        message=f"means over {len(kept)} molecules, by their steps{few}",
        n_iterations=max(one.found.n_iterations for one in ones),
        n_tracks=len(kept),
        n_positions=sum(one.found.n_positions for one in kept),
        left_out=left_out,
        positions=_positions(ones),
        evidence={},
        tables={"tracks": [_row(one) for one in ones]},
        seconds=0.0,
        provenance={},
    )


def _averages(ones: Sequence[One]) -> Iterator[Parameter]:
    """Yield D over both axes, then every parameter of the method, averaged."""
    weight = np.array([one.weight for one in ones], np.float64)
    first = ones[0].found.parameters
    table = np.array([[one.found.parameter(p.name).value for p in first] for one in ones])
    D = [i for i, p in enumerate(first) if p.name in {f"D_{axis}_um2_s" for axis in AXES}]
    yield average("D_um2_s", table[:, D].mean(axis=1), weight, "um2/s")
    for p, values in zip(first, table.T, strict=True):
        yield p if p.fixed else average(p.name, values, weight, p.unit)


def average(name: str, values: Array, weight: Array, unit: str) -> Parameter:
    """Return a weighted mean; standard error and 95 % interval are of the spread."""
    share = weight / weight.sum()
    mean, n = float(share @ values), values.size
    if n < 2:
        return Parameter(name, mean, unit=unit)
    spread = float(share**2 @ (values - mean) ** 2) / (1 - float(share @ share))
    sd = math.sqrt(spread)
    half = sd * float(student.ppf(0.975, n - 1))
    return Parameter(name, mean, sd, mean - half, mean + half, unit)


def _positions(ones: Sequence[One]) -> NDArray[np.void] | None:
    parts = []
    for one in ones:
        if one.found.positions is not None:
            part = one.found.positions.copy()
            part["track"] = one.track
            parts.append(part)
    return np.concatenate(parts) if parts else None


def _row(one: One) -> dict[str, Any]:
    """Return what was found of one molecule, as plain numbers."""
    row: dict[str, Any] = {
        "track": one.track,
        "n_positions": one.found.n_positions,
        "status": one.found.status,
    }
    for p in one.found.parameters:
        row[p.name] = p.value
        if not p.fixed:
            row |= {f"sd_{p.name}": p.sd, f"low_{p.name}": p.low, f"high_{p.name}": p.high}
    return row
