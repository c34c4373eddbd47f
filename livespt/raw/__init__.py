"""Raw frames on disk: their file format, its writer, and the queue before it."""

from livespt.raw.pages import FILE, RawError
from livespt.raw.saver import NOTHING_SAVED, Saver, Standing
from livespt.raw.writer import RawWriter

__all__ = ["FILE", "NOTHING_SAVED", "RawError", "RawWriter", "Saver", "Standing"]
