"""The run as plain lines, for a log file, a pipe or a terminal that cannot redraw."""

from __future__ import annotations

from rich.console import Console

from livespt.dashboard import words
from livespt.dashboard.quality import judge_state
from livespt.dashboard.state import LiveState
from livespt.wire.schema import AnyMessage, EventMessage, FinalMessage, ModelMessage, StatusMessage


class PlainLines:
    """Print what is news: a line every `every_s`, and at once what should not wait."""

    def __init__(self, console: Console, every_s: float) -> None:
        self._console = console
        self._every_s = every_s
        self._due_s = 0.0
        self._shown_state = ""
        self._shown_version = -1

    def tell(self, state: LiveState, message: AnyMessage, now_s: float) -> None:
        """Print what `message` makes due."""
        if isinstance(message, EventMessage):
            what = words.event_word(message)
            self._print(f"{words.clock(message.t_s)} {what}: {message.message}")
        elif isinstance(message, FinalMessage):
            self._print(f"final: {answer_line(message.model)}")
        elif isinstance(message, StatusMessage) and message.state != self._shown_state:
            self._shown_state = message.state
            self._line(state, now_s)
        elif now_s >= self._due_s:
            self._line(state, now_s)

    def last_line(self, state: LiveState) -> None:
        """Print the newest state of things unless it was printed already."""
        if state.version and state.version != self._shown_version:
            self._line(state, self._due_s)

    def _line(self, state: LiveState, now_s: float) -> None:
        self._due_s = now_s + self._every_s
        self._shown_version = state.version
        self._print(status_line(state))

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def status_line(state: LiveState) -> str:
    """Return the whole state in one line."""
    parts = [f"{words.clock(state.elapsed_s)} {state.run_state}"]
    status = state.status
    if status and status.state in ("compiling", "finishing"):
        parts.append(f"{100 * status.progress:.0f} % {status.note}".strip())
    if state.model:
        parts.append(answer_line(state.model))
        parts.append(str(judge_state(state)))
    if state.control:
        parts.append(f"light {words.light(state.control)}")
    if status and status.frames_in:
        parts.append(f"{status.fps_out:.0f} fps, latency {status.latency_ms_p50:.1f} ms")
    lost = ", ".join(f"{drop.name} {drop.n}" for drop in state.drops if drop.n)
    if lost:
        parts.append(f"dropped: {lost}")
    return " | ".join(parts)


def answer_line(model: ModelMessage) -> str:
    """Return D and occupancy of all states with their intervals."""
    states = []
    for k, (D_um2_s, D_95) in enumerate(zip(model.D_um2_s, model.D_95, strict=True)):
        share = words.percent(model.occupancy[k]).replace(" ", "")
        low, high = D_95
        decimals = words.digits_for(D_um2_s, D_95)
        span = f"{words.number(low, decimals)}..{words.number(high, decimals)}"
        states.append(f"{words.number(D_um2_s, decimals)} [{span}] {share}")
    return "D um2/s " + ", ".join(states)
