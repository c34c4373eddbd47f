"""`livespt advise`: what the control of the light would have asked for on a recording."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from livespt.cli_movies import Json


def advise(run: Path, *, config: Path | None = None, json: Json = False) -> int:
    """Show what control would have asked for on the recorded RUN, when and why; writes nothing.

    Parameters
    ----------
    run
        A run folder.
    config
        A TOML file whose [control] is tried; the run's own if left out.
    """
    from livespt.config import load
    from livespt.journal import config_of, read_run
    from livespt.rehearse import advise as rehearse

    chosen = load(config) if config is not None else config_of(read_run(run))
    rows = [_row(advice) for advice in rehearse(run, chosen)]
    if json:
        answer = {"windows": rows, "wishes": sum(row["wish"] is not None for row in rows)}
        print(msgspec.json.encode(answer).decode())
        return 0
    console = Console()
    for row in rows:
        wish = "-" if row["wish"] is None else f"{row['wish']:.3g}"
        line = f"{row['t_s']:8.1f} s  power {row['power']:<6.3g} wish {wish:<6} {row['why']}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return 0


def _row(advice: Any) -> dict[str, Any]:
    look = advice.look
    return {
        "t_s": look.t_s,
        "power": look.power,
        "sd_um": look.sd_um,
        "sbr": look.sbr,
        "n_spots": look.n_spots,
        "trouble": look.trouble,
        "wish": advice.power,
        "why": advice.why,
        "dose": advice.dose,
    }
