"""The window: parts laid out, fed at a fixed pace whatever the rate of messages.

A tick every 33 ms takes what the feed holds (a bounded portion), files it in the state and
redraws the image; numbers and curves follow some four times a second. Nothing is redrawn that has
not changed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from livespt.dashboard import palette
from livespt.dashboard.qt import QtCore, QtGui, QtWidgets, label
from livespt.dashboard.state import LiveState
from livespt.dashboard.theme import STYLE_SHEET
from livespt.dashboard.widgets.cards import Cards
from livespt.dashboard.widgets.events import EventList
from livespt.dashboard.widgets.final import FinalPanel
from livespt.dashboard.widgets.header import Header
from livespt.dashboard.widgets.image import LiveImage
from livespt.dashboard.widgets.plots import Plots
from livespt.dashboard.widgets.strip import StatusStrip, VerdictLine
from livespt.types import LivesptError
from livespt.wire.schema import AnyMessage

TICK_MS = 33
SLOW_TICKS = 7
CURVE_POINTS = 512  # at most; a plot is some 700 pixels wide
SIZE = (1500, 940)


class Stream(Protocol):
    """What the window needs of `livespt.dashboard.feed.Feed`."""

    publish: str
    error: str
    reply: str

    @property
    def lost(self) -> int:
        """Messages lost on the way here."""
        ...

    @property
    def silent_s(self) -> float:
        """Seconds since the publisher was last heard."""
        ...

    def take(self, most: int = 500) -> list[AnyMessage]:
        """Return what is new."""
        ...

    def stop_run(self, reason: str = ...) -> None:
        """Ask the run to end."""
        ...


class ScreenshotError(LivesptError):
    """The window's picture cannot be written."""


class DashboardWindow(QtWidgets.QWidget):
    """A run as it happens.

    Parameters
    ----------
    feed : Stream
        Where messages come from; started and closed by whoever made it.
    """

    def __init__(self, feed: Stream) -> None:
        super().__init__()
        self.setWindowTitle("livespt")
        self.setStyleSheet(STYLE_SHEET)
        self.resize(*SIZE)
        self.feed = feed
        self.state = LiveState(CURVE_POINTS)
        self.header, self.cards, self.final = Header(), Cards(), FinalPanel()
        self.image, self.plots, self.events = LiveImage(), Plots(), EventList()
        self.verdict, self.strip = VerdictLine(), StatusStrip()
        self.progress = QtWidgets.QProgressBar()
        self.progress.setRange(0, 1000)
        self.notice = label("caption")
        self.header.stop_asked.connect(lambda: self.feed.stop_run())
        self._lay_out()
        self._n_ticks = 0
        self._drawn_version = -1
        self._timer = QtCore.QTimer(self)
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self.tick)
        self._timer.start()
        self.draw()

    def tick(self) -> None:
        """Take what is new and draw it."""
        for message in self.feed.take():
            self.state.update(message)
        self.state.lost = self.feed.lost
        self._n_ticks += 1
        self.image.show_state(self.state)
        if self._n_ticks % SLOW_TICKS == 0:
            self._draw_slow()

    def draw(self) -> None:
        """Draw everything now."""
        self.image.show_state(self.state)
        self._drawn_version = -1
        self._draw_slow()

    def grab_png(self, path: str | Path) -> Path:
        """Write a picture of the window as it stands.

        Raises
        ------
        ScreenshotError
            The file cannot be written.
        """
        self.draw()
        path = Path(path)
        if not self.grab().save(str(path), "PNG"):  # type: ignore[call-overload]
            raise ScreenshotError(f"{path}: cannot write a picture there")
        return path

    def closeEvent(self, event: QtGui.QCloseEvent) -> None:
        """Stop ticking."""
        self._timer.stop()
        super().closeEvent(event)

    def _draw_slow(self) -> None:
        self.header.show_state(self.state, self.feed.silent_s)
        self._show_notice()
        if self.state.version == self._drawn_version:
            return
        self._drawn_version = self.state.version
        self._show_progress()
        for part in (self.cards, self.final, self.plots, self.events, self.verdict, self.strip):
            part.show_state(self.state)

    def _show_progress(self) -> None:
        status = self.state.status
        busy = status is not None and status.state in ("compiling", "finishing")
        self.progress.setVisible(busy)
        if status and busy:
            what = "compiling" if status.state == "compiling" else "final pass"
            self.progress.setFormat(f"{what}  %p %  {status.note}".rstrip())
            self.progress.setValue(round(1000 * min(1.0, max(0.0, status.progress))))

    def _show_notice(self) -> None:
        waiting = "" if self.state.version else f"waiting for a run at {self.feed.publish}"
        text = self.feed.error or self.feed.reply or waiting
        colour = palette.BAD if self.feed.error else palette.CALM
        if text != self.notice.text():
            self.notice.setText(text)
            self.notice.setStyleSheet(f"color: {colour}; font-size: 15px")
        self.notice.setVisible(bool(text))

    def _lay_out(self) -> None:
        column = QtWidgets.QVBoxLayout(self)
        column.setContentsMargins(12, 10, 12, 12)
        column.setSpacing(10)
        column.addWidget(self.header)
        column.addWidget(self.notice)
        column.addWidget(self.progress)
        body = QtWidgets.QHBoxLayout()
        body.setSpacing(10)
        body.addLayout(_stack((self.image, 1), (self.verdict, 0), (self.events, 0)), 10)
        body.addLayout(_stack((self.cards, 0), (self.final, 0), (self.plots, 1)), 11)
        self.events.setFixedHeight(132)
        column.addLayout(body, 1)
        column.addWidget(self.strip)


def _stack(*parts: tuple[QtWidgets.QWidget, int]) -> QtWidgets.QVBoxLayout:
    column = QtWidgets.QVBoxLayout()
    column.setSpacing(10)
    for widget, stretch in parts:
        column.addWidget(widget, stretch)
    return column
