"""Annotated tracks to ExTrack's CSV and to TrackMate's simple XML; parameters to a file."""

from __future__ import annotations

import csv
import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from livespt.refit.extrack.arrays import Array
from livespt.refit.extrack.states import plain_values
from livespt.refit.result import RefitError

_AXES = ("x", "y", "z")


def save_params(
    params: Any, path: str | Path = ".", fmt: str = "json", file_name: str = "params"
) -> None:
    """Write the parameters' values to `path/file_name.fmt`; `fmt` is json, csv or npy.

    Raises
    ------
    RefitError
        Another format.
    """
    values, target = plain_values(params), Path(path) / f"{file_name}.{fmt}"
    if fmt == "json":
        target.write_text(json.dumps(values, indent=1), encoding="utf-8")
    elif fmt == "csv":
        lines = (f"{name},{value!r}\n" for name, value in values.items())
        target.write_text("".join(lines), encoding="utf-8")
    elif fmt == "npy":
        names = np.dtype([(name, "f8") for name in values])
        np.save(target, np.array([tuple(values.values())], dtype=names))
    else:
        raise RefitError(f"fmt: '{fmt}'; expected 'json', 'csv' or 'npy'")


def save_extrack_2_CSV(
    path: str | Path,
    all_tracks: Mapping[str, Array],
    pred_Bss: Mapping[str, Array],
    dt: float,
    all_frames: Mapping[str, Array] | None = None,
) -> None:
    """Write one row for each position: track, x, y, z (um), time (ms), frame, state probabilities.

    Parameters
    ----------
    all_tracks, pred_Bss : dict of str to (n, T, d) and (n, T, K)
    dt : float
        Time from frame to frame (s).
    all_frames : dict of str to (n, T), optional
        0 ... T - 1 unless given.

    Raises
    ------
    RefitError
        Shapes that do not go together.
    """
    n_states = next(iter(pred_Bss.values())).shape[2]
    names = ["POSITION_X", "POSITION_Y", "POSITION_Z", "POSITION_T", "FRAME"]
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["TRACK_ID", *names, *(f"PRED_{k}" for k in range(n_states))])
        for number, (track, p, frames) in enumerate(_each(all_tracks, pred_Bss, all_frames), 1):
            for place, share, frame in zip(_three(track), p, frames, strict=True):
                row = [*place.tolist(), dt * frame * 1000, _whole(frame), *share.tolist()]
                table.writerow([number, *row])


def save_extrack_2_xml(
    all_tracks: Mapping[str, Array],
    pred_Bss: Mapping[str, Array],
    params: Any,
    path: str | Path,
    dt: float,
    all_frames: Mapping[str, Array] | None = None,
    opt_metrics: Mapping[str, Mapping[str, Array]] | None = None,
) -> None:
    """Write TrackMate's simple XML with `pred_0` ... for each detection; `dt` in s.

    The parameters stand in the attribute `ExTrack_results`; frames are written as ms.

    Raises
    ------
    RefitError
        Shapes that do not go together; a metric whose name is no XML name.
    """
    metrics = opt_metrics or {}
    for name in metrics:
        if not name.isidentifier():
            raise RefitError(f"opt_metrics: '{name}' cannot name an attribute")
    more = {name: list(_flat(all_tracks, values)) for name, values in metrics.items()}
    said = " ".join(f"{name}={value:.8g}" for name, value in plain_values(params).items())
    rows = list(_each(all_tracks, pred_Bss, all_frames))
    root = ET.Element(
        "Tracks", nTracks=str(len(rows)), spaceUnits="µm", frameInterval=repr(float(dt) * 1000),
        timeUnits="ms", ExTrack_results=said,
    )  # fmt: skip
    for number, (track, p, frames) in enumerate(rows):
        particle = ET.SubElement(root, "particle", nSpots=str(len(track)))
        for i, (place, share, frame) in enumerate(zip(_three(track), p, frames, strict=True)):
            spot = {"t": str(_whole(frame))}
            spot |= {axis: repr(value) for axis, value in zip(_AXES, place.tolist(), strict=True)}
            spot |= {f"pred_{k}": repr(value) for k, value in enumerate(share.tolist())}
            spot |= {name: str(values[number][i]) for name, values in more.items()}
            ET.SubElement(particle, "detection", spot)
    ET.indent(root)
    ET.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def _whole(frame: float) -> int | float:
    return int(frame) if float(frame).is_integer() else float(frame)


def _three(track: Array) -> Array:
    out = np.zeros((len(track), 3))
    out[:, : track.shape[1]] = track
    return out


def _flat(tracks: Mapping[str, Array], values: Mapping[str, Array]) -> Iterator[Array]:
    for key in tracks:
        yield from values[key]


def _each(
    tracks: Mapping[str, Array], p: Mapping[str, Array], frames: Mapping[str, Array] | None
) -> Iterator[tuple[Array, Array, Array]]:
    for key, group in tracks.items():
        n, T = group.shape[:2]
        if key not in p or p[key].shape[:2] != (n, T):
            raise RefitError(f"pred_Bss['{key}']: expected probabilities for {(n, T)} positions")
        numbers = np.tile(np.arange(T), (n, 1)) if frames is None else np.asarray(frames[key])
        if numbers.shape != (n, T):
            raise RefitError(f"all_frames['{key}']: shape {numbers.shape}; expected {(n, T)}")
        yield from zip(group, p[key], numbers, strict=True)
