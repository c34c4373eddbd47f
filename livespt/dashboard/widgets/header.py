"""The top line: which run, from where, its state, its light, its clock, and the way to stop it."""

from __future__ import annotations

from livespt.dashboard import palette, words
from livespt.dashboard.qt import QtCore, QtWidgets, label
from livespt.dashboard.state import LiveState
from livespt.wire.schema import ControlMessage

SILENT_AFTER_S = 3.0
ARMED_FOR_MS = 3000
_OVER = ("done", "failed", "finishing")


class Header(QtWidgets.QWidget):
    """Run, source, state, clock and the stop button.

    `stop_asked` fires on the second of two clicks within `ARMED_FOR_MS`: one slip of the hand
    ends no experiment.
    """

    stop_asked = QtCore.Signal()

    def __init__(self) -> None:
        super().__init__()
        self.run = label("run", "no run yet")
        self.source = label("source")
        self.pill = label("pill")
        self.light = label("light")
        self.clock = label("clock", "0:00")
        self.stop = QtWidgets.QPushButton("Stop")
        self.stop.setObjectName("stop")
        self.stop.clicked.connect(self._clicked)
        self._disarm_later = QtCore.QTimer(self, singleShot=True, interval=ARMED_FOR_MS)
        self._disarm_later.timeout.connect(lambda: self._arm(False))
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(4, 0, 4, 0)
        row.setSpacing(14)
        for widget in (label("brand", "livespt"), self.run, self.source):
            row.addWidget(widget)
        row.addStretch(1)
        row.addWidget(self.light)
        for widget in (self.pill, self.clock, self.stop):
            row.addWidget(widget)

    def show_state(self, state: LiveState, silent_s: float = 0.0) -> None:
        """Draw the header; `silent_s` is how long the publisher has said nothing."""
        hello = state.hello
        self.run.setText(state.title)
        self.source.setText("")
        if hello:
            height, width = hello.shape
            text = f"{hello.source}   {width} × {height} px   {1e3 * hello.interval_s:.3g} ms"
            self.source.setText(text)
        name = state.run_state
        if name not in _OVER and name != "waiting" and silent_s > SILENT_AFTER_S:
            name = f"silent for {silent_s:.0f} s"
        self._set_pill(name)
        self._set_light(state.control)
        self.clock.setText(words.clock(state.elapsed_s))
        self.stop.setEnabled(state.hello is not None and state.run_state not in _OVER)

    def _set_light(self, control: ControlMessage | None) -> None:
        """Say what the light does; a fault in red."""
        if control is None:
            self.light.setText("")
            return
        fault = control.faults[-1] if control.faults else ""
        self.light.setText(f"FAULT {fault}"[:60] if fault else words.light(control))
        self.light.setToolTip(fault or control.why)
        self.light.setStyleSheet(f"color: {palette.BAD if fault else palette.CALM}")

    def _set_pill(self, name: str) -> None:
        if name == self.pill.text():
            return
        colour = palette.RUN_STATE_COLOURS.get(name, palette.WARN)
        self.pill.setText(name)
        self.pill.setStyleSheet(f"color: {palette.GROUND}; background: {colour}")

    def _clicked(self) -> None:
        if self.stop.property("armed"):
            self._arm(False)
            self.stop_asked.emit()
        else:
            self._arm(True)
            self._disarm_later.start()

    def _arm(self, armed: bool) -> None:
        self.stop.setText("Click again to stop" if armed else "Stop")
        self.stop.setProperty("armed", armed)
        self.stop.style().polish(self.stop)
