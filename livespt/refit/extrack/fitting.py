"""`param_fitting`: ExTrack's fit, by its own arguments, to an lmfit `MinimizerResult`."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from livespt.refit.extrack.arrays import Array
from livespt.refit.extrack.climb import Summit, climb
from livespt.refit.extrack.likelihood import Problem, loglik_of_tracks, make_problem, scores
from livespt.refit.extrack.limits import check_method, window_for
from livespt.refit.extrack.model import Frame, check_names, make_tables
from livespt.refit.extrack.parameters import generate_params, tie_fractions
from livespt.refit.extrack.series import lay_out
from livespt.refit.result import RefitError

if TYPE_CHECKING:
    from lmfit import Parameters
    from lmfit.minimizer import MinimizerResult

#: Differences that turn slopes into curvatures, in standard errors.
STRIDE = 1e-3
#: The way up is found with so many states beyond a frame's own, until steps gain less than this.
COARSE, CLOSE = 2, 1e-2
#: Where a start lies at a bound, it is moved inside by this share of the range.
INSIDE = 1e-3


def param_fitting(
    all_tracks: Any,
    dt: Any,
    params: Parameters | None = None,
    nb_states: int = 2,
    nb_substeps: int = 1,
    frame_len: int = 6,
    verbose: int = 0,
    workers: int = 1,
    Matrix_type: int = 1,
    method: str = "bfgs",
    steady_state: bool = False,
    cell_dims: Sequence[float | None] = (1,),
    input_LocErr: Any = None,
    threshold: float | None = None,
    max_nb_states: int | None = None,
    *,
    exposure_s: float = 0.0,
) -> MinimizerResult:
    """Fit diffusion, switching and localization error to tracks by maximum likelihood.

    Parameters
    ----------
    all_tracks : dict of str to (n, T, d), or list of (T, d)
        Positions in um, by length; NaN where a molecule was not seen.
    dt : float, or of the tracks' form with (n, T) or (n, T - 1)
        Time (s) from each position to the next.
    params : lmfit.Parameters, optional
        From `get_params` or `generate_params`; any expressions may tie them together.
    nb_states, nb_substeps : int
    frame_len : int
        Sequences of states are told apart by so many of their newest states.
    workers : int
        Threads.
    steady_state : bool
        The first frame's fractions are those that the switching keeps up.
    cell_dims : sequence of float
        Sides (um) over which a molecule can leave the field of view; None is left out.
    input_LocErr : of the tracks' form, optional
        Error of each position, or what stands for it.
    exposure_s : float
        0: no motion blur, as ExTrack has it.
    verbose : int
        1: each step's likelihood and parameters on stderr.
    method : {"bfgs"}
    threshold : None
        Refused: sequences are merged by `frame_len` alone.
    max_nb_states : int, optional
        Most sequences at once: `frame_len` is cut to what these hold.
    Matrix_type : {1}

    Returns
    -------
    lmfit.minimizer.MinimizerResult
        `residual` holds -ln L as ExTrack's. `covar` is the inverse of the curvature at the summit;
        `aic`, `bic` are those of the likelihood, `ndata` the number of displacements. `chisqr` and
        `redchi` are lmfit's formulas on `residual` and say nothing about how well the model fits.

    Raises
    ------
    RefitError
        Tracks, parameters or settings that cannot be used.
    """
    if Matrix_type != 1:
        raise RefitError(f"Matrix_type: {Matrix_type}; expected 1, P = 1 - exp(-p)")
    check_method(method)
    window = window_for(frame_len, nb_states, threshold, max_nb_states)
    if params is None:
        params = generate_params(nb_states, D_max=3)
    params = copy.deepcopy(params)
    check_names(list(params), nb_states)
    if steady_state:
        tie_fractions(params, nb_states, nb_substeps)
    laid = lay_out(all_tracks, dt, input_LocErr)
    cell = tuple(float(side) for side in cell_dims if side is not None)
    frame = Frame(nb_states, nb_substeps, laid.interval_s, cell)
    problem = make_problem(laid, frame, window, exposure_s, workers)
    return fit(params, problem, _say if verbose else _say_nothing)


#: Called with each step's parameters and log-likelihood.
Tell = Callable[[dict[str, float], float], None]


def _say(values: dict[str, float], loglik: float) -> None:
    said = ", ".join(f"{name} {value:.5g}" for name, value in values.items())
    sys.stderr.write(f"-ln L {-loglik:.4f}: {said}\n")


def _say_nothing(values: dict[str, float], loglik: float) -> None:
    pass


def fit(params: Parameters, problem: Problem, tell: Tell = _say_nothing) -> MinimizerResult:
    """Fit the varying parameters; fill the result."""
    space = _space(params)
    bounds = (space.low, space.high)
    near, passes = space.start, 0
    if problem.rule.window > problem.frame.n_sub + COARSE:
        rule = problem.rule._replace(window=problem.frame.n_sub + COARSE)
        coarse = space.evaluator(problem._replace(rule=rule), tell)
        first = climb(near, bounds, coarse, CLOSE)
        near, passes = first.x, first.n_passes
    summit = climb(near, bounds, space.evaluator(problem, tell))
    summit = summit._replace(n_passes=summit.n_passes + passes)
    silent = np.asarray((summit.scores == 0).all(axis=0))
    quiet = [name for name, none in zip(space.names, silent, strict=True) if none]
    known = summit._replace(held=summit.held | silent)
    covar, how = _covariance(known, space, problem)
    bound = [name for name, held in zip(space.names, summit.held & ~silent, strict=True) if held]
    said = [
        "the summit is reached" if summit.converged else "stopped before the summit was reached",
        *([how] if how else []),
        *([f"at a bound: {', '.join(bound)}"] if bound else []),
        *([f"the data say nothing of {', '.join(quiet)}"] if quiet else []),
    ]
    return _result(params, problem, space, known, (covar, "; ".join(said)))


class Space(NamedTuple):
    """The varying parameters as a vector, in their own units.

    Attributes
    ----------
    names : list of str
    start, low, high : (q,) float64
    free : lmfit.Parameters
        A copy without bounds, which evaluates expressions.
    """

    names: list[str]
    start: Array
    low: Array
    high: Array
    free: Any

    def values(self, x: Array) -> dict[str, float]:
        """Return all parameters' values at x."""
        for name, value in zip(self.names, x, strict=True):
            self.free[name].value = float(value)
        return {name: float(self.free[name].value) for name in self.free}

    def nudges(self, x: Array) -> Array:
        """Return how far each is moved to differentiate the tables."""
        width = np.where(np.isfinite(self.high - self.low), self.high - self.low, np.abs(x))
        return np.maximum(1e-6 * np.abs(x), 1e-9 * np.maximum(width, 1e-9))

    def evaluator(self, problem: Problem, tell: Tell) -> Any:
        """Return the function that `climb` wants; each step is told."""
        empty = np.zeros((problem.laid.n_tracks, len(self.names)))

        def evaluate(x: Array, sloped: bool) -> tuple[float, Array]:
            values = self.values(x)
            if make_tables(values, problem.frame) is None:
                return -np.inf, empty
            if not sloped:
                total = float(loglik_of_tracks(values, problem).sum())
                return total if np.isfinite(total) else -np.inf, empty
            loglik, slopes = scores(x, self.values, problem, self.nudges(x))
            total = float(loglik.sum())
            tell(values, total)
            fine = np.isfinite(total) and bool(np.isfinite(slopes).all())
            return (total, slopes) if fine else (-np.inf, empty)

        return evaluate


