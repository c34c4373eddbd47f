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
from typing import Any

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


def frame_rows(
    spots: Spots, links: Links, estimates: Estimates, latency_ms: float, n_states: int = 0
) -> dict[str, NDArray[np.void]]:
    """Turn one frame's answer into rows of each stream; copies, so that nothing is shared.

    With `n_states` the rows have columns for so many states, those that are not in use zero.
    """
    n = len(spots.table)
    if n_states > len(estimates.model.D_um2_s):
        estimates = _widened(estimates, n_states)
    moment = {"frame": spots.frame, "t_s": spots.t_s}
    model = estimates.model
    link_columns = {"frame": spots.frame, "track_id": links.track_id, "p_link": links.p_link}
    ended = {"frame": spots.frame, "track_id": links.ended}
    frame = {
        **moment,
        "exposure_s": spots.exposure_s,
        "excitation": spots.excitation,
        "n_spots": n,
        "latency_ms": latency_ms,
    }
    return {
        "spots": _moved(spots.table, SPOTS, moment),
        "links": from_columns(LINKS, n, link_columns),
        "ended": from_columns(ENDED, len(links.ended), ended),
        "revised": _revised(spots.frame, links.revised),
        "estimates": _moved(estimates.table, estimates_dtype(len(model.D_um2_s)), moment),
        "models": model_row(model, moment),
        "frames": from_columns(FRAMES, 1, frame),
    }


def _revised(frame: int, table: NDArray[np.void]) -> NDArray[np.void]:
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


def _moved(table: NDArray[np.void], dtype: np.dtype, moment: dict[str, Any]) -> NDArray[np.void]:
    """Copy `table` behind the columns of `moment`; rows are packed, so it is one block each."""
    n, size = len(table), table.dtype.itemsize
    rows = np.empty(n, dtype)
    rows["frame"], rows["t_s"] = moment["frame"], moment["t_s"]
    if dtype.itemsize != size + _MOMENT_BYTES or table.dtype.names != (dtype.names or ())[2:]:
        raise JournalError(f"frame {moment['frame']}: a table has columns {table.dtype.names}")
    packed = np.ascontiguousarray(table).view(np.uint8).reshape(n, size)
    rows.view(np.uint8).reshape(n, dtype.itemsize)[:, _MOMENT_BYTES:] = packed
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


def model_row(model: Model, moment: dict[str, Any]) -> NDArray[np.void]:
    """Turn a model into one row of the stream `models`."""
    dtype = models_dtype(len(model.D_um2_s), len(model.lags))
    return from_columns(dtype, 1, {**moment, **model._asdict()})


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
