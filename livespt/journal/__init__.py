"""The run folder: written so that a kill costs at most 50 ms, read by any Arrow library.

`Journal` writes, `read_run` reads, `recover` mends what a kill left behind, `write_final` adds
the final pass.
"""

from livespt.journal.columns import to_arrow_table
from livespt.journal.final import FINAL_FILE, read_final, read_parquet, write_final, write_parquet
from livespt.journal.folder import JournalError
from livespt.journal.read import Run, read_run
from livespt.journal.recovery import RecoverReport, StreamReport, recover
from livespt.journal.tracks import (
    TRACK_ROW_DTYPE,
    config_of,
    field_um_of,
    is_run_folder,
    track_rows,
)
from livespt.journal.write import Journal

__all__ = [
    "FINAL_FILE",
    "TRACK_ROW_DTYPE",
    "Journal",
    "JournalError",
    "RecoverReport",
    "Run",
    "StreamReport",
    "config_of",
    "field_um_of",
    "is_run_folder",
    "read_final",
    "read_parquet",
    "read_run",
    "recover",
    "to_arrow_table",
    "track_rows",
    "write_final",
    "write_parquet",
]
