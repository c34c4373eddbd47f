"""Picasso (picassosr 0.11.3) on our arrays, by its own public functions, on one thread.

`make bench` has it in an environment of its own; elsewhere `PEER` is None and the peer's columns
stay empty. What is left out favours the peer: its bound (a separate, parallel pass) and its
tables of localizations.
"""

from __future__ import annotations

import importlib.util
import warnings

import numpy as np


class Picasso:
    """The peer's detection and fit, warmed up by the caller's first round."""

    name = "Picasso 0.11.3"

    def __init__(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pandas
            from picasso import localize
        self._localize, self._pandas = localize, pandas

    def fit(self, photons, var=None):
        """Fit x, y, one width, N, b by maximum likelihood; returns x, y and the width."""
        found = self._localize.fit_spots_gauss(photons, mle=True, spherical=True, variance=var)
        return found[:, 1], found[:, 2], found[:, 3]

    def detect(self, adu, threshold, box=7):
        """Find spots: local maxima whose net gradient is above `threshold`; (n, 2) as x, y."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its unit vectors divide zero by zero
            y, x, strength = self._localize.identify_in_frame(adu, threshold, box)
        return np.column_stack([x, y]), strength

    def localize(self, adu, threshold, offset, gain, box=7):
        """Detect and fit one frame; (n, 2) as x, y."""
        at, _ = self.detect(adu, threshold, box)
        half = box // 2
        size = np.array([adu.shape[1], adu.shape[0]])
        at = at[np.all((at >= half) & (at < size - half), axis=1)]
        table = self._pandas.DataFrame({"frame": 0, "x": at[:, 0], "y": at[:, 1]})
        info = {"Baseline": offset, "Sensitivity": 1.0 / gain, "Gain": 1.0}
        spots = self._localize.get_spots(adu[None], table, box, info)
        x, y, _ = self.fit(spots)
        return np.column_stack([x, y]) + at - half


def peer() -> Picasso | None:
    """Return the peer where it is installed."""
    return Picasso() if importlib.util.find_spec("picasso") else None
