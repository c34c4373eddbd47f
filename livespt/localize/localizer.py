"""From a frame to spots: detect, then fit, in one pass over the frame.

Each detection gets a square region, shifted inside where it would leave the frame, and a
five-parameter fit (`livespt.localize.fit`). Molecules closer than a region spoil each other's
background and position, so the light of the others stands in each fit as known background: as
detected in the first pass, as fitted in the later ones (a block-wise ascent of the joint
likelihood). Isolated spots are fitted once.

What a fit says is what the frame said: no result is dropped. A row whose fit ran into another's
place, a bound or a saturated pixel keeps its numbers and carries its `FitStatus`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from livespt.camera import MAX_ADU, Camera, electron_maps
from livespt.jit import read_only
from livespt.localize import crowd, detect_kernels, detection, frame_kernels, posterior
from livespt.localize import fit as fitting
from livespt.localize import frame_load_kernels as loads
from livespt.localize import frame_table_kernels as tables
from livespt.localize import whole_kernels as whole
from livespt.localize.errors import LocalizeError
from livespt.localize.fit_kernels import CONVERGED
from livespt.localize.frame_kernels import Fits
from livespt.localize.pair import PairFinder
from livespt.localize.refit import Refit
from livespt.localize.table import PER_Z
from livespt.types import SPOT_DTYPE, Frame, Spots

_REPLACED = ("theta", "covariance", "loglik", "code")  # by the second fit, where there is one
SAME_SPOT = 0.8  # two fits nearer than this many widths are one molecule found twice


class _Space(NamedTuple):
    """Work space of one call at a time."""

    detect: detect_kernels.Work
    fits: Fits
    room: tuple  # these two and the fits' work space, as `whole_kernels` takes them
    posterior: posterior.Workspace


class Localizer:
    """Find and fit the molecules of each frame.

    Parameters
    ----------
    camera : Camera
        The pixel model of the whole frame.
    pixel_um : float
        Side of a pixel in the sample.
    sigma_um : float
        Width of an in-focus spot; fitted widths start here and are free.
    shape : (int, int)
        Height and width of the frames.
    false_per_frame : float
        Spots to expect in a frame that holds none.
    roi_px : int
        Side of the fitted region, odd, 5 to 15.
    overlap : {"single", "pair"}
        With "pair" a spot that two explain better is split in two (`livespt.localize.pair`).
    crowding : {"ignore", "widen"}
        With "widen" spots that are probably two molecules in one say so by a larger covariance
        (`livespt.localize.crowd`).
    saturation_adu : int
        Counts from here on are saturated; fits that meet one say so.
    model, method : str
        Of `livespt.localize.posterior`; anything but "symmetric", "mle" fits each spot once more.

    Raises
    ------
    LocalizeError
        A parameter is out of range.
    CameraError
        The camera's maps have another shape.

    Notes
    -----
    Calls are pure and may run on several threads at once: the answer depends on the frame alone.
    """

    def __init__(
        self,
        camera: Camera,
        pixel_um: float,
        sigma_um: float,
        shape: tuple[int, int],
        *,
        false_per_frame: float = 0.1,
        roi_px: int = 9,
        overlap: str = "single",
        crowding: str = "ignore",
        saturation_adu: int = MAX_ADU,
        model: str = "symmetric",
        method: str = "mle",
    ) -> None:
        if overlap not in ("single", "pair"):
            raise LocalizeError(f"overlap: {overlap!r}; expected 'single' or 'pair'")
        if crowding not in ("ignore", "widen"):
            raise LocalizeError(f"crowding: {crowding!r}; expected 'ignore' or 'widen'")
        for key, value in (("pixel_um", pixel_um), ("sigma_um", sigma_um)):
            if not 0 < value < 100:
                raise LocalizeError(f"{key}: {value:g}; expected micrometres > 0")
        fitting.check_side(roi_px)
        self.pixel_um, self.roi_px = float(pixel_um), int(roi_px)
        self.shape = (int(shape[0]), int(shape[1]))
        self._camera = camera
        self._sigma_px = float(sigma_um / pixel_um)
        self._plan = detection.make_plan(camera, self._sigma_px, self.shape, false_per_frame)
        maps = electron_maps(camera)
        self._maps = tuple(read_only(m) for m in _same_shape(maps, camera.shape))
        gain, offset, var = (m.ravel() for m in self._maps)
        self._lane_maps = tuple(m.astype(np.float32) for m in (1.0 / gain, offset, var))
        self._bounds = fitting.bounds_of(self._sigma_px, self.roi_px, fix_sigma=False)
        self._saturation_adu = int(saturation_adu)
        self._pairs = PairFinder(self._sigma_px, self.roi_px) if overlap == "pair" else None
        self._told_apart_um = crowd.TOLD_APART[overlap] * float(sigma_um)
        self._widens = crowding == "widen"
        self._refit = None
        if model != "symmetric" or method != "mle":
            self._refit = Refit(camera, self._maps, self._sigma_px, self.roi_px, model, method)
        self._given: tuple[tuple, tuple] | None = None
        self._idle: deque[_Space] = deque()

    def __call__(self, frame: Frame) -> Spots:
        """Return all spots of one frame.

        Parameters
        ----------
        frame : Frame
            `adu` (H, W) uint16 of this localizer's shape.

        Returns
        -------
        Spots
            In reading order; see `FitStatus` for the rows that are not OK.

        Raises
        ------
        LocalizeError
            The frame has another shape or dtype.
        """
        self._check(frame)
        space = self._space()
        adu = read_only(self._marked(frame.adu))
        n = whole.localize_frame(adu, *self._fixed(), space.room)
        table = self._table(*self._looked_at_again(adu, n, space))
        self._idle.append(space)
        if self._widens:
            crowd.widen(table, self._told_apart_um)
        return Spots(
            frame.index, frame.t_s, frame.exposure_s, frame.excitation, table, frame.arrived_s
        )

    def warm_up(self, progress: Callable[[float], None] | None = None) -> None:
        """Compile all kernels, or load them from the cache, and make a work space.

        Parameters
        ----------
        progress : callable, optional
            Called with the fraction done, from 0 to 1.
        """
        tell = progress or (lambda fraction: None)
        tell(0.0)
        fitting.lane_table_for(self._camera)
        tell(0.3)
        adu = read_only(np.zeros(self.shape, np.uint16))
        space = self._space()
        whole.localize_frame(adu, *self._fixed(), space.room)
        tell(0.6)
        x, y = self.shape[1] / 2, self.shape[0] / 2
        space.detect.found[0] = (x, y, 100.0, 1.0, self._sigma_px)
        space.fits.theta[0], space.fits.code[0] = space.detect.found[0], CONVERGED
        space.fits.bad[0], space.fits.covariance[0] = False, np.eye(5)
        space.fits.origin[0] = int(y) - self.roi_px // 2, int(x) - self.roi_px // 2
        self._table(*self._looked_at_again(adu, 1, space))
        self._idle.append(space)
        if self._widens:
            crowd.warm_up()
        tell(1.0)

    def _check(self, frame: Frame) -> None:
        if frame.adu.shape != self.shape or frame.adu.dtype != np.uint16:
            raise LocalizeError(
                f"frame {frame.index}: found {frame.adu.dtype} of shape {frame.adu.shape}; "
                f"expected uint16 {self.shape}"
            )

    def _space(self) -> _Space:
        """Return the work space that was used last and is idle, or else a new one."""
        try:
            return self._idle.pop()
        except IndexError:
            detect = detection.make_work(self.shape, self._sigma_px)
            most = detect.found.shape[0]
            fit, fits = make_space(self.roi_px, most), make_fits(most)
            room = _plain((detect, fit, fits))
            return _Space(detect, fits, room, posterior.make_workspace())

    def _fixed(self) -> tuple[tuple, tuple]:
        """Return what does not change from frame to frame, as `whole_kernels` takes it."""
        given = self._given
        if given is None:
            tables = (fitting.table_for(self._camera), fitting.lane_table_for(self._camera))
            rest = (PER_Z, self._bounds, self.roi_px, self._sigma_px)
            given = _plain((self._plan, (self._maps, self._lane_maps, tables, *rest)))
            self._given = given
        return given

    def _looked_at_again(self, adu: NDArray[np.uint16], n: int, space: _Space) -> tuple[Fits, int]:
        """Return the fits and how many they are, after what else is to be done with each."""
        if self._refit is None and self._pairs is None:
            return space.fits, n
        fits = Fits(*(column[:n] for column in space.fits))
        if self._refit is not None:
            ok, b = (fits.code == CONVERGED) & ~fits.bad, space.detect.found[:n, 3]
            again = self._refit(adu, fits.theta, fits.origin, ok, b, space.posterior)
            fits = fits._replace(**{name: getattr(again, name) for name in _REPLACED})
        if self._pairs is not None:
            fits = self._pairs(adu, fits, self._maps, fitting.table_for(self._camera))
        return fits, fits.code.size

    def _marked(self, adu: NDArray[np.uint16]) -> NDArray[np.uint16]:
        """Raise saturated counts to the highest there is, which is what the kernels look for."""
        if self._saturation_adu >= MAX_ADU or adu.max() < self._saturation_adu:
            return adu
        return np.where(adu >= self._saturation_adu, np.uint16(MAX_ADU), adu)

    def _table(self, fits: Fits, n: int) -> NDArray[np.void]:
        table = np.zeros(n + 2, SPOT_DTYPE)  # a view of one row is another type to the compiler
        steps = (SPOT_DTYPE.itemsize, 8)
        rows = np.ndarray((n + 2, tables.NUMBERS), np.float64, table, 0, steps)
        tables.fill_table(
            tuple(fits),
            self._bounds,
            self.roi_px,
            fitting.MEANINGS,
            (SAME_SPOT * self._sigma_px, self.pixel_um),
            (np.empty((n, 5)), np.empty(n, np.int64)),
            rows,
            table["status"],
        )
        return table[:n]


def make_space(side: int, most_spots: int) -> frame_kernels.Space:
    """Return the fits' work space, for frames of at most `most_spots` detections."""
    return frame_kernels.Space(
        fitting.make_region(side),
        fitting.make_scratch(),
        np.zeros((3, 5)),
        fitting.make_lanes(),
        np.zeros(loads.SIZE, np.float32),
        np.zeros((4, most_spots), np.int64),
    )


def make_fits(n: int) -> Fits:
    """Return room for the fits of `n` spots."""
    return Fits(
        np.zeros((n, 5)),
        np.zeros((n, 5, 5)),
        np.zeros(n),
        np.zeros(n, np.int64),
        np.zeros(n, np.bool_),
        np.zeros((n, 2), np.int64),
        np.zeros(n, np.bool_),
    )


def _plain(given: Any) -> Any:
    """Return tuples without names, however deep."""
    return tuple(map(_plain, given)) if isinstance(given, tuple) else given


def _same_shape(maps: tuple, shape: tuple[int, int] | None) -> list[NDArray[np.float64]]:
    full = shape or (1, 1)
    return [np.broadcast_to(np.asarray(m, np.float64), full) for m in maps]
