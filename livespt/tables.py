"""Tables of localizations for other programs: Parquet, CSV, ThunderSTORM's CSV, Picasso's HDF5.

Rows are written as they come, so that a table may be larger than memory, into a file beside the
one that was asked for; that one appears when all is written, and not at all where something fails.

Parquet and plain CSV hold every fit with its status and standard errors. ThunderSTORM's columns
know no status, so only the good fits go there. Its frames count from 1, and its origin is the
corner of the first pixel, half a pixel from ours, its centre. Picasso takes the good fits too, in
pixels, with the view described in a ``.yaml`` file beside the table.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from livespt.journal import to_arrow_table
from livespt.types import SPOT_DTYPE, FitStatus, LivesptError, Spots

FORMATS = ("parquet", "csv", "thunderstorm", "picasso")
_ENDINGS = {".parquet": "parquet", ".csv": "csv", ".hdf5": "picasso"}
#: Variances are handed out as standard deviations, which is what people read.
_ROOTS = {"var_x_um2": "sd_x_um", "var_y_um2": "sd_y_um"}
#: Guided fits need tracks; these tables know none.
_NAMES = tuple(n for n in SPOT_DTYPE.names or () if n not in ("false_um2", "guided"))
_ROWS_AT_ONCE = 1 << 16

#: One row per fit.
LOCALIZATION_DTYPE = np.dtype(
    [("frame", "i8"), ("t_s", "f8")]
    + [(_ROOTS.get(name, name), SPOT_DTYPE[name]) for name in _NAMES]
)


class TableError(LivesptError):
    """A table cannot be written; the message names the file."""


def rows_of(spots: Spots) -> NDArray[np.void]:
    """Return the fits of one frame as rows of `LOCALIZATION_DTYPE`."""
    rows = np.empty(len(spots.table), LOCALIZATION_DTYPE)
    rows["frame"], rows["t_s"] = spots.frame, spots.t_s
    for name in _NAMES:
        values = spots.table[name]
        rows[_ROOTS.get(name, name)] = np.sqrt(values) if name in _ROOTS else values
    return rows


def format_of(path: Path, given: str = "", among: tuple[str, ...] = FORMATS) -> str:
    """Return the format that was asked for, or that the file's name says.

    Raises
    ------
    TableError
        The name says nothing, or contradicts what was asked for.
    """
    suffix = path.suffix.lower()
    found = given or _ENDINGS.get(suffix, "")
    if found not in among or _ENDINGS.get(suffix) != ("csv" if found == "thunderstorm" else found):
        asked = f" with format '{given}'" if given else ""
        endings = [f"{end} ({kind})" for end, kind in _ENDINGS.items() if kind in among]
        raise TableError(f"{path}{asked}: expected a name in {', '.join(endings)}")
    return found


def check_place(path: Path) -> None:
    """Refuse a place where no file can be made.

    Raises
    ------
    TableError
        Naming it.
    """
    if not path.parent.is_dir() or path.is_dir():
        raise TableError(f"{path}: no such folder to write it in")


def write_table(columns: pa.Table, out: Path) -> None:
    """Write a table to .parquet or .csv, whole or not at all.

    Raises
    ------
    TableError
        The file cannot be written.
    """
    from pyarrow import csv, parquet

    temporary = out.with_name(out.name + ".tmp")
    try:
        if format_of(out) == "csv":
            csv.write_csv(columns, temporary)
        else:
            parquet.write_table(columns, temporary, compression="zstd")
        temporary.replace(out)
    except OSError as error:
        raise TableError(f"{out}: cannot be written: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)


class TableWriter:
    """Writes rows as they come; the file is there when the `with` block ends well.

    Parameters
    ----------
    path : Path
    kind : str
        One of `FORMATS`.
    pixel_um : float
        For the formats in pixels, or that count from a pixel's corner.
    shape : (height, width)
        Of the frames, for Picasso.

    Raises
    ------
    TableError
        The file cannot be written.
    """

    def __init__(self, path: Path, kind: str, pixel_um: float, shape: tuple[int, int]) -> None:
        check_place(path)
        self._path = path
        self._temporary = path.with_name(path.name + ".tmp")
        self._turn: Callable[[NDArray[np.void]], Any] = to_arrow_table
        if kind == "thunderstorm":
            self._turn = ThunderStorm(pixel_um)
        elif kind == "picasso":
            self._turn = Picasso(pixel_um, shape)
        self._waiting: list[NDArray[np.void]] = []
        self._n_waiting = 0
        try:
            self._file = self._temporary.open("w+b")
        except OSError as error:
            raise TableError(f"{path}: cannot be written: {error.strerror or error}") from None
        empty: Any = self._turn(np.empty(0, LOCALIZATION_DTYPE))
        if kind == "picasso":
            self._writer: Any = _Hdf5Writer(self._file, empty)
        else:
            self._writer = _arrow_writer(self._file, kind, empty.schema)

    def add(self, rows: NDArray[np.void]) -> None:
        """Take rows of `LOCALIZATION_DTYPE`."""
        self._waiting.append(rows)
        self._n_waiting += len(rows)
        if self._n_waiting >= _ROWS_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        rows = np.concatenate([np.empty(0, LOCALIZATION_DTYPE), *self._waiting])
        self._waiting, self._n_waiting = [], 0
        try:
            self._writer.write_table(self._turn(rows))
        except OSError as error:
            raise TableError(f"{self._path}: cannot be written: {error}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._file.close()
            self._temporary.unlink(missing_ok=True)

    def _finish(self) -> None:
        self._flush()
        try:
            self._writer.close()
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()  # Windows renames no open file
            if isinstance(self._turn, Picasso):
                self._path.with_suffix(".yaml").write_text(self._turn.about())
            os.replace(self._temporary, self._path)
        except OSError as error:
            raise TableError(f"{self._path}: cannot be written: {error}") from None


class ThunderStorm:
    """Turns rows into ThunderSTORM's columns; `id` goes on from table to table."""

    def __init__(self, pixel_um: float) -> None:
        self._half_nm = 500.0 * pixel_um
        self._n = 0

    def __call__(self, rows: NDArray[np.void]) -> pa.Table:
        """Return the good rows, in nanometres."""
        good = rows[rows["status"] == FitStatus.OK]
        n = len(good)
        ids = np.arange(self._n + 1, self._n + n + 1)
        self._n += n
        sd_nm = 1e3 * np.sqrt((good["sd_x_um"] ** 2 + good["sd_y_um"] ** 2) / 2)
        columns: dict[str, NDArray] = {
            "id": ids,
            "frame": good["frame"] + 1,
            "x [nm]": 1e3 * good["x_um"] + self._half_nm,
            "y [nm]": 1e3 * good["y_um"] + self._half_nm,
            "sigma [nm]": 1e3 * good["sigma_um"],
            "intensity [photon]": good["photons"],
            "offset [photon]": good["bg_photons"],
            "bkgstd [photon]": np.sqrt(np.maximum(good["bg_photons"], 0.0)),
            "uncertainty_xy [nm]": sd_nm,
        }
        table = np.empty(n, [(name, values.dtype) for name, values in columns.items()])
        for name, values in columns.items():
            table[name] = values
        return to_arrow_table(table)


