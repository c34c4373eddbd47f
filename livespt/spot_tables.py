"""Tables of localizations, from livespt or from other programs, read for linking.

Which program wrote a table is told from its columns:

=============  ================================================================================
livespt        ``frame, x_um, y_um`` and ``sd_um`` or ``sd_x_um, sd_y_um``; optional
               ``cov_xy_um2``, ``t_s``, ``status`` (rows that are not 0 are kept but not linked)
ThunderSTORM   ``frame, x [nm], y [nm]`` and ``uncertainty_xy [nm]`` or ``uncertainty [nm]``
Picasso        ``frame, x, y, lpx, lpy`` in pixels of the HDF5 data set ``locs``, with the pixel
               size in the ``.yaml`` file beside it
=============  ================================================================================
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from livespt.types import SPOT_DTYPE, FitStatus, LivesptError

#: name of the format -> (x, y, ways to say the standard errors, um per unit)
_LAYOUTS = {
    "livespt": ("x_um", "y_um", (("sd_x_um", "sd_y_um"), ("sd_um",)), 1.0),
    "thunderstorm": (
        "x [nm]", "y [nm]", (("uncertainty_xy [nm]",), ("uncertainty [nm]",)), 1e-3,
    ),
    "picasso": ("x", "y", (("lpx", "lpy"),), 0.0),  # 0: a pixel
}  # fmt: skip
#: Frames may span so many: a wrong column is found out before it takes the day.
MOST_FRAMES = 10_000_000


class SpotTableError(LivesptError):
    """A table of localizations cannot be read; the message names the file and what is wrong."""


class SpotTable(NamedTuple):
    """Localizations in the order of their file.

    Attributes
    ----------
    path : Path
    kind : {"livespt", "thunderstorm", "picasso"}
    columns : pyarrow.Table
        Everything that the file holds.
    frame : (n,) int64
    t_s : (n,) float64 or None
        Start of each row's exposure, where the file tells it.
    spots : (n,) structured array
        `SPOT_DTYPE`; status, position and covariance are filled.
    field_um : (height, width) or None
        Extent of the field of view, where the file tells it.
    """

    path: Path
    kind: str
    columns: pa.Table
    frame: NDArray[np.int64]
    t_s: NDArray[np.float64] | None
    spots: NDArray[np.void]
    field_um: tuple[float, float] | None


def read_spot_table(path: Path, pixel_um: float | None = None) -> SpotTable:
    """Read a table of localizations.

    Parameters
    ----------
    path : Path
        ``.parquet``, ``.csv``, or Picasso's ``.hdf5``.
    pixel_um : float, optional
        Pixel size of a Picasso file, in the place of the one in its ``.yaml``.

    Raises
    ------
    SpotTableError
        No such file, unknown columns, or a row without a position, a standard error or a frame.
    """
    if not path.is_file():
        raise SpotTableError(f"{path}: no such file")
    suffix = path.suffix.lower()
    field_um = None
    if suffix in (".hdf5", ".h5"):
        columns = _read_hdf5(path)
        unit_um, field_um = _picasso_unit(path, pixel_um)
    else:
        columns, unit_um = read_flat(path, suffix), pixel_um or 0.0
    kind = _kind_of(path, columns.column_names)
    unit_um = _LAYOUTS[kind][3] or unit_um
    if unit_um <= 0:
        raise SpotTableError(f"{path}: positions are in pixels; give --pixel-um")
    frame = _frames_of(path, columns)
    t_s = numbers(path, columns, "t_s") if "t_s" in columns.column_names else None
    spots = _spots_of(path, columns, kind, unit_um)
    return SpotTable(path, kind, columns, frame, t_s, spots, field_um)


def read_flat(path: Path, suffix: str) -> pa.Table:
    """Return the columns of a ``.parquet`` or ``.csv`` file.

    Raises
    ------
    SpotTableError
        It cannot be read, or is of another kind.
    """
    from pyarrow import csv, parquet

    try:
        if suffix == ".parquet":
            return parquet.read_table(path)
        if suffix == ".csv":
            return csv.read_csv(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise SpotTableError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from None
    raise SpotTableError(f"{path}: expected a table in .parquet, .csv or .hdf5")


def _read_hdf5(path: Path) -> pa.Table:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            found: Any = file.get("locs")
            locs = found[:] if isinstance(found, h5py.Dataset) else None
    except OSError as error:
        raise SpotTableError(f"{path}: cannot be read: {error}") from None
    if locs is None or locs.dtype.names is None:
        raise SpotTableError(f"{path}: expected a data set 'locs' with named columns, as Picasso's")
    return pa.table({name: np.ascontiguousarray(locs[name]) for name in locs.dtype.names})


def _picasso_unit(path: Path, pixel_um: float | None) -> tuple[float, tuple[float, float] | None]:
    """Return um per pixel (0 if unknown) and the field of view, from the file beside `path`."""
    import yaml

    about: dict[str, Any] = {}
    beside = path.with_suffix(".yaml")
    if beside.is_file():
        try:
            parts = [part for part in yaml.safe_load_all(beside.read_text()) if part]
        except yaml.YAMLError as error:
            raise SpotTableError(f"{beside}: {str(error).splitlines()[0]}") from None
        for part in parts:
            about |= part if isinstance(part, dict) else {}
    unit_um = pixel_um or float(about.get("Pixelsize", 0.0)) / 1000.0
    if unit_um <= 0:
        raise SpotTableError(
            f"{path}: pixel size unknown; give --pixel-um, or Pixelsize (nm) in {beside.name}"
        )
    if not {"Height", "Width"} <= about.keys():
        return unit_um, None
    return unit_um, (float(about["Height"]) * unit_um, float(about["Width"]) * unit_um)


def _kind_of(path: Path, names: list[str]) -> str:
    for kind, (x, y, errors, _) in _LAYOUTS.items():
        if x in names and y in names and any(set(e) <= set(names) for e in errors):
            return kind
    raise SpotTableError(
        f"{path}: columns {', '.join(names)}; expected frame, x_um, y_um and sd_um or sd_x_um, "
        "sd_y_um (or the columns of ThunderSTORM or Picasso, with the uncertainty)"
    )


def _frames_of(path: Path, columns: pa.Table) -> NDArray[np.int64]:
    if "frame" not in columns.column_names:
        raise SpotTableError(f"{path}: no column 'frame' (has: {', '.join(columns.column_names)})")
    values = numbers(path, columns, "frame")
    _refuse(
        path, "frame", values, np.isfinite(values) & (values == np.floor(values)), "a whole number"
    )
    if values.size and np.ptp(values) >= MOST_FRAMES:
        raise SpotTableError(
            f"{path}: frames from {values.min():.0f} to {values.max():.0f}; expected fewer than "
            f"{MOST_FRAMES:,} (is 'frame' a time?)"
        )
    return values.astype(np.int64)


def _spots_of(path: Path, columns: pa.Table, kind: str, unit_um: float) -> NDArray[np.void]:
    x, y, ways, _ = _LAYOUTS[kind]
    names = columns.column_names
    errors = next(way for way in ways if set(way) <= set(names))
    spots = np.zeros(columns.num_rows, SPOT_DTYPE)
    if "status" in names:
        spots["status"] = numbers(path, columns, "status")
    good = spots["status"] == FitStatus.OK
    for into, name in (("x_um", x), ("y_um", y)):
        values = unit_um * numbers(path, columns, name)
        _refuse(path, name, values, np.isfinite(values) | ~good, "a number")
        spots[into] = np.where(good, values, 0.0)
    for into, name in (("var_x_um2", errors[0]), ("var_y_um2", errors[-1])):
        values = unit_um * numbers(path, columns, name)
        fine = np.isfinite(values) & (values > 0)
        _refuse(path, name, values, fine | ~good, "a number > 0")
        spots[into] = np.where(good, values, 0.0) ** 2
    if kind == "livespt" and "cov_xy_um2" in names:
        spots["cov_xy_um2"] = np.where(good, numbers(path, columns, "cov_xy_um2"), 0.0)
        room = spots["var_x_um2"] * spots["var_y_um2"] - spots["cov_xy_um2"] ** 2
        _refuse(path, "cov_xy_um2", spots["cov_xy_um2"], (room > 0) | ~good, "less than sd_x sd_y")
    return spots


def numbers(path: Path, columns: pa.Table, name: str) -> NDArray[np.float64]:
    """Return a column as float64; what is missing becomes NaN.

    Raises
    ------
    SpotTableError
        It holds no numbers.
    """
    column = columns.column(name)
    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise SpotTableError(f"{path}: column '{name}' holds {kind}; expected numbers")
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float64)


def _refuse(
    path: Path, name: str, values: NDArray[np.float64], fine: NDArray[np.bool_], expected: str
) -> None:
    """Raise for the first row that is not fine."""
    if not fine.all():
        row = int(np.argmin(fine))
        raise SpotTableError(
            f"{path}: row {row + 1}: {name} is {values[row]:g}; expected {expected}"
        )
