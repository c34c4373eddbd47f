"""What a camera is, from dark and flat series: gain, offset and noise, each with its error."""

from livespt.calibration.direction import note_on_gain
from livespt.calibration.errors import CalibrationError
from livespt.calibration.plots import draw_plots, need_matplotlib
from livespt.calibration.result import Calibration, Options, calibrate

__all__ = [
    "Calibration",
    "CalibrationError",
    "Options",
    "calibrate",
    "draw_plots",
    "need_matplotlib",
    "note_on_gain",
]