def _space(params: Parameters) -> Space:
    names = [name for name in params if params[name].vary and params[name].expr is None]
    if not names:
        raise RefitError("params: none varies")
    low = np.array([params[name].min for name in names], dtype=np.float64)
    high = np.array([params[name].max for name in names], dtype=np.float64)
    start = np.array([params[name].value for name in names], dtype=np.float64)
    inside = np.where(np.isfinite(high - low), high - low, 0.0) * INSIDE
    start = np.clip(start, low + inside, high - inside)
    free = copy.deepcopy(params)
    for name in free:
        free[name].set(min=-np.inf, max=np.inf)
    return Space(names, start, low, high, free)


def _covariance(summit: Summit, space: Space, problem: Problem) -> tuple[Array | None, str]:
    """Return the covariance of the parameters that no bound holds, and where it is from."""
    free = np.flatnonzero(~summit.held)
    if free.size == 0:
        return None, "no standard errors: no parameter is free"
    outer = (summit.scores.T @ summit.scores)[np.ix_(free, free)]
    curvature = _curvature(summit, free, outer, space, problem)
    for matrix, how in ((curvature, ""), (outer, "standard errors from the tracks' own slopes")):
        scale = np.sqrt(np.maximum(np.diag(matrix), 1e-300))
        scaled = matrix / np.outer(scale, scale)
        if np.isfinite(scaled).all() and np.linalg.eigvalsh(scaled)[0] > 1e-10:
            return np.linalg.inv(scaled) / np.outer(scale, scale), how
    return None, "no standard errors: the data do not tell the parameters apart"


