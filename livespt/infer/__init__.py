"""Motion inference: how each molecule diffuses, live and in a final smoothing pass."""

from __future__ import annotations

from livespt.infer.motion import InferError
from livespt.infer.online import OnlineFilter

__all__ = ["InferError", "OnlineFilter"]
