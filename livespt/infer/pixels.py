"""One molecule followed in its own pixels, for light too dim to be localized frame by frame.

Theory (SCIENCE 6). A region of pixels that surely holds the molecule comes with each frame; photons
and background are known. Along each axis, x the position at the start of an exposure te and mu its
mean over the exposure,

    mu - x ~ N(0, 2 D te / 3),   x' - x ~ N(0, 2 D dt),   Cov(mu - x, x' - x) = D te,

which the image shows widened to sigma^2 + D te / 3. Each frame's exact pixel likelihood becomes a
Gaussian *site*, place z and variance R, under its cavity, what other frames say of it:

1. at the mode of cavity times likelihood, reached by Fisher scoring from the cavity's mean, or from
   the best place of a matched filter where the cavity is wide: z = mode + slope / information;
2. where single frames are too dim for one mode (site s.d. beyond `DIM_PX`) and the cavity is wide:
   with the exact mean and variance of cavity times likelihood, summed over half pixels. Search and
   sums take all pixels' read variance as its mean; sites at a mode take each pixel's own.

A bank over ln D weighs each D by how well it foretold the sites; it starts flat. Sites depend on
their cavities, so the last `KEPT` are made anew every `EVERY` frames under what ALL other frames
say (forward and backward), and the bank with them. Positions are published at once and again,
smoothed, `LAG` frames later. "unscented" is the single unscented step of Lin and Andersson 2021 on
square roots of counts, made at the prediction and never again: it loses what moved farther than
the spot is wide.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from livespt.camera import Camera, Emccd, electron_maps
from livespt.infer import pixelbankkernels as kernels
from livespt.infer import pixelkernels as pixels
from livespt.infer.arrays import Array, Ints
from livespt.infer.motion import InferError

#: The bank: so many values of D, from and to (um2/s).
N_BANK, SLOWEST_UM2_S, FASTEST_UM2_S = 72, 1e-4, 1e2
#: Sites with a larger s.d. than this have their moments summed.
DIM_PX = 0.45
#: Least variance of a place that is averaged over half pixels.
LEAST_CAVITY_PX2 = 0.04


class PixelFilterError(InferError):
    """The pixel filter cannot use what it was given; the message says what and why."""


class Film(NamedTuple):
    """The last frames of one molecule, and workspace (shapes: LENGTH frames, 2 axes, K, P)."""

    d: Array  # (LENGTH, P * P) electrons plus read variance
    v: Array  # (LENGTH, P * P) read variance
    origin: Array  # (LENGTH, 2) x, y of the first pixel
    t_s: Array
    te_s: Array
    bank: Array  # (LENGTH, 2, 3, K)
    sites: Array  # (LENGTH, 2, 2) place and variance, px
    at: Array  # (LENGTH, 2) mode, from the first pixel
    log_weights: Array  # (2, K)
    weights: Array  # (2, K)
    smoothed: Array  # (2, LENGTH, 2)
    counter: Ints  # frames held, frames ever
    D_px2_s: Array  # (K,)
    ln_D: Array  # (K,) its logarithm
    light: Array  # photons, background
    templates: Array  # (2, 2, 2 P, 2 P) ln(1 + N share / b) at half pixels
    inside: Array  # (2 P - 1,) share of light inside along one axis
    cavity: Array
    sigmas: Array
    profiles: Array  # (2, 3, P)
    slopes: Array
    site: Array
    grid: Array
    moments: Array
    points: Array
    work: Array


class SiteModel(NamedTuple):
    """How a frame becomes a site: width of a spot in focus, dim frames, the paper's single step."""

    sigma_px: float
    dim: bool
    unscented: bool


class PixelEstimate(NamedTuple):
    """What is known of one molecule after a frame; pairs are (x, y).

    Attributes
    ----------
    x_um, var_um2 : (2,) float64
        Mean position over this frame's exposure, and its variance.
    lagged_x_um, lagged_var_um2 : (2,) float64
        The same of the frame `LAG` frames ago (of the first, before there are so many).
    D_um2_s : (2,) float64
        Along each axis, exp of the mean of ln D.
    sd_ln_D : (2,) float64
    """

    x_um: Array
    var_um2: Array
    lagged_x_um: Array
    lagged_var_um2: Array
    D_um2_s: Array
    sd_ln_D: Array


