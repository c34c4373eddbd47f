"""Frame sources: cameras, movies, and the ring between a camera and the analysis."""

from livespt.sources.base import Source, SourceError, known_sources, open_source
from livespt.sources.gaps import GapDetector
from livespt.sources.ring import BufferedSource, Counters, Ring, RingFull

__all__ = [
    "BufferedSource",
    "Counters",
    "GapDetector",
    "Ring",
    "RingFull",
    "Source",
    "SourceError",
    "known_sources",
    "open_source",
]
