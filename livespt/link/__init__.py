"""Spots into tracks: probabilistic, frame by frame, with nothing to tune (SCIENCE 7)."""

from livespt.link.linker import FrameOrderError, Linker, LinkError

__all__ = ["FrameOrderError", "LinkError", "Linker"]
