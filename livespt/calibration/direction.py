"""Whether the frames fit the camera that a config describes, above all the way up of its gain.

Frames of an experiment are no flat series, but their noise obeys the same law at least from below:
half the mean square between successive frames is, with L = mean - offset the light in counts,

    V = F g L + var g^2        (EMCCD: F g L + readout^2, in counts)

and more where molecules move or blink. Solved for g pixel by pixel, a low quantile is the gain as
the background shows it. A read variance in electrons is right even where the gain is upside down,
which is seen from a few dozen frames: the noise is then wrong by a factor g^2.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from livespt.calibration.checks import compare_gains
from livespt.camera import Camera, Emccd, Ideal, Scmos
from livespt.camera_file import MASKED_GAIN

N_FRAMES = 64
#: With fewer electrons a pixel, noise says as much of the read noise as of the gain.
_MIN_LIGHT_E = 2.0
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
    part = camera.crop(y0, x0, *mean.shape)
    gain, offset = (
        np.broadcast_to(np.asarray(getattr(part, key, plain)), mean.shape)
        for key, plain in (("gain_adu_per_e", 1.0), ("offset_adu", 0.0))  # plain: of `Ideal`
    )
    light = mean - offset
    usual = gain < 0.5 * MASKED_GAIN
    spread = math.sqrt(float(np.median(noise[usual])))
    dark = float(np.median(light[usual]))
    if dark < -max(3.0, 2.0 * spread):
        return (
            f"the frames lie {-dark:.3g} counts below the camera's offset: "
            "is offset_adu that of this camera?"
        )
    enough = usual & (light > 1.0)
    if np.count_nonzero(enough) < _MIN_PIXELS:
        return ""
    seen = _seen_gain(part, light, noise)[enough]
    # a variance of n frames scatters by sqrt(3/n): the quantile is put back to the middle
    low = float(np.quantile(seen, _QUANTILE)) * (1.0 + 0.52 * math.sqrt(3.0 / n))
    typical = float(np.median(gain[enough]))
    dim = low <= 0 or float(np.median(light[enough])) < _MIN_LIGHT_E * low
    if dim or typical / _TOO_LITTLE < low < typical * _TOO_MUCH:
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


def _seen_gain(
    camera: Camera, light: NDArray[np.float64], noise: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the gain that explains the noise of each pixel by its light, counts per electron."""
    light = np.maximum(light, 1e-6)
    if isinstance(camera, Emccd):
        return (noise - camera.readout_adu**2) / (camera.excess * light)
    var_e2 = np.asarray(camera.var_e2 if isinstance(camera, Scmos) else 0.0)
    # the root of var g^2 + L g - V = 0, written so that var = 0 is no exception
    return 2.0 * noise / (light + np.sqrt(light**2 + 4.0 * var_e2 * noise))
