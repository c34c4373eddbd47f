"""Pixel models: one definition that both samples counts and scores them (SCIENCE 2).

Photo-electrons come as a Poisson number n of mean E, the *rate*. The camera's chain then turns n
into a count c with a probability h_n(c) that does not know E:

- `Ideal`: c = n.
- `Scmos`: c = round(g (n + N(0, var)) + o), each pixel with its own gain, offset and variance.
- `Emccd`: the multiplying register makes S ~ Gamma(shape n/(F-1), scale g (F-1)) of n electrons
  (mean g n, excess factor F; F = 2 is the high-gain limit, whose sum over n is the Bessel form of
  Linden 2017), then c = round(S + N(0, s^2) + o).

Both uses follow from it. Sampling draws n, then c. Scoring sums over n:

    q(c|E) = sum_n Poisson(n; E) h_n(c),    d ln q/dE = E[n | c, E]/E - 1,
    I(E)   = sum_c q(c|E) (d ln q/dE)^2

with h_n exact: rounding, and the lowest and highest counts holding the tails, are in. Nothing is
approximated here, so samples and scores can be held against each other by a chi-square test.

The fits go faster with near forms of the same likelihood: for `Scmos` the shifted Poisson of
Huang 2013, n + var against E + var, which has the same mean and variance (not the same third
moment, so a chi-square test tells it from the samples at low E; the fit's precision does not);
for `Emccd` a table of this very score (`livespt.localize`).

Gains are counts per electron, ADU/e-. Data sheets often give electrons per ADU: invert those.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

from livespt import camera_kernels as kernels
from livespt.types import LivesptError

Array: TypeAlias = NDArray[np.float64]

MAX_ADU = 65535
_MIN_RATE = 1e-9  # a rate of zero is scored as this one: ln 0 never travels on
_MIN_READ_ADU = 0.1  # below it the rounding hides the read noise


class CameraError(LivesptError):
    """A pixel model was given a value that no camera has; the message names the key."""


@dataclass(frozen=True)
class Ideal:
    """Counts are photo-electrons: Poisson noise alone."""

    @property
    def shape(self) -> None:
        """No maps: fits any frame."""
        return None

    def sample(self, rate_e: ArrayLike, rng: np.random.Generator) -> NDArray[np.uint16]:
        """Draw counts for expected electrons `rate_e`, any shape; clipped at 65535."""
        return _to_adu(rng.poisson(_checked(rate_e)))

    def loglik(self, adu: ArrayLike, rate_e: ArrayLike) -> Array:
        """Return ln q(adu | rate_e) per pixel."""
        n, rate = np.asarray(adu, np.float64), _floored(rate_e)
        return n * np.log(rate) - rate - gammaln(n + 1)

    def score(self, adu: ArrayLike, rate_e: ArrayLike) -> Array:
        """Return the derivative of `loglik` in the rate, per pixel."""
        return np.asarray(adu, np.float64) / _floored(rate_e) - 1.0

    def fisher(self, rate_e: ArrayLike) -> Array:
        """Return the Fisher information of one pixel about its rate, 1/e-^2."""
        return 1.0 / _floored(rate_e)

    def crop(self, y0: int, x0: int, height: int, width: int) -> Ideal:
        """Return the model of a part of the frame."""
        return self

    def check(self, shape: tuple[int, int]) -> None:
        """Do nothing: there are no maps that could fail to fit."""


@dataclass(frozen=True, eq=False)
class Scmos:
    """Poisson electrons with per-pixel gain, offset and Gaussian read noise.

    Parameters
    ----------
    gain_adu_per_e : float or (H, W) array
        Counts per electron, > 0.
    offset_adu : float or (H, W) array
        Mean count without light.
    var_e2 : float or (H, W) array
        Read noise, electrons squared (a variance in ADU^2 divided by gain^2).

    Raises
    ------
    CameraError
        A value is not finite, the gain is not positive, the variance is negative, or the maps
        differ in shape.
    """

    gain_adu_per_e: float | Array
    offset_adu: float | Array
    var_e2: float | Array

    def __post_init__(self) -> None:
        for key in ("gain_adu_per_e", "offset_adu", "var_e2"):
            object.__setattr__(self, key, _value(key, getattr(self, key)))
        _positive("gain_adu_per_e", self.gain_adu_per_e)
        _not_negative("var_e2", self.var_e2)
        shapes = {np.shape(v) for v in (self.gain_adu_per_e, self.offset_adu, self.var_e2)} - {()}
        if len(shapes) > 1:
            found = ", ".join(str(s) for s in sorted(shapes))
            raise CameraError(f"maps differ in shape: {found}; expected one shape for all")

    @property
    def shape(self) -> tuple[int, int] | None:
        """Shape of the maps, None where all are scalars."""
        for value in (self.gain_adu_per_e, self.offset_adu, self.var_e2):
            if np.ndim(value) == 2:
                return (np.shape(value)[0], np.shape(value)[1])
        return None

    def sample(self, rate_e: ArrayLike, rng: np.random.Generator) -> NDArray[np.uint16]:
        """Draw counts for expected electrons `rate_e` (of the maps' shape, if there are any)."""
        electrons = rng.poisson(_checked(rate_e))
        read = rng.standard_normal(electrons.shape) * np.sqrt(self.var_e2)
        return _to_adu(self.gain_adu_per_e * (electrons + read) + self.offset_adu)

    def loglik(self, adu: ArrayLike, rate_e: ArrayLike) -> Array:
        """Return ln q(adu | rate_e) per pixel: the exact sum over electrons."""
        return self._scored(adu, rate_e)[0]

    def score(self, adu: ArrayLike, rate_e: ArrayLike) -> Array:
        """Return the derivative of `loglik` in the rate, per pixel."""
        return self._scored(adu, rate_e)[1]

    def fisher(self, rate_e: ArrayLike) -> Array:
        """Return the Fisher information of one pixel about its rate, 1/e-^2, by summation."""
        rate, gain, offset, read = _flat(
            _floored(rate_e), self.gain_adu_per_e, self.offset_adu, self._read_adu
        )
        out = np.empty(rate.size)
        kernels.fisher_sum(
            kernels.SCMOS, rate.ravel(), gain.ravel(), offset.ravel(), read.ravel(), 1.0, out
        )
        return out.reshape(rate.shape)

    def crop(self, y0: int, x0: int, height: int, width: int) -> Scmos:
        """Return the model of a part of the frame."""
        part = (slice(y0, y0 + height), slice(x0, x0 + width))
        maps = (self.gain_adu_per_e, self.offset_adu, self.var_e2)
        return Scmos(*(v[part] if isinstance(v, np.ndarray) else v for v in maps))

    def check(self, shape: tuple[int, int]) -> None:
        """Raise `CameraError` where the maps do not fit frames of `shape`."""
        if self.shape is not None and self.shape != tuple(shape):
            raise CameraError(
                f"calibration maps have shape {self.shape}, the frames have {tuple(shape)}"
            )

    @property
    def _read_adu(self) -> float | Array:
        return np.maximum(np.sqrt(self.var_e2) * self.gain_adu_per_e, _MIN_READ_ADU)

    def _scored(self, adu: ArrayLike, rate_e: ArrayLike) -> tuple[Array, Array]:
        maps = (self.gain_adu_per_e, self.offset_adu, self._read_adu)
        return _scored(kernels.SCMOS, adu, rate_e, maps, 1.0)


@dataclass(frozen=True)
class Emccd:
    """Electron-multiplying CCD: one gain, offset and readout noise for all pixels.

    Parameters
    ----------
    gain_adu_per_e : float
        Counts per photo-electron after multiplication, > 0.
    excess : float
        Excess noise factor F (variance), 1 < F <= 2; 2 at high gain.
    readout_adu : float
        Standard deviation of the readout noise in counts.
    offset_adu : float
        Mean count without light.

    Raises
    ------
    CameraError
        A value is not a finite number within its range.
    """

    gain_adu_per_e: float
    excess: float = 2.0
    readout_adu: float = 0.0
    offset_adu: float = 0.0

    def __post_init__(self) -> None:
        for key in ("gain_adu_per_e", "excess", "readout_adu", "offset_adu"):
            value = _value(key, getattr(self, key))
            if isinstance(value, np.ndarray):
                raise CameraError(f"{key}: an EMCCD takes one number, got {value.shape}")
            object.__setattr__(self, key, value)
        _positive("gain_adu_per_e", self.gain_adu_per_e)
        _not_negative("readout_adu", self.readout_adu)
        if not 1.0 < self.excess <= 2.0:
            raise CameraError(f"excess: {self.excess:g} is out of range; expected 1 < excess <= 2")

    @property
    def shape(self) -> None:
        """No maps: fits any frame."""
        return None

    def sample(self, rate_e: ArrayLike, rng: np.random.Generator) -> NDArray[np.uint16]:
        """Draw counts for expected electrons `rate_e`, any shape."""
        electrons = rng.poisson(_checked(rate_e))
        spread = self.excess - 1.0
        charge = rng.gamma(np.maximum(electrons, 1) / spread, self.gain_adu_per_e * spread)
        read = rng.standard_normal(electrons.shape) * self.readout_adu
        return _to_adu(np.where(electrons > 0, charge, 0.0) + read + self.offset_adu)

    def loglik(self, adu: ArrayLike, rate_e: ArrayLike) -> Array:
        """Return ln q(adu | rate_e) per pixel: the exact sum over electrons."""
        return self._scored(adu, rate_e)[0]

    def score(self, adu: ArrayLike, rate_e: ArrayLike) -> Array:
        """Return the derivative of `loglik` in the rate, per pixel."""
        return self._scored(adu, rate_e)[1]

    def fisher(self, rate_e: ArrayLike) -> Array:
        """Return the Fisher information of one pixel about its rate, 1/e-^2, by summation."""
        rate, gain, offset, read = _flat(
            _floored(rate_e), self.gain_adu_per_e, self.offset_adu, self._read_adu
        )
        out = np.empty(rate.size)
        kernels.fisher_sum(
            kernels.EMCCD,
            rate.ravel(),
            gain.ravel(),
            offset.ravel(),
            read.ravel(),
            self.excess,
            out,
        )
        return out.reshape(rate.shape)

    def crop(self, y0: int, x0: int, height: int, width: int) -> Emccd:
        """Return the model of a part of the frame."""
        return self

    def check(self, shape: tuple[int, int]) -> None:
        """Do nothing: there are no maps that could fail to fit."""

    @property
    def _read_adu(self) -> float:
        return max(self.readout_adu, _MIN_READ_ADU)

    def _scored(self, adu: ArrayLike, rate_e: ArrayLike) -> tuple[Array, Array]:
        maps = (self.gain_adu_per_e, self.offset_adu, self._read_adu)
        return _scored(kernels.EMCCD, adu, rate_e, maps, self.excess)


Camera: TypeAlias = Ideal | Scmos | Emccd


def electron_maps(camera: Camera) -> tuple[ArrayLike, ArrayLike, ArrayLike]:
    """Return gain (ADU/e), offset (ADU) and read variance (e2) of any camera, scalars or maps."""
    if isinstance(camera, Scmos):
        return camera.gain_adu_per_e, camera.offset_adu, camera.var_e2
    if isinstance(camera, Emccd):
        gain = camera.gain_adu_per_e
        return gain, camera.offset_adu, (camera.readout_adu / gain) ** 2
    return 1.0, 0.0, 0.0


def _scored(
    kind: int, adu: ArrayLike, rate_e: ArrayLike, maps: tuple[ArrayLike, ...], excess: float
) -> tuple[Array, Array]:
    count, rate, gain, offset, read = _flat(adu, _floored(rate_e), *maps)
    loglik, score = np.empty(count.size), np.empty(count.size)
    kernels.score_counts(
        kind,
        count.ravel(),
        rate.ravel(),
        gain.ravel(),
        offset.ravel(),
        read.ravel(),
        excess,
        loglik,
        score,
    )
    return loglik.reshape(count.shape), score.reshape(count.shape)


def _flat(*values: ArrayLike) -> list[Array]:
    arrays = np.broadcast_arrays(*(np.asarray(v, np.float64) for v in values))
    return [np.array(a, order="C") for a in arrays]


def _floored(rate_e: ArrayLike) -> Array:
    return np.maximum(np.asarray(rate_e, np.float64), _MIN_RATE)


def _checked(rate_e: ArrayLike) -> Array:
    rate = np.asarray(rate_e, np.float64)
    if not np.all((rate >= 0) & (rate < 1e9)):
        raise CameraError("rate_e: expected electrons must be finite and not negative")
    return rate


def _to_adu(counts: ArrayLike) -> NDArray[np.uint16]:
    return np.clip(np.rint(counts), 0, MAX_ADU).astype(np.uint16)


def _value(key: str, value: ArrayLike) -> float | Array:
    """Return a float or a read-only 2-D float64 array, all finite."""
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise CameraError(f"{key}: expected a number or a 2-D map, got {value!r:.40}") from None
    if array.ndim not in (0, 2):
        raise CameraError(f"{key}: expected a number or a 2-D map, got shape {array.shape}")
    bad = int(np.count_nonzero(~np.isfinite(array)))
    if bad:
        where = f"{bad} of {array.size} pixels are" if array.ndim else "it is"
        raise CameraError(f"{key}: {where} not finite; expected finite numbers")
    if array.ndim == 0:
        return float(array)
    array.setflags(write=False)
    return array


def _positive(key: str, value: float | Array) -> None:
    lowest = float(np.min(value))
    if lowest <= 0:
        raise CameraError(
            f"{key}: {lowest:g} is not a gain; expected counts per electron (ADU/e-) > 0 "
            "(a data sheet's e-/ADU must be inverted)"
        )


def _not_negative(key: str, value: float | Array) -> None:
    lowest = float(np.min(value))
    if lowest < 0:
        raise CameraError(f"{key}: {lowest:g} is negative; expected a value >= 0")
