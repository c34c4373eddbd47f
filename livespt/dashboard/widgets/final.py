"""The final answer beside the live one, once the final pass has ended."""

from __future__ import annotations

from livespt.dashboard import palette, words
from livespt.dashboard.qt import QtWidgets, label
from livespt.dashboard.state import LiveState
from livespt.dashboard.widgets.axes import aligned
from livespt.wire.schema import FinalMessage, ModelMessage


class FinalPanel(QtWidgets.QFrame):
    """A table of states: D and occupancy of the final pass with intervals, and the live values."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("panel")
        self.title = label("state", "final answer", palette.ACCENT)
        self.rows = QtWidgets.QGridLayout()
        self.rows.setHorizontalSpacing(22)
        self.rows.setVerticalSpacing(2)
        self._shown: FinalMessage | None = None
        column = QtWidgets.QVBoxLayout(self)
        column.setContentsMargins(14, 8, 14, 8)
        column.addWidget(self.title)
        column.addLayout(self.rows)
        self.hide()

    def show_state(self, state: LiveState) -> None:
        """Show the panel when there is a final answer, hide it when there is none."""
        if state.final is self._shown:
            return
        self._shown = state.final
        self.setVisible(state.final is not None)
        if state.final:
            self._fill(state.final, state.model)

    def _fill(self, final: FinalMessage, live: ModelMessage | None) -> None:
        while self.rows.count():
            item = self.rows.takeAt(0)
            if item and (cell := item.widget()):
                cell.deleteLater()
        self.title.setText(
            f"final answer   {final.n_tracks:,} tracks, {final.n_spots:,} spots, "
            f"{final.seconds:.1f} s"
        )
        heads = ("", "D  µm²/s", "95 %", "live", "occupancy", "95 %", "live")
        for column, head in enumerate(heads):
            self.rows.addWidget(label("title", head), 0, column)
        for k in range(len(final.model.D_um2_s)):
            self._fill_row(k, final.model, live)
        self.rows.setColumnStretch(len(heads), 1)

    def _fill_row(self, k: int, model: ModelMessage, live: ModelMessage | None) -> None:
        colour, D_95 = palette.state_colour(k), model.D_95[k]
        live_D = live_share = "-"
        if live is not None and k < len(live.D_um2_s):
            live_D = words.estimate(live.D_um2_s[k], live.D_95[k])
            live_share = words.percent(live.occupancy[k])
        cells = (
            (words.state_name(k, len(model.D_um2_s)), colour),
            (words.estimate(model.D_um2_s[k], D_95), colour),
            (words.span(D_95, model.D_um2_s[k]), palette.TEXT),
            (live_D, palette.CALM),
            (words.percent(model.occupancy[k]), colour),
            (words.percent_span(model.occupancy_95[k]), palette.TEXT),
            (live_share, palette.CALM),
        )
        for column, (text, shade) in enumerate(cells):
            cell = label("cell", text, shade)
            self.rows.addWidget(aligned(cell) if column else cell, k + 1, column)
