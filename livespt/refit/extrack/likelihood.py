"""The likelihood of all tracks and its slopes in the parameters.

The kernels differentiate in the tables and in each position's variance; what these do when a
parameter moves is found by small differences of the tables themselves, so that any expression of
lmfit may tie parameters together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from livespt.refit.extrack.arrays import (
    Array,
    Rule,
    Slopes,
    Tables,
    lay_work,
    make_slopes,
    n_sequences,
)
from livespt.refit.extrack.model import Frame, error_names, error_variance, make_tables
from livespt.refit.extrack.series import Laid
from livespt.refit.extrack.slopekernels import slopes_of_tracks
from livespt.refit.extrack.windowkernels import run_tracks
from livespt.refit.result import RefitError

#: Scratch beyond this is refused: the window is too long.
MOST_BYTES = 2e9


class Problem(NamedTuple):
    """Tracks, and everything about a model but its parameters' values."""

    laid: Laid
    frame: Frame
    rule: Rule
    workers: int


def make_problem(
    laid: Laid, frame: Frame, window: int, exposure_s: float = 0.0, workers: int = 1
) -> Problem:
    """Check the settings and put them together.

    Raises
    ------
    RefitError
        A setting out of its range.
    """
    rows = np.diff(laid.series.first)
    if frame.n_states < 1 or frame.n_sub < 1 or window < 2 or workers < 1:
        raise RefitError(
            f"nb_states {frame.n_states}, nb_substeps {frame.n_sub}, frame_len {window}, "
            f"workers {workers}; expected at least 1, 1, 2 and 1"
        )
    if not 0 <= exposure_s <= laid.series.dt_s.min() * (1 + 1e-9):
        raise RefitError(f"exposure_s: {exposure_s:g}; expected 0 to the time between frames")
    if not all(np.isfinite(side) and side > 0 for side in frame.cell_um):
        raise RefitError(f"cell_dims: {list(frame.cell_um)}; expected lengths in um, above 0")
    rule = Rule(
        frame.n_states, frame.n_sub, window, int(rows.min()), int(rows.max()), float(exposure_s)
    )
    bytes_needed = 8 * n_sequences(rule) * rule.longest * (2 * laid.series.x_um.shape[1] + 2)
    if bytes_needed > MOST_BYTES:
        raise RefitError(
            f"frame_len {window}: needs {bytes_needed / 1e9:.0f} GB with {frame.n_states} states "
            f"and {rule.longest} frames; expected less than {MOST_BYTES / 1e9:.0f} GB"
        )
    return Problem(laid, frame, rule, workers)


def variances(values: Mapping[str, float], laid: Laid) -> Array:
    """Return each row's variance; 1 where nothing was seen.

    Raises
    ------
    RefitError
        A given error that is not above 0.
    """
    var = error_variance(values, laid.error_um, laid.series.x_um.shape)
    seen = laid.series.seen
    if not seen.all():
        var = np.where(seen[:, None], var, 1.0)
    if not (var > 0).all():
        raise RefitError("localization error: not above 0 at every position")
    return var


def loglik_of_tracks(values: Mapping[str, float], problem: Problem) -> Array:
    """Return the log-likelihood of each track; -inf where the parameters are no model."""
    out = np.full(problem.laid.n_tracks, -np.inf)
    tables = make_tables(values, problem.frame)
    if tables is not None:
        var, series = variances(values, problem.laid), problem.laid.series

        def run(tracks: np.ndarray) -> None:
            at = lay_work(problem.rule, series.x_um.shape[1])
            run_tracks((series, var), tables, problem.rule, tracks, np.zeros(at.size), at, out)

        _share_out(run, problem)
    return out


def slopes_at(values: Mapping[str, float], problem: Problem) -> tuple[Array, Slopes, Tables, Array]:
    """Return log-likelihoods, slopes, the tables and variances they belong to.

    Raises
    ------
    RefitError
        The parameters are no model.
    """
    tables = make_tables(values, problem.frame)
    if tables is None:
        raise RefitError("params: a probability is below 0 at these values")
    slopes = make_slopes(problem.laid.series, problem.rule)
    var = variances(values, problem.laid)
    return run_slopes(problem, tables, var, slopes), slopes, tables, var


def run_slopes(problem: Problem, tables: Tables, var: Array, slopes: Slopes) -> Array:
    """Fill the slopes; return the log-likelihood of each track."""
    series, rule, out = problem.laid.series, problem.rule, np.zeros(problem.laid.n_tracks)

    def run(tracks: np.ndarray) -> None:
        at = lay_work(rule, series.x_um.shape[1])
        w = np.zeros(at.size)
        slopes_of_tracks((series, var), tables, rule, tracks, w, at, (out, slopes))

    _share_out(run, problem)
    return out


def _share_out(run: Callable[[np.ndarray], None], problem: Problem) -> None:
    tracks = np.arange(problem.laid.n_tracks, dtype=np.int64)
    if problem.workers == 1:
        run(tracks)
        return
    # contiguous: another layout would be another compilation
    parts = [tracks[i :: problem.workers].copy() for i in range(problem.workers)]
    with ThreadPoolExecutor(problem.workers) as pool:
        list(pool.map(run, parts))


Values = Callable[[Array], dict[str, float]]


def scores(x: Array, values_of: Values, problem: Problem, nudges: Array) -> tuple[Array, Array]:
    """Return each track's log-likelihood (n_tracks,) and its slope in x (n_tracks, q)."""
    values = values_of(x)
    loglik, slopes, tables, _ = slopes_at(values, problem)
    out = np.empty((loglik.size, x.size))
    where, names = problem.laid.series.first[:-1], error_names(list(values))
    for a in range(x.size):
        there, back, width = _beside(x, a, nudges[a], values_of, problem.frame)
        d_tables = _logs(_tables(there, problem), tables) - _logs(_tables(back, problem), tables)
        out[:, a] = slopes.tables @ (d_tables / width)
        if any(there[name] != back[name] for name in names):
            d_var = (variances(there, problem.laid) - variances(back, problem.laid)) / width
            out[:, a] += np.add.reduceat((slopes.var * d_var).sum(axis=1), where)
    return loglik, out


def _beside(
    x: Array, a: int, nudge: float, values_of: Values, frame: Frame
) -> tuple[dict[str, float], dict[str, float], float]:
    """Return the values on either side of x in parameter a, and how far apart they are.

    At the edge of what is a model, x itself takes the place of the side beyond.
    """
    found, places = [], []
    for sign in (1.0, -1.0):
        moved = x.copy()
        moved[a] += sign * nudge
        values = values_of(moved)
        if make_tables(values, frame) is None:
            moved = x.copy()
            values = values_of(moved)
        found.append(values)
        places.append(moved[a])
    return found[0], found[1], places[0] - places[1]


def _tables(values: Mapping[str, float], problem: Problem) -> Tables:
    tables = make_tables(values, problem.frame)
    if tables is None:
        raise RefitError("params: a probability is below 0 at these values")
    return tables


def _logs(tables: Tables, at: Tables) -> Array:
    """Stack what `Slopes.tables` differentiates in, logs linearised at `at`."""

    def log(moved: Array, here: Array) -> Array:
        return moved / np.maximum(here, 1e-300)

    return np.concatenate(
        [
            log(tables.start, at.start),
            log(tables.step, at.step),
            log(tables.survive, at.survive),
            tables.D_um2_s,
            log(tables.end, at.end),
        ]
    )
