"""livespt's own raw files as a movie: all parts, with each frame's number, time and exposure."""

from __future__ import annotations

from array import array
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from livespt.sources.base import SourceError
from livespt.sources.datasets import Series
from livespt.sources.growing import GrowingTiff, Page
from livespt.sources.movies import Movie

_FACTS = ("ImageNumber", "t_s", "exposure_s", "excitation")


class _Found:
    """The frames of all parts: their files and places, and what belongs to each."""

    def __init__(self) -> None:
        self.files: list[GrowingTiff] = []
        self.first: list[int] = []  # number of the first frame in each file
        self.places = array("Q")
        self.facts = tuple(array("d") for _ in _FACTS)
        self.page: Page | None = None

    def add(self, file: GrowingTiff, page: Page) -> None:
        """Note one more frame."""
        if not self.files or file is not self.files[-1]:
            self.files.append(file)
            self.first.append(len(self.places))
        self.page = self.page or page._replace(tags=None)
        self.places.append(page.strips[0][0])
        for column, name in zip(self.facts, _FACTS, strict=True):
            column.append(float((page.tags or {})[name]))

    def read(self, i: int) -> NDArray[np.uint16]:
        """Return the pixels of one frame."""
        assert self.page is not None
        file = self.files[int(np.searchsorted(self.first, i, side="right")) - 1]
        n_bytes = self.page.strips[0][1]
        return file.read(self.page._replace(strips=((self.places[i], n_bytes),)))


def open_raw(path: Path) -> Movie:
    """Open the raw file of a run, also of one that goes on or was killed.

    Raises
    ------
    SourceError
        Not one whole frame, or damaged before the first.
    """
    series, found = Series(path), _Found()
    try:
        while (one := series.next_page()) is not None:
            found.add(*one)
        leads_on = series.file is not None and series.file.leads_on
    except (KeyError, TypeError, ValueError):
        raise SourceError(f"{path}: frame {len(found.places)}: not written by livespt") from None
    finally:
        series.close()
    if found.page is None:
        raise SourceError(f"{path}: cut short: not one whole frame")
    n = len(found.places)
    torn = f"cut short after frame {n - 1}: the next page is not there" if leads_on else ""
    summary = found.files[0].summary
    index, t_s, exposures_s, excitation = (np.array(column) for column in found.facts)
    return Movie(
        path, found.page.shape, n, found.read, torn=torn, n_expected=n + leads_on, t_s=t_s,
        index=index.astype(np.int64), exposure_s=float(summary.get("exposure_s", 0.0)),
        nominal_s=float(summary.get("interval_s", 0.0)), exposures_s=exposures_s,
        excitation=excitation,
    )  # fmt: skip
