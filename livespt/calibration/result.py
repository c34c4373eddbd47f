"""From a dark series and flats to a calibration file (theory: `series`, `transfer`, `register`).

`calibrate` reads each series once, makes the checks, fits, and returns a `Calibration`, which
knows its file's content and what to tell a person. Nothing is written here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from livespt.calibration import checks, register, transfer
from livespt.calibration.errors import CalibrationError
from livespt.calibration.register import DarkMixture
from livespt.calibration.series import Series, read_series
from livespt.calibration.transfer import Pooled, Transfer
from livespt.camera_file import MASKED_E2, MOST_BAD, CameraFile

#: Called with (frames done, frames in all, name of the series).
Progress = Callable[[int, int, str], None]

#: A pixel is hot with this many times the typical dark variance.
HOT = 5.0
#: And bad if its gain is off by this share, and by so many standard errors.
_OFF_GAIN, _OFF_SDS = 0.3, 6.0


@dataclass(frozen=True)
class Options:
    """What a person may say about a calibration.

    Attributes
    ----------
    model : {"scmos", "emccd"}
    gain : {"auto", "pixel", "global"}
        sCMOS: the map holds shrunk estimates, raw ones, or one value.
    excess : float
        EMCCD: excess noise factor F.
    top_adu : int or None
        Highest count of the converter; none: found from the series.
    expected_gain : float or None
        From a data sheet, to be compared with.
    about : mapping
        Goes into the file: camera_id, exposure_s, temperature_c.
    """

    model: Literal["scmos", "emccd"] = "scmos"
    gain: Literal["auto", "pixel", "global"] = "auto"
    excess: float = 2.0
    top_adu: int | None = None
    expected_gain: float | None = None
    about: dict[str, Any] = field(default_factory=dict)


class Calibration(NamedTuple):
    """The result, with all that its plots need.

    Attributes
    ----------
    options : Options
    file : CameraFile
        What is to be written.
    dark : Series
    flats : list of Series
        Those that were used.
    lines : Transfer or None
    pooled : Pooled or None
        None without flats (an EMCCD's dark series alone).
    mixture : DarkMixture or None
        EMCCD only.
    summary : dict
        Plain numbers, as ``--json`` prints them.
    notes : list of str
        What the checks found, one line each.
    """

    options: Options
    file: CameraFile
    dark: Series
    flats: list[Series]
    lines: Transfer | None
    pooled: Pooled | None
    mixture: DarkMixture | None
    summary: dict[str, Any]
    notes: list[str]


def calibrate(
    dark: Path, flats: Sequence[Path], options: Options, progress: Progress | None = None
) -> Calibration:
    """Calibrate a camera.

    Parameters
    ----------
    dark : Path
        A movie without light.
    flats : sequence of Path
        Movies of even, steady light, one per level; an EMCCD's gain can be had without.
    options : Options
    progress : callable, optional

    Raises
    ------
    CalibrationError, SourceError
        A series cannot be used; one line that names it.
    """
    _check_options(options, flats)
    emccd = options.model == "emccd"
    first = _read(dark, emccd, progress)
    lit = [_read(path, False, progress) for path in flats]
    checks.check_shapes(first, lit)
    checks.check_brightness(first, lit)
    notes = checks.check_dark(first)
    top = checks.find_top([first, *lit], options.top_adu)
    if lit:
        lit, dropped = checks.drop_saturated(lit, top)
        notes += dropped + checks.check_light(first, lit)
    finish = _emccd if emccd else _scmos
    return finish(options, first, lit, top, notes)


def _check_options(options: Options, flats: Sequence[Path]) -> None:
    if options.model == "scmos" and not flats:
        raise CalibrationError("--flat: none given; the gain of an sCMOS camera needs one or more")
    if not 1.0 < options.excess <= 2.0:
        raise CalibrationError(f"--excess: {options.excess:g}; expected 1 < excess <= 2")
    if options.expected_gain is not None and not 0 < options.expected_gain < math.inf:
        raise CalibrationError(f"--expected-gain: {options.expected_gain:g}; expected > 0")


def _read(path: Path, histogram: bool, progress: Progress | None) -> Series:
    tell = None if progress is None else lambda done, total: progress(done, total, path.name)
    return read_series(path, histogram=histogram, progress=tell)


# --- sCMOS -----------------------------------------------------------------------------------


def _scmos(
    options: Options, dark: Series, flats: list[Series], top: int, notes: list[str]
) -> Calibration:
    lines = transfer.fit_lines(dark, flats, top, transfer.K_POISSON)
    good = _responding(dark, flats, lines, top)
    pooled = transfer.pool(dark, flats, lines, good)
    good &= ~_off(lines, pooled)
    pooled = transfer.pool(dark, flats, lines, good)
    bad = ~good
    if bad.mean() > MOST_BAD:
        raise CalibrationError(
            f"{dark.path}: {bad.mean():.0%} of the pixels are dead, stuck or of an odd gain; "
            f"expected at most {MOST_BAD:.0%}: are dark and flat series of the same camera mode?"
        )
    gain, sd_gain = _gain_map(options, lines, pooled)
    gain[bad], sd_gain[bad] = pooled.slope, pooled.slope
    read = np.maximum(lines.dark_var, transfer.ROUNDING_ADU2)
    var_e2 = read / gain**2
    sd_var = var_e2 * np.hypot(lines.sd_dark_var / read, 2 * sd_gain / gain)
    offset = dark.mean.astype(np.float64)
    sd_offset = np.sqrt(dark.var / dark.n_frames)
    notes = notes + _scmos_notes(options, dark, flats, pooled)
    summary = _scmos_summary(dark, pooled, var_e2, bad, sd_gain)
    var_e2[bad] = MASKED_E2  # for readers that know nothing of `bad`
    file = CameraFile(
        "scmos",
        {"gain_adu_per_e": gain, "offset_adu": offset, "var_e2": var_e2},
        {"gain_adu_per_e": sd_gain, "offset_adu": sd_offset, "var_e2": sd_var},
        bad,
        _about(options, dark, flats, summary, notes),
    )
    return Calibration(options, file, dark, flats, lines, pooled, None, summary, notes)


def _responding(dark: Series, flats: list[Series], lines: Transfer, top: int) -> NDArray[np.bool_]:
    """Say which pixels are neither dead nor stuck nor saturated in the dark."""
    brightest = int(np.argmax([flat.level_adu for flat in flats]))
    light, noise = lines.signal[brightest], flats[brightest].var
    good = np.isfinite(lines.sd_slope) & (dark.highest < top)
    good &= (light > 0.1 * np.median(light)) & (noise > 0.01 * np.median(noise))
    if not good.any():
        raise CalibrationError(
            f"{flats[brightest].path}: not one pixel has more noise in the light: are these raw "
            "frames of a camera?"
        )
    return good


def _off(lines: Transfer, pooled: Pooled) -> NDArray[np.bool_]:
    """Say which pixels have a gain that no noise of the measurement explains."""
    sd = np.hypot(lines.sd_slope, pooled.spread)
    away = np.abs(lines.slope - pooled.slope)
    far = (away > _OFF_GAIN * pooled.slope) & (away > _OFF_SDS * sd)
    return far | ~np.isfinite(lines.sd_slope)


def _gain_map(options: Options, lines: Transfer, pooled: Pooled) -> tuple[NDArray, NDArray]:
    if options.gain == "pixel":
        return lines.slope.copy(), lines.sd_slope.copy()
    if options.gain == "global":
        pooled = pooled._replace(spread=0.0)
    return transfer.shrink(lines, pooled)


def _scmos_notes(options: Options, dark: Series, flats: list[Series], pooled: Pooled) -> list[str]:
    notes = checks.check_straight(flats, pooled)
    sd_pixel, spread = pooled.sd_pixel / pooled.slope, pooled.spread / pooled.slope
    notes.append(checks.check_precision(dark, flats, sd_pixel, spread))
    if options.expected_gain is not None:
        notes.append(checks.compare_gains(pooled.slope, options.expected_gain))
    return [note for note in notes if note]


def _scmos_summary(
    dark: Series,
    pooled: Pooled,
    var_e2: NDArray[np.float64],
    bad: NDArray[np.bool_],
    sd_gain: NDArray[np.float64],
) -> dict[str, Any]:
    good = ~bad
    typical = float(np.median(var_e2[good]))
    return {
        "model": "scmos",
        "gain_adu_per_e": pooled.slope,
        "sd_gain_adu_per_e": pooled.sd_slope,
        "gain_e_per_adu": 1.0 / pooled.slope,
        "gain_spread": pooled.spread / pooled.slope,
        "gain_sd_pixel": pooled.sd_pixel / pooled.slope,
        "gain_sd_map": float(np.median(sd_gain[good])) / pooled.slope,
        "offset_adu": float(np.median(dark.mean)),
        "read_noise_e": math.sqrt(typical),
        "read_noise_rms_e": math.sqrt(float(np.mean(var_e2[good]))),
        "hot_pixels": int(np.count_nonzero(good & (var_e2 > HOT * typical))),
        "bad_pixels": int(np.count_nonzero(bad)),
        "pixels": int(bad.size),
    }


# --- EMCCD -----------------------------------------------------------------------------------


def _emccd(
    options: Options, dark: Series, flats: list[Series], top: int, notes: list[str]
) -> Calibration:
    assert dark.histogram is not None
    found = register.fit_dark(dark.histogram, str(dark.path))
    from_dark = found.scale_adu / (options.excess - 1.0)
    lines = pooled = None
    gain, sd_gain = from_dark, found.sd[3] / (options.excess - 1.0)
    if flats:
        lines = transfer.fit_lines(dark, flats, top, transfer.K_MULTIPLIED)
        pooled = transfer.pool(dark, flats, lines, _responding(dark, flats, lines, top))
        gain, sd_gain = pooled.slope / options.excess, pooled.sd_slope / options.excess
        notes = notes + checks.check_straight(flats, pooled)
    elif gain <= 0:
        raise CalibrationError(
            f"{dark.path}: too little spurious charge to tell the gain: give flat series (--flat)"
        )
    notes = notes + _emccd_notes(options, dark, found, gain, from_dark if flats else gain)
    summary = {
        "model": "emccd",
        "gain_adu_per_e": gain,
        "sd_gain_adu_per_e": sd_gain,
        "gain_from_dark_adu_per_e": from_dark,
        "sd_gain_from_dark_adu_per_e": found.sd[3] / (options.excess - 1.0),
        "offset_adu": found.offset_adu,
        "sd_offset_adu": found.sd[0],
        "readout_adu": found.readout_adu,
        "sd_readout_adu": found.sd[1],
        "read_noise_e": found.readout_adu / gain,
        "spurious_e": found.spurious_e,
        "excess": options.excess,
    }
    values = {
        "gain_adu_per_e": gain,
        "offset_adu": found.offset_adu,
        "readout_adu": found.readout_adu,
        "excess": options.excess,
    }
    errors = {"gain_adu_per_e": sd_gain, "offset_adu": found.sd[0], "readout_adu": found.sd[1]}
    about = _about(options, dark, flats, summary, notes)
    file = CameraFile("emccd", values, errors, None, about)
    return Calibration(options, file, dark, flats, lines, pooled, found, summary, notes)


def _emccd_notes(
    options: Options, dark: Series, found: DarkMixture, gain: float, from_dark: float
) -> list[str]:
    notes = []
    noise2 = np.median(dark.var) / dark.n_frames
    pattern = math.sqrt(max(float(_robust_var(dark.mean)) - float(noise2), 0.0))
    if pattern > 0.3 * found.readout_adu:
        notes.append(
            f"{dark.path}: the offset differs by {pattern:.2g} counts (s.d.) between pixels; the "
            f"model has one: the readout noise of {found.readout_adu:.3g} holds that too"
        )
    if from_dark > 0 and not 0.8 < from_dark / gain < 1.25:
        notes.append(
            f"{dark.path}: spurious charge says a gain of {from_dark:.3g} ADU/e-, the flats "
            f"{gain:.3g}: the flats count (is the EM gain the same in all series?)"
        )
    if options.expected_gain is not None:
        notes.append(checks.compare_gains(gain, options.expected_gain))
    return [note for note in notes if note]


def _robust_var(values: NDArray) -> float:
    low, high = np.quantile(values, (0.1587, 0.8413))
    return float(0.5 * (high - low)) ** 2


# --- both ------------------------------------------------------------------------------------


def _about(
    options: Options,
    dark: Series,
    flats: list[Series],
    summary: dict[str, Any],
    notes: list[str],
) -> dict[str, Any]:
    from livespt import __version__

    return {
        **options.about,
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "livespt": __version__,
        "dark": {"file": dark.path.name, "frames": dark.n_frames},
        "flats": [
            {"file": flat.path.name, "frames": flat.n_frames, "level_adu": flat.level_adu}
            for flat in flats
        ],
        "gain": options.gain,
        "summary": summary,
        "notes": notes,
    }