class PixelFilter:
    """Follow one molecule from region to region of pixels.

    Parameters
    ----------
    camera : Ideal, Scmos or RegionMaps
        Of the whole frame; maps, where many filters share them.
    sigma_um, pixel_um : float
        Width of an in-focus spot; pixel size.
    photons, bg_photons : float
        Of the molecule in one exposure; per pixel.
    side : int
        Side P of the regions, odd.
    method : {"ukf", "unscented"}
        Exact likelihood, made anew; or the paper's single unscented step, for comparison.
    D_um2_s : float, optional
        Where it is known, in the place of the bank; "unscented" needs it.

    Raises
    ------
    PixelFilterError
        An EMCCD, a number that is not positive, or an even side.
    """

    lag = kernels.LAG

    def __init__(
        self,
        camera: Camera | RegionMaps,
        sigma_um: float,
        pixel_um: float,
        photons: float,
        bg_photons: float,
        *,
        side: int = 9,
        method: Literal["ukf", "unscented"] = "ukf",
        D_um2_s: float | None = None,
    ) -> None:
        for name, value in (
            ("sigma_um", sigma_um), ("pixel_um", pixel_um), ("photons", photons),
            ("bg_photons", bg_photons),
        ):  # fmt: skip
            if not (math.isfinite(value) and value > 0):
                raise PixelFilterError(f"{name}: {value}; expected a number > 0")
        if side % 2 == 0 or not 5 <= side <= 25:
            raise PixelFilterError(f"side: {side}; expected an odd number from 5 to 25")
        if method not in ("ukf", "unscented"):
            raise PixelFilterError(f"method: {method!r}; expected 'ukf' or 'unscented'")
        if D_um2_s is None and method == "unscented":
            raise PixelFilterError("method 'unscented' needs D_um2_s")
        self._maps, var_e2 = camera if isinstance(camera, RegionMaps) else region_maps(camera)
        self._pixel_um, self._side, self._var_e2 = pixel_um, side, var_e2
        sigma_px = sigma_um / pixel_um
        bank = np.geomspace(SLOWEST_UM2_S, FASTEST_UM2_S, N_BANK) if D_um2_s is None else [D_um2_s]
        D_px2_s = np.asarray(bank, dtype=np.float64) / pixel_um**2
        self._film = new_film(side, sigma_px, (photons, bg_photons), var_e2, D_px2_s)
        sd_px = typical_sd_px(sigma_px, photons, bg_photons + var_e2, side)
        self._model = SiteModel(sigma_px, sd_px > DIM_PX, method == "unscented")
        self._units = np.array([[pixel_um], [pixel_um**2]] * 2 + [[pixel_um**2], [1.0]])
        self._last_s = -math.inf

    def step(
        self, adu: NDArray[np.uint16], corner_px: tuple[int, int], t_s: float, exposure_s: float
    ) -> PixelEstimate:
        """Take the molecule's region of one frame.

        Parameters
        ----------
        adu : (P, P) uint16
            Counts.
        corner_px : (x, y)
            The region's first pixel in the frame; regions move with the molecule.
        t_s, exposure_s : float
            Start and length of the exposure.

        Raises
        ------
        PixelFilterError
            Another shape, or a time that is not after the last one.
        """
        side = self._side
        if adu.shape != (side, side) or adu.dtype != np.uint16:
            raise PixelFilterError(
                f"adu: found {adu.dtype} {adu.shape}; expected uint16 {(side, side)}"
            )
        if not (math.isfinite(t_s) and t_s > self._last_s and exposure_s >= 0):
            raise PixelFilterError(
                f"t_s {t_s}, exposure_s {exposure_s}: expected a time after {self._last_s} and an "
                "exposure >= 0"
            )
        self._last_s = t_s
        frame = (float(corner_px[0]), float(corner_px[1]), float(t_s), float(exposure_s))
        out = np.empty((6, 2))
        kernels.take(self._film, adu, self._crop(corner_px), frame, self._model, out)
        out *= self._units
        return PixelEstimate(*out)

    def one_D(self) -> Array:
        """Return D as if both axes had the same, (3,): exp of the mean of ln D, and 95 % limits."""
        log_weights, ln_D = self._film.log_weights.sum(axis=0), self._film.ln_D
        weights = np.exp(log_weights - log_weights.max())
        weights /= weights.sum()
        limits = np.interp([0.025, 0.975], np.cumsum(weights) - 0.5 * weights, ln_D)
        return self._pixel_um**2 * np.exp([weights @ ln_D, *limits])

    def foretell(self, t_s: float, exposure_s: float) -> tuple[Array, Array]:
        """Return mean and variance, (2,) each, um, of the position in an exposure to come.

        Raises
        ------
        PixelFilterError
            Nothing was seen yet, or a time that is not after the last one.
        """
        film, t = self._film, int(self._film.counter[0]) - 1
        if t < 0 or not t_s > self._last_s:
            raise PixelFilterError(f"t_s {t_s}: expected a time after {self._last_s}")
        passed_s = t_s - self._last_s - film.te_s[t] / 2 + exposure_s / 2
        grown = 2.0 * (film.weights @ film.D_px2_s) * max(passed_s, 0.0)
        mean, var = film.smoothed[:, t].T
        return self._pixel_um * mean, self._pixel_um**2 * (var + grown)

    def electrons(self, adu: NDArray[np.uint16], corner_px: tuple[int, int]) -> tuple[Array, Array]:
        """Return a region's counts in electrons, and its read variance (P, P) or (1, 1)."""
        gain, offset, read = self._crop(corner_px)
        return (adu - offset) / gain, read

    def ln_odds(
        self, adu: NDArray[np.uint16], corner_px: tuple[int, int], t_s: float, exposure_s: float
    ) -> float:
        """Return how much more probable a region to come is with the molecule's light than without.

        In ln, the place averaged over what is foretold, in half pixels; changes nothing. Arguments
        as for `step`.
        """
        film, side, unit = self._film, self._side, self._pixel_um
        mean, var = self.foretell(t_s, exposure_s)
        electrons, read = self.electrons(adu, corner_px)
        electrons = np.maximum(electrons + read, 1e-6)
        cavity = np.empty(4)
        cavity[0::2] = mean / unit - corner_px
        cavity[1::2] = np.maximum(var / unit**2, LEAST_CAVITY_PX2)
        pixels.tilt(
            electrons.ravel(), cavity, film.light, film.templates, film.inside, film.grid,
            film.moments,
        )  # fmt: skip
        ln_prior, ln_both = 0.0, film.grid
        for axis, a in ((1, 0), (0, 1)):
            low, high = pixels.window(cavity[2 * a], cavity[2 * a + 1], side)
            ln_both = np.take(ln_both, np.arange(low, high + 1), axis)
            off = 0.5 * np.arange(low, high + 1) - cavity[2 * a]
            ln_prior += _ln_sum_exp(-0.5 * off**2 / cavity[2 * a + 1])
        return _ln_sum_exp(ln_both) - ln_prior

    def set_light(self, photons: float, bg_photons: float) -> None:
        """Go on with better figures of the light, which was the same all the time.

        Raises
        ------
        PixelFilterError
            A number that is not positive.
        """
        if not (0 < photons < math.inf and 0 < bg_photons < math.inf):
            raise PixelFilterError(f"light: {photons}, {bg_photons}; expected numbers > 0")
        light, sigma_px = (photons, bg_photons), self._model.sigma_px
        self._film.light[:] = light
        self._film.templates[:] = _templates(self._side, sigma_px, light, self._var_e2)
        sd_px = typical_sd_px(sigma_px, photons, bg_photons + self._var_e2, self._side)
        self._model = self._model._replace(dim=sd_px > DIM_PX)

    def latest(self) -> tuple[Array, Array]:
        """Return mean and variance, (n, 2) each, um, of the last frames (at most `lag` + 1)."""
        n = int(self._film.counter[0])
        part = self._film.smoothed[:, max(0, n - 1 - self.lag) : n]
        return self._pixel_um * part[:, :, 0].T, self._pixel_um**2 * part[:, :, 1].T

    def _crop(self, corner_px: tuple[int, int]) -> Array:
        """Return gain, offset and read variance of a region, as `kernels.load` wants them."""
        if self._maps.shape[1] == 1:
            return self._maps
        (x, y), side = corner_px, self._side
        part = self._maps[:, max(y, 0) : y + side, max(x, 0) : x + side]
        if part.shape[1:] != (side, side):
            raise PixelFilterError(
                f"corner_px: {corner_px}; expected a region inside {self._maps.shape[:0:-1]}"
            )
        return np.ascontiguousarray(part)


