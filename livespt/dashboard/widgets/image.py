"""The live image, with each track's spot circled and its tail fading behind it.

Circles and tails are those of the image's own frame, so that they sit on their spots however
much faster the answers come than the images.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from livespt.dashboard import palette
from livespt.dashboard.qt import QtCore, QtGui, QtWidgets, label, pg
from livespt.dashboard.state import LiveState
from livespt.dashboard.tails import Positions, Tails
from livespt.dashboard.widgets.axes import plot, view_box
from livespt.wire.schema import HelloMessage, ImageMessage

N_AGES = 5
_LEVELS_PERCENT = (2.0, 99.8)
_LEVELS_WEIGHT = 0.2  # of the newest image in the smoothed levels
_CIRCLE_PIXELS = 7  # camera pixels across ...
_CIRCLE_SIZES = (10.0, 20.0)  # ... within these sizes on the screen


class LiveImage(QtWidgets.QFrame):
    """The newest image on um axes, origin at the centre of the first pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("panel")
        self.caption = label("caption", "no image yet")
        self.view = plot("image", x_label="x (µm)")
        self.view.setLabel("left", "y (µm)", color=palette.CALM, **{"font-size": "13px"})
        self.view.getAxis("left").setWidth(48)
        self.view.showGrid(x=False, y=False)
        self.view.invertY(True)
        self.view.setAspectLocked(True)
        self.image = pg.ImageItem(axisOrder="row-major")
        self.view.addItem(self.image)
        self.circles: list[pg.ScatterPlotItem] = []
        self.tails: list[list[pg.PlotCurveItem]] = []
        self._shown: tuple[str, int] | None = None
        self._circled: Positions | None = None
        self._framed: HelloMessage | None = None
        self._levels: NDArray[np.float64] | None = None
        column = QtWidgets.QVBoxLayout(self)
        column.setContentsMargins(10, 6, 10, 6)
        column.setSpacing(2)
        column.addWidget(self.caption)
        column.addWidget(self.view, 1)

    def show_state(self, state: LiveState) -> None:
        """Draw the newest image and, over it, the tracks of its frame."""
        self._show_frame(state.hello)
        if state.n_states != len(self.circles):
            self._rebuild(state.n_states)
            self._circled = None
        image = state.image
        if state.hello and image and self._shown != (image.run, image.frame):
            self._show_image(image, state.hello.pixel_um)
            self._shown = (image.run, image.frame)
        elif state.hello is None or image is None:
            self.image.clear()
            self._levels = self._shown = None
        positions = _positions_for(state)
        if positions is not self._circled:
            self._circled = positions
            self._show_tracks(state.tails, positions)
        self._show_caption(state, positions)

    def _show_frame(self, hello: HelloMessage | None) -> None:
        if hello is None or hello is self._framed:
            return
        self._framed = hello
        height, width = hello.shape
        edge = -0.5 * hello.pixel_um
        rect = QtCore.QRectF(edge, edge, width * hello.pixel_um, height * hello.pixel_um)
        self.view.setRange(rect, padding=0.01)

    def _show_image(self, message: ImageMessage, pixel_um: float) -> None:
        adu = message.adu.array()
        pixel_um = pixel_um * message.binning
        # The centre of camera pixel (0, 0) is the origin, so the image's edge is half a CAMERA
        # pixel before it, binned or not.
        edge = -0.5 * pixel_um / message.binning
        height, width = adu.shape
        self.image.setImage(adu, autoLevels=False, levels=self._smooth_levels(adu))
        self.image.setRect(QtCore.QRectF(edge, edge, width * pixel_um, height * pixel_um))

    def _smooth_levels(self, adu: NDArray[np.uint16]) -> tuple[float, float]:
        step = max(1, int(np.sqrt(adu.size / 40_000)))
        now = np.percentile(adu[::step, ::step], _LEVELS_PERCENT)
        if self._levels is None:
            self._levels = now
        self._levels = self._levels + _LEVELS_WEIGHT * (now - self._levels)
        low, high = (float(v) for v in self._levels)
        return low, max(high, low + 1.0)

    def _show_tracks(self, tails: Tails, positions: Positions | None) -> None:
        if positions is None:
            for k in range(len(self.circles)):
                self.circles[k].clear()
                for curve in self.tails[k]:
                    curve.clear()
            return
        size = self._circle_size()
        segments = tails.segments(positions)
        bucket = np.minimum((segments.age * N_AGES).astype(np.intp), N_AGES - 1)
        for k, circles in enumerate(self.circles):
            mine = positions.state == k
            circles.setData(positions.x_um[mine], positions.y_um[mine], size=size)
            for age, curve in enumerate(self.tails[k]):
                part = (segments.state == k) & (bucket == age)
                curve.setData(
                    segments.x_um[part].ravel(), segments.y_um[part].ravel(), connect="pairs"
                )

    def _circle_size(self) -> float:
        """Return the diameter in screen pixels that fits the present zoom."""
        um_per_px = view_box(self.view).viewPixelSize()[0]
        if self._framed is None or not um_per_px > 0:
            return _CIRCLE_SIZES[0]
        return float(np.clip(_CIRCLE_PIXELS * self._framed.pixel_um / um_per_px, *_CIRCLE_SIZES))

    def _show_caption(self, state: LiveState, positions: Positions | None) -> None:
        image = state.image
        if image is None:
            self.caption.setText("no image yet")
            return
        text = f"frame {image.frame:,}   {image.t_s:.2f} s"
        if image.binning > 1:
            text += f"   binned {image.binning} × {image.binning}"
        if positions is not None:
            text += f"   {len(positions.x_um)} molecules"
        self.caption.setText(text)

    def _rebuild(self, n_states: int) -> None:
        for item in (*self.circles, *(c for curves in self.tails for c in curves)):
            self.view.removeItem(item)
        self.circles, self.tails = [], []
        for k in range(n_states):
            colour = palette.state_colour(k)
            pen = pg.mkPen(colour, width=1.6)
            circles = pg.ScatterPlotItem(pen=pen, brush=None, pxMode=True)
            curves = [pg.PlotCurveItem(pen=_faded(colour, age)) for age in range(N_AGES)]
            for item in (*curves, circles):
                self.view.addItem(item)
            self.circles.append(circles)
            self.tails.append(curves)


def _positions_for(state: LiveState) -> Positions | None:
    at = state.tails.at(state.image.frame) if state.image else None
    return at or state.tails.newest()


def _faded(colour: str, age: int) -> QtGui.QPen:
    shade = QtGui.QColor(colour)
    shade.setAlphaF(0.9 * (1 - age / N_AGES))
    return pg.mkPen(shade, width=2)
