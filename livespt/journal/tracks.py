"""The tracks of a run, from its recorded spots and links, and the field that they were seen in."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from livespt.config import parse
from livespt.journal.read import Run
from livespt.sections import Config
from livespt.types import FitStatus

#: One linked spot, as the final pass reads it.
TRACK_ROW_DTYPE = np.dtype(
    [
        ("track_id", "i8"),
        ("frame", "i8"),
        ("t_s", "f8"),
        ("exposure_s", "f8"),
        ("x_um", "f8"),
        ("y_um", "f8"),
        ("var_x_um2", "f8"),
        ("var_y_um2", "f8"),
        ("cov_xy_um2", "f8"),
        ("p_link", "f8"),
    ]
)


def is_run_folder(path: Path) -> bool:
    """Say whether `path` is a run folder."""
    return (path / "run.json").is_file()


def track_rows(run: Run) -> NDArray[np.void]:
    """Return every linked spot of a run as `TRACK_ROW_DTYPE`, sorted by track and frame."""
    frames = run.frames
    spots, links = run.linked()
    kept = (links["track_id"] >= 0) & (spots["status"] == FitStatus.OK)
    kept &= np.isin(spots["frame"], frames["frame"])
    rows = np.zeros(int(kept.sum()), TRACK_ROW_DTYPE)
    for name in TRACK_ROW_DTYPE.names or ():
        if name in (spots.dtype.names or ()):
            rows[name] = spots[name][kept]
    rows["track_id"] = links["track_id"][kept]
    rows["p_link"] = links["p_link"][kept]
    where = np.searchsorted(frames["frame"], rows["frame"])
    rows["exposure_s"] = frames["exposure_s"][where]
    return rows[np.lexsort((rows["frame"], rows["track_id"]))]


def config_of(run: Run) -> Config:
    """Return the config of a run."""
    config: Config = parse(tomllib.loads(run.config), str(run.folder / "config.toml"))
    return config


def field_um_of(run: Run) -> tuple[float, float]:
    """Return height and width of a run's field of view."""
    height, width = run.about["source"]["shape"]
    pixel_um = config_of(run).optics.pixel_um  # resolved when the run began
    return height * pixel_um, width * pixel_um
