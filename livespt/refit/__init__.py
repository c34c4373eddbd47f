"""Full refits after the acquisition, by the methods of the field, on the steps of `livespt.infer`.

`refit` takes tracks, or regions of pixels around one or many molecules, and the name of a method
(`METHODS`); whatever the method, the answer is one `Refit`.
"""

from __future__ import annotations

from livespt.refit.methods import METHODS, Method, refit
from livespt.refit.regions import Molecules, Regions
from livespt.refit.result import Parameter, Refit, RefitError
from livespt.refit.track_files import read_tracks
from livespt.refit.tracks import TrackTable, make_tracks, select

__all__ = [
    "METHODS",
    "Method",
    "Molecules",
    "Parameter",
    "Refit",
    "RefitError",
    "Regions",
    "TrackTable",
    "make_tracks",
    "read_tracks",
    "refit",
    "select",
]
