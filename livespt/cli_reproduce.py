"""The command that runs the papers' results again: `livespt reproduce`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from livespt.cli_movies import Json, tell


def reproduce(
    name: str = "",
    *,
    list_: Annotated[bool, Parameter(name="--list", negative="")] = False,
    quick: Annotated[bool, Parameter(negative="")] = False,
    seed: int = 1,
    figure: Path | None = None,
    json: Json = False,
) -> int:
    """Run a result of the papers again: their number, their method here, ours.

    Parameters
    ----------
    name
        An experiment; none lists them.
    list_
        Say what can be reproduced.
    quick
        Fewer repeats, less than a minute.
    seed
        Of all that is random.
    figure
        Where to draw the figure: .png, .svg or .pdf.
    """
    from livespt.reproduce import experiments
    from livespt.reproduce import reproduce as run

    if list_ or not name:
        known = experiments()
        width = max(map(len, known), default=0)
        return tell(known, [f"{key:<{width}}  {says}" for key, says in known.items()], json)
    answer = run(name, quick=quick, seed=seed, figure=figure)
    return tell(answer, _lines(answer), json)


def _lines(answer: dict[str, Any]) -> list[str]:
    rows = answer["rows"]
    width = max(len(row["what"]) for row in rows)
    lines = [f"{'':<{width}}  {'paper':>14}  {'theirs, here':>14}  {'ours':>14}  seconds"]
    lines += [
        f"{row['what']:<{width}}  "
        + "  ".join(f"{_said(row[key]):>14}" for key in ("paper", "theirs_here", "ours"))
        + f"  {row['seconds']:7.1f}"
        for row in rows
    ]
    lines += [f"note: {note}" for note in answer["notes"]]
    return lines + ([f"{answer['figure']}: drawn"] if answer["figure"] else [])


def _said(value: float | str | None) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:.4g}"
