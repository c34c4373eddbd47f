"""The calibration file: what `livespt calibrate` writes and `camera.calibration` reads.

An .npz without pickles. The keys of the pixel model stand in it by their own names, so that a file
made by hand with nothing else is read as well:

- `gain_adu_per_e`, `offset_adu`, `var_e2`: maps (H, W) or scalars (sCMOS);
- `gain_adu_per_e`, `offset_adu`, `readout_adu`, `excess`: scalars (EMCCD).

A file of `livespt calibrate` adds `format`, `version`, `model`, `about` (JSON: camera, date,
frames, precision), `sd_...` (standard errors) and `bad` (H, W), the pixels that cannot be used.

A bad pixel (in `bad`, not finite, gain <= 0, variance < 0, or variance 0 where others have some)
is masked: it gets the read variance `MASKED_E2` and the gain `MASKED_GAIN`. Whatever it counts is
then less than an electron to the model, and a fit gives it the weight (E + var)/MASKED_E2 of any
other pixel. The value is a compromise: with a larger one the detector, whose filter reaches 5 px,
would be blind to dim molecules around it.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from livespt.camera import Camera, CameraError, Emccd, Scmos

Array: TypeAlias = NDArray[np.float64]

FORMAT = "livespt-calibration"
VERSION = 1
KEYS = {
    "scmos": ("gain_adu_per_e", "offset_adu", "var_e2"),
    "emccd": ("gain_adu_per_e", "offset_adu", "readout_adu", "excess"),
}
#: Read variance of a masked pixel, e-^2.
MASKED_E2 = 1e5
#: And its gain, ADU/e-.
MASKED_GAIN = 1e5
#: Share of bad pixels from which maps are refused: something else is wrong then.
MOST_BAD = 0.05


class Region(NamedTuple):
    """What a source knows of its frames' place on the chip.

    Attributes
    ----------
    binning : int
        Chip pixels along a side of a frame's pixel; 0 where unknown.
    origin_px : (int, int) or None
        x0, y0 of the frames on the chip, in frame pixels.
    """

    binning: int = 0
    origin_px: tuple[int, int] | None = None


ANY_REGION = Region()


@dataclass(frozen=True, eq=False)
class CameraFile:
    """The content of a calibration file.

    Attributes
    ----------
    model : str
        "scmos", "emccd", or "" where the file was made by hand.
    values : mapping
        The pixel model's own keys: float, or (H, W) float64.
    errors : mapping
        Standard errors by the same keys, as far as known.
    bad : (H, W) bool or None
    about : mapping
        Camera, date, frames, precision; plain JSON values.
    """

    model: str
    values: Mapping[str, float | Array]
    errors: Mapping[str, float | Array] = field(default_factory=dict)
    bad: NDArray[np.bool_] | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def camera_id(self) -> str:
        """The camera it was made with; "" where nobody said."""
        return str(self.about.get("camera_id", ""))

    @property
    def binning(self) -> int:
        """Binning of the frames it was made from; 1 unless it says another."""
        return int(self.about.get("binning", 1))

    @property
    def shape(self) -> tuple[int, ...]:
        """Height and width of its maps; () where it holds numbers only."""
        return max((np.shape(value) for value in self.values.values()), key=len, default=())


def write_camera_file(path: Path, content: CameraFile) -> None:
    """Write a calibration file, whole or not at all.

    Raises
    ------
    CameraError
        The disk refuses.
    """
    arrays: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "model": content.model,
        "about": json.dumps(dict(content.about), allow_nan=False),
    }
    arrays |= {key: _small(value) for key, value in content.values.items()}
    arrays |= {f"sd_{key}": _small(value) for key, value in content.errors.items()}
    if content.bad is not None:
        arrays["bad"] = content.bad
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise CameraError(f"{path}: cannot be written: {error.strerror or error}") from None


def read_camera_file(path: Path) -> CameraFile:
    """Read a calibration file, one of `livespt calibrate` or one made by hand.

    Raises
    ------
    CameraError
        The file is missing, torn, of a later version, or no calibration.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return _content(path, {name: archive[name] for name in archive.files})
    except FileNotFoundError:
        raise CameraError(f"{path}: no such calibration file") from None
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile, AttributeError) as error:
        raise CameraError(f"{path}: not a calibration .npz: {error}") from None


