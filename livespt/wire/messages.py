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
    fields: dict[str, Any] = {}
    for name, value in model._asdict().items():
        if isinstance(value, np.ndarray):
            _refuse_nan(f"model.{name}", value)
            fields[name] = value.tolist()
        else:
            fields[name] = value.item() if isinstance(value, np.generic) else value
    _refuse_nan("model.error_scale", fields["error_scale"])
    _refuse_nan("model.interval_s", fields["interval_s"])
    return ModelMessage(**fields)


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
    for name in estimates.table.dtype.names or ():
        _refuse_nan(f"estimates.{name}", estimates.table[name])
    accepted = spots.table[spots.table["status"] == FitStatus.OK]
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        sd_um = np.sqrt((accepted["var_x_um2"] + accepted["var_y_um2"]) / 2)
        ratio = signal_to_background(accepted, pixel_um)
    return EstimateMessage(
        frame=int(estimates.frame),
        t_s=float(estimates.t_s),
        model=model_message(estimates.model),
        tracks=Table.of(estimates.table),
        n_spots=len(accepted),
        median_sd_um=_median(sd_um),
        median_photons=_median(accepted["photons"]),
        median_bg_photons=_median(accepted["bg_photons"]),
        sbr=_median(ratio),
        latency_ms=float(latency_ms),
        n_guided=int(np.count_nonzero(accepted["guided"])),
        revised=Table.of(revised) if revised is not None and len(revised) else None,
    )


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
    """Return the median of the finite values, 0 where there is none."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return 0.0
    ordered = np.sort(finite)
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return float(low / 2 + high / 2)  # halved first: the sum of two huge values would overflow


def _refuse_nan(name: str, values: Any) -> None:
    array = np.asarray(values)
    if array.dtype.kind == "f" and np.isnan(cast("NDArray[np.float64]", array)).any():
        raise WireError(f"{name}: holds NaN; the wire carries numbers only")