def _curvature(
    summit: Summit, free: NDArray[np.int64], outer: Array, space: Space, problem: Problem
) -> Array:
    """Return minus the second derivatives, from slopes a little way off, on the inner side."""
    out = np.empty((free.size, free.size))
    here = summit.scores.sum(axis=0)[free]
    error = 1.0 / np.sqrt(np.maximum(np.diag(outer), 1e-300))
    for row, a in enumerate(free):
        stride = STRIDE * error[row]
        stride = -stride if summit.x[a] + stride > space.high[a] else stride
        moved = summit.x.copy()
        moved[a] += stride
        if make_tables(space.values(moved), problem.frame) is None:
            return outer * np.nan
        _, slopes = scores(moved, space.values, problem, space.nudges(moved))
        out[row] = (here - slopes.sum(axis=0)[free]) / stride
    return 0.5 * (out + out.T)


def _result(
    params: Parameters,
    problem: Problem,
    space: Space,
    summit: Summit,
    covariance: tuple[Array | None, str],
) -> MinimizerResult:
    from lmfit.minimizer import MinimizerResult

    covar, message = covariance
    fitted = copy.deepcopy(params)
    for name, value in zip(space.names, summit.x, strict=True):
        fitted[name].value = float(value)
    _set_errors(fitted, space, summit, covar)
    n_data, q, loss = problem.laid.n_seen - problem.laid.n_tracks, len(space.names), -summit.loglik
    return MinimizerResult(
        params=fitted, success=bool(summit.converged), status=0 if summit.converged else 1,
        message=message, method="scoring", aborted=False, nfev=summit.n_passes,
        nit=summit.n_steps, var_names=list(space.names), nvarys=q,
        init_vals=[float(params[name].value) for name in space.names],
        init_values={name: float(params[name].value) for name in space.names},
        residual=np.array([loss]), ndata=n_data, nfree=n_data - q, chisqr=loss**2,
        redchi=loss**2 / max(1, n_data - q), aic=2 * q + 2 * loss,
        bic=q * float(np.log(max(n_data, 1))) + 2 * loss, errorbars=covar is not None,
        covar=_whole(covar, summit, q), call_kws={},
    )  # fmt: skip


def _whole(covar: Array | None, summit: Summit, q: int) -> Array | None:
    """Return the covariance of all varying parameters, 0 for those that a bound holds."""
    if covar is None:
        return None
    whole, free = np.zeros((q, q)), np.flatnonzero(~summit.held)
    whole[np.ix_(free, free)] = covar
    return whole


def _set_errors(fitted: Any, space: Space, summit: Summit, covar: Array | None) -> None:
    """Give every parameter its standard error, those with expressions by propagation."""
    if covar is None:
        return
    free = np.flatnonzero(~summit.held)
    names = [space.names[a] for a in free]
    sd = np.sqrt(np.diag(covar))
    for row, name in enumerate(names):
        fitted[name].stderr = float(sd[row])
        fitted[name].correl = {
            other: float(covar[row, column] / (sd[row] * sd[column]))
            for column, other in enumerate(names)
            if other != name
        }
    slopes = {name: np.zeros(free.size) for name in fitted}
    for row, a in enumerate(free):
        nudge = 1e-3 * sd[row]
        sides = []
        for sign in (1.0, -1.0):
            moved = summit.x.copy()
            moved[a] += sign * nudge
            sides.append(space.values(moved))
        for name in fitted:
            slopes[name][row] = (sides[0][name] - sides[1][name]) / (2 * nudge)
    for name in fitted:
        if fitted[name].expr is not None:
            fitted[name].stderr = float(np.sqrt(slopes[name] @ covar @ slopes[name]))
