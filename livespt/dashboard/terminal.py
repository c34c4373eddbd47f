"""The run in a terminal: a live layout where there is one, plain lines where there is none.

    with TerminalView() as view:
        view.update(message)          # any message of livespt.wire.schema, at any rate

`update` only files the message (some microseconds); drawing happens a few times a second on a
thread of rich. Without a terminal it prints a line every few seconds, plus one for each change
of state, each event of concern, and the final answer.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from livespt.dashboard import palette, words
from livespt.dashboard.braille import log_plot
from livespt.dashboard.plain import PlainLines, answer_line
from livespt.dashboard.quality import judge_state
from livespt.dashboard.results import result_table
from livespt.dashboard.state import ANSWER_COLUMNS, LiveState
from livespt.wire.schema import (
    AnyMessage,
    ControlMessage,
    EstimateMessage,
    ModelMessage,
    StatusMessage,
)

__all__ = ["TerminalView", "result_table"]

PLOT_HEIGHT = 8
N_EVENTS_SHOWN = 4
ESTIMATES_PER_S = 50.0  # more than anybody sees; a camera may bring a thousand
WIDE = 96  # columns from which lags and rates have room


class TerminalView:
    """Show a run in the terminal while it lasts.

    Parameters
    ----------
    console : rich.console.Console, optional
        Where to draw; by default standard output.
    refresh_per_s : float
        How often a terminal is redrawn.
    plain_every_s : float
        How often a line is printed where the console is no terminal.
    transient : bool
        Wipe the layout at the end, and leave the screen to what comes after.
    """

    def __init__(
        self,
        console: Console | None = None,
        *,
        refresh_per_s: float = 4.0,
        plain_every_s: float = 2.0,
        transient: bool = False,
    ) -> None:
        self.console = console or Console()
        self.state = LiveState(capacity=512)
        self._live: Live | None = None
        self._plain: PlainLines | None = None
        self._held: EstimateMessage | None = None
        self._due_s = 0.0
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            self._live = Live(
                console=self.console,
                get_renderable=self.render,
                refresh_per_second=refresh_per_s,
                transient=transient,
                redirect_stdout=False,
                redirect_stderr=False,
            )
        else:
            self._plain = PlainLines(self.console, plain_every_s)

    def __enter__(self) -> Self:
        """Take the terminal."""
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Draw once more and give the terminal back."""
        if self._held is not None:
            self._file(self._held)
        if self._live:
            self._live.stop()
        if self._plain:
            self._plain.last_line(self.state)

    def update(self, message: AnyMessage) -> None:
        """Take one message of any kind; of a flood of estimates, some, and always the last."""
        if isinstance(message, EstimateMessage):
            now = time.monotonic()
            self._held = message
            if now < self._due_s:
                return
            self._due_s = now + 1.0 / ESTIMATES_PER_S
        if self._held is not None:
            held, self._held = self._held, None
            self._file(held)
        if not isinstance(message, EstimateMessage):
            self._file(message)

    def _file(self, message: AnyMessage) -> None:
        self.state.update(message)
        if self._plain:
            self._plain.tell(self.state, message, time.monotonic())

    def render(self) -> RenderableType:
        """Return the layout as it stands."""
        return layout(self.state, self.console.width)


def layout(state: LiveState, width: int = 100) -> RenderableType:
    """Return everything known of a run as one renderable."""
    parts: list[RenderableType] = [_header(state)]
    bar = _progress(state.status)
    if bar:
        parts.append(bar)
    if state.model:
        parts.append(_answer_panel(state, state.model, width))
    elif not bar:
        parts.append(Text("  waiting for the first answer", style=palette.CALM))
    parts += [_verdict_line(state), _status_strip(state), _drop_strip(state)]
    if state.control:
        parts.append(_light_line(state.control))
    parts += _event_lines(state)
    if state.final:
        parts.append(_line("final").append(answer_line(state.final.model), style="bold"))
    return Group(*parts)


def _header(state: LiveState) -> RenderableType:
    hello, run_state = state.hello, state.run_state
    left = Text("livespt ", style=f"bold {palette.ACCENT}")
    left.append(state.title, style="bold")
    if hello:
        height, width = hello.shape
        size_text = f"{width} x {height}, {1e3 * hello.interval_s:.3g} ms"
        left.append(f"  {hello.source}, {size_text}", style=palette.CALM)
    right = Text("● ", style=palette.RUN_STATE_COLOURS.get(run_state, palette.CALM))
    right.append(run_state, style="bold")
    right.append(f"  {words.clock(state.elapsed_s)}", style="bold")
    grid = Table.grid(expand=True)
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    grid.add_column(justify="right", no_wrap=True)
    grid.add_row(left, right)
    return Panel(grid, border_style=palette.EDGE, padding=(0, 1))


def _progress(status: StatusMessage | None) -> RenderableType | None:
    if status is None or status.state not in ("compiling", "finishing"):
        return None
    what = "compiling" if status.state == "compiling" else "final pass"
    done = min(1.0, max(0.0, status.progress))
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(ratio=1)
    grid.add_column(no_wrap=True, justify="right")
    colour = palette.RUN_STATE_COLOURS[status.state]
    bar = ProgressBar(total=1.0, completed=done, complete_style=colour, finished_style=colour)
    grid.add_row(Text(f"  {what}", style="bold"), bar, f"{100 * done:3.0f} %  ")
    return Group(grid, Text(f"  {status.note}", style=palette.CALM)) if status.note else grid


