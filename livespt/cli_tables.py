"""The commands that work on tables: `livespt link`.

They stand in `livespt.cli` beside the others, which also turns their errors into one line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from livespt.cli_movies import Json, tell


def link(
    table: Path,
    *,
    out: Path,
    frame_ms: float,
    exposure_ms: float | None = None,
    states: int | Literal["auto"] = 2,
    field_um: Annotated[tuple[float, float] | None, Parameter(negative="")] = None,
    pixel_um: float | None = None,
    lag: int = 2,
    json: Json = False,
) -> int:
    """Link a table of localizations to tracks, and infer how they move.

    Parameters
    ----------
    table
        Of livespt, ThunderSTORM (.csv), or Picasso (.hdf5); .parquet or .csv with frame, x_um,
        y_um, sd_um.
    out
        The table to write, the same rows with tracks added: .parquet or .csv.
    frame_ms
        Time from frame to frame.
    exposure_ms
        How long of it the shutter is open; all of it if left out.
    states
        Number of motion states, 1 to 4, or "auto": found from the table.
    field_um
        Height and width of the field of view, from the origin.
    pixel_um
        Pixel size, for tables in pixels that do not tell it.
    lag
        For so many frames an identity may be revised, 0 to 3.
    """
    from livespt.linking import LinkOptions, check_options, link_table
    from livespt.progress import FrameBar
    from livespt.spot_tables import read_spot_table
    from livespt.tables import check_place, format_of, write_table

    exposure_s = (frame_ms if exposure_ms is None else exposure_ms) / 1000.0
    options = LinkOptions(frame_ms / 1000.0, exposure_s, states, field_um, lag)
    check_options(options)
    format_of(out, among=("parquet", "csv"))
    check_place(out)
    spots = read_spot_table(table, pixel_um)
    if field_um is None:
        options = options._replace(field_um=spots.field_um)
    with FrameBar() as bar:
        linked = link_table(spots, options, bar)
    write_table(linked.columns, out)
    answer = linked.answer | {"out": str(out)}
    return tell(answer, _lines(answer), json)


def _lines(answer: dict[str, Any]) -> list[str]:
    took = answer["ms_per_frame"]["total"]
    return [
        f"{answer['frames']} frames, {answer['spots']} good spots, {answer['tracks']} tracks "
        f"({answer['tracks_of_two_or_more']} of two spots or more)",
        *_model_lines(answer["final"]),
        f"{took['mean']:.2f} ms a frame (99 %: {took['p99']:.2f}), "
        f"final pass {answer['seconds']['final']:.1f} s",
        f"{answer['out']}: written",
    ]


def _model_lines(model: dict[str, Any]) -> list[str]:
    """Return one line per state, each figure with its 95 % interval."""
    lines = []
    for k, D in enumerate(model["D_um2_s"]):
        low, high = model["D_95"][k]
        line = f"state {k}: D {D:.4g} ({low:.4g} to {high:.4g}) um2/s"
        low, high = model["occupancy_95"][k]
        line += f", occupancy {model['occupancy'][k]:.3f} ({low:.3f} to {high:.3f})"
        for j, p in enumerate(model["p_switch"][k]):
            if j != k:
                low, high = model["p_switch_95"][k][j]
                line += f", to state {j} {p:.4g} ({low:.4g} to {high:.4g}) a frame"
        lines.append(line)
    return lines
