"""What the light gives, second by second: medians over the molecules that are being followed.

A window is made of frames of one power. Where the power changes, the window begins anew, so that no
median mixes what was seen before a step with what was seen after it. Where molecules are few, a
window may last longer, up to `MOST_SPANS` times; what is still sparse then is told as sparse.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from livespt.contrast import signal_to_background
from livespt.types import Estimates, Event, FitStatus, Spots

#: A molecule counts from this many spots of its track on.
LEAST_TRACK = 3
#: A window of few spots may last so many times its span.
MOST_SPANS = 3
#: Powers of two frames that differ by more than this are not in one window.
STEADY = 0.03
#: Share of frames lost, and of fits with saturated pixels, from which a window is not trusted.
MOST_LOST, MOST_SATURATED = 0.1, 0.01
#: A median's standard error over that of a mean, and the quartiles' distance, for normal data.
MEDIAN, QUARTILES = 1.2533, 1.349


class Look(NamedTuple):
    """One window: medians over spots of molecules that were tracked for three frames or more.

    Attributes
    ----------
    t_s : float
        End of the window, on the camera's clock.
    span_s : float
        How long it is.
    power : float
        What stood while it was exposed.
    n_frames, n_spots : int
    sd_um : float
        Localization precision (s.d. along one axis); 0 where there is no spot.
    sbr : float
        Signal to background, photons / (4 pi sigma^2 b).
    photons, bg_photons : float
        Of a spot; of a pixel.
    error : float
        Relative standard error of `sd_um`; that of `sbr` is taken to be the same.
    trouble : {"", "sparse", "gappy", "saturated", "stale"}
        Why nobody should raise the power because of this window; "" where nothing is wrong.
    """

    t_s: float
    span_s: float
    power: float
    n_frames: int = 0
    n_spots: int = 0
    sd_um: float = 0.0
    sbr: float = 0.0
    photons: float = 0.0
    bg_photons: float = 0.0
    error: float = 1.0
    trouble: str = ""


class _Part(NamedTuple):
    spots: NDArray[np.void]
    track_id: NDArray[np.int64]


class Windows:
    """Gather frames into windows.

    Parameters
    ----------
    pixel_um, interval_s : float
    span_s : float
        Length of a window.
    min_spots : int
        Spots that a window should have.
    """

    def __init__(
        self, pixel_um: float, interval_s: float, *, span_s: float = 1.0, min_spots: int = 30
    ) -> None:
        self._pixel_um = pixel_um
        self._interval_s = interval_s
        self._span_s = span_s
        self._min_spots = min_spots
        self._n_lost = 0
        self._begin()

    def _begin(self) -> None:
        self._parts: list[_Part] = []
        self._first_s = math.nan
        self._power = math.nan
        self._n_frames = self._n_fits = self._n_saturated = self._n_spots = 0

    def see(self, spots: Spots, estimates: Estimates, power: float) -> Look | None:
        """Take one frame, exposed at `power`; return a window where it completes one."""
        seen = estimates.table
        rows = seen[(seen["n_spots"] >= LEAST_TRACK) & (seen["spot"] >= 0)]
        return self.add(spots, rows["spot"], rows["track_id"], power)

    def add(
        self,
        spots: Spots,
        rows: NDArray[np.integer],
        track_id: NDArray[np.int64],
        power: float,
    ) -> Look | None:
        """As `see`, told which rows of the frame's spots count and whose they are."""
        if not abs(power - self._power) <= STEADY * self._power:
            self._begin()
            self._power, self._first_s = power, spots.t_s
        status = spots.table["status"]
        self._n_frames += 1
        self._n_fits += len(status)
        self._n_saturated += int(np.count_nonzero(status == FitStatus.SATURATED))
        if len(rows):
            self._parts.append(_Part(spots.table[rows], track_id))
            self._n_spots += len(rows)
        span_s = spots.t_s + self._interval_s - self._first_s
        if span_s < (1 - 1e-9) * self._span_s:
            return None
        if self._n_spots < self._min_spots and span_s < MOST_SPANS * self._span_s:
            return None
        return self._close(spots.t_s + self._interval_s, span_s)

    def event(self, event: Event) -> None:
        """Count the frames that an event says were lost."""
        if event.kind in ("missing", "shed", "overflow"):
            self._n_lost += event.n_frames

    def stale(self, t_s: float, silent_s: float) -> Look:
        """Drop what was gathered: no frame came for `silent_s`."""
        power = 0.0 if math.isnan(self._power) else self._power
        self._n_lost = 0
        self._begin()
        return Look(t_s, silent_s, power, trouble="stale")

    def _close(self, t_s: float, span_s: float) -> Look:
        look = Look(
            t_s,
            span_s,
            self._power,
            self._n_frames,
            self._n_spots,
            trouble=self._trouble(),
        )
        if self._n_spots:
            look = self._with_medians(look)
        power = self._power
        self._n_lost = 0
        self._begin()
        self._power, self._first_s = power, t_s
        return look

    def _trouble(self) -> str:
        if self._n_lost > MOST_LOST * (self._n_frames + self._n_lost):
            return "gappy"
        if self._n_saturated > MOST_SATURATED * max(self._n_fits, 1):
            return "saturated"
        return "sparse" if self._n_spots < self._min_spots else ""

    def _with_medians(self, look: Look) -> Look:
        table = np.concatenate([part.spots for part in self._parts])
        n_tracks = len(np.unique(np.concatenate([part.track_id for part in self._parts])))
        sd_um = np.sqrt((table["var_x_um2"] + table["var_y_um2"]) / 2)
        low, middle, high = np.percentile(np.log(sd_um), (25, 50, 75))
        # the spots of one molecule err together, but not wholly: between tracks and spots
        n = math.sqrt(len(table) * n_tracks)
        return look._replace(
            sd_um=math.exp(middle),
            sbr=float(np.median(signal_to_background(table, self._pixel_um))),
            photons=float(np.median(table["photons"])),
            bg_photons=float(np.median(table["bg_photons"])),
            error=MEDIAN * max((high - low) / QUARTILES, 0.02) / math.sqrt(n),
        )
