"""One pass over a series: mean and variance of each pixel, changes of the light taken out.

With d_it = c_it - c_i0 (integers, so that all sums are exact in float64) the pass keeps, per pixel,

    S1 = sum_t d_it,   S2 = sum_t d_it^2,   Sm = sum_t d_it m_t,   m_t = mean over pixels of d_it

and the highest count. A lamp that drifts or flickers moves all pixels together: it is taken out by
regressing each pixel on the mean of all OTHER pixels (a pixel's own noise in the mean would make
its variance 1/N too small),

    a_i = (N Sm - Scc)/(N-1),   b_i = (N^2 Smm - 2 N Sm + Scc)/(N-1)^2,
    var_i = (Scc - a_i^2/b_i)/(n-2)

with Scc, Sm, Smm about their means. What is left is noise, and light that changes differently in
different places: `wander` estimates its share of the variance from the two halves of the series.
A series of any length needs the memory of a few frames.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from livespt.calibration.errors import CalibrationError
from livespt.sources.movies import Movie
from livespt.sources.replay import open_movie

Progress = Callable[[int, int], None]

MIN_FRAMES = 20
MIN_PIXELS = 64
_BLOCK = 1 << 15  # pixels at a time: three float64 rows of it stay in the cache
_CHI2_MEDIAN = 0.4549  # of one degree of freedom


class Series(NamedTuple):
    """What calibration needs of one series.

    Attributes
    ----------
    path : Path
    n_frames : int
    mean, var : (H, W) float32
        Counts; the variance without changes of the light, `n_frames` - 2 degrees of freedom.
    highest : (H, W) uint16
        Highest count of each pixel.
    frame_mean : (n,) float64
        Mean of each frame.
    wander : float
        Share of the variance that is slow change which pixels do not have in common.
    histogram : (65536,) int64 or None
        How often each count came.
    note : str
        Why the series is shorter than its file promises; "" if it is not.
    """

    path: Path
    n_frames: int
    mean: NDArray[np.float32]
    var: NDArray[np.float32]
    highest: NDArray[np.uint16]
    frame_mean: NDArray[np.float64]
    wander: float
    histogram: NDArray[np.int64] | None
    note: str

    @property
    def level_adu(self) -> float:
        """Typical count."""
        return float(np.median(self.mean))

    @property
    def light_change(self) -> float:
        """Spread of the frames' means over time, counts (their own noise is far smaller)."""
        return float(self.frame_mean.std())


def read_series(path: Path, *, histogram: bool = False, progress: Progress | None = None) -> Series:
    """Read a movie through once.

    Parameters
    ----------
    path : Path
        Any movie that a replay can read.
    histogram : bool
        Count the counts too.
    progress : callable (done, total), optional

    Raises
    ------
    SourceError
        The movie cannot be opened or read.
    CalibrationError
        It is too short or too small.
    """
    movie = open_movie(path)
    try:
        return _read(movie, histogram, progress or (lambda done, total: None))
    finally:
        movie.close()


def _read(movie: Movie, histogram: bool, progress: Progress) -> Series:
    n, size = movie.n_frames, movie.shape[0] * movie.shape[1]
    if n < MIN_FRAMES:
        raise CalibrationError(f"{movie.path}: {n} frames; expected {MIN_FRAMES} or more")
    if size < MIN_PIXELS:
        raise CalibrationError(f"{movie.path}: {size} pixels; expected {MIN_PIXELS} or more")
    first = _counts(movie, 0)
    sums = np.zeros((3, size))
    highest, half = first.copy(), np.zeros(size, np.float32)
    m = np.zeros(n)
    counted = np.zeros(1 << 16, np.int64) if histogram else None
    start = float(first.mean())
    for t in range(n):
        if t == n // 2:
            half = sums[0].astype(np.float32)
        adu = _counts(movie, t)
        m[t] = float(adu.mean()) - start
        _add(adu, first, m[t], sums, highest)
        if counted is not None:
            counted += np.bincount(adu, minlength=1 << 16)
        progress(t + 1, n)
    mean, var, wander = _moments(sums, half, m)
    return Series(
        path=movie.path,
        n_frames=n,
        mean=(first + mean).astype(np.float32).reshape(movie.shape),
        var=var.astype(np.float32).reshape(movie.shape),
        highest=highest.reshape(movie.shape),
        frame_mean=start + m,
        wander=wander,
        histogram=counted,
        note=f"{movie.path}: {movie.torn}" if movie.torn else "",
    )


def _counts(movie: Movie, t: int) -> NDArray[np.uint16]:
    try:
        adu = np.ascontiguousarray(movie.read(t), np.uint16)
    except Exception as error:  # noqa: BLE001 (a damaged page fails in any way in a decoder)
        text = " ".join(str(error).split()) or type(error).__name__
        raise CalibrationError(f"{movie.path}: frame {t} cannot be read: {text}") from None
    if adu.shape != movie.shape:
        raise CalibrationError(
            f"{movie.path}: frame {t} has shape {adu.shape}, those before {movie.shape}"
        )
    return adu.ravel()


def _add(
    adu: NDArray[np.uint16],
    first: NDArray[np.uint16],
    m: float,
    sums: NDArray[np.float64],
    highest: NDArray[np.uint16],
) -> None:
    """Add one frame to the sums, block by block."""
    np.maximum(highest, adu, out=highest)
    d, product = np.empty(_BLOCK), np.empty(_BLOCK)
    for at in range(0, adu.size, _BLOCK):
        part = slice(at, min(at + _BLOCK, adu.size))
        k = part.stop - at
        np.subtract(adu[part], first[part], out=d[:k], dtype=np.float64)
        sums[0, part] += d[:k]
        np.multiply(d[:k], m, out=product[:k])
        sums[2, part] += product[:k]
        np.square(d[:k], out=d[:k])
        sums[1, part] += d[:k]


def _moments(
    sums: NDArray[np.float64], half: NDArray[np.float32], m: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Return mean (less the first frame), variance and wander from the sums."""
    n, size = m.size, sums.shape[1]
    mean = sums[0] / n
    scc = np.maximum(sums[1] - sums[0] * mean, 0.0)
    sm = sums[2] - sums[0] * m.mean()
    smm = float(np.sum((m - m.mean()) ** 2))
    a = (size * sm - scc) / (size - 1)
    b = np.maximum((size**2 * smm - 2 * size * sm + scc) / (size - 1) ** 2, 1e-30)
    var = np.maximum(scc - a**2 / b, 0.0) / (n - 2)
    return mean, var, _wander(sums[0], half, a / b, b, var, m)


def _wander(
    total: NDArray[np.float64],
    half: NDArray[np.float32],
    slope: NDArray[np.float64],
    b: NDArray[np.float64],
    var: NDArray[np.float64],
    m: NDArray[np.float64],
) -> float:
    """Return the share of the variance that is slow change which pixels do not have in common.

    The halves' means differ by noise of variance 4/n; the excess z^2 of that difference, for a
    steady drift of total size L, is (L/2)^2 over it, and the drift adds L^2/12 to the variance.
    """
    n, k = m.size, m.size // 2
    step = m[k:].mean() - m[:k].mean()
    noise = 1.0 / k + 1.0 / (n - k)
    left = (total - half) / (n - k) - half / k - slope * step
    with np.errstate(divide="ignore", invalid="ignore"):
        z2 = left**2 / (var * np.maximum(noise - step**2 / b, 0.1 * noise))
    z2 = z2[np.isfinite(z2)]
    if not z2.size:
        return 0.0
    excess = max(float(np.median(z2)) / _CHI2_MEDIAN - 1.0, 0.0)
    return excess * noise / 3.0
