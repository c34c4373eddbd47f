"""What can be wrong with calibration series, each found in the series themselves.

A check that makes the result useless raises `CalibrationError`; any other gives one line that says
what was found, and what to do. What cannot be seen: light that leaks evenly onto the dark series.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from livespt.calibration.errors import CalibrationError
from livespt.calibration.series import Series
from livespt.calibration.transfer import Pooled

#: Light that changes by more than this share of the signal is told.
LAMP = 0.02
#: Share of the variance that may be slow change of single pixels.
WANDER = 0.01
#: Pixels of a flat that may be saturated before the whole flat is left out.
SATURATED = 0.01
#: Deviation of one level's slope from the common one.
STRAIGHT = 0.04
#: Gains that differ by less than this factor are the same, data sheets being what they are.
SAME_GAIN = 1.25
#: Precision that a fit wants: gain per pixel, and read variance.
WANTED_GAIN, WANTED_VAR = 0.02, 0.1
_TILE = 16
_TOPS = tuple((1 << bits) - 1 for bits in range(8, 17))


def check_shapes(dark: Series, flats: Sequence[Series]) -> None:
    """Refuse series of different shapes."""
    for flat in flats:
        if flat.mean.shape != dark.mean.shape:
            raise CalibrationError(
                f"{flat.path}: frames of {flat.mean.shape}, the dark series {dark.path} has "
                f"{dark.mean.shape}: record both with the same region and binning"
            )


def check_brightness(dark: Series, flats: Sequence[Series]) -> None:
    """Refuse flats without light (swapped with the dark series, or the shutter closed) or noise."""
    for flat in flats:
        if np.median(flat.var) <= 0:
            raise CalibrationError(f"{flat.path}: without noise: are these raw frames of a camera?")
        rise = flat.level_adu - dark.level_adu
        noise = math.sqrt(float(np.median(flat.var)) / flat.n_frames)
        if rise <= max(0.5, 3 * noise):
            raise CalibrationError(
                f"{flat.path}: not brighter than the dark series ({flat.level_adu:.1f} against "
                f"{dark.level_adu:.1f} counts): was the shutter closed, or are the two swapped?"
            )


def check_dark(dark: Series) -> list[str]:
    """Say where the dark series looks lit or drifts."""
    notes = [dark.note] if dark.note else []
    drift = _slow_change(dark.frame_mean)
    noise = math.sqrt(float(np.median(dark.var)))
    if drift > max(0.3 * noise, 0.3):
        notes.append(
            f"{dark.path}: the dark level moves by {drift:.2g} counts (noise {noise:.2g}): let the "
            "camera warm up; taken out of the noise, but the offset is its mean"
        )
    leak = _leak(dark)
    if leak:
        notes.append(
            f"{dark.path}: looks lit: noise rises with brightness over the field by {leak:.2g} "
            "counts per count, as light does: close the shutter and cover the camera"
        )
    return notes


def _leak(dark: Series) -> float:
    """Return the slope of noise on level over the field where both clearly rise, else 0.

    Medians of tiles, so that hot pixels do not count. An offset that differs from place to place
    does not change the noise.
    """
    level, var = _tiles(dark.mean), _tiles(dark.var)
    if level.size < 9:
        return 0.0
    spread = level.std()
    error = 1.25 * math.sqrt(float(np.median(dark.var)) / dark.n_frames) / _TILE
    if spread < 5 * error:
        return 0.0
    slope, rest = np.polyfit(level, var, 1)
    left = var - slope * level - rest
    sd = float(left.std() / (spread * math.sqrt(level.size - 2)))
    explained = 1.0 - left.var() / max(float(var.var()), 1e-30)
    return float(slope) if slope > 6 * sd and explained > 0.5 else 0.0


def _tiles(values: NDArray[np.float32]) -> NDArray[np.float64]:
    n_y, n_x = values.shape[0] // _TILE, values.shape[1] // _TILE
    cut = values[: n_y * _TILE, : n_x * _TILE].reshape(n_y, _TILE, n_x, _TILE)
    return np.median(cut, axis=(1, 3)).ravel().astype(np.float64)


def find_top(series: Sequence[Series], given: int | None) -> int:
    """Return the highest count that the converter gives.

    A power of two less one that several pixels reach, or a count at which more pixels end than
    just below it; 65535 where nothing ends.
    """
    if given:
        return given
    highest = np.concatenate([one.highest.ravel() for one in series])
    top = int(highest.max())
    n_top = int(np.count_nonzero(highest == top))
    n_below = int(np.count_nonzero((highest < top) & (highest >= top - max(3, top // 500))))
    full = top in _TOPS and n_top >= 3
    piled = n_top >= 10 and n_top > 3 * n_below
    return top if full or piled else 65535


def drop_saturated(flats: Sequence[Series], top_adu: int) -> tuple[list[Series], list[str]]:
    """Leave out flats that reach the top.

    Raises
    ------
    CalibrationError
        None is left.
    """
    kept, notes = [], []
    for flat in flats:
        share = float(np.mean(flat.highest >= top_adu))
        if share > SATURATED:
            notes.append(
                f"{flat.path}: {share:.0%} of the pixels reach the converter's top of {top_adu}: "
                "left out; use less light"
            )
        else:
            kept.append(flat)
    if not kept:
        raise CalibrationError(notes[0] + " (no flat series is left)")
    return kept, notes


def check_light(dark: Series, flats: Sequence[Series]) -> list[str]:
    """Say where the lamp changes, in time or in place, and where a file is short."""
    notes = []
    for flat in flats:
        if flat.note:
            notes.append(flat.note)
        signal = float(flat.frame_mean.mean() - dark.frame_mean.mean())
        change = flat.light_change / max(signal, 1e-9)
        if change > LAMP:
            notes.append(
                f"{flat.path}: the lamp changes by {change:.1%} (s.d.): taken out by the mean of "
                "each frame"
            )
        if flat.wander > WANDER:
            notes.append(
                f"{flat.path}: {flat.wander:.0%} of the noise is light that moves over the field, "
                "and the gain is too high by as much: let the lamp warm up, keep the camera still"
            )
    return notes


def check_straight(flats: Sequence[Series], pooled: Pooled) -> list[str]:
    """Say which flat does not lie on the line of the others."""
    notes = []
    if len(flats) < 2:
        return ["only one flat series: whether the response is straight cannot be seen"]
    for flat, slope, sd in zip(flats, pooled.level_slope, pooled.sd_level_slope, strict=True):
        off = slope / pooled.slope - 1.0
        if abs(off) > max(STRAIGHT, 5 * sd / pooled.slope):
            notes.append(
                f"{flat.path}: noise per light is {abs(off):.0%} {'above' if off > 0 else 'below'} "
                f"the common line at {flat.level_adu:.0f} counts: the response is not straight "
                "there; leave this level out"
            )
    return notes


def check_precision(dark: Series, flats: Sequence[Series], gain_sd: float, spread: float) -> str:
    """Say how many frames would do, where there are too few; "" where there are enough.

    A gain wrong by delta adds delta^2 E^2 to the noise E of a pixel: 4 % at 100 electrons and 2 %.
    `gain_sd` is the relative precision of one pixel from its own frames, `spread` the resolved
    relative spread between pixels: both together limit the shrunk estimate.
    """
    wants = []
    shrunk = gain_sd * spread / math.hypot(gain_sd, spread) if spread > 0 else 0.0
    if shrunk > 1.1 * WANTED_GAIN:
        n = sum(flat.n_frames for flat in flats) / len(flats)
        alone = WANTED_GAIN * spread / math.sqrt(spread**2 - WANTED_GAIN**2)
        wants.append(
            f"{_nice(n * (gain_sd / alone) ** 2)} frames per flat series would give each pixel's "
            f"gain to {WANTED_GAIN:.0%} (now {shrunk:.1%})"
        )
    var_sd = math.sqrt(2.0 / (dark.n_frames - 2))
    if var_sd > WANTED_VAR:
        wants.append(
            f"{_nice(2.0 / WANTED_VAR**2)} dark frames would give each pixel's read variance to "
            f"{WANTED_VAR:.0%} (now {var_sd:.0%})"
        )
    return "few frames: " + "; ".join(wants) if wants else ""


def _nice(n: float) -> int:
    """Round a number of frames up to two digits."""
    unit = 10 ** max(math.floor(math.log10(max(n, 1.0))) - 1, 0)
    return int(math.ceil(n / unit - 1e-9) * unit)


def _slow_change(frame_mean: NDArray[np.float64]) -> float:
    """Return the range of the frames' means, smoothed over a tenth of the series."""
    n = max(frame_mean.size // 10, 1)
    parts = frame_mean[: n * (frame_mean.size // n)].reshape(-1, n).mean(axis=1)
    return float(np.ptp(parts))


def compare_gains(
    found: float, expected: float, what: str = "expected", slack: float = SAME_GAIN
) -> str:
    """Say in words how an `expected` gain stands to the one found; "" where they agree.

    Parameters
    ----------
    found : float
        Counts per electron (ADU/e-).
    expected : float
        From a data sheet or a config, perhaps the inverse.
    what : str
        What to call it.
    slack : float
        Gains that differ by less than this factor agree.
    """
    if _near(found, expected, slack):
        return ""
    if _near(found * expected, 1.0, slack):
        return (
            f"{what} gain looks inverted: {expected:.3g} e-/ADU is {1 / expected:.3g} ADU/e-, "
            f"which agrees with the {found:.3g} ADU/e- found; livespt wants ADU/e-"
        )
    return (
        f"{what} gain {expected:.3g} does not fit: found {found:.3g} ADU/e- "
        f"({1 / found:.3g} e-/ADU)"
    )


def _near(a: float, b: float, slack: float) -> bool:
    return abs(math.log(a / b)) < math.log(slack)
