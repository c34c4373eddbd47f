"""Motion inference: how each molecule diffuses, live and in a final smoothing pass."""

from __future__ import annotations

from livespt.infer.follow import Follower
from livespt.infer.motion import InferError
from livespt.infer.online import OnlineFilter
from livespt.infer.pixels import PixelEstimate, PixelFilter, PixelFilterError
from livespt.infer.smooth import FinalResult, smooth_run, smoothed_dtype
from livespt.infer.smooth import warm_up as warm_up_smoother

__all__ = [
    "FinalResult",
    "Follower",
    "InferError",
    "OnlineFilter",
    "PixelEstimate",
    "PixelFilter",
    "PixelFilterError",
    "smooth_run",
    "smoothed_dtype",
    "warm_up_smoother",
]
