"""What a refit leaves in a table."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from livespt.refit.result import Refit, RefitError
from livespt.tables import write_table


def table_of(found: Refit) -> pa.Table | None:
    """Return the refined positions, else the single tracks' answers, else None."""
    if found.positions is not None:
        flat = found.positions
        columns = {name: flat[name] for name in flat.dtype.names or () if name != "p_state"}
        for k in range(flat["p_state"].shape[1]):
            columns[f"p_state_{k}"] = flat["p_state"][:, k]
        return pa.table(columns)
    if found.tables.get("tracks"):
        return pa.Table.from_pylist(found.tables["tracks"])
    return None


def write_answer(found: Refit, out: Path) -> None:
    """Write the refined positions, or the single tracks' answers.

    Raises
    ------
    RefitError
        The method gives neither.
    """
    table = table_of(found)
    if table is None:
        raise RefitError(f"{out}: {found.method} gives no table")
    write_table(table, out)
