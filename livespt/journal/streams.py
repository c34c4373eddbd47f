"""What the journal writes down: one dtype per stream.

==========  ==========================================================================
stream      one row per
==========  ==========================================================================
spots       fitted spot, accepted or not, in the order of `Spots.table`
links       the same spot: its track
ended       track given up
revised     spot of an earlier frame that was given to another track
estimates   track seen in a frame
models      frame: the pooled answer
frames      frame, also one without spots; written after all of the above
events      event
counters    counter and moment
==========  ==========================================================================
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from livespt.journal.columns import from_columns
from livespt.journal.folder import JournalError
from livespt.types import (
    REVISION_DTYPE,
    SPOT_DTYPE,
    Estimates,
    Event,
    Links,
    Model,
    Spots,
    track_dtype,
)

T = TypeVar("T", Links, Model)

_MOMENT = [("frame", "i8"), ("t_s", "f8")]
_MOMENT_BYTES = 16


def _with_moment(dtype: np.dtype) -> np.dtype:
    fields = [(name, dtype[name].base, dtype[name].shape) for name in dtype.names or ()]
    return np.dtype([*_MOMENT, *fields])


SPOTS = _with_moment(SPOT_DTYPE)
LINKS = np.dtype([("frame", "i8"), ("track_id", "i8"), ("p_link", "f8")])
ENDED = np.dtype([("frame", "i8"), ("track_id", "i8")])
#: `frame` is when it was told, (`of_frame`, `row`) the spot.
REVISED = np.dtype(
    [("frame", "i8"), ("of_frame", "i8"), ("row", "i8"), ("track_id", "i8"), ("p_link", "f8")]
)
_NONE_REVISED: NDArray[np.void] = np.empty(0, REVISED)
FRAMES = np.dtype(
    [
        *_MOMENT,
        ("exposure_s", "f8"),
        ("excitation", "f8"),
        ("n_spots", "i8"),
        ("latency_ms", "f8"),
    ]
)
EVENTS = np.dtype(
    [
        ("kind", "O"),
        ("t_s", "f8"),
        ("frame", "i8"),
        ("n_frames", "i8"),
        ("message", "O"),
        ("name", "O"),
        ("before", "f8"),
        ("after", "f8"),
    ]
)
COUNTERS = np.dtype([("t_s", "f8"), ("name", "O"), ("value", "f8")])

#: In the order in which they are written: a frame's own row comes after all that belongs to it.
NAMES = (
    "spots",
    "links",
    "ended",
    "revised",
    "estimates",
    "models",
    "frames",
    "events",
    "counters",
)


@functools.lru_cache(maxsize=16)
def estimates_dtype(n_states: int) -> np.dtype:
    """Return the dtype of the stream `estimates`."""
    return _with_moment(track_dtype(n_states))


@functools.lru_cache(maxsize=16)
def models_dtype(n_states: int, n_lags: int) -> np.dtype:
    """Return the dtype of the stream `models`."""
    k = n_states
    return np.dtype(
        [
            *_MOMENT,
            ("D_um2_s", "f8", (k,)),
            ("D_95", "f8", (k, 2)),
            ("occupancy", "f8", (k,)),
            ("occupancy_95", "f8", (k, 2)),
            ("p_switch", "f8", (k, k)),
            ("p_switch_95", "f8", (k, k, 2)),
            ("rate_per_s", "f8", (k, k)),
            ("error_scale", "f8"),
            ("error_scale_95", "f8", (2,)),
            ("occupancy_lag", "f8", (n_lags, k)),
            ("lags", "i8", (n_lags,)),
            ("interval_s", "f8"),
            ("n_steps", "i8"),
            ("n_tracks", "i8"),
            ("status", "O"),
        ]
    )


def known_dtypes(n_states: int) -> dict[str, np.dtype]:
    """Return the dtypes known before the first frame; 0 states: their number is not."""
    known = {"spots": SPOTS, "links": LINKS, "ended": ENDED, "revised": REVISED, "frames": FRAMES}
    known |= {"events": EVENTS, "counters": COUNTERS}
    return known | ({"estimates": estimates_dtype(n_states)} if n_states else {})


class Answer(NamedTuple):
    """One frame's answer as it waits to be written down: copies, so that nothing is shared."""

    frame: int
    t_s: float
    exposure_s: float
    excitation: float
    latency_ms: float
    n_spots: int
    spots: bytes
    links: Links
    n_estimates: int
    estimates: bytes
    model: Model


