"""What happened to the stream: the newest events, newest at the bottom."""

from __future__ import annotations

from livespt.dashboard import palette, words
from livespt.dashboard.qt import QtCore, QtGui, QtWidgets
from livespt.dashboard.state import LiveState
from livespt.wire.schema import EventMessage


class EventList(QtWidgets.QListWidget):
    """A bounded list of events, rewritten only when there are new ones."""

    def __init__(self) -> None:
        super().__init__()
        self.setFocusPolicy(QtCore.Qt.FocusPolicy.NoFocus)
        self.setSelectionMode(QtWidgets.QAbstractItemView.SelectionMode.NoSelection)
        self.setHorizontalScrollBarPolicy(QtCore.Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._shown: tuple[str, int, int] | None = None

    def show_state(self, state: LiveState) -> None:
        """Draw the events if they have changed."""
        events = state.events
        now = (state.run, len(events), events[-1].seq if events else -1)
        if now == self._shown:
            return
        self._shown = now
        self.clear()
        for event in events:
            self.addItem(_item(event))
        if not events:
            self._say_so()
        self.scrollToBottom()

    def _say_so(self) -> None:
        item = QtWidgets.QListWidgetItem("no events")
        item.setForeground(QtGui.QColor(palette.CALM))
        self.addItem(item)


def _item(event: EventMessage) -> QtWidgets.QListWidgetItem:
    word = words.event_word(event)
    text = f"{words.clock(event.t_s):>7}  {word:<9}  {event.message}"
    item = QtWidgets.QListWidgetItem(text)
    item.setForeground(QtGui.QColor(palette.EVENT_COLOURS.get(word, palette.CALM)))
    item.setToolTip(event.message)
    return item
