"""From a frame to spots: detection by false-alarm rate, then a maximum-likelihood fit of each."""

from livespt.localize.detection import DETECTION_DTYPE, detect
from livespt.localize.errors import LocalizeError
from livespt.localize.fit import FIT_DTYPE, fit_rois
from livespt.localize.guided import Guide
from livespt.localize.localizer import Localizer

__all__ = [
    "DETECTION_DTYPE",
    "FIT_DTYPE",
    "Guide",
    "LocalizeError",
    "Localizer",
    "detect",
    "fit_rois",
]
