"""Does the camera that a config describes fit the frames? Above all: is its gain the right way up?

Frames of an experiment are no flat series, but their noise obeys the same law at least from below:
a pixel's variance between successive frames, less the read noise, is the gain (times the excess
factor) times its light, and more where molecules move or blink. So a low quantile over pixels of

    b = (half the mean square of successive differences - read variance) / (mean - offset)

is the slope of photon transfer as the background shows it. A gain given in e-/ADU instead of ADU/e-
is wrong by its square and is seen from a few dozen frames.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from livespt.calibration.checks import compare_gains
from livespt.camera import Camera, Emccd, Ideal
from livespt.camera_file import MASKED_E2

N_FRAMES = 64
#: Shot noise below this share of the read noise says nothing about the gain.
_MIN_RATIO = 0.5
_MIN_PIXELS = 200
_MIN_FRAMES = 8
#: Molecules add noise but never take any away: too much of it is told later than too little.
_TOO_MUCH, _TOO_LITTLE = 2.0, 1.6
_QUANTILE = 0.3
_SIDE = 512


def note_on_gain(frames: Iterable[NDArray[np.uint16]], camera: Camera) -> str:
    """Return one line where the frames contradict the camera's gain or offset, else "".

    Parameters
    ----------
    frames : iterable of (H, W) uint16
        The first `N_FRAMES` of an experiment are read.
    camera : Camera
        The pixel model of the whole frame.
    """
    mean, noise, n, (y0, x0) = _moments(frames)
    if n < _MIN_FRAMES:
        return ""
    gain, offset, read = _maps(camera.crop(y0, x0, *mean.shape), mean.shape)
    light = mean - offset
    usual = read < 0.5 * MASKED_E2 * gain**2
    spread = math.sqrt(float(np.median(noise[usual])))
    dark = float(np.median(light[usual]))
    if dark < -max(3.0, 2.0 * spread):
        return (
            f"the frames lie {-dark:.3g} counts below the camera's offset: "
            "is offset_adu that of this camera?"
        )
    excess = camera.excess if isinstance(camera, Emccd) else 1.0
    enough = usual & (light > 1.0)
    shot = float(np.median((noise - read)[usual]))
    if np.count_nonzero(enough) < _MIN_PIXELS or shot < _MIN_RATIO * float(np.median(read)):
        return ""
    ratio = (noise - read)[enough] / light[enough] / excess
    # a variance of n frames scatters by sqrt(3/n): the quantile is put back to the middle
    low = float(np.quantile(ratio, _QUANTILE)) * (1.0 + 0.52 * math.sqrt(3.0 / n))
    typical = float(np.median(gain[enough]))
    if low <= 0 or typical / _TOO_LITTLE < low < typical * _TOO_MUCH:
        return ""
    if isinstance(camera, Ideal):
        return (
            f"camera.model 'ideal' counts each ADU as an electron, but the frames' noise looks "
            f"like {low:.3g} ADU/e-"
        )
    why = compare_gains(low, typical, "its", slack=_TOO_LITTLE)
    return f"the frames' noise contradicts the camera: {why}"


def _moments(
    frames: Iterable[NDArray[np.uint16]],
) -> tuple[NDArray[np.float64], NDArray[np.float64], int, tuple[int, int]]:
    """Return mean and noise of the pixels in a frame's middle, frames read, and its corner."""
    total = noise = last = np.zeros((1, 1))
    n, corner = 0, (0, 0)
    for adu in itertools.islice(frames, N_FRAMES):
        corner = (max(adu.shape[0] - _SIDE, 0) // 2, max(adu.shape[1] - _SIDE, 0) // 2)
        now = adu[corner[0] :, corner[1] :][:_SIDE, :_SIDE].astype(np.float64)
        if n:
            noise = noise + 0.5 * (now - last) ** 2
        total = total + now
        last = now
        n += 1
    return total / max(n, 1), noise / max(n - 1, 1), n, corner


def _maps(
    camera: Camera, shape: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return gain, offset and read variance in counts as maps."""
    if isinstance(camera, Ideal):
        values: tuple = (1.0, 0.0, 0.0)
    elif isinstance(camera, Emccd):
        values = (camera.gain_adu_per_e, camera.offset_adu, camera.readout_adu**2)
    else:
        gain = np.asarray(camera.gain_adu_per_e)
        values = (gain, camera.offset_adu, np.asarray(camera.var_e2) * gain**2)
    gain, offset, read = (np.broadcast_to(np.asarray(v, np.float64), shape) for v in values)
    return gain, offset, read
