"""What a calibration says to a person, and what a person may say of the file to be written."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from livespt.calibration.errors import CalibrationError
from livespt.calibration.result import Calibration


def check_out(out: Path, plots: Path | None) -> None:
    """Refuse, before minutes are spent, a place where nothing can be written.

    Raises
    ------
    CalibrationError
        Naming it.
    """
    if out.suffix != ".npz":
        raise CalibrationError(f"--out: {out}; expected a name that ends in .npz")
    if not out.parent.is_dir() or out.is_dir():
        raise CalibrationError(f"--out: {out}: no such folder to write it in")
    if plots is not None and plots.exists() and not plots.is_dir():
        raise CalibrationError(f"--plots: {plots} is a file; expected a folder")


def file_facts(
    camera_id: str, exposure_ms: float | None, temperature_c: float | None, binning: int = 1
) -> dict[str, Any]:
    """Return what a person knows of the series, as the file keeps it."""
    if binning < 1:
        raise CalibrationError(f"--binning: {binning}; expected at least 1")
    facts: dict[str, Any] = {"camera_id": camera_id.strip(), "binning": binning}
    if exposure_ms is not None:
        if not 0 < exposure_ms < math.inf:
            raise CalibrationError(f"--exposure-ms: {exposure_ms:g}; expected a time > 0")
        facts["exposure_s"] = exposure_ms / 1e3
    if temperature_c is not None:
        if not -273.15 <= temperature_c < 200:
            raise CalibrationError(f"--temperature-c: {temperature_c:g}; expected degrees Celsius")
        facts["temperature_c"] = temperature_c
    return facts


def summary_lines(result: Calibration) -> list[str]:
    """Return the result as lines for a person, what the checks found last."""
    s = result.summary
    lines = [
        f"gain        {s['gain_adu_per_e']:.4g} +- {s['sd_gain_adu_per_e']:.1g} ADU/e-  "
        f"({1 / s['gain_adu_per_e']:.4g} e-/ADU)"
    ]
    lines += _scmos_lines(s) if s["model"] == "scmos" else _emccd_lines(s, bool(result.flats))
    return lines + [f"note: {note}" for note in result.notes]


def _scmos_lines(s: dict[str, Any]) -> list[str]:
    spread = (
        f"pixels differ by {s['gain_spread']:.1%}, each is known to {s['gain_sd_map']:.1%}"
        if s["gain_spread"] > 0
        else f"one for all: pixels differ by less than these frames resolve "
        f"({s['gain_sd_pixel']:.1%} each)"
    )
    return [
        f"            {spread}",
        f"offset      {s['offset_adu']:.1f} ADU (median)",
        f"read noise  {s['read_noise_e']:.2f} e- (median), {s['read_noise_rms_e']:.2f} e- (rms)",
        f"pixels      {s['hot_pixels']} hot (own noise kept), {s['bad_pixels']} bad (masked) "
        f"of {s['pixels']}",
    ]


def _emccd_lines(s: dict[str, Any], flats: bool) -> list[str]:
    lines = [
        f"offset      {s['offset_adu']:.2f} +- {s['sd_offset_adu']:.1g} ADU",
        f"readout     {s['readout_adu']:.3g} +- {s['sd_readout_adu']:.1g} ADU "
        f"({s['read_noise_e']:.3g} e-)",
        f"spurious    {s['spurious_e']:.2g} e- per pixel and frame",
    ]
    if flats and s["gain_from_dark_adu_per_e"] > 0:
        lines.insert(
            0,
            f"            from spurious charge in the dark: {s['gain_from_dark_adu_per_e']:.4g} +- "
            f"{s['sd_gain_from_dark_adu_per_e']:.1g} ADU/e-",
        )
    return lines
