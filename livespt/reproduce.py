"""The papers' results, run again: `livespt reproduce`.

An experiment is a function that a package registers under the entry-point group
`livespt.experiments`: `run(quick, seed) -> Outcome`. Its docstring's first line is what
``--list`` says of it. Quick ones take less than a minute and fewer repeats, nothing else.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import livespt
from livespt.types import LivesptError

GROUP = "livespt.experiments"


class ReproduceError(LivesptError):
    """No such experiment, or its figure cannot be drawn; the message says which and why."""


class Row(NamedTuple):
    """One number of a paper beside ours.

    Attributes
    ----------
    what : str
        What is compared, with its unit.
    paper : float, str or None
        What the paper says.
    theirs_here : float or None
        The paper's own method, as it runs here.
    ours : float or None
        Our default method on the same data.
    seconds : float
        Time that this row took.
    """

    what: str
    paper: float | str | None
    theirs_here: float | None
    ours: float | None
    seconds: float


class Outcome(NamedTuple):
    """What an experiment found.

    Attributes
    ----------
    rows : sequence of Row
    notes : sequence of str
        What a reader must know to judge the rows: assumptions, numbers of repeats.
    draw : callable or None
        `draw(figure)`, on a matplotlib figure.
    """

    rows: Sequence[Row]
    notes: Sequence[str]
    draw: Callable[[Any], None] | None = None


Experiment = Callable[[bool, int], Outcome]


def experiments() -> dict[str, str]:
    """Return the names of all experiments, and what each says of itself."""
    found = importlib.metadata.entry_points(group=GROUP)
    says = {entry.name: (entry.load().__doc__ or "").strip().splitlines() for entry in found}
    return {name: lines[0] if lines else "" for name, lines in sorted(says.items())}


def find(name: str) -> Experiment:
    """Return the experiment of that name.

    Raises
    ------
    ReproduceError
        There is none.
    """
    found = list(importlib.metadata.entry_points(group=GROUP, name=name))
    if not found:
        known = [entry.name for entry in importlib.metadata.entry_points(group=GROUP)]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise ReproduceError(f"no experiment '{name}' (has: {', '.join(sorted(known))}){hint}")
    return found[0].load()


def reproduce(
    name: str, *, quick: bool = False, seed: int = 1, figure: Path | None = None
) -> dict[str, Any]:
    """Run an experiment, and draw its figure if a place is given.

    Parameters
    ----------
    name : str
    quick : bool
        Fewer repeats, less than a minute.
    seed : int
    figure : Path, optional
        Where the figure goes: .png, .svg or .pdf.

    Returns
    -------
    dict
        `name`, `seed`, `quick`, `livespt`, `rows`, `notes`, `seconds`, `figure`: plain numbers.

    Raises
    ------
    ReproduceError
        No such experiment; no place for the figure, or matplotlib is not installed.
    """
    run = find(name)
    if figure is not None:
        _check_figure(figure)
    began_s = time.perf_counter()
    outcome = run(quick, seed)
    if figure is not None and outcome.draw is not None:
        _draw(outcome.draw, figure)
    return {
        "name": name,
        "seed": seed,
        "quick": quick,
        "livespt": livespt.__version__,
        "rows": [row._asdict() for row in outcome.rows],
        "notes": list(outcome.notes),
        "seconds": time.perf_counter() - began_s,
        "figure": str(figure) if figure is not None and outcome.draw is not None else "",
    }


def _check_figure(path: Path) -> None:
    if path.suffix.lower() not in (".png", ".svg", ".pdf") or not path.parent.is_dir():
        raise ReproduceError(f"{path}: expected a .png, .svg or .pdf in a folder that exists")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ReproduceError(
            f"{path}: figures need matplotlib: pip install 'livespt[report]'"
        ) from None


def _draw(draw: Callable[[Any], None], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 3.6), layout="constrained")
    draw(figure)
    figure.savefig(path, dpi=150)