def answer_of(
    spots: Spots, links: Links, estimates: Estimates, latency_ms: float, n_states: int = 0
) -> Answer:
    """Keep one frame's answer; with `n_states`, in columns for so many states, the rest zero.

    Raises
    ------
    JournalError
        A table has other columns than its stream.
    """
    if n_states > len(estimates.model.D_um2_s):
        estimates = _widened(estimates, n_states)
    model, table = _copied(estimates.model), estimates.table
    _check_columns(spots.frame, spots.table, SPOTS)
    _check_columns(spots.frame, table, estimates_dtype(len(model.D_um2_s)))
    return Answer(
        spots.frame, spots.t_s, spots.exposure_s, spots.excitation, latency_ms,
        len(spots.table), spots.table.tobytes(), _copied(links), len(table), table.tobytes(), model,
    )  # fmt: skip


def _copied(values: T) -> T:
    """Copy the arrays of a named tuple."""
    copies: Any = [v.copy() if isinstance(v, np.ndarray) else v for v in values]
    return type(values)(*copies)


def answer_rows(answers: Sequence[Answer]) -> dict[str, list[NDArray[np.void]]]:
    """Turn the answers of some frames into tables of rows for each stream.

    One table each, unless the number of states changed on the way: a second of answers costs
    hardly more than one.
    """
    rows: dict[str, list[NDArray[np.void]]] = {}
    for (n_states, n_lags), alike in itertools.groupby(answers, _model_shape):
        for name, table in _rows_alike(list(alike), n_states, n_lags).items():
            if len(table):
                rows.setdefault(name, []).append(table)
    return rows


def _model_shape(answer: Answer) -> tuple[int, int]:
    return len(answer.model.D_um2_s), len(answer.model.lags)


def _rows_alike(answers: list[Answer], n_states: int, n_lags: int) -> dict[str, NDArray[np.void]]:
    """Turn answers whose models have one shape into rows of each stream."""
    moments = {name: np.array([getattr(a, name) for a in answers]) for name, _ in _MOMENT}
    n_spots = np.array([a.n_spots for a in answers])
    n_tracks = np.array([a.n_estimates for a in answers])
    per_spot, per_track = _repeated(moments, n_spots), _repeated(moments, n_tracks)
    links = [a.links for a in answers]
    n_ended = [len(each.ended) for each in links]
    link_columns = {
        "frame": per_spot["frame"],
        "track_id": np.concatenate([each.track_id for each in links]),
        "p_link": np.concatenate([each.p_link for each in links]),
    }
    ended = {
        "frame": np.repeat(moments["frame"], n_ended),
        "track_id": np.concatenate([each.ended for each in links]),
    }
    of_frame = ("exposure_s", "excitation", "n_spots", "latency_ms")
    frames = moments | {name: [getattr(a, name) for a in answers] for name in of_frame}
    models = moments | {name: [getattr(a.model, name) for a in answers] for name in Model._fields}
    tracks = estimates_dtype(n_states)
    return {
        "spots": _moved([a.spots for a in answers], SPOTS, per_spot),
        "links": from_columns(LINKS, len(per_spot["frame"]), link_columns),
        "ended": from_columns(ENDED, sum(n_ended), ended),
        "revised": _revised(links),
        "estimates": _moved([a.estimates for a in answers], tracks, per_track),
        "models": from_columns(models_dtype(n_states, n_lags), len(answers), models),
        "frames": from_columns(FRAMES, len(answers), frames),
    }


def _repeated(moments: dict[str, NDArray], n: NDArray[np.int64]) -> dict[str, NDArray]:
    return {name: np.repeat(values, n) for name, values in moments.items()}


def _revised(links: list[Links]) -> NDArray[np.void]:
    links = [each for each in links if len(each.revised)]
    if not links:
        return _NONE_REVISED
    table = np.concatenate([each.revised for each in links])
    frame = np.repeat([each.frame for each in links], [len(each.revised) for each in links])
    columns = {"of_frame": table["frame"], "frame": frame}
    columns |= {name: table[name] for name in ("row", "track_id", "p_link")}
    return from_columns(REVISED, len(table), columns)


