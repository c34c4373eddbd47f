"""Tracks as ExTrack takes them, checked and laid out for the kernels.

`tracks` is a dict {str(T): (n, T, d)} of positions in um, or a list of (T, d) arrays of any
lengths. A row of NaN is a frame in which the molecule was not seen; those before the first and
after the last position are cut off. Tracks with one position tell nothing about motion: they are
counted and left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from livespt.refit.extrack.arrays import Array, Ints, Series
from livespt.refit.result import RefitError


class Laid(NamedTuple):
    """Tracks in one flat series, and where they came from.

    Attributes
    ----------
    series : Series
    error_um : (n, d) float64 or None
        `input_LocErr` of each row; 0 where nothing was seen.
    origin : (n_tracks, 3) int64
        Which group (key or list entry), which track of it, and the first row used.
    shapes : list of (key, n, T)
        Of the groups.
    left_out : dict of str to int
    interval_s : float
        Median time between rows.
    """

    series: Series
    error_um: Array | None
    origin: Ints
    shapes: list[tuple[str, int, int]]
    left_out: dict[str, int]
    interval_s: float

    @property
    def n_tracks(self) -> int:
        """Number of tracks that are used."""
        return self.series.first.size - 1

    @property
    def n_seen(self) -> int:
        """Number of positions that are used."""
        return int(self.series.seen.sum())


def lay_out(tracks: Any, dt: Any, errors: Any = None, name: str = "all_tracks") -> Laid:
    """Check tracks, times and errors, and put them in one series.

    Parameters
    ----------
    tracks : dict of str to (n, T, d), or sequence of (T, d)
        Positions (um); NaN where the molecule was not seen.
    dt : float, or of the tracks' own form with (n, T) or (n, T - 1)
        Time (s) from each position to the next.
    errors : of the tracks' own form, with (n, T, d), (n, T, 1) or (n, T), optional
        `input_LocErr`: standard error (um), or what stands for it.

    Raises
    ------
    RefitError
        Shapes or values that cannot be used, by key.
    """
    groups = _groups(tracks, name)
    times = None if np.isscalar(dt) else _as_dict(dt)
    if times is None:
        _check_interval(dt)
    given = None if errors is None else _as_dict(errors)
    n_dims = next(iter(groups.values())).shape[2]
    parts: list[tuple[Array, NDArray[np.bool_], Array, Array | None]] = []
    origin: list[tuple[int, int, int]] = []
    short = 0
    for index, (key, group) in enumerate(groups.items()):
        if group.shape[2] != n_dims:
            raise RefitError(f"{name}['{key}']: {group.shape[2]} dimensions; expected {n_dims}")
        dts = _times_of(times, key, group.shape, dt)
        errs = _errors_of(given, key, group.shape)
        for i, track in enumerate(group):
            seen = np.isfinite(track).all(axis=1)
            rows = np.flatnonzero(seen)
            if rows.size < 2:
                short += 1
                continue
            part = slice(int(rows[0]), int(rows[-1]) + 1)
            error = None if errs is None else errs[i, part]
            _check_errors(error, seen[part], key, i)
            parts.append((track[part], seen[part], _checked_times(dts[i], part, key, i), error))
            origin.append((index, i, int(rows[0])))
    if not parts:
        raise RefitError(f"{name}: no track with two positions ({short} with fewer)")
    shapes = [(key, group.shape[0], group.shape[1]) for key, group in groups.items()]
    series = _series([part[:3] for part in parts])
    error = None
    if given is not None:
        filled = [np.where(p[1][:, None], p[3], 0.0) for p in parts if p[3] is not None]
        error = np.concatenate(filled)
    inside = np.ones(series.dt_s.size, bool)
    inside[series.first[1:] - 1] = False
    interval = float(np.median(series.dt_s[inside]))
    left_out = {"fewer than two positions": short}
    return Laid(
        series, error, np.array(origin, dtype=np.int64), shapes, left_out, interval
    )  # fmt: skip


def _check_interval(dt: Any) -> None:
    try:
        fine = 0 < float(dt) < np.inf
    except (TypeError, ValueError):
        fine = False
    if not fine:
        raise RefitError(f"dt: {dt!r}; expected the time between frames in seconds, above 0")


def _series(parts: list[tuple[Array, NDArray[np.bool_], Array]]) -> Series:
    first = np.cumsum([0, *(len(part[0]) for part in parts)]).astype(np.int64)
    seen = np.concatenate([part[1] for part in parts])
    x = np.concatenate([part[0] for part in parts])
    x = np.ascontiguousarray(np.where(seen[:, None], x, 0.0), dtype=np.float64)
    return Series(first, x, seen, np.concatenate([part[2] for part in parts]))


def _as_dict(values: Any) -> Mapping[Any, Any]:
    if isinstance(values, Mapping):
        return values
    return {str(i): np.asarray(value, dtype=np.float64)[None] for i, value in enumerate(values)}


def _groups(tracks: Any, name: str) -> dict[str, Array]:
    """Return (n, T, d) by key, the keys of a dict by length as ExTrack sorts them."""
    if not isinstance(tracks, (Mapping, Sequence, np.ndarray)):
        raise RefitError(f"{name}: a {type(tracks).__name__}; expected a dict or a list of arrays")
    named = {} if len(tracks) == 0 else _as_dict(tracks)
    if isinstance(tracks, Mapping) and all(str(key).isdigit() for key in named):
        named = {key: named[key] for key in sorted(named, key=int)}
    groups = {}
    for key, value in named.items():
        if len(value) == 0:
            continue
        try:
            group = np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError):
            raise RefitError(f"{name}['{key}']: not one array of numbers (n, T, d)") from None
        if group.ndim != 3 or not 1 <= group.shape[2] <= 3:
            raise RefitError(f"{name}['{key}']: shape {group.shape}; expected (n, T, 1 to 3)")
        if isinstance(tracks, Mapping) and str(key).isdigit() and int(key) != group.shape[1]:
            raise RefitError(f"{name}['{key}']: {group.shape[1]} positions a track, not {key}")
        groups[str(key)] = group
    if not groups:
        raise RefitError(f"{name}: no tracks")
    return groups


def _times_of(times: Mapping[Any, Any] | None, key: str, shape: tuple[int, ...], dt: Any) -> Array:
    n, T, _ = shape
    if times is None:
        return np.full((n, T), float(dt))
    found = _find(times, "dt", key)
    if found.shape == (n, T - 1):
        found = np.concatenate([found, found[:, -1:]], axis=1)
    if found.shape != (n, T):
        raise RefitError(f"dt['{key}']: shape {found.shape}; expected {(n, T)} or {(n, T - 1)}")
    return found


def _checked_times(dts: Array, part: slice, key: str, i: int) -> Array:
    dts = dts[part].copy()
    dts[-1] = dts[0]  # after the last position: never used
    if not (np.isfinite(dts) & (dts > 0)).all():
        raise RefitError(f"dt['{key}'][{i}]: expected times above 0 between all positions")
    return dts


def _errors_of(given: Mapping[Any, Any] | None, key: str, shape: tuple[int, ...]) -> Array | None:
    if given is None:
        return None
    found = _find(given, "input_LocErr", key)
    if found.ndim == 2:
        found = found[..., None]
    if found.ndim != 3 or found.shape[:2] != shape[:2] or found.shape[2] not in (1, shape[2]):
        raise RefitError(f"input_LocErr['{key}']: shape {found.shape}; expected {shape}")
    return np.broadcast_to(found, shape)


def _check_errors(error: Array | None, seen: NDArray[np.bool_], key: str, i: int) -> None:
    if error is not None and not np.isfinite(error[seen]).all():
        raise RefitError(f"input_LocErr['{key}'][{i}]: not a number where a position is given")


def _find(values: Mapping[Any, Any], name: str, key: str) -> Array:
    for known in (key, int(key) if key.isdigit() else key):
        if known in values:
            return np.asarray(values[known], dtype=np.float64)
    has = ", ".join(map(str, values))
    raise RefitError(f"{name}: no entry '{key}' as the tracks have (has: {has})")