def check_identity(content: CameraFile, path: Path, identity: str) -> None:
    """Refuse a calibration of another camera. Where either side is unknown, nothing is checked.

    The name in the file may be a part of the source's (the serial number alone).

    Raises
    ------
    CameraError
        Naming both.
    """
    ours, theirs = content.camera_id.casefold().strip(), identity.casefold().strip()
    if ours and theirs and ours not in theirs and theirs not in ours:
        raise CameraError(
            f"{path}: made with camera '{content.camera_id}', the source is '{identity}': "
            "calibrate this camera, or name it so (livespt calibrate --camera-id)"
        )


def check_binning(content: CameraFile, path: Path, shape: tuple[int, int], region: Region) -> None:
    """Refuse a calibration of other binning. Where the source knows none, nothing is checked.

    A file made by hand says nothing of binning; maps of the frames' own shape are believed.

    Raises
    ------
    CameraError
        Naming both.
    """
    if not content.model and content.shape == tuple(shape):
        return
    if region.binning and region.binning != content.binning:
        raise CameraError(
            f"{path}: made with binning {content.binning}, the source bins {region.binning} x "
            f"{region.binning}: gain, offset and noise are others; calibrate with this binning "
            "(livespt calibrate --binning)"
        )


def place_of(
    content: CameraFile, path: Path, shape: tuple[int, int], region: Region
) -> tuple[tuple[int, int] | None, list[str]]:
    """Return where frames of `shape` lie on the maps by what the source knows, and what to note.

    None where the source does not know, or the maps have the frames' own shape: then they are
    taken as made in this very region.
    """
    at = region.origin_px
    if at is None or len(content.shape) != 2:
        return None, []
    where = f"[{at[0]}, {at[1]}]"
    if content.shape != tuple(shape):
        return at, [f"{path}: the part at {where} is used, where the camera's region lies"]
    if at == (0, 0):
        return None, []
    return None, [
        f"{path}: taken as made in this region (at {where} on the chip): it has the same shape"
    ]


def camera_of(
    content: CameraFile,
    path: Path,
    shape: tuple[int, int],
    *,
    model: str = "",
    origin_px: tuple[int, int] | None = None,
) -> tuple[Camera, list[str]]:
    """Make the pixel model of frames of `shape`, bad pixels masked.

    Parameters
    ----------
    content : CameraFile
    path : Path
        For messages.
    shape : (int, int)
        Height and width of the frames.
    model : str
        What the config asks for; "" takes the file's own.
    origin_px : (int, int), optional
        x0, y0 of the frames on the calibrated chip, where they show a part of it.

    Returns
    -------
    camera : Camera
    notes : list of str
        What somebody should know, one line each.

    Raises
    ------
    CameraError
        Model, keys or shape do not fit, or more than one pixel in twenty is bad.
    """
    model = model or content.model
    if model not in KEYS:
        raise CameraError(f"{path}: made by hand, so camera.model must be 'scmos' or 'emccd'")
    if content.model and model != content.model:
        raise CameraError(f"{path}: calibrates model '{content.model}', not '{model}'")
    for key in KEYS[model]:
        if key not in content.values:
            found = ", ".join(content.values) or "none of its keys"
            raise CameraError(f"{path}: no '{key}' in it (has: {found})")
    values = {key: content.values[key] for key in KEYS[model]}
    if model == "emccd":
        return _named(path, Emccd, **values), []
    maps = [_part(path, key, value, shape, origin_px) for key, value in values.items()]
    bad = np.zeros(shape, np.bool_)
    if content.bad is not None:
        bad |= _part(path, "bad", content.bad, shape, origin_px).astype(np.bool_)
    maps, n_bad = _masked(path, maps, bad)
    camera = _named(path, Scmos, **dict(zip(KEYS[model], maps, strict=True)))
    if not n_bad:
        return camera, []
    return camera, [f"{path}: {n_bad} of {bad.size} pixels are bad and masked: no fit counts them"]


def _named(path: Path, kind: type, **values: Any) -> Camera:
    try:
        return kind(**values)
    except CameraError as error:
        raise CameraError(f"{path}: {error}") from None