def new_film(
    side: int,
    sigma_px: float,
    light: tuple[float, float],
    var_e2: float,
    D_px2_s: Array,
    length: int = kernels.LENGTH,
) -> Film:
    """Return an empty film of `length` frames and the tables that its kernels read."""
    n, k, z = length, D_px2_s.size, np.zeros
    templates = _templates(side, sigma_px, light, var_e2)
    inside = np.array([_shares(0.5 * c, sigma_px, side).sum() for c in range(2 * side - 1)])
    return Film(
        d=z((n, side * side)), v=z((n, side * side)), origin=z((n, 2)), t_s=z(n), te_s=z(n),
        bank=z((n, 2, 3, k)), sites=z((n, 2, 2)), at=z((n, 2)), log_weights=z((2, k)),
        weights=z((2, k)), smoothed=z((2, n, 2)), counter=np.zeros(2, np.int64),
        D_px2_s=D_px2_s, ln_D=np.log(D_px2_s), light=np.array(light), templates=templates,
        inside=inside, cavity=z(4), sigmas=z(2), profiles=z((2, 3, side)), slopes=z(5),
        site=z((2, 2)), grid=z((2 * side, 2 * side)), moments=z((2, 2)),
        points=z((6, side * side)), work=z((5, 5)),
    )  # fmt: skip