class Picasso:
    """Turns rows into Picasso's `locs`: the good ones, in pixels whose centres are integers."""

    def __init__(self, pixel_um: float, shape: tuple[int, int]) -> None:
        self._pixel_um, self._shape, self._n_frames = pixel_um, shape, 0

    def __call__(self, rows: NDArray[np.void]) -> NDArray[np.void]:
        """Return the good rows as a compound array, as Picasso's own files hold it."""
        self._n_frames = max(self._n_frames, 1 + int(rows["frame"].max(initial=-1)))
        good = rows[rows["status"] == FitStatus.OK]
        columns = {"frame": good["frame"].astype(np.uint32)}
        lengths = {
            "x": "x_um", "y": "y_um", "sx": "sigma_um", "sy": "sigma_um",
            "lpx": "sd_x_um", "lpy": "sd_y_um",
        }  # fmt: skip
        columns |= {name: good[ours] / self._pixel_um for name, ours in lengths.items()}
        columns |= {"photons": good["photons"], "bg": good["bg_photons"]}
        table = np.empty(len(good), [("frame", "u4")] + [(n, "f4") for n in list(columns)[1:]])
        for name, values in columns.items():
            table[name] = values
        return table

    def about(self) -> str:
        """Return what stands in the file beside the table."""
        import yaml

        height, width = self._shape
        return yaml.safe_dump(
            {
                "Generated by": "livespt localize",
                "Frames": self._n_frames,
                "Height": int(height),
                "Width": int(width),
                "Pixelsize": 1000.0 * self._pixel_um,
            },
            sort_keys=False,
        )


class _Hdf5Writer:
    """Appends compound rows to the data set `locs`."""

    def __init__(self, file: Any, empty: NDArray[np.void]) -> None:
        import h5py

        self._file = h5py.File(file, "w")
        self._locs = self._file.create_dataset(
            "locs", data=empty, maxshape=(None,), chunks=(_ROWS_AT_ONCE // 16,)
        )

    def write_table(self, rows: NDArray[np.void]) -> None:
        n = self._locs.shape[0]
        self._locs.resize((n + len(rows),))
        self._locs[n:] = rows

    def close(self) -> None:
        self._file.close()


def _arrow_writer(file: Any, kind: str, schema: pa.Schema) -> Any:
    if kind == "parquet":
        from pyarrow import parquet

        return parquet.ParquetWriter(file, schema, compression="zstd")
    from pyarrow import csv

    if kind == "thunderstorm":  # whose own files have their headings in quotes
        return csv.CSVWriter(file, schema)
    file.write((",".join(schema.names) + "\n").encode())
    return csv.CSVWriter(file, schema, write_options=csv.WriteOptions(include_header=False))