def _content(path: Path, arrays: dict[str, NDArray]) -> CameraFile:
    known = {key for keys in KEYS.values() for key in keys}
    values = {k: _numbers(path, k, v) for k, v in arrays.items() if k in known}
    if "format" not in arrays:  # made by hand
        return CameraFile("", values)
    found, version = str(arrays["format"]), str(arrays.get("version", "none"))
    if found != FORMAT:
        raise CameraError(f"{path}: format '{found}', expected '{FORMAT}'")
    if version != str(VERSION):
        raise CameraError(f"{path}: calibration version {version}, this livespt reads {VERSION}")
    errors = {
        k.removeprefix("sd_"): _numbers(path, k, v)
        for k, v in arrays.items()
        if k.startswith("sd_")
    }
    about = json.loads(str(arrays.get("about", "{}")))
    return CameraFile(
        str(arrays.get("model", "")), values, errors, _bad_map(path, arrays.get("bad")), about
    )


def _bad_map(path: Path, bad: NDArray | None) -> NDArray[np.bool_] | None:
    if bad is not None and (bad.ndim != 2 or bad.dtype != np.bool_):
        raise CameraError(f"{path}: 'bad' is {bad.dtype} of shape {bad.shape}; expected a bool map")
    return bad


def _numbers(path: Path, key: str, value: NDArray) -> float | Array:
    if value.dtype.kind not in "fiu" or value.ndim not in (0, 2):
        raise CameraError(
            f"{path}: '{key}' is {value.dtype} of shape {value.shape}; "
            "expected a number or a 2-D map"
        )
    return value.astype(np.float64) if value.ndim else float(value)


def _part(
    path: Path,
    key: str,
    value: float | NDArray,
    shape: tuple[int, int],
    origin_px: tuple[int, int] | None,
) -> NDArray:
    """Return one map cut to the frames; a scalar stays one."""
    value = np.asarray(value)
    if value.ndim == 0:
        return value
    if origin_px is None:
        if value.shape != tuple(shape):
            hint = (
                "; for a part of the chip give camera.calibration_origin_px"
                if value.shape[0] >= shape[0] and value.shape[1] >= shape[1]
                else ""
            )
            raise CameraError(
                f"{path}: '{key}' has shape {value.shape}, the frames have {tuple(shape)}{hint}"
            )
        return value
    x0, y0 = origin_px
    part = value[y0 : y0 + shape[0], x0 : x0 + shape[1]]
    if part.shape != tuple(shape):
        raise CameraError(
            f"{path}: '{key}' has shape {value.shape}: frames of {tuple(shape)} at "
            f"calibration_origin_px [{x0}, {y0}] reach beyond it"
        )
    return part


def _masked(
    path: Path, maps: list[NDArray], bad: NDArray[np.bool_]
) -> tuple[list[NDArray | float], int]:
    """Return gain, offset and variance with bad pixels masked, and the number of these."""
    if all(m.ndim == 0 for m in maps) and not bad.any():
        return [float(m) for m in maps], 0
    gain, offset, var = (np.array(np.broadcast_to(m, bad.shape), np.float64) for m in maps)
    with np.errstate(invalid="ignore"):
        bad = bad | ~(np.isfinite(gain) & np.isfinite(offset) & np.isfinite(var))
        bad |= (gain <= 0) | (var < 0)
        if np.nanmedian(np.where(bad, np.nan, var) if not bad.all() else 0.0) > 0:
            bad |= var == 0
    n_bad = int(np.count_nonzero(bad))
    if n_bad > MOST_BAD * bad.size:
        raise CameraError(
            f"{path}: {n_bad} of {bad.size} pixels are bad (not finite, gain_adu_per_e <= 0, "
            f"var_e2 < 0, or marked so); expected at most {MOST_BAD:.0%}"
        )
    if not n_bad:
        return [float(m) if m.ndim == 0 else m for m in maps], 0
    gain[bad], offset[bad], var[bad] = MASKED_GAIN, np.median(offset[~bad]), MASKED_E2
    return [gain, offset, var], n_bad


def _small(value: float | Array) -> NDArray:
    """Return maps as float32: seven digits, and half the file."""
    array = np.asarray(value)
    return array.astype(np.float32) if array.ndim else array
