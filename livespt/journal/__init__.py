"""The run folder: written so that a kill costs at most 50 ms, read by any Arrow library.

`Journal` writes, `read_run` reads, `recover` mends what a kill left behind, `write_final` adds
the final pass.
"""

from livespt.journal.columns import to_arrow_table
from livespt.journal.final import FINAL_FILE, read_final, read_parquet, write_final, write_parquet
from livespt.journal.folder import JournalError
from livespt.journal.read import Run, read_run
from livespt.journal.recovery import RecoverReport, StreamReport, recover
from livespt.journal.write import Journal

__all__ = [
    "FINAL_FILE",
    "Journal",
    "JournalError",
    "RecoverReport",
    "Run",
    "StreamReport",
    "read_final",
    "read_parquet",
    "read_run",
    "recover",
    "to_arrow_table",
    "write_final",
    "write_parquet",
]
