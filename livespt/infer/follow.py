"""Tracked molecules followed in their own pixels, live (`infer.filter`).

The linker says who is who. Each of its tracks that has been seen `YOUNG` times, alone, gets a
`PixelFilter` of its own, which begins with the regions of those frames and is then fed one region
of every frame:

- around the track's spot where it has one, else around the place foretold;
- none where other light reaches into it, or where it would leave the frame;
- without a spot only where the molecule shines: the pixels' evidence for its light, averaged over
  the place foretold, times the odds of a two-state chain of blinking. A filter that is told of
  light where there is none would look for it at the region's border.

Photons and background are the track's own running means (`livespt.infer.light`). Where spot and
pixels contradict each other, or the excitation changes, the filter begins anew. The pooled model
stays that of the spots: pixels give each track's position and D.

A track seen in its pixels alone gets a row with ``spot = -1``; what that row says of states is of
the track's last spot.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from livespt.camera import Camera
from livespt.infer.arrays import Array
from livespt.infer.light import MEMORY, Light
from livespt.infer.pixels import PixelEstimate, PixelFilter, region_maps
from livespt.types import Estimates, FitStatus, Frame, Links, Spots

#: Spots of a track before its pixels are followed.
YOUNG = 5
#: Side of the regions.
SIDE = 9
#: Light reaches so many widths.
REACH = 2.5
#: Frames without a spot are taken while the place foretold has a smaller s.d. than this.
MOST_SD_PX = 2.0
#: A frame without a spot is taken where the molecule shines with so much probability.
LEAST_P_ON = 0.5
#: Blinking per frame: goes dark, comes back (as the linker assumes).
P_OFF, P_ON = 0.02, 0.3
#: A filter is told its light anew where it is off by this factor; it begins anew where excitation
#: changed by the second, or where more spots in a row than the last are so many s.d. off.
OTHER_LIGHT, OTHER_EXCITATION, WRONG_PLACE, MOST_WRONG = 1.05, 1.25, 5.0, 1
#: Rows whose light is known, though some cannot be linked.
_LIT = (FitStatus.OK, FitStatus.BAD_WIDTH)


class Region(NamedTuple):
    """A molecule's pixels in one frame: (P, P) counts, first pixel (x, y), time and exposure."""

    adu: NDArray[np.uint16]
    corner_px: tuple[int, int]
    t_s: float
    exposure_s: float


@dataclass
class _Track:
    """One of the linker's tracks. `row` is the last row that a spot of it got."""

    row: np.void
    light: Light = field(default_factory=Light)
    told: tuple[float, float] = (1.0, 1.0)  # the light that `film` knows
    excitation: float = 1.0  # when `film` was made
    regions: list[Region] = field(default_factory=list)
    film: PixelFilter | None = None
    p_on: float = 1.0
    n_taken: int = 0  # frames that taught `light`, or could have
    n_wrong: int = 0  # spots in a row that contradict the pixels


