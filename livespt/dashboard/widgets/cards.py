"""Big numbers: D and occupancy of each state, one card to a state."""

from __future__ import annotations

from livespt.dashboard import palette, words
from livespt.dashboard.qt import QtCore, QtWidgets, label
from livespt.dashboard.state import LiveState
from livespt.dashboard.widgets.axes import aligned
from livespt.wire.schema import ModelMessage

_D_SIZE = {1: 60, 2: 56, 3: 46, 4: 36}


class StateCard(QtWidgets.QFrame):
    """One state: its D and its occupancy, each with its interval."""

    def __init__(self, k: int, n_states: int) -> None:
        super().__init__()
        self.setObjectName("panel")
        self.k, colour = k, palette.state_colour(k)
        big = _D_SIZE.get(n_states, 36)
        self.name = label("state", f"● {words.state_name(k, n_states)}", colour)
        self.D = label("D", "-")
        self.D.setStyleSheet(f"color: {colour}; font-size: {big}px; font-weight: 700")
        self.D_95 = label("interval")
        self.share = label("share", "-")
        self.share.setStyleSheet(f"color: {colour}; font-size: {big * 2 // 3}px; font-weight: 700")
        self.share_95 = aligned(label("interval"))
        grid = QtWidgets.QGridLayout(self)
        grid.setContentsMargins(14, 8, 14, 10)
        grid.setVerticalSpacing(0)
        grid.addWidget(self.name, 0, 0)
        grid.addWidget(label("unit", "D  µm²/s"), 0, 1, QtCore.Qt.AlignmentFlag.AlignRight)
        grid.addWidget(self.D, 1, 0, 1, 2)
        grid.addWidget(self.D_95, 2, 0, 1, 2)
        grid.addWidget(self.share, 3, 0)
        grid.addWidget(self.share_95, 3, 1)
        grid.setColumnStretch(0, 1)

    def show_model(self, model: ModelMessage) -> None:
        """Draw the numbers of this card's state."""
        k, D_95 = self.k, model.D_95[self.k]
        self.D.setText(words.headline(model.D_um2_s[k]))
        self.D_95.setText("95 %:  " + words.span(D_95, model.D_um2_s[k]))
        self.share.setText(words.percent(model.occupancy[k]))
        self.share_95.setText("occupancy\n" + words.percent_span(model.occupancy_95[k]))


class Cards(QtWidgets.QWidget):
    """The cards of all states side by side, rebuilt when their number changes."""

    def __init__(self) -> None:
        super().__init__()
        self.cards: list[StateCard] = []
        self._row = QtWidgets.QHBoxLayout(self)
        self._row.setContentsMargins(0, 0, 0, 0)
        self._row.setSpacing(10)

    def show_state(self, state: LiveState) -> None:
        """Draw the newest answer."""
        if state.n_states != len(self.cards):
            self._rebuild(state.n_states)
        if state.model:
            for card in self.cards:
                card.show_model(state.model)

    def _rebuild(self, n_states: int) -> None:
        for card in self.cards:
            self._row.removeWidget(card)
            card.deleteLater()
        self.cards = [StateCard(k, n_states) for k in range(n_states)]
        for card in self.cards:
            self._row.addWidget(card)
