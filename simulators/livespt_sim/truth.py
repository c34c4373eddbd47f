"""What really happened: one row per molecule and frame that sent light, and the parameters.

Positions are means over the exposure, weighted by the time the molecule was on (all of it, unless
it blinked or bleached within the exposure): that is where the expected centroid of its photons
lies, and what a localization is scored against.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from livespt.types import LivesptError

#: One row per molecule and frame.
TRUTH_DTYPE = np.dtype(
    [
        ("frame", "i4"),
        ("molecule", "i4"),  # never used twice
        ("t_s", "f8"),  # start of the exposure
        ("x_um", "f8"),  # mean over the exposure
        ("y_um", "f8"),
        ("x_end_um", "f8"),  # at the exposure's end
        ("y_end_um", "f8"),
        ("z_um", "f4"),  # mean height above focus
        ("path_var_x_um2", "f4"),  # spread of the path within the exposure about its mean
        ("path_var_y_um2", "f4"),
        ("expected_photons", "f4"),
        ("actual_photons", "i4"),  # that landed on the sensor
        ("background_e", "f4"),  # expected per pixel
        ("on_fraction", "f4"),  # mean relative brightness of its light states; on and off: part on
        ("D_um2_s", "f4"),  # mean over the interval
        ("state", "i2"),  # the one it spent most of the interval in
        ("in_view", "?"),  # the mean position lies on the sensor
    ]
)


class TruthError(LivesptError):
    """The truth cannot be written or read; the message names the file."""


class Truth(NamedTuple):
    """The record of one simulated run.

    Attributes
    ----------
    table : (n,) `TRUTH_DTYPE`, in frame order
    D_um2_s : (K,) float64
    occupancy : (K,) float64
        Stationary.
    rate_per_s : (K, K) float64
        Rows sum to 0.
    options : dict
        Everything the run was made from, seed included.
    complete : bool
        False where rows were left out because `truth_rows` was reached.
    """

    table: NDArray[np.void]
    D_um2_s: NDArray[np.float64]
    occupancy: NDArray[np.float64]
    rate_per_s: NDArray[np.float64]
    options: dict[str, Any]
    complete: bool

    def save(self, path: str | Path) -> None:
        """Write to `path`: ``.parquet`` or ``.npz``.

        Raises
        ------
        TruthError
            Another suffix, or the file cannot be written.
        """
        path = Path(path)
        try:
            if path.suffix == ".parquet":
                self._save_parquet(path)
            elif path.suffix == ".npz":
                np.savez_compressed(path, table=self.table, about=json.dumps(self._about()))
            else:
                raise TruthError(f"{path}: truth is written as .parquet or .npz")
        except OSError as error:
            raise TruthError(f"{path}: cannot be written: {error}") from None

    def _about(self) -> dict[str, Any]:
        numbers = {k: getattr(self, k).tolist() for k in ("D_um2_s", "occupancy", "rate_per_s")}
        return {**numbers, "options": self.options, "complete": self.complete}

    def _save_parquet(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        names = self.table.dtype.names or ()
        columns = {name: np.ascontiguousarray(self.table[name]) for name in names}
        table = pa.table(columns).replace_schema_metadata({"truth": json.dumps(self._about())})
        pq.write_table(table, path)


def load_truth(path: str | Path) -> Truth:
    """Read what `Truth.save` wrote.

    Raises
    ------
    TruthError
        The file is missing or is no truth.
    """
    path = Path(path)
    try:
        table, about = _load_npz(path) if path.suffix == ".npz" else _load_parquet(path)
    except (OSError, KeyError, ValueError, BadZipFile) as error:
        raise TruthError(f"{path}: not a truth file: {error}") from None
    numbers = [np.array(about[k]) for k in ("D_um2_s", "occupancy", "rate_per_s")]
    return Truth(table, *numbers, options=about["options"], complete=about["complete"])


def _load_npz(path: Path) -> tuple[NDArray[np.void], dict[str, Any]]:
    # opened here: numpy leaves a torn archive's file open
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return archive["table"], json.loads(str(archive["about"]))


def _load_parquet(path: Path) -> tuple[NDArray[np.void], dict[str, Any]]:
    import pyarrow.parquet as pq

    stored = pq.read_table(path)
    table = np.zeros(stored.num_rows, TRUTH_DTYPE)
    for name in TRUTH_DTYPE.names or ():
        table[name] = stored[name].to_numpy()
    return table, json.loads((stored.schema.metadata or {})[b"truth"])


class Recorder:
    """Keep rows up to a limit, without ever copying what is kept."""

    def __init__(self, max_rows: int) -> None:
        self._chunks: list[NDArray[np.void]] = []
        self._left = max_rows
        self.complete = True

    def add(self, rows: NDArray[np.void]) -> None:
        """Keep `rows`, or none of them once the limit is reached."""
        if len(rows) > self._left:
            self._left, self.complete = 0, False
            return
        self._left -= len(rows)
        self._chunks.append(rows)

    def table(self) -> NDArray[np.void]:
        """Return all rows kept."""
        chunks = list(self._chunks)  # a snapshot: the stream may go on in another thread
        return np.concatenate(chunks) if chunks else np.zeros(0, TRUTH_DTYPE)