class Follower:
    """Follow every track that stands alone in its pixels.

    Parameters
    ----------
    camera : Ideal or Scmos
    pixel_um, sigma_um : float
        Side of a pixel in the sample and width of an in-focus spot.
    shape : (int, int)
        Height and width of the frames.
    method : {"ukf", "unscented"}
        As for `PixelFilter`; "unscented" takes D from the track's own displacements.

    Raises
    ------
    PixelFilterError
        An EMCCD, or a number out of range.
    """

    def __init__(
        self,
        camera: Camera,
        pixel_um: float,
        sigma_um: float,
        shape: tuple[int, int],
        *,
        method: Literal["ukf", "unscented"] = "ukf",
    ) -> None:
        self.pixel_um, self.sigma_um, self.shape = pixel_um, sigma_um, shape
        self.method: Literal["ukf", "unscented"] = method
        self._camera = region_maps(camera)
        self._tracks: dict[int, _Track] = {}
        self._apart_px = 0.5 * SIDE + REACH * sigma_um / pixel_um

    @property
    def n_followed(self) -> int:
        """Tracks that are followed in their pixels now."""
        return sum(track.film is not None for track in self._tracks.values())

    def step(self, frame: Frame, spots: Spots, links: Links, estimates: Estimates) -> Estimates:
        """Take one frame; return the estimates with positions and D of tracks from their pixels.

        Parameters
        ----------
        frame : Frame
            The pixels that `spots` come from.
        spots, links, estimates
            Of this frame.
        """
        table = estimates.table.copy()
        lit_px = self._places(spots.table, np.isin(spots.table["status"], _LIT))
        seen = {int(name): i for i, name in enumerate(table["track_id"])}
        for name, i in seen.items():
            self._see(frame, spots, lit_px, table[i : i + 1], self._track(name, table[i]))
        more = [
            row
            for name, track in self._tracks.items()
            if name not in seen and (row := self._look(frame, lit_px, track, table.dtype))
        ]
        for name in links.ended.tolist():
            self._tracks.pop(name, None)
        if more:
            table = np.concatenate([table, np.array(more, table.dtype)])
        return estimates._replace(table=table)

    def warm_up(self) -> None:
        """Compile all kernels, on a filter of its own."""
        film = self._film((50.0, 3.0), 0.1)
        adu = np.full((SIDE, SIDE), 5, np.uint16)
        adu[4, 4] = 20
        for n in range(12):
            film.step(adu, (0, 0), 0.1 * n, 0.05)
        film.ln_odds(adu, (0, 0), 2.0, 0.05)

    def _track(self, name: int, row: np.void) -> _Track:
        track = self._tracks.get(name)
        if track is None:
            track = self._tracks[name] = _Track(row.copy())
        track.row = row.copy()
        return track

    def _places(self, table: NDArray[np.void], rows: NDArray[np.bool_]) -> Array:
        """Return x, y in pixels, (n, 2); infinitely far for the other rows."""
        places = np.stack([table["x_um"], table["y_um"]], axis=1) / self.pixel_um
        return np.where(rows[:, None] & np.isfinite(places), places, np.inf)

    def _see(
        self, frame: Frame, spots: Spots, lit_px: Array, row: NDArray[np.void], track: _Track
    ) -> None:
        """Take in a frame in which the track has a spot; put what the pixels say into its row."""
        own = int(row["spot"][0])
        spot = spots.table[own]
        scale = max(frame.excitation, 1e-6)
        track.light.see_fit(spot["photons"] / scale, spot["bg_photons"] / scale)
        track.p_on = 1.0
        region = self._cut(frame, lit_px[own], np.delete(lit_px, own, axis=0))
        if region is None:
            if track.film is None:
                track.regions.clear()
            return
        if track.film is None or _is_off(scale, track.excitation, OTHER_EXCITATION):
            self._begin(track, region, scale)
        else:
            track.regions = [*track.regions[1 - YOUNG :], region]
            answer = self._take(track, region, scale)
            wrong = answer is None or _contradicts(answer, spot)
            track.n_wrong = track.n_wrong + 1 if wrong else 0
            if answer is None or track.n_wrong > MOST_WRONG:
                track.film, track.regions = None, [region]
            elif not wrong:
                self._tell(row, answer, track.film)

    def _look(self, frame: Frame, lit_px: Array, track: _Track, dtype: np.dtype) -> np.void | None:
        """Take in a frame in which the track has no spot; return a row where its light is there."""
        if track.film is None or track.row.dtype != dtype:
            return None
        track.p_on = track.p_on * (1 - P_OFF) + (1 - track.p_on) * P_ON
        mean, var = track.film.foretell(frame.t_s, frame.exposure_s)
        if var.max() > (MOST_SD_PX * self.pixel_um) ** 2:
            return None
        region = self._cut(frame, mean / self.pixel_um, lit_px)
        if region is None or not self._shines(track, region):
            return None
        answer = self._take(track, region, max(frame.excitation, 1e-6))
        if answer is None:
            return None
        row = np.array([track.row], dtype)
        row["spot"] = -1
        self._tell(row, answer, track.film)
        return row[0]

    def _shines(self, track: _Track, region: Region) -> bool:
        """Weigh the evidence for light against the chain of blinking; note what is believed now."""
        assert track.film is not None
        ln_odds = np.log(track.p_on / max(1 - track.p_on, 1e-9)) + track.film.ln_odds(*region)
        track.p_on = float(1 / (1 + np.exp(-np.clip(ln_odds, -30, 30))))
        return track.p_on > LEAST_P_ON

    def _cut(self, frame: Frame, centre_px: Array, others_px: Array) -> Region | None:
        """Return the region around a place; None where the frame ends or other light reaches in."""
        height, width = self.shape
        x, y = (round(float(c)) - SIDE // 2 for c in centre_px)
        if x < 0 or y < 0 or x + SIDE > width or y + SIDE > height:
            return None
        if np.any(np.abs(others_px - centre_px).max(axis=1) < self._apart_px):
            return None
        adu = frame.adu[y : y + SIDE, x : x + SIDE].copy()
        return Region(adu, (x, y), frame.t_s, frame.exposure_s)

    def _begin(self, track: _Track, region: Region, scale: float) -> None:
        """Begin to follow a track once it has been seen often enough, with what was kept of it."""
        track.film, track.n_wrong = None, 0
        track.regions = [*track.regions[1 - YOUNG :], region]
        photons, bg = track.light.now
        if len(track.regions) < YOUNG or min(photons, bg) <= 0:
            return
        track.told, track.excitation = (photons * scale, bg * scale), scale
        track.film = film = self._film(track.told, float(track.row["D_track_um2_s"]))
        for each in track.regions:
            film.step(*each)

    def _film(self, light: tuple[float, float], D_um2_s: float) -> PixelFilter:
        D = D_um2_s if self.method == "unscented" else None
        return PixelFilter(
            self._camera, self.sigma_um, self.pixel_um, *light, side=SIDE, method=self.method,
            D_um2_s=D,
        )  # fmt: skip

    def _take(self, track: _Track, region: Region, scale: float) -> PixelEstimate | None:
        """Step a track's filter; None, and no filter any more, where no number came out."""
        film = track.film
        assert film is not None
        track.n_taken += 1
        if track.n_taken < MEMORY or track.n_taken % 5 == 0:  # known well enough, save for drift
            self._weigh(film, track, region, scale)
        answer = film.step(*region)
        if all(np.isfinite(part).all() for part in answer):
            return answer
        track.film = None
        return None

    def _weigh(self, film: PixelFilter, track: _Track, region: Region, scale: float) -> None:
        """Learn the track's light from a region, before the filter has seen it."""
        mean, var = film.foretell(region.t_s, region.exposure_s)
        place = mean / self.pixel_um - region.corner_px
        width = (self.sigma_um**2 + var) / self.pixel_um**2
        electrons, read = film.electrons(region.adu, region.corner_px)
        track.light.see_region(electrons, read, (place, width), scale)
        photons, bg = track.light.now
        now = (photons * scale, bg * scale)
        if any(_is_off(a, b, OTHER_LIGHT) for a, b in zip(now, track.told, strict=True)):
            track.told = now
            film.set_light(*now)

    def _tell(self, row: NDArray[np.void], answer: PixelEstimate, film: PixelFilter | None) -> None:
        """Put position and D into a row, with their errors."""
        row["x_um"], row["y_um"] = answer.x_um
        row["var_x_um2"], row["var_y_um2"] = answer.var_um2
        row["cov_xy_um2"] = 0.0
        if film is not None and self.method == "ukf":  # the other was told D
            D_um2_s = film.one_D()
            row["D_track_um2_s"], row["D_track_95"] = D_um2_s[0], D_um2_s[1:]


def _is_off(value: float, known: float, factor: float) -> bool:
    return not known / factor < value < known * factor


def _contradicts(answer: PixelEstimate, spot: np.void) -> bool:
    """Say whether the pixels' position and the spot's cannot be of one molecule."""
    for a, axis in enumerate("xy"):
        off = answer.x_um[a] - spot[f"{axis}_um"]
        if off**2 > WRONG_PLACE**2 * (answer.var_um2[a] + spot[f"var_{axis}_um2"]):
            return True
    return False
