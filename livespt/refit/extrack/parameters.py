"""lmfit `Parameters` of the model, by the names and arguments of ExTrack's own two makers.

`LocErr`, or `LocErr0` ... per axis (um), or `slope_LocErr` and `offset_LocErr`; `D0` ... (um2/s);
`F0` ..., the share of each state in the first frame; `pij` (a frame); `pBL`, bleaching (a frame).
Where ExTrack 1.6.3 differs: it ignores `steady_state`, bounds D0 by 0.3 whatever is asked, and
starts the third D and all above too low.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from livespt.refit.result import RefitError

if TYPE_CHECKING:
    from lmfit import Parameters

_NAMES: tuple[str, ...] = ("LocErr", "D0", "D1", "F0", "p01", "p10", "pBL")
_VARY: Mapping[str, Any] = MappingProxyType(dict.fromkeys(_NAMES, True))
_VALUES = MappingProxyType(
    {"LocErr": 0.025, "D0": 1e-20, "D1": 0.05, "F0": 0.45, "p01": 0.05, "p10": 0.05, "pBL": 0.1}
)
_LEAST = MappingProxyType(
    {"LocErr": 0.007, "D0": 1e-12, "D1": 1e-5, "F0": 1e-3, "p01": 0.01, "p10": 0.01, "pBL": 0.01}
)
_MOST = MappingProxyType(
    {"LocErr": 0.6, "D0": 1.0, "D1": 10.0, "F0": 0.999, "p01": 1.0, "p10": 1.0, "pBL": 0.99}
)


def get_params(
    nb_states: int = 2,
    steady_state: bool = False,
    vary_params: Mapping[str, Any] = _VARY,
    estimated_vals: Mapping[str, Any] = _VALUES,
    min_values: Mapping[str, Any] = _LEAST,
    max_values: Mapping[str, Any] = _MOST,
) -> Parameters:
    """Make parameters from a value, bounds and freedom for each.

    Parameters
    ----------
    nb_states : int
    steady_state : bool
        The fractions are those that the switching keeps up, so that the F follow from the p.
    vary_params, estimated_vals, min_values, max_values : mapping
        By name; `LocErr` is a number or a list, one for each axis.

    Returns
    -------
    lmfit.Parameters
        D1 and above as sums of `D1_minus_D0` ..., which keeps the states in order.

    Raises
    ------
    RefitError
        A name is missing in one of the mappings.
    """
    given = (vary_params, estimated_vals, min_values, max_values)
    tables = dict(zip(_TABLES, given, strict=True))
    params = _parameters()

    def add(name: str, place: int | None = None, **own: Any) -> None:
        found: dict[str, Any] = {}
        source = name if place is None else "LocErr"
        for key, table in tables.items():
            if source not in table:
                raise RefitError(f"get_params: '{source}' is missing in {_TABLES[key]}")
            found[key] = table[source] if place is None else _place(table[source], place)
        params.add(name, **{**found, **own})

    for name in ("slope_LocErr", "offset_LocErr"):
        if "slope_LocErr" in estimated_vals:
            add(name)
    if "LocErr" in estimated_vals:
        error = estimated_vals["LocErr"]
        if np.ndim(error) == 0:
            add("LocErr")
        for axis in range(np.size(error) if np.ndim(error) else 0):
            add(f"LocErr{axis}", axis)
    _add_ordered_D(params, nb_states, add, estimated_vals)
    _add_fractions(params, nb_states, add, steady_state)
    for i, j in itertools.permutations(range(nb_states), 2):
        add(f"p{i}{j}")
    add("pBL")
    if steady_state:
        tie_fractions(params, nb_states, 1)
    return params


_TABLES = {
    "vary": "vary_params",
    "value": "estimated_vals",
    "min": "min_values",
    "max": "max_values",
}


def _place(value: Any, axis: int) -> Any:
    return value if np.ndim(value) == 0 else value[axis]


def _add_ordered_D(params: Any, nb_states: int, add: Any, values: Mapping[str, Any]) -> None:
    add("D0")
    for k in range(1, nb_states):
        step = f"D{k}_minus_D{k - 1}"
        if f"D{k}" not in values:
            raise RefitError(f"get_params: 'D{k}' is missing in estimated_vals")
        add(f"D{k}")  # checked, bounded; then replaced by a sum
        whole = params.pop(f"D{k}")
        params.add(
            step, value=max(values[f"D{k}"] - values[f"D{k - 1}"], 0.0), min=0.0, max=whole.max,
            vary=whole.vary,
        )  # fmt: skip
        params.add(f"D{k}", expr=f"D{k - 1} + {step}")


def _add_fractions(params: Any, nb_states: int, add: Any, steady_state: bool) -> None:
    if steady_state:
        for k in range(nb_states):
            params.add(f"F{k}", value=1.0 / nb_states, vary=False)
        return
    for k in range(nb_states - 1):
        add(f"F{k}")
    rest = "".join(f" - F{k}" for k in range(nb_states - 1))
    params.add(f"F{nb_states - 1}", expr=f"1{rest}")


def generate_params(
    nb_states: int = 3,
    LocErr_type: int | None = 1,
    nb_dims: int = 3,
    LocErr_bounds: Sequence[float] = (0.005, 0.1),
    D_max: float = 10,
    Fractions_bounds: Sequence[float] = (0.001, 0.99),
    estimated_LocErr: Sequence[float] | None = None,
    estimated_Ds: Sequence[float] | None = None,
    estimated_Fs: Sequence[float] | None = None,
    estimated_transition_rates: float | Sequence[float] = 0.1,
    slope_offsets_estimates: Sequence[float] | None = None,
) -> Parameters:
    """Make parameters for a number of states, with starts spread over what is likely.

    Parameters
    ----------
    nb_states : int
    LocErr_type : {1, 2, 3, 4, None}
        1: one error; 2: one for each axis; 3: one for x and y, one for z; 4: `slope * input +
        offset`; None: `input_LocErr` is the error itself.
    nb_dims : int
        Axes, for type 2.
    LocErr_bounds, Fractions_bounds : (2,)
    D_max : float
        um2/s.
    estimated_LocErr, estimated_Ds, estimated_Fs : sequence, optional
        Starts; the geometric mean of the bounds, a parabola up to D_max / 2, equal shares.
    estimated_transition_rates : float or sequence
        For all, or in the order p01, p02, ..., p10, p12 ...
    slope_offsets_estimates : (2,), optional
        For type 4; (1, 0) unless given.

    Raises
    ------
    RefitError
        A type that there is not, or too few starts.
    """
    if LocErr_type not in (1, 2, 3, 4, None):
        raise RefitError(f"LocErr_type: {LocErr_type!r}; expected 1, 2, 3, 4 or None")
    if nb_states < 1:
        raise RefitError(f"nb_states: {nb_states}; expected at least 1")
    params = _parameters()
    spread = [0.5 * k**2 * D_max / max(nb_states - 1, 1) ** 2 for k in range(nb_states)]
    Ds = _enough("estimated_Ds", spread if estimated_Ds is None else estimated_Ds, nb_states)
    for k in range(nb_states):
        params.add(f"D{k}", value=Ds[k], min=0, max=D_max)
    _add_errors(params, LocErr_type, nb_dims, LocErr_bounds, estimated_LocErr)
    if LocErr_type == 4:
        slope, offset = slope_offsets_estimates or (1.0, 0.0)
        params.add("slope_LocErr", value=slope, min=-1, max=20)
        params.add("offset_LocErr", value=offset, min=-1, max=1)
    equal = [1 / nb_states] * nb_states
    Fs = _enough("estimated_Fs", equal if estimated_Fs is None else estimated_Fs, nb_states - 1)
    for k in range(nb_states - 1):
        params.add(f"F{k}", value=Fs[k], min=Fractions_bounds[0], max=Fractions_bounds[1])
    rest = "".join(f" - F{k}" for k in range(nb_states - 1))
    params.add(f"F{nb_states - 1}", expr=f"1{rest}")
    pairs = list(itertools.permutations(range(nb_states), 2))
    rates = np.broadcast_to(estimated_transition_rates, len(pairs)) if np.ndim(
        estimated_transition_rates
    ) == 0 else estimated_transition_rates  # fmt: skip
    rates = _enough("estimated_transition_rates", rates, len(pairs))
    for (i, j), rate in zip(pairs, rates, strict=False):
        params.add(f"p{i}{j}", value=float(rate), min=0.0001, max=1)
    params.add("pBL", value=0.1, min=0.0001, max=1)
    return params


def _enough(name: str, values: Any, wanted: int) -> list[float]:
    if len(values) < wanted:
        raise RefitError(f"{name}: {len(values)} values; expected {wanted}")
    return [float(value) for value in values]


def _add_errors(
    params: Any, kind: int | None, nb_dims: int, bounds: Sequence[float], starts: Any
) -> None:
    names = {1: ["LocErr"], 2: [f"LocErr{d}" for d in range(nb_dims)], 3: ["LocErr0", "LocErr2"]}
    wanted = names.get(kind or 0, [])
    middle = (bounds[0] * bounds[1]) ** 0.5
    values = [middle] * len(wanted) if starts is None else [float(value) for value in starts]
    if wanted and len(values) < len(wanted):
        raise RefitError(f"estimated_LocErr: {len(values)} values; expected {len(wanted)}")
    if kind == 3:
        values = [values[0], values[-1]]
    for name, value in zip(wanted, values, strict=False):
        params.add(name, value=value, min=bounds[0], max=bounds[1])
        if kind == 3 and name == "LocErr0":
            params.add("LocErr1", expr="LocErr0")


def tie_fractions(params: Any, n_states: int, n_sub: int) -> None:
    """Tie the fractions to the switching: each F becomes an expression of the p.

    The stationary share of a state is the sum, over all trees that lead to it, of the product of
    the probabilities along the tree (the Markov chain tree theorem).
    """
    weights = []
    for root in range(n_states):
        others = [k for k in range(n_states) if k != root]
        trees = []
        for heads in itertools.product(range(n_states), repeat=len(others)):
            ways = dict(zip(others, heads, strict=True))
            if _leads_to(ways, root):
                factors = (f"(1 - exp(-p{i}{j} / {n_sub}))" for i, j in ways.items())
                trees.append(" * ".join(factors) or "1")
        weights.append("(" + " + ".join(trees) + ")")
    total = " + ".join(weights)
    for k in range(n_states):
        # No bounds: a fraction that follows from others cannot be held by its own.
        params[f"F{k}"].set(expr=f"{weights[k]} / ({total})", min=-np.inf, max=np.inf)


def _leads_to(ways: Mapping[int, int], root: int) -> bool:
    for start in ways:
        at, steps = start, 0
        while at != root:
            at, steps = ways[at], steps + 1
            if steps > len(ways):
                return False
    return True


def _parameters() -> Parameters:
    from lmfit import Parameters

    return Parameters()
