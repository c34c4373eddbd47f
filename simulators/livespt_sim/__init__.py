"""A simulated microscope with ground truth: a source of frames for livespt, and its judge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from livespt_sim.source import SimulatedMicroscope, open_source
    from livespt_sim.truth import Truth, load_truth

__all__ = ["SimulatedMicroscope", "Truth", "load_truth", "open_source"]


def __getattr__(name: str) -> Any:
    """Import what is asked for: the laser's guard is to start without the microscope's kernels."""
    import importlib

    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    room = "truth" if name in ("Truth", "load_truth") else "source"
    return getattr(importlib.import_module(f"{__name__}.{room}"), name)
