"""The bottom strip: rates, latency, buffers, and every way in which something was dropped."""

from __future__ import annotations

from livespt.dashboard import palette, words
from livespt.dashboard.qt import QtWidgets, label
from livespt.dashboard.quality import judge_state
from livespt.dashboard.state import LiveState
from livespt.wire.schema import StatusMessage


class Figure(QtWidgets.QWidget):
    """A number under its name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.number = label("figure", "-")
        column = QtWidgets.QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(label("title", name))
        column.addWidget(self.number)

    def show_text(self, text: str, colour: str = palette.TEXT) -> None:
        """Set the number and its colour."""
        if text != self.number.text() or colour != self.property("colour"):
            self.setProperty("colour", colour)
            self.number.setText(text)
            self.number.setStyleSheet(f"color: {colour}")


class StatusStrip(QtWidgets.QFrame):
    """Rates and latency at the left, dropped frames at the right, the verdict above them."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("panel")
        names = ("frames in", "frames/s in", "frames/s out", "latency p50", "latency p99")
        self.figures = {name: Figure(name) for name in (*names, "ring", "tracks", "written")}
        self.drops = {drop.name: Figure(drop.name) for drop in LiveState().drops}
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(14, 6, 14, 6)
        row.setSpacing(26)
        for figure in self.figures.values():
            row.addWidget(figure)
        row.addStretch(1)
        row.addWidget(label("title", "DROPPED"))
        for figure in self.drops.values():
            row.addWidget(figure)

    def show_state(self, state: LiveState) -> None:
        """Draw the newest counters."""
        if state.status:
            self._show_status(state.status)
        else:
            for figure in self.figures.values():
                figure.show_text("-")
        for drop in state.drops:
            colour = palette.LEVEL_COLOURS[drop.level] if drop.n else palette.CALM
            self.drops[drop.name].show_text(f"{drop.n:,}", colour)
            self.drops[drop.name].setToolTip(drop.meaning)

    def _show_status(self, status: StatusMessage) -> None:
        show = self.figures
        show["frames in"].show_text(f"{status.frames_in:,}")
        show["frames/s in"].show_text(f"{status.fps_in:.0f}")
        behind = status.fps_out < 0.9 * status.fps_in
        colour = palette.WARN if behind and status.state == "running" else palette.TEXT
        show["frames/s out"].show_text(f"{status.fps_out:.0f}", colour)
        show["latency p50"].show_text(f"{status.latency_ms_p50:.1f} ms")
        show["latency p99"].show_text(f"{status.latency_ms_p99:.1f} ms")
        share = status.ring_used / status.ring_size if status.ring_size else 0.0
        level = "good" if share < 0.5 else "fair" if share < 0.9 else "poor"
        colour = palette.TEXT if level == "good" else palette.LEVEL_COLOURS[level]
        show["ring"].show_text(words.percent(share), colour)
        show["tracks"].show_text(f"{status.tracks_live:,}")
        show["written"].show_text(words.size(status.journal_bytes))


class VerdictLine(QtWidgets.QFrame):
    """What the data are like, in one line."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("panel")
        self.text = label("verdict")
        self.text.setWordWrap(True)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(14, 6, 14, 6)
        row.addWidget(self.text)

    def show_state(self, state: LiveState) -> None:
        """Draw the newest verdict."""
        verdict = judge_state(state)
        colour = palette.LEVEL_COLOURS[verdict.level]
        why = "; ".join(verdict.reasons)
        tail = f" &nbsp; <span style='color:{palette.CALM}'>{why}</span>" if why else ""
        level = "" if verdict.level == "unknown" else verdict.level
        self.text.setText(f"{verdict.text} &nbsp; <b style='color:{colour}'>{level}</b>{tail}")
