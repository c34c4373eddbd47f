"""From the pipeline's types to messages and back: pure functions.

Nothing that is not a number leaves here: a summary over no spot is 0, a spot whose fit overflowed
is left out of the summaries, and a NaN in a model or a table is refused by name, because it means
that a stage broke its promise. An infinite bound ("not known yet") is a number and may travel.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from livespt.contrast import signal_to_background
from livespt.types import Estimates, Event, FitStatus, Model, Spots
from livespt.wire.schema import EstimateMessage, EventMessage, ModelMessage, Table, WireError


def model_message(model: Model) -> ModelMessage:
    """Turn a `Model` into plain lists.

    Raises
    ------
    WireError
        A field holds NaN; the message names it.
    """
    numbers = [model.error_scale, model.interval_s]
    together = np.concatenate([numbers, *(getattr(model, name).ravel() for name in _ARRAYS)])
    if np.isnan(together).any():
        for name in (*_ARRAYS, "error_scale", "interval_s"):
            _refuse_nan(f"model.{name}", getattr(model, name))
    return ModelMessage(**{name: _plain(value) for name, value in model._asdict().items()})


def model_from(message: ModelMessage) -> Model:
    """Turn a `ModelMessage` back into arrays; the exact inverse of `model_message`."""
    fields: dict[str, Any] = {name: getattr(message, name) for name in Model._fields}
    for name in _ARRAYS:
        fields[name] = np.array(fields[name], dtype=np.float64)
    fields["lags"] = np.array(fields["lags"], dtype=np.int64)
    return Model(**fields)


_ARRAYS = (
    "D_um2_s",
    "D_95",
    "occupancy",
    "occupancy_95",
    "p_switch",
    "p_switch_95",
    "rate_per_s",
    "error_scale_95",
    "occupancy_lag",
)


def estimate_message(
    spots: Spots,
    estimates: Estimates,
    latency_ms: float,
    pixel_um: float,
    revised: NDArray[np.void] | None = None,
) -> EstimateMessage:
    """Summarise one frame: the model, its tracks, and the medians over its accepted spots.

    Parameters
    ----------
    spots : Spots
        The frame's fits; rows with status OK count.
    estimates : Estimates
        The answer after this frame.
    latency_ms : float
        From the frame's arrival to now.
    pixel_um : float
        Pixel size, because the background of a spot is per pixel.
    revised : (r,) `REVISION_DTYPE`, optional
        `Links.revised` of the frame; left out of the message where it has no row.

    Raises
    ------
    WireError
        The model or the table of tracks holds NaN.
    """
    _refuse_nan_rows("estimates", estimates.table)
    good = spots.table["status"] == FitStatus.OK
    accepted = spots.table if good.all() else spots.table[good]
    sd_um, photons, bg_photons, sbr = _figures(accepted, pixel_um)
    return EstimateMessage(
        frame=int(estimates.frame),
        t_s=float(estimates.t_s),
        model=model_message(estimates.model),
        tracks=Table.of(estimates.table),
        n_spots=len(accepted),
        median_sd_um=sd_um,
        median_photons=photons,
        median_bg_photons=bg_photons,
        sbr=sbr,
        latency_ms=float(latency_ms),
        n_guided=int(np.count_nonzero(accepted["guided"])),
        revised=Table.of(revised) if revised is not None and len(revised) else None,
    )


def _figures(table: NDArray[np.void], pixel_um: float) -> list[float]:
    """Return medians over spots: s.d. of the position, photons, background, SBR."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        values = np.stack(
            (
                np.sqrt((table["var_x_um2"] + table["var_y_um2"]) / 2),
                table["photons"],
                table["bg_photons"],
                signal_to_background(table, pixel_um),
            )
        )
        finite = np.isfinite(values.sum())
    if not finite or not len(table):  # rows of different lengths, or an overflow of the sum only
        return [_median(row[np.isfinite(row)]) for row in values]
    return [_median(row) for row in values]


def event_message(event: Event) -> EventMessage:
    """Turn an `Event` into its message.

    Raises
    ------
    WireError
        `before` or `after` is NaN.
    """
    _refuse_nan("event.before", event.before)
    _refuse_nan("event.after", event.after)
    return EventMessage(
        kind=event.kind,
        t_s=float(event.t_s),
        frame=int(event.frame),
        n_frames=int(event.n_frames),
        message=event.message,
        name=event.name,
        before=float(event.before),
        after=float(event.after),
    )


def event_from(message: EventMessage) -> Event:
    """Turn an `EventMessage` back into an `Event`."""
    return Event(*(getattr(message, name) for name in Event._fields))


def _median(values: NDArray[np.float64]) -> float:
    """Return the median, 0 where there is no value."""
    if not len(values):
        return 0.0
    ordered = np.sort(values)
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return float(low / 2 + high / 2)  # halved first: the sum of two huge values would overflow


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value.item() if isinstance(value, np.generic) else value


def _refuse_nan_rows(name: str, table: NDArray[np.void]) -> None:
    """Look at a table as a whole; only where that holds a NaN, column by column.

    Whole numbers are looked at as if they were floats too: few bits of theirs look like a NaN.
    """
    size = table.dtype.itemsize
    packed = size % 8 == 0 and table.flags.c_contiguous
    if packed and not np.isnan(table.view(np.float64)).any():
        return
    for column in table.dtype.names or ():
        _refuse_nan(f"{name}.{column}", table[column])


def _refuse_nan(name: str, values: Any) -> None:
    array = np.asarray(values)
    if array.dtype.kind == "f" and np.isnan(cast("NDArray[np.float64]", array)).any():
        raise WireError(f"{name}: holds NaN; the wire carries numbers only")
