"""What a bench has found: rows of figure, target, ours, the peer's, and a table of them."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import llvmlite.binding as llvm
import numba
import numpy as np

ROUNDS = 5


@dataclass
class Row:
    """One figure. `above` says that larger is better; targets of 0 are not asked."""

    figure: str
    unit: str
    ours: float
    target: float = 0.0
    peer: float = 0.0
    ratio_target: float = 0.0
    above: bool = True
    note: str = ""

    @property
    def ratio(self) -> float:
        """How many times the peer's figure ours is; 0 without a peer."""
        return self.ours / self.peer if self.peer else 0.0

    @property
    def met(self) -> str:
        """Say "met", "missed", or "" where nothing was asked."""
        if not self.target:
            return ""
        good = self.ours >= self.target if self.above else self.ours <= self.target
        if self.ratio_target and self.peer:
            good = good and self.ratio >= self.ratio_target
        return "met" if good else "missed"


@dataclass
class Ledger:
    """Collects rows; writes them as Markdown and JSON."""

    peer_name: str
    rows: list[Row] = field(default_factory=list)
    name: str = "localize"  # of the files

    def add(self, row: Row) -> Row:
        """Note one row and say it."""
        self.rows.append(row)
        print(f"{row.figure}: {short(row.ours)} {row.unit}", row.met, row.note)  # noqa: T201
        return row

    def markdown(self) -> str:
        """Return the table."""
        lines = [
            f"livespt beside {self.peer_name or 'no peer'} on {machine()}",
            "",
            "| figure | unit | target | ours | peer | ratio | |",
            "| --- | --- | --- | --- | --- | --- | --- |",
        ]
        for row in self.rows:
            sign = ">=" if row.above else "<="
            target = f"{sign} {short(row.target)}" if row.target else ""
            target += f", {short(row.ratio_target)} x" if row.ratio_target else ""
            ratio = f"{row.ratio:.3g}" if row.peer else ""
            theirs = short(row.peer) if row.peer else ""
            cells = (row.figure, row.unit, target, short(row.ours), theirs, ratio)
            verdict = f"{row.met}; {row.note}" if row.met and row.note else row.met or row.note
            lines.append(f"| {' | '.join(cells)} | {verdict} |")
        return "\n".join(lines) + "\n"

    def write(self) -> Path:
        """Write table and rows below `LIVESPT_BENCH_DIR`, or ``bench``."""
        root = Path(__file__).parents[2]
        folder = Path(os.environ.get("LIVESPT_BENCH_DIR", root / "bench"))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.name}.md").write_text(self.markdown(), encoding="utf-8")
        rows = [asdict(row) | {"ratio": row.ratio, "met": row.met} for row in self.rows]
        whole = {"machine": machine(), "peer": self.peer_name, "rows": rows}
        (folder / f"{self.name}.json").write_text(json.dumps(whole, indent=1), encoding="utf-8")
        return folder / f"{self.name}.md"


def short(value: float) -> str:
    """Write a number with its thousands: 2.5 M, 35 k, 1.02."""
    for size, letter in ((1e6, " M"), (1e4, " k")):
        if value >= size:
            return f"{value / size if size == 1e6 else value / 1e3:.3g}{letter}"
    return f"{value:.4g}"


def machine() -> str:
    """Say what the figures were measured on."""
    parts = [llvm.get_host_cpu_name(), f"{os.cpu_count()} cores", f"numba {numba.__version__}"]
    return ", ".join([*parts, f"Python {platform.python_version()}"])


def rates(
    jobs: dict[str, tuple[int, Callable[[], object]]], rounds: int = ROUNDS, wall: bool = False
) -> dict[str, float]:
    """Time jobs in turn; return units per second, the median over rounds.

    Each job (number of units, function) is run once before, so that nothing compiles while the
    clock runs; they take turns, so that a busy moment of the machine falls on all. The clock is the
    CPU time of this thread, or with `wall`, for work on several threads, the wall's.
    """
    clock = time.perf_counter if wall else time.thread_time
    taken: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(rounds + 1):
        for name, (_, job) in jobs.items():
            began = clock()
            job()
            if turn:
                taken[name].append(clock() - began)
    return {name: jobs[name][0] / float(np.median(times)) for name, times in taken.items()}
