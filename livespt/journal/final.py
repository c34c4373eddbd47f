"""The files that the final pass leaves in the run folder: for any program, not for livespt alone.

``tracks.parquet`` holds one row per spot of a track, ``final.json`` the pooled answer. Each is
whole or not there.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from livespt.journal.columns import concatenate, dtype_of, rows_of, to_arrow_table
from livespt.journal.folder import JournalError, reason, sync_folder, write_json

TRACKS_FILE = "tracks.parquet"
FINAL_FILE = "final.json"


def write_final(folder: str | Path, tracks: NDArray[np.void], answer: Mapping[str, Any]) -> None:
    """Write the smoothed tracks and the final answer into a run folder.

    Parameters
    ----------
    folder : path
    tracks : structured array
        One row per spot; sub-arrays become fixed-size lists.
    answer : mapping
        Numbers, arrays, NamedTuples (a `Model`) and nested mappings of them; what JSON cannot
        say (an infinite bound) becomes null.

    Raises
    ------
    JournalError
        The disk refuses.
    """
    folder = Path(folder)
    try:
        write_parquet(folder / TRACKS_FILE, tracks)
        write_json(folder / FINAL_FILE, answer)
    except OSError as error:
        raise JournalError(f"{folder}: cannot be written: {reason(error)}") from None


def write_parquet(path: Path, table: NDArray[np.void]) -> None:
    """Write a structured array as Parquet, whole or not at all."""
    from pyarrow import parquet

    temporary = path.with_name(path.name + ".tmp")
    try:
        parquet.write_table(to_arrow_table(table), temporary, compression="zstd")
        handle = os.open(temporary, os.O_RDWR | getattr(os, "O_BINARY", 0))
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def read_parquet(path: str | Path) -> NDArray[np.void]:
    """Read back what `write_parquet` wrote, bit for bit.

    Raises
    ------
    JournalError
        The file is missing or not whole.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        found = parquet.read_table(path)
    except OSError as error:
        raise JournalError(f"{path}: {reason(error)}") from None
    except pa.ArrowException as error:
        raise JournalError(f"{path}: not readable as Parquet: {error}") from None
    return concatenate([rows_of(batch) for batch in found.to_batches()], dtype_of(found.schema))


def read_final(folder: str | Path) -> tuple[NDArray[np.void], dict[str, Any]]:
    """Return the smoothed tracks and the final answer of a run.

    Raises
    ------
    JournalError
        The run has no final pass, or its files cannot be read.
    """
    folder = Path(folder)
    try:
        answer = json.loads((folder / FINAL_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise JournalError(f"{folder}: no final pass in it (no {FINAL_FILE})") from None
    except (OSError, ValueError) as error:
        raise JournalError(f"{folder / FINAL_FILE}: cannot be read: {error}") from None
    return read_parquet(folder / TRACKS_FILE), answer
