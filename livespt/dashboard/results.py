"""The answers side by side once a run is over: live, final and, where it is known, the truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from rich.table import Table
from rich.text import Text

from livespt.dashboard import palette, words
from livespt.types import Model
from livespt.wire.schema import FinalMessage, ModelMessage

#: What `result_table` takes for an answer; a mapping has the keys D_um2_s and occupancy, and for
#: an estimate D_95 and occupancy_95.
Answer = ModelMessage | FinalMessage | Model | Mapping[str, Any]


class _Values(NamedTuple):
    value: list[float]
    interval: list[tuple[float, float]] | None


def result_table(
    live: Answer | None,
    final: Answer | None,
    truth: Answer | None = None,
    *,
    title: str = "D in um²/s, 95 % intervals",
) -> Table:
    """Lay out D and occupancy of each state: live and final with intervals, beside the truth.

    With a truth, each interval is marked by whether it holds the true value.
    """
    table = Table(title=title, title_style="bold", border_style=palette.EDGE, title_justify="left")
    table.add_column("", no_wrap=True)
    for name, answer in (("live", live), ("final", final), ("true", truth)):
        if answer is not None:
            table.add_column(name, justify="left", no_wrap=True)
    for key, unit in (("D", "um2_s"), ("occupancy", "")):
        columns = [_read(answer, key, unit) for answer in (live, final) if answer is not None]
        known = _read(truth, key, unit) if truth is not None else None
        for k in range(max((len(c.value) for c in columns), default=0)):
            table.add_row(*_row(key, k, columns, known))
        table.add_section()
    return table


def _row(key: str, k: int, columns: list[_Values], known: _Values | None) -> list[Text]:
    n = max(len(c.value) for c in columns)
    label = "D" if key == "D" else "occ."
    row = [Text(f"● {label} {words.state_name(k, n)}", style=palette.state_colour(k))]
    true_value = known.value[k] if known and k < len(known.value) else None
    row += [_cell(column, k, true_value) for column in columns]
    if known:
        row.append(Text(words.number(true_value, 3) if true_value is not None else "-"))
    return row


def _cell(column: _Values, k: int, true_value: float | None) -> Text:
    if k >= len(column.value):
        return Text("-", style=palette.CALM)
    interval = column.interval[k] if column.interval else None
    text = Text(f"{words.estimate(column.value[k], interval)}", style="bold")
    if interval is None:
        return text
    span = words.span(interval, column.value[k]).replace(" ", "")  # two answers fit 80 columns
    text.append(f" [{span}]", style=palette.CALM)
    if true_value is not None:
        inside = interval[0] <= true_value <= interval[1]
        text.append(" ✓" if inside else " ✗", style=palette.GOOD if inside else palette.BAD)
    return text


def _read(answer: Answer, key: str, unit: str) -> _Values:
    if isinstance(answer, FinalMessage):
        answer = answer.model
    name = f"{key}_{unit}" if unit else key
    if isinstance(answer, Mapping):
        value, interval = answer[name], answer.get(f"{key}_95")
    else:
        value, interval = getattr(answer, name), getattr(answer, f"{key}_95")
    pairs = None if interval is None else [(float(low), float(high)) for low, high in interval]
    return _Values([float(v) for v in value], pairs)