def _answer_panel(state: LiveState, model: ModelMessage, width: int) -> RenderableType:
    calm = "warming up: intervals still wide" if model.status != "ok" else ""
    count = f"{model.n_steps:,} steps of {model.n_tracks:,} tracks"
    title = Text(f"diffusion  {calm}".strip(), style="bold")
    return Panel(
        Group(_state_table(model, width >= WIDE), *_plot(state, width)),
        title=title,
        title_align="left",
        subtitle=Text(count, style=palette.CALM),
        subtitle_align="right",
        border_style=palette.EDGE,
        padding=(0, 1),
    )


def _state_table(model: ModelMessage, wide: bool) -> Table:
    table = Table(box=None, expand=True, header_style=palette.CALM, padding=(0, 1))
    table.add_column("state", no_wrap=True)
    table.add_column("D  um²/s", justify="right")
    table.add_column("95 %", justify="left", no_wrap=True)
    table.add_column("occupancy", justify="right")
    table.add_column("95 %", justify="left", no_wrap=True)
    for lag in model.lags if wide else ():
        table.add_column(f"lag {lag}", justify="right", no_wrap=True)
    if wide and len(model.D_um2_s) > 1:
        table.add_column("leaves for, 1/s", justify="left", no_wrap=True)
    for k in range(len(model.D_um2_s)):
        table.add_row(*_state_row(model, k)[: len(table.columns)])
    return table


def _state_row(model: ModelMessage, k: int) -> list[RenderableType]:
    n, colour = len(model.D_um2_s), palette.state_colour(k)
    D_um2_s, D_95 = model.D_um2_s[k], model.D_95[k]
    return [
        Text(f"● {words.state_name(k, n)}", style=colour),
        Text(words.estimate(D_um2_s, D_95), style=f"bold {colour}"),
        Text(words.span(D_95, D_um2_s), style=palette.CALM),
        Text(words.percent(model.occupancy[k]), style=f"bold {colour}"),
        Text(words.percent_span(model.occupancy_95[k]), style=palette.CALM),
        *(Text(words.percent(row[k])) for row in model.occupancy_lag),
        _rates(model, k),
    ]


def _rates(model: ModelMessage, k: int) -> Text:
    n, text = len(model.D_um2_s), Text()
    for j in range(n):
        if j != k:
            text.append(f"{words.state_name(j, n)} ", style=palette.state_colour(j))
            text.append(f"{words.rate(model.rate_per_s[k][j])}  ")
    return text


def _plot(state: LiveState, width: int) -> list[RenderableType]:
    t_s, rows = state.answers.rows()
    if len(t_s) < 3:
        return []
    D_um2_s = rows[:, ::ANSWER_COLUMNS]
    colours = [palette.state_colour(k) for k in range(D_um2_s.shape[1])]
    n_columns = max(20, min(100, width - 18))
    axis = Text(f"{'':10}{words.clock(t_s[0])}", style="dim")
    end = words.clock(t_s[-1])
    axis.append(f"{end:>{n_columns - len(words.clock(t_s[0]))}}")
    return [Text(), log_plot(t_s, D_um2_s, colours, n_columns, PLOT_HEIGHT), axis]


def _verdict_line(state: LiveState) -> Text:
    verdict = judge_state(state)
    text = _line("data")
    text.append(f"{verdict.text}  ")
    text.append(verdict.level, style=f"bold {palette.LEVEL_COLOURS[verdict.level]}")
    if verdict.reasons:
        text.append(f"  {'; '.join(verdict.reasons)}", style=palette.CALM)
    return text


def _status_strip(state: LiveState) -> Text:
    text, status = _line("rates"), state.status
    if status is None:
        return text.append("no status yet")
    text.append(f"{status.fps_in:.0f} fps in, {status.fps_out:.0f} out", style=palette.TEXT)
    late = f"latency {status.latency_ms_p50:.1f} ms, p99 {status.latency_ms_p99:.1f} ms"
    text.append(f"  {late}", style=palette.TEXT)
    text.append("  ring ")
    text.append_text(_ring(status))
    text.append(f"  {status.tracks_live} tracks live", style=palette.TEXT)
    return text


def _light_line(control: ControlMessage) -> Text:
    text = _line("light")
    text.append(words.light(control), style=palette.TEXT)
    if control.faults:
        text.append(f"  FAULT {control.faults[-1]}", style=f"bold {palette.BAD}")
    elif control.why:
        text.append(f"  {control.why}", style=palette.CALM)
    return text


def _line(label: str) -> Text:
    return Text(f"  {label:<9}", style=palette.CALM, no_wrap=True, overflow="ellipsis")


def _ring(status: StatusMessage) -> Text:
    share = status.ring_used / status.ring_size if status.ring_size else 0.0
    filled = round(10 * min(1.0, share))
    colour = palette.GOOD if share < 0.5 else palette.WARN if share < 0.9 else palette.BAD
    return Text("█" * filled, style=colour).append("░" * (10 - filled), style="dim")


def _drop_strip(state: LiveState) -> Text:
    text = _line("dropped")
    for drop in state.drops:
        style = palette.LEVEL_COLOURS[drop.level] if drop.n else palette.CALM
        text.append(f"{drop.name} {drop.n:,}   ", style=f"bold {style}" if drop.n else style)
    return text


def _event_lines(state: LiveState) -> list[RenderableType]:
    lines: list[RenderableType] = []
    for event in list(state.events)[-N_EVENTS_SHOWN:]:
        line = Text(f"  {words.clock(event.t_s):>8} ", style="dim")
        word = words.event_word(event)
        line.append(f"{word:<10}", style=palette.EVENT_COLOURS.get(word, palette.CALM))
        line.append(event.message, style=palette.TEXT)
        line.no_wrap, line.overflow = True, "ellipsis"
        lines.append(line)
    return lines
