"""Plots in the house's look, and a log axis that labels 1, 2 and 5 of each decade."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np

from livespt.dashboard.palette import CALM, EDGE, PANEL, TEXT
from livespt.dashboard.qt import QtCore, QtGui, QtWidgets, label, pg

_STEPS = ((1, 2, 5), (1, 3), (1,))


class LogAxis(pg.AxisItem):
    """An axis over log10 of a quantity: ticks at 1, 2, 5 as far as they have room."""

    def tickValues(self, minVal: float, maxVal: float, size: float) -> list[Any]:
        """Return the ticks between `minVal` and `maxVal` (log10)."""
        room = max(2, int(size // 24))
        ticks = log_ticks(minVal, maxVal, room)
        return [(1.0, ticks)]

    def tickStrings(self, values: list[float], scale: float, spacing: float) -> list[str]:
        """Return the quantities themselves."""
        return [f"{10**v:.3g}" for v in values]


def log_ticks(low: float, high: float, room: int) -> list[float]:
    """Return at most about `room` ticks between `low` and `high`, all in log10."""
    first, last = math.floor(low), math.ceil(high)
    ticks: list[float] = []
    for steps in _STEPS:
        all_ticks = [d + math.log10(s) for d in range(first, last + 1) for s in steps]
        ticks = [t for t in all_ticks if low <= t <= high]
        if len(ticks) <= room:
            return ticks
    return ticks[:: math.ceil(len(ticks) / room)]


def plot(y_label: str, *, log: bool = False, x_label: str = "") -> pg.PlotWidget:
    """Return an empty plot in the house's look; its data are log10 where `log`."""
    axes: dict[str, pg.AxisItem] = {"left": LogAxis("left")} if log else {}
    widget = pg.PlotWidget(background=PANEL, axisItems=axes)
    item = cast("pg.PlotItem", widget.getPlotItem())
    item.setMenuEnabled(False)
    item.hideButtons()
    item.setContentsMargins(0, 4, 8, 0)
    item.showGrid(x=True, y=True, alpha=0.12)
    item.getViewBox().setDefaultPadding(0.03)
    font = QtGui.QFont()
    font.setPixelSize(13)
    for side in ("left", "bottom"):
        axis = item.getAxis(side)
        axis.setPen(pg.mkPen(EDGE))
        axis.setTextPen(pg.mkPen(CALM))
        axis.setStyle(tickFont=font)
        axis.enableAutoSIPrefix(False)
    item.getAxis("left").setWidth(54)
    if x_label:
        item.setLabel("bottom", x_label, color=CALM, **{"font-size": "13px"})
    widget.setToolTip(y_label)
    return widget


def titled(title: str, widget: QtWidgets.QWidget) -> QtWidgets.QFrame:
    """Return `widget` in a panel under its title."""
    panel = QtWidgets.QFrame()
    panel.setObjectName("panel")
    column = QtWidgets.QVBoxLayout(panel)
    column.setContentsMargins(10, 6, 10, 6)
    column.setSpacing(2)
    column.addWidget(label("title", title))
    column.addWidget(widget, 1)
    return panel


class Band:
    """A curve with its interval as a band around it.

    The band is one closed path: cheaper to renew than a fill between two curves.
    """

    def __init__(self, widget: pg.PlotWidget, colour: str = TEXT) -> None:
        shade = QtGui.QColor(colour)
        shade.setAlpha(60)
        self._band = QtWidgets.QGraphicsPathItem()
        self._band.setPen(pg.mkPen(None))
        self._band.setBrush(shade)
        self._line = pg.PlotCurveItem(pen=pg.mkPen(colour, width=2), antialias=True)
        view_box(widget).addItem(self._band, ignoreBounds=True)
        widget.addItem(self._line)

    def set_data(self, t_s: Any, value: Any, low: Any, high: Any) -> None:
        """Draw `value` (n,) against `t_s` (n,) between `low` and `high`."""
        there_and_back = np.concatenate((t_s, t_s[::-1]))
        self._band.setPath(pg.arrayToQPath(there_and_back, np.concatenate((low, high[::-1]))))
        self._line.setData(t_s, value)

    @property
    def value(self) -> Any:
        """What is drawn, as (t_s, value)."""
        return self._line.getData()

    def remove(self, widget: pg.PlotWidget) -> None:
        """Take the band out of its plot."""
        view_box(widget).removeItem(self._band)
        widget.removeItem(self._line)


def follow_time(widget: pg.PlotWidget, t_s: Any) -> None:
    """Let the time axis span exactly the run so far."""
    if len(t_s):
        start, end = float(t_s[0]), float(t_s[-1])
        air = 0.01 * max(1.0, end - start)
        view_box(widget).setXRange(start - air, max(end, start + 1.0) + air, padding=0)


def set_y_range(widget: pg.PlotWidget, low: float, high: float) -> None:
    """Let the vertical axis span `low` to `high` exactly."""
    view_box(widget).setYRange(low, high, padding=0)


def view_box(widget: pg.PlotWidget) -> pg.ViewBox:
    """Return the plot's view box."""
    return cast("pg.PlotItem", widget.getPlotItem()).getViewBox()


def aligned(widget: QtWidgets.QLabel) -> QtWidgets.QLabel:
    """Return `widget` with its text to the right."""
    widget.setAlignment(QtCore.Qt.AlignmentFlag.AlignRight | QtCore.Qt.AlignmentFlag.AlignVCenter)
    return widget