def _templates(side: int, sigma_px: float, light: tuple[float, float], var_e2: float) -> Array:
    photons, bg = light
    templates = np.zeros((2, 2, 2 * side, 2 * side))
    along = [_shares(side - 1 + 0.5 * half, sigma_px, 2 * side) for half in (0, 1)]
    for y in (0, 1):
        for x in (0, 1):
            shares = np.outer(along[y], along[x])
            templates[y, x] = np.log1p(photons * shares / (bg + var_e2))
    return templates


def _ln_sum_exp(values: Array) -> float:
    top = float(values.max())
    return top + math.log(float(np.exp(values - top).sum()))


def _shares(centre: float, sigma: float, n: int) -> Array:
    return np.diff(ndtr((np.arange(n + 1) - 0.5 - centre) / sigma))


def typical_sd_px(sigma: float, photons: float, bg: float, side: int) -> float:
    """Return the s.d. of a single frame's position at the region's centre."""
    middle, step = 0.5 * (side - 1), 1e-3
    share = _shares(middle, sigma, side)
    slope = (_shares(middle + step, sigma, side) - _shares(middle - step, sigma, side)) / (2 * step)
    info = (photons * np.outer(share, slope)) ** 2 / (bg + photons * np.outer(share, share))
    return float(info.sum() ** -0.5)


class RegionMaps(NamedTuple):
    """Gain, offset and read variance of a camera's pixels, and the mean of the last.

    Attributes
    ----------
    maps : (3, H, W) or (3, 1, 1) float64
    var_e2 : float
    """

    maps: Array
    var_e2: float


def region_maps(camera: Camera) -> RegionMaps:
    """Return a camera's maps, to be shared by many filters.

    Raises
    ------
    PixelFilterError
        An EMCCD.
    """
    if isinstance(camera, Emccd):
        raise PixelFilterError("camera: the pixel filter knows Ideal and Scmos; found an EMCCD")
    shape = camera.shape or (1, 1)
    maps = [np.broadcast_to(np.asarray(m, np.float64), shape) for m in electron_maps(camera)]
    return RegionMaps(np.stack(maps), float(np.mean(maps[2])))