def revisions_of(rows: NDArray[np.void]) -> NDArray[np.void]:
    """Turn rows of the stream `revised` back into `Links.revised`."""
    table = np.empty(len(rows), REVISION_DTYPE)
    table["frame"] = rows["of_frame"]
    for name in ("row", "track_id", "p_link"):
        table[name] = rows[name]
    return table


def _widened(estimates: Estimates, n_states: int) -> Estimates:
    """Give the table and the model columns for more states, filled with zeros."""
    table = np.zeros(len(estimates.table), track_dtype(n_states))
    for name in table.dtype.names or ():
        column = estimates.table[name]
        table[name][tuple(slice(n) for n in column.shape)] = column
    model = estimates.model
    wide = np.zeros(1, models_dtype(n_states, len(model.lags)))[0]
    fields: dict[str, Any] = model._asdict()
    for name, value in fields.items():
        if isinstance(value, np.ndarray):
            wide[name][tuple(slice(n) for n in value.shape)] = value
            fields[name] = wide[name]
    return estimates._replace(table=table, model=Model(**fields))


def _check_columns(frame: int, table: NDArray[np.void], dtype: np.dtype) -> None:
    found = table.dtype
    same_size = dtype.itemsize == found.itemsize + _MOMENT_BYTES
    if not same_size or found.names != (dtype.names or ())[2:]:
        raise JournalError(f"frame {frame}: a table has columns {found.names}")


def _moved(
    tables: Sequence[bytes], dtype: np.dtype, moments: dict[str, NDArray]
) -> NDArray[np.void]:
    """Put packed tables one below the other behind the columns of `moments`."""
    rows = np.empty(len(moments["frame"]), dtype)
    rows["frame"], rows["t_s"] = moments["frame"], moments["t_s"]
    packed = np.frombuffer(b"".join(tables), np.uint8)
    whole = rows.view(np.uint8).reshape(len(rows), dtype.itemsize)
    whole[:, _MOMENT_BYTES:] = packed.reshape(len(rows), dtype.itemsize - _MOMENT_BYTES)
    return rows


#: Columns that earlier versions did not know, by stream: what they stand for is 0, or no text.
_LATER: dict[str, tuple[np.dtype, set[str]]] = {
    "spots": (SPOTS, {"false_um2", "guided"}),  # version 1: all found blind
    "events": (EVENTS, {"name", "before", "after"}),  # version 3: said in the message alone
}


def completed(stream: str, rows: NDArray[np.void]) -> NDArray[np.void]:
    """Return rows of a stream with the columns of today, those of earlier versions too."""
    if stream not in _LATER:
        return rows
    dtype, later = _LATER[stream]
    missing = set(dtype.names or ()) - set(rows.dtype.names or ())
    if not missing <= later or not missing:
        return rows
    table: NDArray[np.void] = np.zeros(len(rows), dtype)
    for name in missing:
        if dtype[name] == np.dtype(object):
            table[name] = ""
    for name in rows.dtype.names or ():
        table[name] = rows[name]
    return table


def model_of(row: np.void) -> Model:
    """Turn a row of the stream `models` back into a model, of the states in use (D > 0)."""
    fields: dict[str, Any] = {}
    used = models_dtype(int(np.count_nonzero(row["D_um2_s"])), len(row["lags"]))
    for name in Model._fields:
        value = row[name]
        if isinstance(value, np.ndarray):
            fields[name] = value[tuple(slice(n) for n in used[name].shape)].copy()
        else:
            fields[name] = _plain(value)
    return Model(**fields)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def event_row(event: Event) -> NDArray[np.void]:
    """Turn an event into one row of the stream `events`."""
    return from_columns(EVENTS, 1, event._asdict())


def counter_rows(t_s: float, values: dict[str, float]) -> NDArray[np.void]:
    """Turn counters into rows of the stream `counters`."""
    columns = {"t_s": t_s, "name": list(values), "value": list(values.values())}
    return from_columns(COUNTERS, len(values), columns)
