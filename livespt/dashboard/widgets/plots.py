"""The answer and the data against time: D, occupancy, precision, signal to background."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from livespt.dashboard import palette
from livespt.dashboard.qt import QtWidgets, pg
from livespt.dashboard.state import ANSWER_COLUMNS, LiveState
from livespt.dashboard.widgets.axes import Band, follow_time, plot, set_y_range, titled

_SETTLED_FROM = 0.15  # the axis of D is fitted to the curve after this share of the run
_MIN_DECADES = 0.5


class Plots(QtWidgets.QWidget):
    """Four plots that share the run's time axis."""

    def __init__(self) -> None:
        super().__init__()
        self.D = plot("D of each state, 95 % band", log=True)
        self.occupancy = plot("share of molecules in each state, 95 % band")
        set_y_range(self.occupancy, -0.06, 1.09)
        self.occupancy.getAxis("left").setTicks([[(v / 2, f"{50 * v} %") for v in range(3)]])
        self.precision = plot("median localization precision", x_label="time (s)")
        self.sbr = plot("median signal to background", x_label="time (s)")
        self._precision = _line(self.precision, palette.TEXT)
        self._sbr = _line(self.sbr, palette.TEXT)
        self.bands: list[tuple[Band, Band]] = []
        self._lay_out()

    def show_state(self, state: LiveState) -> None:
        """Draw the whole history."""
        if state.n_states != len(self.bands):
            self._rebuild(state.n_states)
        self._show_answers(*state.answers.rows())
        t_s, figures = state.figures.rows()
        self._precision.setData(t_s, 1e3 * figures[:, 0])
        self._sbr.setData(t_s, figures[:, 1])
        for widget, column in ((self.precision, 1e3 * figures[:, 0]), (self.sbr, figures[:, 1])):
            follow_time(widget, t_s)
            if len(t_s):
                set_y_range(widget, 0, 1.3 * float(np.percentile(column, 98)) + 1e-6)

    def _show_answers(self, t_s: NDArray[np.float64], rows: NDArray[np.float64]) -> None:
        for k, (D_band, share_band) in enumerate(self.bands):
            one = rows[:, k * ANSWER_COLUMNS : (k + 1) * ANSWER_COLUMNS]
            if one.shape[1]:
                D_band.set_data(t_s, *np.log10(np.maximum(one[:, :3], 1e-9)).T)
                share_band.set_data(t_s, *one[:, 3:].T)
        if len(t_s):
            self._fit_D(rows)
        follow_time(self.D, t_s)
        follow_time(self.occupancy, t_s)

    def _fit_D(self, rows: NDArray[np.float64]) -> None:
        """Fit the axis to the values and to the bands once they have settled."""
        n_states = rows.shape[1] // ANSWER_COLUMNS
        cube = rows.reshape(len(rows), n_states, ANSWER_COLUMNS)
        settled = cube[int(_SETTLED_FROM * len(rows)) :]
        D = np.log10(np.maximum(settled[:, :, 0], 1e-9))
        bounds = np.log10(np.maximum(settled[-1, :, 1:3], 1e-9))
        low, high = min(D.min(), bounds.min()), max(D.max(), bounds.max())
        air = max(0.1, (_MIN_DECADES - (high - low)) / 2)
        set_y_range(self.D, low - air, high + air)

    def _rebuild(self, n_states: int) -> None:
        for D_band, share_band in self.bands:
            D_band.remove(self.D)
            share_band.remove(self.occupancy)
        colours = [palette.state_colour(k) for k in range(n_states)]
        self.bands = [(Band(self.D, c), Band(self.occupancy, c)) for c in colours]

    def _lay_out(self) -> None:
        grid = QtWidgets.QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(10)
        grid.addWidget(titled("diffusion coefficient  µm²/s", self.D), 0, 0, 1, 2)
        grid.addWidget(titled("occupancy", self.occupancy), 1, 0, 1, 2)
        grid.addWidget(titled("localization precision  nm", self.precision), 2, 0)
        grid.addWidget(titled("signal to background", self.sbr), 2, 1)
        for row, stretch in enumerate((5, 3, 3)):
            grid.setRowStretch(row, stretch)


def _line(widget: pg.PlotWidget, colour: str) -> pg.PlotCurveItem:
    curve = pg.PlotCurveItem(pen=pg.mkPen(colour, width=2), antialias=True)
    widget.addItem(curve)
    return curve
