"""Tracks from tables and from TrackMate's simple XML, into ExTrack's dicts by length.

XML that declares a document type or entities is refused before it is parsed.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from livespt.refit.extrack.arrays import Array
from livespt.refit.result import RefitError

Dicts = tuple[dict[str, Array], dict[str, Array], dict[str, dict[str, Array]]]
#: Share of coordinates that repeat exactly from which on a track in a table counts as not moving.
STILL = 0.05


class Filter(NamedTuple):
    """Which tracks are kept.

    Attributes
    ----------
    lengths : sorted list of int
        Longer tracks are cut to the longest; others that are not listed, to the next shorter.
    dist_th : float
        Longest step (um).
    frames : (2,)
        First and last frame in which a track may begin.
    remove_still : bool
    """

    lengths: list[int]
    dist_th: float
    frames: Sequence[float]
    remove_still: bool

    def length_of(self, track: Array, frame: Array) -> int:
        """Return how many positions are kept; 0: none."""
        step = np.diff(track, axis=0)
        if not self.frames[0] <= frame[0] <= self.frames[1]:
            return 0
        if len(step) and np.sqrt((step**2).sum(axis=1)).max() >= self.dist_th:
            return 0
        if self.remove_still and len(step) and (step == 0).mean() > STILL:
            return 0
        fitting = [length for length in self.lengths if length <= len(track)]
        return fitting[-1] if fitting else 0


def read_table(
    paths: str | Path | Sequence[str | Path],
    lengths: Iterable[int] = range(5, 40),
    dist_th: float = np.inf,
    frames_boundaries: Sequence[float] = (-np.inf, np.inf),
    fmt: str = "csv",
    colnames: Sequence[Any] = ("POSITION_X", "POSITION_Y", "FRAME", "TRACK_ID"),
    opt_colnames: Sequence[str] = (),
    remove_no_disp: bool = True,
) -> Dicts:
    """Read tracks from text tables with a header.

    Parameters
    ----------
    paths : path or sequence of paths
        Tracks of different files are never joined.
    lengths : iterable of int
    dist_th, frames_boundaries
        As `Filter`.
    fmt : str
        "csv", or the separator itself.
    colnames : sequence of str
        Coordinates (um), the frame, the track; the last may be a list of columns that tell tracks
        apart together. Rows without a track ("", "None", "nan") are left out.
    opt_colnames : sequence of str
        More columns to keep.
    remove_no_disp : bool
        Leave out tracks of which more than 5 % of the steps along an axis are exactly 0.

    Returns
    -------
    tracks, frames, opt_metrics
        {str(T): (n, T, d)}, {str(T): (n, T)}, {column: {str(T): (n, T)}}.

    Raises
    ------
    RefitError
        A file or column that cannot be read, by name.
    """
    if fmt == "pkl":
        raise RefitError("fmt 'pkl': pickles run code when they are read; expected 'csv'")
    keep = _filter(lengths, dist_th, frames_boundaries, remove_no_disp)
    store = _Store(list(opt_colnames))
    by = [colnames[-1]] if isinstance(colnames[-1], str) else list(colnames[-1])
    wanted = [*colnames[:-1], *opt_colnames]
    for path in _listed(paths):
        table = _columns(Path(path), "," if fmt == "csv" else fmt, [*wanted, *by])
        names = list(zip(*(table[name] for name in by), strict=True))
        known = [all(part not in ("", "None", "nan", "NaN") for part in name) for name in names]
        rows = np.flatnonzero(known)
        values = {name: _numbers(table[name], rows, name, path) for name in wanted}
        groups: dict[tuple[str, ...], list[int]] = {}
        for at, row in enumerate(rows):
            groups.setdefault(names[row], []).append(at)
        for members in groups.values():
            frame = values[colnames[-2]][members]
            order = np.array(members)[np.argsort(frame, kind="stable")]
            track = np.stack([values[name][order] for name in colnames[:-2]], axis=1)
            extra = [values[name][order] for name in opt_colnames]
            store.add(track, values[colnames[-2]][order], extra, keep)
    return store.dicts()


def read_trackmate_xml(
    paths: str | Path | Sequence[str | Path],
    lengths: Iterable[int] = range(5, 40),
    dist_th: float = 0.5,
    frames_boundaries: Sequence[float] = (-np.inf, np.inf),
    remove_no_disp: bool = True,
    opt_metrics_names: Sequence[str] = ("t", "x"),
    opt_metrics_types: Sequence[Any] | None = None,
) -> Dicts:
    """Read tracks that TrackMate exported to its simple XML; arguments as in `read_table`.

    `opt_metrics_names` are attributes of the detections; `opt_metrics_types` their types (float64).

    Raises
    ------
    RefitError
        A file that is not such XML, or declares entities; a detection without t, x or y.
    """
    keep = _filter(lengths, dist_th, frames_boundaries, remove_no_disp)
    store = _Store(list(opt_metrics_names), opt_metrics_types)
    for path in _listed(paths):
        for number, particle in enumerate(_particles(Path(path))):
            spots = particle.findall("detection")
            where = f"{path}: particle {number + 1}"
            frame = _attributes(spots, "t", where)
            axes = "xyz" if spots and "z" in spots[0].attrib and _deep(spots) else "xy"
            track = np.stack([_attributes(spots, axis, where) for axis in axes], axis=1)
            extra = [_attributes(spots, name, where) for name in opt_metrics_names]
            if len(spots):
                store.add(track, frame, extra, keep)
    return store.dicts()


def _deep(spots: list[ET.Element]) -> bool:
    return any(spot.attrib.get("z", "0") not in ("0", "0.0") for spot in spots)


def _particles(path: Path) -> list[ET.Element]:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise RefitError(f"{path}: {error.strerror or error}") from None
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text or b"\x00" in text:
        raise RefitError(f"{path}: declares a document type or entities; expected plain XML")
    try:
        root = ET.fromstring(text)  # noqa: S314 (no document type: no entities to expand)
    except (ET.ParseError, ValueError, LookupError) as error:
        raise RefitError(f"{path}: not XML ({error})") from None
    if root.tag != "Tracks":
        raise RefitError(f"{path}: <{root.tag}>; expected TrackMate's <Tracks> (its simple export)")
    return root.findall("particle")


def _attributes(spots: list[ET.Element], name: str, where: str) -> Array:
    try:
        found = np.array([float(spot.attrib[name]) for spot in spots])
    except KeyError:
        raise RefitError(f"{where}: a detection without '{name}'") from None
    except ValueError as error:
        raise RefitError(f"{where}: '{name}' is not a number ({error})") from None
    if not np.isfinite(found).all():
        raise RefitError(f"{where}: '{name}' is not finite")
    return found


def _filter(lengths: Iterable[int], dist_th: float, frames: Sequence[float], still: bool) -> Filter:
    kept = sorted({int(length) for length in lengths})
    if not kept or kept[0] < 1:
        raise RefitError(f"lengths: {kept}; expected positive numbers")
    return Filter(kept, dist_th, frames, still)


def _listed(paths: Any) -> list[Any]:
    return [paths] if isinstance(paths, (str, Path)) else list(paths)


def _columns(path: Path, separator: str, wanted: Sequence[str]) -> dict[str, list[str]]:
    import csv

    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            if len(separator) == 1:
                rows = list(csv.reader(file, delimiter=separator))
            else:
                rows = [line.split(separator) for line in file.read().splitlines()]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RefitError(f"{path}: cannot be read ({error})") from None
    header = [name.strip() for name in rows[0]] if rows else []
    missing = [name for name in wanted if name not in header]
    if missing:
        raise RefitError(
            f"{path}: no column '{missing[0]}' (has: {', '.join(header) or 'nothing'})"
        )
    body = [row for row in rows[1:] if row]
    for number, row in enumerate(body):
        if len(row) < len(header):
            raise RefitError(f"{path}: row {number + 2} has {len(row)} of {len(header)} columns")
    return {name: [row[header.index(name)].strip() for row in body] for name in wanted}


def _numbers(column: list[str], rows: NDArray[np.intp], name: str, path: Any) -> Array:
    out = np.empty(len(rows))
    for at, row in enumerate(rows):
        try:
            out[at] = float(column[row])
        except ValueError:
            raise RefitError(
                f"{path}: column '{name}', row {row + 2}: '{column[row]}' is not a number"
            ) from None
    if not np.isfinite(out).all():
        row = rows[np.flatnonzero(~np.isfinite(out))[0]]
        raise RefitError(f"{path}: column '{name}', row {row + 2} is not finite")
    return out


class _Store:
    """Tracks, frames and metrics, by length."""

    def __init__(self, names: list[str], types: Sequence[Any] | None = None) -> None:
        self._names, self._types = names, types or ["float64"] * len(names)
        self._rows: dict[int, list[tuple[Array, Array, list[Array]]]] = {}

    def add(self, track: Array, frame: Array, extra: list[Array], keep: Filter) -> None:
        if T := keep.length_of(track, frame):
            cut = [values[:T] for values in extra]
            self._rows.setdefault(T, []).append((track[:T], frame[:T], cut))

    def dicts(self) -> Dicts:
        def by_length(pick: Callable[[Any], Array], kind: Any = "float64") -> dict[str, Array]:
            rows = sorted(self._rows.items())
            return {str(T): np.array([pick(row) for row in part]).astype(kind) for T, part in rows}

        metrics = {
            name: by_length(lambda row, at=at: row[2][at], self._types[at])
            for at, name in enumerate(self._names)
        }
        return by_length(lambda row: row[0]), by_length(lambda row: row[1]), metrics
